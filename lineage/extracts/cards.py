"""Cards: whole records of an extract, few of which are read where they lie scattered. Pure but for the file.

Parquet takes a quarter of a second to give fifty scattered records; here each lies in a small block, compressed with a
dictionary of the file's own. Beside them stands what a walk through many records goes by: index, time, place (environment
and database) and marks.
"""

from __future__ import annotations

import itertools
import struct
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
import pyarrow as pa
import zstandard
from numpy.typing import NDArray

from lineage import durable
from lineage.extracts import Indexes, columns
from lineage.extracts.blocks import Content, Known, Layout, Place
from lineage.extracts.postings import Damaged, mapped

FOOT = struct.Struct("<16sQ")
MAGIC = b"touchstone card3"
BLOCK = 16
LEVEL = 6
DICTIONARY, SHARE = 64 << 10, 50
"""Most bytes of a dictionary, and how many times as large what it is made of must be."""
SAMPLE, SAMPLE_BYTES = 640, 4 << 20
"""Blocks that a dictionary is made of, whichever comes first."""
NO_TIME = -(1 << 63)


T = TypeVar("T")
Unpacked = Callable[[Layout, bytes, Sequence[Known], Sequence[int]], Sequence[T]]
"""As `Layout.unpacked`."""


class Card(NamedTuple):
    """One record: its time in microseconds, place and marks, and what it holds."""

    record: int
    at: int | None
    place: Place
    marks: int
    content: Content


class Directory(NamedTuple):
    """Of each record of a file, in the order of their indexes: index, time, number of the place, marks."""

    indexes: Indexes
    times: Indexes
    places: NDArray[np.int64]
    marks: NDArray[np.int64]

    def chosen(self, kept: NDArray[Any]) -> Directory:
        return Directory(*(column[kept] for column in self))

    def between(self, start: int, end: int) -> Directory:
        """Of those from one index to before another."""
        first, last = self.indexes.searchsorted((start, end)).tolist()
        return Directory(*(column[first:last] for column in self))


class Block(NamedTuple):
    """Some cards one behind the other, their contents packed; `places` are the numbers that whoever makes blocks gives to them."""

    indexes: Indexes
    times: Indexes
    places: NDArray[np.uint32]
    marks: NDArray[np.uint32]
    packed: bytes


Places = dict[Place, int]
"""The numbers of places."""


class Said(msgspec.Struct, array_like=True):
    """What the end of a file says of it."""

    columns: list[str]
    places: list[Place]
    count: int
    least: int
    since: int
    blocks_end: int
    sections: list[tuple[str, int]]
    """Type and length of each array between the blocks and the end."""


def write(path: Path, names: Sequence[str], cards: Iterable[Card]) -> None:
    """Writes a new file of these cards, which ascend by index; it is durable at return. `names` are the columns of the contents."""
    layout = Layout(names)
    rest, places = iter(cards), Places()
    parts = iter(lambda: list(itertools.islice(rest, BLOCK)), [])
    write_packed(path, names, places, (packed(layout, places, some) for some in parts))


def write_packed(path: Path, names: Sequence[str], places: Places, every: Iterable[Block]) -> None:
    """As `write`, of blocks that are made; these are their places when all have come."""
    blocks = iter(every)
    first, size = list[Block](), 0
    for block in blocks:
        first.append(block)
        size += len(block.packed)
        if len(first) == SAMPLE or size > SAMPLE_BYTES:
            break
    write_blocks(path, names, places, itertools.chain(first, blocks), trained([block.packed for block in first]))


def packed(layout: Layout, known: Places, cards: Sequence[Card]) -> Block:
    """These cards as one block."""
    records, times, places, marks, contents = zip(*cards, strict=True)
    return Block(
        np.array(records, np.int64), np.array([NO_TIME if at is None else at for at in times], np.int64),
        numbered(places, known), np.array(marks, np.uint32), layout.packed(contents),
    )  # fmt: skip


def numbered(places: Iterable[Place], known: Places) -> NDArray[np.uint32]:
    """The numbers of these places; a new one gets the next."""
    return np.array([known.setdefault(place, len(known)) for place in places], np.uint32)


def trained(samples: Sequence[bytes]) -> bytes:
    """A dictionary for blocks like these; empty where they are too few to be worth one."""
    size = min(DICTIONARY, sum(map(len, samples)) // SHARE)
    if len(samples) < SAMPLE // 4:
        return b""
    try:
        return zstandard.train_dictionary(size, list(samples)).as_bytes()
    except zstandard.ZstdError:
        # They have nothing in common.
        return b""


def write_blocks(path: Path, names: Sequence[str], places: Places, blocks: Iterable[Block], dictionary: bytes) -> None:
    """As `write_packed`."""
    durable.write_from(path, 0, _content(names, places, blocks, dictionary))


def _content(names: Sequence[str], places: Places, blocks: Iterable[Block], dictionary: bytes) -> Iterator[bytes]:
    compressor = zstandard.ZstdCompressor(
        level=LEVEL, write_checksum=True, write_dict_id=False,
        dict_data=zstandard.ZstdCompressionDict(dictionary) if dictionary else None,
    )  # fmt: skip
    indexes, times, numbers, marks = array("q"), array("q"), array("I"), array("I")
    starts, begins = array("Q", [0]), array("I", [0])
    for block in blocks:
        indexes.frombytes(block.indexes.tobytes())
        times.frombytes(block.times.tobytes())
        numbers.frombytes(block.places.tobytes())
        marks.frombytes(block.marks.tobytes())
        yield (data := compressor.compress(block.packed))
        starts.append(starts[-1] + len(data))
        begins.append(len(indexes))
    since, coded = columns.times(np.frombuffer(times, np.int64))
    least, offsets = columns.ascending(np.frombuffer(indexes, np.int64))
    # Numbered anew, as they come.
    met = pa.array(np.frombuffer(numbers, np.uint32)).dictionary_encode()
    named, first = list(places), met.dictionary.to_pylist()
    narrow = [columns.narrow(each) for each in (met.indices.to_numpy(), np.frombuffer(marks, np.uint32))]
    sections: list[NDArray[Any]] = [
        np.frombuffer(starts, np.uint64), np.frombuffer(begins, np.uint32), offsets, *coded, *narrow,
        np.frombuffer(dictionary, np.uint8),
    ]  # fmt: skip
    told = [(each.dtype.str, len(each)) for each in sections]
    at = starts[-1]
    for each in sections:
        yield bytes(-at % 8)
        yield each.tobytes()
        at += -at % 8 + each.nbytes
    said = Said(list(names), [named[number] for number in first], len(indexes), least, since, starts[-1], told)
    yield (end := msgspec.msgpack.encode(said))
    yield FOOT.pack(MAGIC, len(end))


class Cards:
    """One file, mapped. Raises FileNotFoundError and Damaged. Nothing that it returns refers to the file."""

    def __init__(self, path: Path) -> None:
        self.path, self.view = path, mapped(path)
        self.said, sections = self._sections()
        self.count, self.least, self.places = self.said.count, self.said.least, self.said.places
        self.starts, self.begins, self.offsets, low, high, self.numbers, self.marks, dictionary = sections
        self.coded = low, high
        self.is_whole = not len(self.offsets)
        self.last = self.least + (self.count - 1 if self.is_whole else int(self.offsets[-1]))
        self.columns = self.said.columns
        self.dictionary = zstandard.ZstdCompressionDict(dictionary.tobytes()) if len(dictionary) else None
        # A dictionary that is none is seen here.
        self.spare: list[zstandard.ZstdDecompressor] = []
        self.spare.append(self._decompressor())

    def _sections(self) -> tuple[Said, list[NDArray[Any]]]:
        size = len(self.view)
        if size < FOOT.size:
            raise Damaged(f"{self.path.name} is cut short.")
        magic, length = FOOT.unpack_from(self.view, size - FOOT.size)
        end = size - FOOT.size - length
        if magic != MAGIC or end < 0:
            raise Damaged(f"{self.path.name} is not a file of cards.")
        try:
            said = msgspec.msgpack.decode(self.view[end : size - FOOT.size], type=Said)
            self.layout = Layout(said.columns)
            found, at = list[NDArray[Any]](), said.blocks_end
            for kind, count in said.sections:
                at += -at % 8
                found.append(np.frombuffer(self.view, kind, count, at))
                at += found[-1].nbytes
        except (ValueError, TypeError, msgspec.DecodeError) as error:
            raise Damaged(f"{self.path.name} is not a file of cards.") from error
        if at != end or len(found) != 8 or len(found[0]) != len(found[1]) or int(found[1][-1]) != said.count:
            raise Damaged(f"{self.path.name} is not a file of cards.")
        return said, found

    def _decompressor(self) -> zstandard.ZstdDecompressor:
        """The spare one, or a new one: two threads must not use the same."""
        try:
            return self.spare.pop()
        except IndexError:
            return zstandard.ZstdDecompressor(dict_data=self.dictionary)

    def positions(self, indexes: Indexes) -> NDArray[np.intp]:
        """Where these records lie; -1 for one that is not in the file."""
        if not self.count:
            return np.full(len(indexes), -1, np.intp)
        wanted = indexes - self.least
        if self.is_whole:
            return np.asarray(np.where((wanted >= 0) & (wanted < self.count), wanted, -1), np.intp)
        # Mostly nothing is missing before them.
        guess = np.minimum(np.maximum(wanted, 0), self.count - 1)
        if (self.offsets[guess] == wanted).all():
            return np.asarray(guess, np.intp)
        # Of the same type: else numpy makes another copy of the whole column.
        sought = np.minimum(np.maximum(wanted, 0), (1 << 32) - 1).astype("<u4")
        found = np.minimum(np.searchsorted(self.offsets, sought), self.count - 1)
        return np.asarray(np.where(self.offsets[found] == wanted, found, -1), np.intp)

    def indexes(self, start: int, end: int) -> Indexes:
        """Of the records at these places."""
        if self.is_whole:
            return np.arange(start + self.least, end + self.least)
        found: Indexes = np.add(self.offsets[start:end], self.least, dtype=np.int64)
        return found

    def times(self, places: NDArray[np.intp] | slice) -> Indexes:
        """Of the records at these places."""
        return columns.times_of(self.coded[0][places], self.coded[1][places], self.said.since)

    def directory(self, indexes: Indexes) -> Directory:
        """Of those of these records that are in the file."""
        found = self.positions(indexes)
        if (found < 0).any():
            indexes, found = indexes[found >= 0], found[found >= 0]
        return Directory(
            indexes, self.times(found), self.numbers[found].astype(np.int64), self.marks[found].astype(np.int64)
        )

    def reaches(self, indexes: Indexes) -> bool:
        """Whether one of these may be in the file."""
        return bool(len(indexes) and indexes.max() >= self.least and indexes.min() <= self.last)

    def between(self, start: int, end: int) -> Directory:
        """Of all records in the file from one index to before another."""
        first, last = self._place(start), self._place(end)
        some = slice(first, last)
        return Directory(
            self.indexes(first, last), self.times(some), self.numbers[some].astype(np.int64), self.marks[some].astype(np.int64)
        )  # fmt: skip

    def _place(self, index: int) -> int:
        """Of the first record that is not below this index."""
        wanted = max(0, index - self.least)
        if self.is_whole or wanted >= 1 << 32:
            return min(wanted, self.count)
        # Of the same type: else numpy makes another copy of the whole column.
        return int(self.offsets.searchsorted(np.uint32(wanted)))

    def contents(self, indexes: Indexes) -> dict[int, Content]:
        """What those of these records hold that are in the file."""
        return self.read(indexes, Layout.unpacked)

    def read(self, indexes: Indexes, unpacked: Unpacked[T]) -> dict[int, T]:
        """What is made so of those of these records that are in the file, by index."""
        positions = np.unique(self.positions(indexes))
        return {known[0]: made for known, made in self._read(positions[positions >= 0], unpacked)}

    def cards(self, positions: NDArray[np.intp]) -> Iterator[Card]:
        """The cards at these places, in the order of their indexes; each block is read once."""
        positions = np.unique(positions)
        for (known, content), mark in zip(
            self._read(positions, Layout.unpacked), self.marks[positions].tolist(), strict=True
        ):
            yield Card(*known, mark, content)

    def _read(self, positions: NDArray[np.intp], unpacked: Unpacked[T]) -> Iterator[tuple[Known, T]]:
        """The same of ascending places, without their marks."""
        blocks = np.searchsorted(self.begins, positions.astype("<u4"), side="right") - 1
        numbers = (positions - self.begins[blocks]).tolist()
        indexes = (positions if self.is_whole else self.offsets[positions]).astype(np.int64) + self.least
        times = [None if at == NO_TIME else at for at in self.times(positions).tolist()]
        places = [self.places[each] for each in self.numbers[positions].tolist()]
        known = list(zip(indexes.tolist(), times, places, strict=True))
        decompressor = self._decompressor()
        begins = np.flatnonzero(np.diff(blocks, prepend=-1)).tolist()
        for start, end in itertools.pairwise([*begins, len(numbers)]):
            packed = self._packed(int(blocks[start]), decompressor)
            made = unpacked(self.layout, packed, known[start:end], numbers[start:end])
            yield from zip(known[start:end], made, strict=True)
        if not self.spare:
            self.spare.append(decompressor)

    def blocks(self, numbers: NDArray[np.intp], known: Places) -> Iterator[Block]:
        """These blocks as they were written, with the numbers of places that are `known`."""
        columns = (
            self.indexes(0, self.count), self.times(slice(None)),
            numbered(self.places, known)[self.numbers], self.marks.astype(np.uint32),
        )  # fmt: skip
        for number, packed in zip(numbers.tolist(), self.packed(numbers), strict=True):
            start, end = self.begins[number : number + 2].tolist()
            indexes, times, places, marks = columns
            yield Block(indexes[start:end], times[start:end], places[start:end], marks[start:end], packed)

    def packed(self, numbers: NDArray[np.intp]) -> Iterator[bytes]:
        """What these blocks hold."""
        decompressor = zstandard.ZstdDecompressor(dict_data=self.dictionary)
        return (self._packed(number, decompressor) for number in numbers.tolist())

    def _packed(self, number: int, decompressor: zstandard.ZstdDecompressor) -> bytes:
        begin, end = self.starts[number : number + 2].tolist()
        try:
            return decompressor.decompress(self.view[begin:end])
        except zstandard.ZstdError as error:
            raise Damaged(f"{self.path.name} cannot be read at block {number}.") from error
