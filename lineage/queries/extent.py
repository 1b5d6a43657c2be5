"""From when to when each source told in a window: from days and hours of it, and from records only at the window's ends."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any, NamedTuple

from lineage import heard
from lineage.access import Viewer
from lineage.engine import Question
from lineage.listening import Heard
from lineage.queries.ask import OWN, Window, scoped

DAY = heard.DAY.format("cast(? as timestamptz)")


class Extent(NamedTuple):
    """The first and the last record of a source."""

    from_at: dt.datetime
    to_at: dt.datetime


def extents(question: Question, viewer: Viewer, window: Window) -> dict[str, Extent]:
    """By source, the store itself left out; those without a record in scope and window are not there."""
    near = question.hear()
    since = max((t for t in (window.since, viewer.from_at) if t), default=None)
    until = min((t for t in (window.until, viewer.until_at) if t), default=None)
    timeless = dataclasses.replace(viewer, from_at=None, until_at=None)
    condition, values = scoped(timeless, Window(environment=window.environment))
    if since is None and until is None:
        return _found(question, "heard", f"what = 'ever' and {condition}", values)
    inside = " and ".join([*(["first_at >= ?"] if since else []), *(["last_at < ?"] if until else [])])
    ends = [end for end in (since, until) if end is not None]
    found = _found(question, "heard", f"what = 'day' and {condition} and {inside}", [*values, *ends])
    for end in ends:
        cuts = _cuts(question, "heard", f"what = 'day' and {condition}", values, end)
        busy = [cut["folder"] for cut in cuts if cut["busy"]]
        cuts = [cut for cut in cuts if not cut["busy"]]
        if busy:
            hours, day = near.hours(busy), f"day = {DAY} and {condition}"
            _widen(found, _found(question, hours, f"{day} and {inside}", [end, *values, *ends]))
            cuts += _cuts(question, hours, day, [end, *values], end)
        if cuts:
            _widen(found, _of_records(question, near, cuts, scoped(viewer, window)))
    return found


def _found(question: Question, relation: str, condition: str, values: list[Any]) -> dict[str, Extent]:
    rows = question.rows(
        f"select source, min(first_at) as from_at, max(last_at) as to_at from {relation} "  # noqa: S608 - our own words
        f"where {condition} and source <> '{OWN}' group by source",
        values,
    )
    return {row["source"]: Extent(row["from_at"], row["to_at"]) for row in rows}


def _cuts(
    question: Question, relation: str, condition: str, values: list[Any], end: dt.datetime
) -> list[dict[str, Any]]:
    """Where records lie of days, or of hours, that begin before this end of the window and end behind it: by folder."""
    return question.rows(
        "select folder, busy, min(index) as index, max(last_index) as last_index, min(first_at) as first_at, "  # noqa: S608
        f"max(last_at) as last_at from {relation} where {condition} and source <> '{OWN}' and first_at < ? and last_at >= ? group by all",
        [*values, end, end],
    )


def _of_records(
    question: Question, near: Heard, cuts: list[dict[str, Any]], asked: tuple[str, list[Any]]
) -> dict[str, Extent]:
    index, last_index = min(cut["index"] for cut in cuts), max(cut["last_index"] for cut in cuts)
    records = f"(select *, occurred_at as first_at, occurred_at as last_at from {near.records({cut['folder'] for cut in cuts})})"  # noqa: S608
    times = [min(cut["first_at"] for cut in cuts), max(cut["last_at"] for cut in cuts)]
    bounds = f"index between {index} and {last_index} and occurred_at >= ? and occurred_at <= ?"
    return _found(question, records, f"{bounds} and {asked[0]}", [*times, *asked[1]])


def _widen(found: dict[str, Extent], more: dict[str, Extent]) -> None:
    for name, own in more.items():
        known = found.get(name, own)
        found[name] = Extent(min(known.from_at, own.from_at), max(known.to_at, own.to_at))
