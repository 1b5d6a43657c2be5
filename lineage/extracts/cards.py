"""Cards: whole records of an extract, few of which are read where they lie scattered. Pure but for the file.

Parquet takes a quarter of a second to give fifty scattered records; here each lies in a small compressed block. Beside them
stands what a walk through many records goes by: index, time, place (environment and database) and marks.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import zstandard
from numpy.typing import NDArray

from lineage import durable
from lineage.extracts import Indexes
from lineage.extracts.postings import NOTHING, Damaged, among, mapped

FOOT = struct.Struct("<16sQQQQQ")
MAGIC = b"touchstone cards"
BLOCK = 32
LEVEL = 3
PART = 1 << 14
"""Records of each part that a merge holds at a time."""
NO_TIME = -(1 << 63)

Place = tuple[str | None, str | None]
"""Environment and database."""


class Card(NamedTuple):
    """One record: its time in microseconds, place and marks, and its content as bytes."""

    record: int
    at: int | None
    place: Place
    marks: int
    content: bytes


class Directory(NamedTuple):
    """Of each record of a file, in the order of their indexes: index, time, number of the place, marks."""

    indexes: Indexes
    times: Indexes
    places: NDArray[np.int64]
    marks: NDArray[np.int64]

    def chosen(self, kept: NDArray[Any]) -> Directory:
        return Directory(*(column[kept] for column in self))


def write(path: Path, columns: Sequence[str], cards: Iterable[Card]) -> None:
    """Writes a new file of these cards, which ascend by index; it is durable at return. `columns` are those of the contents."""
    durable.write_from(path, 0, _content(columns, iter(cards)))


def _content(columns: Sequence[str], cards: Iterator[Card]) -> Iterator[bytes]:
    compress = zstandard.ZstdCompressor(level=LEVEL).compress
    indexes, times, numbers, marks, starts = [], [], [], [], [0]
    places: dict[Place, int] = {}
    block: list[bytes] = []
    for card in cards:
        indexes.append(card.record)
        times.append(NO_TIME if card.at is None else card.at)
        numbers.append(places.setdefault(card.place, len(places)))
        marks.append(card.marks)
        block.append(card.content)
        if len(block) == BLOCK:
            yield (data := compress(_packed(block)))
            starts.append(starts[-1] + len(data))
            block = []
    if block:
        yield (data := compress(_packed(block)))
        starts.append(starts[-1] + len(data))
    least = indexes[0] if indexes else 0
    yield bytes(-starts[-1] % 8)
    yield np.array(times, "<i8").tobytes()
    yield np.array(starts, "<u8").tobytes()
    yield (np.array(indexes, np.int64) - least).astype("<u4").tobytes()
    yield np.array(numbers, "<u4").tobytes() + np.array(marks, "<u4").tobytes()
    said = msgspec.msgpack.encode([list(columns), list(places)])
    yield said
    yield FOOT.pack(MAGIC, starts[-1], len(starts) - 1, len(indexes), least, len(said))


def _packed(block: Sequence[bytes]) -> bytes:
    return struct.pack(f"<{len(block)}I", *map(len, block)) + b"".join(block)


class Cards:
    """One file, mapped. Raises FileNotFoundError and Damaged. Nothing that it returns refers to the file but `directory`."""

    def __init__(self, path: Path) -> None:
        self.path, self.view = path, mapped(path)
        size = len(self.view)
        if size < FOOT.size:
            raise Damaged(f"{path.name} is cut short.")
        magic, blocks_end, blocks, self.count, self.least, said = FOOT.unpack_from(self.view, size - FOOT.size)
        at = (blocks_end + 7) // 8 * 8
        if magic != MAGIC or at + self.count * 20 + (blocks + 1) * 8 + said + FOOT.size != size:
            raise Damaged(f"{path.name} is not a file of cards.")
        self.times = np.frombuffer(self.view, "<i8", self.count, at)
        self.starts = np.frombuffer(self.view, "<u8", blocks + 1, at := at + self.count * 8)
        self.offsets = np.frombuffer(self.view, "<u4", self.count, at := at + (blocks + 1) * 8)
        self.numbers = np.frombuffer(self.view, "<u4", self.count, at := at + self.count * 4)
        self.marks = np.frombuffer(self.view, "<u4", self.count, at := at + self.count * 4)
        try:
            self.columns, places = msgspec.msgpack.decode(self.view[size - FOOT.size - said : size - FOOT.size])
        except (ValueError, msgspec.DecodeError) as error:
            raise Damaged(f"{path.name} is not a file of cards.") from error
        self.places: list[Place] = [(environment, datasource) for environment, datasource in places]

    def positions(self, indexes: Indexes) -> NDArray[np.intp]:
        """Where these records lie; -1 for one that is not in the file."""
        if not self.count:
            return np.full(len(indexes), -1, np.intp)
        wanted = indexes - self.least
        # Mostly the file has each record of a range.
        guess = np.clip(wanted, 0, self.count - 1)
        if (self.offsets[guess] == wanted).all():
            return np.asarray(guess, np.intp)
        # Of the same type: else numpy makes another copy of the whole column.
        sought = np.clip(wanted, 0, (1 << 32) - 1).astype("<u4")
        found = np.minimum(np.searchsorted(self.offsets, sought), self.count - 1)
        return np.asarray(np.where(self.offsets[found] == wanted, found, -1), np.intp)

    def directory(self, indexes: Indexes) -> Directory:
        """Of those of these records that are in the file."""
        found = self.positions(indexes)
        if (found < 0).any():
            indexes, found = indexes[found >= 0], found[found >= 0]
        return Directory(
            indexes, self.times[found], self.numbers[found].astype(np.int64), self.marks[found].astype(np.int64)
        )

    def contents(self, indexes: Indexes) -> dict[int, bytes]:
        """The contents of those of these records that are in the file."""
        found: dict[int, bytes] = {}
        open_block, here = -1, list[bytes]()
        for index, position in sorted(zip(indexes.tolist(), self.positions(indexes).tolist(), strict=True)):
            if position >= 0:
                block, place = divmod(position, BLOCK)
                if block != open_block:
                    open_block, here = block, self._block(block)
                found[index] = here[place]
        return found

    def _block(self, number: int) -> list[bytes]:
        try:
            data = zstandard.decompress(self.view[int(self.starts[number]) : int(self.starts[number + 1])])
        except zstandard.ZstdError as error:
            raise Damaged(f"{self.path.name} cannot be read at block {number}.") from error
        count = min(BLOCK, self.count - number * BLOCK)
        ends = np.cumsum([4 * count, *struct.unpack_from(f"<{count}I", data)]).tolist()
        return [data[ends[n] : ends[n + 1]] for n in range(count)]

    def cards(self, start: int, end: int) -> Iterator[Card]:
        """The cards at these places, in their order."""
        for number in range(start // BLOCK, -(-end // BLOCK)):
            for place, content in enumerate(self._block(number), number * BLOCK):
                if start <= place < end:
                    at = int(self.times[place])
                    yield Card(
                        int(self.offsets[place]) + self.least, None if at == NO_TIME else at,
                        self.places[self.numbers[place]], int(self.marks[place]), content,
                    )  # fmt: skip


def merged(path: Path, parts: Sequence[Path], dropped: Sequence[Indexes | None] | None = None) -> None:
    """Writes one file of several, part by part without these (ascending) indexes; some MB are in memory at a time."""
    files = [Cards(part) for part in parts]
    lost = list(dropped) if dropped is not None else [None] * len(files)
    columns = files[0].columns if files else []
    write(path, columns, _together(files, lost))


def _together(files: Sequence[Cards], dropped: Sequence[Indexes | None]) -> Iterator[Card]:
    """The cards of all files in the order of their indexes."""
    ends = [0] * len(files)
    while waiting := [n for n, file in enumerate(files) if ends[n] < file.count]:
        # Up to the least of the parts' ends nothing can come in between any more.
        bound = min(int(files[n].offsets[min(ends[n] + PART, files[n].count) - 1]) + files[n].least for n in waiting)
        ready: list[Card] = []
        for n in waiting:
            file, lost = files[n], dropped[n]
            end = ends[n]
            if bound >= file.least:
                end = int(np.searchsorted(file.offsets, np.uint32(bound - file.least), side="right"))
            here = np.add(file.offsets[ends[n] : end], file.least, dtype=np.int64)
            gone = among(here, NOTHING if lost is None else lost)
            ready += [
                card for card, is_gone in zip(file.cards(ends[n], end), gone.tolist(), strict=True) if not is_gone
            ]
            ends[n] = end
        ready.sort(key=lambda card: card.record)
        yield from ready
