"""The only writer of the log: everything that becomes a leaf passes `append`.

One PostgreSQL transaction for the batches of one moment: dedupe keys first, journal rows by COPY, and as its last
statement the head, whose row lock makes indexes contiguous and in commit order. An acknowledged event is durable.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import itertools
import logging
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import psycopg
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction

from lineage import claims, errors, journal
from lineage import entries as admitted
from lineage.entries import Entry as Entry
from lineage.entries import Part
from lineage.entries import Placed as Placed
from lineage.entries import dedupe_key as dedupe_key
from lineage.entries import entry_of as entry_of
from lineage.entries import event_id as event_id
from lineage.events import (
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
from lineage.keyfiles import looking

ATTEMPTS = 8
log = logging.getLogger("touchstone.ledger")


@dataclasses.dataclass(slots=True)
class Batch:
    """What one source sent at once. Quarantined items, and the numbers of skipped ones, are stored along with it.

    `version` is the version of the source's row under which a feed's batch was admitted: should the row have changed
    since, or too many records wait to be sealed, nothing of it is stored. What the store itself says has none.
    `rows` were made before the transaction, so that nothing waits for them.
    """

    source_id: int
    entries: Sequence[Entry]
    quarantined: Sequence[Quarantined] = ()
    skipped: Sequence[Skipped] = ()
    version: str | None = None
    rows: list[journal.Row] = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.rows = [entry.row for entry in self.entries]


class _Contended(Exception):
    """Others took keys of ours again and again."""


Outcome = list[Placed] | errors.TouchstoneError


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
    try:
        (outcome,) = _append([Batch(source_id, entries, quarantined, skipped)])
    except _Contended as error:
        raise errors.StoreUnavailable from error
    if isinstance(outcome, errors.TouchstoneError):
        raise outcome
    return outcome


def append_all(batches: Sequence[Batch]) -> list[Outcome | Exception]:
    """As `append` for several batches in one transaction, at most 10,000 records together; what became of each.

    Where the joint transaction fails for another reason than that the database is away, each is tried alone: one bad
    batch fails no other. The outcome is `SourceChanged` where the source is not what the batch was admitted under, and
    `BacklogFull` while too many records wait to be sealed.
    """
    if len(batches) > 1:
        try:
            return [*_append(batches)]
        except errors.StoreUnavailable as error:
            if not isinstance(error, looking.Unreadable):
                return [error] * len(batches)
        except Exception as error:  # noqa: BLE001  whose fault it is shows when each is tried alone
            log.info("%s: %d batches are tried one by one", type(error).__name__, len(batches))
    return [_alone(batch) for batch in batches]


def _alone(batch: Batch) -> Outcome | Exception:
    try:
        return _append([batch])[0]
    except _Contended:
        return errors.StoreUnavailable()
    except Exception as error:  # noqa: BLE001  told to whoever sent it, and to nobody else
        return error


def _append(batches: Sequence[Batch]) -> list[Outcome]:
    closed = looks = False
    for attempt in range(ATTEMPTS):
        try:
            with transaction.atomic():
                if closed:
                    _open_slot()
                written = _write(batches, looks=looks)
            return written.outcomes(batches)
        except claims.Taken:
            time.sleep(0.01 * attempt if looks else 0)
            looks = True
        except (psycopg.errors.DeadlockDetected, psycopg.errors.UniqueViolation):
            looks = True
            time.sleep(0.01 * attempt)
        except psycopg.errors.CheckViolation:
            closed = True
        except (psycopg.OperationalError, psycopg.InterfaceError, OperationalError, InterfaceError) as error:
            # Django's own where connecting or committing failed.
            connection.close()
            raise errors.StoreUnavailable from error
    raise _Contended


def _open_slot() -> None:
    """Makes the journal's part of the present time, by the database's clock: ours may be wrong.

    In the transaction that writes into it: an empty one that others see may be dropped before anything is written.
    """
    with connection.cursor() as cursor:
        cursor.execute("select ledger_open_slot(ledger_slot())")


def _write(batches: Sequence[Batch], *, looks: bool) -> _Written:
    """The transaction but for its commit. Raises claims.Taken where a key is taken and `looks` is not set."""
    connection.ensure_connection()
    with psycopg.Cursor(connection.connection) as cursor:
        sources = sorted({batch.source_id for batch in batches})
        cursor.execute(
            "select ledger_slot(), set_config('synchronous_commit', 'on', true), "
            "set_config('plan_cache_mode', 'force_generic_plan', true), "
            "array(select nextval('ledger_batch_id') from generate_series(1, %s)), "
            "array(select id || ':' || xmin::text from lineage_source where id = any(%s) and revoked_at is null), "
            "(select size from ledger_head) - ledger_sealed_to(), ledger_keys_state()",
            (len(sources), sources),
        )
        slot, _, _, numbers, versions, backlog, state = cursor.fetchone() or (0, "", "", [], [], 0, "")
        refused = {id(batch): error for batch in batches if (error := _refusal(batch, versions, backlog))}
        standing = [batch for batch in batches if id(batch) not in refused]
        for batch in standing:
            if batch.quarantined:
                _quarantine(cursor, batch.source_id, batch.quarantined)
            if batch.skipped:
                _skip(cursor, batch.source_id, batch.skipped)
        given = [(batch.source_id, batch.entries, batch.rows) for batch in standing]
        parts = admitted.parts(given, dict(zip(sources, numbers, strict=True)))
        older = claims.plan(cursor, parts, state, looks=looks)
        fresh = [part for part in parts if part.fresh]
        if fresh:
            claims.take(cursor, fresh)
            with cursor.copy(f"copy ledger_journal ({journal.COLUMNS}) from stdin (format binary)") as copy:
                for piece in journal.stream(slot, [(part.number, part.rows) for part in fresh]):
                    copy.write(piece)
            claims.check(cursor, fresh, _grow(cursor, slot, fresh))
        return _Written(refused, parts, older)


def _refusal(batch: Batch, versions: Sequence[str], backlog: int) -> errors.TouchstoneError | None:
    if batch.version is None:
        return None
    if f"{batch.source_id}:{batch.version}" not in versions:
        return errors.SourceChanged()
    return errors.BacklogFull() if backlog > settings.BACKLOG_EVENTS else None


def _grow(cursor: psycopg.Cursor[Any], slot: int, parts: Sequence[Part]) -> str:
    """The head, whose lock everybody waits for from here to the commit, and the batches under it, in one statement.

    Returns where older keys lie by now (`ledger_keys_state()`).
    """
    before, befores = 0, []
    for part in parts:
        befores.append(before)
        before += len(part.fresh)
    cursor.execute(
        "with grown as (update ledger_head set size = size + %s where id = 1 returning size - %s as first) "
        "insert into ledger_batch (first_index, batch, n, source_id, slot) "
        "select first + before, batch, n, source_id, %s from grown, "
        "unnest(%s::bigint[], %s::bigint[], %s::int[], %s::int[]) as b (before, batch, n, source_id) "
        "returning batch, first_index, ledger_keys_state()",
        (
            before,
            before,
            slot,
            befores,
            [part.number for part in parts],
            [len(part.fresh) for part in parts],
            [part.source_id for part in parts],
        ),
    )
    grown = cursor.fetchall()
    firsts = {number: first for number, first, _ in grown}
    for part in parts:
        part.first = firsts[part.number]
    return str(grown[0][2])


@dataclasses.dataclass(frozen=True, slots=True)
class _Written:
    """What a transaction has written; the answers are made from it once it is committed."""

    refused: dict[int, errors.TouchstoneError]
    parts: Sequence[Part]
    older: dict[tuple[int, int], int]

    def outcomes(self, batches: Sequence[Batch]) -> list[Outcome]:
        placed = {part.source_id: iter(part.placed(self.older)) for part in self.parts}
        return [
            self.refused.get(id(batch)) or list(itertools.islice(placed[batch.source_id], len(batch.entries)))
            for batch in batches
        ]


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
    return entry_of(complete, key, hashlib.sha256(own_id.encode()).digest())


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
