"""Admission: what a source sent becomes entries of the ledger, or is quarantined; nothing is lost in silence.

The store adds what only it knows (id, receive time, source, environment), bounds long values, and flags what the
source may not assert. Pure but for the clock; `accept` at the end calls the ledger once for the whole body.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from lineage import errors, ledger, notes, sources
from lineage.events import (
    Event,
    Quarantined,
    Skipped,
    SourceRef,
    Statement,
    Value,
    bounded_statement,
    bounded_value,
    default_class,
    encode,
    format_time,
    parse_time,
)
from lineage.models import Source

ITEMS_LIMIT = 10_000
SKEW_SECONDS = 300
TOLD = frozenset({"events", "teleport", "hoop"})
"""Formats in which somebody else says who acted and who approved; the others hold what a database or our gateway saw itself."""


class Item(msgspec.Struct, omit_defaults=True):
    """The answer for one item of the body: its place, what became of it, and where its leaf lies."""

    position: int
    status: str
    index: int | None = None
    event_id: str | None = None
    reason: str | None = None


class Accepted(msgspec.Struct):
    """The answer for a body. Counts are of items; `promises` are what the receipt says."""

    items: list[Item]
    promises: list[notes.Promise]

    def count(self, status: str) -> int:
        return sum(item.status == status for item in self.items)


def accept(source: Source, body: bytes, *, strict: bool = False, **options: Any) -> Accepted:
    """Parses, admits and appends one body in one transaction.

    Raises FormatUnknown, BodyTooLarge (more than 10,000 items), BodyUnreadable, BatchRefused (strict, nothing
    stored) and StoreUnavailable.
    """
    items: list[Item] = []
    entries: list[ledger.Entry] = []
    refused: list[Quarantined] = []
    skipped: list[Skipped] = []
    waiting: list[int] = []
    for position, parsed in enumerate(_parse(source, body, options)):
        admitted = admit(source, parsed) if isinstance(parsed, Event) else parsed
        if isinstance(admitted, Skipped):
            skipped.append(admitted)
            items.append(Item(position, "skipped", reason=admitted.reason))
        elif isinstance(admitted, Quarantined):
            refused.append(admitted)
            items.append(Item(position, "quarantined", reason=f"{admitted.code}: {admitted.reason}"))
        else:
            waiting.append(position)
            entries.append(admitted)
            items.append(Item(position, "accepted"))
    if strict and refused:
        raise errors.BatchRefused(**{f"item {i.position}": i.reason or "" for i in items if i.status == "quarantined"})
    placed = ledger.append(source.pk, entries, refused, skipped)
    for position, place in zip(waiting, placed, strict=True):
        items[position] = Item(position, place.status, place.index, place.event_id or None)
    promises = [
        notes.Promise(place.index, place.leaf_hash, entry.key)
        for entry, place in zip(entries, placed, strict=True)
        if place.leaf_hash
    ]
    return Accepted(items, promises)


def _parse(source: Source, body: bytes, options: dict[str, Any]) -> Iterator[Event | Quarantined | Skipped]:
    for count, parsed in enumerate(sources.parse(source.format, body, **options), 1):
        if isinstance(parsed, Quarantined) and parsed.code == "body-unreadable":
            raise errors.BodyUnreadable(f"The body cannot be read as {source.format}: {parsed.reason}")
        if count > ITEMS_LIMIT:
            raise errors.BodyTooLarge
        yield parsed


def admit(source: Source, event: Event) -> ledger.Entry | Quarantined:
    """One parsed event, completed and bounded, with its dedupe key and content hash."""
    if not event.source_event_id:
        return Quarantined(
            position="",
            body=encode(event),
            code="event-invalid",
            reason="source_event_id is missing",
            sequence=event.sequence,
        )
    now = time.time()
    occurred = parse_time(event.occurred_at) if event.occurred_at else None
    complete = msgspec.structs.replace(
        event,
        event_id=ledger.event_id(int(now * 1000)),
        received_at=format_time(dt.datetime.fromtimestamp(now, dt.UTC)),
        source_id=source.name,
        class_=event.class_ or default_class(event),
        environment=source.environment,
        source=SourceRef(name=source.name, format=source.format),
        datasource=source.datasource or event.datasource,
        statement=_bounded(event.statement),
        before=_bounded_values(event.before),
        after=_bounded_values(event.after),
        flags=(*event.flags, *_flags(source, event, occurred, now)),
    )
    origin = event.origin.sha256 if event.origin else None
    content = bytes.fromhex(origin) if origin else hashlib.sha256(encode(event)).digest()
    return ledger.Entry(complete, ledger.dedupe_key(source.pk, event.source_event_id, occurred), content)


def _flags(source: Source, event: Event, occurred: dt.datetime | None, now: float) -> list[str]:
    flags = []
    if occurred and occurred.timestamp() > now + SKEW_SECONDS:
        flags.append("clock_skew")
    if any(kind not in source.asserts for kind in asserted(source.format, event)):
        flags.append("unauthorised_assertion")
    return flags


def asserted(format_name: str, event: Event) -> Iterator[str]:
    """The kinds of assertion an event makes beyond what its reporter saw itself (docs/access.md).

    What a database wrote about its own logins and transactions needs no right; a native event or a proxy's record that
    names people, logins, approvals or grants does, and so does one that names a transaction, by which others' records are
    joined to a person.
    """
    if format_name not in TOLD:
        return
    actor, transaction = event.actor, event.transaction
    named = actor and (actor.id or actor.email or actor.name or actor.db_user)
    if named or event.on_behalf_of or event.agent or (transaction and (transaction.id or transaction.vid)):
        yield "actor"
    if event.approval or (event.decision and event.decision.type in ("approval", "access_request", "review")):
        yield "approval"
    if event.decision and event.decision.type in ("grant", "revoke", "break_glass"):
        yield "grant"
    if event.policy or (event.decision and event.decision.type == "policy_evaluation"):
        yield "policy"
    if event.state:
        yield "state"


def _bounded(statement: Statement | None) -> Statement | None:
    if statement is None or statement.text is None or (statement.state == "truncated" and len(statement.text) <= 1024):
        return statement
    bounded = bounded_statement(statement.text, redaction=statement.redaction)
    if bounded.state == "truncated":
        return bounded
    return msgspec.structs.replace(
        statement, sha256=statement.sha256 or bounded.sha256, length=bounded.length, state=statement.state or "whole"
    )


def _bounded_values(values: Sequence[Value]) -> tuple[Value, ...]:
    if not any(v.value is not None and len(v.value) > 4096 for v in values):
        return tuple(values)
    return tuple(
        bounded_value(v.column, v.value, v.type) if v.value is not None and v.state == "present" else v for v in values
    )
