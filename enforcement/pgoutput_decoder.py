"""Decodes pgoutput, PostgreSQL's logical replication format, protocol versions 1 and 2. Pure.

Follows "Logical Replication Message Formats" of the PostgreSQL documentation. Integers are big endian, texts
end with a zero byte. Inside a streamed transaction most messages carry the (sub)transaction's id behind their kind.
"""

from __future__ import annotations

import datetime as dt
import struct
from typing import NamedTuple

EPOCH = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
IDENTITIES = {"d": "default", "f": "full", "i": "index", "n": "nothing"}
IN_STREAM_WITH_XID = frozenset(b"RYIUDTM")
UNCHANGED = object()

_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_BEGIN = struct.Struct(">QqI")
_COMMIT = struct.Struct(">BQQq")

Field = bytes | None | object
"""One column of a row image: text in the server's output form, None for null, or UNCHANGED."""


class DecodeError(Exception):
    """The bytes do not follow the protocol."""


class Column(NamedTuple):
    name: str
    type_oid: int
    in_identity: bool


class Relation(NamedTuple):
    oid: int
    schema: str
    name: str
    identity: str
    columns: tuple[Column, ...]


class TypeName(NamedTuple):
    oid: int
    schema: str
    name: str


class Change(NamedTuple):
    """Insert, update or delete. `old_kind` is K (identity columns only), O (whole row) or None."""

    kind: str
    relation: int
    old_kind: str | None
    old: list[Field] | None
    new: list[Field] | None


class Message(NamedTuple):
    transactional: bool
    lsn: int
    prefix: str
    content: bytes


class Begin(NamedTuple):
    commit_lsn: int
    xid: int


class Commit(NamedTuple):
    commit_lsn: int
    end_lsn: int
    at: dt.datetime


def lsn_text(lsn: int) -> str:
    """A log position as PostgreSQL writes it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def lsn_number(text: str) -> int:
    """A log position as a number."""
    high, low = text.split("/")
    return (int(high, 16) << 32) | int(low, 16)


def moment(microseconds: int) -> dt.datetime:
    """A PostgreSQL timestamp (microseconds since 2000-01-01 UTC)."""
    return EPOCH + dt.timedelta(microseconds=microseconds)


def split(message: bytes, in_stream: bool) -> tuple[int, int, bytes]:
    """Kind (a byte's number), transaction id when the message carries one (else 0), and the body behind them."""
    if in_stream and message[0] in IN_STREAM_WITH_XID:
        return message[0], _U32.unpack_from(message, 1)[0], message[5:]
    return message[0], 0, message[1:]


def begin(body: bytes) -> Begin:
    commit_lsn, _, xid = _BEGIN.unpack_from(body)
    return Begin(commit_lsn, xid)


def commit(body: bytes) -> Commit:
    _, commit_lsn, end_lsn, at = _COMMIT.unpack_from(body)
    return Commit(commit_lsn, end_lsn, moment(at))


def stream_commit(body: bytes) -> tuple[int, Commit]:
    """The transaction id, and the commit."""
    return _U32.unpack_from(body)[0], commit(body[4:])


def stream_abort(body: bytes) -> tuple[int, int]:
    """The transaction and the subtransaction that was rolled back (the same: all of it)."""
    return _U32.unpack_from(body)[0], _U32.unpack_from(body, 4)[0]


def stream_start(body: bytes) -> int:
    """The id of the transaction whose part follows."""
    xid: int = _U32.unpack_from(body)[0]
    return xid


def _text(body: bytes, at: int) -> tuple[str, int]:
    end = body.index(b"\0", at)
    return body[at:end].decode("utf-8", "surrogateescape"), end + 1


def relation(body: bytes) -> Relation:
    oid = _U32.unpack_from(body)[0]
    schema, at = _text(body, 4)
    name, at = _text(body, at)
    identity = IDENTITIES.get(chr(body[at]), "default")
    count = _U16.unpack_from(body, at + 1)[0]
    at += 3
    columns = []
    for _ in range(count):
        flags = body[at]
        column, at = _text(body, at + 1)
        columns.append(Column(column, _U32.unpack_from(body, at)[0], bool(flags & 1)))
        at += 8
    return Relation(oid, schema or "pg_catalog", name, identity, tuple(columns))


def type_name(body: bytes) -> TypeName:
    schema, at = _text(body, 4)
    return TypeName(_U32.unpack_from(body)[0], schema or "pg_catalog", _text(body, at)[0])


def _row(body: bytes, at: int) -> tuple[list[Field], int]:
    count = _U16.unpack_from(body, at)[0]
    at += 2
    fields: list[Field] = []
    for _ in range(count):
        kind = body[at]
        at += 1
        if kind == 0x74:  # t
            end = at + 4 + _U32.unpack_from(body, at)[0]
            fields.append(body[at + 4 : end])
            at = end
        elif kind == 0x6E:  # n
            fields.append(None)
        elif kind == 0x75:  # u
            fields.append(UNCHANGED)
        else:
            raise DecodeError(f"column kind {kind} was not asked for")
    return fields, at


def change(kind: int, body: bytes) -> Change:
    """An insert (I), update (U) or delete (D)."""
    oid = _U32.unpack_from(body)[0]
    at, old_kind, old, new = 4, None, None, None
    if body[at] in b"KO":
        old_kind = chr(body[at])
        old, at = _row(body, at + 1)
    if at < len(body):
        if body[at] != 0x4E:  # N
            raise DecodeError(f"row image {body[at]} is not known")
        new, _ = _row(body, at + 1)
    return Change(chr(kind), oid, old_kind, old, new)


def truncated_relations(body: bytes) -> tuple[int, ...]:
    """The relations that one TRUNCATE emptied."""
    count = _U32.unpack_from(body)[0]
    return struct.unpack_from(f">{count}I", body, 5)


def truncated_count(body: bytes) -> int:
    """How many relations one TRUNCATE emptied."""
    count: int = _U32.unpack_from(body)[0]
    return count


def logical_message(body: bytes) -> Message:
    lsn = _U64.unpack_from(body, 1)[0]
    prefix, at = _text(body, 9)
    length = _U32.unpack_from(body, at)[0]
    return Message(bool(body[0] & 1), lsn, prefix, body[at + 4 : at + 4 + length])
