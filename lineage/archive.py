"""ZIP files in one canonical form, so that nothing can hide in them (docs/verify.md, "The pack"). Pure.

Members are stored, sorted by name, dated 1980-01-01; no extra fields, comments or gaps. Any ZIP tool opens them.
"""

from __future__ import annotations

import hashlib
import io
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import BinaryIO

from lineage.errors import PackInvalid, PackUnreadable

MAX_BYTES = 2**32 - 1
MAX_MEMBERS = 2**16 - 1
PART_BYTES = 1 << 20
TOO_LARGE = "The pack is larger than 4 GiB. Narrow the question or split its time range."

_NAME = re.compile(rb"[a-z0-9]+([./_-][a-z0-9]+)*")
_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_VERSION, _DATE = 20, 1 << 5 | 1


class Drafted:
    """A member that was written before its archive, part by part, into a file of its own; what the archive says of it is known then.

    Without a file nothing is kept of it but length and sums.
    """

    def __init__(self, file: BinaryIO | None) -> None:
        self.file, self.length, self.crc = file, 0, 0
        self._sha256 = hashlib.sha256()

    def add(self, data: bytes) -> None:
        """Adds bytes behind the others."""
        if self.file is not None:
            self.file.write(data)
        self.length += len(data)
        self.crc = zlib.crc32(data, self.crc)
        self._sha256.update(data)

    def sha256(self) -> str:
        return self._sha256.hexdigest()

    def parts(self) -> Iterator[bytes]:
        """The bytes in their order, few at a time."""
        if self.file is not None:
            self.file.seek(0)
            while part := self.file.read(PART_BYTES):
                yield part


class Stored:
    """A member where it lies: `length` bytes of an open file, from `start`. Few are held at a time."""

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        self.file, self.start, self.length = file, start, length

    def part(self, at: int, length: int) -> Stored:
        """So many of its bytes from `at`, where they lie."""
        return Stored(self.file, self.start + at, length)

    def read(self, at: int = 0, length: int | None = None) -> bytes:
        """So many bytes from `at`, or all that follow; fewer where it ends."""
        left = max(0, self.length - at)
        self.file.seek(self.start + at)
        return self.file.read(left if length is None else min(length, left))

    def parts(self) -> Iterator[bytes]:
        """The bytes in their order; others may read of the file meanwhile."""
        for at in range(0, self.length, PART_BYTES):
            yield self.read(at, min(PART_BYTES, self.length - at))

    @cached_property
    def _sums(self) -> tuple[int, str]:
        crc, sha256 = 0, hashlib.sha256()
        for part in self.parts():
            crc = zlib.crc32(part, crc)
            sha256.update(part)
        return crc, sha256.hexdigest()

    @property
    def crc(self) -> int:
        return self._sums[0]

    def sha256(self) -> str:
        return self._sums[1]


Member = bytes | Drafted | Stored


def lying(data: bytes | BinaryIO | Stored) -> Stored:
    """The same where it lies in a file: all of an open one, or one for bytes that are held."""
    if isinstance(data, Stored):
        return data
    file = io.BytesIO(data) if isinstance(data, bytes) else data
    return Stored(file, 0, file.seek(0, io.SEEK_END))


def held(member: Member) -> bytes:
    """The bytes of a member, all of them."""
    return member if isinstance(member, bytes) else b"".join(member.parts())


def described(member: Member) -> tuple[int, str]:
    """Length and SHA-256 of a member."""
    if isinstance(member, bytes):
        return len(member), hashlib.sha256(member).hexdigest()
    return member.length, member.sha256()


def write(members: Mapping[str, bytes]) -> bytes:
    """The archive of these members. PackInvalid: too large, or a name outside [a-z0-9] words joined by . / _ -."""
    return b"".join(parts(members))


def parts(members: Mapping[str, Member]) -> Iterator[bytes]:
    """The bytes of that archive one after the other, of which few are held at a time. Raises as `write`."""
    directory: list[bytes] = []
    offset = 0
    for text in sorted(members):
        name, data = text.encode("ascii", "replace"), members[text]
        if not _NAME.fullmatch(name):
            raise PackInvalid("A member of the archive has a name that a pack does not use.")
        crc, length = (zlib.crc32(data), len(data)) if isinstance(data, bytes) else (data.crc, data.length)
        if offset + length > MAX_BYTES or len(directory) == MAX_MEMBERS:
            raise PackInvalid(TOO_LARGE)
        fields = (_VERSION, 0, 0, 0, _DATE, crc, length, length, len(name), 0)
        head = _LOCAL.pack(b"PK\3\4", *fields) + name
        directory.append(_CENTRAL.pack(b"PK\1\2", _VERSION, *fields, 0, 0, 0, 0, offset) + name)
        yield head
        yield from (data,) if isinstance(data, bytes) else data.parts()
        offset += len(head) + length
    central = b"".join(directory)
    if offset + len(central) > MAX_BYTES:
        raise PackInvalid(TOO_LARGE)
    yield central
    yield _END.pack(b"PK\5\6", 0, 0, len(directory), len(directory), len(central), offset, 0)


def rebuilds(members: Mapping[str, Member], whole: Stored) -> bool:
    """Whether the archive of these members is this one, byte for byte. Raises as `write`."""
    at, same = 0, True
    for part in parts(members):
        same = whole.read(at, len(part)) == part and same
        at += len(part)
    return same and at == whole.length


def read(data: bytes) -> dict[str, bytes]:
    """The members, read from the front. Raises as `stored`."""
    return {name: member.read() for name, member in stored(lying(data)).items()}


def stored(whole: Stored) -> dict[str, Stored]:
    """The members where they lie, found from the front. PackUnreadable: not such an archive.

    Damage and additions may pass here: rebuild with `write` and compare the bytes, or ask `rebuilds`.
    """
    members: dict[str, Stored] = {}
    at = 0
    while (head := whole.read(at, _LOCAL.size))[:4] == b"PK\3\4":
        if len(head) < _LOCAL.size:
            raise PackUnreadable
        *_, size, _, name_length, extra_length = _LOCAL.unpack(head)
        start = at + _LOCAL.size + name_length + extra_length
        name = whole.read(at + _LOCAL.size, name_length).decode("ascii", "replace")
        if start + size > whole.length or name in members:
            raise PackUnreadable
        members[name] = whole.part(start, size)
        at = start + size
    if not members:
        raise PackUnreadable
    return members
