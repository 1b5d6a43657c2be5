"""Puts the messages of a logical replication stream together to committed transactions.

A transaction waits until its commit arrives: up to 256 KiB in memory, beyond that in a file. Streamed transactions
come in parts, several at a time; work of rolled-back subtransactions is left out when the transaction is read back.
Nothing here must survive a crash: until a transaction is confirmed, the server sends it again from its beginning.
"""

from __future__ import annotations

import dataclasses
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from enforcement import pgoutput_decoder as decoder

MEMORY_BYTES = 256 << 10
HEADER = struct.Struct("<BII")
COUNTED = frozenset(b"IUDTM")

Part = tuple[int, int, bytes]
"""Kind, (sub)transaction id, body."""


class TooLarge(Exception):
    """Transactions in progress take more room than allowed."""


class Pending:
    """One transaction whose end is not known yet. Parts come back in the order in which they were added."""

    def __init__(self, xid: int, folder: Path) -> None:
        self.xid = xid
        self.size = 0
        self.aborted: set[int] = set()
        self.descriptions: dict[bytes, int] = {}
        self._counts: dict[int, int] = {}
        self._folder = folder
        self._parts: list[Part] = []
        self._file: IO[bytes] | None = None

    def add(self, part: Part) -> int:
        """Keep one part; the bytes it takes."""
        kind, xid, body = part
        if kind in COUNTED:
            weight = decoder.truncated_count(body) if kind == ord("T") else 1
            self._counts[xid] = self._counts.get(xid, 0) + weight
        else:
            # Described anew after each rolled-back savepoint: keep each text once, the latest last.
            self.descriptions.pop(body, None)
            self.descriptions[body] = kind
        size = HEADER.size + len(part[2])
        self.size += size
        if self._file is not None:
            self._write(part)
        else:
            self._parts.append(part)
            if self.size > MEMORY_BYTES:
                self._spill()
        return size

    def parts(self) -> Iterator[Part]:
        """All that was not rolled back. Descriptions of relations and types always: they hold for what follows."""
        for part in self._all():
            if part[1] not in self.aborted or part[0] not in COUNTED:
                yield part

    def count(self) -> int:
        """How many items the transaction makes."""
        return sum(self._counts.values())

    def abort(self, xid: int) -> None:
        """Leave out what the subtransaction did."""
        if self._counts.pop(xid, 0):
            self.aborted.add(xid)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _all(self) -> Iterator[Part]:
        if self._file is None:
            yield from self._parts
            return
        self._file.seek(0)
        while header := self._file.read(HEADER.size):
            kind, xid, length = HEADER.unpack(header)
            yield kind, xid, self._file.read(length)

    def _spill(self) -> None:
        self._file = tempfile.TemporaryFile(dir=self._folder, buffering=1 << 16)  # noqa: SIM115  closed with the transaction
        for part in self._parts:
            self._write(part)
        self._parts = []

    def _write(self, part: Part) -> None:
        assert self._file is not None
        self._file.write(HEADER.pack(part[0], part[1], len(part[2])))
        self._file.write(part[2])


@dataclasses.dataclass(frozen=True)
class Committed:
    """A transaction to be sent. Close `pending` when its parts were read."""

    xid: int
    commit: decoder.Commit
    pending: Pending


class Assembler:
    """Takes the stream's messages in order; yields each transaction at its commit, and loose messages at once."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder, self.limit_bytes = folder, limit_bytes
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._plain: Pending | None = None
        self._streams: dict[int, Pending] = {}
        self._stream: Pending | None = None
        self.size = 0

    def reset(self) -> None:
        """Forget what is in progress: a new connection sends it again."""
        for pending in [*self._streams.values(), *([self._plain] if self._plain else [])]:
            pending.close()
        self._plain, self._streams, self._stream, self.size = None, {}, None, 0

    def in_transaction(self) -> bool:
        """Whether the stream stands between a transaction's begin and its commit."""
        return self._plain is not None or self._stream is not None

    def take(self, message: bytes) -> Committed | decoder.Message | None:
        """One message of the stream. TooLarge when the waiting transactions outgrow the limit."""
        kind, xid, body = decoder.split(message, self._stream is not None)
        if kind == ord("M") and not body[0] & 1:
            return decoder.logical_message(body)
        current = self._stream or self._plain
        if kind in b"RYIUDTM":
            if current is None:
                raise decoder.DecodeError(f"message {kind} outside a transaction")
            self._keep(current, (kind, xid, body))
            return None
        return self._control(kind, body)

    def _keep(self, pending: Pending, part: Part) -> None:
        self.size += pending.add(part)
        if self.size > self.limit_bytes:
            raise TooLarge(f"{self.size >> 20} MiB")

    def _control(self, kind: int, body: bytes) -> Committed | None:
        match chr(kind):
            case "B":
                self._plain = Pending(decoder.begin(body).xid, self.folder)
            case "C":
                done, self._plain = self._plain, None
                return self._committed(done, decoder.commit(body))
            case "S":
                xid = decoder.stream_start(body)
                self._stream = self._streams.setdefault(xid, Pending(xid, self.folder))
            case "E":
                self._stream = None
            case "c":
                xid, commit = decoder.stream_commit(body)
                return self._committed(self._streams.pop(xid, None), commit)
            case "A":
                self._abort(*decoder.stream_abort(body))
            case "O":
                pass
            case other:
                raise decoder.DecodeError(f"message kind {other!r} is not known")
        return None

    def _committed(self, pending: Pending | None, commit: decoder.Commit) -> Committed:
        if pending is None:
            raise decoder.DecodeError("a commit without its transaction")
        self.size -= pending.size
        return Committed(pending.xid, commit, pending)

    def _abort(self, xid: int, subtransaction: int) -> None:
        pending = self._streams.get(xid)
        if pending is None:
            return
        if xid != subtransaction:
            pending.abort(subtransaction)
            return
        self._streams.pop(xid).close()
        self.size -= pending.size
