"""What the first page tells at a glance: counts over one window, and who touched which table for the first time."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from lineage.access import Viewer
from lineage.engine import Question
from lineage.queries import summing, walking
from lineage.queries.ask import (
    ACCESSES,
    OWN,
    STATEMENT_COUNT,
    TIMES,
    TWICE,
    WRITE_COUNT,
    Answer,
    Place,
    Window,
    fetch,
    limited,
    one,
    page_of,
    read_cursor,
    scoped,
    total,
)
from lineage.queries.covering import coverage

NEWEST = 12
AGENT = "(agent_id is not null or who_type = 'agent')"
SENSITIVE_COUNT = (
    "count(distinct coalesce(correlation_id, event_id)) filter (kind = 'query' and len(tags) > 0 "
    f"and emitted is null and not list_contains(flags, 'canary') and not {TWICE})"
)
"""Statements that touch a table with a tagged column."""
COUNTED = f"""
select grouping_id(hour, agent, who_id, datasource) as part, hour, who_type as actor_type, verdict, environment, agent, alone, who_id,
       datasource, count(*) filter (is_access) as count, count(*) as events, count(*) filter (kind = 'change') as rows_changed,
       count(*) filter (is_refused) as refused, count(*) filter (is_unattributed) as unattributed, max(index) as last_index,
       max(occurred_at) as last_at
from (select date_trunc('hour', occurred_at) as hour, who_type, verdict, environment, who_id, datasource, kind, index, occurred_at,
             {ACCESSES} as is_access, case when {AGENT} and is_access then coalesce(agent_name, who_name) end as agent,
             on_behalf_of is null as alone, verdict = 'blocked' and not {TWICE} as is_refused, attribution = 'none' as is_unattributed
      from activity where {{condition}} and ({ACCESSES} or kind = 'session'))
group by grouping sets ((hour, who_type, verdict, environment), (agent, alone), (who_id), (datasource), ())
order by hour, actor_type, verdict, environment, count
"""  # noqa: S608 - our own conditions
"""Everything that is counted record by record, in one pass; `part` says of which grouping a row is (`summing.PARTS`)."""


def overview(viewer: Viewer, window: Window = Window()) -> dict[str, Any]:
    """The counts of the first page. Accesses are statements, and changes that no statement accounts for."""
    condition, values = scoped(viewer, window)
    real = f"{condition} and environment <> '{OWN}'"
    with Question() as question:
        counts = counted(question, viewer, window)
        where = walking.ranges(question, viewer, window)
        seen = summing.newest(question, viewer, window, where, NEWEST)
        newest = [{"index": index} for index in seen or ()]
        if seen is None:
            newest = walking.rows(question, "index", "activity", f"{real} and {ACCESSES}", values, where, NEWEST)
        counts["recent"] = fetch(question, viewer, newest)
        counts["firsts"] = first_accesses(question, viewer, window)
        counts["as_of"], counts["coverage"] = question.size, coverage(question, viewer, window)
        return counts


def counted(question: Question, viewer: Viewer, window: Window) -> dict[str, Any]:
    """What is counted of a window, out of sums where they can tell, else over its records."""
    condition, values = scoped(viewer, window)
    real = f"{condition} and environment <> '{OWN}'"
    narrowed = f"from activity where {real} and ({ACCESSES} or kind = 'session')"
    summed = summing.asked(question, viewer, window)
    if summed is None:
        statements = f"select {STATEMENT_COUNT} as accesses, {WRITE_COUNT} as writes {narrowed}"
        summed = one(question, statements, values), question.rows(COUNTED.format(condition=real), values)
    counts = summed[0] | {"sensitive": 0}
    if question.snapshot.tagged.num_rows:
        # Without a tag nothing is sensitive, and no record need be asked for its tags.
        counts |= one(question, f"select {SENSITIVE_COUNT} as sensitive {narrowed}", values)
    return counts | _counted(summed[1])


def _counted(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Counts of records, people, databases and agents; and accesses by hour, verdict, kind of actor and environment."""
    parts = {name: [row for row in rows if row["part"] == part] for name, part in summing.PARTS.items()}
    names = ("events", "rows_changed", "refused", "unattributed", "last_index", "last_at")
    counts: dict[str, Any] = {name: parts["all"][0][name] for name in names}
    counts["identities"] = sum(row["who_id"] is not None for row in parts["people"])
    counts["datasources"] = sum(row["datasource"] is not None for row in parts["places"])
    agents = [row for row in parts["agents"] if row["agent"] is not None]
    counts["agents"] = len({row["agent"] for row in agents})
    counts["agents_with_person"] = sum(not row["alone"] for row in agents)
    alone = [{"name": row["agent"], "count": row["count"]} for row in agents if row["alone"]]
    counts["agents_alone"] = len(alone)
    counts["agents_without_person"] = sorted(alone, key=lambda row: (-row["count"], row["name"]))
    return counts | _over_time([row for row in parts["hours"] if row["count"]])


def _over_time(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`bars`, and the same counts summed by verdict, kind of actor and environment. What has no time is in no bar."""
    sums: dict[str, Any] = {"bars": _bars([row for row in rows if row["hour"] is not None])}
    for name, column in (("by_verdict", "verdict"), ("by_actor_type", "actor_type"), ("by_environment", "environment")):
        counted: Counter[Any] = Counter()
        for row in rows:
            counted[row[column]] += row["count"]
        sums[name] = [{"name": name, "count": count} for name, count in sorted(counted.items(), key=_most_first)]
    return sums


def _most_first(one: tuple[Any, int]) -> tuple[int, bool, Any]:
    return -one[1], one[0] is None, one[0]


def _bars(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Counts by hour, or by day where they lie in more than five days; `hour` is that with which a bar begins."""
    names = ("hour", "actor_type", "verdict", "environment")
    days = {row["hour"].date() for row in rows}
    is_long = bool(days) and (max(days) - min(days)).days > summing.HOURLY_DAYS
    counted: Counter[tuple[Any, ...]] = Counter()
    for row in rows:
        hour = row["hour"].replace(hour=0) if is_long else row["hour"]
        counted[hour, row["actor_type"], row["verdict"], row["environment"]] += row["count"]
    bars = [dict(zip((*names, "count"), (*key, count), strict=True)) for key, count in counted.items()]
    return sorted(bars, key=lambda row: [(row[name] is None, row[name]) for name in names])


def _touching(viewer: Viewer, window: Window) -> tuple[str, list[Any]]:
    """The touches that count as somebody's access to a table."""
    condition, values = scoped(viewer, window)
    return (
        f"{condition} and environment <> '{OWN}' and who_id is not null and relation is not null "
        f"and not list_has_any(flags, ['claim', 'canary']) and not {TWICE} and coalesce(op, '') <> 'snapshot'",
        values,
    )


def _firsts(viewer: Viewer, window: Window) -> tuple[str, list[Any]]:
    """Each identity × table with its first access, where that lies in the window. What lies before it is looked at too."""
    condition, values = _touching(viewer, msgspec.structs.replace(window, since=None))
    since = " where first_at >= ?" if window.since else ""
    sql = f"""select * from (select who_id, datasource, relation, arg_min(index, (occurred_at, index)) as index,
        min(occurred_at) as first_at from touches where {condition} group by who_id, datasource, relation){since}"""  # noqa: S608
    return sql, [*values, *([window.since] if window.since else [])]


def first_accesses(question: Question, viewer: Viewer, window: Window) -> int:
    """How many there are, out of what extracts know of them where that tells, else over records."""
    known = summing.firsts(question, viewer, window)
    if known is not None:
        return known
    sql, values = _firsts(viewer, window)
    return int(one(question, f"select count(*) as n from ({sql})", values)["n"])  # noqa: S608


def firsts(viewer: Viewer, window: Window = Window(), limit: int | None = None, cursor: str | None = None) -> Answer:
    """Event rows of each identity's first access to a table, newest first, each with that `relation` and its `accesses` since."""
    as_of, last = read_cursor(cursor, tuple[Place, str, str])
    count = limited(limit)
    inner, values = _firsts(viewer, window)
    after, place = ("(-index, datasource, relation) > (?, ?, ?)", last) if last else ("true", [])
    with Question(as_of=as_of) as question:
        question.rows(f"create temp table firsts as {inner}", values)
        rows = question.rows(
            f"select * from firsts where {after} order by -index, datasource, relation limit {count + 1}",  # noqa: S608
            place,
        )
        pairs, following = page_of(rows, count, question.size, "index", "datasource", "relation")
        whole = total(question, "firsts", "true", [])
        events = {row["index"]: row for row in fetch(question, viewer, pairs)}
        times = _times(question, viewer, window, pairs)
        items = [
            events[pair["index"]] | {"relation": pair["relation"], "accesses": times[_pair(pair)]} for pair in pairs
        ]
        return Answer(items, following, whole, question.size, coverage(question, viewer, window))


def _pair(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["who_id"], row["datasource"], row["relation"]


def _times(
    question: Question, viewer: Viewer, window: Window, pairs: Sequence[dict[str, Any]]
) -> dict[tuple[Any, ...], int]:
    """How often each of these did it since: nothing of theirs lies before the window."""
    if not pairs:
        return {}
    condition, values = _touching(viewer, window)
    asked = [sorted({row[name] for row in pairs}) for name in ("who_id", "relation")]
    since: dt.datetime = min(row["first_at"] for row in pairs)
    rows = question.rows(
        f"select who_id, datasource, relation, {TIMES} as times from touches where {condition} and occurred_at >= ? "  # noqa: S608
        "and list_contains(?, who_id) and list_contains(?, relation) group by who_id, datasource, relation",
        [*values, since, *asked],
    )
    return {_pair(row): row["times"] for row in rows}
