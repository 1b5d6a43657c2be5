"""Background work: a tick that queues due reports, the making of one report, and the rescue of killed jobs.

All use of procrastinate is here. A job that was killed stays `doing` for ever and blocks its lock, so a periodic task
of ours puts it back; after three rescues the report is failed, or a job that kills its worker would loop for ever.
"""

from __future__ import annotations

import datetime as dt
import logging

from asgiref.sync import sync_to_async
from django.db import close_old_connections
from procrastinate import JobContext
from procrastinate.contrib.django import app
from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.jobs import Job
from procrastinate.jobs import Status as JobStatus

from lineage import errors
from reports import issuing, reviews, schedules, supplements
from reports.models import Report, Status

STALLED_SECONDS = 30
RESCUES_MOST = 3
log = logging.getLogger("touchstone.reports")


@app.periodic(cron="* * * * *")
@app.task(name="reports.tick", queueing_lock="reports.tick")
def tick(timestamp: int) -> None:
    """Every minute: queue what is due, see to sign-offs that are late, and make sure that a job exists for everything queued."""
    close_old_connections()
    now = dt.datetime.now(dt.UTC)
    schedules.queue_due(now)
    reviews.escalate(now)
    for report_id in schedules.waiting():
        enqueue(report_id)


@app.periodic(cron="17 * * * *")
@app.task(name="reports.late", queueing_lock="reports.late")
def late(timestamp: int) -> None:
    """Every hour: queue a supplement for each final report of whose period anything came since."""
    close_old_connections()
    for report_id in supplements.queue_late():
        enqueue(report_id)


def enqueue(report_id: int) -> None:
    """Asks a worker to make a report; asking twice is one job."""
    try:
        make.configure(lock="reports.make", queueing_lock=f"reports.make.{report_id}").defer(report_id=report_id)
    except AlreadyEnqueued:
        log.debug("report %s already waits for a worker", report_id)


@app.task(name="reports.make")
def make(report_id: int) -> None:
    """Makes one queued report, one at a time. A deliberate error is told on the report's page."""
    close_old_connections()
    report = issuing.claim(report_id)
    if report is None:
        return
    try:
        issuing.issue(report)
    except errors.TouchstoneError as error:
        log.warning("report %s: %s", report.number, error.code)


@app.periodic(cron="* * * * *")
@app.task(name="reports.rescue", queueing_lock="reports.rescue", pass_context=True)
async def rescue(context: JobContext, timestamp: int) -> None:
    """Every minute: jobs whose worker was killed run again, at most three times."""
    manager = context.app.job_manager
    for job in await manager.get_stalled_jobs(seconds_since_heartbeat=STALLED_SECONDS):
        if job.attempts > RESCUES_MOST:
            await _give_back(job, Status.FAILED, ["The worker was stopped each time while it made this report."])
            await manager.finish_job(job, JobStatus.FAILED, delete_job=False)
        else:
            await _give_back(job, Status.QUEUED, [])
            await manager.retry_job(job)


@sync_to_async
def _give_back(job: Job, status: Status, reasons: list[str]) -> None:
    """The report of a killed job, if it has one, stands where `status` says."""
    close_old_connections()
    report_id = job.task_kwargs.get("report_id")
    if isinstance(report_id, int):
        Report.objects.filter(pk=report_id, status=Status.RUNNING).update(status=status, reasons=reasons)
