"""What is counted over records as arrays, beside the same in plain Python."""

from __future__ import annotations

import itertools
import random

import numpy as np

from lineage.queries import tallies


def test_of_each_group_the_first_that_is_known_is_told_as_one_by_one() -> None:
    drawn = random.Random(3)
    names = ["a", None, "b", None, "c"]
    for count in (0, 1, 7, 200):
        groups = sorted(drawn.choices(range(-2, 30, 3), k=count))
        numbers = drawn.choices(range(len(names)), k=count)
        starts = tallies.starts_of(np.array(groups, np.int64))
        found = tallies.firsts_in(starts, np.array(numbers, np.int64), names.__getitem__)
        parts = itertools.groupby(zip(groups, numbers, strict=True), lambda pair: pair[0])
        assert found == [tallies.any_of(names[number] for _, number in some) for _, some in parts]
        assert starts.tolist() == [groups.index(group) for group in dict.fromkeys(groups)]
