"""Dueness: periods of the calendar, late but never lost, once however often asked."""

from __future__ import annotations

import datetime as dt
import itertools

import pytest

from lineage import errors, queries
from lineage.access import Viewer
from reports import schedules
from reports.models import Report

WHO = Viewer(email="carla@example.test", role="compliance")


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("cadence", "moment", "start", "following"),
    [
        ("daily", "2026-11-21T05:00", "2026-11-21", "2026-11-22"),
        ("weekly", "2026-11-21T05:00", "2026-11-16", "2026-11-23"),
        ("monthly", "2026-01-31T23:59", "2026-01-01", "2026-02-01"),
        ("monthly", "2028-02-29", "2028-02-01", "2028-03-01"),
        ("quarterly", "2026-11-21", "2026-10-01", "2027-01-01"),
        ("yearly", "2028-12-31T23:59", "2028-01-01", "2029-01-01"),
    ],
)
def test_a_period_begins_and_ends_where_the_calendar_says(
    cadence: str, moment: str, start: str, following: str
) -> None:
    assert schedules.start_of(cadence, utc(moment)) == utc(start)
    assert schedules.following(cadence, utc(start)) == utc(following)
    assert schedules.previous(cadence, utc(following)) == utc(start)


@pytest.mark.parametrize("cadence", ["daily", "weekly", "monthly", "quarterly", "yearly"])
def test_periods_follow_each_other_without_gap_for_thirty_years(cadence: str) -> None:
    start = schedules.start_of(cadence, utc("2020-02-29"))
    while start.year < 2050:
        following = schedules.following(cadence, start)
        assert following > start
        assert schedules.previous(cadence, following) == start
        start = following


@pytest.mark.usefixtures("store")
def test_a_stopped_worker_makes_reports_late_and_loses_none() -> None:
    schedules.add(WHO, "monthly", "privileged-access", "monthly", now=utc("2026-07-15"))
    assert schedules.queue_due(utc("2026-07-31T23:59")) == []
    assert len(schedules.queue_due(utc("2026-11-21"))) == 4
    periods = list(Report.objects.order_by("pk").values_list("period_from", "period_to"))
    months = [utc(f"2026-{month:02d}-01") for month in range(7, 12)]
    assert periods == list(itertools.pairwise(months))


@pytest.mark.usefixtures("store")
def test_asking_again_makes_no_second_report_of_a_period() -> None:
    made = schedules.add(WHO, "daily", "privileged-access", "daily", now=utc("2026-11-20T12:00"))
    assert len(schedules.queue_due(utc("2026-11-21T00:00"))) == 1
    assert schedules.queue_due(utc("2026-11-21T00:01")) == []
    made.refresh_from_db()
    made.next_due_at = utc("2026-11-21")
    made.save()
    assert schedules.queue_due(utc("2026-11-21T00:02")) == []
    assert Report.objects.count() == 1


@pytest.mark.usefixtures("store")
def test_a_report_due_once_covers_its_own_period_and_never_comes_again() -> None:
    period = (utc("2026-11-20T10:00"), utc("2026-11-20T11:00"))
    schedules.add(
        WHO,
        "audit",
        "privileged-access",
        "once",
        period=period,
        run_at=utc("2026-11-20T11:05"),
        scope=("prod", ("orders",)),
    )
    assert schedules.queue_due(utc("2026-11-20T11:04")) == []
    (made,) = schedules.queue_due(utc("2026-11-22"))
    report = Report.objects.get(pk=made)
    assert (report.period_from, report.period_to, report.environment, report.datasources) == (
        *period,
        "prod",
        ["orders"],
    )
    assert schedules.queue_due(utc("2027-11-22")) == []


@pytest.mark.usefixtures("store")
def test_a_schedule_that_is_off_makes_nothing() -> None:
    made = schedules.add(WHO, "daily", "privileged-access", "daily", now=utc("2026-11-20T12:00"))
    made.enabled = False
    made.save()
    assert schedules.queue_due(utc("2026-11-25")) == []


@pytest.mark.usefixtures("store")
def test_a_new_schedule_is_a_configuration_record_and_a_wrong_one_is_refused_without() -> None:
    for fields in (
        {"kind": "unknown", "cadence": "daily"},
        {"kind": "privileged-access", "cadence": "hourly"},
        {"kind": "privileged-access", "cadence": "once"},
        {"kind": "privileged-access", "cadence": "once", "period": (utc("2026-11-21"), utc("2026-11-21"))},
        {"kind": "privileged-access", "cadence": "daily", "period": (utc("2026-11-20"), utc("2026-11-21"))},
    ):
        with pytest.raises(errors.QueryInvalid):
            schedules.add(WHO, "name", **fields)
    assert queries.events(WHO, "kind:decision").items == []
    schedules.add(WHO, "name", "privileged-access", "daily")
    (recorded,) = queries.events(WHO, "kind:decision").items
    assert recorded["decision"]["type"] == "configuration"
    assert recorded["decision"]["subject"] == "schedule name"
    with pytest.raises(errors.QueryInvalid):
        schedules.add(WHO, "name", "privileged-access", "daily")
