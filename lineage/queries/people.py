"""Sessions and identities: what one connection did, what one person, service or agent did."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from lineage import errors
from lineage.access import Viewer
from lineage.engine import Question
from lineage.queries import candidates, deeds, everyone, latest, paging, sought, stretches
from lineage.queries.ask import (
    ACCESSES,
    COUNT_MOST,
    REFUSED_COUNT,
    STATEMENT_COUNT,
    TIMES,
    WRITE_COUNT,
    Answer,
    Place,
    Total,
    Window,
    fetch,
    limited,
    scoped,
    searched,
)
from lineage.queries.covering import coverage
from lineage.queries.heads import SESSION_COLUMNS, STRENGTH

STATES = {
    "open": " having max(occurred_at) filter (session_phase = 'end') is null",
    "ended": " having max(occurred_at) filter (session_phase = 'end') is not null",
}


def session_rows(
    viewer: Viewer,
    q: str,
    window: Window,
    now: dt.datetime | None = None,
    state: str = "",
    few: latest.Few | None = None,
) -> tuple[str, list[Any]]:
    """The rows of `sessions` as SQL, and its values. Relative times in `q` count from `now`; `state` is open, ended or empty.

    With `few` of these sessions alone.
    """
    condition, values = searched(viewer, q, window, "event", now)
    scope, scope_values = scoped(viewer, window)
    those, names = (f"{few.condition} and ", [few.names]) if few else ("", [])
    inner = f"""select {SESSION_COLUMNS} from activity where {those}{scope} and session in
        (select session from activity where {those}{latest.SQL} and {condition})
        group by session{STATES.get(state, "")}"""  # noqa: S608
    return inner, [*names, *scope_values, *names, *values]


def sessions(
    viewer: Viewer,
    q: str = "",
    window: Window = Window(),
    limit: int | None = None,
    cursor: str | None = None,
    state: str = "",
) -> Answer:
    """Session rows that hold a matching record, the most recently active first; `state` open or ended narrows them."""
    as_of, place, is_back = paging.asked(cursor, tuple[Place])
    count = limited(limit)
    with Question(as_of=as_of) as question:
        page = None if is_back or state else _sought(question, viewer, q, window, place, count)
        if page is None and not (is_back or state):
            page = _latest(question, viewer, q, window, place, count)
        if page is None:
            inner, values = session_rows(viewer, q, window, state=state)
            page = paging.keyset(question, inner, values, (), place, is_back, count)
        rows, following, previous, whole = page
        return Answer(rows, following, whole, question.size, coverage(question, viewer, window), previous)


def _sought(question: Question, viewer: Viewer, q: str, window: Window, place: Any, count: int) -> paging.Page | None:
    """The same page of the sessions that few records match."""
    condition, values = searched(viewer, q, window, "event")
    with sought.matching(question, viewer, q, window, "event") as few:
        if few == sought.ALL:
            return None
        asked = f"select distinct session from activity where {few} and {latest.SQL} and {condition}"  # noqa: S608
        names = [row["session"] for row in question.rows(asked, values)]
    found = latest.newest(question, viewer, window, names, -place[0] if place else None, count + 1)
    if found is None:
        return None
    with sought.among(question, found.indexes) as some:
        inner, values = session_rows(viewer, q, window, few=latest.Few(found.names, some, True))
        rows = question.rows(f"select * from ({inner}) order by last_index desc", values)  # noqa: S608
    whole = Total(min(len(names), COUNT_MOST), len(names) <= COUNT_MOST)
    return *paging.cut(question, rows, (), place, False, count), whole


def _latest(question: Question, viewer: Viewer, q: str, window: Window, place: Any, count: int) -> paging.Page | None:
    """The same page as `paging.keyset` makes of all sessions, of those that were active last before the place."""
    few = latest.few(question, viewer, window, -place[0] if place else None, count + count // 2 + 10)
    if few is None:
        return None
    inner, values = session_rows(viewer, q, window, few=few)
    rows = question.rows(f"select * from ({inner}) order by last_index desc limit {count + 1}", values)  # noqa: S608
    if len(rows) <= count and not few.is_all:
        return None
    condition, given = searched(viewer, q, window, "event")
    whole = latest.total(question, viewer, window, condition, given)
    return *paging.cut(question, rows, (), place, False, count), whole


def bare(relation: str) -> str:
    """A relation's name without its schema: a parsed statement often has no more."""
    return relation.rpartition(".")[2]


SESSION_FACETS = {
    "environment": "[environment]", "datasource": "[datasource]", "type": "[who_type]", "actor": "[who_name]",
    "verdict": "verdicts", "app": "[client_app]", "ticket": "tickets", "agent": "[agent_name]",
    "state": "[case when ended_at is null then 'open' else 'ended' end]",
}  # fmt: skip
"""What sessions can be narrowed by: the values of each session, as SQL."""
FACET_ROWS = 8
ALL = ""
FACETED = 200
"""Of more sessions the values of those are counted that were active last, so many."""


Facets = dict[str, list[dict[str, Any]]]


def session_facets(viewer: Viewer, q: str = "", window: Window = Window(), state: str = "") -> tuple[Facets, bool]:
    """For each facet its most frequent values with the number of sessions (not of records) that hold them; and whether all
    sessions are counted, not only those that were active last.
    """
    with Question() as question:
        few = None if state else latest.few(question, viewer, window, None, FACETED + FACETED // 2 + 10)
        found = _faceted(question, session_rows(viewer, q, window, few=few), FACETED + 1) if few else []
        is_whole = few is None or _of_all(found) <= FACETED
        if few is None or (is_whole and not few.is_all):
            # Others may match too.
            found = _faceted(question, session_rows(viewer, q, window, state=state), None)
    return _by_field(found), is_whole


def sessions_faceted(
    viewer: Viewer,
    q: str = "",
    window: Window = Window(),
    limit: int | None = None,
    cursor: str | None = None,
    state: str = "",
) -> tuple[Answer, Facets, bool]:
    """`sessions` and `session_facets`; the rows of those that were active last are made once for both."""
    count = limited(limit)
    if not (q or cursor or state) and count <= FACETED:
        with Question() as question:
            few = latest.few(question, viewer, window, None, FACETED + FACETED // 2 + 10)
            found = _newest(question, viewer, window, few) if few else []
            if few and (few.is_all or _of_all(found) > FACETED):
                asked = f"select * from newest_sessions order by last_index desc limit {count + 1}"  # noqa: S608
                page = paging.cut(question, question.rows(asked), (), None, False, count)
                whole = latest.total(question, viewer, window, *searched(viewer, q, window, "event"))
                answer = Answer(page[0], page[1], whole, question.size, coverage(question, viewer, window), page[2])
                return answer, _by_field(found), _of_all(found) <= FACETED
    return sessions(viewer, q, window, limit, cursor, state), *session_facets(viewer, q, window, state)


def _newest(question: Question, viewer: Viewer, window: Window, few: latest.Few) -> list[dict[str, Any]]:
    """Makes the table `newest_sessions` of these, one more than are counted, and counts its values."""
    inner, values = session_rows(viewer, "", window, few=few)
    question.rows(
        f"create temp table newest_sessions as select * from ({inner}) order by last_index desc limit {FACETED + 1}",  # noqa: S608
        values,
    )
    return _faceted(question, ("from newest_sessions", []), FACETED + 1)


def _of_all(found: Sequence[Mapping[str, Any]]) -> int:
    return sum(row["count"] for row in found if row["field"] == ALL)


def _by_field(found: Sequence[Mapping[str, Any]]) -> Facets:
    facets: Facets = {field: [] for field in SESSION_FACETS}
    for row in found:
        if row["field"] != ALL:
            facets[row["field"]].append({"name": row["name"], "count": row["count"]})
    return facets


def _faceted(question: Question, of: tuple[str, list[Any]], most: int | None) -> list[dict[str, Any]]:
    """Field, name and count; how many sessions there are stands under `ALL`. Of more than `most - 1` those active last are counted."""
    inner, values = of
    newest = f"select * from ({inner}) order by last_index desc limit {most}" if most else inner  # noqa: S608
    shown = f"(select * from found order by last_index desc limit {most - 1})" if most else "found"  # noqa: S608
    counted = " union all ".join(
        f"(select '{field}' as field, name, count(*) as count from (select session, unnest(list_distinct({column})) as name from {shown}) "  # noqa: S608
        f"where name is not null group by all order by 3 desc, 2 limit {FACET_ROWS})"
        for field, column in SESSION_FACETS.items()
    )
    whole = f"select '{ALL}' as field, null as name, count(*) as count from found"  # noqa: S608
    return question.rows(f"with found as materialized ({newest}) {whole} union all {counted}", values)


IDENTITY_COLUMNS = f"""who_id as id, arg_max(who_name, {STRENGTH}) as name, arg_max(who_type, {STRENGTH}) as type,
    any_value(who_email) as email, list_sort(list_distinct(list(distinct db_user) filter (db_user is not null))) as logins,
    min(occurred_at) as first_at, max(occurred_at) as last_at, {STATEMENT_COUNT} as accesses,
    {WRITE_COUNT} as writes,
    count(*) filter (kind = 'change') as rows_changed, {REFUSED_COUNT} as refused,
    len(list_distinct(flatten(list(distinct relations)))) as relations,
    list_sort(list_distinct(list(distinct on_behalf_of) filter (on_behalf_of is not null))) as worked_for,
    list_sort(list_distinct(list(distinct agent_name) filter (agent_name is not null))) as agents,
    list_sort(list_distinct(list(distinct attribution))) as attributions, max(index) as last_index"""


def identity_rows(
    viewer: Viewer, q: str, window: Window, now: dt.datetime | None = None, columns: str = IDENTITY_COLUMNS,
    only: Sequence[str] | None = None, few: str = "true",
) -> tuple[str, list[Any]]:  # fmt: skip
    """The rows of `identities` as SQL, and its values. Relative times in `q` count from `now`; with `only` of these alone.

    `few`: a condition that all matching records meet.
    """
    condition, values = searched(viewer, q, window, "event", now)
    those = "" if only is None else " and who_id in (select unnest(?))"
    where = f"{few} and {condition} and who_id is not null and kind <> 'decision'{those}"
    inner = f"select {columns} from activity where {where} group by who_id"  # noqa: S608
    return inner, values if only is None else [*values, list(only)]


def identities(
    viewer: Viewer, q: str = "", window: Window = Window(), limit: int | None = None, cursor: str | None = None
) -> Answer:
    """Identity rows: everyone behind a matching record, the most recently active first."""
    as_of, place, is_back = paging.asked(cursor, tuple[Place])
    with Question(as_of=as_of) as question:
        page = everyone.page(question, viewer, q, window, place, is_back, limited(limit))
        if page is None:
            page = _everyone(question, viewer, q, window, place, is_back, limited(limit))
        shown, following, previous, whole = page
        return Answer(shown, following, whole, question.size, coverage(question, viewer, window), previous)


def _everyone(
    question: Question, viewer: Viewer, q: str, window: Window, place: Any, is_back: bool, count: int
) -> paging.Page:
    """The page of identities, of records."""
    now = dt.datetime.now(dt.UTC)
    with sought.matching(question, viewer, q, window, "event") as few:
        inner, values = identity_rows(viewer, q, window, now, "who_id as id, max(index) as last_index", few=few)
        # Who is on the page is asked of all; what they did, of them alone.
        found, following, previous, whole = paging.keyset(question, inner, values, (), place, is_back, count)
        inner, values = identity_rows(viewer, q, window, now, only=[row["id"] for row in found], few=few)
        rows = {row["id"]: row for row in question.rows(inner, values)} if found else {}
    return [rows[row["id"]] for row in found], following, previous, whole


def identity(viewer: Viewer, identity_id: str, window: Window = Window()) -> dict[str, Any]:
    """Everything about one identity in the window. Raises NotFound when it did nothing in the viewer's scope."""
    with Question() as question:
        answer = deeds.summary(question, viewer, identity_id, window)
        if answer is None:
            answer = _summary(question, viewer, identity_id, window)
        if not answer:
            raise errors.NotFound
        answer["as_of"] = question.size
        answer["recent"] = fetch(question, viewer, answer["recent"])
        answer["state"] = _roles(question, viewer, answer["identity"]["logins"])
        answer["coverage"] = coverage(question, viewer, window)
        return answer


def _summary(question: Question, viewer: Viewer, identity_id: str, window: Window) -> dict[str, Any]:
    """As `deeds.summary`, of the whole log."""
    scope, values = scoped(viewer, window)
    mine = f"who_id = ? and {scope} and not list_has_any(flags, ['claim', 'canary']) and kind <> 'decision'"
    mine_values = [identity_id, *values]
    head = question.rows(f"select {IDENTITY_COLUMNS} from activity where {mine} group by who_id", mine_values)  # noqa: S608
    if not head:
        return {}
    answer: dict[str, Any] = {"identity": head[0]}
    answer["tables"] = question.rows(
        f"select datasource, relation, touch_op as op, {TIMES} as count, "  # noqa: S608
        f"min(occurred_at) as first_at, max(occurred_at) as last_at from touches where {mine} group by all order by 2, 3, 1",
        mine_values,
    )
    answer["weeks"] = question.rows(
        f"select relation, date_trunc('week', occurred_at) as week, {TIMES} as count "  # noqa: S608
        f"from touches where {mine} group by all order by 2, 1",
        mine_values,
    )
    answer["sessions"] = question.rows(
        f"select {SESSION_COLUMNS} from activity where {scope} and session in "  # noqa: S608
        f"(select session from activity where {mine}) group by session order by last_index desc limit {stretches.MOST}",
        [*values, *mine_values],
    )
    answer["worked_for"] = _people(question, "on_behalf_of", mine, mine_values)
    answer["worked_through"] = _people(
        question,
        "coalesce(agent_name, who_id)",
        f"on_behalf_of = ? and who_id <> ? and {scope}",
        [identity_id, identity_id, *values],
    )
    answer["recent"] = question.rows(
        f"select index from activity where {mine} and {ACCESSES} order by index desc limit {deeds.RECENT}",  # noqa: S608
        mine_values,
    )
    return answer


def _people(question: Question, column: str, condition: str, values: list[Any]) -> list[dict[str, Any]]:
    return question.rows(
        f"select {column} as name, any_value(who_id) as who_id, {TIMES} as count, "  # noqa: S608
        f"min(occurred_at) as first_at, max(occurred_at) as last_at from activity "
        f"where {condition} and {column} is not null group by 1 order by 3 desc, 1",
        values,
    )


def _roles(question: Question, viewer: Viewer, logins: list[str]) -> list[dict[str, Any]]:
    """What the newest snapshot of each database says of these logins."""
    roles = []
    for snapshot in latest_states(question, viewer) if logins else ():
        for role in snapshot["state"].get("roles", ()):
            if role["name"] in logins:
                roles.append({"datasource": snapshot["datasource"], "at": snapshot["occurred_at"], **role})
    return roles


def latest_states(question: Question, viewer: Viewer, at: dt.datetime | None = None) -> list[dict[str, Any]]:
    """The newest complete snapshot of each datasource in scope (at or before `at`).

    What was in force when the viewer's time begins is in scope too, so only its end bounds.
    """
    rows = candidates.told(question, lambda look: candidates.states(look, viewer)) if at is None else None
    if rows is None:
        rows = _states(question, viewer, at)
    for row in rows:
        row["state"] = msgspec.json.decode(row["state"])
    return rows


def _states(question: Question, viewer: Viewer, at: dt.datetime | None) -> list[dict[str, Any]]:
    scope, values = dataclasses.replace(viewer, from_at=None).scope()
    return question.rows(
        "select datasource, max(occurred_at) as occurred_at, arg_max(state, (occurred_at, index)) as state, "  # noqa: S608
        "arg_max(index, (occurred_at, index)) as index from reports where kind = 'state' and state is not null "
        "and not unauthorised and coalesce(json_extract_string(state, '$.mode'), 'snapshot') = 'snapshot' "
        f"and occurred_at <= coalesce(?, occurred_at) and {scope} group by datasource",
        [at, *values],
    )
