"""Searches for a row, by its table and key: its records are found by terms, and counted without a card but for the few that touched its
table more than once. A key of several columns, or one that is escaped, is asked of records.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts import Indexes, persons, tables
from lineage.extracts.beginnings import BY_INDEX
from lineage.extracts.blocks import KEY, RELATION
from lineage.extracts.coding import Coding
from lineage.extracts.grouping import Grouping, Some
from lineage.extracts.looking import Lookup, Seen, Unable, Wanted
from lineage.extracts.meanings import OTHERWISE
from lineage.extracts.postings import NOTHING, among, hash_of
from lineage.extracts.terms import ACT, APART, BY_TIME, REAL
from lineage.queries import candidates, paging, sought
from lineage.queries.ask import Window
from lineage.queries.matches import Matches, Touches
from lineage.queries.walking import Range

SPECIAL = frozenset({"", "?"})
KEYS_MOST = 1_000
"""A record that touched more tables than so many may not tell all its keys."""
Table = tuple[str, str]


class Asked(sought.Sought, frozen=True):
    """The same with the key of a row."""

    key: str


def read(q: str) -> Asked | None:
    """None where it asks for something else too."""
    told = sought.named(q, "key")
    if told is None or len(told[0]["relation"]) != 1 or len(told[1]) != 1:
        return None
    (term,) = told[1]
    is_plain = term.value not in SPECIAL and not term.prefix and not {",", "\\"} & set(term.value)
    return Asked(**told[0], key=term.value) if is_plain else None


class _Met(NamedTuple):
    """Which records of a layer, ascending, touched the row in a table (its number), and how often."""

    indexes: Indexes
    tables: NDArray[np.int64]
    times: NDArray[np.int64]


class OfRow:
    """Records that touched the row; by event those that name the table and touched a row of this key in any. Raises Unable."""

    def __init__(self, look: Lookup, wanted: Wanted, asked: Asked, by_touch: bool) -> None:
        self.look, self.wanted, self.asked, self.by_touch = look, wanted, asked, by_touch
        self.met: dict[int, _Met] = {}
        self.known = np.zeros(0, bool)

    def found(self, layer: Seen) -> Indexes:
        parts = [(name, *self._of(layer, place, name)) for place, name in sorted(self._tables(layer))]
        numbers = self.look.meanings.tables.of.of
        indexes = np.concatenate([NOTHING, *(some for _, some, _ in parts)])
        times = np.concatenate([NOTHING, *(each for _, _, each in parts)])
        of_table = np.concatenate([NOTHING, *(np.full(len(some), numbers.get(name, 0)) for name, some, _ in parts)])
        order = np.argsort(indexes, kind="stable")
        self.met[id(layer)] = _Met(indexes[order], of_table[order], times[order])
        return np.unique(indexes)

    def shapes(self) -> NDArray[np.bool_]:
        held = self.look.meanings.relations.held
        if self.by_touch:
            return np.ones(len(held.ends) - 1, bool)
        if len(self.known) < len(held.ends) - 1:
            is_meant = np.array([name is not None and self.asked.names([name]) for name in held.values], bool)
            self.known = held.having(is_meant)
        return self.known

    def _tables(self, layer: Seen) -> set[Table]:
        """Those in which such records touched a row of this key, as far as they are here."""
        if self.by_touch:
            names = {one.relation for one in self.asked.tables(layer.of.tables)}
        else:
            held = self.look.meanings.tables.held
            at = np.flatnonzero(self.shapes())
            if len(at) and np.diff(held.ends)[at].max() > KEYS_MOST:
                raise Unable
            names = {name for name in held.named(at) if name is not None}
        every = {one for name in names for one in layer.of.tables.of(persons.folded(name)) if one.relation in names}
        here = {one[:2] for one in every if one.how != tables.NAMED and self._is_wanted(one.datasource)}
        if any(place is None for place, _ in here):
            # What has no database has no terms.
            raise Unable
        return {(place, name) for place, name in here if place is not None}

    def _is_wanted(self, datasource: str | None) -> bool:
        return self.wanted.datasources is None or datasource in self.wanted.datasources

    def _of(self, layer: Seen, place: str, name: str) -> tuple[Indexes, NDArray[np.int64]]:
        """Which records touched this row of one table, ascending, and how often."""
        postings, key = layer.postings[BY_TIME], self.asked.key
        sure = [postings.find(hash_of("row", place, name, access, key)) for access in ("changed", "read")]
        shapes = {tuple(shape.split(APART)) for shape in layer.of.shapes.get((place, name), ()) if shape}
        doubtful = list[Indexes]()
        for column in sorted(set(itertools.chain.from_iterable(shapes))):
            some = postings.find(hash_of("pair", place, name, "wrote", f"{column}={key}"))
            # With another column it is part of another key.
            is_sure = len(some) == 0 or not any(column in shape and len(shape) > 1 for shape in shapes)
            (sure if is_sure else doubtful).append(some)
        repeats = layer.of.repeats
        if name in repeats.names:
            doubtful.append(repeats.indexes[repeats.tables == repeats.names.index(name)])
        doubtful.append(self._otherwise(layer, place, name))
        asked = np.unique(np.concatenate(doubtful))
        found = np.unique(np.concatenate(sure))
        found = found[~among(found, asked)]
        read, counts = self._read(layer, name, asked)
        indexes = np.concatenate([found, read])
        order = np.argsort(indexes)
        return indexes[order], np.concatenate([np.ones(len(found), np.int64), counts])[order]

    def _otherwise(self, layer: Seen, place: str, name: str) -> Indexes:
        """The records that touched the table in a way of which no term tells its key."""
        meanings = self.look.meanings
        held = meanings.ways.held
        is_such = held.having(np.array([told == name and way & OTHERWISE != 0 for told, way in held.values], bool))
        if not is_such.any():
            return NOTHING
        terms = [
            term for one in layer.of.tables.of(persons.folded(name)) if one[:2] == (place, name) for term, _ in one.terms(tables.NAMED)
        ]  # fmt: skip
        every = layer.directory(layer.postings[BY_INDEX].find_all(np.array(terms, np.uint64))).indexes
        return every[is_such[layer.numbers(every, meanings)[2]]] if len(every) else NOTHING

    def _read(self, layer: Seen, name: str, asked: Indexes) -> tuple[Indexes, NDArray[np.int64]]:
        """Those of these that their cards say touched the row, and how often; by event a row of this key."""
        if len(asked) > sought.CARDS_MOST:
            raise Unable
        told, keys = layer.contents(asked) if len(asked) else {}, layer.of.columns.index("keys")
        counts = {
            index: sum(touch[RELATION] == name and touch[KEY] == self.asked.key for touch in touches)
            if self.by_touch
            else int(self.asked.key in (row[keys] or ()))
            for index, (row, touches) in told.items()
        }
        met = sorted(index for index, count in counts.items() if count)
        return np.array(met, np.int64), np.array([counts[index] for index in met], np.int64)

    def touches(self, some: Some) -> Touches:
        """Of these records those with the row."""
        met = self.met[id(some.layer)]
        here = among(met.indexes, some.indexes)
        return Touches(np.searchsorted(some.indexes, met.indexes[here]), met.tables[here], met.times[here])


def matches(question: Question, look: Lookup, viewer: Viewer, q: str, window: Window, by_touch: bool) -> Matches | None:
    """None where it is no search for a row."""
    asked, scope = read(q), candidates.wanted(viewer, window)
    if asked is None or scope is None or not look.layers:
        return None
    wanted = asked.wanted(look, scope)
    only = OfRow(look, wanted, asked, by_touch)
    coding = Coding(look, question.snapshot.logins)
    grouping = Grouping(look, coding, question.snapshot.identities, wanted, only)
    return Matches(grouping, lambda alike: np.ones(len(alike.who), bool), only.touches)


def kinds(question: Question, viewer: Viewer, q: str, window: Window) -> dict[str, int] | None:
    """How many records, sessions, identities, accesses and tables there are; None: ask in SQL."""

    def tell(look: Lookup) -> dict[str, int] | None:
        by_event, by_touch = (matches(question, look, viewer, q, window, by) for by in (False, True))
        return None if by_event is None or by_touch is None else _events(by_event) | _touched(by_touch, look.size)

    return candidates.told(question, tell)


def _events(found: Matches) -> dict[str, int]:
    coding, grouping = found.grouping.coding, found.grouping
    parts = list(grouping.between(0, grouping.look.size))
    is_deed = np.array([one.kind != "decision" for one in coding.manners], bool)
    who = {number for some in parts for number in some.alike.who[is_deed[some.alike.manners]].tolist()}
    sessions = {session for _, some in grouping.newest(ACT) for session in some.tolist()} - {0}
    return {
        "event": sum(len(some.indexes) for some in parts), "session": len(sessions),
        "identity": len({coding.people[number].id for number in who} - {None}),
    }  # fmt: skip


def _touched(found: Matches, size: int) -> dict[str, int]:
    places, count, met = found.grouping.coding.places, 0, set[tuple[str | None, int]]()
    for some in found.grouping.between(0, size):
        told = found.touches(some)
        count += int(told.times.sum())
        real = (some.alike.marks[told.at] & REAL) != 0
        pairs = zip(some.alike.places[told.at[real]].tolist(), told.tables[real].tolist(), strict=True)
        met |= {(places[place][1], table) for place, table in set(pairs)}
    return {"touch": count, "relation": len(met)}


class Listed(sought.Listed):
    """The list of such a search."""

    def __init__(self, of: paging.Listed, look: Lookup, asked: Asked, found: Matches) -> None:
        super().__init__(of, look, asked, found.grouping.wanted)
        self.asked, self.found = asked, found

    def _walk(self, ranges: Sequence[Range], most: int, is_up: bool = False) -> list[int]:
        if is_up:
            raise Unable
        parts = [NOTHING, *self._indexes(ranges)]
        found: list[int] = np.sort(np.concatenate(parts))[::-1][:most].tolist()
        return found

    def _indexes(self, ranges: Sequence[Range]) -> Iterator[Indexes]:
        for start, end in ranges:
            for some in self.found.grouping.between(start, end):
                told = self.found.touches(some)
                yield np.repeat(some.indexes[told.at], told.times) if self.relation == "touches" else some.indexes

    def is_meant(self, datasource: str | None, touch: Sequence[Any]) -> bool:
        return touch[KEY] == self.asked.key and super().is_meant(datasource, touch)

    def holds(self, rows: Iterable[Any]) -> bool:
        """Each was found by all that is asked."""
        return True


def listed(of: paging.Listed, look: Lookup, viewer: Viewer, q: str, window: Window) -> Listed | None:
    """The same list by look-ups; None where the search asks for something else."""
    asked, found = read(q), matches(of.question, look, viewer, q, window, of.relation == "touches")
    return Listed(of, look, asked, found) if asked is not None and found is not None else None
