"""Groups: records that are alike, counted, so that what is asked of all of them is added up over few. Pure.

A group is who, the actor as records tell it, a place, a manner and marks; below it stands how its records met which tables
(`meanings.ways`). Of each there is how many, the least and the greatest index, and the first and the last time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lineage.extracts import Indexes
from lineage.extracts.cards import NO_TIME
from lineage.extracts.meanings import Held

Column = NDArray[Any]
NONE: Column = np.empty(0, np.int64)
LATE = (1 << 63) - 1
"""In the place of the first time where none is known; of the last it is `NO_TIME`."""
UNTIMED = 1 << 15
"""A mark beside those of records: no time is known of these."""
WIDE = 1 << 62


class Alike(NamedTuple):
    """What all of a group have: numbers of people, actors, places of their file, manners; and marks."""

    who: Column
    actors: Column
    places: Column
    manners: Column
    marks: Column


class Extent(NamedTuple):
    """Of each group, or table below it: how many records, and between which they lie."""

    counts: Column
    firsts: Indexes
    lasts: Indexes
    since: Indexes
    until: Indexes


class Groups(NamedTuple):
    alike: Alike
    extent: Extent
    of: Column
    """Below which group each of `ways` stands."""
    ways: Column
    met: Extent

    def chosen(self, kept: Column) -> Groups:
        """Those groups alone."""
        below = kept[self.of]
        return Groups(
            Alike(*(column[kept] for column in self.alike)), Extent(*(column[kept] for column in self.extent)),
            (np.cumsum(kept) - 1)[self.of[below]], self.ways[below], Extent(*(column[below] for column in self.met)),
        )  # fmt: skip

    def narrow(self) -> Groups:
        """The same in types that are as narrow as what is kept long should be; times stay."""
        return Groups(
            Alike(*map(_narrow, self.alike)), _narrow_extent(self.extent), _narrow(self.of), _narrow(self.ways),
            _narrow_extent(self.met),
        )  # fmt: skip


def _narrow(column: Column) -> Column:
    return column.astype(np.uint32) if int(column.max(initial=0)) < 1 << 32 else column


def _narrow_extent(some: Extent) -> Extent:
    return Extent(_narrow(some.counts), _narrow(some.firsts), _narrow(some.lasts), some.since, some.until)


def of_records(alike: Alike, indexes: Indexes, times: Indexes, shapes: Column, ways: Held) -> Groups:
    """Of records one by one."""
    is_timed = times != NO_TIME
    alike = alike._replace(marks=np.where(is_timed, alike.marks, alike.marks | UNTIMED))
    one = Extent(np.ones(len(indexes), np.int64), indexes, indexes, np.where(is_timed, times, LATE), times)
    values, at = ways.spread(shapes)
    return _added(Groups(alike, one, at, values, Extent(*(column[at] for column in one))))


def together(parts: Sequence[Groups]) -> Groups:
    """Those of several parts as one; their numbers mean the same."""
    if len(parts) == 1:
        return parts[0]
    first = np.cumsum([0, *(len(part.extent.counts) for part in parts)])
    return _added(
        Groups(
            Alike(*_joined([part.alike for part in parts])),
            Extent(*_joined([part.extent for part in parts])),
            np.concatenate([NONE, *(part.of + start for part, start in zip(parts, first[:-1], strict=True))]),
            np.concatenate([NONE, *(part.ways for part in parts)]),
            Extent(*_joined([part.met for part in parts])),
        )
    )


def _joined(parts: Sequence[Sequence[Column]]) -> list[Column]:
    width = len(parts[0]) if parts else len(Alike._fields)
    return [np.concatenate([NONE, *(part[number] for part in parts)]) for number in range(width)]


def _added(every: Groups) -> Groups:
    """Each group once."""
    key, number = _numbered(every.alike)
    alike = Alike(*_given(every.alike, number, key))
    below, each = _numbered((number[every.of], every.ways))
    of, ways = _given((number[every.of], every.ways), each, below)
    return Groups(alike, _summed(every.extent, number, key), of, ways, _summed(every.met, each, below))


def _numbered(columns: Sequence[Column]) -> tuple[int, Column]:
    """How many different rows these columns have, and of each row the number of its own."""
    code, width = np.zeros(len(columns[0]), np.int64), 1
    for column in columns:
        reach = int(column.max(initial=0)) + 1
        if width * reach > WIDE:
            found, code = np.unique(code, return_inverse=True)
            width = len(found)
        code = code * reach + column
        width *= reach
    found, code = np.unique(code, return_inverse=True)
    return len(found), code


def _given(columns: Sequence[Column], number: Column, count: int) -> list[Column]:
    """What the rows of each number have in these columns, in which they are the same."""
    found = []
    for column in columns:
        found.append(np.zeros(count, np.int64))
        found[-1][number] = column
    return found


def _summed(some: Extent, number: Column, count: int) -> Extent:
    counts = np.zeros(count, np.int64)
    np.add.at(counts, number, some.counts)
    firsts, lasts = np.full(count, LATE), np.full(count, -1)
    since, until = np.full(count, LATE), np.full(count, NO_TIME)
    np.minimum.at(firsts, number, some.firsts)
    np.maximum.at(lasts, number, some.lasts)
    np.minimum.at(since, number, some.since)
    np.maximum.at(until, number, some.until)
    return Extent(counts, firsts, lasts, since, until)
