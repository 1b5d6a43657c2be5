"""Arrow arrays from what stands at each record's place."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lineage.events import parse_time
from lineage.projections.schema import TIME

_NO_TEXTS = pa.array([], pa.string())


def same(values: Sequence[object], type_: pa.DataType) -> pa.Array:
    """An array of any type; where all values are one and the same, it is not converted value by value."""
    if values and values[0] == values[-1] and values.count(values[0]) == len(values):
        return pa.repeat(pa.scalar(values[0], type_), len(values))
    return pa.array(values, type_)


def texts(values: Sequence[str | None]) -> pa.Array:
    return pa.array(values, pa.string())


def lists(values: Sequence[Sequence[str]]) -> pa.Array:
    """A list of texts each; an empty one where there are none, never null."""
    ends = np.zeros(len(values) + 1, np.int32)
    if not any(values):
        return pa.ListArray.from_arrays(pa.array(ends), _NO_TEXTS)
    np.cumsum(np.fromiter(map(len, values), np.int32, len(values)), out=ends[1:])
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(list(chain.from_iterable(values)), pa.string()))


def spread(made: Sequence[pa.Array], at: npt.ArrayLike) -> list[pa.Array]:
    """What stands at these places of each array; the arrays themselves where that is all of each, in order."""
    places = np.asarray(at, np.int64)
    if made and len(made[0]) == len(places) and bool((places == np.arange(len(places))).all()):
        return list(made)
    taken = pa.array(places)
    return [pa.nulls(len(places), each.type) if each.null_count == len(each) else each.take(taken) for each in made]


def times(values: Sequence[str | None]) -> pa.Array:
    """RFC 3339 texts as times in UTC; nothing where there is none. Raises ValueError for any other text."""
    try:
        return pa.array([value or None for value in values], pa.string()).cast(TIME)
    except pa.ArrowInvalid:
        # What Arrow does not read may still be a time: of nine digits, or without a colon in its zone.
        return pa.array([parse_time(value) if value else None for value in values], TIME)
