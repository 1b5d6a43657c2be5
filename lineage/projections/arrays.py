"""Arrow arrays from what stands at each record's place."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain

import pyarrow as pa

from lineage.events import parse_time
from lineage.projections.schema import TIME


def texts(values: Sequence[str | None]) -> pa.Array:
    return pa.array(values, pa.string())


def lists(values: Sequence[Sequence[str]]) -> pa.Array:
    """A list of texts each; an empty one where there are none, never null."""
    offsets = pa.array(list(accumulate(map(len, values), initial=0)), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(list(chain.from_iterable(values)), pa.string()))


def times(values: Sequence[str | None]) -> pa.Array:
    """RFC 3339 texts as times in UTC; nothing where there is none. Raises ValueError for any other text."""
    try:
        return pa.array([value or None for value in values], pa.string()).cast(TIME)
    except pa.ArrowInvalid:
        # What Arrow does not read may still be a time: of nine digits, or without a colon in its zone.
        return pa.array([parse_time(value) if value else None for value in values], TIME)
