"""Records as they were reported, as Arrow tables, of which single ones are read as rows. No DuckDB here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from lineage import projections
from lineage.extracts import Indexes
from lineage.extracts.blocks import TOUCHED
from lineage.newer.saying import Row

Reported = tuple[pa.Table, pa.Table]
"""Records and their touches, both by index."""
Touches = list[dict[str, Any]]


class _Chunk(NamedTuple):
    events: pa.Table
    touches: pa.Table
    touched: Indexes
    """Of each touch the index of its record."""


class Chunks:
    """It only grows."""

    def __init__(self) -> None:
        self.every: list[_Chunk] = []
        self.where: dict[int, tuple[int, int]] = {}

    def add(self, reported: Reported) -> list[Row]:
        """Keeps these records, and gives them as rows."""
        events, touches = reported
        found: list[Row] = [*rows(events)]
        number = len(self.every)
        self.every.append(_Chunk(events, touches, touches["index"].to_numpy()))
        self.where |= {row["index"]: (number, place) for place, row in enumerate(found)}
        return found

    def columns(self, *names: str) -> pa.Table:
        """These columns of all records."""
        return pa.concat_tables(
            [projections.EVENTS.empty_table().select(names), *(one.events.select(names) for one in self.every)]
        )

    def rows(self, indexes: Sequence[int]) -> list[Row]:
        """These records, ascending within each chunk."""
        places: dict[int, list[int]] = {}
        for index in indexes:
            number, place = self.where[index]
            places.setdefault(number, []).append(place)
        return [
            row
            for number, some in places.items()
            for row in rows(self.every[number].events.take(pa.array(sorted(some))))
        ]

    def touches(self, indexes: Sequence[int]) -> dict[int, Touches]:
        """The touches of these records, of each that has some."""
        by_chunk: dict[int, list[int]] = {}
        for index in indexes:
            by_chunk.setdefault(self.where[index][0], []).append(index)
        found: dict[int, Touches] = {}
        for number, some in by_chunk.items():
            chunk = self.every[number]
            places = np.flatnonzero(np.isin(chunk.touched, some))
            for row in rows(chunk.touches.take(pa.array(places))) if len(places) else ():
                found.setdefault(row["index"], []).append({name: row[name] for name in TOUCHED})
        return found


def rows(table: pa.Table) -> list[dict[str, Any]]:
    """Rows by the names of the columns; times in microseconds."""
    return [
        dict(zip(table.column_names, values, strict=True)) for values in zip(*map(_values, table.columns), strict=True)
    ]


def _values(column: pa.ChunkedArray) -> list[Any]:
    if column.null_count == len(column):
        return [None] * len(column)
    known: list[Any] = (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()
    return known


def between(snap_events: pa.Table, snap_touches: pa.Table, first: int, following: int) -> Reported:
    """Of tables by index what lies from one index to before another, not copied."""
    parts = []
    for table in (snap_events, snap_touches):
        begin, end = np.searchsorted(table["index"].to_numpy(), (first, following))
        parts.append(table.slice(begin, end - begin))
    return parts[0], parts[1]
