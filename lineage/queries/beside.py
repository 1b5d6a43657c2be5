"""The values beside a list out of codes: as `counts.search_counts` asks them in SQL over the log."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts import Indexes
from lineage.extracts.coding import Coding
from lineage.extracts.filed import Filed
from lineage.extracts.grouping import Some
from lineage.extracts.looking import Lookup, Seen
from lineage.extracts.terms import LISTED
from lineage.queries import alike, candidates, keyed, walking
from lineage.queries.ask import Window
from lineage.queries.matches import Matches, Touches, touches

Column = NDArray[Any]
Counts = dict[str, Counter[str | None]]
OF: dict[str, tuple[str, Callable[[Coding], list[str | None]]]] = {
    "environment": ("places", lambda coding: [place[0] for place in coding.places]),
    "datasource": ("places", lambda coding: [place[1] for place in coding.places]),
    "type": ("who", lambda coding: [one.type for one in coding.people]),
    "actor": ("who", lambda coding: [one.name for one in coding.people]),
    "verdict": ("manners", lambda coding: [one.verdict for one in coding.manners]),
    "op": ("manners", lambda coding: [one.op for one in coding.manners]),
    "kind": ("manners", lambda coding: [one.kind for one in coding.manners]),
    "agent": ("actors", lambda coding: [one.agent_name for one in coding.actors]),
}
"""Of which column of `Alike` a field is, and what its numbers stand for."""


def values(question: Question, viewer: Viewer, q: str, window: Window, by_touch: bool, most: int) -> Counts | None:
    """Of each field how often the newest `most` matches, records or by touch accesses, have each value; None where only records tell."""
    ranges = walking.ranges(question, viewer, window)

    def tell(look: Lookup) -> Counts | None:
        found = _matches(question, look, viewer, q, window, by_touch) if look.layers else None
        return _Values(found, by_touch).newest(ranges, most) if found is not None else None

    return candidates.told(question, tell)


def _matches(
    question: Question, look: Lookup, viewer: Viewer, q: str, window: Window, by_touch: bool
) -> Matches | None:
    asked, wanted = alike.read(q, by_table=True), candidates.wanted(viewer, window, LISTED)
    if asked is None or wanted is None:
        return keyed.matches(question, look, viewer, q, window, by_touch)
    only = alike.OfTables(look, asked.relations, by_touch) if asked.relations else None
    grouping = alike.grouping(question, look, asked, wanted, only)
    coding = grouping.coding
    return Matches(grouping, functools.partial(asked.of, coding), lambda some: touches(some, coding, only))


class _Values:
    def __init__(self, found: Matches, by_touch: bool) -> None:
        self.found, self.by_touch = found, by_touch
        self.coding = found.grouping.coding
        self.counts: Counts = {field: Counter() for field in (*OF, "relation", "ticket")}

    def newest(self, ranges: Sequence[walking.Range], most: int) -> Counts:
        parts = alike.first(
            self.found.grouping, self.found.matching, ranges, most, self._times if self.by_touch else None
        )
        names = {field: name(self.coding) for field, (_, name) in OF.items()}
        for some, told in zip(parts, self._cut(parts, most), strict=True):
            self._count(some, told, names)
        return self.counts

    def _times(self, some: Some) -> int:
        return int(self.found.touches(some).times.sum())

    def _cut(self, parts: Sequence[Some], most: int) -> list[Touches]:
        """What counts of each part, together no more than so many: of records each once, by touch each with its tables."""
        every = [self.found.touches(some) if self.by_touch else _once(some) for some in parts]
        if not every:
            return []
        indexes = np.concatenate([some.indexes[one.at] for some, one in zip(parts, every, strict=True)])
        ranks = self.coding.meanings.tables.held.ranks
        named = np.concatenate([ranks[one.tables] if self.by_touch else one.tables for one in every])
        times = np.concatenate([one.times for one in every])
        order = np.lexsort((named, -indexes))
        before = np.cumsum(times[order]) - times[order]
        times[order] = np.clip(most - before, 0, times[order])
        kept = np.split(times, np.cumsum([len(one.at) for one in every])[:-1])
        return [one._replace(times=each) for one, each in zip(every, kept, strict=True)]

    def _count(self, some: Some, told: Touches, names: dict[str, list[str | None]]) -> None:
        meanings = self.coding.meanings
        of_record = np.bincount(told.at, told.times, len(some.indexes)).astype(np.int64)
        if self.by_touch:
            self._add("relation", meanings.tables.held.values, told.tables, told.times)
        else:
            relations, at = meanings.relations.held.spread(some.shapes)
            self._add("relation", meanings.relations.held.values, relations, of_record[at])
        for field, (column, _) in OF.items():
            self._add(field, names[field], getattr(some.alike, column), of_record)
        counted = of_record > 0
        self._tickets(some.layer, some.indexes[counted], of_record[counted])

    def _tickets(self, layer: Seen, indexes: Indexes, times: Column) -> None:
        if isinstance(layer.of, Filed):
            self.counts["ticket"].update(layer.of.tickets.counted(indexes, times))
            return
        told, place = layer.read(indexes), layer.of.columns.index("ticket")
        for index, count in zip(indexes.tolist(), times.tolist(), strict=True):
            name = told[index][0][place]
            if name is not None:
                self.counts["ticket"][name] += count

    def _add(self, field: str, names: Sequence[str | None], numbers: Column, times: Column) -> None:
        counts, known = np.bincount(numbers, times), self.counts[field]
        for number in np.flatnonzero(counts).tolist():
            known[names[number]] += int(counts[number])


def _once(some: Some) -> Touches:
    count = len(some.indexes)
    return Touches(np.arange(count), np.zeros(count, np.int64), np.ones(count, np.int64))
