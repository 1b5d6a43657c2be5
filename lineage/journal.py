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


def rows(events: list[Event]) -> list[Row]:
    """The rows of events, each under salts of its own. Raises OutsideProfile."""
    pool = os.urandom(SALTS_BYTES * len(events))
    return [_row(event, pool, n * SALTS_BYTES) for n, event in enumerate(events)]


def _row(event: Event, pool: bytes, at: int) -> Row:
    """As `commitment.commit`, with the salts that lie in `pool` from `at` on."""
    digests: dict[Group, str] = {}
    parts = []
    for group, data in commitment.written(event):
        if data == commitment.NOTHING:
            parts.append(_NEITHER)
        else:
            salt = pool[at : at + commitment.SALT_BYTES]
            digests[group] = hashlib.sha256(salt + data).hexdigest()
            parts += (_held(commitment.SALT_BYTES, salt, len(data)), data)
        at += commitment.SALT_BYTES
    leaf = commitment.leaf(event, digests)
    return Row(b"".join([_length(len(leaf)), leaf, *parts]), hashlib.sha256(b"\0" + leaf).digest())


def stream(slot: int, batches: Iterable[tuple[int, list[Row]]]) -> Iterator[bytes]:
    """What COPY is sent for batches of rows by their number: one piece for each batch, and one at either end."""
    yield _SIGNATURE
    for batch, every in batches:
        parts: list[bytes] = []
        for ordinal, row in enumerate(every):
            parts += (_place(_COUNT, 4, slot, 8, batch, 4, ordinal), row.body)
        yield b"".join(parts)
    yield _TRAILER
