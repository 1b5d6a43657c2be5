"""Findings: those that are kept, and what the rules find in records that are not judged yet."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
from django.db.models import Count, F, Q, QuerySet

from lineage.access import Viewer
from lineage.engine import Question
from lineage.finding_models import Finding, Telling
from lineage.findings import receivers, ruling, triage
from lineage.findings.evaluation import Row, say, told_again
from lineage.findings.rules import Ruleset
from lineage.queries import candidates
from lineage.queries.ask import (
    Answer,
    Place,
    Total,
    Window,
    fetch,
    limited,
    make_cursor,
    read_cursor,
    searched,
    shown,
)
from lineage.queries.covering import coverage
from lineage.queries.unjudged import still_open, told, unjudged

FACETS = ("rule", "severity", "state", "environment")
STATES = ("open", "closed", "explained")
MATCHED_MOST = 5_000
SHORT = dt.timedelta(days=62)
ABSENT: dict[str, Any] = dict.fromkeys(
    ("last_index", "received_at", "who_name", "who_type", "on_behalf_of", "op", "command", "source", "ticket")
) | {"tags": []}


class Narrowed(msgspec.Struct, frozen=True):
    """Which findings are asked for besides window and scope; empty: all. Explained ones only where `state` says so."""

    rule: str = ""
    severity: str = ""
    state: str = ""

    def takes(self, row: Row) -> bool:
        states = (self.state,) if self.state else ("open", "closed")
        return (not self.rule or row["rule"] == self.rule) and (
            not self.severity or row["severity"] == self.severity
        ) and row["state"] in states  # fmt: skip


EVERY = Narrowed()


def findings(
    viewer: Viewer,
    window: Window = Window(),
    limit: int | None = None,
    cursor: str | None = None,
    q: str = "",
    narrowed: Narrowed = EVERY,
) -> Answer:
    """Findings, newest first, one for each rule and what it is about: rule, severity, sentence, index, number, state …

    `q` keeps those whose records match. One that is not kept yet has no number and is open.
    """
    return found(viewer, window, limit, cursor, q, narrowed)[0]


def found(
    viewer: Viewer,
    window: Window = Window(),
    limit: int | None = None,
    cursor: str | None = None,
    q: str = "",
    narrowed: Narrowed = EVERY,
) -> tuple[Answer, dict[str, list[dict[str, Any]]]]:
    """The same, and for each facet its values with how many findings have them under the other conditions' window."""
    as_of, last = read_cursor(cursor, tuple[Place, str])
    count = limited(limit or 200)
    rules, kept = ruling.current(), _kept(viewer, window)
    with Question(as_of=as_of) as question:
        fresh, is_all = unjudged(question, viewer, window, rules)
        if q:
            kept, fresh = _matching(question, viewer, q, window, kept, fresh)
        counted = _counted(kept, fresh)
        chosen = [row for row in fresh if narrowed.takes(row)]
        wanted = kept.filter(_condition(narrowed))
        total = sum(row["n"] for row in counted if narrowed.takes(row))
        place = (-last[0], last[1]) if last else None
        here = [row for row in chosen if place is None or (-row["index"], row["rule"]) > place]
        stored = _told(question, viewer, list(_after(wanted, window, last)[: count + 1]), rules)
        items = sorted([*here, *stored], key=lambda row: (-row["index"], row["rule"]))
        following = None
        if len(items) > count:
            items = items[:count]
            following = make_cursor(question.size, [items[-1]["index"], items[-1]["rule"]])
        answer = Answer(
            told(items, rules), following, Total(total, is_all), question.size, coverage(question, viewer, window)
        )
        return answer, _facets(counted)


def _kept(viewer: Viewer, window: Window) -> QuerySet[Finding]:
    asked = viewer.within("occurred_at")
    if window.since:
        asked &= Q(occurred_at__gte=window.since)
    if window.until:
        asked &= Q(occurred_at__lt=window.until)
    if window.environment:
        asked &= Q(environment=window.environment)
    return Finding.objects.filter(asked) if viewer.reads_records else Finding.objects.none()


def _condition(narrowed: Narrowed) -> Q:
    asked = Q(state=narrowed.state) if narrowed.state else ~Q(state="explained")
    if narrowed.rule:
        asked &= Q(rule=narrowed.rule)
    return asked & Q(severity=narrowed.severity) if narrowed.severity else asked


def _newest(wanted: QuerySet[Finding], window: Window) -> QuerySet[Finding]:
    """In the order of lists. Those of a short time are put in order: by the index PostgreSQL would go through all that came since."""
    is_short = window.since and window.until and window.until - window.since <= SHORT
    return wanted.order_by((F("first_index") + 0).desc() if is_short else "-first_index", "rule")


def _after(wanted: QuerySet[Finding], window: Window, last: tuple[int, str] | None) -> QuerySet[Finding]:
    ordered = _newest(wanted, window)
    return ordered.filter(Q(first_index__lt=last[0]) | Q(first_index=last[0], rule__gt=last[1])) if last else ordered


def _told(question: Question, viewer: Viewer, kept: list[Finding], rules: Ruleset) -> list[Row]:
    """The rows of kept findings, read from their records as far as the viewer may see them."""
    if not kept:
        return []
    with candidates.narrowed(question, lambda _: np.array([i for f in kept for i in f.members], np.int64)):
        rows = told_again(question, ((f.pk, f.rule, f.members) for f in kept), viewer.scope())
    told = []
    for finding in kept:
        row = rows.get(finding.pk)
        if row is None:
            told.append(ABSENT | _bare(finding, rules) | {"about": finding.about})
            continue
        row |= {"records": finding.records, "rows": finding.rows, "about": finding.about, "members": finding.members}
        row = still_open(say(row, rules), rules) | {
            "number": finding.pk, "state": finding.state, "verdict": finding.verdict, "owner": finding.owner,
            "record": finding.record, "found_at": finding.found_at, "index": finding.first_index,
            "severity": finding.severity,
        }  # fmt: skip
        told.append(row)
    return told


def _matching(
    question: Question, viewer: Viewer, q: str, window: Window, kept: QuerySet[Finding], fresh: list[Row]
) -> tuple[QuerySet[Finding], list[Row]]:
    """Those of which a record matches the search; of kept ones the newest 5,000 are looked at."""
    condition, values = searched(viewer, q, window, "event")
    places = dict(kept.order_by("-first_index").values_list("pk", "members")[:MATCHED_MOST])
    indexes = {index for members in [*places.values(), *(row["members"] for row in fresh)] for index in members}
    if not indexes:
        return kept.none(), []
    listed = ", ".join(str(index) for index in sorted(indexes))
    asked = f"select index from activity where index in ({listed}) and {condition}"  # noqa: S608 - numbers
    match = {row["index"] for row in question.rows(asked, values)}
    numbers = [number for number, members in places.items() if match & set(members)]
    return kept.filter(pk__in=numbers), [row for row in fresh if match & set(row["members"])]


def _counted(kept: QuerySet[Finding], fresh: Iterable[Row]) -> list[dict[str, Any]]:
    """How many there are (`n`) of each rule, severity, state and environment together."""
    counts = Counter(
        {
            tuple(row[name] for name in FACETS): row["n"]
            for row in kept.order_by().values(*FACETS).annotate(n=Count("*"))
        }
    )
    counts.update(tuple(row[name] for name in FACETS) for row in fresh)
    return [dict(zip(FACETS, names, strict=True)) | {"n": n} for names, n in counts.items()]


def _facets(counted: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    rows = list(counted)
    facets = {}
    for name in FACETS:
        counts: Counter[str] = Counter()
        for row in rows:
            counts[row[name]] += row["n"]
        facets[name] = [{"name": value, "count": n} for value, n in counts.most_common(40)]
    return facets


class Pressing(msgspec.Struct, frozen=True):
    """Open findings: how many (not exact while records wait to be judged), how many are high, and those to look at first."""

    total: Total
    high: int
    looks: list[dict[str, Any]]


def pressing(viewer: Viewer, window: Window = Window(), most: int = 0, environments: Sequence[str] = ()) -> Pressing:
    """Of `looks` at most so many, high ones before others, newest first; of these environments alone, where some are named."""
    rules, kept = ruling.current(), _kept(viewer, window).filter(state="open")
    with Question() as question:
        fresh, is_all = unjudged(question, viewer, window, rules)
        counts = Counter(dict(kept.order_by().values_list("severity").annotate(n=Count("*"))))
        counts.update(row["severity"] for row in fresh)
        looks = [row for row in fresh if not environments or row["environment"] in environments]
        chosen = kept.filter(environment__in=environments) if environments else kept
        newest = _newest(chosen, window)
        # Told are no more than can be shown: what a finding says is read from its records.
        first = list(newest.filter(severity="high")[:most])
        first += newest.exclude(severity="high")[: most - len(first)]
        looks += _told(question, viewer, first, rules)
        looks.sort(key=lambda row: (row["severity"] != "high", -row["index"]))
        return Pressing(Total(counts.total(), is_all), counts["high"], told(looks[:most], rules))


def finding(viewer: Viewer, number: int) -> dict[str, Any]:
    """One kept finding: `finding` (its row), `rule`, `events`, `history` (triage and the rest), `told`. Raises NotFound."""
    kept = triage.visible(viewer, number)
    rules = ruling.current()
    with Question() as question:
        rows = _told(question, viewer, [kept], rules)
        scope, values = viewer.scope()
        listed = ", ".join(str(index) for index in kept.members)
        asked = f"select index from activity where index in ({listed}) and {scope} order by index"  # noqa: S608 - numbers
        events = fetch(question, viewer, question.rows(asked, values))
        history = question.rows(
            "select index, occurred_at, received_at, actor_id as by, custody from raw_events "  # noqa: S608 - our own words
            f"where index >= ? and source = 'touchstone' and kind = 'custody' and custody_subject = ? and {scope} order by index limit 500",
            [kept.record, f"finding {number}", *values],
        )
        size = question.size
    tellings = Telling.objects.filter(finding=kept).select_related("receiver").order_by("pk")
    shows_where = ruling.may(viewer)
    return {
        "finding": rows[0],
        "rule": rules.rule(kept.rule),
        "digest": kept.digest,
        "events": events,
        "history": [shown(row, viewer) for row in history],
        "told": [
            {
                "receiver": one.receiver.name, "kind": one.receiver.kind,
                "address": receivers.shown_address(one.receiver) if shows_where else None,
                "message_id": one.message_id, "tries": one.tries, "answer": one.answer, "told_at": one.told_at,
                "waits": one.told_at is None and one.body is not None, "next_at": one.next_at,
            }
            for one in tellings
        ],
        "may": sorted(triage.may(viewer, kept.rule)),
        "as_of": size,
    }  # fmt: skip


def _bare(kept: Finding, rules: Ruleset) -> Row:
    """Of a finding whose records are gone or out of sight: what is kept itself."""
    rule = rules.rule(kept.rule)
    return {
        "number": kept.pk, "rule": kept.rule, "severity": kept.severity, "title": rule.title, "state": kept.state,
        "verdict": kept.verdict, "owner": kept.owner, "record": kept.record, "found_at": kept.found_at,
        "occurred_at": kept.occurred_at, "environment": kept.environment, "datasource": kept.datasource,
        "index": kept.first_index, "records": kept.records, "rows": kept.rows, "session": None, "who_id": None,
        "sentence": f"{rule.title}: what its records say is not shown.", "relations": [], "members": kept.members,
    }  # fmt: skip
