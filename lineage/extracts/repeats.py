"""Records that touched a table more than once: nearly all touched each of theirs once, so those that did not are told apart. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lineage.extracts import Indexes, tables
from lineage.extracts.postings import NOTHING, Postings
from lineage.extracts.tables import Table, Tables


class Repeats(NamedTuple):
    """Such a record (ascending, once for each such table), the number of the table among `names`, and how many times more than once."""

    indexes: Indexes
    tables: NDArray[np.int64]
    more: NDArray[np.int64]
    names: list[str]


NONE = Repeats(NOTHING, NOTHING, NOTHING, [])


def made(every: Tables, postings: Postings) -> Repeats:
    """By the bits of that number, under which a record stands."""
    several = [one for one in every.all() if one.how != tables.NAMED and one.bits != 1]
    if not several:
        return NONE
    names = sorted({one.relation for one in several})
    numbers = {name: number for number, name in enumerate(names)}
    parts = [(some, numbers[one.relation], weight) for one in several for some, weight in _weighed(one, postings)]
    indexes = np.concatenate([NOTHING, *(some for some, _, _ in parts)])
    of_table = np.concatenate([NOTHING, *(np.full(len(some), number) for some, number, _ in parts)])
    weights = np.concatenate([NOTHING, *(np.full(len(some), weight) for some, _, weight in parts)])
    pairs, again = np.unique(indexes * len(names) + of_table, return_inverse=True)
    times = np.zeros(len(pairs), np.int64)
    np.add.at(times, again, weights)
    pairs, times = pairs[times > 1], times[times > 1]
    return Repeats(pairs // len(names), pairs % len(names), times - 1, names)


def _weighed(one: Table, postings: Postings) -> Iterator[tuple[Indexes, int]]:
    """The records under each bit, and for how many times it stands."""
    for term, weight in one.terms(tables.NAMED):
        yield postings.find(term), weight
