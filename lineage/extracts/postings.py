"""Postings: which records have a term. One file of them, made, looked up and merged; pure but for the file.

A term is a 64-bit hash of a kind and its parts. Two terms may share one, so what postings find is a hint: whoever asks
checks the condition itself on the record. A look-up reads the pages it needs of a mapped file, whatever its size.
"""

from __future__ import annotations

import hashlib
import itertools
import mmap
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lineage import durable
from lineage.extracts import Indexes, columns
from lineage.extracts.columns import Lengths

Hashes = NDArray[np.uint64]
Order = Callable[[Indexes], Indexes]
"""By what the records of a term are in order, for these indexes; equal ones go by index."""

FOOT = struct.Struct("<16sQQQQQ")
MAGIC = b"touchstone post2"
NARROW = 1 << 24
"""What reaches over fewer records has three bytes for each, else four."""
SLICE = 1 << 20
"""Postings that a merge holds at a time, as far as no single term has more."""
NOTHING: Indexes = np.empty(0, np.int64)
FEW = 8
"""So many terms are compared one by one: for fewer the calls of numpy are what costs."""


class Damaged(Exception):
    """The file is not what `write` makes."""


def hash_of(kind: str, *parts: object) -> int:
    """The hash of a term, as `hash_sql` has DuckDB compute it."""
    text = "\x1f".join([kind, *("" if part is None else str(part) for part in parts)])
    return int.from_bytes(hashlib.md5(text.encode(), usedforsecurity=False).digest()[8:], "little")


def text_sql(kind: str, *expressions: str) -> str:
    """What of a term is hashed, as an expression of DuckDB over these expressions."""
    parts = "".join(f", coalesce(({each})::varchar, '')" for each in expressions)
    return f"concat_ws(chr(31), '{kind}'{parts})"


def hash_sql(kind: str, *expressions: str) -> str:
    """The hash of a term in the same way, of type UBIGINT."""
    return f"md5_number_lower({text_sql(kind, *expressions)})"


def hashes_of(terms: Iterable[tuple[object, ...]]) -> Hashes:
    """The hashes of many terms, each its kind and its parts."""
    return np.fromiter((hash_of(str(kind), *parts) for kind, *parts in terms), np.uint64)


def write(path: Path, hashes: Hashes, indexes: Indexes, order: Indexes | None = None) -> None:
    """Writes a new file of these pairs, which may come in any order and more than once; it is durable at return.

    In it the records of a term ascend by their `order` where one is given, and by index.
    """
    found = _sorted(np.asarray(hashes, np.uint64), np.asarray(indexes, np.int64), order)
    durable.write_from(path, 0, _content(iter([found]), *_reach(found[1])))


def _reach(indexes: Indexes) -> tuple[int, int]:
    """The least and the greatest."""
    return (int(indexes.min()), int(indexes.max())) if len(indexes) else (0, 0)


def _sorted(hashes: Hashes, indexes: Indexes, order: Indexes | None) -> tuple[Hashes, Indexes]:
    keys = (indexes, hashes) if order is None else (indexes, order, hashes)
    places = np.lexsort(keys)
    hashes, indexes = hashes[places], indexes[places]
    first = np.ones(len(hashes), bool)
    first[1:] = (hashes[1:] != hashes[:-1]) | (indexes[1:] != indexes[:-1])
    return (hashes, indexes) if first.all() else (hashes[first], indexes[first])


def _content(slices: Iterator[tuple[Hashes, Indexes]], least: int, most: int) -> Iterator[bytes]:
    """The bytes of a file: indexes as they come, then the terms, how many each has, and the foot."""
    width = _width(least, most)
    total, terms, lengths = 0, [np.empty(0, np.uint64)], [NOTHING]
    for hashes, indexes in slices:
        yield (indexes - least).astype("<u4").view("u1").reshape(-1, 4)[:, :width].tobytes()
        begins = np.flatnonzero(np.concatenate(([True], hashes[1:] != hashes[:-1]))) if len(hashes) else NOTHING
        terms.append(hashes[begins])
        lengths.append(np.diff(begins, append=len(hashes)))
        total += len(hashes)
    yield bytes(-total * width % 8)
    every, parts = np.concatenate(terms), Lengths.parts(np.concatenate(lengths))
    yield every.astype("<u8").tobytes()
    for part in (*parts[1:], parts[0]):
        yield part.tobytes()
    yield FOOT.pack(MAGIC, len(every), len(parts[2]), total, least, most)


def _width(least: int, most: int) -> int:
    if most - least >= 1 << 32:
        raise ValueError("Postings reach over fewer than 2^32 records.")
    return 3 if most - least < NARROW else 4


def content(hashes: Hashes, indexes: Indexes, order: Indexes | None = None) -> bytes:
    """What `write` would write."""
    found = _sorted(np.asarray(hashes, np.uint64), np.asarray(indexes, np.int64), order)
    return b"".join(_content(iter([found]), *_reach(found[1])))


def mapped(path: Path) -> mmap.mmap | bytes:
    """The file's content, read as far as it is looked at."""
    with path.open("rb") as file:
        # An empty file cannot be mapped.
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if file.seek(0, 2) else b""


class Postings:
    """One file, mapped for look-ups. Raises FileNotFoundError and Damaged. Nothing that it returns refers to the file."""

    def __init__(self, path: Path | None = None, content: bytes = b"") -> None:
        """Of a file, or of the content that one would have."""
        self.name = path.name if path else "A look-up in memory"
        view = mapped(path) if path else content
        size = len(view)
        if size < FOOT.size:
            raise Damaged(f"{self.name} is cut short.")
        magic, terms, large, self.total, self.least, self.most = FOOT.unpack_from(view, size - FOOT.size)
        steps = terms // columns.STEP + 1
        if magic != MAGIC or not 0 <= self.most - self.least < 1 << 32:
            raise Damaged(f"{self.name} is not a file of postings.")
        self.width = _width(self.least, self.most)
        at = -(-self.total * self.width // 8) * 8
        if at + terms * 9 + steps * 4 + large * 8 + FOOT.size != size:
            raise Damaged(f"{self.name} is not a file of postings.")
        self.offsets = np.frombuffer(view, "u1", self.total * self.width).reshape(-1, self.width)
        self.hashes = np.frombuffer(view, "<u8", terms, at)
        at += terms * 8
        parts = []
        for kind, count in (("<u4", steps), ("<u4", large), ("<u4", large), ("u1", terms)):
            parts.append(np.frombuffer(view, kind, count, at))
            at += parts[-1].nbytes
        self.lengths = Lengths(parts[3], *parts[:3])
        if self.lengths.begin(terms) != self.total:
            raise Damaged(f"{self.name} is not a file of postings.")

    def span(self, term: int) -> tuple[int, int]:
        """Where the postings of this hash begin and end; equal when there is none."""
        wanted = np.uint64(term)
        place = int(np.searchsorted(self.hashes, wanted))
        if place == len(self.hashes) or self.hashes[place] != wanted:
            return 0, 0
        return self._span(place)

    def _span(self, place: int) -> tuple[int, int]:
        begin, end = self.lengths.span(place)
        if begin >= end:
            raise Damaged(f"{self.name} has its terms in no order.")
        return begin, end

    def _lengths(self, places: Indexes | slice) -> Indexes:
        lengths = self.lengths.of(places)
        if (lengths <= 0).any():
            raise Damaged(f"{self.name} has its terms in no order.")
        return lengths

    def at(self, begin: int, end: int) -> Indexes:
        """The records of these places."""
        return self._indexes(slice(begin, end))

    def _indexes(self, places: Indexes | slice) -> Indexes:
        written = self.offsets[places]
        whole = np.zeros((len(written), 4), np.uint8)
        whole[:, : self.width] = written
        found: Indexes = np.add(whole.view("<u4").ravel(), self.least, dtype=np.int64)
        return found

    def find(self, term: int) -> Indexes:
        """The records that have this hash, in the order of the file."""
        return self.at(*self.span(term))

    def count(self, term: int) -> int:
        """How many records have this hash."""
        begin, end = self.span(term)
        return end - begin

    def find_all(self, terms: Hashes) -> Indexes:
        """The records that have any of these hashes, each once, ascending."""
        return np.unique(self._of(self._places(np.unique(np.asarray(terms, np.uint64)))))

    def each(self, terms: Hashes) -> list[Indexes]:
        """The records of each of these hashes that some record has, in the order of the file."""
        return [self.at(begin, end) for _, begin, end in self.spans(terms)]

    def among(self, terms: Hashes) -> Hashes:
        """Those of these hashes that some record has."""
        return self.hashes[self._places(terms)].astype(np.uint64)

    def several(self) -> Hashes:
        """The hashes that more than one record has."""
        return self.hashes[np.flatnonzero(self.lengths.counts != 1)].astype(np.uint64)

    def _places(self, wanted: Hashes) -> NDArray[np.intp]:
        if not len(self.hashes):
            return np.empty(0, np.intp)
        places = np.minimum(self.hashes.searchsorted(wanted), len(self.hashes) - 1)
        return np.asarray(places[self.hashes[places] == wanted], np.intp)

    def spans(self, terms: Hashes) -> list[tuple[int, int, int]]:
        """Of those of these hashes that some record has: the number among them, where its postings begin and end."""
        places, hashes = self.hashes.searchsorted(terms), self.hashes
        if len(terms) <= FEW:
            found = [n for n, at in enumerate(places.tolist()) if at < len(hashes) and hashes[at] == terms[n]]
        else:
            places = np.minimum(places, len(hashes) - 1)
            found = np.flatnonzero(hashes[places] == terms).tolist() if len(hashes) else []
        return [(number, *self._span(int(places[number]))) for number in found]

    def lasts(self, terms: Hashes) -> tuple[Indexes, Indexes]:
        """Of those of these hashes that some record has: their number among them, and the last of its records in the order of the file."""
        places = np.minimum(np.searchsorted(self.hashes, terms), len(self.hashes) - 1) if len(self.hashes) else NOTHING
        found = np.flatnonzero(self.hashes[places] == terms) if len(places) else NOTHING
        if not len(found):
            return NOTHING, NOTHING
        places = places[found]
        return found, self._indexes(self.lengths.begins(places) + self._lengths(places) - 1)

    def pairs(self, terms: Hashes) -> tuple[Hashes, Indexes]:
        """These hashes and the records that have them, as often as one has one."""
        places = self._places(terms)
        if not len(places):
            return np.empty(0, np.uint64), NOTHING
        return np.repeat(self.hashes[places].astype(np.uint64), self._lengths(places)), self._of(places)

    def numbered(self, terms: Hashes) -> tuple[Indexes, Indexes]:
        """The number among these hashes, and the record, of each record that has one, as often as it has one."""
        if not len(self.hashes):
            return NOTHING, NOTHING
        places = np.minimum(self.hashes.searchsorted(terms), len(self.hashes) - 1)
        found = np.flatnonzero(self.hashes[places] == terms)
        return np.repeat(found, self._lengths(places[found])), self._of(places[found])

    def between(self, low: int, high: int) -> tuple[Hashes, Indexes]:
        """All pairs whose hash is at least `low` and below `high`, in the order of the file."""
        first = int(np.searchsorted(self.hashes, np.uint64(low)))
        last = len(self.hashes) if high >= 1 << 64 else int(np.searchsorted(self.hashes, np.uint64(high)))
        lengths, begin = self._lengths(slice(first, last)), self.lengths.begin(first)
        return np.repeat(self.hashes[first:last], lengths), self.at(begin, begin + int(lengths.sum()))

    def _of(self, places: NDArray[np.intp]) -> Indexes:
        starts, lengths = self.lengths.begins(places), self._lengths(places)
        ends = np.cumsum(lengths)
        total = int(ends[-1]) if len(ends) else 0
        return self._indexes(np.repeat(starts - (ends - lengths), lengths) + np.arange(total))


def merged(
    path: Path, parts: Sequence[Path], dropped: Sequence[Indexes | None] | None = None, order: Order | None = None
) -> None:
    """Writes one file of several, part by part without these (ascending) indexes; some MB of them are in memory at a time.

    Files that were written with an `order` are merged with one that says the same.
    """
    files = [Postings(part) for part in parts]
    lost = list(dropped) if dropped is not None else [None] * len(files)
    total = sum(file.total for file in files)
    least = min((file.least for file in files if file.total), default=0)
    most = max((file.most for file in files if file.total), default=0)
    cuts = [(n << 64) // (total // SLICE + 1) for n in range(total // SLICE + 2)]
    slices = (_slice(files, lost, order, low, high) for low, high in itertools.pairwise(cuts))
    durable.write_from(path, 0, _content(slices, least, most))


def _slice(
    files: Sequence[Postings], dropped: Sequence[Indexes | None], order: Order | None, low: int, high: int
) -> tuple[Hashes, Indexes]:
    found = [_without(*file.between(low, high), lost) for file, lost in zip(files, dropped, strict=True)]
    hashes = np.concatenate([np.empty(0, np.uint64), *(pair[0] for pair in found)])
    indexes = np.concatenate([NOTHING, *(pair[1] for pair in found)])
    return _sorted(hashes, indexes, order(indexes) if order is not None else None)


def _without(hashes: Hashes, indexes: Indexes, lost: Indexes | None) -> tuple[Hashes, Indexes]:
    if lost is None or not len(lost):
        return hashes, indexes
    kept = ~among(indexes, lost)
    return hashes[kept], indexes[kept]


def among(indexes: Indexes, some: Indexes) -> NDArray[np.bool_]:
    """For each index whether it is one of `some`, which ascend."""
    if not len(some):
        return np.zeros(len(indexes), bool)
    places = np.minimum(np.searchsorted(some, indexes), len(some) - 1)
    return np.asarray(some[places] == indexes)
