"""`fsck`: derives tree, checkpoints and segments again from the stored leaves and says whether all agrees.

It reads in parts, beside a log that grows, seals and erases; what changed under it is looked at again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from django.db import connection

from lineage import (
    checkpoints,
    derivation,
    durable,
    engine,
    erasures,
    errors,
    health,
    heard,
    keys,
    merkle,
    notes,
    projections,
    segments,
    tree,
)
from lineage.extracts import agreeing
from lineage.keyfiles import checking

PART = 20_000


class _Segment(NamedTuple):
    first: int
    following: int
    folder: str
    files: dict[str, Any]


def check() -> Iterator[str]:
    """Faults found, as sentences; none means that all agrees."""
    found = signed()
    # Read after the checkpoints: what is appended and signed while we look comes later.
    size = tree.head()
    yield from tree_faults(size, found)
    yield from _batches(size)
    broken = list(_segments())
    yield from broken
    if not broken:
        yield from agreeing.faults()
    yield from checking.uncovered()
    yield from _journal()
    yield from erasures.unsaid()
    for _, sentence in health.disagreements():
        yield sentence


def repair_hashes() -> int:
    """Writes the file of leaf hashes again from the stored records; returns how many hashes it holds.

    Call under the keeper's lock. Raises SignerRefused, with the file as it was, when the records do not lead to the
    root that was signed last.
    """
    with checkpoints.fence():
        last = checkpoints.state()
        if last is None:
            raise errors.SignerRefused("The signer's own file is missing.", alarm="signer-state-missing")
        derived = merkle.CompactRange()
        fresh = tree.Hashes(tree.hashes().path.with_name("hashes.new"))
        fresh.write_from(0, checkpoints.integrated(derived, 0, last.size))
        if derived.hashes != last.edge:
            durable.remove(fresh.path)
            raise errors.SignerRefused(
                "The stored records do not lead to the root that was signed. Nothing was repaired.",
                alarm="log-rewritten",
            )
        durable.rename(fresh.path, tree.hashes().path)
        return last.size


def signed() -> list[tuple[int, bytes, str]]:
    """Size, root and note of every checkpoint, smallest first."""
    with connection.cursor() as cursor:
        cursor.execute("select size, root, note from ledger_checkpoint order by size")
        return [(size, bytes(root), note) for size, root, note in cursor.fetchall()]


def tree_faults(
    size: int, signed: list[tuple[int, bytes, str]], told: Callable[[int], object] = lambda reached: None
) -> Iterator[str]:
    """Faults of the tree over the first `size` records; `told` hears before each part how many were looked at."""
    if signed and signed[-1][0] > size:
        yield f"A checkpoint covers {signed[-1][0]} records, the log holds {size}."
    covered = signed[-1][0] if signed else 0
    derived, pending, upper, hashes_differ = merkle.CompactRange(), list(signed), _Upper(covered), False
    for start in range(0, size, PART):
        told(start)
        made = _leaf_hashes(start, min(size, start + PART))
        for value in made:
            derived.append(value)
            yield from upper.add(value)
            while pending and pending[0][0] == derived.size:
                yield from _checkpoint(*pending.pop(0), derived.root())
        if len(made) < min(size, start + PART) - start:
            yield f"Record {start + len(made)} is missing."
            return
        here = max(start, min(start + PART, covered))
        if not hashes_differ and tree.hashes().read(start, here) != made[: here - start]:
            hashes_differ = True
            yield f"The file of leaf hashes does not hold what the records from {start} on lead to."


def _leaf_hashes(first: int, following: int) -> list[bytes]:
    """Of the stored leaves, up to the first that is missing."""
    found = segments.leaves(first, following)
    return [merkle.leaf_hash(leaf) for expected, (index, leaf) in enumerate(found, first) if index == expected]


class _Upper:
    """Derives the upper hashes from leaf hashes in order, and compares each that a checkpoint covers."""

    def __init__(self, covered: int) -> None:
        self.covered = covered
        self.rows: list[list[bytes]] = [[]]
        self.done = [0]
        self.stored: list[dict[int, bytes]] = [{}]

    def add(self, value: bytes, level: int = 0) -> Iterator[str]:
        if level == len(self.rows):
            self.rows.append([])
            self.done.append(0)
            self.stored.append({})
        if level:
            yield from self._compare(level, self.done[level], value)
        self.done[level] += 1
        self.rows[level].append(value)
        if len(self.rows[level]) == tree.TILE:
            whole, self.rows[level] = merkle.root(self.rows[level]), []
            yield from self.add(whole, level + 1)

    def _compare(self, level: int, tile: int, value: bytes) -> Iterator[str]:
        if (tile + 1) * tree.TILE**level > self.covered:
            return
        if tile % tree.TILE == 0:
            self.stored[level] = tree.Level(level, {}).stored(tile, tile + tree.TILE)
        if self.stored[level].get(tile) != value:
            yield f"The upper hash {tile} of level {level} is not what the records lead to."


def _checkpoint(size: int, root: bytes, note: str, derived: bytes) -> Iterator[str]:
    if root != derived:
        yield f"The checkpoint of {size} does not match the stored records."
    try:
        found = notes.parse_checkpoint(notes.verify(note.encode(), keys.vkeys("checkpoint")).text)
        if (found.size, found.root) != (size, root):
            yield f"The signed note of {size} names another size or root."
    except errors.NoteInvalid:
        yield f"The checkpoint of {size} is not signed by our key."


def _batches(size: int) -> Iterator[str]:
    """Batches up to `size`; what is appended while we look comes after it."""
    with connection.cursor() as cursor:
        cursor.execute("select first_index, n from ledger_batch where first_index < %s order by first_index", [size])
        expected = 0
        for first, n in cursor:
            if first != expected:
                yield f"A batch starts at {first}, the one before ends at {expected}."
            expected = first + n
    if expected != size:
        yield f"The batches end at {expected}, the head said {size}."


def _segments() -> Iterator[str]:
    expected = 0
    for first, following, *_ in segments.manifest():
        if first != expected:
            yield f"A segment starts at {first}, the one before ends at {expected}."
        expected = following
    reached = 0
    while found := segments.sealed_at(reached):
        one = _Segment(*found)
        faults = _faults(one)
        # An erasure or a merge may exchange folders meanwhile: then the new one counts.
        if faults and segments.sealed_at(reached) != found:
            continue
        yield from faults
        reached = one.following


def _faults(one: _Segment) -> list[str]:
    try:
        return _changed_files(one) or [*_records(one), *_derivatives(one)]
    except FileNotFoundError as error:
        return [f"Segment {one.first}: its file {Path(error.filename).stem} is missing."]


def _changed_files(one: _Segment) -> list[str]:
    changed = []
    for name, stated in one.files.items():
        with segments.storage().path(one.folder, name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != stated["sha256"]:
                changed.append(f"Segment {one.first}: its file {name} was changed.")
    return changed


def _records(one: _Segment) -> Iterator[str]:
    place = segments.storage()
    current = [n for n in ("events", "touches") if one.files[n].get("projection") == projections.VERSION]
    if len(current) < 2:
        yield f"Segment {one.first}: what is derived of it was made by another version, and cannot be compared."
    rows = dict.fromkeys(current, 0)
    keys = checking.Keys(one.first, one.following, place.path(one.folder, "keys"), one.files.get("keys"))
    yield from keys.faults()
    for start in range(one.first, one.following, PART):
        records = list(segments.records(range(start, min(one.following, start + PART))))
        yield from filter(None, map(segments.unopened, records))
        yield from keys.unlike(records)
        derived = _derived(records)
        for name in current:
            rows[name] += derived[name].num_rows
            if not _follows(place.path(one.folder, name), start, derived[name]):
                yield f"Segment {one.first}: {name} does not follow from its records from {start} on."
    for name, count in rows.items():
        if pq.read_metadata(place.path(one.folder, name)).num_rows != count:
            yield f"Segment {one.first}: {name} holds rows that no record leads to."


def _derivatives(one: _Segment) -> Iterator[str]:
    """Facts and `heard` of another version are not used, nor are they compared."""
    path = {name: segments.storage().path(one.folder, name) for name in ("events", "facts", "heard")}
    if derivation.has_facts(one.files) and not derivation.facts_agree(path["events"], path["facts"]):
        yield f"Segment {one.first}: facts does not follow from its records."
    if derivation.has_heard(one.files):
        stored = {name: path[name] for name in ("events", "heard")}
        if not engine.agree(stored, heard.AGREE):
            yield f"Segment {one.first}: heard does not follow from its records."


def _derived(records: list[segments.Record]) -> dict[str, pa.Table]:
    events, touches = projections.tables((r.index, r.leaf, r.groups.values()) for r in records)
    return {"events": events, "touches": touches}


def _follows(path: Path, start: int, derived: pa.Table) -> bool:
    chosen = [("index", ">=", start), ("index", "<", start + PART)]
    stored: pa.Table = pq.read_table(path, filters=chosen)
    return bool(stored.cast(derived.schema).equals(derived))


def _journal() -> Iterator[str]:
    for start in range(segments.sealed_to(), tree.head(), PART):
        for record in segments.journal(start, start + PART):
            # Nothing is erased before it is sealed.
            fault = f"Record {record.index}: a group is gone." if None in record.groups.values() else ""
            if found := segments.unopened(record) or fault:
                yield found
