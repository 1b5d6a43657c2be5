"""Dueness: periods of the calendar, late but never lost, once however often asked."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import threading

import pytest
from django.db import connection

from lineage import errors, queries
from lineage.access import Viewer
from reports import periods, schedules
from reports.models import Occurrence, Report

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
    rhythm = periods.rhythm(cadence)
    assert periods.start_of(rhythm, utc(moment)) == utc(start)
    assert periods.following(rhythm, utc(start)) == utc(following)
    assert periods.previous(rhythm, utc(following)) == utc(start)


@pytest.mark.parametrize("cadence", ["daily", "weekly", "monthly", "quarterly", "yearly"])
def test_periods_follow_each_other_without_gap_for_thirty_years(cadence: str) -> None:
    rhythm = periods.rhythm(cadence)
    start = periods.start_of(rhythm, utc("2020-02-29"))
    while start.year < 2050:
        following = periods.following(rhythm, start)
        assert following > start
        assert periods.previous(rhythm, following) == start
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
    made.period_from, made.period_to, made.next_due_at = utc("2026-11-20"), utc("2026-11-21"), utc("2026-11-21")
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


def spans() -> list[str]:
    """Every period that has a row, in order, with its report or why there is none."""
    found = Occurrence.objects.order_by("period_from")
    return [f"{o.period_from:%m-%dT%H} {o.period_to:%m-%dT%H} {'made' if o.report else o.skipped}" for o in found]


@pytest.mark.usefixtures("store")
def test_a_week_of_downtime_over_the_clock_change_makes_each_local_day_once() -> None:
    berlin = periods.rhythm("daily", "Europe/Berlin")
    schedules.add(WHO, "daily", "privileged-access", "daily", rhythm=berlin, now=utc("2026-10-22T12:00"))
    assert schedules.queue_due(utc("2026-10-22T21:59")) == []
    assert len(schedules.queue_due(utc("2026-10-22T22:00"))) == 1
    assert len(schedules.queue_due(utc("2026-10-29T23:30"))) == 7
    assert schedules.queue_due(utc("2026-10-29T23:30")) == []
    found = list(Report.objects.order_by("pk").values_list("period_from", "period_to"))
    assert all(before[1] == after[0] for before, after in itertools.pairwise(found)), "no gap, no overlap"
    assert [(end - start) // dt.timedelta(hours=1) for start, end in found] == [24, 24, 24, 25, 24, 24, 24, 24]
    assert found[0][0] == utc("2026-10-21T22:00")
    assert found[-1][1] == utc("2026-10-29T23:00")


@pytest.mark.usefixtures("store")
def test_many_workers_that_ask_at_once_make_each_report_once() -> None:
    for name in ("one", "two", "three"):
        schedules.add(WHO, name, "privileged-access", "weekly", now=utc("2026-10-01"))
    start, made = threading.Barrier(4), []

    def worker() -> None:
        start.wait()
        made.extend(schedules.queue_due(utc("2026-11-21")))
        connection.close()

    workers = [threading.Thread(target=worker) for _ in range(4)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    made.extend(schedules.queue_due(utc("2026-11-21")))
    assert len(made) == len(set(made)) == Report.objects.count() == Occurrence.objects.count() == 3 * 7


@pytest.mark.usefixtures("store")
def test_what_was_paused_goes_on_with_or_without_what_was_due_meanwhile() -> None:
    made = schedules.add(WHO, "weekly", "privileged-access", "weekly", now=utc("2026-10-05"))
    schedules.pause(WHO, made.pk)
    with pytest.raises(errors.AlreadyDone):
        schedules.pause(WHO, made.pk)
    assert schedules.queue_due(utc("2026-10-20")) == []
    schedules.resume(WHO, made.pk, catch_up=False, now=utc("2026-10-20"))
    assert schedules.queue_due(utc("2026-10-20")) == []
    why = "Paused; carla@example.test let it go on without this period."
    assert spans() == [f"10-05T00 10-12T00 {why}", f"10-12T00 10-19T00 {why}"]
    schedules.pause(WHO, made.pk)
    schedules.resume(WHO, made.pk, catch_up=True, now=utc("2026-11-03"))
    assert len(schedules.queue_due(utc("2026-11-03"))) == 2
    assert spans()[2:] == ["10-19T00 10-26T00 made", "10-26T00 11-02T00 made"]
    skipped = Occurrence.objects.order_by("period_from").first()
    assert skipped is not None
    report = schedules.run(WHO, made.pk, skipped.pk, now=utc("2026-11-03"))
    assert Report.objects.get(pk=report).period_from == utc("2026-10-05")
    with pytest.raises(errors.AlreadyDone):
        schedules.run(WHO, made.pk, skipped.pk, now=utc("2026-11-03"))
    said = [row["decision"]["transition"] for row in queries.events(WHO, "kind:decision").items]
    assert [words.split(":")[0] for words in said] == ["added", *["changed"] * 4, "added"][::-1]
    assert "changed: on yes → no" in said
    assert said[0].startswith("added: made now PA-")


@pytest.mark.usefixtures("store")
def test_run_now_makes_the_last_whole_period_and_the_tick_makes_it_no_second_time() -> None:
    made = schedules.add(WHO, "monthly", "privileged-access", "monthly", now=utc("2026-11-15"))
    first = Report.objects.get(pk=schedules.run(WHO, made.pk, now=utc("2026-11-15")))
    assert (first.period_from, first.period_to) == (utc("2026-10-01"), utc("2026-11-01"))
    with pytest.raises(errors.AlreadyDone):
        schedules.run(WHO, made.pk, now=utc("2026-11-16"))
    second = schedules.run(WHO, made.pk, now=utc("2026-12-01T00:00:01"))
    assert schedules.queue_due(utc("2026-12-01T00:01")) == []
    assert Report.objects.get(pk=second).period_from == utc("2026-11-01")
    Report.objects.filter(pk=second).update(status="failed", reasons=["The store had no room for the file."])
    assert schedules.run(WHO, made.pk, now=utc("2026-12-02")) == second
    assert [r.status for r in Report.objects.order_by("pk")] == ["queued", "queued"]


@pytest.mark.usefixtures("store")
def test_a_new_rhythm_or_zone_begins_where_the_old_one_ended_and_leaves_no_hour_out() -> None:
    made = schedules.add(WHO, "one", "privileged-access", "monthly", now=utc("2026-09-10"))
    assert len(schedules.queue_due(utc("2026-10-14"))) == 1
    weekly = schedules.Wanted("privileged-access", "weekly", periods.rhythm("weekly", "Europe/Berlin"))
    schedules.change(Viewer("dora@example.test", "compliance"), made.pk, weekly)
    assert len(schedules.queue_due(utc("2026-10-14"))) == 2
    assert spans() == ["09-01T00 10-01T00 made", "10-01T00 10-04T22 made", "10-04T22 10-11T22 made"]
    assert {r.created_by for r in Report.objects.all()} == {"carla@example.test", "dora@example.test"}
    changed = queries.events(WHO, "kind:decision").items[0]
    assert "how often every month, UTC → every week, Europe/Berlin" in changed["decision"]["transition"]
    assert "in the name of carla@example.test → dora@example.test" in changed["decision"]["transition"]
    whole = json.loads(changed["statement"])
    assert whole["old"]["next period"] == "2026-10-01T00:00:00+00:00 to 2026-11-01T00:00:00+00:00"
    once = schedules.Wanted("privileged-access", "once", period=(utc("2026-01-01"), utc("2026-01-02")))
    with pytest.raises(errors.QueryInvalid):
        schedules.change(WHO, made.pk, once)


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
