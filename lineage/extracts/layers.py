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

from lineage.extracts import Indexes
from lineage.extracts.beginnings import BY_INDEX
from lineage.extracts.blocks import Content, Place
from lineage.extracts.cards import Directory
from lineage.extracts.postings import NOTHING, Postings, among

CHUNK, CHUNK_MOST = 64, 1 << 20
Mask = Callable[[Directory], NDArray[np.bool_]]


class Layer(Protocol):
    """One extract, or what is newer than all: each record of the log counts in one layer alone."""

    @property
    def places(self) -> list[Place]: ...
    @property
    def postings(self) -> Mapping[str, Postings]: ...
    @property
    def hidden(self) -> Indexes:
        """Records, ascending, that another layer has."""

    def directory(self, indexes: Indexes) -> Directory: ...
    def contents(self, indexes: Indexes) -> dict[int, Content]: ...


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


def newest(
    layers: Sequence[Layer], terms: Sequence[Term], masks: Callable[[Layer], Mask], most: int, upto: int | None = None
) -> Indexes:
    """At most so many records with one of the terms, all of one kind, of which the layer's mask holds, the newest first.

    In order by index or by time and index, as the kind has it. `upto`: only with an index, or time, that is not greater.
    """
    runs = []
    for layer in layers:
        mask = masks(layer)
        for term in terms:
            postings = layer.postings[term.kind]
            begin, end = postings.span(term.hash)
            if begin < end:
                runs.append(_Run(layer, term, postings, begin, end, mask))
    # A few more than are wanted: some have not what is asked for.
    chosen, count, chunk = list[Indexes](), 0, min(most + most // 4 + CHUNK, CHUNK_MOST)
    while runs and count < most:
        some = _next(runs, chunk, upto)
        chosen.append(some)
        count += len(some)
        chunk = min(2 * chunk, CHUNK_MOST)
        runs = [run for run in runs if run.begin < run.end]
    return np.concatenate([NOTHING, *chosen])[:most]


def _next(runs: Sequence[_Run], chunk: int, upto: int | None) -> Indexes:
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


def one_each(layers: Sequence[Layer], terms: Sequence[Term], masks: Callable[[Layer], Mask]) -> dict[int, int]:
    """For each of these hashes (of one kind, at any time) that some record has, of which the mask holds, one such record."""
    found: dict[int, int] = {}
    wanted = np.unique(np.array([term.hash for term in terms], np.uint64))
    for layer in layers if len(wanted) else ():
        mask, postings = masks(layer), layer.postings[terms[0].kind]
        for hashed in postings.among(wanted).tolist():
            run = _Run(layer, dataclasses.replace(terms[0], hash=hashed), postings, *postings.span(hashed), mask)
            kept = run.found(postings.find(hashed)) if hashed not in found else NOTHING
            if len(kept):
                found[hashed] = int(kept[-1])
    return found
