"""All wanted records of a question in groups, over all extracts and what is newer. No DuckDB but for what is newer.

Of an extract that lies wholly in the window they were made before, once; of one that the window cuts, and of what is newer,
they are made of records, in parts. Records that count elsewhere are taken out with all others of their actors, whose groups
are made of records again; so are those of logins that change hands meanwhile.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from lineage.extracts import Indexes, groups
from lineage.extracts.cards import NO_TIME, Directory
from lineage.extracts.codes import NO_HASHES
from lineage.extracts.coding import Coding, Rows
from lineage.extracts.filed import CHUNK, Filed
from lineage.extracts.groups import Alike, Groups
from lineage.extracts.layers import Layer
from lineage.extracts.looking import Lookup, Seen, Unable, Wanted
from lineage.extracts.postings import NOTHING, Hashes, among

SPAN = 1 << 16
"""So many of the newest are looked at at a time."""
NEWER_MOST = 20_000
"""Of more records that are in no extract the log is asked."""


class Part(NamedTuple):
    """Groups of one layer. `kept`: which of them are wanted; their places are numbers of the `Coding`."""

    groups: Groups
    alike: Alike
    kept: NDArray[np.bool_]


class Some(NamedTuple):
    """Records of one layer, ascending; their places are numbers of the `Coding`."""

    layer: Seen
    indexes: Indexes
    alike: Alike
    shapes: NDArray[np.int64]

    def chosen(self, kept: NDArray[np.bool_]) -> Some:
        return Some(self.layer, self.indexes[kept], Alike(*(column[kept] for column in self.alike)), self.shapes[kept])


class Only(Protocol):
    """Which records are meant, of those that some terms find."""

    def found(self, layer: Seen) -> Indexes:
        """By terms, ascending, beside others."""

    def shapes(self) -> NDArray[np.bool_] | None:
        """For each of `meanings` whether records of that shape are; None where they do not tell."""


class Grouping:
    """`identities` are the rows that `coding.logins` were made of. Raises Unable and Damaged, as all it does.

    With `only` of these records alone, one by one.
    """

    def __init__(
        self, look: Lookup, coding: Coding, identities: object, wanted: Wanted, only: Only | None = None
    ) -> None:
        self.look, self.coding, self.identities, self.wanted, self.only = look, coding, identities, wanted, only
        self.own: dict[int, Indexes] = {}
        self.anytime = msgspec.structs.replace(wanted, since=None, until=None)
        newer = [(layer, layer.between(0, look.size)) for layer in look.layers if not isinstance(layer.of, Filed)]
        if sum(len(there.indexes) for _, there in newer) > NEWER_MOST:
            raise Unable
        self.newer = {id(layer): (there.indexes, layer.coded(there.indexes, coding.meanings)) for layer, there in newer}
        """What lies in no extract, by layer."""
        for layer in look.layers:
            for place in layer.places:
                coding.of_places(place)

    @functools.cached_property
    def parts(self) -> list[Part]:
        """All groups. Raises Unable also where the records of shared calls are too many."""
        found = [self._part(layer, some) for layer in self.look.layers for some in self._of(layer)]
        _ = self.shared
        return found

    def _part(self, layer: Seen, some: Groups) -> Part:
        alike, extent = some.alike, some.extent
        kept = self.anytime.mask(layer, self.look.size)(
            Directory(extent.firsts, extent.since, alike.places, alike.marks)
        )
        places = np.array([self.coding.of_places(place) for place in layer.places], np.int64)
        return Part(some, alike._replace(places=places[alike.places]), kept)

    def _of(self, layer: Seen) -> list[Groups]:
        """None where nothing lies in the window."""
        file, since, until = layer.of, self.wanted.since, self.wanted.until
        if isinstance(file, Filed) and file.cards.count and self.only is None:
            first, last = file.reach
            if (since is not None and last < since) or (until is not None and first >= until):
                return []
            is_whole = file.cards.last < self.look.size and (since is None or first >= since)
            if is_whole and (until is None or (last < until and first != NO_TIME)):
                return [self._whole(layer, file)]
        made = [self._made(layer, there) for there in self._records(layer, self.wanted)]
        return [groups.together(made)] if made else []

    def _records(self, layer: Seen, wanted: Wanted, is_back: bool = False) -> Iterator[Directory]:
        """Those that count in this layer and are wanted, in parts; of these the last first."""
        spans = (
            list(layer.of.spans_by(SPAN if is_back else CHUNK))
            if isinstance(layer.of, Filed) and self.only is None
            else [(0, self.look.size)]
        )
        for span in reversed(spans) if is_back else spans:
            there = self._wanted(layer, wanted, *span)
            if len(there.indexes):
                yield there

    def _wanted(self, layer: Seen, wanted: Wanted, start: int, end: int) -> Directory:
        if self.only is None:
            there = layer.between(start, end)
        else:
            own = self._own(layer, self.only)
            there = layer.directory(own[slice(*np.searchsorted(own, (start, end)))])
        there = there.chosen(wanted.mask(layer, self.look.size)(there))
        return there.chosen(~among(there.indexes, layer.hidden)) if len(layer.hidden) else there

    def _own(self, layer: Seen, only: Only) -> Indexes:
        """Those of a layer that are meant."""
        if id(layer) not in self.own:
            # What numbers of this layer stand for is known from here on.
            self._numbers(layer, NOTHING)
            found = only.found(layer)
            if id(layer) in self.newer:
                found = found[among(found, self.newer[id(layer)][0])]
            if len(found) and (meant := only.shapes()) is not None:
                found = found[meant[self._numbers(layer, found)[2]]]
            self.own[id(layer)] = found
        return self.own[id(layer)]

    def _made(self, layer: Seen, there: Directory) -> Groups:
        actors, manners, shapes = self._numbers(layer, there.indexes)
        who, _ = self.coding.whose(actors, there.places, layer.places, there.times, there.times)
        alike = Alike(who, actors, there.places, manners, there.marks)
        return groups.of_records(alike, there.indexes, there.times, shapes, self.coding.meanings.ways.held)

    def _numbers(self, layer: Seen, indexes: Indexes) -> Sequence[NDArray[np.int64]]:
        """Actors, manners and shapes."""
        if isinstance(layer.of, Filed):
            return layer.of.numbers(indexes, self.coding.meanings)
        every, coded = self.newer[id(layer)]
        places = np.searchsorted(every, indexes)
        return [column[places] for column in coded.numbers]

    def _whole(self, layer: Seen, file: Filed) -> Groups:
        """All that counts in this file; kept until it is other records or logins."""
        every = file.groups(self.coding.meanings)
        if not len(layer.hidden) and not self.coding.logins:
            return every
        known = file.regrouped
        if (
            known is None
            or known[0] is not every
            or known[1] is not self.identities
            or not np.array_equal(known[2], layer.hidden)
        ):
            known = file.regrouped = every, self.identities, layer.hidden, self._regrouped(layer, file, every)
        found: Groups = known[3]
        return found

    def _regrouped(self, layer: Seen, file: Filed, every: Groups) -> Groups:
        alike, extent = every.alike, every.extent
        since = np.where(extent.until == NO_TIME, NO_TIME, extent.since)
        who, is_torn = self.coding.whose(alike.actors, alike.places, layer.places, since, extent.until)
        gone = layer.directory(layer.hidden).indexes
        anew = np.union1d(alike.actors[is_torn], file.numbers(gone, self.coding.meanings)[0])
        every = every._replace(alike=alike._replace(who=who))
        if not len(anew):
            return every
        is_anew = np.zeros(len(self.coding.actors), bool)
        is_anew[anew] = True
        parts = [every.chosen(~is_anew[alike.actors])]
        for there in self._records(layer, Wanted()):
            here = is_anew[file.numbers(there.indexes, self.coding.meanings)[0]]
            if here.any():
                parts.append(self._made(layer, there.chosen(here)))
        return groups.together(parts).narrow()

    def newest(self, marked: int) -> Iterator[tuple[Alike, Hashes]]:
        """The wanted records with these marks, the newest parts first, and of which session each is (0: of none)."""
        wanted = msgspec.structs.replace(self.wanted, marked=self.wanted.marked | marked)
        for layer in reversed(self.look.layers):
            places = np.array([self.coding.of_places(place) for place in layer.places], np.int64)
            for there in self._records(layer, wanted, is_back=True):
                actors, manners, _ = self._numbers(layer, there.indexes)
                who, _ = self.coding.whose(actors, there.places, layer.places, there.times, there.times)
                yield (
                    Alike(who, actors, places[there.places], manners, there.marks),
                    self._sessions(layer, there.indexes),
                )

    def sessions_between(self, wanted: Wanted, start: int, end: int, most: int) -> Hashes:
        """The sessions of the records from one index to before another that are wanted so. Raises Unable of more than so many."""
        found, count = [NO_HASHES], 0
        for layer, first in itertools.product(self.look.layers, range(start, end, CHUNK)):
            there = self._wanted(layer, wanted, first, min(first + CHUNK, end))
            count += len(there.indexes)
            if count > most:
                raise Unable
            found += [self._sessions(layer, there.indexes)] if len(there.indexes) else []
        some = np.concatenate(found)
        each: Hashes = np.unique(some[some != 0])
        return each

    def between(self, start: int, end: int) -> Iterator[Some]:
        """The wanted records from one index to before another."""
        for layer in self.look.layers:
            there = self._wanted(layer, self.wanted, start, min(end, self.look.size))
            if len(there.indexes):
                actors, manners, shapes = self._numbers(layer, there.indexes)
                yield Some(layer, there.indexes, self._alike(layer, there, actors, manners), shapes)

    def _alike(self, layer: Seen, there: Directory, actors: NDArray[np.int64], manners: NDArray[np.int64]) -> Alike:
        places = np.array([self.coding.of_places(place) for place in layer.places], np.int64)
        who, _ = self.coding.whose(actors, there.places, layer.places, there.times, there.times)
        return Alike(who, actors, places[there.places], manners, there.marks)

    def _sessions(self, layer: Seen, indexes: Indexes) -> Hashes:
        if isinstance(layer.of, Filed):
            return layer.of.sessions(indexes)
        every, coded = self.newer[id(layer)]
        return coded.sessions[np.searchsorted(every, indexes)]

    @functools.cached_property
    def shared(self) -> Rows:
        """The wanted records of calls that other records tell of too, one by one."""
        crossing = self.coding.met([coded.calls for _, coded in self.newer.values()])

        own = {id(layer): self._own(layer, self.only) for layer in self.look.layers} if self.only is not None else {}

        def find(layer: Layer) -> list[Indexes]:
            if id(layer) in self.newer:
                indexes, coded = self.newer[id(layer)]
                found = [indexes[coded.calls != 0]]
            else:
                found = [some for _, some in layer.several(crossing)]
            return [some[among(some, own[id(layer)])] for some in found] if own else found

        return self.coding.rows(find, self.wanted)
