"""Sessions and identities: what one connection did, what one person, service or agent did."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from lineage import errors
from lineage.access import Viewer
from lineage.engine import Question
from lineage.queries import candidates, deeds, everyone, latest, paging, sought, stretches
from lineage.queries.ask import (
    ACCESSES,
    REFUSED_COUNT,
    STATEMENT_COUNT,
    TIMES,
    WRITE_COUNT,
    Answer,
    Place,
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
    viewer: Viewer, q: str, window: Window, now: dt.datetime | None = None, state: str = ""
) -> tuple[str, list[Any]]:
    """The rows of `sessions` as SQL, and its values. Relative times in `q` count from `now`; `state` is open, ended or empty."""
    condition, values = searched(viewer, q, window, "event", now)
    scope, scope_values = scoped(viewer, window)
    inner = f"""select {SESSION_COLUMNS} from activity where {scope} and session in
        (select session from activity where {latest.SQL} and {condition})
        group by session{STATES.get(state, "")}"""  # noqa: S608
    return inner, [*scope_values, *values]


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
    with Question(as_of=as_of) as question:
        page = _page(question, viewer, q, window, place, is_back, limited(limit), state)
        return _answer(question, viewer, window, page)


def _page(
    question: Question, viewer: Viewer, q: str, window: Window, place: Any, is_back: bool, count: int, state: str
) -> paging.Page:
    """Out of codes; backwards, by state and where these cannot tell, of the whole log."""
    before = -place[0] if place else None
    found = latest.page(question, viewer, q, window, before, count + 1) if not (is_back or state) else None
    if found is None:
        inner, values = session_rows(viewer, q, window, state=state)
        return paging.keyset(question, inner, values, (), place, is_back, count)
    return *paging.cut(question, found.rows, (), place, False, count), found.total


def _answer(question: Question, viewer: Viewer, window: Window, page: paging.Page) -> Answer:
    rows, following, previous, whole = page
    return Answer(rows, following, whole, question.size, coverage(question, viewer, window), previous)


def bare(relation: str) -> str:
    """A relation's name without its schema: a parsed statement often has no more."""
    return relation.rpartition(".")[2]


SESSION_FACETS: Mapping[str, Callable[[Mapping[str, Any]], Sequence[str | None] | None]] = {
    "environment": lambda row: [row["environment"]], "datasource": lambda row: [row["datasource"]],
    "type": lambda row: [row["who_type"]], "actor": lambda row: [row["who_name"]], "verdict": lambda row: row["verdicts"],
    "app": lambda row: [row["client_app"]], "ticket": lambda row: row["tickets"], "agent": lambda row: [row["agent_name"]],
    "state": lambda row: ["open" if row["ended_at"] is None else "ended"],
}  # fmt: skip
"""What sessions can be narrowed by: the values of a session's row."""
FACET_ROWS = 8
FACETED = 200
"""Of more sessions the values of those are counted that were active last, so many."""


Facets = dict[str, list[dict[str, Any]]]


def session_facets(viewer: Viewer, q: str = "", window: Window = Window(), state: str = "") -> tuple[Facets, bool]:
    """For each facet its most frequent values with the number of sessions (not of records) that hold them; and whether all
    sessions are counted, not only those that were active last.
    """
    with Question() as question:
        rows, following, _, _ = _page(question, viewer, q, window, None, False, FACETED, state)
        return _counted(rows), following is None


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
    if cursor or count >= FACETED:
        return sessions(viewer, q, window, limit, cursor, state), *session_facets(viewer, q, window, state)
    with Question() as question:
        rows, following, _, whole = _page(question, viewer, q, window, None, False, FACETED, state)
        page = *paging.cut(question, rows[: count + 1], (), None, False, count), whole
        return _answer(question, viewer, window, page), _counted(rows), following is None


def _counted(rows: Sequence[Mapping[str, Any]]) -> Facets:
    facets: Facets = {}
    for field, values in SESSION_FACETS.items():
        counts = Counter(name for row in rows for name in set(values(row) or ()) - {None})
        ordered = sorted(counts.items(), key=lambda one: (-one[1], str(one[0])))
        facets[field] = [{"name": name, "count": count} for name, count in ordered[:FACET_ROWS]]
    return facets


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
    rows = candidates.told(question, lambda look: candidates.states(look, viewer, at))
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
