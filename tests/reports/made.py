"""Frozen evidence made by hand, of the shape that `reports.evidence.collect` freezes."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow as pa

from lineage.queries import facts, hours, registers, releases, signed
from reports import evidence
from reports.evidence import Evidence, Request

TIME = pa.timestamp("us", tz="UTC")
START = dt.datetime(2026, 11, 20, 10, 0, tzinfo=dt.UTC)
END = START + dt.timedelta(hours=2)
TEXTS = (
    "event_id kind class op command occurred_at_quality environment source datasource database who_id who_name who_type "
    "on_behalf_of agent_id agent_name agent_run db_user attribution purpose ticket client_app client_ip session "
    "transaction_id outcome verdict relations_provenance error_code statement statement_state fingerprint key approval "
    "decision custody correlation_id who_email position source_format"
).split()
POPULATION = pa.schema(
    [("index", pa.int64()), ("occurred_at", TIME), ("received_at", TIME)]
    + [(name, pa.string()) for name in TEXTS]
    + [
        (name, pa.int64())
        for name in ("attribution_index", "rows_returned", "rows_affected", "duration_us", "sequence")
    ]
    + [(name, pa.bool_()) for name in ("claimed", "opaque")]
    + [
        (name, pa.list_(pa.string()))
        for name in ("relations", "flags", "key_columns", "roles", "columns", "masked_columns")
    ]
)
EMPTY = {
    "hours": hours.HOURS, "checkpoints": signed.CHECKPOINTS, "released": releases.RELEASED, "tags": registers.TAGS,
    "identities": registers.IDENTITIES, "rights": registers.RIGHTS,
}  # fmt: skip
"""Tables that most tests read nothing of."""
NOTE = "touchstone.test/log\n1000\nqWvGHJ0eEmfoTkRvKfrPRwDuRvUXzFrMqvm2LRHzHsU=\n\n— touchstone.test/log AAAAAA==\n"


def access(index: int, **more: Any) -> dict[str, Any]:
    """A statement by a service that needs no privilege, one second for each index after the start."""
    at = START + dt.timedelta(seconds=index)
    row: dict[str, Any] = {
        "index": index, "occurred_at": at, "received_at": at, "event_id": f"e{index}", "kind": "query", "class": "read",
        "op": "read", "command": "SELECT", "environment": "prod", "source": "log", "datasource": "orders",
        "who_id": "orders-api", "who_name": "orders-api", "who_type": "service", "db_user": "orders_api",
        "attribution": "mapped_login", "client_app": "psql", "client_ip": "10.0.0.7", "transaction_id": f"t{index}",
        "outcome": "committed", "verdict": "allowed", "relations": ["public.customers"], "flags": [], "roles": [],
        "columns": [], "masked_columns": [],
        "claimed": False, "opaque": False, "correlation_id": f"c{index}", "statement": "select * from customers where id = $1",
    }  # fmt: skip
    return row | more


def write(index: int, person: str = "dana@shop.example", **more: Any) -> dict[str, Any]:
    """A direct write by a human."""
    base = {
        "class": "write", "op": "update", "command": "UPDATE", "who_id": person, "who_name": person.split("@")[0].title(),
        "who_type": "human", "who_email": person, "db_user": person.split("@")[0], "rows_affected": 1,
        "statement": "update customers set email = $1 where id = $2",
    }  # fmt: skip
    return access(index, **(base | more))


def change(index: int, transaction: str, **more: Any) -> dict[str, Any]:
    base = {
        "kind": "change",
        "correlation_id": None,
        "statement": None,
        "transaction_id": transaction,
        "key": str(index),
    }
    return write(index, **(base | more))


def decision(index: int, ticket: str, state: str = "approved", **more: Any) -> dict[str, Any]:
    at = START - dt.timedelta(hours=1)
    row = {
        "index": index, "occurred_at": at, "received_at": at, "environment": "prod", "source": "desk", "ticket": ticket,
        "type": "approval", "request_id": f"R-{index}", "state": state, "requested_by": "dana@shop.example",
        "approvers": ["eve@shop.example"], "decided_at": at, "expires_at": None, "reason": "needed",
    }  # fmt: skip
    return row | more


def role(name: str, *attributes: str, **more: Any) -> dict[str, Any]:
    span = {"from_at": facts.FIRST, "to_at": facts.LAST, "index": 1, "assumed": False}
    return {"datasource": "orders", "role": name, "attributes": list(attributes)} | span | more


def owner(relation: str, name: str, **more: Any) -> dict[str, Any]:
    span = {"from_at": facts.FIRST, "to_at": facts.LAST, "index": 1, "assumed": False}
    return {"datasource": "orders", "relation": relation, "role": name, "owner": name} | span | more


def source(name: str = "log", **more: Any) -> dict[str, Any]:
    row = {
        "id": 1, "name": name, "format": "postgres-csvlog", "environment": "prod", "datasource": "orders",
        "created_at": "2026-11-01T00:00:00+00:00", "revoked_at": None, "watermark_at": "2026-11-20T12:00:03+00:00",
        "events": 1000, "first_sequence": 1, "last_sequence": 1000, "missing": 0, "heartbeats": 720, "canaries": 24,
        "gaps": 0, "quarantined": 0, "conflicts": 0, "clock_skew": 0,
    }  # fmt: skip
    return row | more


def heard(name: str, tells: str, **more: Any) -> dict[str, Any]:
    row = {
        "name": name, "format": "postgres-csvlog", "environment": "prod", "datasource": "orders", "revoked_at": None,
        "tells": [tells], "from_at": "2026-11-01T00:00:00+00:00", "beats": True, "outages": [],
    }  # fmt: skip
    return row | more


def silent(begin: dt.datetime, end: dt.datetime | None, **more: Any) -> dict[str, Any]:
    row = {"state": "silent", "from_at": begin, "to_at": end, "cause": "no heartbeat", "lasting": True, "arrived": 0}
    return row | more


def completeness(population: int, **more: Any) -> dict[str, Any]:
    fields = (
        "user identification",
        "type of event",
        "date and time",
        "success or failure",
        "origination",
        "affected object",
    )
    found = {
        "as_of": 1000,
        "sources": [source(), source("wal", format="pgoutput")],
        "coverage": [
            {"source": name, "state": "complete", "detail": "No gap in this window."} for name in ("log", "wal")
        ],
        "hearing": [
            heard("log", "statements"),
            heard("wal", "changes", format="pgoutput"),
            heard("desk", "decisions", format="events", datasource=""),
        ],
        "reconciliation": {
            "transactions": 10, "agree": 10, "reported_more": 0, "captured_more": 0, "without_second": 0, "without_statement": 0,
            "rolled_back": 1, "rows_captured": 5012, "rows_reported": 5012, "mismatches": [],
        },
        "fields": [{"field": name, "known": population, "of": population} for name in fields],
        "unknown": {"unattributed": 0, "login_only": 2, "opaque": 1, "reads_without_key": 3},
    }  # fmt: skip
    return found | more


def made(
    folder: Path,
    population: list[dict[str, Any]],
    *,
    roles: list[dict[str, Any]] | None = None,
    owners: list[dict[str, Any]] | None = None,
    decisions: list[dict[str, Any]] | None = None,
    request: Request | None = None,
    more: dict[str, pa.Table] | None = None,
    **found: Any,
) -> Evidence:
    """Frozen evidence in `folder` from plain rows; keyword arguments replace parts of the completeness counts."""
    tables = (
        {
            "population": pa.Table.from_pylist(population, schema=POPULATION),
            "roles": pa.Table.from_pylist(roles if roles is not None else [role("orders_api")], schema=facts.ROLES),
            "owners": pa.Table.from_pylist(owners or [], schema=facts.OWNERS),
            "decisions": pa.Table.from_pylist(decisions or [], schema=facts.DECISIONS),
        }
        | {name: schema.empty_table() for name, schema in EMPTY.items()}
        | (more or {})
    )
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{name}.parquet" for name in tables}
    for name, table in tables.items():
        evidence.write_table(table, paths[name])
    asked = request or Request("privileged-access", START, END, "prod")
    collected_at = END + dt.timedelta(minutes=5)
    collected = Evidence(
        folder, asked, paths, completeness(len(population), **found), 1000, NOTE, collected_at, "audit@example.test"
    )
    evidence._freeze(collected)
    loaded = evidence.load(folder)
    assert loaded is not None
    return loaded
