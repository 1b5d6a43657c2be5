"""The newest records of some terms over several layers, however few are looked at at a time."""

from __future__ import annotations

import random
from typing import Any, cast

import numpy as np
import pytest

from lineage.extracts import layers
from lineage.extracts.beginnings import BY_INDEX
from lineage.extracts.cards import Directory
from lineage.extracts.layers import Layer, Term

BY_TIME = "by time"
COUNT = 60


class Posted:
    """Postings of one kind: of each term the records in their order."""

    def __init__(self, lists: dict[int, list[int]]) -> None:
        self.ends, self.records = {}, np.array([one for some in lists.values() for one in some], np.int64)
        at = 0
        for term, some in lists.items():
            self.ends[term], at = (at, at + len(some)), at + len(some)

    def spans(self, terms: Any) -> list[tuple[int, int, int]]:
        return [(number, *self.ends[term]) for number, term in enumerate(terms.tolist()) if term in self.ends]

    def at(self, begin: int, end: int) -> Any:
        return self.records[begin:end]


class Some:
    """A layer with these records, of which the hidden ones count elsewhere."""

    def __init__(self, times: dict[int, int], terms: dict[int, set[int]], hidden: list[int]) -> None:
        self.hidden, self.times_of = np.array(sorted(hidden), np.int64), times
        by_time = {term: sorted(some, key=lambda one: (times[one], one)) for term, some in terms.items()}
        self.postings = {
            BY_TIME: Posted(by_time),
            BY_INDEX: Posted({term: sorted(some) for term, some in terms.items()}),
        }

    def directory(self, indexes: Any) -> Directory:
        times = np.array([self.times_of[one] for one in indexes.tolist()], np.int64)
        return Directory(indexes, times, np.zeros(len(indexes), np.int64), indexes % 4)


def drawn(seed: int) -> tuple[list[Some], dict[int, int], dict[int, set[int]], list[int]]:
    """Three layers, the times of all records, the records of each term, and those that are asked for."""
    chance = random.Random(seed)
    times = {index: chance.randrange(12) for index in range(COUNT)}
    of_layer = {index: chance.randrange(3) for index in times}
    terms = {
        term: {one for one in times if chance.random() < share} for term, share in enumerate((0.9, 0.4, 0.05, 0.02))
    }
    found = []
    for number in range(3):
        # A record that counts in another layer may lie here too.
        here = {one for one in times if of_layer[one] == number or chance.random() < 0.2}
        held = {term: some & here for term, some in terms.items() if some & here}
        found.append(Some(times, held, [one for one in here if of_layer[one] != number]))
    return found, times, terms, [one for one in times if one % 4 != 1]


@pytest.mark.parametrize("kind", [BY_INDEX, BY_TIME])
@pytest.mark.parametrize("chunk", [1, 2, 5, 100])
def test_the_newest_records_of_terms_are_the_same_however_few_are_read_at_a_time(
    kind: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "CHUNK", chunk)
    monkeypatch.setattr(layers, "CHUNK_MOST", chunk)
    for seed in range(30):
        some, times, terms, wanted = drawn(seed)
        for asked in ([0], [2, 3], [0, 2, 3], [1, 3, 7]):
            held = {one for term in asked for one in terms.get(term, ())} & set(wanted)
            ordered = sorted((times[one] if kind == BY_TIME else 0, one) for one in held)[::-1]
            for most in (1, 7, COUNT):
                found = layers.newest(
                    cast(list[Layer], some),
                    [Term(kind, term) for term in asked],
                    lambda _: lambda there: there.marks != 1,
                    most,
                )
                assert found.tolist() == [one for _, one in ordered[:most]], (seed, asked, most)
