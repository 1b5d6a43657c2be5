"""The only writer of the log: everything that becomes a leaf passes `append`.

One PostgreSQL transaction for a batch: dedupe keys first, journal rows by COPY, and as its last statement the head,
whose row lock makes indexes contiguous and in commit order. An acknowledged event is durable.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import os
import time
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec
import psycopg
from django.db import InterfaceError, OperationalError, connection, transaction

from lineage import commitment, errors
from lineage.events import (
    GROUPS,
    Actor,
    Decision,
    DecisionType,
    Event,
    Quarantined,
    Skipped,
    SourceRef,
    default_class,
    format_time,
)

ATTEMPTS = 8
FORGOTTEN = bytes(32)
"""Stands in the dedupe table where the content hash of an erased record was: whatever comes again is a duplicate."""


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One admitted event. `key` is 16 bytes (time bucket and hash), `content` the SHA-256 of the item as received."""

    event: Event
    key: bytes
    content: bytes


@dataclasses.dataclass(slots=True)
class Placed:
    """What became of one entry: `status` accepted, duplicate or conflict, and the place of its leaf."""

    status: str
    index: int
    event_id: str
    leaf_hash: bytes


class _Raced(Exception):
    """Another transaction took one of our keys between look-up and insert; the whole batch is tried again."""


def append(
    source_id: int,
    entries: Sequence[Entry],
    quarantined: Sequence[Quarantined] = (),
    skipped: Sequence[Skipped] = (),
) -> list[Placed]:
    """Appends what is new, in order, and returns one `Placed` for each entry.

    A key that is taken with the same content is a duplicate; with other content both are kept and both are flagged.
    Quarantined items, and the sequence numbers of skipped ones, are stored in the same transaction.
    Raises StoreUnavailable when the database cannot commit.
    """
    closed = False
    for attempt in range(ATTEMPTS):
        try:
            if closed:
                _open_slot()
            with transaction.atomic():
                return _append_once(source_id, entries, quarantined, skipped)
        except (_Raced, psycopg.errors.DeadlockDetected, psycopg.errors.UniqueViolation):
            time.sleep(0.01 * attempt)
        except psycopg.errors.CheckViolation:
            closed = True
        except (psycopg.OperationalError, psycopg.InterfaceError, OperationalError, InterfaceError) as error:
            # Django's own where connecting or committing failed.
            connection.close()
            raise errors.StoreUnavailable from error
    raise errors.StoreUnavailable


def _open_slot() -> None:
    """Makes the journal's part of the present time, by the database's clock: ours may be wrong."""
    with connection.cursor() as cursor:
        cursor.execute("select ledger_open_slot(ledger_slot())")


def _append_once(
    source_id: int, entries: Sequence[Entry], quarantined: Sequence[Quarantined], skipped: Sequence[Skipped]
) -> list[Placed]:
    connection.ensure_connection()
    with psycopg.Cursor(connection.connection) as cursor:
        cursor.execute("select nextval('ledger_batch_id'), ledger_slot(), set_config('synchronous_commit', 'on', true)")
        batch, slot, _ = cursor.fetchone() or (0, 0, "")
        if quarantined:
            _quarantine(cursor, source_id, quarantined)
        if skipped:
            _skip(cursor, source_id, skipped)
        plan = _Plan(slot, entries, _known(cursor, source_id, entries), _known_conflicts(cursor, source_id, entries))
        if not plan.fresh:
            return _answer(cursor, plan, {}, 0)
        _claim(cursor, source_id, batch, plan)
        leaves = _copy(cursor, batch, plan)
        cursor.execute(
            "update ledger_head set size = size + %s where id = 1 returning size - %s", (len(leaves), len(leaves))
        )
        first = int((cursor.fetchone() or (0,))[0])
        cursor.execute(
            "insert into ledger_batch (first_index, batch, n, source_id, slot) values (%s, %s, %s, %s, %s)",
            (first, batch, len(leaves), source_id, plan.slot),
        )
        return _answer(cursor, plan, leaves, first)


class _Plan:
    """Which entries are fresh (with their dense ordinals), and where each other one already lies."""

    def __init__(
        self,
        slot: int,
        entries: Sequence[Entry],
        known: dict[bytes, tuple[bytes, int, int]],
        conflicts: dict[tuple[bytes, bytes], tuple[int, int]],
    ) -> None:
        self.entries = entries
        self.slot = slot
        self.fresh: list[tuple[Entry, str]] = []
        self.status: list[tuple[str, int | tuple[int, int]]] = []
        seen: dict[bytes, tuple[bytes, int]] = {}
        seen_conflicts: dict[tuple[bytes, bytes], int] = {}
        for entry in entries:
            pair = (entry.key, entry.content)
            if entry.key in known:
                content, *place = known[entry.key]
                here: int | tuple[int, int] = (place[0], place[1])
            elif entry.key in seen:
                content, here = seen[entry.key]
            else:
                seen[entry.key] = (entry.content, len(self.fresh))
                self.status.append(("accepted", len(self.fresh)))
                self.fresh.append((entry, "accepted"))
                continue
            if content in (entry.content, FORGOTTEN):
                self.status.append(("duplicate", here))
            elif pair in conflicts or pair in seen_conflicts:
                self.status.append(("conflict", conflicts.get(pair) or seen_conflicts[pair]))
            else:
                seen_conflicts[pair] = len(self.fresh)
                self.status.append(("conflict", len(self.fresh)))
                self.fresh.append((entry, "conflict"))


def _known(
    cursor: psycopg.Cursor[Any], source_id: int, entries: Sequence[Entry]
) -> dict[bytes, tuple[bytes, int, int]]:
    cursor.execute(
        "select key, content, batch, ordinal from ledger_key where source_id = %s and key = any(%s)",
        (source_id, [entry.key for entry in entries]),
        binary=True,
    )
    return {key: (content, batch, ordinal) for key, content, batch, ordinal in cursor.fetchall()}


def _known_conflicts(
    cursor: psycopg.Cursor[Any], source_id: int, entries: Sequence[Entry]
) -> dict[tuple[bytes, bytes], tuple[int, int]]:
    cursor.execute(
        "select key, content, batch, ordinal from ledger_conflict where source_id = %s and key = any(%s)",
        (source_id, [entry.key for entry in entries]),
        binary=True,
    )
    return {(key, content): (batch, ordinal) for key, content, batch, ordinal in cursor.fetchall()}


def _claim(cursor: psycopg.Cursor[Any], source_id: int, batch: int, plan: _Plan) -> None:
    """Takes the keys, sorted against deadlock. Raises _Raced when somebody else took one meanwhile."""
    for table, status in (("ledger_key", "accepted"), ("ledger_conflict", "conflict")):
        rows = sorted(
            (entry.key, entry.content, ordinal)
            for ordinal, (entry, its_status) in enumerate(plan.fresh)
            if its_status == status
        )
        if not rows:
            continue
        keys, contents, ordinals = zip(*rows, strict=True)
        cursor.execute(
            f"insert into {table} (source_id, key, content, batch, ordinal) "  # noqa: S608 - two fixed names
            "select %s, k, c, %s, o from unnest(%s::bytea[], %s::bytea[], %s::int[]) as t(k, c, o) "
            "on conflict do nothing",
            (source_id, batch, list(keys), list(contents), list(ordinals)),
        )
        if cursor.rowcount != len(rows):
            raise _Raced


def _copy(cursor: psycopg.Cursor[Any], batch: int, plan: _Plan) -> dict[int, tuple[str, bytes]]:
    """Commits each fresh event to its leaf and copies the journal rows; ordinal -> (event id, leaf hash)."""
    salts = os.urandom(64 * len(plan.fresh))
    leaves: dict[int, tuple[str, bytes]] = {}
    columns = "slot, batch, ordinal, leaf, " + ", ".join(f"{group}_salt, {group}" for group in GROUPS)
    with cursor.copy(f"copy ledger_journal ({columns}) from stdin (format binary)") as copy:
        copy.set_types(["int4", "int8", "int4", *["bytea"] * 9])
        for ordinal, (entry, status) in enumerate(plan.fresh):
            event = entry.event
            if status == "conflict":
                event = msgspec.structs.replace(event, flags=(*event.flags, "duplicate_conflict"))
            own = salts[64 * ordinal : 64 * ordinal + 64]
            salted = {group: own[16 * n : 16 * n + 16] for n, group in enumerate(GROUPS)}
            leaf, groups = commitment.commit(event, salted)
            row: list[Any] = [plan.slot, batch, ordinal, leaf]
            for group in GROUPS:
                held = groups.get(group)
                row += (salted[group], held) if held is not None else (None, None)
            copy.write_row(row)
            leaves[ordinal] = (event.event_id or "", hashlib.sha256(b"\0" + leaf).digest())
    return leaves


def _answer(cursor: psycopg.Cursor[Any], plan: _Plan, leaves: dict[int, tuple[str, bytes]], first: int) -> list[Placed]:
    older = [place for _, place in plan.status if isinstance(place, tuple)]
    found = _places(cursor, older) if older else {}
    placed = []
    for status, place in plan.status:
        if isinstance(place, tuple):
            placed.append(Placed(status, found.get(place, -1), "", b""))
        else:
            event_id, leaf_hash = leaves[place]
            placed.append(Placed(status, first + place, event_id, leaf_hash))
    return placed


def _places(cursor: psycopg.Cursor[Any], places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], int]:
    cursor.execute(
        "select b.batch, b.first_index from ledger_batch b where b.batch = any(%s)", ([batch for batch, _ in places],)
    )
    firsts = dict(cursor.fetchall())
    return {(batch, ordinal): firsts[batch] + ordinal for batch, ordinal in places if batch in firsts}


def _quarantine(cursor: psycopg.Cursor[Any], source_id: int, items: Sequence[Quarantined]) -> None:
    cursor.executemany(
        "insert into ledger_quarantine (source_id, position, sequence, body, body_hash, code, reason) "
        "values (%s, %s, %s, %s, %s, %s, %s) on conflict do nothing",
        [(source_id, i.position, i.sequence, i.body, hashlib.sha256(i.body).digest(), i.code, i.reason) for i in items],
    )


def _skip(cursor: psycopg.Cursor[Any], source_id: int, items: Sequence[Skipped]) -> None:
    """Numbered items that are no accesses: noted, so that their numbers are not missing."""
    cursor.executemany(
        "insert into ledger_skipped (source_id, sequence, reason) values (%s, %s, %s) on conflict do nothing",
        [(source_id, i.sequence, i.reason) for i in items if i.sequence is not None],
    )


def event_id(now_ms: int | None = None) -> str:
    """A UUIDv7 (RFC 9562 section 5.7): 48 bits of Unix milliseconds, then random bits."""
    value = (now_ms if now_ms is not None else time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def dedupe_key(source_id: int, source_event_id: str, occurred_at: dt.datetime | None) -> bytes:
    """4 bytes of the hour in which it happened (0 for sources without times), then 12 bytes of SHA-256."""
    bucket = max(0, int(occurred_at.timestamp()) // 3600) if occurred_at else 0
    digest = hashlib.sha256(b"%d\0" % source_id + source_event_id.encode("utf-8", "surrogatepass")).digest()
    return bucket.to_bytes(4, "big") + digest[:12]


def own_source_id() -> int:
    """The id of the store's own source, `touchstone`."""
    from lineage.models import Source

    return Source.objects.get_or_create(name="touchstone", defaults={"format": "events", "environment": "touchstone"})[
        0
    ].pk


def record(event: Event) -> Placed:
    """Appends one event of the store's own source, completed with id, times and class."""
    return record_all([event])[0]


def record_all(events: Sequence[Event]) -> list[Placed]:
    """`record` for several events, in one transaction."""
    source_id = own_source_id()
    return append(source_id, [_own(source_id, event) for event in events])


def _own(source_id: int, event: Event) -> Entry:
    now = dt.datetime.now(dt.UTC)
    own_id = event_id()
    complete = msgspec.structs.replace(
        event,
        event_id=own_id,
        received_at=format_time(now),
        source_id="touchstone",
        class_=default_class(event),
        occurred_at=event.occurred_at or format_time(now),
        occurred_at_quality=event.occurred_at_quality or "source",
        source_event_id=event.source_event_id or own_id,
        environment=event.environment or "touchstone",
        source=SourceRef(name="touchstone", format="events"),
    )
    key = dedupe_key(source_id, complete.source_event_id or own_id, now)
    return Entry(complete, key, hashlib.sha256(own_id.encode()).digest())


def record_decision(
    kind: DecisionType,
    *,
    decided_by: str,
    subject: str = "",
    transition: str = "",
    purpose: str | None = None,
    **more: Any,
) -> Placed:
    """Appends a decision of the store itself; `more` are further members of `Decision`."""
    return record(
        decision(kind, decided_by=decided_by, subject=subject, transition=transition, purpose=purpose, **more)
    )


def decision(
    kind: DecisionType, *, decided_by: str, subject: str, transition: str, purpose: str | None = None, **more: Any
) -> Event:
    """A decision of the store itself: evidence_read, configuration, report_issued, erasure …"""
    return Event(
        kind="decision",
        actor=Actor(id=decided_by[:512], type="human" if "@" in decided_by else "system"),
        decision=Decision(
            type=kind,
            subject=subject[:512] or None,
            transition=transition[:512] or None,
            decided_by=decided_by[:512],
            **more,
        ),
        purpose=purpose[:1024] if purpose else None,
    )
