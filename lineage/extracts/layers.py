"""Walks through what has some term, newest first, over all extracts and what is newer than they are. Pure.

Of many records only the columns of the directory are looked at, of few the cards: so a list's first page costs the same
however much has the term.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lineage.extracts import Indexes, writings
from lineage.extracts.beginnings import BY_INDEX
from lineage.extracts.blocks import Content, Place
from lineage.extracts.cards import NO_TIME, Directory
from lineage.extracts.codes import Coded
from lineage.extracts.meanings import Meanings
from lineage.extracts.picks import Ways
from lineage.extracts.postings import NOTHING, Damaged, Hashes, Postings, among
from lineage.extracts.writings import Writings

CHUNK, CHUNK_MOST = 64, 1 << 20
Mask = Callable[[Directory], NDArray[np.bool_]]


class Layer(Protocol):
    """One extract, or what is newer than all: each record of the log counts in one layer alone."""

    @property
    def places(self) -> list[Place]: ...
    @property
    def postings(self) -> Mapping[str, Postings]: ...
    @property
    def writings(self) -> Writings: ...
    @property
    def hidden(self) -> Indexes:
        """Records, ascending, that another layer has."""

    def directory(self, indexes: Indexes) -> Directory: ...
    def between(self, start: int, end: int) -> Directory: ...
    def contents(self, indexes: Indexes) -> dict[int, Content]: ...
    def coded(self, indexes: Indexes, meanings: Meanings) -> Coded: ...
    def meeting(self, indexes: Indexes, ways: Ways) -> Indexes: ...
    @property
    def crossing(self) -> Hashes:
        """Calls of which an earlier extract tells too."""

    def several(self, crossing: Hashes) -> Sequence[tuple[Hashes, Indexes]]: ...
    def lasts(self, sessions: Hashes) -> Indexes: ...


@dataclasses.dataclass(frozen=True)
class Term:
    """A term by its hash, in this kind of postings; with `spans` only at these times (from, to; microseconds)."""

    kind: str
    hash: int
    spans: tuple[tuple[int, int], ...] | None = None

    def holds(self, times: Indexes) -> NDArray[np.bool_]:
        if self.spans is None:
            return np.ones(len(times), bool)
        found = np.zeros(len(times), bool)
        for start, end in self.spans:
            found |= (times >= start) & (times < end)
        return found


@dataclasses.dataclass
class _Run:
    """What one layer has of one term, as far as it is still to be walked."""

    layer: Layer
    term: Term
    postings: Postings
    begin: int
    end: int
    mask: Mask

    def piece(self, chunk: int) -> tuple[Indexes, Indexes]:
        """The last of them, with what they are in order by."""
        indexes = self.postings.at(max(self.begin, self.end - chunk), self.end)
        return indexes, indexes if self.term.kind == BY_INDEX else self.layer.directory(indexes).times

    def found(self, indexes: Indexes) -> Indexes:
        """Those that count in this layer and are asked for."""
        there = self.layer.directory(indexes[~among(indexes, self.layer.hidden)])
        return there.indexes[self.term.holds(there.times) & self.mask(there)]


@dataclasses.dataclass
class _Few:
    """What one layer has of several terms that few records have: those that count and are asked for, at once."""

    indexes: Indexes
    by: Indexes
    begin: int
    end: int

    def piece(self, chunk: int) -> tuple[Indexes, Indexes]:
        part = slice(max(self.begin, self.end - chunk), self.end)
        return self.indexes[part], self.by[part]

    def found(self, indexes: Indexes) -> Indexes:
        return indexes


def newest(
    layers: Sequence[Layer], terms: Sequence[Term], masks: Callable[[Layer], Mask], most: int, upto: int | None = None
) -> Indexes:
    """At most so many records with one of the terms, all of one kind, of which the layer's mask holds, the newest first.

    In order by index or by time and index, as the kind has it. `upto`: only with an index, or time, that is not greater.
    """
    # A few more than are wanted: some have not what is asked for.
    chosen, count, chunk = list[Indexes](), 0, min(most + most // 4 + CHUNK, CHUNK_MOST)
    hashes = np.array([term.hash for term in terms], np.uint64)
    runs = [run for layer in layers for run in _runs(layer, terms, hashes, masks, chunk)] if terms else []
    while runs and count < most:
        some = _next(runs, chunk, upto)
        chosen.append(some)
        count += len(some)
        chunk = min(2 * chunk, CHUNK_MOST)
        runs = [run for run in runs if run.begin < run.end]
    return np.concatenate([NOTHING, *chosen])[:most]


def _runs(
    layer: Layer, terms: Sequence[Term], hashes: Hashes, masks: Callable[[Layer], Mask], chunk: int
) -> list[_Run | _Few]:
    """What there is of these terms in a layer; of those that fit into one piece together."""
    postings = layer.postings[terms[0].kind]
    found = postings.spans(hashes)
    if not found:
        # Mostly a layer has none.
        return []
    mask = masks(layer)
    is_few = [end - begin <= chunk and terms[number].spans is None for number, begin, end in found]
    few = [postings.at(begin, end) for (_, begin, end), is_so in zip(found, is_few, strict=True) if is_so]
    runs: list[_Run | _Few] = [
        _Run(layer, terms[number], postings, begin, end, mask)
        for (number, begin, end), is_so in zip(found, is_few, strict=True) if not is_so
    ]  # fmt: skip
    together = [_few(layer, few, mask, terms[0].kind == BY_INDEX)] if few else []
    return [*runs, *(one for one in together if one.end)]


def _few(layer: Layer, some: Sequence[Indexes], mask: Mask, by_index: bool) -> _Few:
    together = some[0] if len(some) == 1 else np.unique(np.concatenate(some))
    there = layer.directory(together[~among(together, layer.hidden)] if len(layer.hidden) else together)
    there = there.chosen(mask(there))
    if len(some) > 1 and not by_index:
        # Those of one term are in order.
        there = there.chosen(np.lexsort((there.indexes, there.times)))
    return _Few(there.indexes, there.indexes if by_index else there.times, 0, len(there.indexes))


def _next(runs: Sequence[_Run | _Few], chunk: int, upto: int | None) -> Indexes:
    """The next records, the newest first; the runs are shortened by what was looked at."""
    while True:
        pieces = [run.piece(chunk) for run in runs]
        open_ends = [by[0] for run, (_, by) in zip(runs, pieces, strict=True) if run.end - run.begin > chunk]
        bound = max(open_ends, default=None)
        if bound is None or any(by[-1] > bound for _, by in pieces):
            break
        # All of a piece are of one moment: what else is of it lies further back.
        chunk *= 2
    found, orders = [NOTHING], [NOTHING]
    for run, (indexes, by) in zip(runs, pieces, strict=True):
        # What equals the bound may go on in a piece that is not read yet.
        start = 0 if bound is None else int(np.searchsorted(by, bound, side="right"))
        taken, order = indexes[start:], by[start:]
        run.end -= len(taken)
        if upto is not None:
            taken, order = taken[order <= upto], order[order <= upto]
        kept = run.found(taken)
        found.append(kept)
        orders.append(order[among(taken, np.sort(kept))])
    return _ordered(np.concatenate(found), np.concatenate(orders))


def _ordered(indexes: Indexes, by: Indexes) -> Indexes:
    """Each once, the newest first."""
    indexes, places = np.unique(indexes, return_index=True)
    return np.asarray(indexes[np.lexsort((indexes, by[places]))][::-1])


def last_of_each(layers: Sequence[Layer], terms: Sequence[Term], masks: Callable[[Layer], Mask]) -> Indexes:
    """For each of these terms, all by time and at any, the newest record of which the layer's mask holds; -1 where there is none."""
    hashes = np.array([term.hash for term in terms], np.uint64)
    found, times, is_open = (np.full(len(terms), -1), np.full(len(terms), NO_TIME), np.zeros(len(terms), bool))
    for layer in layers if len(terms) else ():
        numbers, indexes = layer.postings[terms[0].kind].lasts(hashes)
        if not len(numbers):
            continue
        there = layer.directory(indexes)
        if len(there.indexes) != len(indexes):
            raise Damaged("Postings tell of records that have no card.")
        holds = masks(layer)(there) & ~among(indexes, layer.hidden)
        is_open[numbers[~holds]] = True
        numbers, indexes, at = numbers[holds], indexes[holds], there.times[holds]
        is_newer = (at > times[numbers]) | ((at == times[numbers]) & (indexes > found[numbers]))
        found[numbers[is_newer]], times[numbers[is_newer]] = indexes[is_newer], at[is_newer]
    for number in np.flatnonzero(is_open).tolist():
        # The last one counts elsewhere, or is not meant: one before it may be.
        found[number] = next(iter(newest(layers, [terms[number]], masks, 1).tolist()), -1)
    return found


def some(layers: Sequence[Layer], kind: str, hashes: Hashes, masks: Callable[[Layer], Mask]) -> Hashes:
    """Those of these hashes, ascending, that some record has of which the layer's mask holds."""
    found, wanted = [np.empty(0, np.uint64)], np.unique(hashes)
    for layer in layers if len(wanted) else ():
        own, indexes = layer.postings[kind].pairs(wanted)
        if not len(own):
            continue
        counting = ~among(indexes, layer.hidden)
        own, there = own[counting], layer.directory(indexes[counting])
        if len(there.indexes) != len(own):
            raise Damaged("Postings tell of records that have no card.")
        found.append(own[masks(layer)(there)])
    return np.unique(np.concatenate(found))


def ran(layers: Sequence[Layer], indexes: Indexes) -> Hashes:
    """The transactions of these records, as `writings` has them."""
    found = np.full(len(indexes), writings.ALONE, np.uint64)
    for layer in layers:
        own = layer.writings.of(indexes)
        counting = (own != writings.ALONE) & ~among(indexes, layer.hidden)
        found[counting] = own[counting]
    return found
