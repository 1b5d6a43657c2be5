"""The form of a key file: sorted records of 64 bytes, one fence for each page of them, a filter for keys without a time.

A look-up reads the fences that lead to its page and that page, whatever the size of the file. What is read is not kept:
a content hash that an erasure took is nowhere in our memory afterwards.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import mmap
import struct
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

RECORD = struct.Struct(">I16sQI32s")
"""Source, key, index, 1 for a second content of a key, content hash; as bytes they sort by source, key, index."""
SIZE = RECORD.size
PAGE = 64
"""Records in a page of 4,096 bytes."""
FENCE = 20
FOOT = struct.Struct(">16sQQQ")
MAGIC = b"touchstone keys1"
TIMELESS = bytes(4)
FORGOTTEN = bytes(32)
"""Stands where the content hash of an erased record was."""
PART = 8_192
BLOCK = 32
BITS_A_KEY = 16
RUNS_MOST = 32
BITS = tuple(1 << n for n in range(256))

Hours = dict[str, list[list[int]]]
"""For each source (its number as text, as JSON has it) the hours of its keys: first and last of each run."""


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """Where the first record of a key lies, and its content hash."""

    index: int
    content: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """One record of a file, unpacked."""

    source: int
    key: bytes
    index: int
    conflict: int
    content: bytes


class Damaged(Exception):
    """The file is not what `write` makes."""


class KeyFile:
    """One file, open for look-ups; use as a context manager. Raises FileNotFoundError and Damaged."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size < FOOT.size:
                raise Damaged(f"{path.name} is cut short.")
            self.view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.view.madvise(mmap.MADV_RANDOM)
        magic, self.count, self.timeless, self.blocks = FOOT.unpack_from(self.view, size - FOOT.size)
        self.pages = -(-self.count // PAGE)
        self.fences = self.count * SIZE
        self.filter = self.fences + self.pages * FENCE
        if magic != MAGIC or self.filter + self.blocks * BLOCK + FOOT.size != size:
            self.view.close()
            raise Damaged(f"{path.name} is not a file of keys.")

    def __enter__(self) -> KeyFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.view.close()

    def find(self, source: int, keys: Iterable[bytes]) -> dict[bytes, Found]:
        """Those of the keys whose first record lies in this file."""
        prefix = source.to_bytes(4, "big")
        return {key: found for key in keys if (found := self._find(prefix + key)) is not None}

    def _find(self, wanted: bytes) -> Found | None:
        if wanted[4:8] == TIMELESS and not self._may_hold(wanted):
            return None
        page = bisect.bisect_left(range(self.pages), wanted, key=self._fence)
        low, high = max(0, page - 1) * PAGE, min(self.count, page * PAGE + 1)
        place = bisect.bisect_left(range(self.count), wanted, low, high, key=self._prefix)
        if place == self.count or self._prefix(place) != wanted:
            return None
        found = self.record(place)
        # Of a key's records the first has the lowest index; where the lowest here is a second content, it lies elsewhere.
        return None if found.conflict else Found(found.index, found.content)

    def _fence(self, page: int) -> bytes:
        start = self.fences + page * FENCE
        return self.view[start : start + FENCE]

    def _prefix(self, place: int) -> bytes:
        return self.view[place * SIZE : place * SIZE + FENCE]

    def _may_hold(self, wanted: bytes) -> bool:
        if not self.blocks:
            return False
        start, mask = self.filter + _block(wanted, self.blocks) * BLOCK, _mask(wanted)
        return int.from_bytes(self.view[start : start + BLOCK], "little") & mask == mask

    def record(self, place: int) -> Record:
        """The record at this place of the order."""
        return Record(*RECORD.unpack_from(self.view, place * SIZE))


def _block(prefixed: bytes, blocks: int) -> int:
    return int.from_bytes(prefixed[8:12], "big") * blocks >> 32


def _mask(prefixed: bytes) -> int:
    a, b, c, d, e, f = prefixed[12:18]
    return BITS[a] | BITS[b] | BITS[c] | BITS[d] | BITS[e] | BITS[f]


def parts(path: Path) -> Iterator[list[bytes]]:
    """The records of a file in their order, some thousands at a time. Raises as `KeyFile`."""
    with KeyFile(path) as opened:
        count = opened.count
    with path.open("rb") as file:
        for start in range(0, count, PART):
            data = file.read(min(PART, count - start) * SIZE)
            yield [record for (record,) in struct.iter_unpack(f"{SIZE}s", data)]


def merged(runs: Sequence[Iterable[list[bytes]]]) -> Iterator[list[bytes]]:
    """The records of several sorted runs as one, some thousands of each run in memory at a time."""
    waiting = [iter(run) for run in runs]
    held: list[list[bytes]] = [[] for _ in runs]
    while True:
        for n, run in enumerate(waiting):
            if not held[n]:
                held[n] = next((part for part in run if part), [])
        ends = [part[-1] for part in held if part]
        if not ends:
            return
        # Up to the first end nothing can come in between any more.
        ready: list[bytes] = []
        for n, part in enumerate(held):
            cut = bisect.bisect_right(part, min(ends))
            ready += part[:cut]
            held[n] = part[cut:]
        ready.sort()
        yield ready


def timeless(paths: Iterable[Path]) -> int:
    """How many keys without a time the files hold together."""
    total = 0
    for path in paths:
        with KeyFile(path) as opened:
            total += opened.timeless
    return total


def forgotten(run: Iterable[list[bytes]], indexes: Collection[int]) -> Iterator[list[bytes]]:
    """The same records without the content hashes of these indexes."""
    taken = {index.to_bytes(8, "big") for index in indexes}
    for part in run:
        yield [record[:-32] + FORGOTTEN if record[20:28] in taken else record for record in part]


def write(path: Path, run: Iterable[list[bytes]], without_time: int) -> Hours:
    """Writes a new file of these sorted records, of which so many have no time; returns whose hours it holds.

    In memory are the fences and the filter, 0.3 bytes a record and 2 bytes a key without a time.
    """
    beside = Beside(without_time)
    with path.open("xb") as file:
        for part in run:
            beside.add(part)
            file.write(b"".join(part))
        file.write(beside.end())
    return beside.hours.runs()


class Beside:
    """What stands in a file behind its records, gathered from them in their order."""

    def __init__(self, without_time: int) -> None:
        self.count, self.timeless = 0, without_time
        self.blocks = -(-without_time * BITS_A_KEY // (BLOCK * 8))
        self.fences, self.bits, self.hours = bytearray(), bytearray(self.blocks * BLOCK), _Hours()

    def add(self, part: list[bytes]) -> None:
        """Takes note of the next records."""
        for record in part[-self.count % PAGE :: PAGE]:
            self.fences += record[:FENCE]
        self.count += len(part)
        for record in self.hours.add(part):
            start = _block(record, self.blocks) * BLOCK
            word = int.from_bytes(self.bits[start : start + BLOCK], "little") | _mask(record)
            self.bits[start : start + BLOCK] = word.to_bytes(BLOCK, "little")

    def end(self) -> bytes:
        """Fences, filter and foot."""
        return bytes(self.fences) + bytes(self.bits) + FOOT.pack(MAGIC, self.count, self.timeless, self.blocks)


class _Hours:
    """The hours of each source, gathered from sorted records."""

    def __init__(self) -> None:
        self.last = b""
        self.found: dict[int, list[list[int]]] = {}

    def add(self, part: list[bytes]) -> Iterator[bytes]:
        """Takes note of the part, and gives back those of its records that have no time."""
        last = self.last
        for record in part:
            if record[:8] != last:
                last = record[:8]
                self._note(int.from_bytes(last[:4], "big"), int.from_bytes(last[4:], "big"))
            if last[4:] == TIMELESS:
                yield record
        self.last = last

    def _note(self, source: int, hour: int) -> None:
        runs = self.found.setdefault(source, [])
        if runs and runs[-1][1] == hour - 1:
            runs[-1][1] = hour
        else:
            runs.append([hour, hour])

    def runs(self) -> Hours:
        """At most 32 runs of each source: of more, those are joined that lie nearest to each other."""
        return {str(source): _joined(runs) for source, runs in self.found.items()}


def _joined(runs: list[list[int]]) -> list[list[int]]:
    if len(runs) <= RUNS_MOST:
        return runs
    widest = sorted(range(1, len(runs)), key=lambda n: runs[n - 1][1] - runs[n][0])[: RUNS_MOST - 1]
    cuts = [0, *sorted(widest), len(runs)]
    return [[runs[start][0], runs[end - 1][1]] for start, end in itertools.pairwise(cuts)]


def pack(source: int, key: bytes, index: int, conflict: bool, content: bytes) -> bytes:
    """One record as it stands in a file."""
    return RECORD.pack(source, key, index, conflict, content)


def is_forgotten(content: bytes) -> bool:
    """Whether an erasure's mark stands for the content: of 32 zero bytes, or of a batch and ordinal behind 16 (`forgetting.sql`)."""
    return content.startswith(bytes(16))
