"""Reading quarantined items again with today's parser: what it can read now enters the log, once, and the item stays.

The record carries the flag `from_quarantine` and the item's number as its `origin`; the item says which record it became.
Nobody else's items can be asked for: `lineage.queries` finds them within the viewer's scope (docs/sources.md).
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from django.db import connection, transaction

from lineage import erasures, errors, ingest, ledger, queries, sources
from lineage.access import Viewer
from lineage.events import Event, Origin, Quarantined, Skipped
from lineage.models import Role, Source

LOCK = 7303
FLAG = "from_quarantine"
ROLES = frozenset({Role.OPERATOR, Role.SECURITY, Role.ADMIN})
OPTIONS = ("line_prefix", "timezone")
Parsed = Event | Quarantined | Skipped


class Retried(msgspec.Struct, frozen=True):
    """What a retry led to: a status of `ledger_retry`, or `quarantined` with the reason of today, and nothing stored."""

    status: str
    records: int = 0
    first_index: int | None = None
    reason: str = ""

    @property
    def sentence(self) -> str:
        where = f"record {self.first_index:,}" if self.first_index is not None else "no record"
        return {
            "accepted": f"It was read and is in the log: {where}.",
            "conflict": f"It was read and is in the log beside another of the same id: {where}.",
            "duplicate": f"It was read, and the log had it already: {where}.",
            "skipped": f"It was read, and tells of no access: {self.reason}",
        }.get(self.status, f"It still cannot be read: {self.reason}")


def may_retry(viewer: Viewer) -> bool:
    return viewer.role in ROLES


def retry(viewer: Viewer, number: int, **options: str) -> Retried:
    """Parses one item again and appends what it tells; all of it or nothing, and never a second time.

    `options` are those of the format that the item came with and nobody kept (`line_prefix`, `timezone`).
    Raises NotFound, AccessDenied, AlreadyDone, UnderErasure (recorded), and StoreUnavailable when the log cannot be written.
    """
    item = queries.quarantined_item(viewer, number)
    if not may_retry(viewer):
        raise errors.AccessDenied("Reading quarantined items again is for operators, security and administrators.")
    try:
        return _retried(viewer, number, item, options)
    except errors.UnderErasure as refused:
        _record(viewer, number, item, "refused", refused.code)
        raise


def _retried(viewer: Viewer, number: int, item: dict[str, Any], options: dict[str, str]) -> Retried:
    with transaction.atomic(), connection.cursor() as cursor:
        erasures.quarantine.beside_decisions()
        cursor.execute("select pg_advisory_xact_lock(%s, %s)", [LOCK, number % 2**31])
        cursor.execute("select 1 from ledger_retry where quarantine_id = %s", [number])
        if cursor.fetchone():
            raise errors.AlreadyDone("This item was read again already. Reload the page to see which record it became.")
        cursor.execute("select body, sequence from ledger_quarantine where id = %s", [number])
        body, sequence = cursor.fetchone()
        if not body:
            raise errors.NotFound("The bytes of this item were erased; there is nothing left to read.")
        if erasures.takes_item(number):
            raise errors.UnderErasure
        source = Source.objects.get(name=item["source"])
        done = _stored(source, _read(source, number, bytes(body), sequence, options))
        if done.status != "quarantined":
            cursor.execute(
                "insert into ledger_retry (quarantine_id, status, records, first_index, by) values (%s, %s, %s, %s, %s)",
                [number, done.status, done.records, done.first_index, viewer.email],
            )
        _record(viewer, number, item, f"{item['code']} → {done.status}", _purpose(done, options))
        return done


def _record(viewer: Viewer, number: int, item: dict[str, Any], transition: str, purpose: str | None) -> None:
    ledger.record_decision(
        "configuration",
        decided_by=viewer.email,
        subject=f"quarantined item {number} of {item['source']}",
        transition=transition,
        purpose=purpose,
    )


def _purpose(done: Retried, options: dict[str, str]) -> str | None:
    """Which record it became, and what the person who asked said of its form: that decides who acted, and when."""
    given = [f"{name}={options[name]}" for name in OPTIONS if options.get(name)]
    return "; ".join([f"record {done.first_index}"] * (done.first_index is not None) + given) or None


def _read(source: Source, number: int, body: bytes, sequence: int | None, options: dict[str, str]) -> list[Parsed]:
    given: dict[str, Any] = {name: options[name] for name in OPTIONS if options.get(name)}
    parsed = list(sources.parse(source.format, body, **given))
    return [_marked(one, number, body, sequence) if isinstance(one, Event) else one for one in parsed]


def _marked(event: Event, number: int, body: bytes, sequence: int | None) -> Event:
    """The event with where it comes from. Its hash stays what the parser says, so that a copy sent anew is a duplicate."""
    sha256 = (event.origin.sha256 if event.origin else None) or hashlib.sha256(body).hexdigest()
    return msgspec.structs.replace(
        event,
        origin=Origin(sha256=sha256, position=f"quarantine:{number}"),
        flags=(*event.flags, FLAG),
        sequence=sequence if event.sequence is None else event.sequence,
    )


def _stored(source: Source, parsed: list[Parsed]) -> Retried:
    admitted = [ingest.admit(source, one) if isinstance(one, Event) else one for one in parsed]
    refused = next((one for one in admitted if isinstance(one, Quarantined)), None)
    if refused is not None or not admitted:
        return Retried("quarantined", reason=f"{refused.code}: {refused.reason}" if refused else "nothing is in it")
    entries = [one for one in admitted if isinstance(one, ledger.Entry)]
    if not entries:
        skipped = next(one for one in admitted if isinstance(one, Skipped))
        return Retried("skipped", reason=skipped.reason)
    placed = ledger.append(source.pk, entries)
    statuses = {place.status for place in placed}
    worst = next(status for status in ("accepted", "conflict", "duplicate") if status in statuses)
    return Retried(worst, len(placed), min(place.index for place in placed if place.status == worst))
