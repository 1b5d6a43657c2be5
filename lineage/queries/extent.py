"""From when to when each source told in a window: from days and hours of it, and from records only at the window's ends."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any, NamedTuple

from lineage import heard
from lineage.access import Viewer
from lineage.engine import Question
from lineage.queries.ask import OWN, Window, scoped

DAY = heard.DAY.format("cast(? as timestamptz)")


class Extent(NamedTuple):
    """The first and the last record of a source."""

    from_at: dt.datetime
    to_at: dt.datetime


def extents(question: Question, viewer: Viewer, window: Window) -> dict[str, Extent]:
    """By source, the store itself left out; those without a record in scope and window are not there."""
    question.hear()
    since = max((t for t in (window.since, viewer.from_at) if t), default=None)
    until = min((t for t in (window.until, viewer.until_at) if t), default=None)
    condition, values = scoped(
        dataclasses.replace(viewer, from_at=None, until_at=None), Window(environment=window.environment)
    )
    if since is None and until is None:
        rows = question.rows(
            f"select source, min(first_at) as from_at, max(last_at) as to_at from heard "  # noqa: S608 - our own words
            f"where what = 'ever' and {condition} and source <> '{OWN}' group by source",
            values,
        )
        return {row["source"]: Extent(row["from_at"], row["to_at"]) for row in rows}
    ends = [end for end in (since, until) if end is not None]
    inside = _inside(since, until)
    days = ", ".join(DAY for _ in ends)
    whole = question.rows(
        f"select source, min(first_at) as from_at, max(last_at) as to_at from heard "  # noqa: S608 - our own words
        f"where (what = 'day' or (what = 'hour' and day in ({days}))) and {condition} and {inside} and source <> '{OWN}' "
        "group by source",
        [*ends, *values, *ends],
    )
    found = {row["source"]: Extent(row["from_at"], row["to_at"]) for row in whole}
    for end in ends:
        for name, cut in _cut(question, end, (condition, values), scoped(viewer, window)).items():
            known = found.get(name, cut)
            found[name] = Extent(min(known.from_at, cut.from_at), max(known.to_at, cut.to_at))
    return found


def _inside(since: dt.datetime | None, until: dt.datetime | None) -> str:
    return " and ".join(
        [*(["first_at >= ?"] if since else []), *(["last_at < ?"] if until else [])],
    )


def _cut(
    question: Question, end: dt.datetime, scope: tuple[str, list[Any]], asked: tuple[str, list[Any]]
) -> dict[str, Extent]:
    """What lies within the window of the day, or of the hour of a busy day, that one of its ends cuts."""
    cut = question.rows(
        f"select min(index) as index, max(last_index) as last_index, min(first_at) as from_at, max(last_at) as to_at from heard "  # noqa: S608
        f"where what in ('day', 'hour') and day = {DAY} and (what = 'hour' or not busy) and first_at < ? and last_at >= ? "
        f"and {scope[0]} and source <> '{OWN}'",
        [end, end, end, *scope[1]],
    )[0]
    if cut["index"] is None:
        return {}
    rows = question.rows(
        f"select source, min(occurred_at) as from_at, max(occurred_at) as to_at from raw_events "  # noqa: S608 - our own words
        f"where {asked[0]} and index between {cut['index']} and {cut['last_index']} and occurred_at >= ? and occurred_at <= ? "
        f"and source <> '{OWN}' group by source",
        [*asked[1], cut["from_at"], cut["to_at"]],
    )
    return {row["source"]: Extent(row["from_at"], row["to_at"]) for row in rows}
