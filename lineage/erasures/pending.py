"""From `pending` to `erased`: what still holds values after the files were replaced, and how it goes (docs/erasure.md, 6 and 7).

Under the keeper's lock. Each step can be done again; what is not yet due is left for the next time.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
from django.conf import settings
from django.db import connection
from django.utils import timezone

from lineage import reach, rights, segments
from lineage.erasures import publishing
from lineage.erasures.covering import covered
from lineage.erasures.execution import records_of, seal_everything
from lineage.erasures.requests import Erasure, one
from lineage.events import Erased
from lineage.extracts import storing

TABLES = ("ledger_erasure", "ledger_quarantine", "ledger_hold", "ledger_retention")
MARKED = ("ledger_key", "ledger_conflict")
SPILL_SUFFIX = ".tmp"


@dataclasses.dataclass(frozen=True, slots=True)
class Still:
    """One thing that holds values: until when (None: not known), and whether it lies within our reach."""

    what: str
    until: dt.datetime | None
    ours: bool


def finish(number: int) -> bool:
    """Does what is due for a pending erasure; True when nothing within our reach holds its values any more."""
    erasure = one(number)
    if erasure.state != "pending" or erasure.published_at is None:
        return erasure.state == "erased"
    taken = covered(number)
    segments.remove_replaced()
    if in_journal(taken) and _sealed_long_ago():
        seal_everything()
    segments.drop_sealed_slots()
    if not _waited(erasure) or _old_folders(number) or in_journal(taken):
        return False
    # What began before writes the values into a draft, until it sees that its files were exchanged.
    if not segments.sweep() or not (erasure.rewritten or storing.sweep()):
        return False
    _forget_copies(erasure, taken)
    if not erasure.rewritten:
        _rewrite_tables()
        rights.call("select ledger_note_rewritten(%s)", number)
    if not _log_is_gone(erasure):
        return False
    words = f"{erasure.reason} Outside our reach: {'; '.join(still.what for still in outside(one(number)))}."
    publishing.complete(number, records_of(erasure, "erased", taken, (), words))
    return True


def _waited(erasure: Erasure) -> bool:
    return erasure.published_at is not None and timezone.now() >= _until(erasure.published_at)


def _until(published_at: dt.datetime) -> dt.datetime:
    return published_at + dt.timedelta(seconds=segments.wait_seconds())


def _sealed_long_ago() -> bool:
    """Whether the newest seal has been waited for: another one before would only lengthen the wait."""
    sql = "select coalesce(max(created_at) <= clock_timestamp() - make_interval(secs => %s), true) from ledger_segment"
    return bool(rights.call(sql, segments.wait_seconds()))


def _old_folders(number: int) -> int:
    """How many folders are there that were replaced by this erasure, or by a merge or another one before it."""
    return int(
        rights.call(
            "select count(*) from ledger_replaced r join ledger_erasure e on e.id = %s "
            "where r.removed_at is null and (r.erasure_id = e.id or r.replaced_at <= e.published_at)",
            number,
        )
    )


def in_journal(taken: Sequence[Erased]) -> bool:
    """Whether a partition of the journal still holds one of these records."""
    return bool(
        rights.call(
            "select exists (select 1 from unnest(%s::bigint[], %s::bigint[]) as s(first, last) join ledger_batch b "
            "on b.first_index <= s.last and b.first_index + b.n > s.first and b.first_index > s.first - 100000 "
            "join ledger_journal j on j.slot = b.slot and j.batch = b.batch)",
            [span.first for span in taken],
            [span.last for span in taken],
        )
    )


def _forget_copies(erasure: Erasure, taken: Sequence[Erased]) -> None:
    """Copies outside the log: reports and the like, and what DuckDB spilled before."""
    assert erasure.published_at is not None
    named = [name for place in reach.places for name in place.forget_records(taken, _until(erasure.published_at))]
    rights.call("select ledger_note_holders(%s, %s)", erasure.id, named)
    spill = Path(settings.DATA_DIR) / "spill"
    for path in spill.glob(f"**/*{SPILL_SUFFIX}") if spill.exists() else ():
        if path.stat().st_mtime < erasure.published_at.timestamp():
            path.unlink(missing_ok=True)


def _owner() -> psycopg.Connection[Any]:
    """A connection that may write tables anew; of the embedded server also one that may end a segment of its log."""
    given = dict(connection.get_connection_params())
    if settings.EMBEDDED:
        given["user"] = "postgres"
    else:
        given["options"] = re.sub(r"-c role=\S+", "", given.get("options", ""))
    given.pop("cursor_factory", None)
    return psycopg.connect(**given, autocommit=True)


def _rewrite_tables() -> None:
    """Tables in which rows were replaced are written anew, so that no dead row keeps a value."""
    with _owner() as owner:
        owner.execute("set lock_timeout = '10s'")
        for table in [*TABLES, *(name for place in reach.places for name in place.tables)]:
            owner.execute(f"vacuum full {table}")
        for table in MARKED:
            owner.execute(f"vacuum {table}")


def _log_is_gone(erasure: Erasure) -> bool:
    """Whether the write-ahead log that held the values is gone: seen to on our own server, waited for on another."""
    if not settings.EMBEDDED:
        return erasure.published_at is not None and timezone.now() >= _log_until(erasure.published_at)
    with _owner() as owner:
        owner.execute("select pg_switch_wal()")
        owner.execute("checkpoint")
    return True


def _log_until(published_at: dt.datetime) -> dt.datetime:
    return _until(published_at) + dt.timedelta(hours=settings.WAL_HOURS)


def still(erasure: Erasure) -> list[Still]:
    """Everything that holds values of an erasure, ours first; empty before it is executed."""
    return [*_ours(erasure), *outside(erasure)] if erasure.published_at else []


def _ours(erasure: Erasure) -> list[Still]:
    if erasure.state != "pending" or erasure.published_at is None:
        return []
    until = _until(erasure.published_at)
    folders = _old_folders(erasure.id)
    found = [Still(f"{folders} replaced folders of sealed files", until, True)] if folders else []
    if in_journal(covered(erasure.id)):
        found.append(Still("a journal partition, until all in it is sealed", until, True))
    if timezone.now() < until:
        found.append(Still("memory of web processes that are still answering", until, True))
    if not erasure.rewritten:
        found.append(Still("dead rows of tables that are written anew", until, True))
    log = (
        "the write-ahead log of the embedded database" if settings.EMBEDDED else "the database server's write-ahead log"
    )
    return [*found, Still(log, until if settings.EMBEDDED else _log_until(erasure.published_at), True)]


def outside(erasure: Erasure) -> list[Still]:
    """What lies outside our reach and is named for ever."""
    backups = "backups (their retention is not stated)"
    until = None
    if settings.BACKUP_DAYS is not None and erasure.published_at:
        until = _until(erasure.published_at) + dt.timedelta(days=settings.BACKUP_DAYS)
        backups = f"backups, kept {settings.BACKUP_DAYS} days"
    return [
        *(Still(name, None, False) for name in erasure.holders),
        Still(backups, until, False),
        Still("packs, reports and downloads handed out before", None, False),
        Still("spools of collectors until acknowledged, and the sources' own logs", None, False),
    ]
