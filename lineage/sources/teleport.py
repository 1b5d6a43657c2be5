"""Teleport audit events -> sessions and statements of databases, access requests, rights (docs/sources/teleport.md)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lineage.events import (
    CLASS_OF_OP,
    Actor,
    Approval,
    Client,
    Decision,
    ErrorCode,
    Event,
    Origin,
    Quarantined,
    Resource,
    Rows,
    Session,
    Skipped,
)
from lineage.sources import feed, members
from lineage.sources.feed import Item, JsonRefused, short
from lineage.sources.members import Members

KINDS = {1: "human", 2: "service", 3: "system"}
REQUESTS = {
    "access_request.create": "requested", "access_request.update": None, "access_request.review": None,
    "access_request.delete": "revoked", "access_request.expire": "expired",
}  # fmt: skip
STATES = {
    "PENDING": "requested",
    "APPROVED": "approved",
    "DENIED": "rejected",
    "PROMOTED": "approved",
    "EXPIRED": "expired",
}
RIGHTS = {
    "db.session.permissions.update": "grant", "db.session.user.create": "grant", "db.session.user.deactivate": "revoke",
}  # fmt: skip
SPOKEN = {
    "db.session.postgres.statements.parse": "PARSE", "db.session.postgres.statements.bind": "BIND",
    "db.session.postgres.statements.close": "CLOSE", "db.session.mysql.statements.prepare": "PREPARE",
    "db.session.mysql.statements.close": "CLOSE", "db.session.mysql.statements.reset": "RESET",
    "db.session.mysql.statements.send_long_data": "SEND LONG DATA", "db.session.mysql.statements.fetch": "FETCH",
    "db.session.mysql.init_db": "INIT DB", "db.session.mysql.refresh": "REFRESH", "db.session.mysql.debug": "DEBUG",
    "db.session.mysql.process_kill": "KILL", "db.session.mysql.shut_down": "SHUTDOWN", "db.session.result": "RESULT",
    "db.session.malformed_packet": "MALFORMED PACKET",
}  # fmt: skip
"""Messages that touch no data by themselves."""
RUN = {
    "db.session.postgres.statements.execute": "EXECUTE", "db.session.mysql.statements.execute": "EXECUTE",
    "db.session.mysql.statements.bulk_execute": "EXECUTE", "db.session.cassandra.execute": "EXECUTE",
    "db.session.postgres.function": "FUNCTION CALL", "db.session.sqlserver.rpc_request": "RPC",
    "db.session.spanner.rpc": "RPC", "db.session.cassandra.batch": "BATCH", "db.session.dynamodb.request": "REQUEST",
    "db.session.elasticsearch.request": "REQUEST", "db.session.opensearch.request": "REQUEST",
}  # fmt: skip
"""What runs something whose text stands in an earlier event or nowhere."""
REFUSED = ("access to db denied", "access to database denied", "access denied")
_ADDRESS = re.compile(r"\[?([^\[\]]{1,100}?)\]?:(\d{1,5})")


def parse(body: bytes, **options: Any) -> Iterator[Event | Quarantined | Skipped]:
    """One output for each audit event of a feed, array or NDJSON, or for one. Options: `feed`. Never raises.

    A statement that was prepared is read with its text and values where their events stand before it in the same body.
    """
    prepared = Prepared()
    for item in feed.object_items(body, bool(options.get("feed"))):
        yield event(item, prepared) if isinstance(item, Item) else item


class Prepared:
    """Texts of prepared statements and values of portals, by session and name, as one body tells them."""

    def __init__(self) -> None:
        self.texts: dict[tuple[str, str], str] = {}
        self.portals: dict[tuple[str, str], tuple[str, Any]] = {}

    def look(self, said: Members) -> None:
        session, name = said.text("sid") or "", said.text("statement_name") or ""
        if said.text("event") == "db.session.postgres.statements.parse":
            self.texts[session, name] = said.text("query") or ""
        if said.text("event") == "db.session.postgres.statements.bind":
            text = self.texts.get((session, name), "")
            self.portals[session, said.text("portal_name") or ""] = text, said.said.get("parameters")

    def of(self, said: Members) -> tuple[str, Any]:
        if said.text("event") != "db.session.postgres.statements.execute":
            return "", None
        return self.portals.get((said.text("sid") or "", said.text("portal_name") or ""), ("", None))


def event(item: Item, prepared: Prepared) -> Event | Quarantined | Skipped:
    """The one output of one audit event."""
    try:
        said, sha256, flags = members.object_of(item, "teleport")
        name = said.text("event")
        if name is None or not said.text("uid"):
            raise JsonRefused("teleport", "a Teleport audit event has event, code, uid and time")
        make = _maker(name)
        if make is None:
            return item.skipped("an audit event that is not about a database or an access request")
        prepared.look(said)
        parts, more = make(said, name, prepared)
        return Event(flags=(*flags, *more), **{**_envelope(said, name, item, sha256), **parts})
    except JsonRefused as refusal:
        return item.quarantined(refusal.code, refusal.reason)


def _maker(name: str) -> Any:
    if name in ("db.session.start", "db.session.end"):
        return _session
    if name in REQUESTS:
        return _request
    if name in RIGHTS:
        return _right
    return (
        _statement
        if name in SPOKEN or name in RUN or name.startswith(("db.session.query", "db.session.mysql."))
        else None
    )


def _envelope(said: Members, name: str, item: Item, sha256: str) -> dict[str, Any]:
    """What all kinds share: who, from where, on which database, when."""
    occurred_at = said.time("time")
    identity = "/".join(str(said.text(part) or "") for part in ("uid", "event", "code", "ei"))
    if len(identity) > feed.NAME_LIMIT:
        raise JsonRefused("teleport", "the event's identity is too long")
    protocol = said.name("db_protocol")
    return {
        **_who(said),
        "sequence": item.sequence,
        "source_event_id": identity,
        "occurred_at": occurred_at,
        "occurred_at_quality": "source" if occurred_at else "unknown",
        "client": _client(said),
        "datasource": said.name("db_service"),
        "db_system": members.SYSTEMS.get(protocol or "", protocol),
        "database": said.name("db_name"),
        "session_id": said.name("sid"),
        "approval": _ridden(said),
        "origin": Origin(sha256=sha256, position=item.position),
    }


def _who(said: Members) -> dict[str, Any]:
    """Who acted, and for whom where one user used another's certificate (RFC 8693: the impersonator is the actor)."""
    user, acting = said.text("user"), said.text("impersonator")
    kind: Any = KINDS.get(said.number("user_kind") or 0)
    roles = (*said.names("user_roles"), *(f"database:{role}"[: feed.NAME_LIMIT] for role in said.names("db_roles")))
    shown = members.person(acting or user, None if acting else kind)
    actor = Actor(
        id=shown.id if shown else None,
        name=said.name("bot_name") or (shown.id if shown else None),
        email=shown.email if shown else None,
        type=shown.type if shown else None,
        db_user=said.name("db_user"),
        roles=roles,
    )
    return {"actor": actor, "on_behalf_of": members.person(user, kind) if acting else None}


def _client(said: Members) -> Client | None:
    address, device = _ADDRESS.fullmatch(said.text("addr.remote") or ""), said.part("trusted_device")
    found = Client(
        app=said.name("user_agent"),
        ip=address[1] if address else None,
        port=int(address[2]) if address else None,
        host=device.name("asset_tag", "device_id"),
    )
    return found if found != Client() else None


def _ridden(said: Members) -> Approval | None:
    """The access request by which the user holds their role; its decision is a record of its own."""
    requests = said.names("access_requests")
    return Approval(request_id=requests[0]) if requests else None


def _outcome(said: Members, refused: bool = False) -> dict[str, Any]:
    """Verdict and error of what may have failed."""
    message = said.text("error", "message")
    failed = refused or said.flag("success") is False or (said.text("code") or "").endswith(("W", "E"))
    if not failed:
        return {"verdict": "allowed"}
    denied = refused or (message or "").startswith(REFUSED)
    return {"verdict": "blocked" if denied else "error", "error": ErrorCode(message=message) if message else None}


def _session(said: Members, name: str, _: Prepared) -> tuple[dict[str, Any], tuple[str, ...]]:
    phase: Any = "end" if name == "db.session.end" else "start"
    outcome = _outcome(said, refused=(said.text("code") or "").endswith("W"))
    if outcome["verdict"] != "allowed":
        phase = "failed"
    session = Session(
        phase=phase,
        auth_method="teleport",
        mfa=True if said.text("with_mfa") else None,
        started_at=said.time("session_start") or (said.time("time") if phase == "start" else None),
        ended_at=said.time("session_stop") or (said.time("time") if phase == "end" else None),
    )
    process = said.number("postgres_pid")
    return {
        **outcome, "kind": "session", "class_": "session", "op": "session", "session": session,
        "db_session_id": f"pid:{process}" if process else None,
    }, ()  # fmt: skip


def _statement(said: Members, name: str, prepared: Prepared) -> tuple[dict[str, Any], tuple[str, ...]]:
    outcome = _outcome(said, refused=(said.text("code") or "").endswith("W") and name.endswith("rpc"))
    if name.endswith("_db") and name.startswith("db.session.mysql.") and name != "db.session.mysql.init_db":
        schema = Resource(schema=said.name("schema_name"), kind="schema", access="ddl")
        command = "CREATE DATABASE" if "create" in name else "DROP DATABASE"
        return {
            **outcome,
            "kind": "query",
            "class_": "ddl",
            "op": "ddl",
            "command": command,
            "resources": (schema,),
        }, ()
    bound, values = prepared.of(said)
    text = bound or said.text("db_query", "query") or said.part("args").text("sql")
    read, flags = members.statement(text)
    values = next((v for v in (values, *map(said.said.get, VALUES)) if isinstance(v, list)), None)
    parts = {**outcome, "kind": "query", **read, "parameters": members.parameters(values), "rows": _rows(said)}
    if name in SPOKEN:
        parts |= {"op": "other", "command": SPOKEN[name]}
        flags = (*flags, "nonconforming") if name == "db.session.malformed_packet" else flags
    elif name in RUN and not bound:
        parts |= {"command": parts.get("command") or RUN[name]}
        flags = flags if text or name not in PREPARED else (*flags, "previously_logged")
    return {**parts, "class_": CLASS_OF_OP[parts["op"]], "correlation_id": _correlation(said)}, flags


VALUES = ("db_query_parameters", "parameters", "function_args")
PREPARED = frozenset(n for n, command in RUN.items() if command == "EXECUTE")


def _rows(said: Members) -> Rows | None:
    affected, returned = said.number("affected_records"), said.number("rows_count")
    return Rows(affected=affected, returned=returned) if affected is not None or returned is not None else None


def _correlation(said: Members) -> str | None:
    name = said.text("statement_name", "statement_id", "query_id")
    return short(f"{said.text('sid') or ''}/{name}") if name else None


def _request(said: Members, name: str, _: Prepared) -> tuple[dict[str, Any], tuple[str, ...]]:
    told = said.text("state", "proposed_state")
    state: Any = REQUESTS[name] or STATES.get((told or "").upper())
    decider = said.name("reviewer", "updated_by", "delegator") if name != "access_request.create" else None
    request = said.name("id")
    approval = Approval(
        request_id=request,
        state=state,
        approvers=(decider,) if decider and state in ("approved", "rejected") else (),
        requested_by=said.name("user") if name == "access_request.create" else None,
        decided_at=said.time("time") if state in ("approved", "rejected", "revoked", "expired") else None,
        reason=(said.text("reason") or "")[:1024] or None,
    )
    decision = Decision(
        type="access_request" if name == "access_request.create" else "approval",
        subject=short(f"roles {', '.join(said.names('roles'))}") if said.names("roles") else request,
        transition=short((told or name.rpartition(".")[2]).lower()),
        decided_by=decider,
        requested_by=approval.requested_by,
    )
    return {"kind": "decision", "class_": "decision", "approval": approval, "decision": decision}, ()


def _right(said: Members, name: str, _: Prepared) -> tuple[dict[str, Any], tuple[str, ...]]:
    summary = ", ".join(filter(None, (p.text("permission") for p in said.parts("permission_summary"))))
    kind: Any = RIGHTS[name]
    account = said.name("username", "db_user")
    decision = Decision(
        type=kind,
        subject=account,
        transition=short(summary or f"account {'deleted' if said.flag('delete') else name.rpartition('.')[2] + 'd'}"),
        decided_by=said.name("user"),
    )
    return {**_outcome(said), "kind": "decision", "class_": "decision", "decision": decision}, ()
