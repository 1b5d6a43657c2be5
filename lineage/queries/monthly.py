"""How many records of whole months meet conditions: of extracts by what a process keeps of each (`lineage.extracts.meeting`).

What is in no extract yet, or counts in none any more, is left to who asks, in SQL.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts import meeting
from lineage.extracts.filed import Filed
from lineage.extracts.looking import Lookup, Seen, Wanted
from lineage.extracts.meeting import Cells, Condition
from lineage.extracts.postings import NOTHING
from lineage.queries import candidates
from lineage.queries.ask import Window
from lineage.queries.sought import NAMED_MOST

Period = tuple[dt.datetime, dt.datetime]


class Counted(NamedTuple):
    """How many records meet each condition in each period, without those for which `rest` holds."""

    counts: NDArray[np.int64]
    rest: str


def counted(
    question: Question,
    viewer: Viewer,
    conditions: Sequence[Condition],
    periods: Sequence[Period],
    environment: str | None,
) -> Counted | None:
    """None where only records can tell."""
    wanted = candidates.wanted(viewer, Window(environment=environment))
    ends = [at for period in periods for at in period]
    if wanted is None or viewer.from_at or viewer.until_at or not all(map(meeting.is_month, ends)):
        return None
    if len(conditions) > meeting.CONDITIONS_MOST:
        return None
    return candidates.told(question, lambda look: _counted(question, look, tuple(conditions), periods, wanted))


def _counted(
    question: Question, look: Lookup, conditions: tuple[Condition, ...], periods: Sequence[Period], wanted: Wanted
) -> Counted | None:
    files = [(layer, layer.of) for layer in look.layers if isinstance(layer.of, Filed)]
    following = max((file.cards.last + 1 for _, file in files), default=0)
    again = [layer.between(0, following).indexes for layer in look.layers if not isinstance(layer.of, Filed)]
    anew = np.concatenate([NOTHING, *again])
    if not files or following > look.size or len(anew) > NAMED_MOST:
        return None
    counts = np.zeros((len(periods), len(conditions)), np.int64)
    months = [(meeting.month_of(start), meeting.month_of(end)) for start, end in periods]
    for layer, file in files:
        for some, sign in _cells(question, layer, file, conditions):
            here = np.array([wanted.at(place) for place in layer.places], bool)[some.places]
            for period, (first, end) in enumerate(months):
                kept = here & (some.months >= first) & (some.months < end)
                counts[period] += sign * (some.counts[kept] @ some.meets[kept])
    rest = f"index >= {following}"
    if len(anew):
        rest += f" or index in ({', '.join(map(str, np.unique(anew).tolist()))})"
    return Counted(counts, f"({rest})")


def _cells(
    question: Question, layer: Seen, file: Filed, conditions: tuple[Condition, ...]
) -> Iterator[tuple[Cells, int]]:
    """All records of the file, and with a minus those that count elsewhere."""
    snap = question.snapshot
    file.met = met = question.of_file(
        lambda cursor: meeting.met(cursor, file.folder, file.cards, snap, conditions, file.met)
    )
    yield met.cells, 1
    gone = file.cards.positions(layer.hidden)
    if (gone >= 0).any():
        yield meeting.cells(file.cards, met.bits, gone[gone >= 0], len(conditions)), -1
