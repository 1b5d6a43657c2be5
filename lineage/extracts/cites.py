"""Which records of an extract cite a ticket or a request: asked in SQL once, kept by a process.

As of `lineage.extracts.meeting` it is asked anew once imported logins, conflicts or tags are others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lineage.extracts import Indexes
from lineage.extracts.cards import Cards
from lineage.extracts.meeting import Asked, Condition, beside, over_activity
from lineage.extracts.postings import Damaged, Hashes
from lineage.snapshots import Snapshot

MEETS, DECIDES, ASKS = 1, 2, 4


class Cites(NamedTuple):
    """A row for each record and what it cites, by index: its place among the cards, the hash of what is cited, and `bits`.

    `MEETS`: it meets the condition; `DECIDES`: it is a decision; `ASKS`: a statement, which cites the request that let it run.
    """

    asked: Asked
    places: NDArray[np.int32]
    indexes: Indexes
    hashes: Hashes
    bits: NDArray[np.uint8]
    last: NDArray[np.int64]
    """Which of these rows is the last of each hash."""
    all_bits: NDArray[np.uint8]
    """Of that hash: those that one of its rows has."""


def cites(cursor: Any, folder: Path, cards: Cards, snap: Snapshot, asked: Condition, known: Cites | None) -> Cites:
    """The same as is `known`, or made anew; `asked` gives `index`, `hash` and `bits` of activity. As `meeting.met`. Raises Damaged."""
    if known is not None and known.asked.is_of(snap, (asked,)):
        return known
    sql, values = asked
    found = cursor.sql(
        f"{over_activity(cursor, folder, snap)} {sql} order by index", params=list(values)
    ).to_arrow_table()
    indexes = found["index"].to_numpy().astype(np.int64)
    places = cards.positions(indexes)
    if (places < 0).any():
        raise Damaged(f"{folder.name} has other records than its cards.")
    hashes, bits = found["hash"].to_numpy().astype(np.uint64), found["bits"].to_numpy().astype(np.uint8)
    order = np.argsort(hashes, kind="stable")
    starts = np.flatnonzero(np.diff(hashes[order], prepend=~hashes[order][:1]))
    last = order[np.append(starts[1:], len(order)) - 1] if len(starts) else order
    all_bits = np.bitwise_or.reduceat(bits[order], starts) if len(starts) else bits
    return Cites(Asked((asked,), beside(snap)), places.astype(np.int32), indexes, hashes, bits, last, all_bits)
