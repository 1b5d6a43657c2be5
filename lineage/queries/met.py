"""The list of tables out of groups: as `places.relations` asks it in SQL over the log."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts import coding
from lineage.extracts.blocks import TOUCHED
from lineage.extracts.cards import NO_TIME
from lineage.extracts.coding import Coding, Rows
from lineage.extracts.grouping import Grouping, Part
from lineage.extracts.groups import LATE, Alike
from lineage.extracts.looking import Lookup, Unable, Wanted
from lineage.extracts.meanings import CHANGED, MET, READ, WROTE
from lineage.extracts.numbering import Numbers
from lineage.extracts.terms import LISTED, REAL
from lineage.queries import alike, candidates, paging, tallies
from lineage.queries.ask import COUNT_MOST, Total, Window

Column = NDArray[Any]
NAMES = ("datasource", "relation")
TABLES_MOST = 1 << 24
RELATION, ACCESS, KEY_COLUMNS = (TOUCHED.index(name) for name in ("relation", "access", "key_columns"))


def page(
    question: Question, viewer: Viewer, q: str, window: Window, place: Any, is_back: bool, count: int
) -> paging.Page | None:
    """One page as `paging.keyset` gives it, with all columns; None where only records can tell."""
    asked, wanted = alike.read(q, by_table=True), candidates.wanted(viewer, window, REAL | LISTED)
    if asked is None or wanted is None:
        return None
    return candidates.told(question, lambda look: _Tables(question, look, asked, wanted).page(place, is_back, count))


class _Here(NamedTuple):
    """Of one part what touches some table: which of `Groups.ways`, below which group, and which table."""

    part: Part
    at: Column
    of: Column
    tables: Column


class _Tables:
    def __init__(self, question: Question, look: Lookup, asked: alike.Asked, wanted: Wanted) -> None:
        self.question, self.look, self.asked = question, look, asked
        self.coding = Coding(look, question.snapshot.logins)
        self.grouping = Grouping(look, self.coding, question.snapshot.identities, asked.wanted(wanted))
        # What numbers stand for is known from here on.
        self.parts = self.grouping.parts
        names, databases = Numbers(), Numbers()
        every = self.coding.meanings.ways.held.values
        self.of_ways = np.array([names(relation) for relation, _ in every], np.int64)
        self.how = np.array([way for _, way in every], np.int64)
        self.is_meant = np.array([way & MET != 0 and asked.names(relation) for relation, way in every], bool)
        self.of_places = np.array([databases(place[1]) for place in self.coding.places], np.int64)
        self.names, self.databases = list(names.of), list(databases.of)
        if len(self.names) * len(self.databases) > TABLES_MOST:
            raise Unable
        self.found = [self._here(part) for part in self.parts]
        self.lasts = np.full(len(self.names) * len(self.databases), -1)
        for part, at, _, tables in self.found:
            np.maximum.at(self.lasts, tables, _long(part.groups.met.lasts[at]))

    def _here(self, part: Part) -> _Here:
        some = part.groups
        kept = part.kept & self.asked.of(self.coding, part.alike)
        at = np.flatnonzero(kept[some.of] & self.is_meant[some.ways])
        of = some.of[at]
        tables = self.of_places[part.alike.places[of]] * len(self.names) + self.of_ways[some.ways[at]]
        return _Here(part, at, of, tables)

    def page(self, place: Any, is_back: bool, count: int) -> paging.Page:
        met = np.flatnonzero(self.lasts >= 0).tolist()
        keys = [(-int(self.lasts[one]), *self._named(one), one) for one in met]
        if any(key[1] is None for key in keys):
            raise Unable
        beyond = [key for key in keys if not place or (key[:3] < tuple(place) if is_back else key[:3] > tuple(place))]
        ordered = sorted(beyond, reverse=is_back)[: count + 1]
        rows = [{"datasource": name, "relation": table, "last_index": -last} for last, name, table, _ in ordered]
        shown, following, previous = paging.cut(self.question, rows, NAMES, place, is_back, count)
        numbers = {key[1:3]: key[3] for key in ordered}
        told = _Rows(self, np.array([numbers[row["datasource"], row["relation"]] for row in shown], np.int64)).rows()
        whole = Total(min(len(met), COUNT_MOST), len(met) <= COUNT_MOST)
        return [row | more for row, more in zip(shown, told, strict=True)], following, previous, whole

    def _named(self, table: int) -> tuple[str | None, str]:
        return self.databases[table // len(self.names)], self.names[table % len(self.names)]


class _Rows:
    """What was done to these tables."""

    def __init__(self, of: _Tables, chosen: Column) -> None:
        self.of, self.chosen, self.count = of, chosen, len(chosen)
        self.slots = np.full(len(of.lasts), -1)
        self.slots[chosen] = np.arange(self.count)
        ids = Numbers()
        self.of_who = np.array([ids(one.id) for one in of.coding.people], np.int64)
        self.nobody = ids(None)
        self.people = {way: np.zeros((self.count, len(ids.of)), bool) for way in (READ, WROTE)}
        self.times = {way: np.zeros(self.count, np.int64) for way in (READ, WROTE)}
        self.changed, self.changed_last = np.zeros(self.count, np.int64), np.full(self.count, -1)
        self.first, self.place = np.full(self.count, LATE), np.zeros(self.count, np.int64)
        self.since, self.until = np.full(self.count, LATE), np.full(self.count, NO_TIME)
        for here in of.found:
            self._add(here)
        self._once(of.grouping.shared)

    def _add(self, here: _Here) -> None:
        slots = self.slots[here.tables]
        kept = slots >= 0
        slots, at, of = slots[kept], here.at[kept], here.of[kept]
        met, how, counts = (
            here.part.groups.met,
            self.of.how[here.part.groups.ways[at]],
            _long(here.part.groups.met.counts[at]),
        )
        who = self.of_who[here.part.alike.who[of]]
        for way, times in self.times.items():
            done = (how & way) != 0
            np.add.at(times, slots[done], counts[done])
            self.people[way][slots[done], who[done]] = True
        changed = (how >> CHANGED) > 0
        np.add.at(self.changed, slots[changed], counts[changed] * (how[changed] >> CHANGED))
        np.maximum.at(self.changed_last, slots[changed], _long(met.lasts[at[changed]]))
        np.minimum.at(self.since, slots, met.since[at])
        np.maximum.at(self.until, slots, met.until[at])
        tallies.keep_first(self.first, self.place, slots, _long(met.firsts[at]), here.part.alike.places[of])

    def _once(self, shared: Rows) -> None:
        """Each call is counted once, however many records tell of it."""
        of = self.of
        alike = Alike(shared.who, shared.actors, shared.places, shared.manners, shared.marks)
        rows = shared.chosen(of.asked.of(of.coding, alike))
        ways, at = of.coding.meanings.ways.held.spread(rows.shapes)
        slots = self.slots[of.of_places[rows.places[at]] * len(of.names) + of.of_ways[ways]]
        calls = coding.acts(rows)
        for way, times in self.times.items():
            done = (slots >= 0) & ((of.how[ways] & way) != 0)
            np.subtract.at(times, slots[done], 1)
            each = np.unique(slots[done] * max(len(calls), 1) + calls[at[done]])
            np.add.at(times, each // max(len(calls), 1), 1)

    def rows(self) -> list[dict[str, Any]]:
        readers, writers = (np.delete(self.people[way], self.nobody, axis=1).sum(axis=1) for way in (READ, WROTE))
        places, keys = self.of.coding.places, self._keys()
        return [
            {
                "environment": places[self.place[slot]][0], "first_at": _at(int(self.since[slot]), LATE),
                "last_at": _at(int(self.until[slot]), NO_TIME), "reads": int(self.times[READ][slot]),
                "writes": int(self.times[WROTE][slot]), "rows_changed": int(self.changed[slot]),
                "readers": int(readers[slot]), "writers": int(writers[slot]), "keys": keys[slot],
            }
            for slot in range(self.count)
        ]  # fmt: skip

    def _keys(self) -> list[list[str] | None]:
        """The columns of each table's key as its newest change has them. Raises Unable where that says none."""
        look, indexes = self.of.look, np.unique(self.changed_last[self.changed_last >= 0])
        told = dict(zip(indexes.tolist(), look.contents(indexes), strict=True))
        found: list[list[str] | None] = []
        for table, last in zip(self.chosen.tolist(), self.changed_last.tolist(), strict=True):
            _, relation = self.of._named(table)
            touches = told[last][1] if last >= 0 else ()
            named = [
                touch[KEY_COLUMNS] for touch in touches if touch[RELATION] == relation and touch[ACCESS] == "changed"
            ]
            if last >= 0 and (not named or named[0] is None):
                raise Unable
            found.append(named[0] if named else None)
        return found


def _at(time: int, none: int) -> Any:
    return None if time == none else tallies.time_of(time)


def _long(column: Column) -> Column:
    """Of the type of what it is added to: numpy does others one by one."""
    return column.astype(np.int64)
