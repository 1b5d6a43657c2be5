"""Picks: which columns of which tables the accesses of a record name, as numbers. Pure.

Statements that read the same tables name many different sets of columns; the columns themselves are as many as databases have.
So each set (a *pick*) stands in a file once, as numbers of its *cells*: a table, whether it was read, and a column of it. A set
is compared as numbers; texts there are only of tables and columns.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from lineage.extracts.columns import cut, wide
from lineage.extracts.numbering import Numbers, distinct

ACCESSES = ("read", "wrote", "changed")
ALL = "*"
READ, READ_BY_NAME, WROTE, WROTE_BY_NAME = (1 << n for n in range(4))
PICK = msgspec.json.Decoder(list[str])
NAMED = msgspec.json.Decoder(tuple[str | None, str | None, list[str | None] | None])
TABLE, WAY = np.uint64(33), np.uint64(32)
"""A cell: its table from this bit on, whether it was read, and its column."""
Column = NDArray[Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Picks:
    """Where each begins among the members, and ends; which cells these are (`cut`); the cells, ascending; names by number."""

    begins: Column
    members: NDArray[np.uint8]
    cells: NDArray[np.uint64]
    relations: Sequence[str]
    columns: Sequence[str]

    def ways(self, relations: Iterable[str], column: str) -> Column:
        """For each pick how it met the column of these tables: `READ` and the others, together."""
        found = np.zeros(len(self.begins) - 1, np.uint8)
        tables, names = self._numbers
        for relation in {*relations} & {*tables}:
            for name in {column, ALL} & {*names}:
                for is_read in (False, True):
                    way = READ if is_read else WROTE
                    bits = way | way << 1 if name == column else way
                    found[self._having(tables[relation], is_read, names[name])] |= bits
        return found

    def counted(self, relations: Iterable[str], some: Column, times: Column) -> dict[str, list[int]]:
        """By column of these tables how often these picks, so many `times` each, read it and wrote it."""
        tables, _ = self._numbers
        begins, lengths = self.begins[some].astype(np.int64), np.diff(self.begins)[some].astype(np.int64)
        last = np.cumsum(lengths)
        places = np.repeat(begins - (last - lengths), lengths) + np.arange(last[-1] if len(last) else 0)
        totals = np.bincount(wide(self.members, places), np.repeat(times, lengths), len(self.cells))
        meant = np.isin(self.cells >> TABLE, [tables[name] for name in relations if name in tables])
        found: dict[str, list[int]] = {}
        for place in np.flatnonzero((totals > 0) & meant).tolist():
            cell = int(self.cells[place])
            counts = found.setdefault(self.columns[cell & (1 << int(WAY)) - 1], [0, 0])
            counts[0 if cell >> int(WAY) & 1 else 1] += int(totals[place])
        return found

    @functools.cached_property
    def _numbers(self) -> tuple[dict[str, int], dict[str, int]]:
        """Those of tables and of columns by name."""
        tables, names = ({name: number for number, name in enumerate(some)} for some in (self.relations, self.columns))
        return tables, names

    @functools.cached_property
    def holders(self) -> tuple[Column, Column]:
        """Where the picks that have each cell begin, and end; all of these, one behind the other."""
        members = wide(self.members, slice(None))
        ends = np.cumsum(np.bincount(members, minlength=len(self.cells)))
        owners = np.repeat(np.arange(len(self.begins) - 1, dtype="<u4"), np.diff(self.begins))
        return np.concatenate(([0], ends)).astype("<u4"), owners[np.argsort(members, kind="stable")]

    def _having(self, table: int, is_read: bool, column: int) -> Column:
        """The picks that have a cell."""
        cell = np.uint64(table << int(TABLE) | is_read << int(WAY) | column)
        place = int(np.searchsorted(self.cells, cell))
        if place == len(self.cells) or self.cells[place] != cell:
            return self.begins[:0]
        begins, owners = self.holders
        return owners[begins[place] : begins[place + 1]]

    def written(self) -> tuple[Column, Column, Column, Column]:
        """The columns that a file has: how many members each has, the members, and table and column with way of the cells."""
        columns = self.cells & np.uint64((1 << int(WAY)) - 1)
        ways = (self.cells >> WAY) & np.uint64(1)
        return (
            np.diff(self.begins),
            wide(self.members, slice(None)),
            self.cells >> TABLE,
            columns << np.uint64(1) | ways,
        )


Ways = Callable[[Picks], Column]
"""For each pick how it met what is asked for."""


def read(written: Sequence[NDArray[np.uint8]], relations: Sequence[str], columns: Sequence[str]) -> Picks:
    """Of columns that are `written`, cut, in a file."""
    lengths, tables, named = (wide(written[number], slice(None)) for number in (0, 2, 3))
    begins = np.concatenate(([0], np.cumsum(lengths))).astype("<u4")
    cells = tables << int(TABLE) | (named & 1) << int(WAY) | named >> 1
    return Picks(begins, written[1], cells.astype(np.uint64), relations, columns)


def made(texts: Iterable[str]) -> Picks:
    """Of texts, each a list of texts of a table, an access and columns; in their order."""
    tables, names = Numbers(), Numbers()
    lengths, cells = [0], list[int]()
    for text in texts:
        told = (NAMED.decode(each) for each in PICK.decode(text))
        own = {
            tables(relation) << int(TABLE) | (access == "read") << int(WAY) | names(column)
            for relation, access, columns in told
            for column in columns or ()
            if relation is not None and column is not None and access in ACCESSES
        }
        cells += sorted(own)
        lengths.append(len(own))
    known, members = np.unique(np.array(cells, np.uint64), return_inverse=True)
    return Picks(np.cumsum(lengths), cut(members), known, list(tables.of), list(names.of))


def together(some: Sequence[Picks]) -> tuple[Picks, list[Column]]:
    """Those of several as one, each set once, and for each of them which number each of its own has now."""
    tables, names = Numbers(), Numbers()
    again = [_again(each, tables, names) for each in some]
    cells = np.unique(np.concatenate([np.empty(0, np.uint64), *again]))
    begins, members, count = [np.zeros(1, np.int64)], [np.empty(0, np.int64)], 0
    for each, own in zip(some, again, strict=True):
        begins.append(count + each.begins[1:].astype(np.int64))
        count += len(each.members)
        members.append(np.searchsorted(cells, own)[wide(each.members, slice(None))])
    # In each of them the members ascend in another order.
    every = _each_once(np.concatenate(begins), np.concatenate(members))
    whole = Picks(every[0], cut(every[1]), cells, list(tables.of), list(names.of))
    ends = np.cumsum([len(each.begins) - 1 for each in some])
    return whole, np.split(every[2], ends[:-1])


def _again(some: Picks, tables: Numbers, names: Numbers) -> NDArray[np.uint64]:
    """Its cells with the numbers that tables and columns have there."""
    of_tables = np.array([tables(name) for name in some.relations], np.uint64)
    of_names = np.array([names(name) for name in some.columns], np.uint64)
    if not len(some.cells):
        return np.empty(0, np.uint64)
    ways = (some.cells >> WAY) & np.uint64(1)
    columns = some.cells & np.uint64((1 << int(WAY)) - 1)
    return np.asarray((of_tables[some.cells >> TABLE] << TABLE) | (ways << WAY) | of_names[columns], np.uint64)


def _each_once(begins: Column, members: Column) -> tuple[Column, Column, Column]:
    """Where each distinct set begins and ends, its members, and the number of each that is given."""
    lengths = np.diff(begins)
    members = members[np.lexsort((members, np.repeat(np.arange(len(lengths)), lengths)))]
    order = np.argsort(lengths, kind="stable")
    each, starts = np.unique(lengths[order], return_index=True)
    numbers, kept, sizes, count = np.zeros(len(lengths), np.int64), [np.empty(0, np.int64)], [np.zeros(1, np.int64)], 0
    for length, which in zip(each.tolist(), np.split(order, starts[1:]), strict=True):
        rows = members[begins[which][:, None] + np.arange(length)]
        own, again = distinct(list(rows.T)) if length else ([], np.zeros(len(which), np.int64))
        found = len(own[0]) if length else 1
        numbers[which] = count + again
        kept.append(np.stack(own, axis=1).ravel() if length else kept[0])
        sizes.append(np.full(found, length))
        count += found
    return np.cumsum(np.concatenate(sizes)), np.concatenate(kept), numbers
