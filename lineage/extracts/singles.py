"""Counted records one by one, so that an hour that a window cuts is counted without reading records. Pure but for the file.

In blocks, each column of a block compressed by itself, with the times that a block reaches over. Actors and ways are numbers
of the sums beside them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zstandard
from numpy.typing import NDArray

from lineage.extracts import Indexes
from lineage.extracts.postings import Damaged, mapped

FILE = "singles.bin"
BLOCK = 4_096
KINDS = ("<u4", "<u8", "<u4", "<u4", "<u4")
DIRECTORY = ("<i8", "<i8", "<i8", "<u8", "<u8")
FOOT = struct.Struct("<16sQQ")
MAGIC = b"touchstone singl"


class Singles(NamedTuple):
    """Of each record its index, time, actor, in which way it counts, and the least index of a record of its call here."""

    indexes: Indexes
    times: Indexes
    actors: NDArray[Any]
    ways: NDArray[Any]
    calls: Indexes


NOTHING = Singles(*(np.empty(0, np.int64) for _ in Singles._fields))


def chosen(some: Singles, places: NDArray[Any] | slice) -> Singles:
    return Singles(*(column[places] for column in some))


def together(parts: Iterable[Singles]) -> Singles:
    return Singles(*(np.concatenate(columns) for columns in zip(NOTHING, *parts, strict=True)))


def content(parts: Iterable[Singles]) -> Iterator[bytes]:
    """The bytes of a file of these records, each of which has a time."""
    compress = zstandard.ZstdCompressor(level=6).compress
    blocks: list[tuple[int, ...]] = []
    at = 0
    for part in parts:
        for start in range(0, len(part.indexes), BLOCK):
            some = chosen(part, slice(start, start + BLOCK))
            data = compress(b"".join(_shuffled(column, kind) for column, kind in zip(_told(some), KINDS, strict=True)))
            yield data
            at += len(data)
            least = int(some.indexes.min()), int(some.times.min()), int(some.times.max())
            blocks.append((*least, len(some.indexes), at))
    yield bytes(-at % 8)
    for column, kind in zip(np.array(blocks, np.int64).reshape(-1, len(DIRECTORY)).T, DIRECTORY, strict=True):
        yield column.astype(kind).tobytes()
    yield FOOT.pack(MAGIC, len(blocks), at)


def _told(some: Singles) -> tuple[NDArray[Any], ...]:
    """As they are written: each beside the least, the one before, or the record's own."""
    steps = np.diff(some.times, prepend=some.times.min())
    return (
        some.indexes - some.indexes.min(),
        (steps << 1) ^ (steps >> 63),
        some.actors,
        some.ways,
        some.indexes - some.calls,
    )


def _shuffled(column: NDArray[Any], kind: str) -> bytes:
    """The first bytes of all numbers, then the second ones: most of these are alike."""
    width = np.dtype(kind).itemsize
    return column.astype(kind).view("u1").reshape(-1, width).T.tobytes()


class File:
    """One file, mapped. Raises FileNotFoundError and Damaged."""

    def __init__(self, folder: Path) -> None:
        self.view = mapped(folder / FILE)
        size = len(self.view)
        if size < FOOT.size:
            raise Damaged(f"{FILE} is cut short.")
        magic, blocks, at = FOOT.unpack_from(self.view, size - FOOT.size)
        begin = -(-at // 8) * 8
        if magic != MAGIC or begin + blocks * 8 * len(DIRECTORY) + FOOT.size != size:
            raise Damaged(f"{FILE} is not a file of counted records.")
        columns = [
            np.frombuffer(self.view, kind, blocks, begin + 8 * blocks * place).astype(np.int64)
            for place, kind in enumerate(DIRECTORY)
        ]
        self.least, self.since, self.until, self.counts, self.ends = columns

    def between(self, since: int | None, until: int | None) -> Singles:
        """The records from one time to before another. Raises Damaged."""
        near = np.ones(len(self.ends), bool)
        if since is not None:
            near &= self.until >= since
        if until is not None:
            near &= self.since < until
        found = together(self._block(place) for place in np.flatnonzero(near).tolist())
        kept = np.ones(len(found.times), bool)
        if since is not None:
            kept &= found.times >= since
        if until is not None:
            kept &= found.times < until
        return chosen(found, kept)

    def _block(self, place: int) -> Singles:
        begin, end, count = int(self.ends[place - 1]) if place else 0, int(self.ends[place]), int(self.counts[place])
        widths = [np.dtype(kind).itemsize for kind in KINDS]
        try:
            data = zstandard.decompress(self.view[begin:end], max_output_size=count * sum(widths))
        except zstandard.ZstdError as error:
            raise Damaged(f"{FILE} is not a file of counted records.") from error
        if len(data) != count * sum(widths):
            raise Damaged(f"{FILE} is not a file of counted records.")
        columns, at = [], 0
        for kind, width in zip(KINDS, widths, strict=True):
            bytes_ = np.frombuffer(data, "u1", count * width, at).reshape(width, count).T
            columns.append(np.ascontiguousarray(bytes_).view(kind).ravel().astype(np.int64))
            at += count * width
        indexes = columns[0] + self.least[place]
        times = np.cumsum((columns[1] >> 1) ^ -(columns[1] & 1)) + self.since[place]
        return Singles(indexes, times, columns[2], columns[3], indexes - columns[4])
