"""Draws the sample of a test that nobody picks: from the engagement, the test, the population and, if given, a nonce of the auditor.

The population is the items tested, in order of time (and of name within an instant). It is cut into as many equal runs as
items are wanted, and each run gives the item whose SHA-256 with the seed is smallest. See docs/sampling.md.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from lineage import engine, errors
from reports.items import Item, Items

ORDERED = "select item from answer where tested order by occurred_at nulls last, item"
"""The population of a test, asked of its answer."""
SIZE_MOST = 1_000
ENGAGEMENT_CHARACTERS, NONCE_CHARACTERS = 100, 200
DEFAULT = "by-population"
PRESETS: Mapping[str, str] = {
    "by-population": "all up to 10 items, 8 of 11 to 50, 15 of 51 to 250, 25 of more",
    "attest": "19 of up to 25 items, 20 of 26 to 40, 25 of 41 to 65, 29 of more",
    "annual": "1, of a control that works once a year",
    "quarterly": "2, of a control that works each quarter",
    "monthly": "2, of a control that works each month",
    "weekly": "5, of a control that works each week",
    "daily": "25, of a control that works each day",
    "many-a-day": "40, of a control that works many times a day",
}
_FIXED = {"annual": 1, "quarterly": 2, "monthly": 2, "weekly": 5, "daily": 25, "many-a-day": 40}
_BANDS = {"by-population": ((10, 10), (50, 8), (250, 15)), "attest": ((25, 19), (40, 20), (65, 25))}
_ABOVE = {"by-population": 25, "attest": 29}


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a sample shall be drawn. `size`: the name of a preset or a number; empty is `by-population`."""

    engagement: str = ""
    nonce: str = ""
    size: str = ""


@dataclasses.dataclass(frozen=True)
class Pick:
    """One item drawn: `run` is which run it stands for, `first` to `last` the places of that run in the population, from 1."""

    run: int
    first: int
    last: int
    item: str


@dataclasses.dataclass(frozen=True)
class Sample:
    """What was drawn for one test, with everything that it takes to draw it again."""

    engagement: str
    nonce: str
    test: str
    preset: str
    size: int
    population: int
    population_sha256: str
    seed: str
    picks: tuple[Pick, ...]

    @property
    def items(self) -> list[str]:
        return [pick.item for pick in self.picks]

    def told(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)


def checked(plan: Plan) -> Plan:
    """The plan without blanks around it. Raises SampleInvalid for what cannot be used."""
    plan = Plan(plan.engagement.strip(), plan.nonce.strip(), plan.size.strip() or DEFAULT)
    for name, text, most in (
        ("engagement", plan.engagement, ENGAGEMENT_CHARACTERS),
        ("nonce", plan.nonce, NONCE_CHARACTERS),
    ):
        if len(text) > most or not text.isprintable():
            raise errors.SampleInvalid(f"Write the {name} in up to {most} printable characters.", **{name: "length"})
    if plan.size not in PRESETS and not _is_number(plan.size):
        raise errors.SampleInvalid(
            f"The sample is a number from 1 to {SIZE_MOST:,}, or one of {', '.join(PRESETS)}.", sample=plan.size[:40]
        )
    return plan


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= len(str(SIZE_MOST)) and 1 <= int(text) <= SIZE_MOST


def size_of(size: str, population: int) -> int:
    """How many items a preset or number draws from so many; never more than there are."""
    wanted = _FIXED[size] if size in _FIXED else _banded(size, population) if size in _BANDS else int(size)
    return min(wanted, population)


def _banded(preset: str, population: int) -> int:
    return next((wanted for most, wanted in _BANDS[preset] if population <= most), _ABOVE[preset])


@dataclasses.dataclass(frozen=True)
class Ordered:
    """The tested items of a test's answer in order of time, asked anew each time that they are gone through."""

    answer: pa.Table | Path

    def __iter__(self) -> Iterator[str]:
        for part in engine.batches_over({"answer": self.answer}, ORDERED):
            yield from part.column("item").to_pylist()


def drawn(test: str, answer: pa.Table | Path, plan: Plan) -> Sample:
    """The sample of a test's answer: of its tested items, in order of time. Few of them are held at a time."""
    return draw(test, Ordered(answer), plan)


def draw(test: str, items: Iterable[str], plan: Plan) -> Sample:
    """The sample of these items, which are in order of time; they are gone through twice."""
    size = plan.size or DEFAULT
    population, number = _population(items)
    seed = _sha256("\n".join((plan.engagement, test, population, plan.nonce)))
    runs = size_of(size, number)
    picks, coming = [], iter(items) if runs else iter(())
    for run in range(runs):
        first, end = run * number // runs, (run + 1) * number // runs
        pick = min(islice(coming, end - first), key=lambda item: _sha256(f"{seed}\n{item}"))
        picks.append(Pick(run + 1, first + 1, end, pick))
    return Sample(plan.engagement, plan.nonce, test, size, runs, number, population, seed, tuple(picks))


def _population(items: Iterable[str]) -> tuple[str, int]:
    """SHA-256 of the items' names, and how many they are.

    It is that of the hexadecimal SHA-256 of each, one after the other, so that no name can pass for two.
    """
    whole, number = hashlib.sha256(), 0
    for item in items:
        whole.update(_sha256(item).encode())
        number += 1
    return whole.hexdigest(), number


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def rows(answer: Items, sample: Sample) -> list[Item]:
    """The items drawn, as rows of the test's answer, in the order of the picks."""
    by_item = {row["item"]: row for row in reversed(answer.named(sample.items))}
    return [by_item[item] for item in sample.items]
