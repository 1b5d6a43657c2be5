"""Records that some term finds, over all extracts and what is newer, as numbers that mean the same for all of them.

Of a record only what `codes` says is read, and what the directory says of many. No DuckDB but for what is newer.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lineage.extracts import Indexes
from lineage.extracts.blocks import Place
from lineage.extracts.cards import Directory
from lineage.extracts.codes import NO_HASHES, Coded
from lineage.extracts.codified import CALLED, CHANGE, QUERY
from lineage.extracts.layers import Layer
from lineage.extracts.looking import Lookup, Unable, Wanted
from lineage.extracts.meanings import Actor, Manner, Who, named
from lineage.extracts.numbering import Numbers
from lineage.extracts.picks import Picks
from lineage.extracts.postings import Hashes, among
from lineage.moments import microseconds

ROWS_MOST = 1 << 21
"""Of more records than so many the log is asked, whose memory is bounded."""
Numbered = NDArray[Any]
Logins = Mapping[Any, Sequence[Mapping[str, Any]]]
"""Rows of `Snapshot.identities` by login."""


class Rows(NamedTuple):
    """Records by index. Numbers are of the lists of the `Coding` that gave them; of acts equal numbers are of one call."""

    indexes: Indexes
    times: Indexes
    places: Numbered
    marks: Numbered
    actors: Numbered
    manners: Numbered
    bits: Numbered
    shapes: Numbered
    sessions: Hashes
    transactions: Hashes
    details: Hashes
    calls: Hashes
    who: Numbered
    ways: Numbered
    """How each met the column that is asked for (`picks`)."""

    def chosen(self, kept: Any) -> Rows:
        return Rows(*(column[kept] for column in self))


HASHED = ("sessions", "transactions", "details", "calls")


class Coding:
    """Of one question: what numbers stand for. `column` is one of these tables that is asked for."""

    def __init__(self, look: Lookup, logins: Logins, column: tuple[Sequence[str], str] | None = None) -> None:
        self.look, self.logins, self.column = look, logins, column
        self.crossing = np.unique(np.concatenate([NO_HASHES, *(layer.crossing for layer in look.layers)]))
        self.of_places = Numbers()
        self.meanings = look.meanings
        self.ways: dict[Picks, Numbered] = {}
        self.asked: dict[object, NDArray[np.bool_]] = {}
        """What was found by `told`."""

    @property
    def places(self) -> list[Place]:
        return list(self.of_places.of)

    @property
    def actors(self) -> list[Actor]:
        return self.meanings.actors

    @property
    def manners(self) -> list[Manner]:
        return self.meanings.manners

    @property
    def people(self) -> list[Who]:
        return self.meanings.people

    def told(self, asked: object, numbers: Numbered, tell: Callable[[], Iterable[bool]]) -> NDArray[np.bool_]:
        """For each of these numbers what is told of it; `tell` does so of all that there are, once for what is `asked`."""
        if not len(numbers):
            return np.zeros(0, bool)
        known = self.asked.get(asked)
        if known is None or len(known) <= int(numbers.max()):
            known = self.asked[asked] = np.fromiter(tell(), bool)
        return known[numbers]

    def rows(self, find: Callable[[Layer], Sequence[Indexes]], wanted: Wanted) -> Rows:
        """Those that are found in some layer, count there and are wanted. Raises Unable and Damaged."""
        parts: list[tuple[Layer, Directory, Coded]] = []
        for layer in self.look.layers:
            there = self._there(layer, find(layer), wanted)
            if there is not None and len(there.indexes):
                parts.append((layer, there, layer.coded(there.indexes, self.meanings)))
        if not parts:
            return _nothing()
        if sum(len(there.indexes) for _, there, _ in parts) > ROWS_MOST:
            raise Unable
        crossing = self.met([each.calls for _, _, each in parts])
        rows = [self._numbered(layer, there, each, crossing) for layer, there, each in parts]
        together = Rows(*(np.concatenate(column) for column in zip(*rows, strict=True)))
        if (np.diff(together.indexes) < 0).any():
            together = together.chosen(np.argsort(together.indexes))
        return self._named(together)

    def _there(self, layer: Layer, some: Sequence[Indexes], wanted: Wanted) -> Directory | None:
        """What counts and is wanted of these, by index; nothing where there are none."""
        some = [each for each in some if len(each)]
        if sum(map(len, some)) > ROWS_MOST:
            raise Unable
        if not some:
            return None
        found = some[0] if len(some) == 1 else np.concatenate(some)
        if self.column is not None:
            # Few of them, as a rule.
            found = layer.meeting(found, self._ways)
        found = np.sort(found) if len(some) == 1 else np.unique(found)
        there = layer.directory(found[~among(found, layer.hidden)] if len(layer.hidden) else found)
        kept = wanted.mask(layer, self.look.size)(there)
        return there if kept.all() else there.chosen(kept)

    def met(self, newer: Sequence[Hashes]) -> Hashes:
        """The calls that several files tell of, or one and what is newer."""
        found = np.unique(np.concatenate([NO_HASHES, *newer]))
        return np.union1d(found[found != 0], self.crossing)

    def _numbered(self, layer: Layer, there: Directory, each: Coded, crossing: Hashes) -> Rows:
        place = np.array([self.of_places(one) for one in layer.places], np.int64)
        actors, manners, shapes = each.numbers
        bits = self.meanings.bits[manners]
        calls = each.calls | _calls(layer, there.indexes, crossing)
        calls[((bits & CALLED) == 0) | ((bits & (QUERY | CHANGE)) == 0)] = 0
        ways = self._ways(each.of_picks)[each.picks] if self.column is not None else np.zeros(len(bits), np.uint8)
        return Rows(
            there.indexes, there.times, place[there.places], there.marks, actors, manners, bits, shapes, each.sessions,
            each.transactions, each.details, calls, self.meanings.who[actors], ways,
        )  # fmt: skip

    def _ways(self, some: Picks) -> Numbered:
        """How each of these met the column; found once."""
        if some not in self.ways and self.column is not None:
            self.ways[some] = some.ways(*self.column)
        return self.ways[some]

    def _named(self, rows: Rows) -> Rows:
        """With those whom imported logins make of actors."""
        who, _ = self.whose(rows.actors, rows.places, self.places, rows.times, rows.times)
        return rows._replace(who=who)

    def whose(
        self, actors: Numbered, places: Numbered, of_places: Sequence[Place], since: Indexes, until: Indexes
    ) -> tuple[Numbered, NDArray[np.bool_]]:
        """Who the actors were between these times there, and for which of them a login changed hands in between."""
        who, is_torn = self.meanings.who[actors], np.zeros(len(actors), bool)
        if not self.logins or not len(actors):
            return who, is_torn
        order = np.argsort(actors, kind="stable")
        ends = np.flatnonzero(np.diff(actors[order], append=-1)) + 1
        for start, end in itertools.pairwise([0, *ends.tolist()]):
            actor = self.actors[actors[order[start]]]
            for login in self.logins.get(actor.db_user or "", ()):
                here = [number for number, place in enumerate(of_places) if place[1] == login["datasource"]]
                some = order[start:end][np.isin(places[order[start:end]], here)]
                first, following = microseconds(login["from_at"]), microseconds(login["to_at"])
                is_in = (since[some] >= first) & (until[some] < following)
                is_torn[some] |= ~is_in & (until[some] >= first) & (since[some] < following)
                if is_in.any():
                    who[some[is_in]] = self.meanings.person(named(actor, login))
        return who, is_torn


def _nothing() -> Rows:
    empty: list[NDArray[Any]] = [NO_HASHES if name in HASHED else np.empty(0, np.int64) for name in Rows._fields]
    return Rows(*empty)


def _calls(layer: Layer, indexes: Indexes, crossing: Hashes) -> Hashes:
    """The calls of those records of which another record tells too, as far as files say it."""
    found = np.zeros(len(indexes), np.uint64)
    for hashes, records in layer.several(crossing):
        # They are few among those that a large question finds.
        places = np.minimum(np.searchsorted(indexes, records), max(len(indexes) - 1, 0))
        is_there = indexes[places] == records if len(indexes) else np.zeros(len(records), bool)
        found[places[is_there]] = hashes[is_there]
    return found


def acts(rows: Rows) -> Numbered:
    """A number for each record: the same for those of one call."""
    return _first_rows(rows.calls)


def transactions(rows: Rows) -> Numbered:
    """A number for each record: the same for those of one transaction."""
    return _first_rows(rows.transactions)


def _first_rows(hashes: Hashes) -> Numbered:
    numbers = np.arange(len(hashes))
    told = np.flatnonzero(hashes)
    _, first, again = np.unique(hashes[told], return_index=True, return_inverse=True)
    numbers[told] = told[first][again]
    return numbers
