"""Sealing: a contiguous range under a checkpoint becomes immutable Parquet files; and the records of any index.

A segment folder holds `leaves`, `disclosures`, `events` and `touches`. Files and folder are fsynced before the
manifest row commits; folder names are never reused. The storage class here is the only place that knows paths.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from django.conf import settings
from django.db import connection, transaction

from lineage import errors, projections
from lineage.events import GROUPS

SEGMENT_MOST = 200_000
LEAVES = pa.schema([("index", pa.int64()), ("leaf", pa.binary())])
DISCLOSURES = pa.schema([("index", pa.int64()), ("group", pa.string()), ("salt", pa.binary()), ("value", pa.binary())])


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """One leaf with what is disclosed of it: group -> exact bytes, and group -> salt. An erased group is None."""

    index: int
    leaf: bytes
    groups: dict[str, bytes | None]
    salts: dict[str, bytes | None]


class Folder:
    """Where segments lie: one folder each below the data folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, tables: dict[str, pa.Table]) -> tuple[str, dict[str, dict[str, Any]]]:
        """Writes the tables as zstd Parquet into a new folder, durably; returns its name and the files' hashes."""
        name = uuid.uuid4().hex
        draft, final = self.root / f".{name}", self.root / name
        draft.mkdir(parents=True)
        files = {}
        for table_name, table in tables.items():
            path = draft / f"{table_name}.parquet"
            pq.write_table(table, path, compression="zstd", row_group_size=20_000)
            _fsync(path)
            files[table_name] = {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        _fsync(draft)
        draft.rename(final)
        _fsync(self.root)
        return name, files

    def path(self, name: str, table: str) -> Path:
        return self.root / name / f"{table}.parquet"

    def remove_unknown(self, known: set[str]) -> int:
        """Removes folders that no manifest row names: the remains of a seal that was killed."""
        strange = [p for p in self.root.iterdir() if p.is_dir() and p.name.lstrip(".") not in known]
        for path in strange:
            shutil.rmtree(path)
        return len(strange)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def storage() -> Folder:
    root = Path(settings.DATA_DIR) / "segments"
    root.mkdir(parents=True, exist_ok=True)
    return Folder(root)


def sealed_to() -> int:
    with connection.cursor() as cursor:
        cursor.execute("select ledger_sealed_to()")
        return int(cursor.fetchone()[0])


def seal(*, least: int = 1) -> int:
    """Seals everything under the last checkpoint, if at least `least` events wait; returns how many were sealed.

    Call under the keeper's advisory lock. The manifest commit is what makes it so; killed before, nothing happened.
    """
    with connection.cursor() as cursor:
        cursor.execute("select coalesce(max(size), 0) from ledger_checkpoint")
        covered = int(cursor.fetchone()[0])
    first = sealed_to()
    following = min(covered, first + SEGMENT_MOST)
    if following - first < max(1, least):
        return 0
    records = list(journal(first, following))
    if len(records) != following - first:
        raise errors.LedgerBroken(
            f"The journal holds {len(records)} of {following - first} records from {first}. Nothing was sealed; run fsck."
        )
    name, files = storage().write(_tables(records))
    for derived in ("events", "touches"):
        files[derived]["projection"] = projections.VERSION
    times = [msgspec.json.decode(r.leaf)["received_at"] for r in records]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "select ledger_publish(%s, %s, %s, %s, %s, %s)",
            [first, following, name, msgspec.json.encode(files).decode(), min(times), max(times)],
        )
    return following - first


def _tables(records: Sequence[Record]) -> dict[str, pa.Table]:
    events, touches = projections.tables((r.index, r.leaf, r.groups.values()) for r in records)
    disclosed = [
        {"index": r.index, "group": group, "salt": r.salts[group], "value": value}
        for r in records
        for group, value in r.groups.items()
    ]
    return {
        "leaves": pa.Table.from_pylist([{"index": r.index, "leaf": r.leaf} for r in records], schema=LEAVES),
        "disclosures": pa.Table.from_pylist(disclosed, schema=DISCLOSURES),
        "events": events,
        "touches": touches,
    }


def journal(first: int, following: int) -> Iterator[Record]:
    """Records with first <= index < following that are still in the journal, by index."""
    columns = ", ".join(f"j.{group}_salt, j.{group}" for group in GROUPS)
    connection.ensure_connection()
    with psycopg.Cursor(connection.connection) as cursor:
        cursor.execute(
            f"select b.first_index + j.ordinal, j.leaf, {columns} "  # noqa: S608 - fixed group names
            "from ledger_batch b join ledger_journal j on j.slot = b.slot and j.batch = b.batch "
            "where b.first_index < %s and b.first_index + b.n > %s "
            "and b.first_index + j.ordinal >= %s and b.first_index + j.ordinal < %s order by 1",
            (following, first, first, following),
            binary=True,
        )
        for index, leaf, *pairs in cursor:
            held = {g: (pairs[2 * n], pairs[2 * n + 1]) for n, g in enumerate(GROUPS) if pairs[2 * n] is not None}
            yield Record(index, leaf, {g: v for g, (_, v) in held.items()}, {g: s for g, (s, _) in held.items()})


def records(indexes: Sequence[int]) -> Iterator[Record]:
    """The records of these indexes, in ascending order, from sealed files or journal. Unknown indexes are left out."""
    wanted = sorted(set(indexes))
    with connection.cursor() as cursor:
        cursor.execute("select first_index, next_index, folder from ledger_segment order by first_index")
        segments = cursor.fetchall()
    for first, following, folder in segments:
        inside = [i for i in wanted if first <= i < following]
        if inside:
            yield from _sealed(folder, inside)
    end = segments[-1][1] if segments else 0
    rest = [i for i in wanted if i >= end]
    if rest:
        keep = set(rest)
        yield from (r for r in journal(rest[0], rest[-1] + 1) if r.index in keep)


def _sealed(folder: str, indexes: Sequence[int]) -> Iterator[Record]:
    place = storage()
    chosen = [("index", "in", list(indexes))]
    leaves = pq.read_table(place.path(folder, "leaves"), filters=chosen).to_pylist()
    groups: dict[int, dict[str, tuple[bytes | None, bytes | None]]] = {}
    for row in pq.read_table(place.path(folder, "disclosures"), filters=chosen).to_pylist():
        groups.setdefault(row["index"], {})[row["group"]] = (row["salt"], row["value"])
    for row in sorted(leaves, key=lambda leaf: leaf["index"]):
        held = groups.get(row["index"], {})
        yield Record(
            row["index"],
            row["leaf"],
            {g: held[g][1] for g in GROUPS if g in held},
            {g: held[g][0] for g in GROUPS if g in held},
        )


def leaves(first: int, following: int) -> Iterator[tuple[int, bytes]]:
    """(index, leaf) of a contiguous range, ascending, wherever they lie."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select first_index, next_index, folder from ledger_segment where next_index > %s and first_index < %s "
            "order by first_index",
            [first, following],
        )
        segments = cursor.fetchall()
    for _, _, folder in segments:
        chosen = [("index", ">=", first), ("index", "<", following)]
        table = pq.read_table(storage().path(folder, "leaves"), filters=chosen)
        yield from zip(table["index"].to_pylist(), table["leaf"].to_pylist(), strict=True)
    end = segments[-1][1] if segments else max(first, sealed_to())
    if end < following:
        yield from ((r.index, r.leaf) for r in journal(max(first, end), following))


def wait_seconds() -> int:
    """How long what was replaced must stay: the longest question that may still read it, and a minute."""
    return int(settings.QUERY_SECONDS) + 60


def drop_sealed_slots() -> int:
    """Drops journal partitions that are wholly sealed since longer than the longest query; returns how many."""
    with connection.cursor() as cursor:
        cursor.execute("select ledger_drop_sealed_slots(%s)", [wait_seconds()])
        return int(cursor.fetchone()[0])


def sweep() -> int:
    """Removes folders of seals that never committed."""
    with connection.cursor() as cursor:
        cursor.execute("select folder from ledger_segment")
        known = {row[0] for row in cursor.fetchall()}
    return storage().remove_unknown(known)
