"""Admitted events as rows of the journal, in the bytes that PostgreSQL's binary COPY takes. Pure but for fresh salts."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable, Iterator

import msgspec

from lineage import commitment
from lineage.events import GROUPS, Event, Group

COLUMNS = "slot, batch, ordinal, leaf, " + ", ".join(f"{group}_salt, {group}" for group in GROUPS)
SALTS_BYTES = commitment.SALT_BYTES * len(GROUPS)

AT_ONCE_MOST = 64
_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_length = struct.Struct(">i").pack
_NEITHER = _length(-1) * 2
_held = struct.Struct(f">i{commitment.SALT_BYTES}si").pack
# How many columns, then slot, batch and ordinal, each after its length.
_place = struct.Struct(">hiiiqii").pack
_COUNT = 4 + 2 * len(GROUPS)


class Row(msgspec.Struct, frozen=True, gc=False):
    """One event committed to its leaf: what follows its place in the journal, and the hash of its leaf."""

    body: bytes
    leaf_hash: bytes


def salts() -> Iterator[bytes]:
    """Fresh salts for all groups of one event after the other, without end."""
    return chances(SALTS_BYTES)


def chances(size: int) -> Iterator[bytes]:
    """Random bytes, so many at a time, without end; the more are taken, the more are asked for at once."""
    at_once = 1
    while True:
        pool = os.urandom(size * at_once)
        for at in range(0, len(pool), size):
            yield pool[at : at + size]
        at_once = min(2 * at_once, AT_ONCE_MOST)


def row(event: Event, salts: bytes) -> Row:
    """The row of an event, as `commitment.commit`; `salts` are those of all groups. Raises OutsideProfile."""
    digests, parts = _committed(commitment.written(event), salts)
    return _row(commitment.leaf(event, digests), parts)


def flagged(row: Row, flag: str, salts: bytes) -> Row:
    """The row of the same event with one more flag."""
    leaf, *held = _cut(row.body)
    groups = {group: value or commitment.NOTHING for group, value in zip(GROUPS, held[1::2], strict=True)}
    action = commitment.parse_canonical(groups["action"])
    groups["action"] = commitment.canonical(action | {"flags": [*action.get("flags", ()), flag]})
    digests, parts = _committed(groups.items(), salts)
    return _row(commitment.over(leaf or b"", digests), parts)


def _committed(written: Iterable[tuple[Group, bytes]], salts: bytes) -> tuple[dict[Group, str], list[bytes]]:
    """The digests of the groups that hold anything, and what follows the leaf in the row."""
    digests: dict[Group, str] = {}
    parts = []
    at = 0
    for group, data in written:
        if data == commitment.NOTHING:
            parts.append(_NEITHER)
        else:
            salt = salts[at : at + commitment.SALT_BYTES]
            digests[group] = hashlib.sha256(salt + data).hexdigest()
            parts += (_held(commitment.SALT_BYTES, salt, len(data)), data)
        at += commitment.SALT_BYTES
    return digests, parts


def _row(leaf: bytes, parts: list[bytes]) -> Row:
    return Row(b"".join([_length(len(leaf)), leaf, *parts]), hashlib.sha256(b"\0" + leaf).digest())


def _cut(body: bytes) -> Iterator[bytes | None]:
    """The columns of a row from the leaf on."""
    at = 0
    while at < len(body):
        size = int.from_bytes(body[at : at + 4], "big", signed=True)
        yield None if size < 0 else body[at + 4 : at + 4 + size]
        at += 4 + max(0, size)


def stream(slot: int, batches: Iterable[tuple[int, list[Row]]]) -> Iterator[bytes]:
    """What COPY is sent for batches of rows by their number: one piece for each batch, and one at either end."""
    yield _SIGNATURE
    for batch, every in batches:
        parts: list[bytes] = []
        for ordinal, row in enumerate(every):
            parts += (_place(_COUNT, 4, slot, 8, batch, 4, ordinal), row.body)
        yield b"".join(parts)
    yield _TRAILER
