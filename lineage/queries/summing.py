"""The counts of the first page out of sums, as rows like those that SQL gives over records, and its newest accesses."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts import Indexes, terms
from lineage.extracts.layers import Layer
from lineage.extracts.looking import Wanted
from lineage.extracts.postings import NOTHING, among
from lineage.extracts.sums import MANNER, NO_HOUR, Counted, Named, Totals
from lineage.moments import EPOCH
from lineage.queries import candidates, walking
from lineage.queries.ask import OWN, Window
from lineage.queries.walking import Range

PARTS = {"hours": 7, "agents": 11, "people": 13, "places": 14, "all": 15}
"""What `grouping_id` says of each: a bit for each of hour, agent, who_id and datasource by which it is not grouped."""
DENSE = 1 << 22
FIRST, SPAN = 1_000, 1 << 17
"""So many of the newest records are looked at first for the newest accesses, and at most at once: marks cost little."""
HOURLY_DAYS = 4
"""Accesses that lie further apart are told by day."""
VERDICT, IS_ACCESS, IS_CHANGE, IS_REFUSED = (list(MANNER).index(name) for name in MANNER)


def asked(question: Question, viewer: Viewer, window: Window) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
    """Statements and writes of a window, and its rows as `glance.COUNTED` gives them; None where only records can tell."""
    wanted = candidates.wanted(viewer, window)
    look = question.look() if wanted is not None else None
    totals = look.totals(wanted) if look is not None and wanted is not None else None
    if totals is None:
        return None
    return {"accesses": totals.statements, "writes": totals.writes}, list(_rows(totals))


def newest(question: Question, viewer: Viewer, window: Window, where: Sequence[Range], most: int) -> list[int] | None:
    """The newest accesses of a window by index, found by marks alone; None where only records can tell."""
    asked_for = candidates.wanted(viewer, window, terms.ACCESS)
    look = question.look() if asked_for is not None else None
    if look is None or asked_for is None:
        return None
    found: list[int] = []
    for start, end in _spans(where):
        if len(found) >= most:
            break
        here = [_accesses(layer, asked_for, start, min(end, look.size))[-most:] for layer in look.layers]
        found += np.sort(np.concatenate([NOTHING, *here]))[::-1].tolist()
    return found[:most]


def _spans(where: Sequence[Range]) -> Iterator[Range]:
    """As `walking.apart`, in parts of at most `SPAN`: of a larger one that has enough most were looked at in vain."""
    for start, end in walking.apart(where, first=FIRST):
        yield from ((max(begin, start), begin + SPAN) for begin in range(end - SPAN, start - SPAN, -SPAN))


def _accesses(layer: Layer, asked_for: Wanted, start: int, end: int) -> Indexes:
    there = layer.between(start, end)
    if not len(there.indexes):
        return NOTHING
    others = np.array([place[0] not in (None, OWN) for place in layer.places], bool)
    found = there.indexes[asked_for.mask(layer, end)(there) & others[there.places]]
    return np.asarray(found[~among(found, layer.hidden)])


def _together(some: Sequence[Counted]) -> Counted:
    """All rows of all files one after the other."""

    def joined(columns: Iterator[NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate([np.empty(0, np.int64), *columns])

    named = Named(*(joined(one.named[number] for one in some) for number in range(len(Named._fields))))
    return Counted(
        named, joined(one.hour for one in some), joined(one.manner for one in some), joined(one.n for one in some)
    )


def _rows(totals: Totals) -> Iterator[dict[str, Any]]:
    of = _together(totals.rows)
    manners = [np.array([one[place] for one in totals.manners], bool) for place in (IS_ACCESS, IS_CHANGE, IS_REFUSED)]
    is_access, is_change, is_refused = (each[of.manner] if len(each) else np.empty(0, bool) for each in manners)
    numbers = {name: list(each.of) for name, each in totals.numbers.items()}
    yield from _hours(totals, of, is_access, numbers)
    is_agent = is_access & (of.named.agent >= 0)
    agents = zip(*_grouped([of.named.agent[is_agent], of.named.is_alone[is_agent]], of.n[is_agent]), strict=True)
    for agent, alone, n in agents:
        yield {"part": PARTS["agents"], "agent": numbers["agent"][agent], "alone": bool(alone), "count": n}
    for part, name, column in (("people", "who_id", of.named.who), ("places", "datasource", of.named.datasource)):
        values = numbers["who" if part == "people" else "datasource"]
        for number, n in zip(*_grouped([column + 1], of.n), strict=True):
            yield {"part": PARTS[part], name: values[number - 1] if number else None, "events": n}
    yield {
        "part": PARTS["all"], "events": int(of.n.sum()), "rows_changed": int(of.n[is_change].sum()),
        "refused": int(of.n[is_refused].sum()), "unattributed": int(of.n[of.named.is_unknown == 1].sum()),
        "last_index": totals.last_index, "last_at": totals.last_at,
    }  # fmt: skip


def _hours(
    totals: Totals, of: Counted, is_access: NDArray[Any], numbers: dict[str, list[Any]]
) -> Iterator[dict[str, Any]]:
    """By hour, or by day where hours would not be told apart."""
    verdicts = list(dict.fromkeys(manner[VERDICT] for manner in totals.manners))
    verdict = np.array([verdicts.index(manner[VERDICT]) for manner in totals.manners], np.int64)
    verdict = verdict[of.manner] if len(verdict) else of.manner
    n = of.n[is_access]
    columns = [column[is_access] for column in (of.named.kind, verdict, of.named.environment, of.hour)]
    timed = columns[-1] != NO_HOUR
    met = _grouped([columns[-1][timed] // 24], n[timed])[0]
    step = 24 if len(met) and met[-1] - met[0] > HOURLY_DAYS else 1
    for is_timed, unit in ((True, step), (False, 1)):
        here = timed if is_timed else ~timed
        some = [*(column[here] for column in columns[:-1]), columns[-1][here] // unit]
        for kind, number, environment, time, count in zip(*_grouped(some, n[here]), strict=True):
            yield {
                "part": PARTS["hours"], "hour": _moment(time * unit), "actor_type": numbers["kind"][kind],
                "verdict": verdicts[number], "environment": numbers["environment"][environment], "count": count,
            }  # fmt: skip


def _moment(hour: int) -> dt.datetime | None:
    return None if hour == NO_HOUR else EPOCH + dt.timedelta(hours=hour)


def _grouped(columns: Sequence[NDArray[Any]], n: NDArray[Any]) -> list[list[int]]:
    """The distinct values of these columns together, and the sum of each, where it is not zero."""
    if not len(n):
        return [[] for _ in (*columns, n)]
    lows = [int(column.min()) for column in columns]
    widths = [int(column.max()) - low + 1 for column, low in zip(columns, lows, strict=True)]
    code = np.zeros(len(n), np.int64)
    for column, low, width in zip(columns, lows, widths, strict=True):
        code = code * width + (column - low)
    if np.prod([float(width) for width in widths]) <= DENSE:
        sums = np.bincount(code, weights=n)
        found = np.flatnonzero(sums)
        counts = sums[found].astype(np.int64)
    else:
        found, places = np.unique(code, return_inverse=True)
        sums = np.bincount(places, weights=n)
        found, counts = found[sums != 0], sums[sums != 0].astype(np.int64)
    values = [counts.tolist()]
    for low, width in zip(reversed(lows), reversed(widths), strict=True):
        values.append((found % width + low).tolist())
        found = found // width
    return values[1:][::-1] + values[:1]
