"""What the first page tells at a glance: counts over one window, and who touched which table for the first time."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from lineage.access import Viewer
from lineage.engine import Question
from lineage.queries.ask import (
    ACCESSES,
    OWN,
    REFUSED_COUNT,
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
AGENTS = f"count(distinct coalesce(agent_name, who_name)) filter ({AGENT} and {ACCESSES} and on_behalf_of"
SENSITIVE_COUNT = (
    "count(distinct coalesce(correlation_id, event_id)) filter (kind = 'query' and len(tags) > 0 "
    f"and emitted is null and not list_contains(flags, 'canary') and not {TWICE})"
)
"""Statements that touch a table with a tagged column."""


def overview(viewer: Viewer, window: Window = Window()) -> dict[str, Any]:
    """The counts of the first page. Accesses are statements, and changes that no statement accounts for."""
    condition, values = scoped(viewer, window)
    real = f"{condition} and environment <> '{OWN}'"
    with Question() as question:
        counts = one(
            question,
            f"""select count(*) as events, {STATEMENT_COUNT} as accesses, {SENSITIVE_COUNT} as sensitive,
                count(*) filter (kind = 'change') as rows_changed, {WRITE_COUNT} as writes, {REFUSED_COUNT} as refused,
                count(distinct who_id) as identities, count(distinct datasource) as datasources,
                {AGENTS} is not null) as agents_with_person, {AGENTS} is null) as agents_alone,
                count(distinct coalesce(agent_name, who_name)) filter ({AGENT} and {ACCESSES}) as agents,
                count(*) filter (attribution = 'none') as unattributed,
                max(index) as last_index, max(occurred_at) as last_at
                from activity where {real} and ({ACCESSES} or kind = 'session')""",  # noqa: S608
            values,
        )
        counts |= _over_time(question, f"{real} and {ACCESSES}", values)
        counts["agents_without_person"] = question.rows(
            f"select coalesce(agent_name, who_name) as name, count(*) as count from activity where {real} and {ACCESSES} "  # noqa: S608
            f"and {AGENT} and on_behalf_of is null group by all order by 2 desc, 1",
            values,
        )
        newest = question.rows(
            f"select index from activity where {real} and {ACCESSES} order by index desc limit {NEWEST}",  # noqa: S608
            values,
        )
        counts["recent"] = fetch(question, viewer, newest)
        firsts, times = _firsts(viewer, window)
        counts["firsts"] = one(question, f"select count(*) as n from ({firsts})", times)["n"]  # noqa: S608
        counts["as_of"], counts["coverage"] = question.size, coverage(question, viewer, window)
        return counts


def _over_time(question: Question, condition: str, values: list[Any]) -> dict[str, Any]:
    """`hours`, and the same counts summed by verdict, kind of actor and environment."""
    hours = question.rows(
        "select date_trunc('hour', occurred_at) as hour, who_type as actor_type, verdict, environment, count(*) as count "  # noqa: S608
        f"from activity where {condition} group by all order by all",
        values,
    )
    sums: dict[str, Any] = {"hours": hours}
    for name, column in (("by_verdict", "verdict"), ("by_actor_type", "actor_type"), ("by_environment", "environment")):
        counted: Counter[Any] = Counter()
        for row in hours:
            counted[row[column]] += row["count"]
        sums[name] = [{"name": name, "count": count} for name, count in counted.most_common()]
    return sums


def _firsts(viewer: Viewer, window: Window) -> tuple[str, list[Any]]:
    """Each identity × table with its first access, where that lies in the window. What lies before it is looked at too."""
    condition, values = scoped(viewer, msgspec.structs.replace(window, since=None))
    since = " where first_at >= ?" if window.since else ""
    sql = f"""select * from (select who_id, datasource, relation, arg_min(index, (occurred_at, index)) as index,
        min(occurred_at) as first_at, {TIMES} as accesses
        from touches where {condition} and environment <> '{OWN}' and who_id is not null and relation is not null
        and not list_has_any(flags, ['claim', 'canary']) and not {TWICE} and coalesce(op, '') <> 'snapshot'
        group by who_id, datasource, relation){since}"""  # noqa: S608 - our own conditions
    return sql, [*values, *([window.since] if window.since else [])]


def firsts(viewer: Viewer, window: Window = Window(), limit: int | None = None, cursor: str | None = None) -> Answer:
    """Event rows of each identity's first access to a table, newest first, each with that `relation` and its `accesses` since."""
    as_of, last = read_cursor(cursor, tuple[Place, str, str])
    count = limited(limit)
    inner, values = _firsts(viewer, window)
    after, place = ("(-index, datasource, relation) > (?, ?, ?)", last) if last else ("true", [])
    with Question(as_of=as_of) as question:
        rows = question.rows(
            f"select * from ({inner}) where {after} order by -index, datasource, relation limit {count + 1}",  # noqa: S608
            [*values, *place],
        )
        pairs, following = page_of(rows, count, question.size, "index", "datasource", "relation")
        whole = total(question, f"({inner})", "true", values)
        events = {row["index"]: row for row in fetch(question, viewer, pairs)}
        items = [events[pair["index"]] | {"relation": pair["relation"], "accesses": pair["accesses"]} for pair in pairs]
        return Answer(items, following, whole, question.size, coverage(question, viewer, window))
