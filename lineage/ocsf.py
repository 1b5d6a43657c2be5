"""Records as OCSF 1.8.0 events, one for one (docs/ocsf.md). Pure.

Accesses are Datastore Activity (6005), sessions Authentication (3002), everything else the Base Event (0). What OCSF has no
attribute for is in `unmapped.touchstone`; nothing of the record is left out.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Mapping
from typing import Any

from lineage.events import format_time

VERSION = "1.8.0"
Row = Mapping[str, Any]
BASE, AUTHENTICATION, DATASTORE = (0, "base_event"), (3002, "authentication"), (6005, "datastore_activity")
ACTIVITIES = {
    "read": 1,
    "export": 1,
    "snapshot": 1,
    "update": 2,
    "procedural": 4,
    "insert": 5,
    "import": 5,
    "delete": 7,
    "truncate": 7,
}
OTHER = 99
DDL = {"CREATE": 6, "DROP": 7, "ALTER": 2}
PHASES = {"start": 1, "end": 2, "failed": 1}
USERS = {"human": 1, "system": 3, "service": 4}
STATUSES = {"allowed": 1, "masked": 1, "approved": 1, "blocked": 2, "error": 2}
ACTIONS = {"allowed": 1, "approved": 1, "error": 1, "masked": 4, "blocked": 2}
DISPOSITIONS = {"allowed": 1, "masked": 1, "approved": 8, "blocked": 2, "error": 27}
SEVERITIES = {"blocked": 3, "error": 2}
INFORMATIONAL = 1
DATABASES = {"postgresql": 1, "mysql": 1, "mariadb": 1, "sqlserver": 1, "oracle": 1, "mongodb": 6}
MAPPED = frozenset({
    "event_id", "occurred_at", "received_at", "environment", "source", "correlation_id", "who_id", "who_name", "client_app",
    "client_ip", "session", "database", "duration_us", "error_code", "error_message", "statement", "fingerprint",
    "on_behalf_of", "purpose", "ticket", "agent_name",
})  # fmt: skip
"""What has an attribute of its own; the rest of a record is told as it is."""


def event(row: Row) -> dict[str, Any]:
    """One OCSF event of one record as `queries.events` gives it; nothing that is unknown is told as null."""
    kind, name = _class(row)
    activity = _activity(row, kind)
    at = row.get("occurred_at") or row["received_at"]
    verdict = row.get("verdict") or ""
    common = {
        "class_uid": kind, "category_uid": kind // 1000, "activity_id": activity, "type_uid": kind * 100 + activity,
        "activity_name": str(row.get("op") or row["kind"]) if activity == OTHER else None,
        "severity_id": SEVERITIES.get(verdict, INFORMATIONAL), "time": _ms(at), "time_dt": format_time(at),
        "status_id": STATUSES.get(verdict, 0) if verdict else None, "status_code": row.get("error_code"),
        "status_detail": row.get("error_message"), "message": _message(row) if name == BASE[1] else None,
        "metadata": _metadata(row, name), "enrichments": _enrichments(row), "unmapped": {"touchstone": _rest(row)},
        "duration": row["duration_us"] // 1000 if row.get("duration_us") is not None else None,
    }  # fmt: skip
    more = _datastore(row) if name == DATASTORE[1] else _authentication(row) if name == AUTHENTICATION[1] else {}
    whole: dict[str, Any] = _known(common | more)
    return whole


def _class(row: Row) -> tuple[int, str]:
    if row["kind"] in ("query", "change"):
        return DATASTORE
    return AUTHENTICATION if row["kind"] == "session" else BASE


def _activity(row: Row, kind: int) -> int:
    if kind == AUTHENTICATION[0]:
        return PHASES.get(row.get("session_phase") or "", OTHER)
    if kind == BASE[0]:
        return OTHER
    if row.get("op") == "ddl":
        return DDL.get((row.get("command") or "").split(" ")[0].upper(), OTHER)
    return ACTIVITIES.get(row.get("op") or "", OTHER)


def _message(row: Row) -> str:
    about = row.get("decision") or row.get("custody") or {}
    told = [row["kind"], about.get("type"), about.get("subject"), about.get("transition")]
    return " · ".join(str(part) for part in told if part)


def _metadata(row: Row, name: str) -> dict[str, Any]:
    return {
        "version": VERSION,
        "profiles": ["datetime", "security_control"] if name == DATASTORE[1] else ["datetime"],
        "product": {"name": "Touchstone", "vendor_name": "Touchstone"},
        "uid": row["event_id"],
        "correlation_uid": row.get("correlation_id"),
        "log_name": row.get("source"),
        "logged_time": _ms(row["received_at"]),
        "labels": [f"environment:{row['environment']}"] if row.get("environment") else None,
        "is_truncated": True if row.get("statement_state") == "truncated" else None,
    }


def _user(row: Row) -> dict[str, Any]:
    who = row.get("who_id")
    kind = USERS.get(row.get("who_type") or "", OTHER if row.get("who_type") == "agent" else 0)
    return {
        "uid": who, "name": row.get("who_name") or who or "unknown", "type_id": kind,
        "type": "AI agent" if kind == OTHER else None, "email_addr": who if who and "@" in who[1:-1] else None,
    }  # fmt: skip


def _datastore(row: Row) -> dict[str, Any]:
    verdict, relations = row.get("verdict") or "", row.get("relations") or []
    rules = [rule for rule in (_policy(p) for p in row.get("policy") or []) if _known(rule)]
    approval = row.get("approval") or {}
    decision = approval.get("state")
    decided = [_known({"decision": decision, "policy": rules[0] if rules else None})] if decision else None
    statement = row.get("statement")
    return {
        "action_id": ACTIONS.get(verdict, 0), "disposition_id": DISPOSITIONS.get(verdict, 0),
        "actor": {"user": _user(row), "session": {"uid": row.get("session")}, "app_name": row.get("client_app")},
        "src_endpoint": _endpoint(row.get("client_ip")), "dst_endpoint": {"svc_name": row.get("datasource") or "unknown"},
        "database": {
            "type_id": DATABASES.get(row.get("db_system") or "", 0),
            "name": row.get("database") or row.get("datasource") or "unknown",
        },
        "table": {"name": relations[0], "uid": f"{row.get('datasource')}/{relations[0]}"} if relations else None,
        "query_info": {"query_string": statement, "uid": row.get("fingerprint") or "none"} if statement else None,
        "policy": rules[0] if rules else None, "authorizations": decided,
    }  # fmt: skip


def _authentication(row: Row) -> dict[str, Any]:
    return {
        "user": _user(row), "session": {"uid": row.get("session")}, "src_endpoint": _endpoint(row.get("client_ip")),
        "dst_endpoint": {"svc_name": row.get("datasource") or "unknown"}, "service": {"name": row.get("datasource") or "unknown"},
    }  # fmt: skip


def _policy(rule: Mapping[str, Any]) -> dict[str, Any]:
    return {"uid": rule.get("id"), "version": rule.get("version"), "name": rule.get("rule") or rule.get("id")}


def _endpoint(address: str | None) -> dict[str, Any]:
    try:
        return {"ip": str(ipaddress.ip_address(address or ""))}
    except ValueError:
        return {"name": address or "unknown"}


def _enrichments(row: Row) -> list[dict[str, Any]] | None:
    """For whom, through which agent and why: OCSF has no attributes for these."""
    how = {"attribution": row.get("attribution") or "none"}
    agent = {**how, "id": row.get("agent_id"), "run_id": row.get("agent_run")}
    told = (("on_behalf_of", how), ("agent_name", agent), ("purpose", how), ("ticket", how))
    return [
        {"name": name, "value": str(row[name]), "data": _known(more)} for name, more in told if row.get(name)
    ] or None


def _rest(row: Row) -> dict[str, Any]:
    rest = {name: value for name, value in row.items() if name not in MAPPED}
    if row.get("occurred_at") is None:
        rest["time_is_received"] = True
    told: dict[str, Any] = _known(_plain(rest))
    return told


def _plain(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return format_time(value)
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def _known(value: Any) -> Any:
    """The value without what is unknown: OCSF refuses null and takes an empty object for a claim."""
    if not isinstance(value, dict):
        return value
    inner = {name: _known(part) for name, part in value.items()}
    return {name: part for name, part in inner.items() if part is not None and part not in ({}, [])}


def _ms(at: dt.datetime) -> int:
    return int(at.timestamp() * 1000)
