"""Matching records from the newest on: the log is walked in growing steps, so that a page or a count that is soon full ends soon.

Where nothing of a window can lie is left out of the walk.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from lineage.access import Viewer
from lineage.engine import Question
from lineage.queries.ask import Window

FIRST, GROWTH = 20_000, 8
"""So many records are looked at first, and so many times more with each further step."""
DAY = dt.timedelta(days=1)
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

Range = tuple[int, int]
"""From which index to before which."""


def ranges(question: Question, viewer: Viewer, window: Window) -> list[Range]:
    """Where all records of the viewer's time and the window lie, beside others; ascending."""
    since = max((t for t in (window.since, viewer.from_at) if t), default=None)
    until = min((t for t in (window.until, viewer.until_at) if t), default=None)
    if since is None and until is None:
        return [(0, question.size)]
    first = (since - EPOCH) // DAY if since else -(2**62)
    last = (until - EPOCH) // DAY if until else 2**62
    snap = question.snapshot
    found = [(start, end) for day, start, end in question.days() if first <= day <= last]
    found += [(one.first, one.following) for one in snap.segments if not one.has_heard]
    found.append((snap.sealed_to, question.size))
    return _together((start, min(end, question.size)) for start, end in found)


def _together(some: Iterable[Range]) -> list[Range]:
    found: list[Range] = []
    for start, end in sorted(some):
        if start >= end:
            continue
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((start, end))
    return found


def below(some: Sequence[Range], index: int) -> list[Range]:
    """What of these lies below this index."""
    return [(start, min(end, index)) for start, end in some if start < index]


def above(some: Sequence[Range], index: int) -> list[Range]:
    """What of these lies above this index."""
    return [(max(start, index + 1), end) for start, end in some if end > index + 1]


def steps(some: Sequence[Range], is_up: bool = False, first: int = FIRST) -> Iterator[Range]:
    """All of these in parts that grow, the newest first; upwards the oldest first. A part may hold a gap between two of them."""
    length, taken, part = first, 0, None
    for start, end in some if is_up else reversed(some):
        while start < end:
            room = length - taken
            here = (start, min(end, start + room)) if is_up else (max(start, end - room), end)
            start, end = (here[1], end) if is_up else (start, here[0])
            part = (min(part[0], here[0]), max(part[1], here[1])) if part else here
            taken += here[1] - here[0]
            if taken == length:
                yield part
                length, taken, part = length * GROWTH, 0, None
    if part:
        yield part


def apart(some: Sequence[Range], first: int = FIRST) -> Iterator[Range]:
    """The same, the newest first, of each range by itself: no part holds a gap, of which look-ups would read all."""
    for one in reversed(some):
        yield from steps([one], first=first)


def rows(
    question: Question, columns: str, relation: str, condition: str, values: Sequence[Any], some: Sequence[Range], most: int,
    is_up: bool = False,
) -> list[dict[str, Any]]:  # fmt: skip
    """The first `most` matching rows of `relation`, the newest first; upwards the oldest first."""
    found: list[dict[str, Any]] = []
    for start, end in steps(some, is_up):
        if len(found) >= most:
            break
        found += question.rows(
            f"select {columns} from {relation} where {condition} and index >= ? and index < ? "  # noqa: S608 - our own condition
            f"order by index {'asc' if is_up else 'desc'} limit {most - len(found)}",
            [*values, start, end],
        )
    return found
