"""Draws the sample of a test again, by the words of docs/sampling.md alone. Of a large population few names are held at a time."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from lineage.errors import PackInvalid

ORDERED = "select item from answer where tested order by occurred_at nulls last, item"
"""The population of a test, asked of its answer."""


def differing(told: dict[str, Any], ordered: Callable[[], Iterable[str]]) -> str:
    """What of a sample is not as drawn again from its population: words; empty: nothing. PackInvalid: it is no sample.

    `ordered` gives the items that were tested, in order, each time that it is called.
    """
    population = hashlib.sha256()
    number = 0
    for item in ordered():
        population.update(_sha256(item).encode())
        number += 1
    try:
        size, words = int(told["size"]), [str(told[name]) for name in ("engagement", "test", "nonce")]
        picks = [str(pick["item"]) for pick in told["picks"]]
    except (KeyError, TypeError, ValueError) as error:
        raise PackInvalid("A sample does not follow its form.") from error
    if not 0 <= size <= number or (number and not size):
        return "size"
    seed = _sha256("\n".join((words[0], words[1], population.hexdigest(), words[2])))
    drawn = list(_drawn(ordered(), number, size, seed))
    found = {"population_sha256": population.hexdigest(), "seed": seed, "picks": drawn, "population": number}
    said = {**{name: told.get(name) for name in found}, "picks": picks}
    return ", ".join(name for name, value in found.items() if said[name] != value)


def _drawn(items: Iterable[str], number: int, size: int, seed: str) -> Iterator[str]:
    """Of each of `size` equal runs the item whose hash with the seed is smallest."""
    coming = iter(items)
    cuts = [run * number // size for run in range(size + 1)] if size else []
    for first, end in itertools.pairwise(cuts):
        yield min(itertools.islice(coming, end - first), key=lambda item: _sha256(f"{seed}\n{item}"))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
