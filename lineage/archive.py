"""ZIP files in one canonical form, so that nothing can hide in them (docs/verify.md, "The pack"). Pure.

Members are stored, sorted by name, dated 1980-01-01; no extra fields, comments or gaps. Any ZIP tool opens them.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
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
    """A member that was written before its archive, part by part, into a file of its own; what the archive says of it is known then."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.length, self.crc = file, 0, 0
        self._sha256 = hashlib.sha256()

    def add(self, data: bytes) -> None:
        """Adds bytes behind the others."""
        self.file.write(data)
        self.length += len(data)
        self.crc = zlib.crc32(data, self.crc)
        self._sha256.update(data)

    def sha256(self) -> str:
        return self._sha256.hexdigest()

    def parts(self) -> Iterator[bytes]:
        """The bytes in their order, few at a time."""
        self.file.seek(0)
        while part := self.file.read(PART_BYTES):
            yield part


def write(members: Mapping[str, bytes]) -> bytes:
    """The archive of these members. PackInvalid: too large, or a name outside [a-z0-9] words joined by . / _ -."""
    return b"".join(parts(members))


def parts(members: Mapping[str, bytes | Drafted]) -> Iterator[bytes]:
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


def read(data: bytes) -> dict[str, bytes]:
    """The members, read from the front. PackUnreadable: not such an archive.

    Damage and additions may pass here: rebuild with `write` and compare the bytes.
    """
    members: dict[str, bytes] = {}
    at = 0
    while data[at : at + 4] == b"PK\3\4":
        if len(data) < at + _LOCAL.size:
            raise PackUnreadable
        *_, size, _, name_length, extra_length = _LOCAL.unpack_from(data, at)
        start = at + _LOCAL.size + name_length + extra_length
        name = data[at + _LOCAL.size : at + _LOCAL.size + name_length].decode("ascii", "replace")
        if start + size > len(data) or name in members:
            raise PackUnreadable
        members[name] = data[start : start + size]
        at = start + size
    if not members:
        raise PackUnreadable
    return members
