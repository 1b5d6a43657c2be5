"""The manifest of extracts, and their folders: what is named there is whole, what is not is swept."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec
import psycopg
from django.db import OperationalError, connection, transaction

from lineage import locks, segments, snapshots
from lineage.extracts import Extract, reading


class Changed(Exception):
    """Extracts, or what they are made of, are no longer what was read."""


def new_name() -> str:
    return uuid.uuid4().hex + segments.EXTRACT


def manifest() -> list[Extract]:
    """All of them, in order, whatever they were made of."""
    with connection.cursor() as cursor:
        cursor.execute(snapshots.EXTRACTS)
        return [reading.listed(*row) for row in cursor.fetchall()]


def publish(made: Extract, erased_at: dt.datetime | None) -> None:
    """From here on questions may use it. `erased_at`: when the log that it is made of was erased last.

    Raises Changed when others were published or taken meanwhile; then what was written goes.
    """
    _turn(
        made.folder,
        "select ledger_publish_extract(%s, %s, %s, %s, %s, %s)",
        [made.first, made.following, made.folder, made.basis, _said(made.files), erased_at],
    )


def replace(parts: Sequence[Extract], name: str, files: dict[str, Any]) -> None:
    """One in the place of its neighbours; as `publish`."""
    _turn(name, "select ledger_merge_extracts(%s, %s, %s)", [[one.folder for one in parts], name, _said(files)])


def leave(first: int = 0) -> None:
    """Extracts from this record on are no longer used; they are made anew."""
    with connection.cursor() as cursor:
        cursor.execute("select ledger_leave_extracts(%s)", [first])


def sweep() -> bool:
    """Removes folders that never came into the manifest; returns whether it could: nobody makes or merges extracts."""
    with locks.tried(locks.EXTRACT) as alone:
        if alone:
            sweep_alone()
        return alone


def sweep_alone() -> None:
    """As `sweep`, under the lock of extracts."""
    place = segments.extracts()
    with connection.cursor() as cursor:
        cursor.execute(
            "select folder from ledger_extract union select folder from ledger_replaced where removed_at is null"
        )
        known = {row[0] for row in cursor.fetchall()}
    place.discard(*(name for name in place.names() if name not in known))


def _said(files: dict[str, Any]) -> str:
    return msgspec.json.encode(files).decode()


def _turn(name: str, sql: str, values: list[Any]) -> None:
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(sql, values)
    except OperationalError as error:
        if isinstance(error.__cause__, psycopg.errors.SerializationFailure):
            segments.extracts().discard(name)
            raise Changed from error
        # Whether it was committed is not known: the next sweep goes by the manifest.
        raise
