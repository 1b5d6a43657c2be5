"""The records of a list by index, newest first, each as often as it counts: what has one of some terms, in ranges of the log. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lineage.extracts import Indexes
from lineage.extracts.beginnings import BY_INDEX
from lineage.extracts.layers import CHUNK, CHUNK_MOST, Layer, Mask
from lineage.extracts.postings import NOTHING, Postings, among

Range = tuple[int, int]
Weighed = tuple[int, int]
"""The hash of a term by index, and how often a record that has it counts for that."""
Asked = tuple[Layer, Mask, Sequence[Weighed]]
"""What is asked of one layer."""
READ = 4_096


@dataclasses.dataclass
class _Run:
    """What one layer has of one term in a range of the log, as far as it is still to be walked."""

    layer: Layer
    mask: Mask
    postings: Postings
    weight: int
    first: int
    last: int
    begin: int = 0
    end: int = 0

    def enter(self, some: Range) -> None:
        self.begin, self.end = (self._place(index) for index in some)

    def _place(self, index: int) -> int:
        """Of the first record that is not below this index."""
        low, high = self.first, self.last
        while high - low > READ:
            middle = (low + high) // 2
            low, high = (middle, high) if self.postings.at(middle, middle + 1)[0] < index else (low, middle)
        return low + int(np.searchsorted(self.postings.at(low, high), index))

    def found(self, indexes: Indexes) -> Indexes:
        """Those that count in this layer and are asked for."""
        there = self.layer.directory(indexes[~among(indexes, self.layer.hidden)])
        return there.indexes[self.mask(there)]


def newest(asked: Sequence[Asked], some: Sequence[Range], most: int, is_once: bool) -> Indexes:
    """At least the newest `most`, where there are so many: each index once, or as often as its terms together weigh."""
    runs = []
    for layer, mask, terms in asked:
        postings = layer.postings[BY_INDEX]
        for term, weight in terms:
            first, last = postings.span(term)
            if first < last:
                runs.append(_Run(layer, mask, postings, weight, first, last))
    chosen, count, chunk = [NOTHING], 0, min(most + most // 4 + CHUNK, CHUNK_MOST)
    for one in reversed(some):
        for run in runs:
            run.enter(one)
        while count < most and any(run.begin < run.end for run in runs):
            indexes, weights = _next(runs, chunk)
            part = indexes if is_once else np.repeat(indexes, weights)
            count += len(part)
            chosen.append(part[::-1])
            chunk = min(2 * chunk, CHUNK_MOST)
    return np.concatenate(chosen)


def _next(runs: Sequence[_Run], chunk: int) -> tuple[Indexes, NDArray[np.int64]]:
    """The next records, ascending, and how often each counts; the runs are shortened by what was looked at."""
    pieces = [(run, run.postings.at(max(run.begin, run.end - chunk), run.end)) for run in runs if run.begin < run.end]
    # What lies below it may lie further back in another run too.
    bound = max((int(piece[0]) for run, piece in pieces if run.end - run.begin > chunk), default=-1)
    found, weights = [NOTHING], [NOTHING]
    for run, piece in pieces:
        taken = piece[np.searchsorted(piece, bound) :]
        run.end -= len(taken)
        kept = run.found(taken)
        found.append(kept)
        weights.append(np.full(len(kept), run.weight))
    indexes, places = np.unique(np.concatenate(found), return_inverse=True)
    summed = np.zeros(len(indexes), np.int64)
    np.add.at(summed, places, np.concatenate(weights))
    return indexes, summed
