"""What a segment is written of, part by part: verified, derived, and put into files; memory does not grow with its records."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from lineage import errors, merkle, projections, records
from lineage.records import Record
from lineage.rowgroups import Writer

PART = 1_000
"""So many records are held at a time as Python objects."""
SECONDS_MOST = 3.0
"""Meanwhile no checkpoint is made; what is left is sealed in the keeper's next turn."""
SCHEMAS = {
    "leaves": records.LEAVES, "disclosures": records.DISCLOSURES, "events": projections.EVENTS, "touches": projections.TOUCHES,
}  # fmt: skip
Read = Callable[[int, int], Iterator[Record]]
Signed = Callable[[int, int], Sequence[bytes]]


class Written(NamedTuple):
    """Up to which record, and when the earliest and the latest of them were received."""

    following: int
    earliest: str
    latest: str


def write(draft: Path, first: int, following: int, read: Read, signed: Signed) -> Written:
    """Writes the files of the records from `first` to before `following` into the folder, durably.

    `read` gives records and `signed` their leaf hashes, of a part of that range. It may end before, at the end of a part, when
    `SECONDS_MOST` have passed. Raises LedgerBroken where a record is missing or is not the one that was signed.
    """
    earliest, latest, end, until = "~", "", first, time.monotonic() + SECONDS_MOST
    with contextlib.ExitStack() as stack:
        files = {
            name: stack.enter_context(Writer(draft / f"{name}.parquet", schema)) for name, schema in SCHEMAS.items()
        }
        while end < following and (end == first or time.monotonic() < until):
            start, end = end, min(end + PART, following)
            part = list(read(start, end))
            received = list(_checked(part, range(start, end), signed(start, end)))
            earliest, latest = min(earliest, *received), max(latest, *received)
            for name, table in _tables(part).items():
                files[name].add(table)
    return Written(end, earliest, latest)


def _checked(part: Sequence[Record], indexes: range, signed: Sequence[bytes]) -> Iterator[str]:
    """When each was received. Raises LedgerBroken for the first that is not the one that was signed."""
    if [record.index for record in part] != list(indexes):
        raise errors.LedgerBroken(
            f"The journal holds {len(part)} of {len(indexes)} records from {indexes.start}. Nothing was sealed; run fsck.",
            alarm="record-missing",
        )
    if len(signed) < len(indexes):
        raise errors.LedgerBroken(
            "The file of leaf hashes is too short. Nothing was sealed; run `bin/manage fsck --repair-hashes`.",
            alarm="hashes-damaged",
        )
    for record, leaf_hash in zip(part, signed, strict=True):
        if merkle.leaf_hash(record.leaf) != leaf_hash:
            raise errors.LedgerBroken(
                f"Record {record.index} is not the one that was signed. Nothing was sealed; run fsck.",
                alarm="log-rewritten",
            )
        said = records.committed(record.leaf)
        # Nothing is erased before it is sealed: here every group is held.
        fault = records.unopened(record, said)
        if fault or None in record.groups.values():
            raise errors.LedgerBroken(
                f"{fault or f'Record {record.index}: a group is gone.'} Nothing was sealed; run fsck.",
                alarm="log-rewritten",
            )
        yield said.received_at


def _tables(part: Sequence[Record]) -> dict[str, pa.Table]:
    events, touches = projections.tables((r.index, r.leaf, r.groups.values()) for r in part)
    return {
        "leaves": records.leaves(part),
        "disclosures": records.disclosures(part),
        "events": events,
        "touches": touches,
    }
