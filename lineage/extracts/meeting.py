"""Which of some conditions each record of an extract meets: asked in SQL once, kept by a process, with how many meet which in each month.

A record's own row is asked, with what imported logins, conflicts and tags make of it: once these are others, it is asked anew.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lineage import resolving
from lineage.extracts import OVERRIDES, RECORDS, Indexes
from lineage.extracts.cards import Cards
from lineage.extracts.numbering import dense
from lineage.extracts.postings import Damaged
from lineage.snapshots import Snapshot

CONDITIONS_MOST = 32
BATCH = 1 << 18
TIMELESS = -1
"""In the place of the month of records without a time."""
YEAR_0 = 1970 * 12
Condition = tuple[str, tuple[Any, ...]]
"""SQL over `activity`, and its values."""
Column = NDArray[Any]


class Asked(NamedTuple):
    """What the answer is of."""

    conditions: tuple[Condition, ...]
    beside: tuple[pa.Table, ...]

    def is_of(self, snap: Snapshot, conditions: tuple[Condition, ...]) -> bool:
        return self.conditions == conditions and all(
            one is other or one.equals(other) for one, other in zip(self.beside, beside(snap), strict=True)
        )


class Cells(NamedTuple):
    """How many records (`counts`) have a month, a place and a set of conditions; of each set `meets` says which. Several may be alike."""

    months: Column
    places: Column
    counts: Column
    meets: Column


class Met(NamedTuple):
    """`bits` of each record by its place among the cards: one for each condition that it meets."""

    asked: Asked
    bits: Column
    cells: Cells


def month_of(at: dt.datetime) -> int:
    """Months since the year 0, of a time in UTC."""
    return at.year * 12 + at.month - 1


def is_month(at: dt.datetime) -> bool:
    """Whether a month begins then."""
    at = at.astimezone(dt.UTC)
    return at == dt.datetime(at.year, at.month, 1, tzinfo=dt.UTC)


def met(
    cursor: Any, folder: Path, cards: Cards, snap: Snapshot, conditions: tuple[Condition, ...], known: Met | None
) -> Met:
    """The same as is `known`, or made anew. The cursor knows tags and no views. Raises Damaged."""
    if known is not None and known.asked.is_of(snap, conditions):
        return known
    bits = _bits(cursor, folder, cards, snap, conditions)
    spans = [slice(start, start + BATCH) for start in range(0, max(cards.count, 1), BATCH)]
    parts = [cells(cards, bits, span, len(conditions)) for span in spans]
    return Met(Asked(conditions, beside(snap)), bits, Cells(*map(np.concatenate, zip(*parts, strict=True))))


def cells(cards: Cards, bits: Column, places: Indexes | slice, conditions: int) -> Cells:
    """Of the records at these places of the cards."""
    months = cards.times(places).astype("M8[us]").astype("M8[M]")
    number = np.where(np.isnat(months), TIMELESS, months.astype(np.int64) + YEAR_0)
    found, first, counts = _counted([number, cards.numbers[places].astype(np.int64), bits[places].astype(np.int64)])
    month, place, sets = (column[first] for column in found)
    return Cells(month, place, counts, (sets[:, None] >> np.arange(conditions)) & 1)


def _counted(columns: Sequence[Column]) -> tuple[Sequence[Column], Column, Column]:
    """These columns, where each of their rows stands first, and how often it does."""
    code = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        named, again = dense(column)
        code = dense(code * len(named) + again)[1]
    _, first, counts = np.unique(code, return_index=True, return_counts=True)
    return columns, first, counts


def beside(snap: Snapshot) -> tuple[pa.Table, ...]:
    """What may change which conditions a record meets, though its own row is the same."""
    return snap.identities, snap.conflicted, snap.tagged


def over_activity(cursor: Any, folder: Path, snap: Snapshot) -> str:
    """What stands before a question so that `activity` has the rows of the extract in this folder alone. Raises Damaged."""
    files = [str(folder / name) for name in (RECORDS, OVERRIDES) if (folder / name).exists()]
    if not files:
        raise Damaged(f"{RECORDS} is not there.")
    cursor.register("met_identities", snap.identities)
    cursor.register("met_conflicted", snap.conflicted)
    return (
        f"with resolved as (select * from read_parquet({files!r})), identities as (from met_identities), "  # noqa: S608
        f"conflicted as (from met_conflicted), activity as ({resolving.OF_ACTIVITY})"
    )


def _bits(cursor: Any, folder: Path, cards: Cards, snap: Snapshot, conditions: Sequence[Condition]) -> Column:
    told = " + ".join(f"case when {sql} then {1 << number} else 0 end" for number, (sql, _) in enumerate(conditions))
    answer = cursor.sql(
        f"{over_activity(cursor, folder, snap)} select index, ({told})::bigint as bits from activity",  # noqa: S608
        params=[value for _, values in conditions for value in values],
    )
    bits, filled = np.zeros(cards.count, np.min_scalar_type((1 << len(conditions)) - 1)), 0
    for batch in answer.to_arrow_reader(BATCH):
        places = cards.positions(batch["index"].to_numpy())
        if (places < 0).any():
            raise Damaged(f"{RECORDS} has other records than the cards.")
        bits[places] = batch["bits"].to_numpy()
        filled += len(places)
    if filled != cards.count:
        raise Damaged(f"{RECORDS} has other records than the cards.")
    return bits
