"""A small story that fills a store for page tests: people, a service and an agent at an order database."""

from __future__ import annotations

import datetime as dt
import functools
import json
from typing import Any

from django.contrib.auth.hashers import make_password

from lineage import access, checkpoints, ingest
from lineage.events import format_time
from lineage.models import Source, User

PASSWORD = "a long enough password"
HOSTILE = "<script>alert(1)</script>\"'&"


def person(email: str = "alice@audit.example", role: str = "auditor", **scope: Any) -> User:
    return User.objects.create(email=email, role=role, password=_hashed(), **scope)


@functools.cache
def _hashed() -> str:
    """The true hash takes 0.3 s, by design: made once for all people."""
    return make_password(PASSWORD)


def source(name: str = "desk", environment: str = "production", datasource: str = "orders-prod", **more: Any) -> Source:
    asserts = ["actor", "approval", "grant", "policy", "state"]
    return Source.objects.create(
        name=name, format="events", environment=environment, datasource=datasource, asserts=asserts,
        token_hash=access.token_hash(name), **more,
    )  # fmt: skip


def send(to: Source, *items: dict[str, Any]) -> list[int]:
    """Posts native events and returns their indexes; an item that is not accepted fails the test."""
    accepted = ingest.accept(to, json.dumps(items).encode())
    assert {i.status for i in accepted.items} <= {"accepted"}, accepted.items[:3]
    return [i.index for i in accepted.items if i.index is not None]


DANA = {
    "id": "dana@shop.example",
    "name": "Dana Reyes",
    "email": "dana@shop.example",
    "type": "human",
    "db_user": "dana",
}
OMAR = {
    "id": "omar@shop.example",
    "name": "Omar Haddad",
    "email": "omar@shop.example",
    "type": "human",
    "db_user": "omar",
}
API = {"id": "orders-api", "name": "orders-api", "type": "service", "db_user": "orders_api"}
BOT = {"id": "report-bot", "name": "report-bot", "type": "agent", "db_user": "report_bot"}


def query(id_: str, at: dt.datetime, actor: dict[str, Any], sql: str, op: str, **more: Any) -> dict[str, Any]:
    """One statement as a proxy reports it; it names no table, so that the parser does."""
    return {
        "kind": "query", "source_event_id": id_, "occurred_at": format_time(at), "occurred_at_quality": "source",
        "actor": actor, "op": op, "command": sql.split()[0].upper(), "verdict": "allowed", "db_system": "postgresql",
        "database": "shop", "db_session_id": f"s-{actor['id']}", "client": {"app": "psql", "ip": "10.1.4.7"},
        "statement": {"text": sql}, "correlation_id": id_,
    } | more  # fmt: skip


def change(
    id_: str, at: dt.datetime, actor: dict[str, Any], table: str, key: str, op: str, **images: Any
) -> dict[str, Any]:
    """One row change; `before` and `after` are dicts of column to text."""
    values = {
        side: [{"column": c, "state": "null" if v is None else "present", "type": "text"} | ({} if v is None else {"value": v})
               for c, v in images.pop(side).items()]
        for side in ("before", "after") if side in images
    }  # fmt: skip
    return {
        "kind": "change", "source_event_id": id_, "occurred_at": format_time(at), "actor": actor, "op": op,
        "verdict": "allowed", "resources": [{"schema": "public", "relation": table, "access": "write"}],
        "db_session_id": f"s-{actor['id']}", "key": [{"column": "id", "type": "text", "value": key}], **values, **images,
    }  # fmt: skip


def tell(now: dt.datetime) -> dict[str, int]:
    """The story, ending at `now`. Returns the index of some of its records by name."""
    desk, made_up = source(), source("simulator", "simulated", "shop-simulated")

    def at(minutes: float) -> dt.datetime:
        return now - dt.timedelta(minutes=minutes)

    ticket = {"ticket": "OPS-42", "purpose": "Customer was charged twice"}
    update = "UPDATE public.payments\n   SET amount = 40.00 -- was 400\n WHERE id = 9001"
    names = {}
    names["read"], names["fix"], names["fixed"] = send(
        desk,
        query("q1", at(55), DANA, "SELECT id, name, email FROM public.customers WHERE id = 4711", "read", rows={"returned": 1}),
        query("q2", at(40), OMAR, update, "update", rows={"affected": 1}, transaction={"id": "801"}, **ticket),
        change("c2", at(40), OMAR, "payments", "9001", "update", transaction={"id": "801", "outcome": "committed"},
               before={"id": "9001", "amount": "400.00", "note": None}, after={"id": "9001", "amount": "40.00", "note": None}, **ticket),
    )  # fmt: skip
    written = []
    for n in range(30):
        sql, transaction = f"INSERT INTO public.orders (id, customer_id) VALUES ({n}, 4711)", {"id": str(900 + n)}
        after = {"id": str(n), "customer_id": "4711"}
        written += [
            query(f"a{n}", at(50 - n), API, sql, "insert", rows={"affected": 1}, transaction=transaction),
            change(f"b{n}", at(50 - n), API, "orders", str(n), "insert", transaction=transaction, after=after),
        ]
    send(desk, *written)
    agent = {
        "on_behalf_of": {"id": "dana@shop.example", "name": "Dana Reyes"},
        "agent": {"id": "report-bot", "name": "report-bot", "run_id": "run-7"},
    }
    export = (
        "COPY (SELECT id, name, email, phone\n FROM public.customers\n JOIN public.orders o\n ON o.customer_id = customers.id\n"
        " WHERE true\n ORDER BY 1\n LIMIT 5000) TO STDOUT"
    )
    names["export"], names["deleted"], names["refused"] = send(
        desk,
        query("e1", at(12), BOT, export, "export", rows={"returned": 4200}, **agent),
        change("e2", at(11), BOT, "customers", "4711", "update", before={"id": "4711", "note": "calls often", "email": "m@x.example"},
               after={"id": "4711", "note": None, "email": "m@x.example"}, transaction={"id": "990"}, **agent),
        query("e3", at(10), DANA, "SELECT * FROM public.salaries", "read", verdict="blocked",
              error={"code": "42501", "message": "permission denied for table salaries"}),
    )  # fmt: skip
    names["approval"] = send(
        desk,
        {"kind": "decision", "source_event_id": "d1", "occurred_at": format_time(at(45)), "ticket": "OPS-42",
         "decision": {"type": "approval", "subject": "omar@shop.example", "decided_by": "lea@shop.example"},
         "approval": {"request_id": "OPS-42", "state": "approved", "approvers": ["lea@shop.example"],
                      "requested_by": "omar@shop.example", "reason": "Refund", "decided_at": format_time(at(45))}},
    )[0]  # fmt: skip
    send(made_up, *(
        query(f"m{d}", now - dt.timedelta(days=d), DANA, "SELECT id FROM public.customers", "read", rows={"returned": 20 + d})
        for d in range(1, 90)
    ))  # fmt: skip
    checkpoints.checkpoint()
    return names


def hostile(now: dt.datetime, rows: int = 1) -> list[int]:
    """Records that carry markup in every field that a source can fill."""
    bad = source(f"feed {HOSTILE}"[:100], HOSTILE[:40], f"db{HOSTILE}")
    actor = {"id": HOSTILE, "name": HOSTILE, "email": HOSTILE, "type": "human", "db_user": HOSTILE}
    more = {
        "ticket": HOSTILE, "purpose": HOSTILE, "on_behalf_of": {"id": HOSTILE}, "agent": {"id": HOSTILE, "name": HOSTILE},
        "client": {"app": HOSTILE, "ip": HOSTILE}, "flags": [HOSTILE], "transaction": {"id": HOSTILE}, "db_session_id": HOSTILE,
    }  # fmt: skip
    items = []
    for n in range(rows):
        items.append(query(f"h{n}", now, actor, f"SELECT '{HOSTILE}' FROM \"{HOSTILE.replace(chr(34), '')}\"", "read", **more,
                           command=HOSTILE, error={"code": HOSTILE, "message": HOSTILE},
                           resources=[{"schema": "public", "relation": HOSTILE, "columns": [HOSTILE]}]))  # fmt: skip
        items.append(change(f"i{n}", now, actor, HOSTILE, HOSTILE, "update", before={HOSTILE: HOSTILE},
                            after={HOSTILE: HOSTILE + "x"}, **more))  # fmt: skip
    return send(bad, *items)
