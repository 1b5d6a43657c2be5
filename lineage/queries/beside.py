"""The values beside a list out of codes: as `counts.search_counts` asks them in SQL over the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts import Indexes
from lineage.extracts.coding import Coding
from lineage.extracts.filed import Filed
from lineage.extracts.grouping import Some
from lineage.extracts.looking import Lookup, Seen, Wanted
from lineage.extracts.postings import among
from lineage.extracts.terms import LISTED
from lineage.queries import alike, candidates, walking
from lineage.queries.ask import Window

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
    asked, wanted = alike.read(q, by_table=True), candidates.wanted(viewer, window, LISTED)
    if asked is None or wanted is None:
        return None
    ranges = walking.ranges(question, viewer, window)

    def tell(look: Lookup) -> Counts | None:
        return _Values(question, look, asked, wanted, by_touch).newest(ranges, most) if look.layers else None

    return candidates.told(question, tell)


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


class _Values:
    def __init__(self, question: Question, look: Lookup, asked: alike.Asked, wanted: Wanted, by_touch: bool) -> None:
        self.asked, self.by_touch = asked, by_touch
        self.only = alike.OfTables(look, asked.relations, by_touch) if asked.relations else None
        self.grouping = alike.grouping(question, look, asked, wanted, self.only)
        self.coding = self.grouping.coding
        self.counts: Counts = {field: Counter() for field in (*OF, "relation", "ticket")}

    def newest(self, ranges: Sequence[walking.Range], most: int) -> Counts:
        parts = alike.first(self.grouping, self.asked, ranges, most, self._times if self.by_touch else None)
        names = {field: name(self.coding) for field, (_, name) in OF.items()}
        for some, told in zip(parts, self._cut(parts, most), strict=True):
            self._count(some, told, names)
        return self.counts

    def _times(self, some: Some) -> int:
        return int(touches(some, self.coding, self.only).times.sum())

    def _cut(self, parts: Sequence[Some], most: int) -> list[Touches]:
        """What counts of each part, together no more than so many: of records each once, by touch each with its tables."""
        every = (
            [touches(some, self.coding, self.only) for some in parts]
            if self.by_touch
            else [_once(some) for some in parts]
        )
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
