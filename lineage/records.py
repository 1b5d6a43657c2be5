"""One record as the log holds it: its leaf, and what is disclosed of it. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

LEAVES = pa.schema([("index", pa.int64()), ("leaf", pa.binary())])
DISCLOSURES = pa.schema([("index", pa.int64()), ("group", pa.string()), ("salt", pa.binary()), ("value", pa.binary())])


class Record(msgspec.Struct, frozen=True, gc=False):
    """One leaf with what is disclosed of it: group -> exact bytes, and group -> salt, in the same order. An erased group is None."""

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
    columns = ([r.index for r in records], [r.leaf for r in records])
    return _table(columns, LEAVES)


def disclosures(records: Sequence[Record]) -> pa.Table:
    each = np.fromiter((len(r.groups) for r in records), np.int64, len(records))
    every = chain.from_iterable
    columns = (
        np.repeat(np.fromiter((r.index for r in records), np.int64, len(records)), each),
        [*every(r.groups for r in records)],
        [*every(r.salts.values() for r in records)],
        [*every(r.groups.values() for r in records)],
    )
    return _table(columns, DISCLOSURES)


def _table(columns: Iterable[Any], schema: pa.Schema) -> pa.Table:
    made = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(made, schema=schema)
