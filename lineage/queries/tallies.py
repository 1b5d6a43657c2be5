"""Counts over records that are told as numbers (`lineage.extracts.coding`): as SQL counts them over rows. Pure."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from lineage.extracts import Indexes, coding
from lineage.extracts.cards import NO_TIME
from lineage.extracts.codified import CALLED, CHANGE, QUERY, REFUSED, STATEMENT, WRITE
from lineage.extracts.coding import Coding, Rows
from lineage.extracts.groups import LATE
from lineage.extracts.looking import Lookup, Unable, Wanted
from lineage.extracts.numbering import dense
from lineage.extracts.postings import Damaged
from lineage.moments import EPOCH, moment
from lineage.queries.heads import STRENGTHS

Numbered = NDArray[Any]
T = TypeVar("T")


def acts_of(look: Lookup, indexes: Indexes) -> int | None:
    """Of how many acts these records tell, as calls say, without their cards; None where only cards can."""
    with contextlib.suppress(Unable, Damaged):
        rows = Coding(look, {}).rows(lambda _: [indexes], Wanted())
        # Of other records no call is told.
        if len(rows.indexes) == len(indexes) and (rows.bits & (QUERY | CHANGE)).all():
            return len(np.unique(coding.acts(rows)))
    return None


class Tally(NamedTuple):
    """Of each group how often something was done (`ask.TIMES`), and when first and last (`NO_TIME` where it is not known)."""

    groups: Numbered
    times: Numbered
    first_at: Numbered
    last_at: Numbered


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
        named, group = dense(groups)
        count = len(named)
        times = self._calls(group, at, count)
        is_without = times == 0
        if is_without.any():
            some = is_without[group]
            times += self._transactions(group[some], at[some], count)
        moments = self.rows.times[at]
        first, last = np.full(count, LATE), np.full(count, NO_TIME)
        known = moments != NO_TIME
        if not known.all():
            group, moments = group[known], moments[known]
        np.minimum.at(first, group, moments)
        np.maximum.at(last, group, moments)
        return Tally(named, times, np.where(first == LATE, NO_TIME, first), last)

    def _calls(self, group: Numbered, at: Numbered, count: int) -> Numbered:
        asked = (self.rows.bits[at] & QUERY) != 0
        shared = asked & self.is_shared[at]
        alone = np.bincount(group[asked & ~shared], minlength=count)
        if not shared.any():
            return alone
        return alone + distinct(group[shared], self.calls[at[shared]], count, len(self.calls))

    def _transactions(self, group: Numbered, at: Numbered, count: int) -> Numbered:
        return distinct(group, self.transactions[at], count, len(self.calls))

    @functools.cached_property
    def transactions(self) -> Numbered:
        return coding.transactions(self.rows)

    def distinct(self, bit: int, groups: Numbered, count: int) -> tuple[Numbered, Numbered]:
        """Of each of so many groups: how many calls its records with this bit are of, and how many such records are of none."""
        asked = (self.rows.bits & bit) != 0
        called = asked & ((self.rows.bits & CALLED) != 0)
        shared = called & self.is_shared
        calls = np.bincount(groups[called & ~shared], minlength=count)
        if shared.any():
            calls = calls + distinct(groups[shared], self.calls[shared], count, len(self.calls))
        return calls, np.bincount(groups[asked & ~called], minlength=count)


def distinct(group: Numbered, number: Numbered, count: int, most: int) -> Numbered:
    """How many different numbers, all smaller than `most`, each group has."""
    return np.bincount(np.unique(group * max(most, 1) + number) // max(most, 1), minlength=count)


def moments_of(times: Numbered) -> list[dt.datetime | None]:
    """As `time_of`, of many."""
    since: list[dt.timedelta | None] = times.astype("m8[us]").tolist()
    return [each if each is None else EPOCH + each for each in since]


def time_of(at: int) -> dt.datetime | None:
    return None if at == NO_TIME else moment(at)


def done(acts: Acts, groups: Numbered, count: int) -> dict[str, list[int]]:
    """Of each of so many groups the counts of statements, writes, changed rows and refusals, as `ask` has them; statements without a
    call count each."""
    bits = acts.rows.bits
    return {
        "statements": np.add(*acts.distinct(STATEMENT, groups, count)).tolist(),
        "writes": acts.distinct(WRITE, groups, count)[0].tolist(),
        **{
            name: np.bincount(groups[(bits & bit) != 0], minlength=count).tolist()
            for name, bit in (("rows_changed", CHANGE), ("refused", REFUSED))
        },
    }


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
    named, again = dense(numbers)
    first = np.empty(len(named), np.int64)
    # Of several the last one written stays, which is the first of them.
    first[again[::-1]] = np.arange(len(numbers))[::-1]
    order = np.argsort(first)
    return dict(zip(named[order].tolist(), indexes[first[order]].tolist(), strict=True))


def told_of(numbers: Numbered, of: Callable[[int], T]) -> tuple[list[T], Numbered]:
    """What these numbers stand for, each once, and which of these each is."""
    named, again = dense(numbers)
    return [of(number) for number in named.tolist()], again


def member_of(values: Sequence[Any], name: str) -> Callable[[int], Any]:
    """What gives this member of a value by its number."""
    return lambda number: getattr(values[number], name)


def starts_of(ordered: Numbered) -> Numbered:
    """Where each number begins among those that are in order."""
    return np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 1))


def firsts_in(starts: Numbered, numbers: Numbered, of: Callable[[int], Any]) -> list[Any]:
    """Of each group (`starts`: where it begins, of all one behind the other) the first that is known of what numbers stand for."""
    told, again = told_of(numbers, of)
    known = np.flatnonzero(np.array([one is not None for one in told], bool)[again])
    places = np.append(known, len(numbers))[np.searchsorted(known, starts)]
    is_there = places < np.append(starts[1:], len(numbers))
    firsts = again[np.where(is_there, places, 0)].tolist() if len(starts) else []
    return [told[first] if there else None for first, there in zip(firsts, is_there.tolist(), strict=True)]


def keep_first(least: Numbered, beside: Numbered, numbers: Numbered, indexes: Numbered, told: Numbered) -> None:
    """Puts into `least` the least index of each number, where it is less than what stands there, and what its record told beside it."""
    before = least.copy()
    np.minimum.at(least, numbers, indexes)
    is_first = (indexes == least[numbers]) & (indexes < before[numbers])
    beside[numbers[is_first]] = told[is_first]


def any_of(values: Iterable[Any]) -> Any:
    """The first that is known."""
    return next((value for value in values if value is not None), None)


def listed(values: Iterable[str | None]) -> list[str] | None:
    """Each once, in order; None where there are none, as DuckDB has it."""
    return sorted({value for value in values if value is not None}) or None
