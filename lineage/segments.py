"""Sealing: a contiguous range under a checkpoint becomes immutable Parquet files; and the records of any index.

A segment folder holds `leaves`, `disclosures`, `events`, `touches`, `facts`, `heard` and `keys`. Files and folder are fsynced before the
manifest row commits; folder names are never reused. The storage class here is the only place that knows paths.
"""

from __future__ import annotations

import bisect
import hashlib
import os
import shutil
import uuid
from collections.abc import Collection, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from django.conf import settings
from django.db import connection, transaction

from lineage import derivation, durable, errors, locks, rowgroups, sealing, tree
from lineage.events import GROUPS
from lineage.keyfiles import making
from lineage.records import DISCLOSURES as DISCLOSURES
from lineage.records import LEAVES as LEAVES
from lineage.records import Record as Record
from lineage.records import unopened as unopened

SEGMENT_MOST = 50_000
"""Of one seal."""
READ_MOST = 20_000
UNLINKED_SECONDS = 10.0
MERGED = "m"
"""The end of the name of a folder that was merged."""
KEYS = "keys.sorted"
EXTRACT = "x"
"""The end of the name of a folder of an extract."""


class Folder:
    """Where segments lie: one folder each below the data folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def draft(self, name: str) -> Path:
        """Makes the folder of a segment that is being written."""
        path = self.root / f".{name}"
        path.mkdir(parents=True)
        return path

    def keep(self, name: str) -> None:
        """The draft is whole: from here on it is there after a crash, under its name."""
        sync(self.root / f".{name}")
        (self.root / f".{name}").rename(self.root / name)
        sync(self.root)

    def discard(self, *names: str) -> None:
        """Removes what was written and is not published, as a draft or under its name."""
        for path in [self.root / f"{dot}{name}" for name in names for dot in (".", "")]:
            if path.exists():
                shutil.rmtree(path)

    def names(self) -> set[str]:
        """Of every folder, also of those that are being written."""
        return {path.name.removeprefix(".") for path in self.root.iterdir() if path.is_dir()}

    def link(self, name: str, table: str, draft: str) -> None:
        """Puts a file of a segment into the draft of another one too: it is immutable, and its bytes are on the disk."""
        path = self.path(name, table)
        os.link(path, self.root / f".{draft}" / path.name)

    def path(self, name: str, table: str) -> Path:
        return self.root / name / (KEYS if table == "keys" else f"{table}.parquet")

    def remove(self, name: str) -> None:
        """Removes a folder that was replaced; done again it does nothing."""
        shutil.rmtree(self.root / name, ignore_errors=True)
        if (self.root / name).exists():
            raise errors.StoreUnavailable(
                "A file that was replaced cannot be removed. See to the data folder's rights."
            )
        sync(self.root)


def described(path: Path) -> dict[str, Any]:
    """What the manifest says of a file."""
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def new_name(merged: bool = False) -> str:
    """Of a folder; that of a merge is known by it."""
    return uuid.uuid4().hex + (MERGED if merged else "")


def sync(path: Path) -> None:
    """Waits until file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def storage() -> Folder:
    root = Path(settings.DATA_DIR) / "segments"
    durable.folder(root)
    return Folder(root)


def extracts() -> Folder:
    """Where extracts lie (docs/extracts.md)."""
    root = Path(settings.DATA_DIR) / "extracts"
    durable.folder(root)
    return Folder(root)


def sealed_to() -> int:
    with connection.cursor() as cursor:
        cursor.execute("select ledger_sealed_to()")
        return int(cursor.fetchone()[0])


def waiting() -> int:
    """How many records are not sealed."""
    with connection.cursor() as cursor:
        cursor.execute("select size - ledger_sealed_to() from ledger_head")
        return int(cursor.fetchone()[0])


def seal(*, least: int = 1) -> int:
    """Seals what is under the last checkpoint, if `least` records wait; returns how many were sealed.

    At most `SEGMENT_MOST`, and what `sealing.SECONDS_MOST` suffice for. Where that may be less than all, call it again.

    Call under the keeper's advisory lock. The manifest commit is what makes it so; killed before, nothing happened.
    """
    with connection.cursor() as cursor:
        cursor.execute("select coalesce(max(size), 0) from ledger_checkpoint")
        covered = int(cursor.fetchone()[0])
    first = sealed_to()
    following = min(covered, first + SEGMENT_MOST)
    if following - first < max(1, least):
        return 0
    place, name = storage(), new_name()
    draft = place.draft(name)
    try:
        following, earliest, latest = sealing.write(draft, first, following, journal, tree.hashes().read)
        derivation.write_sealed(draft)
        files = {table: described(draft / f"{table}.parquet") for table in (*sealing.SCHEMAS, "facts", "heard")}
        files["keys"] = making.added(draft / KEYS, making.sealed(first, following))
        derivation.say_versions(files)
        place.keep(name)
    except BaseException:
        place.discard(name)
        raise
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "select ledger_publish(%s, %s, %s, %s, %s, %s)",
            [first, following, name, msgspec.json.encode(files).decode(), earliest, latest],
        )
    return following - first


def journal(first: int, following: int) -> Iterator[Record]:
    """Records with first <= index < following that are still in the journal, by index.

    All are read at once, by one statement; a short range is sorted here, where the rows need not be copied for it.
    """
    is_short = following - first <= READ_MOST
    columns = ", ".join(f"j.{group}_salt, j.{group}" for group in GROUPS)
    connection.ensure_connection()
    with psycopg.Cursor(connection.connection) as cursor:
        cursor.execute(
            f"select b.first_index + j.ordinal, j.leaf, {columns} "  # noqa: S608 - fixed group names
            "from ledger_batch b join ledger_journal j on j.slot = b.slot and j.batch = b.batch "
            "where b.first_index < %s and b.first_index >= (select max(first_index) from ledger_batch where first_index <= %s) "
            "and b.first_index + j.ordinal >= %s and b.first_index + j.ordinal < %s "
            + ("" if is_short else "order by b.first_index, j.ordinal"),
            (following, first, first, following),
            binary=True,
        )
        for index, leaf, *pairs in sorted(cursor.fetchall(), key=itemgetter(0)) if is_short else cursor:
            groups: dict[str, bytes | None] = {}
            salts: dict[str, bytes | None] = {}
            for group, salt, value in zip(GROUPS, pairs[::2], pairs[1::2], strict=True):
                if salt is not None:
                    groups[group], salts[group] = value, salt
            yield Record(index, leaf, groups, salts)


def records(indexes: Sequence[int]) -> Iterator[Record]:
    """The records of these indexes, in ascending order, from sealed files or journal. Unknown indexes are left out.

    For however long the caller takes: before each part it is asked anew where it lies.
    """
    wanted = sorted(set(indexes))
    while wanted and (found := sealed_at(wanted[0])):
        inside = min(bisect.bisect_left(wanted, found[1]), READ_MOST)
        yield from _sealed(found[2], wanted[:inside])
        wanted = wanted[inside:]
    if wanted:
        keep = set(wanted)
        yield from (r for r in journal(wanted[0], wanted[-1] + 1) if r.index in keep)


def sealed_at(index: int) -> tuple[int, int, str, dict[str, Any]] | None:
    """(first, next, folder, files) of the segment that holds this index, else of the first one behind it."""
    return next(iter(_manifest("next_index > %s order by first_index limit 1", index)), None)


def walk() -> Iterator[tuple[int, int, str, dict[str, Any]]]:
    """(first, next, folder, files) of every segment, one after the other: each as it is when it is asked for."""
    reached = 0
    while found := sealed_at(reached):
        yield found
        reached = found[1]


def _sealed(folder: str, indexes: Sequence[int]) -> Iterator[Record]:
    place = storage()
    groups: dict[int, dict[str, tuple[bytes | None, bytes | None]]] = {}
    for part in rowgroups.holding(place.path(folder, "disclosures"), indexes):
        for index, group, *held in zip(*(part[name].to_pylist() for name in DISCLOSURES.names), strict=True):
            groups.setdefault(index, {})[group] = (held[0], held[1])
    for part in rowgroups.holding(place.path(folder, "leaves"), indexes):
        for index, leaf in zip(part["index"].to_pylist(), part["leaf"].to_pylist(), strict=True):
            has = groups.get(index, {})
            yield Record(
                index, leaf, {g: has[g][1] for g in GROUPS if g in has}, {g: has[g][0] for g in GROUPS if g in has}
            )


def leaves(first: int, following: int) -> Iterator[tuple[int, bytes]]:
    """(index, leaf) of a contiguous range, ascending, wherever they lie; for however long the caller takes."""
    while first < following and (found := sealed_at(first)):
        end = min(following, found[1], max(first, found[0]) + READ_MOST)
        chosen = [("index", ">=", first), ("index", "<", end)]
        table = pq.read_table(storage().path(found[2], "leaves"), filters=chosen)
        yield from zip(table["index"].to_pylist(), table["leaf"].to_pylist(), strict=True)
        first = end
    if first < following:
        yield from _journal_leaves(first, following)


def _journal_leaves(first: int, following: int) -> list[tuple[int, bytes]]:
    """As `journal`, without the groups: the tree is over leaves alone."""
    connection.ensure_connection()
    with psycopg.Cursor(connection.connection) as cursor:
        cursor.execute(
            "select b.first_index + j.ordinal, j.leaf "
            "from ledger_batch b join ledger_journal j on j.slot = b.slot and j.batch = b.batch "
            "where b.first_index < %s and b.first_index >= (select max(first_index) from ledger_batch where first_index <= %s) "
            "and b.first_index + j.ordinal >= %s and b.first_index + j.ordinal < %s",
            (following, first, first, following),
            binary=True,
        )
        return sorted(cursor.fetchall(), key=itemgetter(0))


def wait_seconds() -> int:
    """How long what was replaced must stay: the longest question that may still read it, and some more."""
    return int(settings.QUERY_SECONDS + settings.GRACE_SECONDS)


def drop_sealed_slots() -> int:
    """Drops journal partitions that are wholly sealed since longer than the longest query; returns how many."""
    with connection.cursor() as cursor:
        cursor.execute("select ledger_drop_sealed_slots(%s)", [wait_seconds()])
        return int(cursor.fetchone()[0])


def patient_seconds() -> float:
    """How long those may read who give way to others: what is replaced meanwhile is still there."""
    return max(settings.QUERY_SECONDS, wait_seconds() - UNLINKED_SECONDS)


def sweep() -> bool:
    """Removes folders of seals, erasures and merges that never committed. Call under the keeper's lock.

    Those of a merge that is at work are left; returns whether there is none.
    """
    with locks.tried(locks.MERGE) as nobody_merges:
        known, place = _known(), storage()
        strange = [name for name in place.names() if name not in known]
        place.discard(*(name for name in strange if nobody_merges or not name.endswith(MERGED)))
        return nobody_merges


def sweep_merges(kept: str = "") -> None:
    """Removes folders of merges that never committed, but for the one `kept`. Call under the lock of merges."""
    known, place = _known() | {kept}, storage()
    place.discard(*(name for name in place.names() if name.endswith(MERGED) and name not in known))


def _known() -> set[str]:
    """The folders that are read, and those that were replaced and wait for their last readers."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select folder from ledger_segment union select folder from ledger_replaced where removed_at is null"
        )
        return {row[0] for row in cursor.fetchall()}


def remove_replaced() -> int:
    """Unlinks the folders that an erasure or a merge replaced, once their last possible reader is done; returns how many.

    Of segments and of extracts. Call under the keeper's lock.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "select folder from ledger_replaced where removed_at is null "
            "and replaced_at <= clock_timestamp() - make_interval(secs => %s)",
            [wait_seconds()],
        )
        due = [row[0] for row in cursor.fetchall()]
        for folder in due:
            (extracts() if folder.endswith(EXTRACT) else storage()).remove(folder)
        if due:
            cursor.execute("select ledger_note_removed(%s)", [due])
    return len(due)


def manifest(indexes: Collection[int] | None = None) -> list[tuple[int, int, str, dict[str, Any]]]:
    """(first, next, folder, files) of the segments that hold any of these indexes; of all when None."""
    rows = _manifest("true order by first_index")
    if indexes is None:
        return rows
    wanted = sorted(indexes)
    return [row for row in rows if bisect.bisect_left(wanted, row[0]) < bisect.bisect_left(wanted, row[1])]


def _manifest(condition: str, *values: int) -> list[tuple[int, int, str, dict[str, Any]]]:
    with connection.cursor() as cursor:
        cursor.execute(
            f"select first_index, next_index, folder, files::text from ledger_segment where {condition}",  # noqa: S608
            values,
        )
        return [(first, following, folder, msgspec.json.decode(files)) for first, following, folder, files in cursor]


def holding(texts: Sequence[str], groups: Collection[str]) -> Iterator[int]:
    """Indexes of the records of which one of these groups holds one of the texts, as it is written in JSON."""
    patterns = [msgspec.json.encode(text)[1:-1] for text in texts]
    if not patterns:
        return
    chosen = pa.array(sorted(groups))
    for _, _, folder, _ in walk():
        for part in rowgroups.batches(storage().path(folder, "disclosures"), ["index", "group", "value"]):
            asked = part.filter(pc.is_in(part["group"], chosen))
            for pattern in patterns:
                yield from asked.filter(pc.match_substring(asked["value"], pattern.decode()))["index"].to_pylist()
    for record in journal(sealed_to(), 2**62):
        if any(pattern in (record.groups.get(group) or b"") for pattern in patterns for group in groups):
            yield record.index
