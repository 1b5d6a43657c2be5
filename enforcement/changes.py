"""Committed transactions -> feed items of the format `pgoutput` (docs/collector-protocol.md).

The same transaction always gives the same items, byte for byte, so that what is sent twice is known as the same.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import msgspec

from enforcement import pgoutput_decoder as decoder
from enforcement import transactions

ITEM_LIMIT_BYTES = 4 << 20
KEPT_BYTES = (16 << 10, 1 << 10)
HEAD_BYTES = 1 << 10
KINDS = {"I": "insert", "U": "update", "D": "delete"}
OLD_KINDS = {"K": b'"key"', "O": b'"full"', None: b"null"}
DESCRIBING = frozenset(b"RY")
TRUNCATE = ord("T")
UNCHANGED = {"state": "unchanged"}
UNAVAILABLE = {"state": "unavailable"}

_encode = msgspec.json.encode


class Catalog(Protocol):
    """What pgoutput does not say."""

    def type_name(self, oid: int) -> str | None: ...
    def primary_key(self, relation: int) -> tuple[str, ...]: ...


class Shape(NamedTuple):
    """A relation as the items tell it: its JSON, and which columns a key image holds."""

    json: bytes
    in_identity: tuple[bool, ...]


class Source(NamedTuple):
    system_identifier: str
    timeline: int
    database: str


class ItemWriter:
    """Makes the items of one stream; remembers the relations that it described."""

    def __init__(self, source: Source, catalog: Catalog) -> None:
        self._catalog = catalog
        self._types: dict[int, str] = {}
        self._shapes: dict[int, Shape] = {}
        about = {
            "system_identifier": source.system_identifier,
            "timeline": source.timeline,
            "database": source.database,
        }
        self._source = _encode(about)[1:-1]

    def transaction(
        self, committed: transactions.Committed, after: int, while_skipping: Callable[[], object]
    ) -> Iterator[tuple[int, int, bytes]]:
        """(ordinal, of, item) for each item behind the first `after`, in order."""
        of = committed.pending.count()
        commit = committed.commit
        lsn = decoder.lsn_text(commit.commit_lsn).encode()
        at = commit.at.strftime("%Y-%m-%dT%H:%M:%S.%fZ").encode()
        middle = b'%b,"xid":%d,"commit_lsn":"%b","commit_at":"%b"' % (self._source, committed.xid, lsn, at)
        ordinal = 0
        for kind, _, body in committed.pending.parts():
            if kind in DESCRIBING:
                self._learn(kind, body)
                continue
            if ordinal < after and kind != TRUNCATE:
                ordinal += 1
                if ordinal % 10000 == 0:
                    while_skipping()
                continue
            for told in self._bodies(kind, body):
                ordinal += 1
                if ordinal > after:
                    yield ordinal, of, _item(lsn, middle, ordinal, of, told)

    def learn(self, committed: transactions.Committed) -> None:
        """Take in the relations of a transaction that is not sent again: the server describes each only once."""
        for body, kind in committed.pending.descriptions.items():
            self._learn(kind, body)

    def loose_message(self, message: decoder.Message) -> bytes:
        """The item of a non-transactional message. Ordinal 0: the next commit record may begin where it ends."""
        lsn = decoder.lsn_text(message.lsn).encode()
        middle = b'%b,"xid":0,"commit_lsn":"%b"' % (self._source, lsn)
        return _item(lsn, middle, 0, 0, _Body("message", _message(message)))

    def _bodies(self, kind: int, body: bytes) -> Iterator[_Body]:
        if kind == TRUNCATE:
            for oid in decoder.truncated_relations(body):
                yield _Body("truncate", b'"relation":%b,"old_kind":null' % self._shapes[oid].json)
        elif kind == ord("M"):
            yield _Body("message", _message(decoder.logical_message(body)))
        else:
            yield self._change(decoder.change(kind, body))

    def _learn(self, kind: int, body: bytes) -> None:
        if kind == ord("R"):
            self._describe(decoder.relation(body))
        elif kind == ord("Y"):
            named = decoder.type_name(body)
            self._types[named.oid] = f"{named.schema}.{named.name}"

    def _change(self, change: decoder.Change) -> _Body:
        shape = self._shapes[change.relation]
        return _Body(KINDS[change.kind], b'"relation":%b' % shape.json, change, shape.in_identity)

    def _describe(self, relation: decoder.Relation) -> None:
        columns = [{"name": _safe(c.name), "type": self._type_name(c.type_oid)} for c in relation.columns]
        told = {
            "schema": _safe(relation.schema),
            "name": _safe(relation.name),
            "replica_identity": relation.identity,
            "columns": columns,
            "key": [_safe(name) for name in self._key(relation)],
        }
        self._shapes[relation.oid] = Shape(_encode(told), tuple(c.in_identity for c in relation.columns))

    def _type_name(self, oid: int) -> str:
        return self._catalog.type_name(oid) or self._types.get(oid) or f"oid {oid}"

    def _key(self, relation: decoder.Relation) -> tuple[str, ...]:
        """The primary key in its own order where the row image can hold it, else the identity's columns."""
        primary = self._catalog.primary_key(relation.oid)
        names = {c.name for c in relation.columns}
        identity = tuple(c.name for c in relation.columns if c.in_identity)
        usable = names if relation.identity in ("full", "nothing") else set(identity)
        if primary and set(primary) <= usable:
            return primary
        return () if relation.identity in ("full", "nothing") else identity


class _Body(NamedTuple):
    """The part of an item that depends on its kind; rows are put in last, because they may have to be shortened."""

    kind: str
    fixed: bytes
    change: decoder.Change | None = None
    in_identity: tuple[bool, ...] = ()

    def json(self, kept_bytes: int | None) -> bytes:
        if self.change is None:
            return self.fixed
        old = _values(self.change.old, self.in_identity if self.change.old_kind == "K" else None, kept_bytes)
        new = _values(self.change.new, None, kept_bytes)
        return b'%b,"old_kind":%b,"old":%b,"new":%b' % (
            self.fixed, OLD_KINDS[self.change.old_kind], _json(old), _json(new),
        )  # fmt: skip


def _item(lsn: bytes, middle: bytes, ordinal: int, of: int, body: _Body) -> bytes:
    head = b'{"type":"%b",%b,"ordinal":%d,"of":%d,' % (body.kind.encode(), middle, ordinal, of)
    record = head + body.json(None) + b"}"
    for kept_bytes in KEPT_BYTES:
        if len(record) <= ITEM_LIMIT_BYTES:
            break
        record = head + body.json(kept_bytes) + b"}"
    try:
        record.decode("utf-8")
    except UnicodeDecodeError:
        return b'"position":"%b","record_base64":"%b"' % (lsn, base64.b64encode(record))
    return b'"position":"%b","record":%b' % (lsn, record)


def _values(
    fields: list[decoder.Field] | None, in_identity: tuple[bool, ...] | None, kept_bytes: int | None
) -> list[Any] | None:
    if fields is None:
        return None
    values = [_value(field, kept_bytes) for field in fields]
    if in_identity is None:
        return values
    return [value if known else UNAVAILABLE for value, known in zip(values, in_identity, strict=True)]


def _value(field: decoder.Field, kept_bytes: int | None) -> Any:
    if field is None:
        return None
    if not isinstance(field, bytes):
        return UNCHANGED
    if kept_bytes is None or len(field) <= kept_bytes:
        return field.decode("utf-8", "surrogateescape")
    head = field[:HEAD_BYTES].decode("utf-8", "ignore")
    return {"state": "truncated", "value": head, "length": len(field), "sha256": hashlib.sha256(field).hexdigest()}


def _json(values: list[Any] | None) -> bytes:
    if values is None:
        return b"null"
    try:
        return _encode(values)
    except (UnicodeEncodeError, ValueError):
        # A database in SQL_ASCII may hold any bytes: keep them; the item then travels as base64.
        return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogateescape")


def _message(message: decoder.Message) -> bytes:
    told = {"prefix": _safe(message.prefix), "transactional": message.transactional}
    content = message.content
    if len(content) > ITEM_LIMIT_BYTES // 2:
        told |= {"length": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        content = content[:HEAD_BYTES]
    return b'"message":%b' % _encode({**told, "content_base64": base64.b64encode(content).decode()})


def _safe(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
