"""Statements in lower case, each once in a stretch of records, so that words are looked for in few of them. Pure but for the file.

A stretch has the statements in their order, compressed in blocks, so that those which are alike lie together; for each block the
runs of letters that it has, as bits, so that one that cannot have the words is not read; and of each statement its records.
A merge copies stretches: only those at the seams are made anew. No join changes a statement, so overrides are not here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import zstandard
from numpy.typing import NDArray

from lineage import durable
from lineage.extracts import Indexes, Making
from lineage.extracts.postings import NOTHING, Damaged, mapped

FILE = "folded.bin"
VERSION = "1"
"""Raise it with every change of what is written."""
STRETCH = 1 << 16
"""A stretch has the records whose indexes, divided by this, are its number."""
BLOCK = 1 << 14
"""Bytes of statements in a block, but for the last one."""
RUN, BITS = 6, 2
"""Letters (bytes) of a run, and bits of a block for each different one."""
SPOTS = 17
"""Bits of the hash of a run."""
BETWEEN = b"\xff"
"""Between two statements: no byte of UTF-8."""
KINDS = ("statements", "records", "bytes", "packed", "bits")
"""What is said of each block: how many statements and records, its bytes as they were and as they lie here, and those of its bits."""
FOOT = struct.Struct("<16sQ")
MAGIC = b"touchstone fold1"

STATEMENTS = """
select lower(statement) as folded, (index - {first})::integer as offset from made
where statement is not null and index >= {start} and index < {end} order by folded, index
"""


class Stretch(NamedTuple):
    """Its statements ascending, how many records each has, and the records as offsets, by statement."""

    statements: Sequence[bytes]
    counts: NDArray[Any]
    offsets: NDArray[Any]


def write(making: Making) -> None:
    """Of an extract that is made anew; durable at return."""
    durable.write_from(making.folder / FILE, 0, _content(_made(making)))


def merge(making: Making) -> None:
    """Of an extract that is merged of others."""
    files = [Folded(part / FILE) for part in making.parts]
    durable.write_from(making.folder / FILE, 0, _content(_merged(files)))


def _made(making: Making) -> Iterator[tuple[int, bytes]]:
    for number in range(making.first // STRETCH, -(-making.following // STRETCH)):
        first = number * STRETCH
        start, end = max(first, making.first), min(first + STRETCH, making.following)
        found = (
            making.cursor.sql(STATEMENTS.format(first=first, start=start, end=end)).to_arrow_table().combine_chunks()
        )
        if found.num_rows:
            each = pc.run_end_encode(found["folded"].chunk(0))
            counts = np.diff(each.run_ends.to_numpy(), prepend=0)
            yield (
                number,
                _packed(Stretch(each.values.cast(pa.binary()).to_pylist(), counts, found["offset"].to_numpy())),
            )


def _merged(files: Sequence[Folded]) -> Iterator[tuple[int, bytes]]:
    for number in sorted({number for file in files for number in file.numbers}):
        holding = [file for file in files if number in file.numbers]
        whole = (
            holding[0].packed(number)
            if len(holding) == 1
            else _packed(_together([one.stretch(number) for one in holding]))
        )
        yield number, whole


def _together(parts: Sequence[Stretch]) -> Stretch:
    """One of several that have no record in common."""
    every = [statement for part in parts for statement in part.statements]
    known = sorted(set(every))
    places = dict(zip(known, range(len(known)), strict=True))
    counts, offsets = (np.concatenate(columns) for columns in list(zip(*parts, strict=True))[1:])
    of = np.repeat([places[statement] for statement in every], counts)
    return Stretch(known, np.bincount(of), offsets[np.lexsort((offsets, of))])


def _packed(some: Stretch) -> bytes:
    """The bytes of a stretch: what is said of its blocks, the records, the blocks and their bits."""
    compress = zstandard.ZstdCompressor(level=6).compress
    lengths = np.fromiter(map(len, some.statements), np.int64) + len(BETWEEN)
    begins = np.flatnonzero(np.diff((np.cumsum(lengths) - lengths) // BLOCK, prepend=-1)).tolist()
    said, blocks, every = [], [], []
    for begin, end in zip(begins, [*begins[1:], len(lengths)], strict=True):
        text, counts = BETWEEN.join(some.statements[begin:end]), some.counts[begin:end]
        data = (counts - 1).astype("<u2").tobytes() + text
        blocks.append(compress(data))
        every.append(_bits(_runs(text)))
        said.append((end - begin, counts.sum(), len(data), len(blocks[-1]), len(every[-1])))
    table = np.array(said).T.astype("<u4").tobytes()
    return b"".join([struct.pack("<I", len(said)), table, some.offsets.astype("<u2").tobytes(), *blocks, *every])


def _runs(text: bytes) -> Indexes:
    """The different hashes of the runs of letters in these statements, ascending."""
    letters = np.frombuffer(text, "u1")
    count = max(0, len(letters) - RUN + 1)
    value, is_one = np.zeros(count, np.uint64), np.ones(count, bool)
    for place in range(RUN if count else 0):
        here = letters[place : place + count]
        value = value << np.uint64(8) | here
        is_one &= here != BETWEEN[0]
    hashes = value[is_one] * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(64 - SPOTS)
    met = np.zeros(1 << SPOTS, bool)
    met[hashes] = True
    return np.flatnonzero(met)


def _bits(runs: Indexes) -> bytes:
    size = len(runs) * BITS // 8 + 1
    bits = np.zeros(8 * size, bool)
    bits[runs % len(bits)] = True
    return np.packbits(bits, bitorder="little").tobytes()


def _content(stretches: Iterator[tuple[int, bytes]]) -> Iterator[bytes]:
    """The bytes of a file: the stretches, by number; then of each its number and where it ends."""
    at, ends = 0, list[tuple[int, int]]()
    for number, data in stretches:
        yield data
        at += len(data)
        ends.append((number, at))
    yield np.array(ends, "<u8").tobytes()
    yield FOOT.pack(MAGIC, len(ends))


class Words:
    """What is looked for: some words, folded, and the hashes of their runs."""

    def __init__(self, words: Sequence[bytes]) -> None:
        self.words = words
        self.runs = np.unique(np.concatenate([NOTHING, *map(_runs, words)]))


class Folded:
    """One file, mapped. Raises FileNotFoundError and Damaged. Nothing that it returns refers to the file."""

    def __init__(self, path: Path) -> None:
        self.view = mapped(path)
        size = len(self.view)
        if size < FOOT.size:
            raise Damaged(f"{FILE} is cut short.")
        magic, count = FOOT.unpack_from(self.view, size - FOOT.size)
        end = size - FOOT.size - 16 * count
        if magic != MAGIC or end < 0:
            raise Damaged(f"{FILE} is not a file of statements.")
        numbers, ends = np.frombuffer(self.view, "<u8", 2 * count, end).reshape(-1, 2).T.tolist()
        if [0, *ends][-1] != end or sorted([0, *ends]) != [0, *ends]:
            raise Damaged(f"{FILE} is not a file of statements.")
        self.numbers = dict(zip(numbers, zip([0, *ends], ends, strict=False), strict=True))
        """Of each stretch from where to where it lies."""

    def packed(self, number: int) -> bytes:
        """The bytes of a stretch."""
        return self.view[slice(*self.numbers[number])]

    def stretch(self, number: int) -> Stretch:
        """All of a stretch. Raises Damaged."""
        of = _Blocks(self.view, *self.numbers[number])
        told = [of.read(place) for place in range(len(of.ends))]
        statements = [one for data, counts in told for one in data[2 * len(counts) :].split(BETWEEN)]
        return Stretch(statements, np.concatenate([counts for _, counts in told]), of.offsets.astype(np.int64))

    def find(self, number: int, sought: Words) -> Indexes:
        """The records of a stretch, ascending, whose statements have all of these words. Raises Damaged."""
        if number not in self.numbers:
            return NOTHING
        of = _Blocks(self.view, *self.numbers[number])
        found = [NOTHING, *(of.records(place, sought.words) for place in of.having(sought.runs))]
        return np.sort(np.concatenate(found)) + number * STRETCH


class _Blocks:
    """The blocks of one stretch."""

    def __init__(self, view: Any, begin: int, end: int) -> None:
        try:
            (count,) = struct.unpack_from("<I", view, begin)
            table = np.frombuffer(view, "<u4", len(KINDS) * count, begin + 4).reshape(-1, count).astype(np.int64)
            self.statements, _, self.bytes, _, self.sizes = table
            self.records_to, ends, bits_to = (np.cumsum(table[place]) for place in (1, 3, 4))
            self.offsets = np.frombuffer(view, "<u2", self.records_to[-1], begin + 4 + table.size * 4)
            self.ends = ends + begin + 4 + table.size * 4 + 2 * self.records_to[-1]
            self.bits = np.frombuffer(view, "u1", bits_to[-1], self.ends[-1])
        except (ValueError, IndexError, struct.error) as error:
            raise Damaged(f"{FILE} is not a file of statements.") from error
        if self.ends[-1] + bits_to[-1] != end or not self.sizes.all():
            raise Damaged(f"{FILE} is not a file of statements.")
        self.view, self.bits_from = view, bits_to - self.sizes
        self.begins = self.ends - table[3]
        self.decompress = zstandard.ZstdDecompressor().decompress

    def having(self, runs: Indexes) -> list[int]:
        """The blocks that may have all these runs."""
        spots = runs % (8 * self.sizes)[:, None]
        is_there = self.bits[self.bits_from[:, None] + (spots >> 3)] >> (spots & 7) & 1
        return np.flatnonzero(is_there.all(axis=1)).tolist()

    def read(self, place: int) -> tuple[bytes, NDArray[np.int64]]:
        """What a block holds: how many records each statement has, then the statements; and those numbers."""
        try:
            data = self.decompress(self.view[self.begins[place] : self.ends[place]])
            counts = np.frombuffer(data, "<u2", self.statements[place]).astype(np.int64) + 1
        except (ValueError, zstandard.ZstdError) as error:
            raise Damaged(f"{FILE} is not a file of statements.") from error
        records = self.records_to[place] - (self.records_to[place - 1] if place else 0)
        if len(data) != self.bytes[place] or counts.sum() != records:
            raise Damaged(f"{FILE} is not a file of statements.")
        return data, counts

    def records(self, place: int, words: Sequence[bytes]) -> Indexes:
        """The records of a block, as offsets, whose statements have all these words."""
        data, counts = self.read(place)
        start = 2 * len(counts)
        if any(data.find(word, start) < 0 for word in words):
            return NOTHING
        ends = np.flatnonzero(np.frombuffer(data, "u1", offset=start) == BETWEEN[0])
        if len(ends) != len(counts) - 1:
            raise Damaged(f"{FILE} is not a file of statements.")
        has = np.ones(len(counts), bool)
        for word in words:
            here = np.zeros(len(counts), bool)
            here[np.searchsorted(ends, _places(data, word, start))] = True
            has &= here
        end = self.records_to[place]
        return np.asarray(self.offsets[end - counts.sum() : end][np.repeat(has, counts)], np.int64)


def _places(data: bytes, word: bytes, start: int) -> list[int]:
    """Where this word lies first in each statement that has it, from the first statement on."""
    found, at = list[int](), data.find(word, start)
    while at >= 0:
        found.append(at - start)
        following = data.find(BETWEEN, at)
        at = data.find(word, following) if following >= 0 else -1
    return found
