"""Columns of numbers in files of extracts, in as few bytes as they need and still read at any place. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineage.extracts import Indexes

NO_TIME = -(1 << 63)
NONE = (1 << 48) - 1
"""In the place of a time that is not known."""


def narrow(numbers: NDArray[np.uint32]) -> NDArray[Any]:
    """The same in the narrowest type that holds them all."""
    most = int(numbers.max(initial=0))
    return numbers.astype("<u1" if most < 1 << 8 else "<u2" if most < 1 << 16 else "<u4")


def cut(numbers: NDArray[Any]) -> NDArray[np.uint8]:
    """Numbers below 2^32 in as many bytes as the greatest needs, a line for each."""
    most = int(numbers.max(initial=0))
    width = 1 if most < 1 << 8 else 2 if most < 1 << 16 else 3 if most < 1 << 24 else 4
    return np.ascontiguousarray(numbers.astype("<u4").view("u1").reshape(-1, 4)[:, :width])


def wide(column: NDArray[np.uint8], places: NDArray[Any] | slice) -> NDArray[np.int64]:
    """The numbers at these places of what was `cut`."""
    width = column.shape[1]
    if width != 3:
        return np.asarray(column.view(f"<u{width}").reshape(-1)[places], np.int64)
    written = column[places]
    whole = np.zeros((len(written), 4), np.uint8)
    whole[:, :3] = written
    return whole.view("<u4").ravel().astype(np.int64)


def ascending(indexes: Indexes) -> tuple[int, NDArray[Any]]:
    """The least, and how much greater each is; nothing where each is one more than the one before."""
    if not len(indexes):
        return 0, np.empty(0, "<u4")
    least = int(indexes[0])
    offsets = indexes - least
    if int(offsets[-1]) == len(offsets) - 1:
        return least, np.empty(0, "<u4")
    if int(offsets[-1]) >= 1 << 32:
        raise ValueError("An extract reaches over fewer than 2^32 records.")
    return least, offsets.astype("<u4")


def times(moments: Indexes) -> tuple[int, tuple[NDArray[Any], NDArray[Any]]]:
    """Since when, and the microseconds since then as two columns: their lower 32 bits, and the others."""
    known = moments[moments != NO_TIME]
    since = int(known.min()) if len(known) else 0
    is_long = len(known) > 0 and int(known.max()) - since >= NONE
    since = 0 if is_long else since
    counted = moments if is_long else np.where(moments == NO_TIME, NONE, moments - since)
    high = (counted >> 32).astype("<i4" if is_long else "<u2")
    return since, ((counted & 0xFFFFFFFF).astype("<u4"), high)


def times_of(low: NDArray[Any], high: NDArray[Any], since: int) -> Indexes:
    """The moments that `times` wrote so."""
    counted = (high.astype(np.int64) << 32) | low
    if high.dtype.itemsize == 4:
        return np.asarray(counted, np.int64)
    found: Indexes = np.where(counted == NONE, NO_TIME, counted + since)
    return found


STEP = 32
MANY = 255


class Lengths:
    """How many there are of each of many, and where those of each begin, in little more than a byte for each."""

    def __init__(self, counts: NDArray[Any], steps: NDArray[Any], places: NDArray[Any], lengths: NDArray[Any]) -> None:
        """As `parts` gives them."""
        self.counts, self.steps, self.places, self.lengths = counts, steps, places, lengths

    @staticmethod
    def parts(lengths: Indexes) -> tuple[NDArray[Any], ...]:
        """What is written: each if it is small, where every so manieth begins, and the others, with their places."""
        begins = np.concatenate(([0], np.cumsum(lengths)))
        many = np.flatnonzero(lengths >= MANY)
        counts = np.minimum(lengths, MANY).astype("<u1")
        return counts, begins[::STEP].astype("<u4"), many.astype("<u4"), lengths[many].astype("<u4")

    def of(self, places: Indexes | slice) -> Indexes:
        """How many there are of these."""
        found = self.counts[places].astype(np.int64)
        large = np.flatnonzero(found == MANY)
        if len(large):
            wanted = (np.arange(len(self.counts))[places] if isinstance(places, slice) else places)[large]
            found[large] = self.lengths[np.minimum(np.searchsorted(self.places, wanted), len(self.places) - 1)]
        return found

    def begin(self, place: int) -> int:
        """Where those of this one begin; of the one behind the last, where all end."""
        step = place // STEP
        return int(self.steps[step]) + int(self.of(slice(step * STEP, place)).sum())

    def span(self, place: int) -> tuple[int, int]:
        """Where those of this one begin and end."""
        step = place // STEP
        few = self.counts[step * STEP : place + 1].tolist()
        if MANY in few:
            first = int(self.places.searchsorted(np.uint32(step * STEP)))
            large = iter(self.lengths[first : first + len(few)].tolist())
            few = [next(large, 0) if count == MANY else count for count in few]
        end = int(self.steps[step]) + sum(few)
        return end - few[-1], end

    def begins(self, places: Indexes) -> Indexes:
        """The same of many."""
        first = places // STEP * STEP
        before = first[:, None] + np.arange(STEP)
        counted = self.of(np.minimum(before, len(self.counts) - 1).ravel()).reshape(before.shape)
        found: Indexes = self.steps[places // STEP] + np.where(before < places[:, None], counted, 0).sum(axis=1)
        return found
