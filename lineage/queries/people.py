"""Sessions and identities: what one connection did, what one person, service or agent did."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections import Counter
from typing import Any

import msgspec

from lineage import errors
from lineage.access import Viewer
from lineage.engine import Question
from lineage.queries import paging
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
    names,
    scoped,
    searched,
    total,
)
from lineage.queries.covering import coverage

STRENGTH = "case attribution when 'gateway' then 6 when 'context_message' then 5 when 'asserted_by_proxy' then 4 " \
    "when 'mapped_login' then 2 when 'db_login' then 1 else 0 end * 100000000000 - index"  # fmt: skip

SESSION_COLUMNS = f"""session, any_value(datasource) as datasource, any_value(environment) as environment,
    arg_max(who_id, {STRENGTH}) as who_id, arg_max(who_name, {STRENGTH}) as who_name, arg_max(who_type, {STRENGTH}) as who_type,
    arg_max(attribution, {STRENGTH}) as attribution,
    any_value(on_behalf_of) as on_behalf_of, any_value(agent_name) as agent_name, any_value(db_user) as db_user,
    any_value(client_app) as client_app, any_value(client_ip) as client_ip,
    min(occurred_at) as started_at, max(occurred_at) filter (session_phase = 'end') as ended_at, max(occurred_at) as last_at,
    {STATEMENT_COUNT} as statements,
    {WRITE_COUNT} as writes,
    count(*) filter (kind = 'change') as rows_changed, {REFUSED_COUNT} as refused,
    count(*) filter (verdict = 'approved') as approved, count(*) filter (verdict = 'pending') as pending,
    count(*) filter (verdict = 'masked') as masked,
    list_sort(list_distinct(flatten(list(relations)))) as relations,
    list_distinct(list(ticket) filter (ticket is not null)) as tickets, any_value(close_reason) as close_reason,
    max(index) as last_index"""


def session_rows(viewer: Viewer, q: str, window: Window, now: dt.datetime | None = None) -> tuple[str, list[Any]]:
    """The rows of `sessions` as SQL, and its values. Relative times in `q` count from `now`."""
    condition, values = searched(viewer, q, window, "event", now)
    scope, scope_values = scoped(viewer, window)
    inner = f"""select {SESSION_COLUMNS} from activity where {scope} and session in
        (select session from activity where session is not null and kind in ('session', 'query', 'change') and {condition})
        group by session"""  # noqa: S608
    return inner, [*scope_values, *values]


def sessions(
    viewer: Viewer, q: str = "", window: Window = Window(), limit: int | None = None, cursor: str | None = None
) -> Answer:
    """Session rows that hold a matching record, the most recently active first."""
    as_of, place, is_back = paging.asked(cursor, tuple[Place])
    inner, values = session_rows(viewer, q, window)
    with Question(as_of=as_of) as question:
        rows, following, previous = paging.keyset(question, inner, values, (), place, is_back, limited(limit))
        whole = total(question, f"({inner})", "true", values)
        return Answer(rows, following, whole, question.size, coverage(question, viewer, window), previous)


def session(viewer: Viewer, session_key: str) -> dict[str, Any]:
    """One session: its row and its steps in order, each statement with the row changes of its transaction.

    Changes are put under a statement only when it is the transaction's only write to that table; else they stand
    under the transaction as `unplaced`. `lines`: how many statements the server's log has a second record of. Raises NotFound.
    """
    scope, values = scoped(viewer, Window())
    with Question() as question:
        head = question.rows(
            f"select {SESSION_COLUMNS} from activity where session = ? and {scope} group by session",  # noqa: S608
            [session_key, *values],
        )
        if not head:
            raise errors.NotFound
        found = question.rows(
            f"select index from activity where session = ? and {scope} "  # noqa: S608
            "and not list_has_any(flags, ['claim', 'canary']) order by occurred_at, index limit 5000",
            [session_key, *values],
        )
        rows = fetch(question, viewer, found)
        once = [row for row in rows if "seen_by_gateway" not in row["flags"]]
        return {
            "session": head[0] | {"masked_types": _masked(once)},
            "steps": _steps(once),
            "lines": len(_acts(rows)) - len(_acts(once)),
            "as_of": question.size,
            "coverage": coverage(question, viewer, Window()),
        }


def _acts(rows: list[dict[str, Any]]) -> set[str]:
    return {row["correlation_id"] or row["event_id"] for row in rows}


def _masked(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How many values of each type were masked, the most first."""
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update({kind["name"]: kind["count"] for kind in (row["masked"] or {}).get("types", ())})
    return [{"name": name, "count": count} for name, count in counts.most_common()]


def bare(relation: str) -> str:
    """A relation's name without its schema: a parsed statement often has no more."""
    return relation.rpartition(".")[2]


def _steps(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Statements in order, one a correlation id, with the changes that can only be theirs."""
    steps: dict[str, dict[str, Any]] = {}
    for row in (r for r in rows if r["kind"] != "change"):
        key = row["correlation_id"] or row["event_id"]
        if key in steps:
            steps[key]["relations"] = names([*steps[key]["relations"], *(row["relations"] or [])])
        else:
            steps[key] = row | {"relations": list(row["relations"] or []), "changes": []}
    writers: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for step in (s for s in steps.values() if s["class"] == "write" and s["transaction_id"]):
        for relation in step["relations"]:
            writers.setdefault((step["transaction_id"], bare(relation)), []).append(step)
    unplaced = []
    for change in (r for r in rows if r["kind"] == "change"):
        owners = writers.get((change["transaction_id"], bare((change["relations"] or [""])[0])), [])
        if len(owners) == 1:
            owners[0]["changes"].append(change)
        else:
            unplaced.append(change | {"changes": []})
    return sorted([*steps.values(), *unplaced], key=lambda r: (r["occurred_at"], r["index"]))


IDENTITY_COLUMNS = f"""who_id as id, arg_max(who_name, {STRENGTH}) as name, arg_max(who_type, {STRENGTH}) as type,
    any_value(who_email) as email, list_distinct(list(db_user) filter (db_user is not null)) as logins,
    min(occurred_at) as first_at, max(occurred_at) as last_at, {STATEMENT_COUNT} as accesses,
    {WRITE_COUNT} as writes,
    count(*) filter (kind = 'change') as rows_changed, {REFUSED_COUNT} as refused,
    len(list_distinct(flatten(list(relations)))) as relations,
    list_distinct(list(on_behalf_of) filter (on_behalf_of is not null)) as worked_for,
    list_distinct(list(agent_name) filter (agent_name is not null)) as agents,
    list_distinct(list(attribution)) as attributions, max(index) as last_index"""


def identity_rows(viewer: Viewer, q: str, window: Window, now: dt.datetime | None = None) -> tuple[str, list[Any]]:
    """The rows of `identities` as SQL, and its values. Relative times in `q` count from `now`."""
    condition, values = searched(viewer, q, window, "event", now)
    inner = f"select {IDENTITY_COLUMNS} from activity where {condition} and who_id is not null and kind <> 'decision' group by who_id"  # noqa: S608
    return inner, values


def identities(
    viewer: Viewer, q: str = "", window: Window = Window(), limit: int | None = None, cursor: str | None = None
) -> Answer:
    """Identity rows: everyone behind a matching record, the most recently active first."""
    as_of, place, is_back = paging.asked(cursor, tuple[Place])
    inner, values = identity_rows(viewer, q, window)
    with Question(as_of=as_of) as question:
        rows, following, previous = paging.keyset(question, inner, values, (), place, is_back, limited(limit))
        whole = total(question, f"({inner})", "true", values)
        return Answer(rows, following, whole, question.size, coverage(question, viewer, window), previous)


def identity(viewer: Viewer, identity_id: str, window: Window = Window()) -> dict[str, Any]:
    """Everything about one identity in the window. Raises NotFound when it did nothing in the viewer's scope."""
    scope, values = scoped(viewer, window)
    mine = f"who_id = ? and {scope} and not list_has_any(flags, ['claim', 'canary']) and kind <> 'decision'"
    mine_values = [identity_id, *values]
    with Question() as question:
        head = question.rows(f"select {IDENTITY_COLUMNS} from activity where {mine} group by who_id", mine_values)  # noqa: S608
        if not head:
            raise errors.NotFound
        answer: dict[str, Any] = {"identity": head[0], "as_of": question.size}
        answer["tables"] = question.rows(
            f"select datasource, relation, touch_op as op, {TIMES} as count, "  # noqa: S608
            f"min(occurred_at) as first_at, max(occurred_at) as last_at from touches where {mine} group by all order by 2, 3",
            mine_values,
        )
        answer["weeks"] = question.rows(
            f"select relation, date_trunc('week', occurred_at) as week, {TIMES} as count "  # noqa: S608
            f"from touches where {mine} group by all order by 2, 1",
            mine_values,
        )
        answer["sessions"] = question.rows(
            f"select {SESSION_COLUMNS} from activity where {scope} and session in "  # noqa: S608
            f"(select session from activity where {mine}) group by session order by last_index desc limit 20",
            [*values, *mine_values],
        )
        answer["worked_for"] = _people(question, "on_behalf_of", mine, mine_values)
        answer["worked_through"] = _people(
            question,
            "coalesce(agent_name, who_id)",
            f"on_behalf_of = ? and who_id <> ? and {scope}",
            [identity_id, identity_id, *values],
        )
        newest = question.rows(
            f"select index from activity where {mine} and {ACCESSES} order by index desc limit 50",  # noqa: S608
            mine_values,
        )
        answer["recent"] = fetch(question, viewer, newest)
        answer["state"] = _roles(question, viewer, head[0]["logins"])
        answer["coverage"] = coverage(question, viewer, window)
        return answer


def _people(question: Question, column: str, condition: str, values: list[Any]) -> list[dict[str, Any]]:
    return question.rows(
        f"select {column} as name, any_value(who_id) as who_id, {TIMES} as count, "  # noqa: S608
        f"min(occurred_at) as first_at, max(occurred_at) as last_at from activity "
        f"where {condition} and {column} is not null group by 1 order by 3 desc",
        values,
    )


def _roles(question: Question, viewer: Viewer, logins: list[str]) -> list[dict[str, Any]]:
    """What the newest snapshot of each database says of these logins."""
    roles = []
    for snapshot in latest_states(question, viewer):
        for role in snapshot["state"].get("roles", ()):
            if role["name"] in (logins or ()):
                roles.append({"datasource": snapshot["datasource"], "at": snapshot["occurred_at"], **role})
    return roles


def latest_states(question: Question, viewer: Viewer, at: dt.datetime | None = None) -> list[dict[str, Any]]:
    """The newest complete snapshot of each datasource in scope (at or before `at`).

    What was in force when the viewer's time begins is in scope too, so only its end bounds.
    """
    scope, values = dataclasses.replace(viewer, from_at=None).scope()
    rows = question.rows(
        "select datasource, max(occurred_at) as occurred_at, arg_max(state, (occurred_at, index)) as state, "  # noqa: S608
        "arg_max(index, (occurred_at, index)) as index from reports where kind = 'state' and state is not null "
        "and not unauthorised and coalesce(json_extract_string(state, '$.mode'), 'snapshot') = 'snapshot' "
        f"and occurred_at <= coalesce(?, occurred_at) and {scope} group by datasource",
        [at, *values],
    )
    for row in rows:
        row["state"] = msgspec.json.decode(row["state"])
    return rows
