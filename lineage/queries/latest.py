"""The sessions that were active last: found from the newest records on, and read from where the first of them has a record.

So a page of sessions goes by what these did, not by the size of the log. Where few match, or nothing can be looked up, the whole
log is asked instead.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts import Indexes
from lineage.extracts.looking import Lookup, Wanted
from lineage.extracts.postings import NOTHING, Damaged, Hashes, among, hashes_of
from lineage.extracts.terms import BY_TIME
from lineage.queries import candidates, walking
from lineage.queries.ask import COUNT_MOST, Total, Window, scoped

NAMES_MOST = 2_000
"""Of more sessions the log is asked which were active last."""
STEPS = 3
"""After so many growing steps from the newest record on the whole log is asked."""
SQL = "session is not null and kind in ('session', 'query', 'change')"
"""What of a session says that somebody did something in it."""


class Few(NamedTuple):
    """Some sessions, those that were active last, and a condition that all their records meet."""

    names: list[str]
    where: str
    is_all: bool

    @property
    def condition(self) -> str:
        return f"{self.where} and session in (select unnest(?))"


class Found(NamedTuple):
    """Some sessions and all their records, beside some that a hash brings."""

    names: list[str]
    indexes: Indexes


def few(question: Question, viewer: Viewer, window: Window, before: int | None, most: int) -> Few | None:
    """At least so many sessions with a record in scope and window, or all, the last active first; of those whose last record
    lies `before`, where that is given. None where that takes longer than to ask the whole log.
    """
    if question.look() is None:
        return None
    ranges = walking.ranges(question, viewer, window)
    top = min(ranges[-1][1] if ranges else 0, question.size if before is None else before)
    condition, values = scoped(viewer, window)
    beyond = f"having max(index) < {int(before)}" if before is not None else ""
    for step in range(STEPS):
        start = max(0, top - walking.FIRST * walking.GROWTH**step)
        found = question.rows(
            f"select session, max(index) as last_index from activity where {condition} and session is not null and index >= {start} "  # noqa: S608
            f"group by session {beyond} order by last_index desc limit {most + 1}",
            values,
        )
        if len(found) > most or start == 0:
            names = [row["session"] for row in found[:most]]
            low = candidates.told(question, functools.partial(_least, names)) if names else None
            return Few(names, f"index >= {low}", len(found) <= most) if low is not None else None
    return None


def newest(
    question: Question, viewer: Viewer, window: Window, names: Sequence[str], before: int | None, most: int
) -> Found | None:
    """Of these sessions those whose last record in scope and window is the newest (and lies `before`); None where that cannot be told."""
    asked = candidates.wanted(viewer, window)
    if asked is None or len(names) > NAMES_MOST:
        return None
    top = question.size if before is None else before

    def tell(look: Lookup) -> Found:
        numbers, indexes = _records(look, names, asked)
        lasts = np.full(len(names), -1)
        np.maximum.at(lasts, numbers, indexes)
        order = np.argsort(-lasts, kind="stable")
        chosen = order[(lasts[order] >= 0) & (lasts[order] < top)][:most]
        return Found([names[number] for number in chosen.tolist()], np.sort(indexes[np.isin(numbers, chosen)]))

    return candidates.told(question, tell)


def _records(look: Lookup, names: Sequence[str], asked: Wanted) -> tuple[Indexes, Indexes]:
    """Those of these sessions that are wanted, each with the number of its session."""
    hashes, found = _hashes(names), [(NOTHING, NOTHING)]
    for layer in look.layers:
        numbers, indexes = layer.postings[BY_TIME].numbered(hashes)
        order = np.argsort(indexes, kind="stable")
        order = order[~among(indexes[order], layer.hidden)]
        there = layer.directory(indexes[order])
        if len(there.indexes) != len(order):
            raise Damaged("Postings tell of records that have no card.")
        kept = order[asked.mask(layer, look.size)(there)]
        found.append((numbers[kept], indexes[kept]))
    numbers, indexes = (np.concatenate(column) for column in zip(*found, strict=True))
    return numbers, indexes


def _least(names: Sequence[str], look: Lookup) -> int:
    """No record of these sessions has a lesser index."""
    hashes = _hashes(names)
    found = [layer.postings[BY_TIME].pairs(hashes)[1] for layer in look.layers]
    return min((int(some.min()) for some in found if len(some)), default=look.size)


def _hashes(names: Sequence[str]) -> Hashes:
    return hashes_of(("session", name) for name in names)


def total(question: Question, viewer: Viewer, window: Window, condition: str, values: Sequence[Any]) -> Total:
    """How many sessions have a record of which this holds, counted from the newest on up to 10,000."""
    counted = 0
    # The first part hardly ever holds so many.
    for start, _ in list(walking.steps(walking.ranges(question, viewer, window)))[1:] or [(0, 0)]:
        asked = f"select count(distinct session) as n from activity where {SQL} and {condition} and index >= ?"  # noqa: S608
        counted = question.rows(asked, [*values, start])[0]["n"]
        if counted > COUNT_MOST:
            break
    return Total(min(counted, COUNT_MOST), counted <= COUNT_MOST)
