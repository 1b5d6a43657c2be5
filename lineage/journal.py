"""Admitted events as rows of the journal, in the bytes that PostgreSQL's binary COPY takes. Pure but for fresh salts."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable, Iterator

import msgspec

from lineage import commitment
from lineage.events import GROUPS, Event

COLUMNS = "slot, batch, ordinal, leaf, " + ", ".join(f"{group}_salt, {group}" for group in GROUPS)
SALTS_BYTES = commitment.SALT_BYTES * len(GROUPS)

_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_length = struct.Struct(">i").pack
_NEITHER = _length(-1) * 2
_SALT_LENGTH = _length(commitment.SALT_BYTES)
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
    return [_row(event, pool[n * SALTS_BYTES : (n + 1) * SALTS_BYTES]) for n, event in enumerate(events)]


def _row(event: Event, pool: bytes) -> Row:
    salts = {group: pool[16 * n : 16 * n + 16] for n, group in enumerate(GROUPS)}
    leaf, groups = commitment.commit(event, salts)
    parts = [_length(len(leaf)), leaf]
    for group in GROUPS:
        value = groups.get(group)
        parts += (_SALT_LENGTH, salts[group], _length(len(value)), value) if value is not None else (_NEITHER,)
    return Row(b"".join(parts), hashlib.sha256(b"\0" + leaf).digest())


def stream(slot: int, batches: Iterable[tuple[int, list[Row]]]) -> Iterator[bytes]:
    """What COPY is sent for batches of rows by their number: one piece for each batch, and one at either end."""
    yield _SIGNATURE
    for batch, every in batches:
        parts: list[bytes] = []
        for ordinal, row in enumerate(every):
            parts += (_place(_COUNT, 4, slot, 8, batch, 4, ordinal), row.body)
        yield b"".join(parts)
    yield _TRAILER
