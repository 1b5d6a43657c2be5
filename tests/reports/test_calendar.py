"""What was due and what became of it; the pages of schedules show it, and do what their buttons say."""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import Any

import pytest
from django.test import Client
from procrastinate.contrib.django.models import ProcrastinateJob

from lineage import due, queries
from lineage.access import Viewer
from lineage.models import User
from reports import calendar, periods, recipients, schedules
from reports.models import Occurrence, Recipient, Report, Schedule
from tests import story

pytestmark = pytest.mark.slow

CARLA = Viewer("carla@compliance.example", "compliance")
NAME = '<script>alert(1)</script> "; drop'
ODD = '<script>alert(1)</script> ‮"; drop'


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def planned() -> Schedule:
    """Ten weeks of a schedule on the clock of Berlin: of some the report is done, of others not."""
    berlin = periods.rhythm("weekly", "Europe/Berlin")
    scope = ("production", ("orders-prod",))
    made = schedules.add(CARLA, NAME, "privileged-access", "weekly", rhythm=berlin, scope=scope, now=utc("2026-09-10"))
    schedules.queue_due(utc("2026-10-26T12:00"))
    states = ("final", "final", "failed", "draft", "final", "blocked", "queued")
    for number, report in enumerate(Report.objects.order_by("pk")):
        report.status = states[number]
        report.issued_at = report.period_to + dt.timedelta(days=4 if number == 1 else 1)
        report.reasons = [] if states[number] in ("final", "queued") else [f"Because of {ODD}"]
        report.save()
    return made


def told(cells: Any) -> list[str]:
    return [
        f"{schedules.days_of(cell.schedule, cell.period_from, cell.period_to)}: {cell.state}; {cell.why}"
        for cell in cells
    ]


def test_each_period_is_done_late_missing_due_or_planned_by_the_days_that_its_schedule_says(store: str) -> None:
    made = planned()
    now = utc("2026-10-26T12:00")
    (line,) = calendar.lines(CARLA, utc("2026-01-01"), utc("2026-11-20"), now)
    assert told(line.cells) == [
        "7 Sep to 13 Sep 2026: done; ",
        "14 Sep to 20 Sep 2026: done late; ",
        f"21 Sep to 27 Sep 2026: missing; Failed: Because of {ODD}",
        f"28 Sep to 4 Oct 2026: late; Draft: Because of {ODD}",
        "5 Oct to 11 Oct 2026: done; ",
        f"12 Oct to 18 Oct 2026: late; Blocked: Because of {ODD}",
        "19 Oct to 25 Oct 2026: due; Queued.",
        "26 Oct to 1 Nov 2026: planned; ", "2 Nov to 8 Nov 2026: planned; ", "9 Nov to 15 Nov 2026: planned; ",
    ]  # fmt: skip
    assert [cell.state for cell in calendar.wanting(CARLA, utc("2026-10-01"), now)] == ["late", "late"]
    down = calendar.of(made, utc("2026-11-09T12:00"), 1)
    assert told(down)[3:5] == [
        "2 Nov to 8 Nov 2026: due; No worker has begun it.", "26 Oct to 1 Nov 2026: late; No worker has begun it.",
    ]  # fmt: skip
    draft = Report.objects.get(status="draft")
    again = {
        name: getattr(draft, name)
        for name in ("kind", "period_from", "period_to", "environment", "datasources", "created_by")
    }
    later = Report.objects.create(supersedes=draft, status="final", issued_at=now, **again)
    (line,) = calendar.lines(CARLA, utc("2026-10-01"), utc("2026-10-06"), now)
    assert [(cell.state, cell.report) for cell in line.cells if cell.report] == [("done late", later)]
    schedules.pause(CARLA, made.pk)
    made.refresh_from_db()
    assert told(calendar.coming(made, utc("2026-11-03"))) == ["26 Oct to 1 Nov 2026: missing; The schedule is paused."]
    schedules.resume(CARLA, made.pk, catch_up=False, now=utc("2026-11-03"))
    (line,) = calendar.lines(CARLA, utc("2026-10-27"), utc("2026-11-03"), utc("2026-11-03"))
    why = "Paused; carla@compliance.example let it go on without this period."
    assert told(line.cells)[0] == f"26 Oct to 1 Nov 2026: missing; {why}"
    since, until = utc("2026-01-01"), utc("2026-12-01")
    narrow = Viewer("n@x.test", "auditor", ("orders-prod",), from_at=utc("2026-10-01"), until_at=utc("2026-10-19"))
    (seen,) = calendar.lines(narrow, since, until, now)
    assert [text.split(":")[0] for text in told(seen.cells)] == ["5 Oct to 11 Oct 2026", "12 Oct to 18 Oct 2026"]
    for blind in (Viewer("o@x.test", "operator"), Viewer("h@x.test", "auditor", ("hr-prod",))):
        assert calendar.lines(blind, since, until, now) == []


def signed_in(email: str, role: str = "auditor", **more: Any) -> Client:
    client = Client()
    client.force_login(story.person(email, role, **more))
    return client


def test_the_pages_make_pause_send_and_run_and_say_what_they_did(store: str) -> None:
    story.tell(dt.datetime.now(dt.UTC) - dt.timedelta(hours=1))
    carla, alice = signed_in(CARLA.email, "compliance"), signed_in("alice@audit.example")
    form = {
        "name": NAME, "kind": "privileged-access", "cadence": "custom", "every": "2", "unit": "weeks", "anchor": "2026-01-05",
        "zone": "Europe/Berlin", "environment": "production", "datasources": "orders-prod", "late_days": "5",
    }  # fmt: skip
    refused = (
        {"every": "two"}, {"anchor": "soon"}, {"zone": "Mars/Olympus"}, {"late_days": "0"}, {"unit": "hours"}, {"name": ODD},
        {"kind": "x"},
    )  # fmt: skip
    for wrong in refused:
        assert carla.post("/reports/schedules/", form | wrong).status_code in (400, 404, 422), wrong
    assert alice.post("/reports/schedules/", form).status_code == 403
    assert not Schedule.objects.exists()
    where = carla.post("/reports/schedules/", form)["Location"]
    made = Schedule.objects.get()
    assert (made.every, made.unit, made.late_days, made.created_by) == (2, "weeks", 5, CARLA.email)
    assert made.period_from is not None
    before = {"period_from": made.period_from - dt.timedelta(days=14), "period_to": made.period_from}
    Schedule.objects.update(next_due_at=made.period_from, **before)
    for act, more in (("send", {"recipient": "alice@audit.example", "attach": "1"}), ("pause", {}), ("run", {})):
        assert carla.post(where, {"act": act, **more}).status_code == 302, act
    report = Report.objects.get()
    assert (report.schedule, report.period_to) == (made, made.period_from)
    assert ProcrastinateJob.objects.filter(args={"report_id": report.pk}).exists()
    Report.objects.update(status="failed", reasons=["No room."])
    page = carla.get(where).content.decode()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    for words in ("every 2 weeks from Mon 5 Jan 2026, Europe/Berlin, paused", "alice@audit.example", "with the file"):
        assert words in page, words
    occurrence = Occurrence.objects.get()
    assert f'value="run:{occurrence.pk}"' in page
    assert carla.post(where, {"act": f"run:{occurrence.pk}"})["Location"] == f"/reports/{report.pk}/"
    assert carla.post(where, {"act": f"run:{occurrence.pk}"}).status_code == 409
    for bad in ("", "explode", "run:9999", "run:x", "unsend:", "unsend:77"):
        assert carla.post(where, {"act": bad}).status_code in (400, 404), bad
    weekly = {name: form[name] for name in ("kind", "zone", "environment", "datasources")} | {"cadence": "weekly"}
    assert carla.post(where, weekly | {"act": "change"}).status_code == 302
    assert carla.post(where, {"act": f"unsend:{Recipient.objects.get().pk}"}).status_code == 302
    assert carla.post(where, {"act": "resume"}).status_code == 302
    made.refresh_from_db()
    assert (made.cadence, made.every, made.enabled, recipients.of(made)) == ("weekly", None, True, [])
    assert "1 schedule of reports is on" in carla.get("/reports/schedules/").content.decode()
    said = [
        row
        for row in queries.events(CARLA, "kind:decision source:touchstone").items
        if row["decision"]["type"] == "configuration"
    ]
    mine = [
        row["decision"]["transition"].split(":")[0]
        for row in said
        if row["decision"]["subject"] == f"schedule {made.name}"
    ]
    assert mine[::-1] == ["added", "changed", "changed", "added", "added", "changed", "changed", "changed"]
    assert json.loads(said[0]["statement"])["new"]["on"] is True


def test_the_calendar_is_read_by_those_who_may_see_the_reports_and_the_overview_tells_what_is_late(store: str) -> None:
    made = planned()
    Occurrence.objects.update(due_at=dt.datetime.now(dt.UTC) - dt.timedelta(days=9))
    alice, hana = signed_in("alice@audit.example"), signed_in("hana@hr.example", "compliance", datasources=["hr-prod"])
    operator = signed_in("olga@ops.example", "operator")
    page = alice.get("/reports/calendar/").content.decode()
    assert re.search(r"<h1>\d+ of \d+ reports that were due are done</h1>", page)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script>alert" not in page
    assert f"/reports/schedules/{made.pk}/" not in page, "an auditor sets no schedules"
    assert "Blocked: Because of" in page
    listed = alice.get("/api/v1/reports/calendar?q=late&environment=production").json()
    assert {one["state"] for one in listed["items"]} == {"late"}
    assert {"PA-0004", "PA-0006", "PA-0007"} <= {one["report"] for one in listed["items"]}
    assert listed["items"][0]["schedule"] == NAME
    assert hana.get("/api/v1/reports/calendar").json()["items"] == []
    assert alice.get("/api/v1/reports/calendar?state=late").status_code == 400
    for stranger in (hana, operator):
        text = stranger.get("/reports/calendar/").content.decode()
        assert "Nothing is scheduled" in text
        assert "alert(1)" not in text
    assert hana.get(f"/reports/schedules/{made.pk}/").status_code == 404
    assert alice.get(f"/reports/schedules/{made.pk}/").status_code == 403
    for act in ("pause", "run", "send"):
        assert hana.post(f"/reports/schedules/{made.pk}/", {"act": act}).status_code == 404
        assert alice.post(f"/reports/schedules/{made.pk}/", {"act": act}).status_code == 403
    made.refresh_from_db()
    assert made.enabled
    waiting = [one for one in due.listed(CARLA) if one.is_stuck and one.address == f"/reports/schedules/{made.pk}/"]
    assert {one.state for one in waiting} == {"late", "missing"}
    assert not [one for one in due.listed(Viewer("hana@hr.example", "compliance", ("hr-prod",))) if NAME in one.label]
    assert User.objects.filter(email="hana@hr.example").exists()
