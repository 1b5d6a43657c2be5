"""What the rules find in records that the keeper has not come to yet: the newest of them are judged when they are asked for."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from lineage import engine
from lineage.access import Viewer
from lineage.engine import Question
from lineage.events import shifted
from lineage.finding_models import Finding, FindingProgress
from lineage.findings.evaluation import Row, evaluate, say
from lineage.findings.judging import CHUNK, CONTEXT, REAL
from lineage.findings.rules import Ruleset
from lineage.newer import chunks
from lineage.queries.ask import Window, scoped

DAY, FIRST = dt.timedelta(days=1), dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def unjudged(question: Question, viewer: Viewer, window: Window, rules: Ruleset) -> tuple[list[Row], bool]:
    """Findings in the newest records that are not judged yet, of those that are shown to be completed by `told`; and whether that is
    all of these.

    As many are judged as the keeper does at a time, with as much before them as it looks back at: while it has fallen behind, an
    answer must not take as long as catching up does.
    """
    progress = FindingProgress.objects.filter(pk=1).first()
    judged_to = progress.judged_to if progress else 0
    start = max(judged_to, question.size - CHUNK)
    if start == judged_to and _is_nothing(question, start):
        return [], True
    seen = question.rows(
        f"select count(*) filter (index >= ? and {REAL}) as real, min(index) filter (received_at >= ?) as context "  # noqa: S608
        "from raw_events where index >= ?",
        [start, dt.datetime.now(dt.UTC) - CONTEXT, max(0, start - CHUNK)],
    )[0]
    is_all = not _waits(question, judged_to, start)
    if not seen["real"]:
        return [], is_all
    context = start if seen["context"] is None else min(start, seen["context"])
    condition, values = scoped(viewer, window)
    scope, scope_values = _places_of(viewer)
    earlier = shifted(window.since, -DAY) if window.since else FIRST
    rows = evaluate(
        question,
        rules,
        (f"index >= ? and occurred_at >= ? and {scope}", [context, earlier, *scope_values]),
        (f"index >= ? and {condition}", [start, *values]),
    )
    known = _kept([row["about"] for row in rows])
    fresh = [
        row | {"severity": rules.rule(row["rule"]).severity, "state": "open"}
        for row in rows
        if (row["rule"], row["about"]) not in known
    ]
    return fresh, is_all


def _is_nothing(question: Question, start: int) -> bool:
    """Whether it is seen of records that are not sealed yet, which are held, that from this one on there are none that rules can find."""
    segments = question.snapshot.segments
    if segments and start < segments[-1].following:
        return False
    events, _ = chunks.between(question.snapshot.events, question.snapshot.touches, start, question.size)
    asked = f"select count(*) as n from events where {REAL}"  # noqa: S608 - our own words
    return not events.num_rows or not engine.over({"events": events}, asked)["n"][0].as_py()


def _kept(abouts: list[str]) -> set[tuple[str, str]]:
    """Rule and `about` of the findings that are kept about these, which may be thousands."""
    found = Finding.objects.extra(where=["about = any(%s)"], params=[abouts])
    return set(found.values_list("rule", "about"))


def _waits(question: Question, start: int, end: int) -> bool:
    """Whether any of these records is one that rules can find: what the keeper itself writes of findings is not."""
    asked = f"select 1 from raw_events where index >= ? and index < ? and {REAL} limit 1"  # noqa: S608 - our own words
    return start < end and bool(question.rows(asked, [start, end]))


def _places_of(viewer: Viewer) -> tuple[str, list[object]]:
    """Databases and environments of the viewer without their times: what a rule may look back at."""
    return Viewer(viewer.email, viewer.role, viewer.datasources, viewer.environments).scope()


def told(rows: Iterable[Row], rules: Ruleset) -> list[Row]:
    """These with their sentences; those that are kept have theirs already."""
    return [row if "sentence" in row else still_open(say(row, rules), rules) for row in rows]


def still_open(row: Row, rules: Ruleset) -> Row:
    """The row of a finding that is not kept, once it says what it is about."""
    title = rules.rule(row["rule"]).title
    return row | {
        "number": None, "state": "open", "verdict": "", "owner": "", "record": None, "found_at": None, "title": title,
    }  # fmt: skip
