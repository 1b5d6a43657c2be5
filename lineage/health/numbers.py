"""Sequence numbers of a feed: which did not arrive, which came late, and whether the numbering began anew. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable

import msgspec

Run = tuple[int, int]
"""Consecutive numbers, first and last, as they came."""


class Missing(msgspec.Struct):
    """Numbers that did not arrive. Pieces of one gap share its bounds."""

    first: int
    last: int
    gap_first: int
    gap_last: int
    noticed_at: dt.datetime
    reported: bool = False


class Numbers(msgspec.Struct):
    """What is known of one source's numbers: the highest, and those below it that are missing."""

    high: int | None = None
    missing: list[Missing] = []

    def take(self, runs: Iterable[Run], now: dt.datetime) -> list[tuple[int, int]]:
        """Accounts for numbers in the order in which they came; (highest before, first after) of each new beginning."""
        begun = []
        for first, last in sorted(runs) if self.high is None else runs:
            if self.high is None or first == self.high + 1:
                self.high = last
            elif first > self.high:
                self.missing.append(Missing(self.high + 1, first - 1, self.high + 1, first - 1, now))
                self.high = last
            elif any(gap.first <= first <= gap.last for gap in self.missing):
                self._fill(first, last)
                self.high = max(self.high, last)
            else:
                begun.append((self.high, first))
                self.high = last
        return begun

    def forgive(self, numbers: Collection[int]) -> None:
        """Takes numbers out that need not arrive: they were quarantined, or skipped as no access."""
        for number in sorted(numbers):
            self._fill(number, number)

    def _fill(self, first: int, last: int) -> None:
        kept = []
        for gap in self.missing:
            if last < gap.first or first > gap.last:
                kept.append(gap)
                continue
            if gap.first < first:
                kept.append(msgspec.structs.replace(gap, last=first - 1))
            if gap.last > last:
                kept.append(msgspec.structs.replace(gap, first=last + 1))
        self.missing = kept

    def gaps(self) -> set[tuple[int, int]]:
        """The bounds of the gaps that are reported and not closed."""
        return {(gap.gap_first, gap.gap_last) for gap in self.missing if gap.reported}
