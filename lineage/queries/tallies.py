"""Counts over records that are told as numbers (`lineage.extracts.coding`): as SQL counts them over rows. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lineage.extracts import coding
from lineage.extracts.cards import NO_TIME
from lineage.extracts.codes import CALLED, CHANGE, QUERY, REFUSED, STATEMENT, WRITE
from lineage.extracts.coding import Coding, Rows
from lineage.moments import moment
from lineage.queries.heads import STRENGTHS

Numbered = NDArray[Any]
LATE = (1 << 63) - 1


class Tally(NamedTuple):
    """Of each group how often something was done (`ask.TIMES`), and when first and last."""

    groups: list[int]
    times: list[int]
    first_at: list[dt.datetime | None]
    last_at: list[dt.datetime | None]


class Acts:
    """Records with the numbers of their calls and transactions."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.calls = coding.acts(rows)
        self.is_shared = np.zeros(len(self.calls), bool)
        if rows.calls.any():
            self.is_shared = np.bincount(self.calls, minlength=len(self.calls))[self.calls] > 1

    def tally(self, groups: Numbered, at: Numbered) -> Tally:
        """Of records (`at`: which, each once in a group) in groups."""
        named, group = np.unique(groups, return_inverse=True)
        count = len(named)
        times = self._calls(group, at, count)
        without = np.flatnonzero(times == 0)
        if len(without):
            times[without] = self._transactions(group, at, count)[without]
        moments = self.rows.times[at]
        first, last = np.full(count, LATE), np.full(count, NO_TIME)
        known = moments != NO_TIME
        np.minimum.at(first, group[known], moments[known])
        np.maximum.at(last, group[known], moments[known])
        return Tally(
            named.tolist(), times.tolist(), [None if each == LATE else moment(each) for each in first.tolist()],
            [time_of(each) for each in last.tolist()],
        )  # fmt: skip

    def _calls(self, group: Numbered, at: Numbered, count: int) -> Numbered:
        asked = (self.rows.bits[at] & QUERY) != 0
        shared = asked & self.is_shared[at]
        alone = np.bincount(group[asked & ~shared], minlength=count)
        if not shared.any():
            return alone
        return alone + _distinct(group[shared], self.calls[at[shared]], count, len(self.calls))

    def _transactions(self, group: Numbered, at: Numbered, count: int) -> Numbered:
        return _distinct(group, coding.transactions(self.rows)[at], count, len(self.calls))

    def distinct(self, bit: int, kept: Numbered | None = None) -> tuple[int, int]:
        """How many calls some records with this bit are of, and how many such records are of none."""
        asked = (self.rows.bits & bit) != 0 if kept is None else ((self.rows.bits & bit) != 0) & kept
        called = asked & ((self.rows.bits & CALLED) != 0)
        return len(np.unique(self.calls[called])), int(asked.sum() - called.sum())


def _distinct(group: Numbered, number: Numbered, count: int, most: int) -> Numbered:
    """How many different numbers, all smaller than `most`, each group has."""
    return np.bincount(np.unique(group * max(most, 1) + number) // max(most, 1), minlength=count)


def time_of(at: int) -> dt.datetime | None:
    return None if at == NO_TIME else moment(at)


def spread(of_number: Sequence[Sequence[int]], numbers: Numbered) -> tuple[Numbered, Numbered]:
    """Of records with these numbers, each of which stands for some values: all values, and which record has each."""
    lengths = np.array([len(each) for each in of_number], np.int64)
    values = np.array([value for each in of_number for value in each], np.int64)
    if not len(numbers) or not len(values):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    starts = np.concatenate(([0], np.cumsum(lengths)))[numbers]
    counts = lengths[numbers]
    ends = np.cumsum(counts)
    places = np.repeat(starts - (ends - counts), counts) + np.arange(ends[-1])
    return values[places], np.repeat(np.arange(len(numbers)), counts)


def done(acts: Acts) -> dict[str, int]:
    """Counts of statements, writes, changed rows and refusals, as `ask` has them; statements without a call count each."""
    bits = acts.rows.bits
    return {
        "statements": sum(acts.distinct(STATEMENT)), "writes": acts.distinct(WRITE)[0],
        "rows_changed": int(((bits & CHANGE) != 0).sum()), "refused": int(((bits & REFUSED) != 0).sum()),
    }  # fmt: skip


def spans(rows: Rows) -> tuple[dt.datetime | None, dt.datetime | None]:
    """The first and the last time."""
    known = rows.times[rows.times != NO_TIME]
    return (time_of(int(known.min())), time_of(int(known.max()))) if len(known) else (None, None)


def strongest(coding_: Coding, rows: Rows) -> dict[str, Any]:
    """Who it was by what tells it best, the earliest of these; each member for itself, as `heads.STRENGTH` says."""
    people = coding_.people
    firsts = firsts_of(rows.who, rows.indexes)
    ranked = sorted(firsts, key=lambda who: (-STRENGTHS.get(people[who].attribution or "", 0), firsts[who]))
    named = [people[who] for who in ranked]
    return {
        name: next((value for one in named if (value := getattr(one, name)) is not None), None)
        for name in ("id", "name", "type", "attribution")
    }


def firsts_of(numbers: Numbered, indexes: Numbered) -> dict[int, int]:
    """Each of these numbers with the least index that has it, in the order of these; the indexes ascend."""
    named, first = np.unique(numbers, return_index=True)
    order = np.argsort(first)
    return dict(zip(named[order].tolist(), indexes[first[order]].tolist(), strict=True))


def any_of(values: Iterable[Any]) -> Any:
    """The first that is known."""
    return next((value for value in values if value is not None), None)


def listed(values: Iterable[str | None]) -> list[str] | None:
    """Each once, in order; None where there are none, as DuckDB has it."""
    return sorted({value for value in values if value is not None}) or None


def named(rows: Sequence[Mapping[str, Any]], *names: str) -> list[dict[str, Any]]:
    """In the order of these columns, what is not known last."""
    return sorted((dict(row) for row in rows), key=lambda row: [(row[name] is None, row[name]) for name in names])
