"""Rows of `EVENTS`, made column by column from what the records say and what the parser finds in their statements."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any

import msgspec
import pyarrow as pa

from lineage import statements
from lineage.events import key_text
from lineage.projections import arrays, fields, images, touches
from lineage.projections.fields import ActionGroup, ActorGroup, ChangeGroup, Head, Read, Row, StatementGroup
from lineage.projections.schema import EVENTS
from lineage.projections.touches import Touch
from lineage.statements import Statement, capture

Columns = dict[str, Any]
"""By name: a value for each record, or None where no record has one."""
MOST_KEYS = 1000
NOT_TOLD = (b"{}", b"[]")
_HEADS = ("event_id", "kind", "class_", "sequence")
_ACTIONS = (
    "occurred_at_quality", "environment", "source_event_id", "correlation_id", "datasource", "database", "db_system",
    "purpose", "ticket", "session_id", "db_session_id", "op", "command", "verdict", "bytes_returned", "duration_us",
    "error_code", "flags",
)  # fmt: skip
_ACTORS = {
    "actor_id": "id_or_email", "actor_name": "name", "actor_email": "email", "actor_type": "type", "db_user": "db_user",
    "roles": "roles",
}  # fmt: skip
_PRINCIPALS = {"on_behalf_of": "known_as", "on_behalf_of_name": "name"}
_AGENTS = {
    "agent_id": "id_or_name", "agent_name": "name_or_id", "agent_version": "version", "agent_run": "run_id",
}  # fmt: skip
_CLIENTS = {"client_app": "app", "client_ip": "ip", "client_host": "host", "client_port": "port"}
_TRANSACTIONS = {"xid": "id", "vid": "vid", "position": "position", "outcome": "outcome"}
_ROWS = {"rows_returned": "returned", "rows_affected": "affected"}
_SESSIONS = {"session_phase": "phase", "auth_method": "auth_method", "close_reason": "close_reason"}
_STATEMENTS = {"statement": "text", "statement_state": "state"}
_DECISIONS = {"decision_type": "type", "decision_subject": "subject", "decided_by": "decided_by"}
_APPROVALS = {"approval_request": "request_id", "approval_state": "state"}
_CUSTODY = {"custody_type": "type", "custody_subject": "subject"}


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Python's collector would walk again and again through what is being made, and find nothing to collect."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@_uncollected()
def tables(rows: Iterable[Row]) -> tuple[pa.Table, pa.Table]:
    """The Arrow tables `EVENTS` and `TOUCHES` of (index, leaf, groups) rows.

    Raises msgspec.DecodeError where leaf or group is not what `lineage.commitment` writes.
    """
    found = fields.read(rows)
    parsed = [analysed(*each) for each in zip(found.heads, found.actions, found.statements, strict=True)]
    reported = [touches.reported(action.resources) if action.resources else () for action in found.actions]
    touched = [
        _touches(*each) for each in zip(found.heads, found.actions, found.changes, parsed, reported, strict=True)
    ]
    columns = _as_told(found) | _when(found) | _kept(found) | _changed(found)
    columns |= _parsed(found, parsed) | _gathered(reported, touched)
    count = len(found.indexes)
    made = {name: _array(column, EVENTS.field(name).type, count) for name, column in columns.items()}
    places = [place for place, own in enumerate(touched) for _ in own]
    events = pa.Table.from_arrays([made[name] for name in EVENTS.names], schema=EVENTS)
    return events, touches.table(places, list(chain.from_iterable(touched)), made)


def analysed(head: Head, action: ActionGroup, held: StatementGroup) -> Statement | None:
    """The parsed statement of a query event, or None where there is no whole text of a real statement."""
    statement = held.statement
    if not statement.text or head.kind != "query" or action.command == "CONTEXT MESSAGE":
        return None
    if statement.state == "truncated":
        return None
    values = tuple(p.value for p in _parameters(held.parameters)) if held.parameters else ()
    return statements.analyse(statement.text, values)


def _array(column: Any, type_: pa.DataType, count: int) -> pa.Array:
    if isinstance(column, pa.Array):
        return column
    if pa.types.is_list(type_):
        return arrays.lists([()] * count if column is None else column)
    return pa.nulls(count, type_) if column is None else arrays.same(column, type_)


def _as_told(found: Read) -> Columns:
    actors, actions = found.actors, found.actions
    return (
        {"index": found.indexes, "error_message": [held.error_message for held in found.statements]}
        | _each(found.heads, {name.rstrip("_"): name for name in _HEADS})
        | _each(actions, {name: name for name in _ACTIONS})
        | _within([group.actor for group in actors], _ACTORS)
        | _within([group.on_behalf_of for group in actors], _PRINCIPALS)
        | _within([group.agent for group in actors], _AGENTS)
        | _within([group.client for group in actors], _CLIENTS)
        | _within([group.transaction for group in actions], _TRANSACTIONS)
        | _within([group.rows for group in actions], _ROWS)
        | _within([group.session for group in actions], _SESSIONS)
        | _within([group.statement for group in found.statements], _STATEMENTS)
    )


def _each(parts: Sequence[Any], names: Mapping[str, str]) -> Columns:
    """The members of these parts, by the names of their columns."""
    if not parts:
        return dict.fromkeys(names)
    read = attrgetter(*names.values())
    members = zip(*map(read, parts), strict=True) if len(names) > 1 else [list(map(read, parts))]
    return dict(zip(names, members, strict=True))


def _within(parts: list[Any], names: Mapping[str, str]) -> Columns:
    """The same of parts that mostly say nothing: where none does, no column is looked at."""
    return _each(parts, names) if _any(parts) else dict.fromkeys(names)


def _any(parts: list[Any]) -> bool:
    """Whether any of these says something; those that do not are all one and the same default."""
    first = parts[0] if parts else None
    # Those that are one and the same are not compared member by member.
    return first is not None and (first != type(first)() or parts.count(first) < len(parts))


def _when(found: Read) -> Columns:
    occurred = [head.occurred_at or head.received_at for head in found.heads]
    return {
        "occurred_at": arrays.times(occurred),
        "received_at": arrays.times([head.received_at for head in found.heads]),
        # The leaf's own name of the feed outlives the erasure of the group.
        "source": [a.source.name or head.source_id for a, head in zip(found.actions, found.heads, strict=True)],
        "source_format": [action.source.format for action in found.actions],
    }


def _kept(found: Read) -> Columns:
    """Members that stay as their group has them, which is in canonical form, with what columns show of them."""
    actors, actions = found.actors, found.actions
    policies = [group.policy for group in actions]
    columns = {
        "delegation": _texts([group.delegation for group in actors]),
        "state": _texts([group.state for group in actions]),
        "parameters": _texts([group.parameters for group in found.statements]),
        "policy": _texts(policies),
        "policies": [_policies(raw) if raw else () for raw in policies] if _any(policies) else None,
    }
    columns |= _opened("decision", [group.decision for group in actors], fields.Decision(), _DECISIONS)
    columns |= _opened("approval", [group.approval for group in actions], fields.Approval(), _APPROVALS)
    columns |= _opened("custody", [group.custody for group in actions], fields.Custody(), _CUSTODY)
    return columns | _opened(
        "masked", [group.masked for group in actions], fields.Masked(), {"masked_columns": "columns"}
    )


def _texts(raws: list[msgspec.Raw]) -> list[str | None] | None:
    return [_text(bytes(raw)) if raw else None for raw in raws] if _any(raws) else None


def _text(data: bytes) -> str | None:
    return None if data in NOT_TOLD else data.decode()


def _policies(raw: msgspec.Raw) -> list[str]:
    return [text for policy in _read_policies(raw) for text in (policy.id, policy.rule) if text]


def _opened(name: str, raws: list[msgspec.Raw], nothing: Any, names: Mapping[str, str]) -> Columns:
    """The members as text, and what of them stands in columns of its own."""
    if not _any(raws):
        return dict.fromkeys([name, *names])
    read = msgspec.json.Decoder(type(nothing)).decode
    return {name: _texts(raws)} | _each([read(raw) if raw else nothing for raw in raws], names)


def _changed(found: Read) -> Columns:
    changes = found.changes
    if not _any(changes):
        return dict.fromkeys(("key", "key_columns", "diff", "before_values", "after_values"))
    return {
        "key": [key_text([v.value for v in change.key]) if change.key else None for change in changes],
        "key_columns": [[v.column for v in change.key] for change in changes],
        "diff": [images.diff(c.before, c.after, action.op) for c, action in zip(changes, found.actions, strict=True)],
        "before_values": [images.told(change.before) for change in changes],
        "after_values": [images.told(change.after) for change in changes],
    }


def _parsed(found: Read, parsed: Sequence[Statement | None]) -> Columns:
    reported = [held.statement.fingerprint for held in found.statements]
    weakens = [one.weakens if one else _weakened(a.custody) for one, a in zip(parsed, found.actions, strict=True)]
    return {
        "opaque": [one is not None and one.opaque for one in parsed],
        "redacted": [one and one.redacted for one in parsed],
        "fingerprint": [(one and one.fingerprint) or told for one, told in zip(parsed, reported, strict=True)],
        "emitted": [one and one.emitted_message for one in parsed],
        "said": [
            _said(who, action, one) if action.flags or (one and one.emitted_message is not None) else None
            for who, action, one in zip(found.actors, found.actions, parsed, strict=True)
        ],
        "weakens": weakens if any(weakens) else None,
    }


def _weakened(raw: msgspec.Raw) -> tuple[str, ...]:
    """What the server's own line about a setting says of the capture."""
    custody = _read_custody(raw) if raw else None
    if custody is None or custody.type != "alarm" or custody.subject != "setting":
        return ()
    return capture.told_by_server(custody.detail or "")


def _touches(
    head: Head, action: ActionGroup, change: ChangeGroup, parsed: Statement | None, reported: Sequence[str]
) -> Sequence[Touch]:
    if head.kind == "change":
        return touches.of_change(action, change, reported)
    if head.kind == "query" and action.command != "CONTEXT MESSAGE":
        return touches.of_query(action, change.effects, parsed, reported)
    return ()


def _gathered(reported: Sequence[Sequence[str]], touched: Sequence[Sequence[Touch]]) -> Columns:
    """What the touches of each record say of it as a whole."""
    relations = [told or _distinct([touch[0] for touch in own]) for told, own in zip(reported, touched, strict=True)]
    provenances = [
        ("reported" if told else "parsed") if named else None for told, named in zip(reported, relations, strict=True)
    ]
    return {
        "relations": relations,
        "relations_provenance": provenances,
        "columns": [sorted({column for touch in own for column in touch[7]}) for own in touched],
        "keys": [_distinct([touch[1] for touch in own if touch[1]])[:MOST_KEYS] for own in touched],
    }


def _distinct(names: list[str]) -> list[str]:
    return names if len(names) < 2 else list(dict.fromkeys(names))


def _said(who: ActorGroup, action: ActionGroup, parsed: Statement | None) -> str | None:
    """What a context message says, in one form for the claim and for the line that emitted it, to tell them apart."""
    if action.flags and "claim" in action.flags:
        names: tuple[Any, ...] = (who.agent.id, who.agent.name, who.agent.run_id)
        return _one_form(who.actor.id, who.on_behalf_of.id, action.ticket, action.purpose, *names)
    if parsed is None or parsed.emitted_message is None:
        return None
    try:
        said = msgspec.json.decode(parsed.emitted_message)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(said, dict):
        return ""
    agent = said.get("agent")
    names = tuple(agent.get(name) for name in ("id", "name", "run_id")) if isinstance(agent, dict) else (None,) * 3
    return _one_form(*(said.get(name) for name in ("actor", "on_behalf_of", "ticket", "purpose")), *names)


def _one_form(*said: Any) -> str:
    return msgspec.json.encode([str(text)[:256] if text else None for text in said]).decode()


_parameters = msgspec.json.Decoder(tuple[fields.Parameter, ...]).decode
_read_policies = msgspec.json.Decoder(tuple[fields.Policy, ...]).decode
_read_custody = msgspec.json.Decoder(fields.Custody).decode
