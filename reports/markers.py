"""Markers of a deviation that is systematic rather than isolated, computed of each test over all its items.

They propose; a named person concludes (`reports/exceptions.py`). The thresholds are those of docs/sampling.md.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reports.printed import counted

FEW = 10
LARGE = 250
RATE_PERCENT = 5
RECURS_FROM = 3
PARTS, PARTS_PERSISTING = 4, 3
SHARE_PERCENT = 80
GROUPS = (("who_id", "who_name", "person"), ("subject", "subject", "subject"), ("datasource", "datasource", "database"))
"""Column, column with its name, and the word for it, by which deviations may be concentrated."""
COLUMNS = ("tested", "deviations", "occurred_at", *dict.fromkeys(name for group in GROUPS for name in group[:2]))
"""What it takes of a test's answer to find them."""


@dataclasses.dataclass(frozen=True)
class Marker:
    """`id`: few, recurs, rate, persists or concentrated; `words`: the sentence with its numbers."""

    id: str
    words: str


def found(parts: Iterable[pa.Table], since: dt.datetime, until: dt.datetime) -> list[Marker]:
    """The markers of a test's answer, given in parts, for its period; none where nothing deviates."""
    seen = _Seen()
    for part in parts:
        _look(seen, part, since, until)
    if not seen.deviating:
        return []
    return [
        *_few(seen.tested),
        *_recurring(seen),
        *_rate(seen.tested, seen.deviating),
        *_persisting(seen),
        *_concentrated(seen),
    ]


@dataclasses.dataclass
class _Seen:
    """What is counted of the items that were tested. `of_tested`, `of_deviating`, `names`: by column of `GROUPS`, of each group."""

    tested: int = 0
    deviating: int = 0
    words: Counter[str] = dataclasses.field(default_factory=Counter)
    quarters: set[int] = dataclasses.field(default_factory=set)
    of_tested: dict[str, Counter[Any]] = dataclasses.field(default_factory=dict)
    of_deviating: dict[str, Counter[Any]] = dataclasses.field(default_factory=dict)
    names: dict[str, dict[Any, Any]] = dataclasses.field(default_factory=dict)


def _look(seen: _Seen, part: pa.Table, since: dt.datetime, until: dt.datetime) -> None:
    tested = part.filter(pc.equal(part["tested"], pa.scalar(True)))
    deviating = tested.filter(pc.greater(pc.list_value_length(tested["deviations"]), 0))
    seen.tested += tested.num_rows
    seen.deviating += deviating.num_rows
    seen.words.update(_numbers(pc.list_flatten(deviating["deviations"])))
    seen.quarters |= _quarters(deviating["occurred_at"], since, until)
    for column, name, _ in GROUPS:
        if column in tested.column_names:
            seen.of_tested.setdefault(column, Counter()).update(_numbers(tested[column]))
            seen.of_deviating.setdefault(column, Counter()).update(_numbers(deviating[column]))
            seen.names.setdefault(column, {}).update(_last(deviating[column], deviating[name]))


def _numbers(values: pa.ChunkedArray) -> dict[Any, int]:
    """How often each value is there."""
    return {one["values"]: one["counts"] for one in pc.value_counts(values).to_pylist()}


def _last(groups: pa.ChunkedArray, names: pa.ChunkedArray) -> dict[Any, Any]:
    """The name of each group that comes last."""
    said = pa.table({"group": groups, "name": names}).group_by("group", use_threads=False)
    found = said.aggregate([("name", "last", pc.ScalarAggregateOptions(skip_nulls=False))])
    return dict(zip(found["group"].to_pylist(), found["name_last"].to_pylist(), strict=True))


def _quarters(moments: pa.ChunkedArray, since: dt.datetime, until: dt.datetime) -> set[int]:
    """In which of the equal parts of the period these lie."""
    start, length = pa.scalar(since, moments.type).value, (until - since) / PARTS / dt.timedelta(microseconds=1)
    parts = (pc.drop_null(moments).cast(pa.int64()).to_numpy() - start) / length
    return set(np.unique(np.clip(parts, 0, PARTS - 1).astype(int)).tolist())


def proposal(marked: Iterable[Marker]) -> str:
    """What the markers amount to, in words."""
    named = {one.id for one in marked}
    if "few" in named:
        return "so few items are judged one by one"
    return "markers of a systematic deviation" if named else "no marker of a systematic deviation"


def _few(tested: int) -> list[Marker]:
    words = f"{counted(tested, 'item was', 'items were')} tested: under {FEW} is a judgement, not a rate."
    return [Marker("few", words)] if tested < FEW else []


def _recurring(seen: _Seen) -> list[Marker]:
    return [
        Marker("recurs", f"“{word}” recurs: in {count:,} of {seen.deviating:,} deviating items.")
        for word, count in sorted(seen.words.items(), key=lambda one: (-one[1], one[0]))
        if count >= RECURS_FROM
    ]


def _rate(tested: int, deviating: int) -> list[Marker]:
    if tested <= LARGE or deviating * 100 <= tested * RATE_PERCENT:
        return []
    words = f"{deviating:,} of {tested:,} items deviate, over {RATE_PERCENT} % of a large population (over {LARGE})."
    return [Marker("rate", words)]


def _persisting(seen: _Seen) -> list[Marker]:
    if len(seen.quarters) < PARTS_PERSISTING:
        return []
    return [Marker("persists", f"Deviations lie in {len(seen.quarters)} of the {PARTS} equal parts of the period.")]


def _concentrated(seen: _Seen) -> list[Marker]:
    """One person, subject or database with most of the deviations though not of the items, or of which every item deviates."""
    marked = []
    for column, _, word in GROUPS:
        of_tested, names = seen.of_tested.get(column, Counter()), seen.names.get(column, {})
        of_deviating = seen.of_deviating.get(column, Counter())
        for group, count in sorted(of_deviating.items(), key=lambda one: (-one[1], str(one[0]))):
            mostly = count * 100 >= seen.deviating * SHARE_PERCENT and of_tested[group] * 2 <= seen.tested
            wholly = count == of_tested[group] < seen.tested
            if count >= RECURS_FROM and (mostly or wholly):
                words = (
                    f"{count:,} of {seen.deviating:,} deviating items are of {word} {names[group] or group or 'not known'}; "
                    f"{of_tested[group]:,} of the {seen.tested:,} items tested are."
                )
                marked.append(Marker("concentrated", words))
                break
    return marked
