"""What the first page tells at a glance: counts over one window."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from lineage.access import Viewer
from lineage.engine import Question
from lineage.queries import arrivals, summing, walking
from lineage.queries.ask import (
    ACCESSES,
    OWN,
    STATEMENT_COUNT,
    TWICE,
    WRITE_COUNT,
    Window,
    fetch,
    one,
    scoped,
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
        counts["firsts"] = arrivals.first_accesses(question, viewer, window)
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
