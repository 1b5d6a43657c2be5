"""Counts beside a list: by which values it can be narrowed, how many of each kind it finds, and questions counted by period."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineage.access import Viewer
from lineage.acts import REAL
from lineage.engine import Question
from lineage.queries import beside, figures, keyed, kinds, monthly, sought, walking
from lineage.queries.ask import (
    COUNT_MOST,
    OWN,
    TWICE,
    Coverage,
    Total,
    Window,
    meant,
    scoped,
    searched,
)
from lineage.queries.covering import coverage
from lineage.queries.people import identities, sessions
from lineage.queries.places import relations
from lineage.queries.records import events, touches

LISTS = {"event": events, "touch": touches, "session": sessions, "identity": identities, "relation": relations}
"""The list questions, by what they answer with."""

FACETS = {
    "environment": "environment", "datasource": "datasource", "type": "who_type", "actor": "who_name", "verdict": "verdict",
    "op": "op", "relation": "relation", "ticket": "ticket", "agent": "agent_name", "kind": "kind",
}  # fmt: skip
"""The column of each field that a list can be narrowed by."""
FACET_MOST = 10_000
"""Values are counted among the newest matches, up to so many."""
FACET_ROWS = 10

COMPLETED = {
    "environment": "environment", "datasource": "datasource", "database": "database", "source": "source", "relation": "relation",
    "actor": "who_name", "for": "on_behalf_of", "agent": "agent_name", "run": "agent_run", "db_user": "db_user", "app": "client_app",
    "ticket": "ticket", "command": "command", "flag": "flag", "tag": "tag", "policy": "policy", "role": "role", "column": "column",
}  # fmt: skip
"""Fields whose values are offered while somebody writes, from the newest records."""
UNNESTED = {
    "relation": "relations",
    "flag": "flags",
    "tag": "tags",
    "policy": "policies",
    "role": "roles",
    "column": '"columns"',
}
COMPLETED_AMONG = 50_000


def search_counts(
    viewer: Viewer, q: str = "", window: Window = Window(), by: str = "event", as_of: int | None = None
) -> dict[str, list[dict[str, Any]]]:
    """For each facet the ten most frequent values of what matches, with counts: of accesses by touch, else of records."""
    relation = "touches" if by in ("touch", "relation") else "activity"
    condition, values = searched(viewer, q, window, "touch" if relation == "touches" else "event")
    several = relation == "activity"
    with Question(as_of=as_of) as question:
        counts = beside.values(question, viewer, q, window, not several, FACET_MOST)
        if counts is None:
            counts = _values(question, viewer, q, window, relation, condition, values)
    return {field: _most_frequent(counts[field]) for field in FACETS}


def _values(
    question: Question, viewer: Viewer, q: str, window: Window, relation: str, condition: str, values: list[Any]
) -> beside.Counts:
    """As `beside.values`, of records."""
    several = relation == "activity"
    told = ", ".join(
        [*(column for field, column in FACETS.items() if field != "relation"), "relations" if several else "relation"]
    )
    newest = sought.newest(question, viewer, q, window, "event" if several else "touch", FACET_MOST)
    if newest is not None:
        with sought.among(question, newest) as few:
            rows = question.rows(
                f"select {told} from {relation} where {few} and {condition} order by index desc limit {FACET_MOST}",  # noqa: S608
                values,
            )
    else:
        some = walking.ranges(question, viewer, window)
        rows = walking.rows(question, told, relation, condition, values, some, FACET_MOST)
    counts = {field: Counter(row[column] for row in rows) for field, column in FACETS.items() if field != "relation"}
    counts["relation"] = Counter(
        name for row in rows for name in ((row["relations"] or ()) if several else (row["relation"],))
    )
    return counts


def _most_frequent(counts: Counter[str | None]) -> list[dict[str, Any]]:
    named = [(name, count) for name, count in counts.items() if name is not None]
    named.sort(key=lambda one: (-one[1], one[0]))
    return [{"name": name, "count": count} for name, count in named[:FACET_ROWS]]


def kinds_counted(viewer: Viewer, q: str, window: Window, as_of: int | None = None) -> dict[str, Total]:
    """How many records, accesses, sessions, identities and tables a search finds; each exact up to 10,000."""
    by_event, values = searched(viewer, q, window, "event")
    by_touch, more = searched(viewer, q, window, "touch")

    def first(select: str, source: str, condition: str, few: str) -> str:
        # What is looked at is bounded as well, so that a count of everything costs no more than one of much.
        return f"(select {select} from {source} where {condition} and {few} limit {10 * COUNT_MOST + 1})"  # noqa: S608

    def of_events(few: str) -> str:
        return f"""select count(*) as event, count(distinct session) filter (kind in ('session', 'query', 'change')) as session,
            count(distinct who_id) filter (kind <> 'decision') as identity
            from {first("kind, session, who_id", "activity", by_event, few)}"""  # noqa: S608

    def of_touches(few: str) -> str:
        return f"""select count(*) as touch, count(distinct (datasource, relation)) filter (relation is not null and is_real)
            as relation from {first(f"datasource, relation, ({REAL}) as is_real", "touches", by_touch, few)}"""  # noqa: S608

    with Question(as_of=as_of) as question:
        told_of = figures.kinds(question, viewer, q, window) or keyed.kinds(question, viewer, q, window)
        if told_of is not None:
            return {by: Total(min(told_of[by], COUNT_MOST), told_of[by] <= COUNT_MOST) for by in LISTS}
        if (known := kinds.counted(question, viewer, q, window)) is not None:
            return known
        newest = [sought.newest(question, viewer, q, window, by, 10 * COUNT_MOST + 1) for by in ("event", "touch")]
        told = [some for some in newest if some is not None]
        if len(told) == len(newest):
            with sought.among(question, np.concatenate(told)) as few:
                one = question.rows(of_events(few), values)[0] | question.rows(of_touches(few), more)[0]
        else:
            steps = walking.ranges(question, viewer, window)
            one = _newest_counted(question, of_events, values, steps, "event")
            one |= _newest_counted(question, of_touches, more, steps, "touch")
    reached = max(one["event"], one["touch"]) > 10 * COUNT_MOST
    return {
        by: Total(min(one[by], COUNT_MOST), one[by] <= COUNT_MOST and not (reached and by not in ("event", "touch")))
        for by in LISTS
    }


def _newest_counted(
    question: Question, sql: Callable[[str], str], values: Sequence[Any], some: Sequence[walking.Range], name: str
) -> dict[str, Any]:
    """One row of counts over the newest records, of as many of them as hold what is counted at most; `sql` takes which."""
    steps = iter(walking.steps(some))
    counted = question.rows(sql(f"index >= {next(steps, (0, 0))[0]}"), values)[0]
    while counted[name] <= 10 * COUNT_MOST and (step := next(steps, None)):
        counted = question.rows(sql(f"index >= {step[0]}"), values)[0]
    return counted


def exact_total(viewer: Viewer, q: str, window: Window, by: str, as_of: int | None = None) -> Total:
    """How many there are, counted to the end."""
    relation = "touches" if by in ("touch", "relation") else "activity"
    condition, values = searched(viewer, q, window, "touch" if relation == "touches" else "event")
    counted = {
        "session": "count(distinct session) filter (kind in ('session', 'query', 'change'))",
        "identity": "count(distinct who_id) filter (kind <> 'decision')",
        "relation": f"count(distinct (datasource, relation)) filter (relation is not null and {REAL})",
    }.get(by, "count(*)")
    with Question(as_of=as_of) as question:
        found = question.rows(f"select {counted} as n from {relation} where {condition}", values)  # noqa: S608
        return Total(found[0]["n"], True)


def completions(viewer: Viewer, field: str, written: str, most: int = 10) -> list[dict[str, Any]]:
    """Values of a field that begin so, the most frequent first, among the viewer's newest records: name, count."""
    if field not in COMPLETED:
        return []
    condition, values = scoped(viewer, Window())
    name = f"unnest({UNNESTED[field]})" if field in UNNESTED else COMPLETED[field]
    with Question() as question:
        newest = question.size - COMPLETED_AMONG
        return question.rows(
            f"select name, count(*) as count from (select {name} as name from activity where {condition} and index >= ? "  # noqa: S608
            f"and environment <> '{OWN}' and not list_has_any(flags, ['claim', 'canary']) and not {TWICE}) "
            "where starts_with(lower(name), lower(?)) or starts_with(lower(substr(name, strpos(name, '.') + 1)), lower(?)) "
            f"group by all order by 2 desc, 1 limit {int(most)}",
            [*values, newest, written, written],
        )


def tallied(
    viewer: Viewer,
    questions: Mapping[str, str],
    periods: Sequence[tuple[dt.datetime, dt.datetime]],
    environment: str | None,
) -> tuple[dict[str, list[int]], int, list[Coverage]]:
    """How many records match each question in each period, the log size, and how complete the newest period is.

    Periods do not overlap: each record is asked each question once, for the period in which it lies.
    """
    asked = [meant(viewer, q, "event") for q in questions.values()]
    with Question() as question:
        some = monthly.counted(question, viewer, [(sql, tuple(of)) for sql, of in asked], periods, environment)
        counts, rest = some or (np.zeros((len(periods), len(asked)), np.int64), sought.ALL)
        counts = counts + _in_periods(question, viewer, asked, periods, environment, rest)
        told = coverage(question, viewer, Window(*max(periods), environment))
        return dict(zip(questions, counts.T.tolist(), strict=True)), question.size, told


def _in_periods(
    question: Question,
    viewer: Viewer,
    asked: Sequence[tuple[str, Sequence[Any]]],
    periods: Sequence[tuple[dt.datetime, dt.datetime]],
    environment: str | None,
    rest: str,
) -> NDArray[np.int64]:
    """For each period how many of the records with the condition `rest` match each question."""
    whole = Window(min(start for start, _ in periods), max(end for _, end in periods), environment)
    columns = ", ".join(f"count(*) filter ({condition}) as c{n}" for n, (condition, _) in enumerate(asked))
    values = [value for _, given in asked for value in given]
    cases = " ".join(f"when occurred_at >= ? and occurred_at < ? then {n}" for n in range(len(periods)))
    times = [time for period in periods for time in period]
    scope, bounds = scoped(viewer, whole)
    found = question.rows(
        f"select period, {columns} from (select *, case {cases} end as period from activity where {rest} and {scope}) "  # noqa: S608
        "where period is not null group by period",
        [*values, *times, *bounds],
    )
    counts = np.zeros((len(periods), len(asked)), np.int64)
    for row in found:
        counts[row["period"]] = [row[f"c{n}"] for n in range(len(asked))]
    return counts
