"""When reports are due: from our own table, so that a stopped worker or a missed tick makes a report late, never lost.

Periods are whole UTC days, weeks (from Monday), months, quarters or years, half-open. Each due period becomes one
queued report under a unique key, however many ticks or workers ask.
"""

from __future__ import annotations

import datetime as dt

from django.db import transaction

from lineage import errors, ledger
from lineage.access import Viewer
from reports import controls
from reports.models import Cadence, Report, Schedule, Status

CATCH_UP_MOST = 400
Scope = tuple[str, tuple[str, ...]]


def start_of(cadence: str, moment: dt.datetime) -> dt.datetime:
    """The start of the period of this cadence that holds `moment`."""
    day = moment.astimezone(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    match cadence:
        case Cadence.DAILY:
            return day
        case Cadence.WEEKLY:
            return day - dt.timedelta(days=day.weekday())
        case Cadence.MONTHLY:
            return day.replace(day=1)
        case Cadence.QUARTERLY:
            return day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1)
        case Cadence.YEARLY:
            return day.replace(month=1, day=1)
    raise ValueError(f"{cadence} has no periods")


def following(cadence: str, start: dt.datetime) -> dt.datetime:
    """The start of the next period: the longest period is a leap year, and 367 days reach past every one."""
    days = {Cadence.DAILY: 1, Cadence.WEEKLY: 7, Cadence.MONTHLY: 31, Cadence.QUARTERLY: 92, Cadence.YEARLY: 366}
    return start_of(cadence, start + dt.timedelta(days=days[Cadence(cadence)]))


def previous(cadence: str, start: dt.datetime) -> dt.datetime:
    return start_of(cadence, start - dt.timedelta(microseconds=1))


def add(
    who: Viewer,
    name: str,
    kind: str,
    cadence: str,
    *,
    run_at: dt.datetime | None = None,
    period: tuple[dt.datetime, dt.datetime] | None = None,
    scope: Scope = ("", ()),
    now: dt.datetime | None = None,
) -> Schedule:
    """A new schedule, recorded in the log as configuration. Raises QueryInvalid naming what is missing or wrong."""
    now = now or dt.datetime.now(dt.UTC)
    controls.kind(kind)
    if cadence not in Cadence.values:
        raise errors.QueryInvalid(f"The cadence is one of {', '.join(Cadence.values)}.")
    if not name.strip() or Schedule.objects.filter(name=name).exists():
        raise errors.QueryInvalid("Give the schedule a name that no other has.")
    if cadence == Cadence.ONCE:
        if period is None:
            raise errors.QueryInvalid("A report that is due once needs its period: from and to.")
        check_period(*period)
        due = max(run_at or period[1], period[1])
    else:
        if period is not None or run_at is not None:
            raise errors.QueryInvalid("A repeated report covers its last whole period; leave from, to and run-at out.")
        due = following(cadence, start_of(cadence, now))
    environment, datasources = scope
    with transaction.atomic():
        words = f"added: {kind} {cadence}, due {due.isoformat()}"
        ledger.record_decision("configuration", decided_by=who.email, subject=f"schedule {name}", transition=words)
        return Schedule.objects.create(
            name=name, kind=kind, cadence=cadence, environment=environment, datasources=list(datasources),
            period_from=period[0] if period else None, period_to=period[1] if period else None,
            next_due_at=due, created_by=who.email,
        )  # fmt: skip


def check_period(since: dt.datetime, until: dt.datetime) -> None:
    """Raises QueryInvalid unless the period has a length."""
    if since >= until:
        raise errors.QueryInvalid("The period ends before it begins.")


def queue_due(now: dt.datetime) -> list[int]:
    """Makes one queued report for each due period of each schedule; returns their ids. Safe to call at any time."""
    made: list[int] = []
    with transaction.atomic():
        due = Schedule.objects.select_for_update(skip_locked=True).filter(enabled=True, next_due_at__lte=now)
        for schedule in due.order_by("next_due_at"):
            made += _queue(schedule, now)
    return made


def _queue(schedule: Schedule, now: dt.datetime) -> list[int]:
    made = []
    for _ in range(CATCH_UP_MOST):
        due = schedule.next_due_at
        if due is None or due > now:
            break
        if schedule.cadence == Cadence.ONCE:
            since, until, schedule.next_due_at = schedule.period_from, schedule.period_to, None
        else:
            since, until = previous(schedule.cadence, due), due
            schedule.next_due_at = following(schedule.cadence, due)
        assert since is not None
        assert until is not None
        report, created = Report.objects.get_or_create(
            schedule=schedule,
            period_from=since,
            period_to=until,
            defaults={
                "kind": schedule.kind,
                "environment": schedule.environment,
                "datasources": schedule.datasources,
                "created_by": schedule.created_by,
            },
        )
        if created:
            made.append(report.pk)
    schedule.save(update_fields=["next_due_at"])
    return made


def waiting() -> list[int]:
    """Ids of reports that are queued, oldest first."""
    return list(Report.objects.filter(status=Status.QUEUED).order_by("pk").values_list("pk", flat=True))
