"""A bounded, fsynced, append-only queue on disk between a collector's reader and the store.

Folder: `lock`, `acknowledged`, `refused/`, `segments/NNN.seg`. A segment is a row of frames: length and CRC-32 (little
endian, 4 bytes each), then MessagePack of `Frame`. A frame is the unit of atomicity: items and the reader's
position behind them stand in one frame, so a restart continues exactly there. Each segment begins with a
frame without items that repeats the state, so older segments can go once acknowledged. A torn last frame is
cut at start: it was never fsynced, so never sent, so its sequence numbers were never seen by anybody.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import itertools
import os
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

HEADER = struct.Struct("<II")
MINIMUM_BYTES = 1 << 20

Position = dict[str, Any]


class SpoolError(Exception):
    """The spool cannot be used; the message says what to do."""


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """`lines` are whole feed lines (JSON without the line end); the first has sequence `first`."""

    first: int
    position: Position
    lines: tuple[bytes, ...]


@dataclasses.dataclass
class Segment:
    """One file. `last` is the highest sequence number in it, or that of the segment before when it holds none."""

    number: int
    path: Path
    size: int
    last: int


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Frame).decode


def frames(path: Path, offset: int = 0, end: int | None = None) -> Iterator[tuple[Frame, int]]:
    """Whole, undamaged frames from `offset` on, each with the offset behind it. Stops at the first that is not."""
    with path.open("rb") as file:
        file.seek(offset)
        while end is None or offset < end:
            header = file.read(HEADER.size)
            if len(header) < HEADER.size:
                return
            length, checksum = HEADER.unpack(header)
            payload = file.read(length)
            # Zeros are what some file systems leave after a power cut; they would pass as an empty frame.
            if not length or len(payload) < length or zlib.crc32(payload) != checksum:
                return
            offset += HEADER.size + length
            yield _decode(payload), offset


class Spool:
    """One collector's queue. Appending belongs to the reader, reading and acknowledging to the sender; thread-safe.

    Sequence numbers begin at 1 and have no gap. Only fsynced items are ever handed to the sender.
    """

    def __init__(self, folder: Path, *, limit_bytes: int = 1 << 30) -> None:
        """Open or create. SpoolError when another process holds the folder or it is damaged beyond its tail."""
        self.folder = folder
        self.limit_bytes = max(limit_bytes, MINIMUM_BYTES)
        self.segment_bytes = min(16 << 20, self.limit_bytes // 8)
        self.changed = threading.Condition(threading.RLock())
        for part in (folder, folder / "segments", folder / "refused"):
            part.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock_folder()
        self.acknowledged = self._read_acknowledged()
        self.position: Position = {}
        self.last = 0
        self.segments = self._open_segments()
        self.is_new = not self.segments
        if self.is_new:
            self._begin_segment()
            return
        self._file = self.segments[-1].path.open("ab", buffering=0)
        os.fsync(self._file.fileno())
        self.synced, self.synced_size = self.last, self.segments[-1].size
        if self.last < self.acknowledged:
            # The disk lost what was fsynced. The numbers were used: never give them to other items.
            self.last = self.acknowledged
            self._begin_segment()

    def append(self, items: Sequence[bytes], position: Position | None = None) -> int:
        """Queue items and the reader's position behind them, as one; the last item's sequence number.

        An item is the inner text of its feed object without `sequence`: `"position":"…","record":…`. Nothing is
        durable before `sync`. It never waits: ask `has_room` first. OSError when the disk refuses, with nothing kept.
        """
        with self.changed:
            if self.segments[-1].size >= self.segment_bytes:
                self._begin_segment()
            first = self.last + 1
            lines = tuple(b'{"sequence":%d,%b}' % (first + n, item) for n, item in enumerate(items))
            self._write(Frame(first, self.position if position is None else position, lines))
            return self.last

    def sync(self) -> int:
        """Make everything appended durable; the last durable sequence number. Appending goes on meanwhile."""
        with self.changed:
            segment, last, size = self.segments[-1], self.last, self.segments[-1].size
            if last == self.synced and size == self.synced_size:
                return last
            # A handle of our own: the file may be closed for the next segment while the disk works.
            handle = os.dup(self._file.fileno())
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        with self.changed:
            if segment is self.segments[-1] and size > self.synced_size:
                self.synced, self.synced_size = last, size
            self.changed.notify_all()
            return last

    def has_room(self) -> bool:
        """Whether the reader may go on reading."""
        with self.changed:
            return sum(s.size for s in self.segments) < self.limit_bytes

    def put(
        self,
        items: Sequence[bytes],
        position: Position | None,
        *,
        while_waiting: Callable[[], object] = lambda: None,
        poll_seconds: float = 0.1,
    ) -> int:
        """`append`, but wait while spool or disk is full; `while_waiting` runs meanwhile and may raise to stop."""
        while True:
            while not self.has_room():
                self.sync()
                while_waiting()
                with self.changed:
                    self.changed.wait(poll_seconds)
            try:
                return self.append(items, position)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                while_waiting()
                time.sleep(poll_seconds)

    def acknowledge(self, sequence: int) -> None:
        """Note durably that the store has everything up to `sequence`, and let go of whole segments below it.

        For one thread alone, the sender; appending goes on while the disk works.
        """
        sequence = max(self.acknowledged, sequence)
        write_durably(self.folder / "acknowledged", b"%d\n" % sequence)
        with self.changed:
            self.acknowledged = sequence
            while len(self.segments) > 1 and self.segments[0].last <= self.acknowledged:
                self.segments.pop(0).path.unlink(missing_ok=True)
            self.changed.notify_all()

    def refuse(self, lines: Sequence[bytes], first: int, last: int) -> Path:
        """Keep lines that the store will never take in `refused/`; the file's path."""
        path = self.folder / "refused" / f"{first:020d}-{last:020d}.ndjson"
        write_durably(path, b"".join(line + b"\n" for line in lines))
        return path

    def close(self) -> None:
        """Make everything durable and give the folder free."""
        self.sync()
        self._file.close()
        self._lock.close()

    def _lock_folder(self) -> None:
        self._lock = (self.folder / "lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise SpoolError(
                f"{self.folder} is in use by another collector. Give each collector its own --spool."
            ) from None

    def _read_acknowledged(self) -> int:
        # A lost or torn note only means that items are sent again; the store knows them by their keys.
        try:
            return int((self.folder / "acknowledged").read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def _open_segments(self) -> list[Segment]:
        paths = sorted((self.folder / "segments").glob("*.seg"))
        found = [Segment(int(p.stem), p, p.stat().st_size, 0) for p in paths]
        if found and next(frames(found[-1].path), None) is None:
            # Killed between creating a segment and fsyncing its first frame: the one before is still whole.
            found.pop().path.unlink()
        for older, newer in itertools.pairwise(found):
            head = next(frames(newer.path), None)
            if head is None:
                raise SpoolError(
                    f"{newer.path} is damaged. Move it away; what it held must be read again from the source."
                )
            older.last = head[0].first - 1
        if paths and not found:
            raise SpoolError(
                f"{paths[0]} is damaged. Move the spool away; the collector then reads from the beginning."
            )
        if found:
            self._recover_tail(found[-1])
        return found

    def _recover_tail(self, segment: Segment) -> None:
        good = 0
        for frame, end in frames(segment.path):
            good = end
            self.last = frame.first + len(frame.lines) - 1
            self.position = frame.position
        segment.last, segment.size = self.last, good
        if good < segment.path.stat().st_size:
            os.truncate(segment.path, good)

    def _begin_segment(self) -> None:
        if self.segments:
            self.sync()
            self._file.close()
        number = self.segments[-1].number + 1 if self.segments else 1
        path = self.folder / "segments" / f"{number:020d}.seg"
        path.unlink(missing_ok=True)
        self._file = path.open("ab", buffering=0)
        self.segments.append(Segment(number, path, 0, self.last))
        self._write(Frame(self.last + 1, self.position, ()))
        os.fsync(self._file.fileno())
        sync_folder(path.parent)
        self.synced, self.synced_size = self.last, self.segments[-1].size

    def _write(self, frame: Frame) -> None:
        payload = _encode(frame)
        segment = self.segments[-1]
        whole = HEADER.pack(len(payload), zlib.crc32(payload)) + payload
        try:
            written = 0
            while written < len(whole):
                written += self._file.write(memoryview(whole)[written:]) or 0
        except OSError:
            with contextlib.suppress(OSError):
                os.truncate(segment.path, segment.size)
            raise
        segment.size += len(whole)
        self.last = segment.last = frame.first + len(frame.lines) - 1
        self.position = frame.position


class Cursor:
    """The sender's place in the spool: hands out durable lines in order, from the first not acknowledged."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.number = spool.segments[0].number
        self.offset = 0
        self.next = spool.acknowledged + 1
        self._waiting: list[tuple[int, bytes]] = []

    def take(self, items: int, size_bytes: int) -> tuple[int, list[bytes]]:
        """First sequence and up to `items` lines of at most `size_bytes` together (one at least, if any is there)."""
        while len(self._waiting) < items and self._read_frame():
            pass
        taken: list[bytes] = []
        for sequence, line in self._waiting[:items]:
            size_bytes -= len(line) + 1
            if taken and (size_bytes < 0 or sequence != self._waiting[0][0] + len(taken)):
                break
            taken.append(line)
        if not taken:
            return self.next, []
        first = self._waiting[0][0]
        del self._waiting[: len(taken)]
        self.next = first + len(taken)
        return first, taken

    def give_back(self, first: int, lines: list[bytes]) -> None:
        """Put lines that were not taken by the store back in front."""
        self._waiting[:0] = [(first + n, line) for n, line in enumerate(lines)]
        self.next = first

    def _read_frame(self) -> bool:
        while True:
            with self.spool.changed:
                segments = self.spool.segments
                segment = next(s for s in segments if s.number >= self.number)
                is_last = segment is segments[-1]
                end = self.spool.synced_size if is_last else segment.size
            if segment.number != self.number:
                self.number, self.offset = segment.number, 0
            for frame, offset in frames(segment.path, self.offset, end):
                self.offset = offset
                lines = [(frame.first + n, line) for n, line in enumerate(frame.lines)]
                self._waiting += [pair for pair in lines if pair[0] > self.spool.acknowledged]
                return True
            if is_last:
                return False
            self.number, self.offset = self.number + 1, 0


def write_durably(path: Path, content: bytes) -> None:
    """Replace a small file so that after any crash either the old or the new content is there."""
    side = path.with_name(path.name + ".new")
    with side.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    side.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
