"""Admission: what a source sent becomes entries of the ledger, or is quarantined; nothing is lost in silence.

The store adds what only it knows (id, receive time, source, environment), bounds long values, and flags what the
source may not assert. Pure but for the clock; `accept` at the end calls the ledger once for the whole body.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import hashlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from lineage import entries, errors, journal, ledger, notes, sources
from lineage.events import (
    CANONICAL_TIME,
    STATEMENT_LIMIT_BYTES,
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


class Item(msgspec.Struct, omit_defaults=True, gc=False):
    """The answer for one item of the body: its place, what became of it, and where its leaf lies."""

    position: int
    status: str
    index: int | None = None
    event_id: str | None = None
    reason: str | None = None


_LATER = Item(-1, "accepted")
"""In the place of an item of which the ledger is yet to say what became of it."""


class Accepted(msgspec.Struct):
    """The answer for a body. Counts are of items; `promises` are what the receipt says."""

    items: list[Item]
    promises: list[notes.Promise]

    def counts(self) -> dict[str, int]:
        """How many items have each status."""
        return collections.Counter([item.status for item in self.items])

    def count(self, status: str) -> int:
        return self.counts().get(status, 0)


@dataclasses.dataclass(slots=True)
class Admitted:
    """A body that was read: an item for each place in it, what of it goes to the ledger, and whose places those are."""

    items: list[Item] = dataclasses.field(default_factory=list)
    entries: list[ledger.Entry] = dataclasses.field(default_factory=list)
    refused: list[Quarantined] = dataclasses.field(default_factory=list)
    skipped: list[Skipped] = dataclasses.field(default_factory=list)
    waiting: list[int] = dataclasses.field(default_factory=list)

    def batch(self, source: Source, version: str | None = None) -> ledger.Batch:
        """What the ledger is given."""
        return ledger.Batch(source.pk, self.entries, self.refused, self.skipped, version)

    def answer(self, placed: Sequence[ledger.Placed]) -> Accepted:
        """What the sender is told once it is appended."""
        promises = []
        for position, entry, place in zip(self.waiting, self.entries, placed, strict=True):
            self.items[position] = Item(position, place.status, place.index, place.event_id or None)
            if place.leaf_hash:
                promises.append(notes.Promise(place.index, place.leaf_hash, entry.key))
        return Accepted(self.items, promises)


def accept(source: Source, body: bytes, *, strict: bool = False, **options: Any) -> Accepted:
    """Parses, admits and appends one body in one transaction.

    Raises FormatUnknown, BodyTooLarge (more than 10,000 items), BodyUnreadable, BatchRefused (strict, nothing
    stored), OutsideProfile and StoreUnavailable.
    """
    read = admitted(source, body, strict=strict, **options)
    return read.answer(ledger.append(source.pk, read.entries, read.refused, read.skipped))


def admitted(source: Source, body: bytes, *, strict: bool = False, **options: Any) -> Admitted:
    """Parses and admits one body; nothing is stored. Raises as `accept`, but for StoreUnavailable."""
    read, admission = Admitted(), Admission(source)
    for position, parsed in enumerate(_parse(source, body, options)):
        one = admission.admit(parsed) if isinstance(parsed, Event) else parsed
        if isinstance(one, Skipped):
            read.skipped.append(one)
            read.items.append(Item(position, "skipped", reason=one.reason))
        elif isinstance(one, Quarantined):
            read.refused.append(one)
            read.items.append(Item(position, "quarantined", reason=f"{one.code}: {one.reason}"))
        else:
            read.waiting.append(position)
            read.entries.append(one)
            read.items.append(_LATER)
    if strict and read.refused:
        raise errors.BatchRefused(
            **{f"item {i.position}": i.reason or "" for i in read.items if i.status == "quarantined"}
        )
    return read


def _parse(source: Source, body: bytes, options: dict[str, Any]) -> Iterator[Event | Quarantined | Skipped]:
    for count, parsed in enumerate(sources.parse(source.format, body, **options), 1):
        if isinstance(parsed, Quarantined) and parsed.code == "body-unreadable":
            raise errors.BodyUnreadable(f"The body cannot be read as {source.format}: {parsed.reason}")
        if count > ITEMS_LIMIT:
            raise errors.BodyTooLarge
        yield parsed


def admit(source: Source, event: Event) -> ledger.Entry | Quarantined:
    """One parsed event, completed, bounded and committed, with its dedupe key and content hash. Raises OutsideProfile."""
    return Admission(source).admit(event)


class Admission:
    """What the store adds to every event of one body: all of them were received at the same moment, from one source."""

    def __init__(self, source: Source) -> None:
        now = time.time()
        self.source, self.now_ms = source, int(now * 1000)
        self.source_id = source.pk
        self.received_at = format_time(dt.datetime.fromtimestamp(now, dt.UTC))
        self.latest = format_time(dt.datetime.fromtimestamp(now + SKEW_SECONDS, dt.UTC))
        self.ids, self.salts = entries.event_ids(self.now_ms), journal.salts()
        self.reference = SourceRef(name=source.name, format=source.format)
        self.allowed = frozenset(source.asserts)
        self.is_told = source.format in TOLD

    def admit(self, event: Event) -> ledger.Entry | Quarantined:
        """As the function `admit`. Raises OutsideProfile."""
        if not event.source_event_id:
            return Quarantined(
                position="",
                body=encode(event),
                code="event-invalid",
                reason="source_event_id is missing",
                sequence=event.sequence,
            )
        occurred = event.occurred_at
        if occurred and not CANONICAL_TIME.fullmatch(occurred):
            occurred = format_time(parse_time(occurred))
        own_id = next(self.ids)
        complete = msgspec.structs.replace(
            event,
            event_id=own_id,
            received_at=self.received_at,
            source_id=self.source.name,
            class_=event.class_ or default_class(event),
            environment=self.source.environment,
            source=self.reference,
            datasource=self.source.datasource or event.datasource,
            statement=_bounded(event.statement),
            before=_bounded_values(event.before),
            after=_bounded_values(event.after),
            flags=self._flags(event, occurred),
        )
        origin = event.origin.sha256 if event.origin else None
        content = bytes.fromhex(origin) if origin else hashlib.sha256(encode(event)).digest()
        bucket = entries.bucket_of(occurred[:13]) if occurred else entries.NO_BUCKET
        key = entries.key_in(bucket, self.source_id, event.source_event_id)
        return ledger.Entry(own_id, key, content, journal.row(complete, next(self.salts)))

    def _flags(self, event: Event, occurred: str | None) -> tuple[str, ...]:
        flags = event.flags
        if occurred and occurred > self.latest:
            flags = (*flags, "clock_skew")
        if self.is_told and not self.allowed.issuperset(asserted(self.source.format, event)):
            flags = (*flags, "unauthorised_assertion")
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
    text = statement.text
    length = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    if statement.sha256 and statement.state and statement.length == length <= STATEMENT_LIMIT_BYTES:
        return statement
    bounded = bounded_statement(statement.text, redaction=statement.redaction)
    if bounded.state == "truncated":
        return bounded
    return msgspec.structs.replace(
        statement, sha256=statement.sha256 or bounded.sha256, length=bounded.length, state=statement.state or "whole"
    )


def _bounded_values(values: Sequence[Value]) -> tuple[Value, ...]:
    if not values or not any(v.value is not None and len(v.value) > 4096 for v in values):
        return tuple(values)
    return tuple(
        bounded_value(v.column, v.value, v.type) if v.value is not None and v.state == "present" else v for v in values
    )
