"""Markers of a deviation that is systematic rather than isolated, computed of each test over all its items.

They propose; a named person concludes (`reports/exceptions.py`). The thresholds are those of docs/sampling.md.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections import Counter
from collections.abc import Iterable
from typing import Any

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


def found(table: pa.Table, since: dt.datetime, until: dt.datetime) -> list[Marker]:
    """The markers of a test's answer for its period; none where nothing deviates."""
    tested = table.filter(pc.equal(table["tested"], pa.scalar(True)))
    deviating = tested.filter(pc.greater(pc.list_value_length(tested["deviations"]), 0))
    if not deviating.num_rows:
        return []
    return [
        *_few(tested.num_rows),
        *_recurring(deviating),
        *_rate(tested.num_rows, deviating.num_rows),
        *_persisting(deviating, since, until),
        *_concentrated(tested, deviating),
    ]


def proposal(marked: Iterable[Marker]) -> str:
    """What the markers amount to, in words."""
    named = {one.id for one in marked}
    if "few" in named:
        return "so few items are judged one by one"
    return "markers of a systematic deviation" if named else "no marker of a systematic deviation"


def _few(tested: int) -> list[Marker]:
    words = f"{counted(tested, 'item was', 'items were')} tested: under {FEW} is a judgement, not a rate."
    return [Marker("few", words)] if tested < FEW else []


def _recurring(deviating: pa.Table) -> list[Marker]:
    counted = Counter(pc.list_flatten(deviating["deviations"]).to_pylist())
    return [
        Marker("recurs", f"“{word}” recurs: in {count:,} of {deviating.num_rows:,} deviating items.")
        for word, count in sorted(counted.items(), key=lambda one: (-one[1], one[0]))
        if count >= RECURS_FROM
    ]


def _rate(tested: int, deviating: int) -> list[Marker]:
    if tested <= LARGE or deviating * 100 <= tested * RATE_PERCENT:
        return []
    words = f"{deviating:,} of {tested:,} items deviate, over {RATE_PERCENT} % of a large population (over {LARGE})."
    return [Marker("rate", words)]


def _persisting(deviating: pa.Table, since: dt.datetime, until: dt.datetime) -> list[Marker]:
    length = (until - since) / PARTS
    parts = {min(PARTS - 1, max(0, int((at - since) / length))) for at in deviating["occurred_at"].to_pylist()}
    if len(parts) < PARTS_PERSISTING:
        return []
    return [Marker("persists", f"Deviations lie in {len(parts)} of the {PARTS} equal parts of the period.")]


def _concentrated(tested: pa.Table, deviating: pa.Table) -> list[Marker]:
    """One person, subject or database with most of the deviations though not of the items, or of which every item deviates."""
    marked = []
    for column, name, word in GROUPS:
        if column not in tested.column_names:
            continue
        of_tested, of_deviating = _counted(tested, column), _counted(deviating, column)
        names = dict(zip(deviating[column].to_pylist(), deviating[name].to_pylist(), strict=True))
        for group, count in sorted(of_deviating.items(), key=lambda one: (-one[1], str(one[0]))):
            mostly = count * 100 >= deviating.num_rows * SHARE_PERCENT and of_tested[group] * 2 <= tested.num_rows
            wholly = count == of_tested[group] < tested.num_rows
            if count >= RECURS_FROM and (mostly or wholly):
                words = (
                    f"{count:,} of {deviating.num_rows:,} deviating items are of {word} {names[group] or group or 'not known'}; "
                    f"{of_tested[group]:,} of the {tested.num_rows:,} items tested are."
                )
                marked.append(Marker("concentrated", words))
                break
    return marked


def _counted(table: pa.Table, column: str) -> Counter[Any]:
    return Counter(table[column].to_pylist())
