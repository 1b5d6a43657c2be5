"""Receipts: the store's signed promise to put accepted records into the log (docs/verify.md, "Receipts").

One signed note per batch. Its text:

    touchstone receipt v1
    <origin of the log>
    <time of acceptance, RFC 3339 UTC>
    <seconds within which a checkpoint will cover the records>
    <index> <leaf hash, hex> <record key, hex>
    …
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from lineage.errors import NoteInvalid
from lineage.merkle import MAX_SIZE
from lineage.notes.checkpoints import decimal
from lineage.notes.keys import SignerKey, VerifierKey
from lineage.notes.signed import sign, verify

HEADER = "touchstone receipt v1"
WITHIN_S = 10

_PROMISE = re.compile(r"([0-9]{1,19}) ([0-9a-f]{64}) ((?:[0-9a-f]{2}){8,32})")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)


class Promise(NamedTuple):
    """One record's place in the log: its index, leaf hash (32 bytes) and dedupe key (8 to 32 bytes).

    The source can compute the key from its own record, so the receipt says which record was taken.
    """

    index: int  # type: ignore[assignment]  # a tuple's own method, which nobody asks for here
    leaf_hash: bytes
    key_hash: bytes


@dataclass(frozen=True)
class Receipt:
    """What one batch was promised. `accepted_at` is RFC 3339 UTC to the microsecond."""

    origin: str
    accepted_at: str
    promises: tuple[Promise, ...]
    within_s: int = WITHIN_S


def sign_receipt(receipt: Receipt, key: str | SignerKey) -> bytes:
    """The signed note of a receipt; NoteInvalid if a part cannot stand in one."""
    if not all(_stands(*each) for each in receipt.promises):
        raise NoteInvalid("A promise is not an index, a leaf hash of 32 bytes and a record key of 8 to 32.")
    lines = [HEADER, receipt.origin, receipt.accepted_at, str(receipt.within_s)]
    lines += [f"{index} {leaf.hex()} {record.hex()}" for index, leaf, record in receipt.promises]
    # Each promise is checked above: to read a thousand lines again would cost more than to sign them.
    _parse("\n".join(lines[:5]) + "\n")
    return sign("\n".join(lines) + "\n", key)


def _stands(index: int, leaf_hash: bytes, key_hash: bytes) -> bool:
    return 0 <= index <= MAX_SIZE and len(leaf_hash) == 32 and 8 <= len(key_hash) <= 32


def verify_receipt(note: bytes | str, vkeys: Iterable[str | VerifierKey]) -> Receipt:
    """The receipt, if one of the receipt keys signed it; NoteInvalid otherwise."""
    return _parse(verify(note, vkeys).text)


def _parse(text: str) -> Receipt:
    lines = text.removesuffix("\n").split("\n")
    if len(lines) < 5 or lines[0] != HEADER or not lines[1] or not _TIME.fullmatch(lines[2]):
        raise NoteInvalid("The note is not a receipt of format 1.")
    return Receipt(lines[1], lines[2], tuple(_promise(line) for line in lines[4:]), decimal(lines[3]))


def _promise(line: str) -> Promise:
    match = _PROMISE.fullmatch(line)
    if match is None:
        raise NoteInvalid("A line of the receipt is not: index, leaf hash, record key.")
    index, leaf, key = match.groups()
    return Promise(decimal(index), bytes.fromhex(leaf), bytes.fromhex(key))
