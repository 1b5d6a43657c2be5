"""Periods of a rhythm on the clock of a zone: whole days, weeks or months from an anchor day, as half-open instants. Pure.

A day begins with its first midnight in that zone, so days of 23 and 25 hours are whole days, and periods follow each other
without gap or overlap whatever the clocks do. Months are counted from the anchor and never from the one before: from the
31st on they begin on the last day of shorter months and do not drift.
"""

from __future__ import annotations

import calendar
import dataclasses
import datetime as dt
import functools
import zoneinfo
from collections.abc import Iterator

from lineage import errors, zones

CALENDAR = {
    "daily": (1, "days"), "weekly": (1, "weeks"), "monthly": (1, "months"), "quarterly": (3, "months"), "yearly": (12, "months"),
}  # fmt: skip
CUSTOM = "custom"
Period = tuple[dt.datetime, dt.datetime]
LONGEST = {"days": 366, "weeks": 104, "months": 60}
MONDAY = dt.date(2001, 1, 1)
"""The anchor of the calendar's own periods: a Monday, and the first of a month, a quarter and a year."""


@dataclasses.dataclass(frozen=True)
class Rhythm:
    """Every so many days, weeks or months from the anchor day, in a zone of the tz database."""

    every: int
    unit: str
    anchor: dt.date = MONDAY
    zone: str = zones.UTC

    @property
    def words(self) -> str:
        """As "every month", "every 2 weeks from Mon 5 Jan 2026", with the zone where it is not UTC."""
        named = {pair: name for name, pair in CALENDAR.items()}.get((self.every, self.unit))
        often = {"quarterly": "every quarter", "yearly": "every year"}.get(named or "", f"every {self.unit[:-1]}")
        if named is None:
            often = f"every {self.every} {self.unit}"
        since = "" if self.anchor == MONDAY else f" from {self.anchor:%a %-d %b %Y}"
        return f"{often}{since}, {self.zone}"


def rhythm(cadence: str, zone: str = "", every: int | None = None, unit: str = "", anchor: dt.date | None = None) -> Rhythm:  # fmt: skip
    """The rhythm of a cadence. `custom` takes `every`, `unit` and `anchor`, no other does. Raises QueryInvalid."""
    zone = zone or zones.UTC
    if not zones.is_known(zone):
        raise errors.QueryInvalid(f"There is no zone {zone[:40]}. Name one such as Europe/Berlin, or UTC.")
    if cadence in CALENDAR:
        if every is not None or unit or anchor is not None:
            raise errors.QueryInvalid("Only a custom cadence takes every, unit and anchor day; leave them out.")
        return Rhythm(*CALENDAR[cadence], zone=zone)
    if cadence != CUSTOM:
        raise errors.QueryInvalid(f"The cadence {cadence[:40]} has no periods.")
    if unit not in LONGEST or every is None or not 1 <= every <= LONGEST[unit]:
        longest = ", ".join(f"{most} {name}" for name, most in LONGEST.items())
        raise errors.QueryInvalid(f"A custom cadence needs every and unit: at most {longest}.")
    if anchor is None or not 2000 <= anchor.year <= 2100:
        raise errors.QueryInvalid("A custom cadence needs its anchor: a day on which a period begins, 2000 to 2100.")
    return Rhythm(every, unit, anchor, zone)


def start_of(rhythm: Rhythm, moment: dt.datetime) -> dt.datetime:
    """The start of the period that holds `moment`."""
    number = _number(rhythm, moment)
    while _begin(rhythm, number) > moment:
        number -= 1
    # A day that a zone left out (Apia had no 30 December 2011) has no length.
    while _begin(rhythm, number + 1) <= moment:
        number += 1
    return _begin(rhythm, number)


def following(rhythm: Rhythm, moment: dt.datetime) -> dt.datetime:
    """The first start of a period after `moment`: the end of the one that holds it."""
    number = _number(rhythm, moment)
    while _begin(rhythm, number) <= moment:
        number += 1
    return _begin(rhythm, number)


def previous(rhythm: Rhythm, start: dt.datetime) -> dt.datetime:
    """The start of the period that ends at `start`."""
    return start_of(rhythm, start - dt.timedelta(microseconds=1))


def since(rhythm: Rhythm, start: dt.datetime) -> Iterator[Period]:
    """Periods without end, each beginning where the one before ends; the first begins at `start`, wherever that lies."""
    while True:
        end = following(rhythm, start)
        yield start, end
        start = end


def day_of(rhythm: Rhythm, moment: dt.datetime) -> dt.date:
    """The day that the rhythm's zone has at that moment."""
    return moment.astimezone(_zone(rhythm.zone)).date()


def first_start(rhythm: Rhythm, now: dt.datetime) -> dt.datetime:
    """Where a new schedule's first period begins: the one that holds `now`, or the anchor where that is still to come."""
    return max(start_of(rhythm, now), _midnight(rhythm, rhythm.anchor))


@functools.cache
def _zone(name: str) -> zoneinfo.ZoneInfo:
    return zoneinfo.ZoneInfo(name)


def _midnight(rhythm: Rhythm, day: dt.date) -> dt.datetime:
    """The day's first instant. A midnight that comes twice counts the first time, one that is left out when it would be."""
    return dt.datetime.combine(day, dt.time(), _zone(rhythm.zone)).astimezone(dt.UTC)


def _begin(rhythm: Rhythm, number: int) -> dt.datetime:
    """When the period of that number, counted from the anchor, begins."""
    steps = number * rhythm.every
    if rhythm.unit == "months":
        year, month = divmod(rhythm.anchor.year * 12 + rhythm.anchor.month - 1 + steps, 12)
        last = calendar.monthrange(year, month + 1)[1]
        return _midnight(rhythm, dt.date(year, month + 1, min(rhythm.anchor.day, last)))
    return _midnight(rhythm, rhythm.anchor + dt.timedelta(**{rhythm.unit: steps}))


def _number(rhythm: Rhythm, moment: dt.datetime) -> int:
    """The number of the period that holds the moment's day, or the one beside it: callers walk the last step."""
    day, anchor = day_of(rhythm, moment), rhythm.anchor
    if rhythm.unit == "months":
        return ((day.year - anchor.year) * 12 + day.month - anchor.month) // rhythm.every
    days = 7 if rhythm.unit == "weeks" else 1
    return (day - anchor).days // (days * rhythm.every)
