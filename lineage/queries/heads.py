"""The head of a session: who, where, when and how much, of its records; as SQL, and the same over a few records that are read.

A test compares both for each session.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lineage.acts import SECOND
from lineage.queries.ask import REFUSED_COUNT, STATEMENT_COUNT, WRITE_COUNT

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
    list_sort(list_distinct(flatten(list(distinct relations)))) as relations,
    list_sort(list_distinct(list(distinct ticket) filter (ticket is not null))) as tickets, any_value(close_reason) as close_reason,
    list_sort(list_distinct(list(distinct verdict) filter (kind in ('query', 'change')))) as verdicts,
    max(index) as last_index"""

Row = Mapping[str, Any]
NEEDED = (
    "index", "event_id", "kind", "class", "op", "occurred_at", "environment", "session", "datasource", "who_id", "who_name",
    "who_type", "attribution", "on_behalf_of", "agent_name", "db_user", "client_app", "client_ip", "session_phase", "correlation_id",
    "emitted", "flags", "verdict", "relations", "ticket", "close_reason",
)  # fmt: skip
"""The columns of `activity` that `head` reads."""
STRENGTHS = {"gateway": 6, "context_message": 5, "asserted_by_proxy": 4, "mapped_login": 2, "db_login": 1}


def head(rows: Sequence[Row]) -> dict[str, Any]:
    """`SESSION_COLUMNS` of one session's records, which are some, by index."""

    def any_of(name: str) -> Any:
        return next((row[name] for row in rows if row[name] is not None), None)

    ranked = sorted(rows, key=_strength, reverse=True)

    def strongest(name: str) -> Any:
        return next((row[name] for row in ranked if row[name] is not None), None)

    once = [row for row in rows if SECOND.isdisjoint(row["flags"])]
    times = [row["occurred_at"] for row in rows if row["occurred_at"] is not None]
    ended = [row["occurred_at"] for row in rows if row["session_phase"] == "end" and row["occurred_at"] is not None]
    verdicts = [row["verdict"] for row in rows]
    return {
        "session": rows[0]["session"],
        **{name: any_of(name) for name in ("datasource", "environment")},
        **{name: strongest(name) for name in ("who_id", "who_name", "who_type", "attribution")},
        **{name: any_of(name) for name in ("on_behalf_of", "agent_name", "db_user", "client_app", "client_ip")},
        "started_at": min(times, default=None),
        "ended_at": max(ended, default=None),
        "last_at": max(times, default=None),
        "statements": len({_act(row) for row in once if _is_statement(row)}),
        "writes": len({row["correlation_id"] for row in once if row["kind"] == "query" and row["class"] == "write"} - {None}),
        "rows_changed": sum(row["kind"] == "change" for row in rows),
        "refused": sum(row["verdict"] == "blocked" for row in once),
        **{name: verdicts.count(name) for name in ("approved", "pending", "masked")},
        "relations": _sorted(one for row in rows for one in row["relations"] or ()) or [],
        "tickets": _sorted(row["ticket"] for row in rows),
        "close_reason": any_of("close_reason"),
        "verdicts": _verdicts(rows),
        "last_index": max(row["index"] for row in rows),
    }  # fmt: skip


def _strength(row: Row) -> int:
    return STRENGTHS.get(row["attribution"], 0) * 100_000_000_000 - int(row["index"])


def _act(row: Row) -> tuple[bool, str]:
    """What a statement is counted by: its correlation id; a record without one is a statement of its own."""
    is_alone = row["correlation_id"] is None
    return is_alone, row["event_id"] if is_alone else row["correlation_id"]


def _is_statement(row: Row) -> bool:
    return row["kind"] == "query" and row["op"] != "other" and row["emitted"] is None and "canary" not in row["flags"]


def _sorted(values: Iterable[str | None]) -> list[str] | None:
    """Each once; None where there are none, as DuckDB has it."""
    return sorted({value for value in values if value is not None}) or None


def _verdicts(rows: Sequence[Row]) -> list[str] | None:
    acts = [row for row in rows if row["kind"] in ("query", "change")]
    return (_sorted(row["verdict"] for row in acts) or []) if acts else None
