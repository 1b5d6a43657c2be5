"""The two transactions of an erasure: what turns to the rewritten files, and what says that it is complete."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import msgspec
import psycopg
from django.db import OperationalError, connection, transaction

from lineage import ledger
from lineage.events import Event


@dataclasses.dataclass(frozen=True, slots=True)
class Replaced:
    """A segment's folder, the one that was made from it without the erased values, and that one's files."""

    old: str
    new: str
    files: dict[str, Any]


class Changed(Exception):
    """What an erasure was made from changed meanwhile; it is made again."""


def publish(erasure: int, replaced: Sequence[Replaced], said: Sequence[Event], newest_hold: int) -> None:
    """Erases: the manifest names the rewritten folders and `said` stands in the log, in one transaction or not at all.

    Raises Changed when a folder is no longer the one that was read, or a hold is newer than the newest looked at.
    """
    listed = [{"old": r.old, "new": r.new, "files": r.files} for r in replaced]
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                "select ledger_replace(%s, %s, %s)", [erasure, msgspec.json.encode(listed).decode(), newest_hold]
            )
            _cover(cursor, erasure, said)
    except OperationalError as error:
        if isinstance(error.__cause__, psycopg.errors.SerializationFailure):
            raise Changed from error
        raise


def complete(erasure: int, said: Sequence[Event]) -> None:
    """The erasure is complete within our reach, and `said` stands in the log; in one transaction."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("select ledger_finish_erasure(%s)", [erasure])
        _cover(cursor, erasure, said)


def _cover(cursor: Any, erasure: int, said: Sequence[Event]) -> None:
    """Appends the records of an erasure, and notes which of them covers which groups of which records."""
    rows = [
        (placed.index, erasure, span.first, span.last, list(span.groups))
        for event, placed in zip(said, ledger.record_all(said), strict=True)
        for span in (event.decision.erased if event.decision else ())
    ]
    cursor.executemany(
        "insert into ledger_erased (event_index, erasure_id, first_index, last_index, groups) values (%s, %s, %s, %s, %s)",
        rows,
    )
