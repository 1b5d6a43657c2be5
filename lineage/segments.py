"""Sealing: a contiguous range under a checkpoint becomes immutable Parquet files; and the records of any index.

A segment folder holds `leaves`, `disclosures`, `events` and `touches`. Files and folder are fsynced before the
manifest row commits; folder names are never reused. The storage class here is the only place that knows paths.
"""

from __future__ import annotations

import bisect
import dataclasses
import hashlib
import os
import shutil
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from django.conf import settings
from django.db import connection, transaction

from lineage import commitment, durable, errors, merkle, projections, tree
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

    def write(
        self, tables: dict[str, pa.Table], copied: Mapping[str, Path] | None = None
    ) -> tuple[str, dict[str, dict[str, Any]]]:
        """Writes the tables as zstd Parquet into a new folder, durably; returns its name and the files' hashes.

        `copied` are files that go along as they are.
        """
        name = uuid.uuid4().hex
        draft, final = self.root / f".{name}", self.root / name
        draft.mkdir(parents=True)
        files = {}
        for table_name in [*(copied or {}), *tables]:
            path = draft / f"{table_name}.parquet"
            if copied and table_name in copied:
                shutil.copyfile(copied[table_name], path)
            else:
                pq.write_table(tables[table_name], path, compression="zstd", row_group_size=20_000)
            _fsync(path)
            files[table_name] = {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        _fsync(draft)
        draft.rename(final)
        _fsync(self.root)
        return name, files

    def path(self, name: str, table: str) -> Path:
        return self.root / name / f"{table}.parquet"

    def remove(self, name: str) -> None:
        """Removes a folder that was replaced; done again it does nothing."""
        shutil.rmtree(self.root / name, ignore_errors=True)
        if (self.root / name).exists():
            raise errors.StoreUnavailable(
                "A file that was replaced cannot be removed. See to the data folder's rights."
            )
        _fsync(self.root)

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
    durable.folder(root)
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
            f"The journal holds {len(records)} of {following - first} records from {first}. Nothing was sealed; run fsck.",
            alarm="record-missing",
        )
    for record, signed in zip(records, tree.hashes().read(first, following), strict=True):
        if merkle.leaf_hash(record.leaf) != signed:
            raise errors.LedgerBroken(
                f"Record {record.index} is not the one that was signed. Nothing was sealed; run fsck.",
                alarm="log-rewritten",
            )
        # Nothing is erased before it is sealed: here every group is held.
        fault = unopened(record)
        if fault or None in record.groups.values():
            raise errors.LedgerBroken(
                f"{fault or f'Record {record.index}: a group is gone.'} Nothing was sealed; run fsck.",
                alarm="log-rewritten",
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


def unopened(record: Record) -> str:
    """Says which group of the record is not the one that its leaf commits to; empty when each that is held is."""
    committed = msgspec.json.decode(record.leaf)["groups"]
    if set(record.groups) != set(committed):
        return f"Record {record.index}: its groups are not those that it commits to."
    for group, value in record.groups.items():
        salt = record.salts[group]
        if value is not None and (salt is None or commitment.digest(salt, value) != committed[group]):
            return f"Record {record.index}: the group {group} is not what was accepted."
    return ""


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
    end = segments[-1][1] if segments else first
    if end < following:
        yield from _journal_leaves(max(first, end), following)


def _journal_leaves(first: int, following: int) -> list[tuple[int, bytes]]:
    """As `journal`, without the groups: the tree is over leaves alone."""
    connection.ensure_connection()
    with psycopg.Cursor(connection.connection) as cursor:
        cursor.execute(
            "select b.first_index + j.ordinal, j.leaf "
            "from ledger_batch b join ledger_journal j on j.slot = b.slot and j.batch = b.batch "
            "where b.first_index < %s and b.first_index + b.n > %s "
            "and b.first_index + j.ordinal >= %s and b.first_index + j.ordinal < %s order by 1",
            (following, first, first, following),
            binary=True,
        )
        return cursor.fetchall()


def wait_seconds() -> int:
    """How long what was replaced must stay: the longest question that may still read it, and some more."""
    return int(settings.QUERY_SECONDS + settings.GRACE_SECONDS)


def drop_sealed_slots() -> int:
    """Drops journal partitions that are wholly sealed since longer than the longest query; returns how many."""
    with connection.cursor() as cursor:
        cursor.execute("select ledger_drop_sealed_slots(%s)", [wait_seconds()])
        return int(cursor.fetchone()[0])


def sweep() -> int:
    """Removes folders of seals and erasures that never committed. Call under the keeper's lock."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select folder from ledger_segment union select folder from ledger_replaced where removed_at is null"
        )
        known = {row[0] for row in cursor.fetchall()}
    return storage().remove_unknown(known)


def manifest(indexes: Collection[int] | None = None) -> list[tuple[int, int, str, dict[str, Any]]]:
    """(first, next, folder, files) of the segments that hold any of these indexes; of all when None."""
    with connection.cursor() as cursor:
        cursor.execute("select first_index, next_index, folder, files::text from ledger_segment order by first_index")
        rows = [(first, following, folder, msgspec.json.decode(files)) for first, following, folder, files in cursor]
    if indexes is None:
        return rows
    wanted = sorted(indexes)
    return [row for row in rows if bisect.bisect_left(wanted, row[0]) < bisect.bisect_left(wanted, row[1])]


def rewrite(folder: str, files: dict[str, Any], taken: Mapping[int, Collection[str]]) -> tuple[str, dict[str, Any]]:
    """A new folder with the same records without salt and value of the groups in `taken`; its name and its files.

    The leaves are copied byte for byte; what is derived of these records is derived again from what is left. Nobody
    reads the new folder before the manifest names it.
    """
    place = storage()
    disclosed = pq.read_table(place.path(folder, "disclosures"))
    pairs = zip(disclosed["index"].to_pylist(), disclosed["group"].to_pylist(), strict=True)
    gone = pa.array([group in taken.get(index, ()) for index, group in pairs], pa.bool_())
    for name in ("salt", "value"):
        left = pc.if_else(gone, pa.scalar(None, pa.binary()), disclosed[name])
        disclosed = disclosed.set_column(disclosed.schema.get_field_index(name), DISCLOSURES.field(name), left)
    leaves_file = place.path(folder, "leaves")
    current = all(files[name].get("projection") == projections.VERSION for name in ("events", "touches"))
    fresh = _derived(pq.read_table(leaves_file), disclosed, set(taken) if current else None)
    if current:
        fresh = {name: _merged(pq.read_table(place.path(folder, name)), table, taken) for name, table in fresh.items()}
    new, written = place.write({"disclosures": disclosed, **fresh}, {"leaves": leaves_file})
    for name in fresh:
        written[name]["projection"] = projections.VERSION
    return new, written


def _derived(leaves: pa.Table, disclosed: pa.Table, only: Collection[int] | None) -> dict[str, pa.Table]:
    """The projections of these leaves (of all of them when `only` is None)."""
    if only is not None:
        chosen = pa.array(sorted(only), pa.int64())
        leaves = leaves.filter(pc.is_in(leaves["index"], chosen))
        disclosed = disclosed.filter(pc.is_in(disclosed["index"], chosen))
    groups: dict[int, list[bytes | None]] = {}
    for row in disclosed.to_pylist():
        groups.setdefault(row["index"], []).append(row["value"])
    events, touches = projections.tables(
        (r["index"], r["leaf"], groups.get(r["index"], ())) for r in leaves.to_pylist()
    )
    return {"events": events, "touches": touches}


def _merged(stored: pa.Table, fresh: pa.Table, taken: Collection[int]) -> pa.Table:
    """The stored rows with those of the records in `taken` exchanged, by index."""
    stored = stored.cast(fresh.schema)
    kept = stored.filter(pc.invert(pc.is_in(stored["index"], pa.array(sorted(taken), pa.int64()))))
    together = pa.concat_tables([kept, fresh])
    return together.take(pc.sort_indices(together, sort_keys=[("index", "ascending")]))


def holding(texts: Sequence[str], groups: Collection[str]) -> Iterator[int]:
    """Indexes of the records of which one of these groups holds one of the texts, as it is written in JSON."""
    patterns = [msgspec.json.encode(text)[1:-1] for text in texts]
    if not patterns:
        return
    for _, _, folder, _ in manifest():
        table = pq.read_table(storage().path(folder, "disclosures"), filters=[("group", "in", list(groups))])
        for pattern in patterns:
            yield from table.filter(pc.match_substring(table["value"], pattern.decode()))["index"].to_pylist()
    for record in journal(sealed_to(), 2**62):
        if any(pattern in (record.groups.get(group) or b"") for pattern in patterns for group in groups):
            yield record.index
