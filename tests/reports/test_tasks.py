"""The worker: takes what is queued, once; and what a killed worker left behind runs again, but not for ever."""

from __future__ import annotations

import asyncio
import datetime as dt

import pytest
from django.db import connection
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob

from lineage.access import Viewer
from lineage.models import Source
from reports import requests, schedules, tasks
from reports.evidence import Request
from reports.models import Report, Status

pytestmark = pytest.mark.slow
DAY = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)
WHO = Viewer(email="gone@example.test", role="compliance")


@pytest.fixture
def report(store: str) -> Report:
    Source.objects.create(name="log", format="postgres-csvlog", environment="prod", datasource="orders")
    return requests.ask(WHO, Request("privileged-access", DAY, DAY + dt.timedelta(days=1)))


def work() -> None:
    """One worker until nothing is left to do."""

    async def run() -> None:
        with app.replace_connector(app.connector.get_worker_connector()) as working:
            async with working.open_async():
                await working.run_worker_async(wait=False, install_signal_handlers=False, listen_notify=False)

    asyncio.run(run())


def killed(report: Report, attempts: int) -> None:
    """A job that its worker, not heard for a minute, was doing."""
    tasks.enqueue(report.pk)
    Report.objects.filter(pk=report.pk).update(status=Status.RUNNING)
    with connection.cursor() as cursor:
        cursor.execute(
            "insert into procrastinate_workers (last_heartbeat) values (now() - interval '60 s') returning id"
        )
        worker = cursor.fetchone()[0]
        cursor.execute(
            "update procrastinate_jobs set status = 'doing', attempts = %s, worker_id = %s", [attempts, worker]
        )


def job() -> ProcrastinateJob:
    return ProcrastinateJob.objects.get(task_name="reports.make")


def test_asking_twice_for_a_report_makes_one_job(report: Report) -> None:
    tasks.enqueue(report.pk)
    tasks.enqueue(report.pk)
    assert ProcrastinateJob.objects.count() == 1


def test_a_worker_makes_what_is_queued_and_a_deliberate_error_is_on_the_report(report: Report) -> None:
    tasks.enqueue(report.pk)
    work()
    report.refresh_from_db()
    assert report.status == Status.FAILED
    assert report.reasons == ["gone@example.test may no longer ask for reports."]
    assert job().status == "succeeded"


def test_a_tick_queues_what_is_due_and_makes_sure_that_it_has_a_job(store: str) -> None:
    schedules.add(WHO, "daily", "privileged-access", "daily", now=dt.datetime.now(dt.UTC) - dt.timedelta(days=1))
    tasks.tick(0)
    tasks.tick(0)
    report = Report.objects.get()
    assert [job.args for job in ProcrastinateJob.objects.all()] == [{"report_id": report.pk}]


def test_a_killed_job_runs_again(report: Report) -> None:
    killed(report, attempts=1)
    tasks.rescue.defer(timestamp=0)
    work()
    report.refresh_from_db()
    assert report.reasons == ["gone@example.test may no longer ask for reports."]
    assert (job().status, job().attempts) == ("succeeded", 3)


def test_a_job_that_kills_its_worker_again_and_again_is_given_up(report: Report) -> None:
    killed(report, attempts=tasks.RESCUES_MOST + 1)
    tasks.rescue.defer(timestamp=0)
    work()
    report.refresh_from_db()
    assert report.status == Status.FAILED
    assert report.reasons == ["The worker was stopped each time while it made this report."]
    assert job().status == "failed"
