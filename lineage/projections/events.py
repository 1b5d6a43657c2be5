"""Rows of `EVENTS`, made column by column from what the records say and what the parser finds in their statements."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec
import pyarrow as pa

from lineage.events import key_text
from lineage.projections import arrays, deeds, fields, images, touches
from lineage.projections.deeds import Deed
from lineage.projections.fields import ActionGroup, ActorGroup, Read, Row, Shared
from lineage.projections.schema import EVENTS
from lineage.statements import Statement, capture

Columns = dict[str, Any]
"""By name: a value for each record, or None where no record has one."""
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
    done = deeds.read(found)
    count = len(found.indexes)
    made = _arrays(_as_told(found) | _when(found) | _kept(found) | _changed(found) | _said_of(found, done), count)
    for columns, shared in ((_of_actors(found.actors.each), found.actors), (_of_deeds(done.each), done)):
        own = _arrays(columns, len(shared.each))
        made |= zip(own, arrays.spread(list(own.values()), shared.at), strict=True)
    events = pa.Table.from_arrays([made[name] for name in EVENTS.names], schema=EVENTS)
    return events, touches.table([deed.touched for deed in done.each], done.at, made)


def _arrays(columns: Columns, count: int) -> dict[str, pa.Array]:
    return {name: _array(column, EVENTS.field(name).type, count) for name, column in columns.items()}


def _array(column: Any, type_: pa.DataType, count: int) -> pa.Array:
    if isinstance(column, pa.Array):
        return column
    if pa.types.is_list(type_):
        return arrays.lists([()] * count if column is None else column)
    return pa.nulls(count, type_) if column is None else arrays.same(column, type_)


def _as_told(found: Read) -> Columns:
    actions = found.actions
    return (
        {"index": found.indexes}
        | _each(found.heads, {name.rstrip("_"): name for name in _HEADS})
        | _each(actions, {name: name for name in _ACTIONS})
        | _within([group.transaction for group in actions], _TRANSACTIONS)
        | _within([group.rows for group in actions], _ROWS)
        | _within([group.session for group in actions], _SESSIONS)
    )


def _of_actors(actors: Sequence[ActorGroup]) -> Columns:
    """What was told of who acted, for each of these."""
    return (
        _within([group.actor for group in actors], _ACTORS)
        | _within([group.on_behalf_of for group in actors], _PRINCIPALS)
        | _within([group.agent for group in actors], _AGENTS)
        | _within([group.client for group in actors], _CLIENTS)
        | {"delegation": _texts([group.delegation for group in actors])}
        | _opened("decision", [group.decision for group in actors], fields.Decision(), _DECISIONS)
    )


def _of_deeds(each: Sequence[Deed]) -> Columns:
    """What was told of statements, what the parser finds in them, and what follows from the touches, for each of these."""
    parsed = [deed.parsed for deed in each]
    return (
        _within([deed.held.statement for deed in each], _STATEMENTS)
        | {
            "parameters": _texts([deed.held.parameters for deed in each]),
            "error_message": [deed.held.error_message for deed in each],
            "opaque": [one is not None and one.opaque for one in parsed],
            "redacted": [one and one.redacted for one in parsed],
            "fingerprint": [(one and one.fingerprint) or held.statement.fingerprint for held, one, *_ in each],
            "emitted": [one and one.emitted_message for one in parsed],
        }
        | deeds.gathered(each)
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
    actions = found.actions
    policies = [group.policy for group in actions]
    columns = {
        "state": _texts([group.state for group in actions]),
        "policy": _texts(policies),
        "policies": [_policies(raw) if raw else () for raw in policies] if _any(policies) else None,
    }
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


def _said_of(found: Read, done: Shared[Deed]) -> Columns:
    """What a record says by its statement and by what else is told of it, taken together."""
    told = [done.each[place].parsed for place in done.at]
    actions = found.actions
    weakens = [one.weakens if one else _weakened(action.custody) for one, action in zip(told, actions, strict=True)]
    said = [
        _said(found.actors.each[who], action, one)
        if action.flags or (one and one.emitted_message is not None)
        else None
        for who, action, one in zip(found.actors.at, actions, told, strict=True)
    ]
    return {"said": said, "weakens": weakens if any(weakens) else None}


def _weakened(raw: msgspec.Raw) -> tuple[str, ...]:
    """What the server's own line about a setting says of the capture."""
    custody = _read_custody(raw) if raw else None
    if custody is None or custody.type != "alarm" or custody.subject != "setting":
        return ()
    return capture.told_by_server(custody.detail or "")


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


_read_policies = msgspec.json.Decoder(tuple[fields.Policy, ...]).decode
_read_custody = msgspec.json.Decoder(fields.Custody).decode
