"""`fsck`: derives tree, checkpoints and segments again from the stored leaves and says whether all agrees."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from django.db import connection

from lineage import commitment, errors, keys, merkle, notes, projections, segments, tree


def check() -> Iterator[str]:
    """Faults found, as sentences; none means that all agrees."""
    signed = _signed()
    # Read after the checkpoints: what is appended and signed while we look comes later.
    size = tree.head()
    yield from _tree(size, signed)
    yield from _batches(size)
    yield from _segments()
    yield from _journal()


def _signed() -> list[tuple[int, bytes, str]]:
    with connection.cursor() as cursor:
        cursor.execute("select size, root, note from ledger_checkpoint order by size")
        return [(size, bytes(root), note) for size, root, note in cursor.fetchall()]


def _tree(size: int, signed: list[tuple[int, bytes, str]]) -> Iterator[str]:
    if signed and signed[-1][0] > size:
        yield f"A checkpoint covers {signed[-1][0]} records, the log holds {size}."
    vkeys = [keys.vkey("checkpoint")]
    derived, position, pending = merkle.CompactRange(), 0, list(signed)
    file = tree.hashes()
    for index, leaf in segments.leaves(0, size):
        if index != position:
            yield f"Record {position} is missing."
            return
        value = merkle.leaf_hash(leaf)
        derived.append(value)
        position += 1
        while pending and pending[0][0] == position:
            _, root, note = pending.pop(0)
            yield from _checkpoint(position, root, note, derived.root(), vkeys)
    if position != size:
        yield f"The log holds {position} of {size} records."
    if signed:
        covered = signed[-1][0]
        stored = file.read(0, covered)
        if len(stored) != covered or merkle.root(stored) != signed[-1][1]:
            yield "The file of leaf hashes does not lead to the newest checkpoint's root."


def _checkpoint(size: int, root: bytes, note: str, derived: bytes, vkeys: list[str]) -> Iterator[str]:
    if root != derived:
        yield f"The checkpoint of {size} does not match the stored records."
    try:
        text = notes.verify(note.encode(), vkeys).text
        if notes.parse_checkpoint(text).root != root:
            yield f"The signed note of {size} names another root."
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
    with connection.cursor() as cursor:
        cursor.execute("select first_index, next_index, folder, files from ledger_segment order by first_index")
        rows = cursor.fetchall()
    expected = 0
    for first, following, folder, files in rows:
        if first != expected:
            yield f"A segment starts at {first}, the one before ends at {expected}."
        expected = following
        yield from _segment(first, following, folder, files if isinstance(files, dict) else msgspec.json.decode(files))


def _segment(first: int, following: int, folder: str, files: dict[str, Any]) -> Iterator[str]:
    place = segments.storage()
    for name, stated in files.items():
        path = place.path(folder, name)
        if not path.exists():
            yield f"Segment {first}: its file {name} is missing."
            return
        if hashlib.sha256(path.read_bytes()).hexdigest() != stated["sha256"]:
            yield f"Segment {first}: its file {name} was changed."
            return
    records = list(segments.records(range(first, following)))
    for record in records:
        yield from _digests(record)
    events, touches = projections.tables((r.index, r.leaf, r.groups.values()) for r in records)
    for name, derived in (("events", events), ("touches", touches)):
        if files[name].get("projection") != projections.VERSION:
            # Derived by an older reading of the same records: not comparable, and no evidence depends on it.
            continue
        stored: pa.Table = pq.read_table(place.path(folder, name))
        if not stored.cast(derived.schema).equals(derived):
            yield f"Segment {first}: {name} does not follow from its records."


def _journal() -> Iterator[str]:
    sealed = segments.sealed_to()
    for record in segments.journal(sealed, tree.head()):
        yield from _digests(record)


def _digests(record: segments.Record) -> Iterator[str]:
    """Every group that is held must be the one that the leaf commits to."""
    committed = msgspec.json.decode(record.leaf)["groups"]
    if set(record.groups) != set(committed):
        yield f"Record {record.index}: its groups are not those that it commits to."
        return
    for group, value in record.groups.items():
        salt = record.salts[group]
        if value is not None and (salt is None or commitment.digest(salt, value) != committed[group]):
            yield f"Record {record.index}: the group {group} is not what was accepted."
