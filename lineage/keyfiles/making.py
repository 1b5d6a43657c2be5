"""Making key files: from the rows in PostgreSQL when a range is sealed, from other files when they are merged or erased."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import psycopg
from django.db import connection

from lineage.keyfiles import form

Made = Callable[[Path], dict[str, Any]]
"""Writes the file at this place; what the manifest says of it beside size and hash."""
WIDEST = 100_000
"""No batch has more records: which batches reach into a range is found by the index of their first."""


def rows(first: int, following: int) -> list[bytes]:
    """The sorted records of the keys of this range that are in PostgreSQL."""
    connection.ensure_connection()
    with psycopg.Cursor(connection.connection) as cursor:
        cursor.execute(
            "select batch, first_index from ledger_batch "
            "where first_index > %s and first_index < %s and first_index + n > %s",
            (first - WIDEST, following, first),
        )
        firsts: dict[int, int] = dict(cursor.fetchall())
        found = []
        for table, conflict in (("ledger_key", False), ("ledger_conflict", True)):
            cursor.execute(
                f"select source_id, key, content, batch, ordinal from {table} where batch = any(%s)",  # noqa: S608
                (list(firsts),),
                binary=True,
            )
            # Together: one by one each row passes through Python.
            for source, key, content, batch, ordinal in cursor.fetchall():
                index = firsts[batch] + ordinal
                if first <= index < following:
                    known = form.FORGOTTEN if form.is_forgotten(content) else content
                    found.append(form.pack(source, key, index, conflict, known))
    return sorted(found)


def added(path: Path, make: Made) -> dict[str, Any]:
    """Makes the file, durably, in a folder that is not; all that the manifest says of it."""
    more = make(path)
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest(), **more}


def sealed(first: int, following: int) -> Made:
    """The keys of a range that is sealed."""

    def make(path: Path) -> dict[str, Any]:
        return written(path, [rows(first, following)])

    return make


def merged(files: Sequence[Path], beside: Sequence[list[bytes]] = ()) -> Made:
    """The keys of several files, and of what `rows` gave for ranges that have none, as one."""

    def make(path: Path) -> dict[str, Any]:
        runs: list[Iterable[list[bytes]]] = [*map(form.parts, files), *([run] for run in beside)]
        without_time = form.timeless(files) + sum(map(_timeless, beside))
        return {"hours": form.write(path, form.merged(runs), without_time)}

    return make


def erased(file: Path, indexes: Collection[int]) -> Made:
    """The keys of a file without the content hashes of these records."""

    def make(path: Path) -> dict[str, Any]:
        return {"hours": form.write(path, form.forgotten(form.parts(file), indexes), form.timeless([file]))}

    return make


def written(path: Path, run: Sequence[list[bytes]]) -> dict[str, Any]:
    """Writes these sorted records."""
    return {"hours": form.write(path, run, sum(map(_timeless, run)))}


def _timeless(records: list[bytes]) -> int:
    return sum(record[4:8] == form.TIMELESS for record in records)
