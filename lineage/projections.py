"""From a leaf and its disclosed groups to the flat rows that questions are asked of. Pure, and derived: rebuilt at will.

`event_row` gives one row of `EVENTS`; `touch_rows` one row of `TOUCHES` for each relation × key. What the source
reported goes first; what the statement parser adds is marked `parsed`. Joins across events are in `lineage.joins`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
import pyarrow as pa

from lineage import statements
from lineage.events import key_text, parse_time
from lineage.statements import capture

VERSION = "4"
"""Raise it with every change of what is derived; `fsck` compares only what the same version made."""
TIME = pa.timestamp("us", tz="UTC")
TEXTS = pa.list_(pa.string())

EVENTS = pa.schema(
    [("index", pa.int64()), ("occurred_at", TIME), ("received_at", TIME), ("sequence", pa.int64())]
    + [
        (name, pa.string())
        for name in (
            "event_id kind class op command occurred_at_quality environment source source_format source_event_id "
            "correlation_id datasource database db_system actor_id actor_name actor_email actor_type db_user on_behalf_of "
            "on_behalf_of_name agent_id agent_name agent_version agent_run client_app client_ip client_host purpose ticket "
            "session_id db_session_id xid vid position outcome verdict relations_provenance error_code error_message "
            "statement statement_state redacted fingerprint key diff approval approval_request approval_state masked "
            "policy session_phase auth_method close_reason decision decision_type decision_subject decided_by state "
            "custody custody_type custody_subject delegation parameters emitted said"
        ).split()
    ]
    + [
        (name, pa.int64())
        for name in ("client_port", "rows_returned", "rows_affected", "bytes_returned", "duration_us")
    ]
    + [("opaque", pa.bool_())]
    + [
        (name, TEXTS)
        for name in (
            "roles flags relations columns keys key_columns policies masked_columns before_values after_values weakens"
        ).split()
    ]
)
TOUCHES = pa.schema(
    [("index", pa.int64()), ("occurred_at", TIME)]
    + [(n, pa.string()) for n in ("datasource", "relation", "key", "access", "touch_op", "provenance")]
    + [(n, TEXTS) for n in ("key_columns", "pairs", "touch_columns")]
)

ACCESS = {
    "read": "read", "export": "read", "insert": "wrote", "update": "wrote", "delete": "wrote", "truncate": "wrote",
    "import": "wrote", "ddl": "ddl", "privilege": "privilege", "procedural": "procedural",
}  # fmt: skip


def fields_of(leaf: bytes, groups: Iterable[bytes | None]) -> dict[str, Any]:
    """Leaf members and the fields of all disclosed groups as one flat dict of wire names."""
    fields: dict[str, Any] = msgspec.json.decode(leaf)
    for group in groups:
        if group is not None:
            fields.update(msgspec.json.decode(group))
    return fields


def _time(text: str | None) -> dt.datetime | None:
    return parse_time(text) if text else None


def _json(value: Any) -> str | None:
    return msgspec.json.encode(value).decode() if value else None


def _name(schema: str | None, relation: str | None) -> str | None:
    return f"{schema}.{relation}" if schema and relation else relation


def analysis(fields: Mapping[str, Any]) -> statements.Statement | None:
    """The parsed statement of a query event, or None where there is no whole text of a real statement."""
    text = (fields.get("statement") or {}).get("text")
    if fields.get("kind") != "query" or not text or fields.get("command") == "CONTEXT MESSAGE":
        return None
    if (fields.get("statement") or {}).get("state") == "truncated":
        return None
    return statements.analyse(text, tuple(p.get("value") for p in fields.get("parameters", ())))


def reported_relations(fields: Mapping[str, Any]) -> list[str]:
    """What the source itself named, schema-qualified where it said so."""
    named = [_name(r.get("schema"), r.get("relation")) for r in fields.get("resources", ())]
    return list(dict.fromkeys(n for n in named if n))


def event_row(index: int, fields: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """One row of `EVENTS` and the rows of `TOUCHES` for it."""
    parsed = analysis(fields)
    touches = list(touch_rows(index, fields, parsed))
    reported = reported_relations(fields)
    relations = reported or list(dict.fromkeys(t["relation"] for t in touches))
    row: dict[str, Any] = {"index": index}
    row |= _who(fields) | _where(fields) | _what(fields) | _images(fields) | _kinds(fields)
    row |= {
        "relations": relations,
        "relations_provenance": ("reported" if reported else "parsed") if relations else None,
        "columns": sorted({c for t in touches for c in t["touch_columns"]}),
        "keys": list(dict.fromkeys(t["key"] for t in touches if t["key"]))[:1000],
        "opaque": bool(parsed and parsed.opaque),
        "redacted": parsed.redacted if parsed else None,
        "fingerprint": (parsed.fingerprint if parsed else None) or (fields.get("statement") or {}).get("fingerprint"),
        "emitted": parsed.emitted_message if parsed else None,
        "said": _said(fields, parsed),
        "weakens": list(parsed.weakens if parsed else _told(fields.get("custody") or {})),
    }
    return row, touches


def _who(f: Mapping[str, Any]) -> dict[str, Any]:
    actor, agent, client = f.get("actor") or {}, f.get("agent") or {}, f.get("client") or {}
    principal = f.get("on_behalf_of") or {}
    return {
        "actor_id": actor.get("id") or actor.get("email"),
        "actor_name": actor.get("name"),
        "actor_email": actor.get("email"),
        "actor_type": actor.get("type"),
        "db_user": actor.get("db_user"),
        "roles": actor.get("roles", []),
        "on_behalf_of": principal.get("id") or principal.get("email") or principal.get("name"),
        "on_behalf_of_name": principal.get("name"),
        "delegation": _json(f.get("delegation")),
        "agent_id": agent.get("id") or agent.get("name"),
        "agent_name": agent.get("name") or agent.get("id"),
        "agent_version": agent.get("version"),
        "agent_run": agent.get("run_id"),
        "client_app": client.get("app"),
        "client_ip": client.get("ip"),
        "client_host": client.get("host"),
        "client_port": client.get("port"),
    }


def _told(custody: Mapping[str, Any]) -> tuple[str, ...]:
    """What the server's own line about a setting says of the capture."""
    if custody.get("type") != "alarm" or custody.get("subject") != "setting":
        return ()
    return capture.told_by_server(custody.get("detail") or "")


def _said(f: Mapping[str, Any], parsed: statements.Statement | None) -> str | None:
    """What a context message says, in one form for the claim and for the line that emitted it, to tell them apart."""
    if "claim" in f.get("flags", ()):
        actor, principal = f.get("actor") or {}, f.get("on_behalf_of") or {}
        return _one_form({**f, "actor": actor.get("id"), "on_behalf_of": principal.get("id")})
    if parsed is None or parsed.emitted_message is None:
        return None
    try:
        said = msgspec.json.decode(parsed.emitted_message)
    except (ValueError, RecursionError):
        return ""
    return _one_form(said) if isinstance(said, dict) else ""


def _one_form(said: Mapping[str, Any]) -> str:
    agent = said.get("agent")
    texts = [said.get(name) for name in ("actor", "on_behalf_of", "ticket", "purpose")]
    texts += [agent.get(name) for name in ("id", "name", "run_id")] if isinstance(agent, dict) else [None] * 3
    return msgspec.json.encode([str(text)[:256] if text else None for text in texts]).decode()


def _where(f: Mapping[str, Any]) -> dict[str, Any]:
    transaction, source = f.get("transaction") or {}, f.get("source") or {}
    same = (
        "event_id kind class sequence occurred_at_quality environment source_event_id correlation_id datasource database "
        "db_system purpose ticket session_id db_session_id"
    ).split()
    return {name: f.get(name) for name in same} | {
        "occurred_at": _time(f.get("occurred_at")) or _time(f.get("received_at")),
        "received_at": _time(f.get("received_at")),
        # The leaf's own name of the feed outlives the erasure of the group.
        "source": source.get("name") or f.get("source_id"),
        "source_format": source.get("format"),
        "xid": transaction.get("id"),
        "vid": transaction.get("vid"),
        "position": transaction.get("position"),
        "outcome": transaction.get("outcome"),
    }


def _what(f: Mapping[str, Any]) -> dict[str, Any]:
    rows, statement, error = f.get("rows") or {}, f.get("statement") or {}, f.get("error_code")
    policies = f.get("policy", ())
    return {
        "op": f.get("op"),
        "command": f.get("command"),
        "verdict": f.get("verdict"),
        "rows_returned": rows.get("returned"),
        "rows_affected": rows.get("affected"),
        "bytes_returned": f.get("bytes_returned"),
        "duration_us": f.get("duration_us"),
        "error_code": error,
        "error_message": f.get("error_message"),
        "flags": f.get("flags", []),
        "statement": statement.get("text"),
        "statement_state": statement.get("state"),
        "parameters": _json(f.get("parameters")),
        "policy": _json(policies),
        "policies": [text for p in policies for text in (p.get("id"), p.get("rule")) if text],
        "masked": _json(f.get("masked")),
        "masked_columns": (f.get("masked") or {}).get("columns", []),
    }


def _images(f: Mapping[str, Any]) -> dict[str, Any]:
    before, after, key = f.get("before", ()), f.get("after", ()), f.get("key", ())
    return {
        "key": key_text([v.get("value") for v in key]) if key else None,
        "key_columns": [v["column"] for v in key],
        "diff": _json(diff(before, after, f.get("op"))),
        "before_values": [f"{v['column']}={v['value']}" for v in before if v.get("value") is not None],
        "after_values": [f"{v['column']}={v['value']}" for v in after if v.get("value") is not None],
    }


def diff(
    before: Iterable[Mapping[str, Any]], after: Iterable[Mapping[str, Any]], op: str | None
) -> list[dict[str, Any]]:
    """One entry a column: state and value before and after, and whether they differ (None: cannot be told)."""
    old, new = {v["column"]: v for v in before}, {v["column"]: v for v in after}
    entries = []
    for column in dict.fromkeys([*new, *old]):
        was, now = old.get(column), new.get(column)
        absent_before = "absent" if op == "insert" else "unavailable"
        absent_after = "absent" if op in ("delete", "truncate") else "unavailable"
        state_before = was.get("state", "present") if was else absent_before
        state_after = now.get("state", "present") if now else absent_after
        entries.append(
            {
                "column": column,
                "state_before": state_before,
                "before": was.get("value") if was else None,
                "state_after": state_after,
                "after": now.get("value") if now else None,
                "changed": _changed(state_before, was, state_after, now),
            }
        )
    return entries


def _changed(
    state_before: str, was: Mapping[str, Any] | None, state_after: str, now: Mapping[str, Any] | None
) -> bool | None:
    if "unchanged" in (state_before, state_after):
        return False
    if "unavailable" in (state_before, state_after):
        return None
    return (state_before, was and was.get("value")) != (state_after, now and now.get("value"))


def _kinds(f: Mapping[str, Any]) -> dict[str, Any]:
    session, decision, custody = f.get("session") or {}, f.get("decision") or {}, f.get("custody") or {}
    approval = f.get("approval") or {}
    return {
        "session_phase": session.get("phase"),
        "auth_method": session.get("auth_method"),
        "close_reason": session.get("close_reason"),
        "decision": _json(decision),
        "decision_type": decision.get("type"),
        "decision_subject": decision.get("subject"),
        "decided_by": decision.get("decided_by"),
        "approval": _json(approval),
        "approval_request": approval.get("request_id"),
        "approval_state": approval.get("state"),
        "state": _json(f.get("state")),
        "custody": _json(custody),
        "custody_type": custody.get("type"),
        "custody_subject": custody.get("subject"),
    }


def touch_rows(index: int, f: Mapping[str, Any], parsed: statements.Statement | None) -> Iterator[dict[str, Any]]:
    """Rows of `TOUCHES`: from row images for changes, from parsed effects within the reported relations for queries."""
    base = {
        "index": index,
        "occurred_at": _time(f.get("occurred_at")) or _time(f.get("received_at")),
        "datasource": f.get("datasource"),
    }
    reported = reported_relations(f)
    if f.get("kind") == "change":
        yield from _change_touches(base, f, reported)
        return
    if f.get("kind") != "query" or f.get("command") == "CONTEXT MESSAGE":
        return
    told = list(_told_touches(f.get("effects", ())))
    yield from (base | row for row in told)
    seen = {row["relation"] for row in told}
    known = {(row["relation"], row["touch_op"]) for row in told}
    for effect in parsed.effects if parsed else ():
        relation = _resolve(effect.schema, effect.relation, reported)
        if relation is None or (relation, effect.verb) in known:
            continue
        seen.add(relation)
        for pairs in effect.keys or ((),):
            yield base | {
                "relation": relation,
                "key": key_text([value for _, value in pairs]) if pairs else None,
                "key_columns": [column for column, _ in pairs],
                "pairs": [f"{column}={value}" for column, value in pairs],
                "touch_columns": list(effect.columns),
                "access": ACCESS.get(effect.verb, "procedural"),
                "touch_op": effect.verb,
                "provenance": "parsed",
            }
    for relation in reported:
        if relation not in seen:
            access = ACCESS.get(f.get("op") or "", "procedural")
            nothing: dict[str, Any] = {"key": None, "key_columns": [], "pairs": [], "touch_columns": []}
            yield base | nothing | {
                "relation": relation, "access": access, "touch_op": f.get("op"), "provenance": "reported",
            }  # fmt: skip


def _told_touches(effects: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows that the source itself says were met: a gateway knows the keys in a result."""
    for effect in effects:
        relation = _name(effect.get("schema"), effect.get("relation"))
        for key in effect.get("keys", ()) if relation else ():
            yield {
                "relation": relation,
                "key": key_text([v.get("value") for v in key]),
                "key_columns": [v["column"] for v in key],
                "pairs": [f"{v['column']}={v.get('value')}" for v in key],
                "touch_columns": list(effect.get("columns", ())),
                "access": ACCESS.get(effect["verb"], "procedural"),
                "touch_op": effect["verb"],
                "provenance": "reported",
            }


def _change_touches(base: dict[str, Any], f: Mapping[str, Any], reported: list[str]) -> Iterator[dict[str, Any]]:
    for relation in reported:
        for key in [f.get("key", ()), *([f["old_key"]] if f.get("old_key") else [])]:
            yield base | {
                "relation": relation,
                "key": key_text([v.get("value") for v in key]) if key else None,
                "key_columns": [v["column"] for v in key],
                "pairs": [f"{v['column']}={v.get('value')}" for v in key],
                "touch_columns": list(f.get("changed_columns", ())),
                "access": "snapshot" if f.get("op") == "snapshot" else "changed",
                "touch_op": f.get("op"),
                "provenance": "reported",
            }


def _resolve(schema: str | None, relation: str | None, reported: list[str]) -> str | None:
    """The relation's full name; None where the source reported relations and this is not one of them."""
    if not relation:
        return None
    name = _name(schema, relation) or relation
    if not reported or name in reported:
        return name
    return next((r for r in reported if schema is None and r.rpartition(".")[2] == relation), None)


def tables(rows: Iterable[tuple[int, bytes, Iterable[bytes | None]]]) -> tuple[pa.Table, pa.Table]:
    """The Arrow tables `EVENTS` and `TOUCHES` of (index, leaf, groups) rows."""
    events: list[dict[str, Any]] = []
    touches: list[dict[str, Any]] = []
    for index, leaf, groups in rows:
        event, its_touches = event_row(index, fields_of(leaf, groups))
        events.append(event)
        touches += its_touches
    return pa.Table.from_pylist(events, schema=EVENTS), pa.Table.from_pylist(touches, schema=TOUCHES)
