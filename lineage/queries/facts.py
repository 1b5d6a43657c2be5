"""What a control test holds accesses against: role attributes and owners in force, and decisions on cited tickets."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

import msgspec
import pyarrow as pa

from lineage.access import Viewer
from lineage.engine import Question
from lineage.queries.ask import ACCESSES, Window, scoped

TIME = pa.timestamp("us", tz="UTC")
TEXT = pa.string()
FIRST = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
LAST = dt.datetime(9999, 1, 1, tzinfo=dt.UTC)
ATTRIBUTES = ("superuser", "createrole", "replication", "bypassrls")
SPAN = [("from_at", TIME), ("to_at", TIME), ("index", pa.int64()), ("assumed", pa.bool_())]
ROLES = pa.schema([("datasource", TEXT), ("role", TEXT), ("attributes", pa.list_(TEXT)), *SPAN])
OWNERS = pa.schema([("datasource", TEXT), ("relation", TEXT), ("role", TEXT), ("owner", TEXT), *SPAN])
DECISIONS = pa.schema(
    [("index", pa.int64()), ("occurred_at", TIME), ("received_at", TIME)]
    + [(n, TEXT) for n in ("environment", "source", "ticket", "type", "request_id", "state", "requested_by")]
    + [("approvers", pa.list_(TEXT)), ("decided_at", TIME), ("expires_at", TIME), ("reason", TEXT)]
)
STATES = """
select index, datasource, occurred_at, state from activity where kind = 'state' and state is not null
and not list_contains(flags, 'unauthorised_assertion') and occurred_at < ?
and (datasource, environment) in (select (datasource, environment) from accessed) order by occurred_at, index"""
DECIDED = """
select index, occurred_at, received_at, environment, source, ticket, decision_type, approval, decided_by, who_id
from activity where kind = 'decision' and not list_contains(flags, 'unauthorised_assertion')
and ticket in (select cited from accessed) order by index"""
"""Of what a period's accesses name (`accessed`): the states of their databases until then, and the decisions on what they cite."""


def control_facts(
    viewer: Viewer,
    since: dt.datetime,
    until: dt.datetime,
    datasources: list[str] | None = None,
    environment: str | None = None,
    as_of: int | None = None,
) -> dict[str, pa.Table]:
    """Arrow tables `roles`, `owners` (each with the span it was in force and the record it comes from) and `decisions`.

    A database's first state stands for the time before it too, marked `assumed`. Members of an owning role are owners.
    Decisions are those on tickets and gateways' requests that accesses of the period cite, whenever decided; unauthorised ones
    are left out.
    """
    condition, values = scoped(viewer, Window(since, until, environment))
    if datasources:
        condition, values = f"{condition} and list_contains(?, datasource)", [*values, datasources]
    with Question(as_of=as_of) as question:
        question.rows(
            "create temp table accessed as select datasource, environment, unnest([ticket, request]) as cited from "  # noqa: S608 - our own words
            "(select distinct datasource, environment, ticket, case when attribution = 'gateway' then approval_request end as request "
            f"from activity where {condition} and {ACCESSES})",
            values,
        )
        is_cited = question.rows("select count(cited) > 0 as some from accessed")[0]["some"]
        states = question.rows(STATES, [until]) if _is_told(question, "state") else []
        decisions = question.rows(DECIDED) if is_cited and _is_told(question, "decision") else []
    roles, owners = _spans(states)
    return {
        "roles": pa.Table.from_pylist(roles, schema=ROLES),
        "owners": pa.Table.from_pylist(owners, schema=OWNERS),
        "decisions": pa.Table.from_pylist([_decision(d) for d in decisions], schema=DECISIONS),
    }


def _is_told(question: Question, kind: str) -> bool:
    """Whether the log has such a record at all."""
    return any(one.kind == kind for one in question.hear().ever)


def _spans(states: Iterable[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    by_datasource: dict[str, list[dict[str, Any]]] = {}
    for state in states:
        by_datasource.setdefault(state["datasource"], []).append(state)
    roles: list[dict[str, Any]] = []
    owners: list[dict[str, Any]] = []
    for datasource, found in by_datasource.items():
        held: dict[str, dict[str, Any]] = {}
        keys: dict[str, dict[str, Any]] = {}
        ends = [*(s["occurred_at"] for s in found[1:]), LAST]
        for number, (state, end) in enumerate(zip(found, ends, strict=True)):
            body = msgspec.json.decode(state["state"])
            if body.get("mode", "snapshot") == "snapshot":
                held, keys = {}, {}
            held |= {r["name"]: r for r in body.get("roles", ())}
            keys |= {f"{k['schema']}.{k['relation']}": k for k in body.get("keys", ())}
            span = {"from_at": state["occurred_at"], "to_at": end, "index": state["index"], "assumed": False}
            spans = [{**span, "from_at": FIRST, "to_at": span["from_at"], "assumed": True}] if number == 0 else []
            for each in [*spans, span]:
                roles += _roles(datasource, held, each)
                owners += _owners(datasource, keys, held, each)
    return roles, owners


def _roles(datasource: str, held: dict[str, dict[str, Any]], span: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"datasource": datasource, "role": name, "attributes": [a for a in ATTRIBUTES if role.get(a)], **span}
        for name, role in sorted(held.items())
    ]


def _owners(
    datasource: str, keys: dict[str, dict[str, Any]], held: dict[str, dict[str, Any]], span: dict[str, Any]
) -> list[dict[str, Any]]:
    return [
        {"datasource": datasource, "relation": relation, "role": role, "owner": key["owner"], **span}
        for relation, key in sorted(keys.items())
        if key.get("owner")
        for role in sorted({key["owner"], *(n for n in held if key["owner"] in memberships(n, held))})
    ]


def memberships(name: str, held: dict[str, dict[str, Any]]) -> set[str]:
    """Every role that `name` is a member of, directly or through others."""
    reached: set[str] = set()
    waiting = list(held.get(name, {}).get("member_of", ()))
    while waiting:
        role = waiting.pop()
        if role not in reached:
            reached.add(role)
            waiting += held.get(role, {}).get("member_of", ())
    return reached


def _decision(row: dict[str, Any]) -> dict[str, Any]:
    approval = msgspec.json.decode(row["approval"]) if row["approval"] else {}
    fallback = row["decided_by"] or row["who_id"]
    decided = approval.get("state") not in (None, "requested")
    return {
        **{n: row[n] for n in ("index", "occurred_at", "received_at", "environment", "source", "ticket")},
        "type": row["decision_type"],
        "request_id": approval.get("request_id"),
        "state": approval.get("state"),
        "requested_by": approval.get("requested_by"),
        "approvers": list(approval.get("approvers", ())) or ([fallback] if decided and fallback else []),
        "decided_at": _time(approval.get("decided_at")) or (row["occurred_at"] if decided else None),
        "expires_at": _time(approval.get("expires_at")),
        "reason": approval.get("reason"),
    }


def _time(text: str | None) -> dt.datetime | None:
    return dt.datetime.fromisoformat(text) if text else None
