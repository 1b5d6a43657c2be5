"""Periods on the clock of a zone: whole local days, weeks and months, one after the other, whatever the clocks do."""

from __future__ import annotations

import datetime as dt
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage import errors, zones
from reports import periods
from reports.periods import Rhythm

HOUR = dt.timedelta(hours=1)


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def ends(rhythm: Rhythm, moment: str, count: int) -> list[str]:
    """The starts of the period that holds the moment and of those after it."""
    found = periods.since(rhythm, periods.start_of(rhythm, utc(moment)))
    return [f"{start:%Y-%m-%dT%H:%M}" for start, _ in itertools.islice(found, count)]


def daily(zone: str, moment: str, count: int) -> list[str]:
    return ends(periods.rhythm("daily", zone), moment, count)


def test_a_day_of_23_and_one_of_25_hours_are_whole_days_of_their_zone() -> None:
    berlin = periods.rhythm("daily", "Europe/Berlin")
    lengths = {
        day: periods.following(berlin, utc(f"{day}T12:00")) - periods.start_of(berlin, utc(f"{day}T12:00"))
        for day in ("2026-03-28", "2026-03-29", "2026-03-30", "2026-10-24", "2026-10-25", "2026-10-26")
    }
    assert [length // HOUR for length in lengths.values()] == [24, 23, 24, 24, 25, 24]
    autumn = ["2026-10-23T22:00", "2026-10-24T22:00", "2026-10-25T23:00", "2026-10-26T23:00"]
    assert daily("Europe/Berlin", "2026-10-24T12:00", 4) == autumn
    monthly = ends(periods.rhythm("monthly", "Europe/Berlin"), "2026-03-10", 3)
    assert monthly == ["2026-02-28T23:00", "2026-03-31T22:00", "2026-04-30T22:00"]


def test_a_midnight_that_is_left_out_comes_twice_or_whose_whole_day_is_missing_divides_time_all_the_same() -> None:
    # Clocks go from 24:00 to 1:00, so the day begins at 1:00.
    assert daily("Africa/Cairo", "2026-04-23T12:00", 3) == ["2026-04-22T22:00", "2026-04-23T22:00", "2026-04-24T21:00"]
    # Clocks go from 1:00 back to 0:00: the first midnight counts.
    assert daily("America/Havana", "2026-11-01T12:00", 2) == ["2026-11-01T04:00", "2026-11-02T05:00"]
    # There was no 30 December 2011 in Apia.
    assert daily("Pacific/Apia", "2011-12-29T12:00", 3) == ["2011-12-29T10:00", "2011-12-30T10:00", "2011-12-31T10:00"]


def test_months_counted_from_the_31st_begin_on_the_last_day_of_shorter_ones_and_do_not_drift() -> None:
    from_the_31st = periods.rhythm("custom", "", 1, "months", dt.date(2026, 1, 31))
    starts = ends(from_the_31st, "2027-12-31", 6)
    assert [start[:10] for start in starts] == [
        "2027-12-31", "2028-01-31", "2028-02-29", "2028-03-31", "2028-04-30", "2028-05-31",
    ]  # fmt: skip
    assert from_the_31st.words == "every month from Sat 31 Jan 2026, UTC"


def test_custom_weeks_and_fiscal_years_begin_on_their_anchor() -> None:
    sprint = periods.rhythm("custom", "America/New_York", 2, "weeks", dt.date(2026, 1, 7))
    assert ends(sprint, "2026-03-01", 3) == ["2026-02-18T05:00", "2026-03-04T05:00", "2026-03-18T04:00"]
    fiscal = periods.rhythm("custom", "", 12, "months", dt.date(2026, 4, 1))
    assert ends(fiscal, "2026-03-31T23:59", 2) == ["2025-04-01T00:00", "2026-04-01T00:00"]
    assert [sprint.words, fiscal.words, periods.rhythm("quarterly").words] == [
        "every 2 weeks from Wed 7 Jan 2026, America/New_York", "every year from Wed 1 Apr 2026, UTC", "every quarter, UTC",
    ]  # fmt: skip
    assert periods.first_start(fiscal, utc("2026-03-31")) == utc("2026-04-01"), "not before the anchor"


@given(
    zone=st.sampled_from(zones.names()),
    moment=st.integers(980_000_000, 3_786_000_000).map(lambda second: dt.datetime.fromtimestamp(second, dt.UTC)),
    unit=st.sampled_from(sorted(periods.LONGEST)),
    every=st.integers(1, 60),
    anchor=st.dates(dt.date(2000, 1, 1), dt.date(2100, 12, 31)),
)
def test_every_moment_lies_in_one_period_and_periods_follow_each_other(
    zone: str, moment: dt.datetime, unit: str, every: int, anchor: dt.date
) -> None:
    rhythm = periods.rhythm("custom", zone, every, unit, anchor)
    start, end = periods.start_of(rhythm, moment), periods.following(rhythm, moment)
    assert start <= moment < end
    assert periods.following(rhythm, start) == end
    assert periods.start_of(rhythm, end) == end
    assert periods.previous(rhythm, end) == start
    assert periods.start_of(rhythm, end - dt.timedelta(microseconds=1)) == start


@pytest.mark.parametrize(
    "given",
    [
        ("hourly",),
        ("daily", "Europe/Atlantis"),
        ("daily", "../../etc/passwd"),
        ("daily", "", 2),
        ("monthly", "", None, "", dt.date(2026, 1, 1)),
        ("custom", "", 0, "days", dt.date(2026, 1, 1)),
        ("custom", "", 367, "days", dt.date(2026, 1, 1)),
        ("custom", "", 3, "hours", dt.date(2026, 1, 1)),
        ("custom", "", 3, "months"),
        ("custom", "", 3, "months", dt.date(1999, 12, 31)),
    ],
)
def test_a_rhythm_that_cannot_be_is_refused_with_what_to_write(given: tuple[object, ...]) -> None:
    with pytest.raises(errors.QueryInvalid):
        periods.rhythm(*given)  # type: ignore[arg-type]
