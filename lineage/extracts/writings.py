"""Of each record that wrote to a table, its transaction as a hash, so that thousands are asked whether an image tells of what they
wrote without a card of them being read. One file, mapped; pure but for it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from lineage import durable
from lineage.extracts import Cursor, Indexes, postings
from lineage.extracts.postings import Damaged, Hashes, among, hash_sql, mapped

FILE = "writings.bin"
FOOT = struct.Struct("<16sQQ")
MAGIC = b"touchstone wrote"
UNDONE = 0
"""In the place of a hash: rolled back, or it is not known how it ended."""
ALONE = 1
"""In the place of a hash: no transaction is known."""

WAS_UNDONE = "coalesce(outcome, 'rolled_back') = 'rolled_back'"
ASKED = f"""
select index, case when {WAS_UNDONE} then {UNDONE} else {hash_sql("transaction", "transaction_id")} end as ran
from made semi join (select index from made_touches where access = 'wrote') using (index)
where {WAS_UNDONE} or transaction_id is not null
"""  # noqa: S608 - our own columns


def term_sql(*expressions: str) -> str:
    """The term of changes of a table (database and relation) by one transaction, as `terms_of` has it."""
    *table, transaction = expressions
    return f"xor({hash_sql('captured', *table)}, {hash_sql('transaction', transaction)})"


def terms_of(datasource: str, relation: str, ran: Hashes) -> Hashes:
    """The terms of changes of this table by these transactions."""
    return np.bitwise_xor(ran, np.uint64(postings.hash_of("captured", datasource, relation)))


class Writings:
    """The records of one file, or of what is newer than all."""

    def __init__(self, offsets: Indexes, hashes: Hashes, least: int) -> None:
        self.offsets, self.hashes, self.least = offsets, hashes, least

    def of(self, indexes: Indexes) -> Hashes:
        """The transactions of these; `ALONE` of what is not among them."""
        found = np.full(len(indexes), ALONE, np.uint64)
        if len(self.offsets) and len(indexes):
            # Of the same type: else numpy makes another copy of the whole column.
            sought = np.minimum(np.maximum(indexes - self.least, 0), (1 << 32) - 1).astype("<u4")
            places = np.minimum(np.searchsorted(self.offsets, sought), len(self.offsets) - 1)
            here = self.offsets[places] == indexes - self.least
            found[here] = self.hashes[places[here]]
        return found

    def pairs(self) -> tuple[Indexes, Hashes]:
        """All of them, by index."""
        return self.offsets.astype(np.int64) + self.least, self.hashes.astype(np.uint64)


def held(cursor: Cursor) -> Writings:
    """Those of the records of `made`."""
    indexes, hashes = _asked(cursor)
    least = int(indexes[0]) if len(indexes) else 0
    return Writings(indexes - least, hashes, least)


def read(folder: Path) -> Writings:
    """Raises FileNotFoundError and Damaged."""
    view = mapped(folder / FILE)
    if len(view) < FOOT.size:
        raise Damaged(f"{FILE} is cut short.")
    magic, count, least = FOOT.unpack_from(view, len(view) - FOOT.size)
    if magic != MAGIC or 12 * count + FOOT.size != len(view):
        raise Damaged(f"{FILE} is not a file of writings.")
    return Writings(np.frombuffer(view, "<u4", count, 8 * count), np.frombuffer(view, "<u8", count), least)


def write(folder: Path, cursor: Cursor) -> None:
    """Those of an extract that is made anew; durable at return."""
    durable.write_from(folder / FILE, 0, _content(*_asked(cursor)))


def merge(folder: Path, parts: Sequence[Path], dropped: Sequence[Indexes]) -> None:
    """Those of several, without these (ascending) indexes of each."""
    found = [(postings.NOTHING, np.empty(0, np.uint64))]
    for part, lost in zip(parts, dropped, strict=True):
        indexes, hashes = read(part).pairs()
        kept = ~among(indexes, lost)
        found.append((indexes[kept], hashes[kept]))
    indexes, hashes = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.argsort(indexes, kind="stable")
    durable.write_from(folder / FILE, 0, _content(indexes[order], hashes[order]))


def _asked(cursor: Cursor) -> tuple[Indexes, Hashes]:
    found = cursor.sql(f"{ASKED} order by index").to_arrow_table()
    return found["index"].to_numpy().astype(np.int64), found["ran"].to_numpy().astype(np.uint64)


def _content(indexes: Indexes, hashes: Hashes) -> Iterator[bytes]:
    least = int(indexes[0]) if len(indexes) else 0
    if len(indexes) and int(indexes[-1]) - least >= 1 << 32:
        raise ValueError("An extract reaches over fewer than 2^32 records.")
    yield hashes.astype("<u8").tobytes()
    yield (indexes - least).astype("<u4").tobytes()
    yield FOOT.pack(MAGIC, len(indexes), least)
