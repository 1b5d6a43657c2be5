"""Merging: neighbouring segments become one, so that a question opens few files however long the log is (docs/merging.md).

It runs beside everything else, one process at a time, in memory that does not grow with the segments: what is merged is
read, checked and written in parts. The manifest's commit is what makes it so; killed before, nothing happened.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import psycopg
import pyarrow as pa
from django.db import OperationalError, connection, transaction

from lineage import derivation, errors, merkle, projections, rowgroups, segments, tree
from lineage.keyfiles import making

EVENTS_MOST = 12_800_000
"""No segment holds more."""
MANY = 16
GROWTH = 4
"""What is merged is at least so many times its largest part: each record is written anew a few times in all."""
LOOK_SECONDS = 1.0
SCHEMAS = {
    "leaves": segments.LEAVES, "disclosures": segments.DISCLOSURES, "events": projections.EVENTS,
    "touches": projections.TOUCHES,
}  # fmt: skip
"""What merging knows how to merge. A segment with a file of another name is left as it is."""
DERIVED = ("events", "touches")


class Segment(NamedTuple):
    """One row of the manifest."""

    first: int
    following: int
    folder: str
    files: dict[str, Any]

    @property
    def size(self) -> int:
        return self.following - self.first


class Changed(Exception):
    """A segment that is being merged was exchanged meanwhile, by an erasure."""


Write = Callable[[Sequence[Segment]], tuple[str, dict[str, Any]]]
"""Writes a new folder of these segments; its name and its files."""


def merge() -> tuple[int, int] | None:
    """Merges the neighbours that are due first; (first index, next index) of what became of them, None when none are due.

    Call under `locks.alone(locks.MERGE)`. Raises LedgerBroken when a file is not what was sealed or signed, and all others
    that are due are merged.
    """
    done = merge_due()
    if done is None:
        refused.tell(standing())
    return done


def merge_due(kept: str = "") -> tuple[int, int] | None:
    """As `merge`, without a word on what is refused; a draft of the name `kept` is left."""
    while found := due(standing()):
        if exchanged(found, _written, "select ledger_merge(%s, %s, %s)", kept):
            return found[0].first, found[-1].following
    return None


def standing() -> list[Segment]:
    """The manifest."""
    return [Segment(*row) for row in segments.manifest()]


def exchanged(parts: Sequence[Segment], write: Write, statement: str, kept: str = "") -> bool:
    """Whether these segments were exchanged for what `write` makes of them; if not, the manifest says what is to do now.

    Files that are not what was sealed or signed are refused, and remembered.
    """
    segments.sweep_merges(kept)
    try:
        _publish(parts, statement, *write(parts))
    except Changed:
        return False
    except errors.LedgerBroken as error:
        if "index" not in error.fields:
            raise
        refused.note(parts, error)
        return False
    except FileNotFoundError:
        # Of files that were exchanged and have gone since.
        if Standing(parts).stand():
            raise
        return False
    return True


class _Refused:
    """Segments that were refused, each until one of its files changes: they are not read again each time."""

    def __init__(self) -> None:
        self.held: dict[str, tuple[object, errors.LedgerBroken]] = {}

    def note(self, parts: Sequence[Segment], error: errors.LedgerBroken) -> None:
        """Of these it is the one that holds the index which the error names."""
        one = next(one for one in reversed(parts) if one.first <= int(error.fields["index"]))
        self.held[one.folder] = _seen(one), error

    def holds(self, one: Segment) -> bool:
        if one.folder in self.held and self.held[one.folder][0] != _seen(one):
            del self.held[one.folder]
        return one.folder in self.held

    def tell(self, every: Sequence[Segment]) -> None:
        """Raises why, again, while one of these is refused."""
        for one in every:
            if self.holds(one):
                raise self.held[one.folder][1]


refused = _Refused()


def _seen(one: Segment) -> object:
    """What differs when a file of the segment was written again, or the file of leaf hashes was made again."""
    paths = [segments.storage().path(one.folder, table) for table in one.files]
    told = [path.stat() if path.exists() else None for path in paths]
    each = [stat and (stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in told]
    return each, tree.hashes().path.stat().st_ino


def due(every: Sequence[Segment]) -> Sequence[Segment]:
    """The neighbours to merge next: of all that may be, the fewest records; empty when none are due."""
    found: list[Sequence[Segment]] = []
    for some in _alike(every):
        ends = chosen([one.size for one in some])
        if ends:
            found.append(some[slice(*ends)])
    return min(found, key=lambda some: sum(one.size for one in some), default=())


def is_known(one: Segment) -> bool:
    """Whether it has the files that this program knows, and no other."""
    return one.files.keys() - {*derivation.OF_EVENTS, "keys"} == SCHEMAS.keys()


def _alike(every: Sequence[Segment]) -> Iterator[Sequence[Segment]]:
    """The longest runs of neighbours that can be merged: of files that are known, derived by the present version."""
    run: list[Segment] = []
    for one in every:
        if is_known(one) and derivation.is_current(one.files) and not refused.holds(one):
            run.append(one)
            continue
        yield run
        run = []
    yield run


def chosen(sizes: Sequence[int]) -> tuple[int, int] | None:
    """From which to before which of the neighbours of these sizes to merge; None when there are few, or they are large.

    Sixteen or more, together at least four times the largest of them. Or as many as a segment may hold, at least half
    of that and twice the largest: they become one that is not merged again.
    """
    best: tuple[int, int, int] | None = None
    for start in range(len(sizes)):
        total = largest = 0
        for end in range(start, len(sizes)):
            whole = total + sizes[end] > EVENTS_MOST
            if not whole:
                total, largest = total + sizes[end], max(largest, sizes[end])
            count = end - start + (not whole)
            full = whole and count > 1 and 2 * total >= EVENTS_MOST and total >= 2 * largest
            if full or (count >= MANY and total >= GROWTH * largest):
                best = min(filter(None, (best, (total, start, start + count))))
            if whole or (best and total >= best[0]):
                break
    return best and best[1:]


def _written(parts: Sequence[Segment]) -> tuple[str, dict[str, Any]]:
    """A new folder with the files of these segments in their order; its name and its files."""
    place = segments.storage()
    stands = Standing(parts)
    for one in parts:
        check_unchanged(one, one.files, stands)
    name = segments.new_name(merged=True)
    draft = place.draft(name)
    try:
        files: dict[str, Any] = {}
        for table, schema in SCHEMAS.items():
            path = draft / f"{table}.parquet"
            sources = [place.path(one.folder, table) for one in parts]
            _concatenated(path, schema, sources, stands, sum(one.size for one in parts))
            files[table] = segments.described(path)
        files["facts"] = _facts(draft / "facts.parquet", parts)
        derivation.write_heard(draft / "heard.parquet", draft / "events.parquet")
        files["heard"] = segments.described(draft / "heard.parquet")
        derivation.say_versions(files)
        files["keys"] = making.added(draft / segments.KEYS, _keys(parts))
        _check_leaves(draft / "leaves.parquet", parts[0].first, parts[-1].following)
        place.keep(name)
    except BaseException:
        place.discard(name)
        raise
    return name, files


def _facts(path: Path, parts: Sequence[Segment]) -> dict[str, Any]:
    """What the parts say that others are joined with, each content once (docs/joining.md)."""
    place = segments.storage()
    told = [one for one in parts if derivation.has_facts(one.files)]
    derivation.write_facts(
        path,
        [place.path(one.folder, "events") for one in parts if one not in told],
        [place.path(one.folder, "facts") for one in told],
    )
    return segments.described(path)


def _keys(parts: Sequence[Segment]) -> making.Made:
    """The keys of all of them. Of a segment that was sealed before there were key files they are in PostgreSQL still."""
    place = segments.storage()
    files = [place.path(one.folder, "keys") for one in parts if "keys" in one.files]
    return making.merged(files, [making.rows(one.first, one.following) for one in parts if "keys" not in one.files])


class Standing:
    """Looks now and then whether the segments are still those that were read. Raises Changed when they are not."""

    def __init__(self, parts: Sequence[Segment]) -> None:
        self.folders = [one.folder for one in parts]
        self.looked_at = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self.looked_at >= LOOK_SECONDS:
            if not self.stand():
                raise Changed
            self.looked_at = time.monotonic()

    def stand(self) -> bool:
        with connection.cursor() as cursor:
            cursor.execute("select count(*) from ledger_segment where folder = any(%s)", [self.folders])
            return bool(cursor.fetchone()[0] == len(self.folders))


def check_unchanged(one: Segment, tables: Iterable[str], stands: Callable[[], None]) -> None:
    """What was changed by hand is not written anew as if it were ours."""
    for table in tables:
        stands()
        with segments.storage().path(one.folder, table).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != one.files[table]["sha256"]:
                raise errors.LedgerBroken(
                    f"Segment {one.first}: its file {table} was changed. It is not merged; run fsck.",
                    alarm="log-rewritten",
                    index=str(one.first),
                )


def _concatenated(
    path: Path, schema: pa.Schema, sources: Sequence[Path], stands: Callable[[], None], records: int
) -> None:
    with rowgroups.Writer(path, schema, records) as file:
        for source in sources:
            for part in rowgroups.batches(source):
                stands()
                file.add(part)


def _check_leaves(path: Path, first: int, following: int) -> None:
    """What was written is the leaves that were signed, each once and in order."""
    expected = first
    for part in rowgroups.batches(path):
        signed = tree.hashes().read(expected, expected + part.num_rows)
        hashes = [merkle.leaf_hash(leaf) for leaf in part["leaf"].to_pylist()]
        if part["index"].to_pylist() != list(range(expected, expected + part.num_rows)) or hashes != signed:
            raise errors.LedgerBroken(
                f"The sealed records from {expected} on are not those that were signed. They are not merged; run fsck.",
                alarm="log-rewritten",
                index=str(expected),
            )
        expected += part.num_rows
    if expected != following:
        raise errors.LedgerBroken(
            f"The sealed files hold {expected - first} of {following - first} records from {first}. "
            "They are not merged; run fsck.",
            alarm="record-missing",
            index=str(min(expected, following - 1)),
        )


def _publish(parts: Sequence[Segment], statement: str, name: str, files: dict[str, Any]) -> None:
    """Raises Changed when a segment is no longer the one that was read; then what was written goes."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement, [[one.folder for one in parts], name, msgspec.json.encode(files).decode()])
    except OperationalError as error:
        if isinstance(error.__cause__, psycopg.errors.SerializationFailure):
            segments.storage().discard(name)
            raise Changed from error
        # Whether it was committed is not known: the next sweep goes by the manifest.
        raise
