"""From when to when each source told in a window: from days and hours of it, and from records only at the window's ends."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from lineage.access import Viewer
from lineage.engine import Question
from lineage.listened import FAR, Days, Numbers, Place, Spans, by_source
from lineage.listening import Heard
from lineage.moments import microseconds, moment
from lineage.queries.ask import OWN, Window

HOUR_US = 3_600_000_000


class Extent(NamedTuple):
    """The first and the last record of a source."""

    from_at: dt.datetime
    to_at: dt.datetime


def among(viewer: Viewer, environment: str | None, datasource: str | None) -> bool:
    """Whether records there are in the viewer's scope, but for their time."""
    in_environment = not viewer.environments or environment in viewer.environments
    return viewer.reads_records and in_environment and (not viewer.datasources or datasource in viewer.datasources)


def telling(question: Question, viewer: Viewer) -> list[Mapping[str, Any]]:
    """The records in scope that tell how complete a source was, by index."""
    return [row for row in question.hear().told if among(viewer, row["environment"], row["datasource"])]


def extents(question: Question, viewer: Viewer, window: Window) -> dict[str, Extent]:
    """By source, the store itself left out; those without a record in scope and window are not there."""
    near = question.hear()
    since = max((microseconds(t) for t in (window.since, viewer.from_at) if t), default=-FAR)
    until = min((microseconds(t) for t in (window.until, viewer.until_at) if t), default=FAR)

    is_all = viewer.reads_records and not (window.environment or viewer.environments or viewer.datasources)

    def is_asked(place: Place) -> bool:
        if place[2] is None or place[2] == OWN:
            return False
        in_window = not window.environment or place[0] == window.environment
        return is_all or (in_window and among(viewer, *place[:2]))

    if (since, until) == (-FAR, FAR):
        some = near.reported if is_all else by_source(one for one in near.ever if is_asked(one.place))
        return {source: Extent(moment(one.first), moment(one.last)) for source, one in some.items()}
    spans = list(_spans(near, since, until))
    # Places are numbered while records are looked at.
    places = near.places
    asked = np.array([is_asked(place) for place in places], bool)
    first, last = np.full(len(places), FAR), np.full(len(places), -FAR)
    for place, begins, ends in spans:
        np.minimum.at(first, place, begins)
        np.maximum.at(last, place, ends)
    found: dict[str, Extent] = {}
    for number in np.flatnonzero(asked & (first <= last)).tolist():
        source, own = str(places[number][2]), Extent(moment(int(first[number])), moment(int(last[number])))
        known = found.get(source, own)
        found[source] = Extent(min(known.from_at, own.from_at), max(known.to_at, own.to_at))
    return found


def _spans(near: Heard, since: int, until: int) -> Iterator[Spans]:
    """Of all places, what lies in the window: whole days, whole hours where it cuts a busy day, else records."""
    days = near.days
    yield _whole(days, since, until)
    for of_day in _cut(days, days.day, since, until):
        if not of_day.busy.any():
            yield near.within(of_day, since, until)
            continue
        hours = near.hours(int(of_day.segment[0]), int(of_day.day[0]))
        yield _whole(hours, since, until)
        for of_hour in _cut(hours, hours.first // HOUR_US, since, until):
            yield near.within(of_hour, since, until)
    yield near.newest.within(since, until)


def _whole(every: Days, since: int, until: int) -> Spans:
    inside = (every.first >= since) & (every.last < until)
    return every.place[inside], every.first[inside], every.last[inside]


def _cut(every: Days, numbers: Numbers, since: int, until: int) -> Iterator[Days]:
    """All rows of each segment and number of which one is cut by an end of the window."""
    cut = np.zeros(len(numbers), bool)
    for end in (since, until):
        cut |= (every.first < end) & (every.last >= end)
    for segment, number in sorted(set(zip(every.segment[cut].tolist(), numbers[cut].tolist(), strict=True))):
        yield every.chosen((every.segment == segment) & (numbers == number))
