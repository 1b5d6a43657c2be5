"""Bytes -> frames, and the strict reading of a frame's body. Pure; the only error is `FrameError`.

A frame is one whole message: kind, length, body. `Reader` gives the same frames however the bytes were cut on
their way, and holds no more than what came: a declared length is judged at once and never allocated.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec

from enforcement.gateway.messages import kinds
from enforcement.gateway.messages.kinds import Sender

HEAD = struct.Struct(">BI")
I16 = struct.Struct(">h")
U16 = struct.Struct(">H")
I32 = struct.Struct(">i")
U32 = struct.Struct(">I")
LONGER_REQUESTS = (80877103, 80877104)
"""SSLRequest and GSSENCRequest: another packet without a kind follows them."""


class ProtocolViolation(Exception):
    """The other side does not keep to the protocol; the connection cannot go on. The text holds no values."""


class FrameError(ProtocolViolation):
    """Bytes that are no message of the protocol."""


class TooLong(FrameError):
    """A message is longer than is taken. `kind` is its first byte."""

    def __init__(self, kind: int, length: int, limit: int) -> None:
        self.kind = kind
        super().__init__(f"A message of kind {chr(kind)} says it has {length} bytes; 4 to {limit} are allowed.")


class Frame(msgspec.Struct, frozen=True, gc=False, eq=False):
    """One message. It holds on to the chunk it came in: take `body` or `raw` where it is to be kept.

    `kind` is the message's first byte, 0 for the packets of the beginning.
    """

    kind: int
    data: bytes
    start: int
    stop: int

    @property
    def body(self) -> bytes:
        """What follows the length."""
        return self.data[self.start + (5 if self.kind else 4) : self.stop]

    @property
    def raw(self) -> bytes:
        """The whole message as it came."""
        return self.data[self.start : self.stop]


class Run(msgspec.Struct, frozen=True, gc=False, eq=False):
    """`count` whole messages of one kind that came behind each other in one chunk, with at least one."""

    kind: int
    data: bytes
    start: int
    stop: int
    count: int

    @property
    def raw(self) -> bytes:
        """All of them as they came."""
        return self.data[self.start : self.stop]

    def frames(self) -> Iterator[Frame]:
        """Each by itself."""
        at = self.start
        while at < self.stop:
            end = at + 1 + U32.unpack_from(self.data, at + 1)[0]
            yield Frame(self.kind, self.data, at, end)
            at = end


class Reader:
    """Cuts what `sender` sends into frames. With `startup` the first packets are those without a kind.

    After a FrameError the reader is not to be used again.
    """

    def __init__(self, *, sender: Sender, limit_bytes: int = kinds.LIMIT_BYTES, startup: bool = False) -> None:
        self._limits = kinds.limits(sender, limit_bytes)
        self._startup = startup
        self._pending = bytearray()
        self._needed = 0

    def unread(self) -> bytes:
        """The bytes of a frame that is not whole yet."""
        return bytes(self._pending)

    def feed(self, data: bytes | bytearray | memoryview) -> list[Frame]:
        """The frames that are whole now. FrameError for an unknown kind or a length that cannot be."""
        frames: list[Frame] = []
        for found in self._cut(data, b""):
            frames.append(found) if isinstance(found, Frame) else frames.extend(found.frames())
        return frames

    def feed_runs(self, data: bytes | bytearray | memoryview, kinds: bytes) -> list[Frame | Run]:
        """The same, but messages of one of these kinds (rows, copied data) that follow each other come as one Run."""
        return self._cut(data, kinds)

    def _cut(self, data: bytes | bytearray | memoryview, kinds: bytes) -> list[Frame | Run]:
        if self._pending:
            self._pending += data
            if len(self._pending) < self._needed:
                return []
            chunk = bytes(self._pending)
            self._pending = bytearray()
        else:
            # Frames point into the chunk: a buffer that the caller fills again is copied, bytes are not.
            chunk = bytes(data)
        found: list[Frame | Run] = []
        at = self._take_startup(chunk, found) if self._startup else 0
        if not self._startup:
            at = self._take(chunk, at, kinds, found)
        if at < len(chunk):
            self._pending += memoryview(chunk)[at:]
        return found

    def _take(self, chunk: bytes, at: int, kinds: bytes, found: list[Frame | Run]) -> int:
        """Everything whole from `at` on; where the rest begins."""
        limits, unpack, end = self._limits, HEAD.unpack_from, len(chunk)
        run_kind = run_start = run_count = 0
        while end - at >= 5:
            kind, length = unpack(chunk, at)
            if not 4 <= length <= limits[kind]:
                raise _wrong_head(kind, length, limits[kind])
            stop = at + 1 + length
            if stop > end:
                break
            if run_count and kind == run_kind:
                run_count += 1
            else:
                if run_count:
                    found.append(Run(run_kind, chunk, run_start, at, run_count))
                    run_count = 0
                if kind in kinds:
                    run_kind, run_start, run_count = kind, at, 1
                else:
                    found.append(Frame(kind, chunk, at, stop))
            at = stop
        if run_count:
            found.append(Run(run_kind, chunk, run_start, at, run_count))
        self._needed = 1 + U32.unpack_from(chunk, at + 1)[0] if end - at >= 5 else 5
        return at

    def _take_startup(self, chunk: bytes, found: list[Frame | Run]) -> int:
        at = 0
        while self._startup:
            if len(chunk) - at < 4:
                self._needed = 4
                return at
            length = U32.unpack_from(chunk, at)[0]
            if not 8 <= length <= kinds.STARTUP_LIMIT_BYTES:
                raise FrameError("The first packet is not a startup message of PostgreSQL's protocol.")
            if len(chunk) - at < length:
                self._needed = length
                return at
            found.append(Frame(kinds.STARTUP, chunk, at, at + length))
            self._startup = U32.unpack_from(chunk, at + 4)[0] in LONGER_REQUESTS
            at += length
        return at


def _wrong_head(kind: int, length: int, limit: int) -> FrameError:
    if not limit:
        return FrameError(f"A message of kind {kind:#04x} is not part of the protocol.")
    return TooLong(kind, length, limit)


class Body:
    """Reads a body from front to back. Every read checks that the bytes are there; `end` that none is left."""

    __slots__ = ("_at", "_data", "_encoding", "_errors")

    def __init__(self, data: bytes, encoding: str = "utf-8", errors: str = "strict") -> None:
        self._data, self._at = data, 0
        self._encoding, self._errors = encoding, errors

    def int16(self) -> int:
        return self._number(I16)

    def uint16(self) -> int:
        return self._number(U16)

    def int32(self) -> int:
        return self._number(I32)

    def uint32(self) -> int:
        return self._number(U32)

    def byte(self) -> int:
        return self.take(1)[0]

    def take(self, count: int) -> bytes:
        """Exactly `count` bytes."""
        stop = self._at + count
        if count < 0 or stop > len(self._data):
            raise FrameError("A message is shorter than the lengths inside it say.")
        taken, self._at = self._data[self._at : stop], stop
        return taken

    def value(self) -> bytes | None:
        """A value behind its four-byte length; None for length -1."""
        length = self.int32()
        return None if length == -1 else self.take(length)

    def text(self) -> str:
        """A text up to its zero byte."""
        stop = self._data.find(b"\0", self._at)
        if stop < 0:
            raise FrameError("A text in a message has no end.")
        raw, self._at = self._data[self._at : stop], stop + 1
        try:
            return raw.decode(self._encoding, self._errors)
        except UnicodeDecodeError:
            raise FrameError(f"A text in a message is not valid {self._encoding}.") from None

    def formats(self) -> tuple[int, ...]:
        """A list of format codes behind its count: 0 is text, 1 is binary."""
        found = tuple(self.int16() for _ in range(self._counted(self.uint16(), 2)))
        if not {0, 1}.issuperset(found):
            raise FrameError("A format code is neither 0 (text) nor 1 (binary).")
        return found

    def oids(self, count: int) -> tuple[int, ...]:
        """`count` object ids."""
        return tuple(self.uint32() for _ in range(self._counted(count, 4)))

    def values(self) -> tuple[bytes | None, ...]:
        """A list of values behind its count."""
        return tuple(self.value() for _ in range(self._counted(self.uint16(), 4)))

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._data) - self._at)

    def is_at_end(self) -> bool:
        return self._at == len(self._data)

    def end(self) -> None:
        """FrameError when bytes are left."""
        if self._at != len(self._data):
            raise FrameError("A message is longer than its content.")

    def _number(self, form: struct.Struct) -> int:
        number: int = form.unpack(self.take(form.size))[0]
        return number

    def _counted(self, count: int, size: int) -> int:
        """A count that the bytes left can hold, `size` being the least that one element takes."""
        if count * size > len(self._data) - self._at:
            raise FrameError("A message is shorter than the counts inside it say.")
        return count


def message(kind: int, *parts: bytes) -> bytes:
    """One message from its body's parts. FrameError when it would be longer than the protocol can say."""
    body = b"".join(parts)
    if len(body) > kinds.LIMIT_BYTES - 4:
        raise FrameError(f"A message of {len(body)} bytes is over the limit of {kinds.LIMIT_BYTES}.")
    return HEAD.pack(kind, 4 + len(body)) + body


def text(value: str, encoding: str = "utf-8", errors: str = "strict") -> bytes:
    """A text with its zero byte. FrameError when it holds one inside, or cannot be written in `encoding`."""
    try:
        raw = value.encode(encoding, errors)
    except UnicodeEncodeError:
        raise FrameError(f"A text cannot be written in {encoding}.") from None
    if b"\0" in raw:
        raise FrameError("A text in a message cannot hold a zero byte.")
    return raw + b"\0"


def formats(codes: tuple[int, ...]) -> bytes:
    """A list of format codes behind its count."""
    return struct.pack(f">H{len(codes)}h", len(codes), *codes)


def values(found: tuple[bytes | None, ...] | list[bytes | None]) -> bytes:
    """A list of values behind its count."""
    parts = [U16.pack(len(found))]
    for value in found:
        if value is None:
            parts.append(b"\xff\xff\xff\xff")
        else:
            parts += (U32.pack(len(value)), value)
    return b"".join(parts)
