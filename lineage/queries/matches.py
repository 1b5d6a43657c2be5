"""What a search finds as numbers: which records match, and which tables they touched, as often as they did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lineage.extracts.coding import Coding
from lineage.extracts.grouping import Grouping, Some
from lineage.extracts.groups import Alike
from lineage.extracts.postings import among
from lineage.queries import alike

Column = NDArray[Any]


class Touches(NamedTuple):
    """Which of some records (`at`) touched which table (its number), and how often."""

    at: Column
    tables: Column
    times: Column


def touches(some: Some, coding: Coding, only: alike.OfTables | None) -> Touches:
    """Of these records; `only` of these tables."""
    held = coding.meanings.tables.held
    tables, at = held.spread(some.shapes)
    times, repeats = np.ones(len(at), np.int64), some.layer.of.repeats
    here = among(repeats.indexes, some.indexes)
    if here.any():
        numbers = np.array([coding.meanings.tables.of.of.get(name, -1) for name in repeats.names], np.int64)
        keys, order = at * len(held.values) + tables, np.lexsort((tables, at))
        places = np.searchsorted(some.indexes, repeats.indexes[here])
        several = places * len(held.values) + numbers[repeats.tables[here]]
        times[order[np.searchsorted(keys[order], several)]] += repeats.more[here]
    if only is not None:
        kept = only.is_meant(held.values, only.relations)[tables]
        tables, at, times = tables[kept], at[kept], times[kept]
    return Touches(at, tables, times)


class Matches(NamedTuple):
    """Which records of these groups match, and what of the tables that are meant they touched."""

    grouping: Grouping
    matching: Callable[[Alike], alike.Mask]
    touches: Callable[[Some], Touches]
