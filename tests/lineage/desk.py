"""A gateway, its live sessions and held statements, and the people who decide, for the tests of the exchange."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from typing import Any

from django.test import Client

from lineage import access
from lineage.access import Viewer
from lineage.events import format_time
from lineage.models import Source, User

SEVERIN, SIGRID, ADA = "severin@security.example", "sigrid@security.example", "ada@admin.example"
DANA = {"id": "dana", "name": "Dana Reyes", "email": "dana@shop.example", "type": "human"}
BOT = {"id": "report-bot", "name": "report-bot", "type": "agent"}
SQL = "update customers set name = 'Zebedee' where country = 'FR'"


def now() -> str:
    return format_time(dt.datetime.now(dt.UTC))


def source(name: str = "gate", environment: str = "production", datasource: str = "shop") -> Source:
    return Source.objects.create(
        name=name, format="gateway", environment=environment, datasource=datasource, token_hash=access.token_hash(name)
    )


def people() -> tuple[Viewer, Viewer, Viewer]:
    """Two of security and an administrator, without passwords: making those takes long."""
    return tuple(  # type: ignore[return-value]
        access.viewer_of(User.objects.create(email=email, role=role))
        for email, role in ((SEVERIN, "security"), (SIGRID, "security"), (ADA, "admin"))
    )


def database(**more: Any) -> dict[str, Any]:
    return {
        "name": "shop",
        "datasource": "shop",
        "environment": "production",
        "required": True,
        "host": "gw",
        "port": 6432,
    } | more


def live(session_id: str = "s-1", **more: Any) -> dict[str, Any]:
    return {
        "session_id": session_id, "actor": BOT, "on_behalf_of": DANA, "agent": {"id": "report-bot", "name": "report-bot"},
        "datasource": "shop", "environment": "production", "database": "shop", "account": "app", "client_ip": "10.0.0.7",
        "app": "psql", "started_at": now(), "statements": 3, "last_command": "SELECT", "state": "idle",
    } | more  # fmt: skip


def hold(request_id: str = "req-1", **more: Any) -> dict[str, Any]:
    statement = more.get("statement", SQL)
    return {
        "request_id": request_id, "digest": hashlib.sha256(statement.encode()).hexdigest(), "session_id": "s-1",
        "requested_by": "report-bot", "on_behalf_of": "dana", "agent": "report-bot", "datasource": "shop",
        "environment": "production", "database": "shop", "account": "app", "purpose": "clean up", "ticket": "OPS-42",
        "redacted": "update customers set name = $1 where country = $2", "statement": SQL,
        "effects": [{"verb": "update", "schema": "public", "relation": "customers", "columns": ["name"], "certainty": "exact"}],
        "estimated_rows": 120, "plan": "Update on customers", "rule": "bulk", "rule_version": 0,
        "sentence": "Bulk updates need an approval.", "in_transaction": False, "row_cap": 500,
    } | more  # fmt: skip


def exchange(**more: Any) -> dict[str, Any]:
    """One exchange of the gateway `gw` with the token `gate`; the answer. Fails the test where it is refused."""
    answer = post(**more)
    assert answer.status_code == 200, answer.content
    decoded: dict[str, Any] = answer.json()
    return decoded


def post(token: str = "gate", **more: Any) -> Any:
    message = {"gateway": "gw", "version": "1", "databases": [database()], "sessions": [live()]} | more
    return Client().post(
        "/api/v1/gateway/exchange",
        json.dumps(message),
        content_type="application/json",
        headers={"Authorization": f"Bearer {token}"},
    )
