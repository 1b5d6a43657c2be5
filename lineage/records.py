"""One record as the log holds it: its leaf, and what is disclosed of it. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa

LEAVES = pa.schema([("index", pa.int64()), ("leaf", pa.binary())])
DISCLOSURES = pa.schema([("index", pa.int64()), ("group", pa.string()), ("salt", pa.binary()), ("value", pa.binary())])


class Record(msgspec.Struct, frozen=True, gc=False):
    """One leaf with what is disclosed of it: group -> exact bytes, and group -> salt. An erased group is None."""

    index: int
    leaf: bytes
    groups: dict[str, bytes | None]
    salts: dict[str, bytes | None]


class Committed(msgspec.Struct, frozen=True, gc=False):
    """What a leaf says of its groups, and when it was received."""

    groups: dict[str, str]
    received_at: str = ""


committed = msgspec.json.Decoder(Committed).decode
"""Reads that of leaf bytes. Raises msgspec.DecodeError for others."""


def unopened(record: Record, said: Committed | None = None) -> str:
    """Says which group of the record is not the one that its leaf commits to; empty when each that is held is.

    `said` is what `committed` read of its leaf, where that was read already.
    """
    digests = (said or committed(record.leaf)).groups
    if record.groups.keys() != digests.keys():
        return f"Record {record.index}: its groups are not those that it commits to."
    for group, value in record.groups.items():
        salt = record.salts[group]
        if value is not None and (salt is None or hashlib.sha256(salt + value).hexdigest() != digests[group]):
            return f"Record {record.index}: the group {group} is not what was accepted."
    return ""


def leaves(records: Sequence[Record]) -> pa.Table:
    return pa.Table.from_arrays(
        [pa.array([r.index for r in records], pa.int64()), [r.leaf for r in records]], schema=LEAVES
    )


def disclosures(records: Sequence[Record]) -> pa.Table:
    columns: tuple[list[Any], ...] = (
        [r.index for r in records for _ in r.groups],
        [group for r in records for group in r.groups],
        [r.salts[group] for r in records for group in r.groups],
        [value for r in records for value in r.groups.values()],
    )
    return pa.Table.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, DISCLOSURES, strict=True)], schema=DISCLOSURES
    )
