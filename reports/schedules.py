"""Schedules of reports: made, set otherwise, paused; and what of them is due, from our own table.

A stopped worker or a missed tick makes a report late, never lost. Each due period is one row under a unique key and one
queued report, however many ticks or workers ask. A period begins where the one before ended, also when the rhythm changed.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
import logging
from collections.abc import Sequence
from typing import Any

from django.db import DatabaseError, transaction

from lineage import configuration, errors
from lineage.access import Viewer
from reports import controls, periods
from reports.models import Cadence, Occurrence, Report, Schedule, Status
from reports.periods import Period, Rhythm

CATCH_UP_MOST = 400
LATE_DAYS = 3
Scope = tuple[str, tuple[str, ...]]
log = logging.getLogger("touchstone.reports")


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What a schedule is to be: the rhythm of a repeated one, or the period of one that is due once, and when."""

    kind: str
    cadence: str
    rhythm: Rhythm | None = None
    period: Period | None = None
    run_at: dt.datetime | None = None
    scope: Scope = ("", ())
    late_days: int = LATE_DAYS


def rhythm_of(schedule: Schedule) -> Rhythm:
    """The rhythm of a repeated schedule."""
    return periods.rhythm(schedule.cadence, schedule.zone, schedule.every, schedule.unit, schedule.anchor)


def words_of(schedule: Schedule) -> str:
    """How often, in words."""
    return "once" if schedule.cadence == Cadence.ONCE else rhythm_of(schedule).words


def days_of(schedule: Schedule, start: dt.datetime, end: dt.datetime) -> str:
    """A period in words: the whole days of the schedule's zone; of what is due once its times."""
    if schedule.cadence == Cadence.ONCE:
        return f"{start:%-d %b %Y %H:%M} to {end:%-d %b %Y %H:%M} UTC"
    rhythm = rhythm_of(schedule)
    first, last = periods.day_of(rhythm, start), periods.day_of(rhythm, end - dt.timedelta(microseconds=1))
    shown = f"{first:%-d %b %Y}" if first.year != last.year or first == last else f"{first:%-d %b}"
    return shown if first == last else f"{shown} to {last:%-d %b %Y}"


def add(
    who: Viewer,
    name: str,
    kind: str,
    cadence: str,
    *,
    rhythm: Rhythm | None = None,
    run_at: dt.datetime | None = None,
    period: Period | None = None,
    scope: Scope = ("", ()),
    late_days: int = LATE_DAYS,
    now: dt.datetime | None = None,
) -> Schedule:
    """A new schedule, recorded in the log as configuration. Raises QueryInvalid naming what is missing or wrong."""
    wanted = _checked(Wanted(kind, cadence, rhythm, period, run_at, scope, late_days))
    if not 0 < len(name) <= 100 or not name.isprintable() or name != name.strip() or _is_taken(name):
        raise errors.QueryInvalid("Give the schedule a name of up to 100 characters that no other has.")
    schedule = Schedule(name=name, created_by=who.email)
    _put(schedule, wanted)
    _begin(schedule, wanted, now or dt.datetime.now(dt.UTC))
    with transaction.atomic():
        configuration.record(who.email, subject_of(schedule), None, told(schedule))
        schedule.save()
    return schedule


def change(who: Viewer, number: int, wanted: Wanted, now: dt.datetime | None = None) -> Schedule:
    """Sets a schedule otherwise; its reports are made in the name of who did. Raises QueryInvalid.

    A new rhythm takes over where the old one's last period ended: the first period may be shorter or longer, and none is
    left out or told twice.
    """
    wanted = _checked(wanted)
    with transaction.atomic():
        schedule = Schedule.objects.select_for_update().get(pk=number)
        if (schedule.cadence == Cadence.ONCE) != (wanted.cadence == Cadence.ONCE):
            raise errors.QueryInvalid("What is due once and what is repeated stay so. Add another schedule.")
        before = told(schedule)
        old = None if schedule.cadence == Cadence.ONCE else rhythm_of(schedule)
        _put(schedule, wanted)
        if schedule.cadence == Cadence.ONCE:
            if Occurrence.objects.filter(schedule=schedule).exists():
                raise errors.AlreadyDone("This schedule was due once and is done. Add another for another period.")
            _begin(schedule, wanted, now or dt.datetime.now(dt.UTC))
        elif old != wanted.rhythm:
            assert schedule.period_from is not None
            _next(schedule, schedule.period_from)
        schedule.created_by = who.email
        configuration.record(who.email, subject_of(schedule), before, told(schedule))
        schedule.save()
    return schedule


def pause(who: Viewer, number: int) -> Schedule:
    """Nothing of it is made until it goes on. Raises AlreadyDone."""
    with transaction.atomic():
        schedule = _switched(who, number, enabled=False)
        schedule.save()
    return schedule


def resume(who: Viewer, number: int, *, catch_up: bool, now: dt.datetime | None = None) -> Schedule:
    """Goes on. What was due meanwhile is made now with `catch_up`, else kept as skipped. Raises AlreadyDone."""
    now = now or dt.datetime.now(dt.UTC)
    with transaction.atomic():
        schedule = _switched(who, number, enabled=True)
        while not catch_up and schedule.next_due_at is not None and schedule.next_due_at <= now:
            _occurrence(schedule, f"Paused; {who.email} let it go on without this period.")
            _advance(schedule)
        schedule.save()
    return schedule


def run(who: Viewer, number: int, occurrence: int | None = None, now: dt.datetime | None = None) -> int:
    """Queues a report now: of a period that was skipped or failed, else of the last whole one. Returns its id.

    Raises AlreadyDone when there is one, NotFound, and QueryInvalid when no period has ended yet.
    """
    now = now or dt.datetime.now(dt.UTC)
    with transaction.atomic():
        schedule = Schedule.objects.select_for_update().get(pk=number)
        found = _wanted_now(schedule, occurrence, now)
        report = found.report
        if report is not None and not Report.objects.filter(pk=report.pk, status=Status.FAILED).exists():
            raise errors.AlreadyDone(f"{report.number} covers that period. Nothing was made a second time.")
        if report is None:
            found.report, found.skipped = _report(schedule, found), ""
            found.save()
        else:
            _again(schedule, report)
        assert found.report is not None
        words = f"{found.period_from.isoformat()} to {found.period_to.isoformat()}"
        asked = {"made now": f"{found.report.number}, {words}"}
        configuration.record(who.email, subject_of(schedule), None, asked)
        schedule.save()
        return found.report.pk


def _again(schedule: Schedule, report: Report) -> None:
    """Queues a failed report once more; in the name of who set the schedule last, where that is still what it asks for."""
    report.status, report.reasons = Status.QUEUED, []
    scope = (report.kind, report.environment, report.datasources)
    if scope == (schedule.kind, schedule.environment, schedule.datasources):
        report.created_by = schedule.created_by
    report.save(update_fields=["status", "reasons", "created_by"])


def _wanted_now(schedule: Schedule, occurrence: int | None, now: dt.datetime) -> Occurrence:
    known = Occurrence.objects.select_related("report").filter(schedule=schedule)
    if occurrence is not None:
        found = known.filter(pk=occurrence).first()
        if found is None:
            raise errors.NotFound("This schedule had no such period.")
        return found
    if schedule.next_due_at is not None and schedule.next_due_at <= now:
        found = _occurrence(schedule)
        _advance(schedule)
        return found
    found = known.order_by("-period_to").first()
    if found is None:
        if schedule.cadence == Cadence.ONCE or schedule.period_from is None or schedule.period_from > now:
            raise errors.QueryInvalid("No period of this schedule has ended yet.")
        since = periods.previous(rhythm_of(schedule), schedule.period_from)
        found = Occurrence(schedule=schedule, period_from=since, period_to=schedule.period_from, due_at=now)
    return found


def _switched(who: Viewer, number: int, *, enabled: bool) -> Schedule:
    schedule = Schedule.objects.select_for_update().get(pk=number)
    if schedule.enabled == enabled:
        raise errors.AlreadyDone(f"This schedule is {'on' if enabled else 'paused'} already. Nothing was changed.")
    before = told(schedule)
    schedule.enabled = enabled
    configuration.record(who.email, subject_of(schedule), before, told(schedule))
    return schedule


def told(schedule: Schedule) -> dict[str, Any]:
    """A schedule as its configuration records tell it."""
    return {
        "on": schedule.enabled,
        "kind": schedule.kind,
        "how often": words_of(schedule),
        "environment": schedule.environment,
        "databases": list(schedule.datasources),
        "next period": _period_words(schedule),
        "due": schedule.next_due_at.isoformat() if schedule.next_due_at else "",
        "late after days": schedule.late_days,
        "in the name of": schedule.created_by,
    }


def _period_words(schedule: Schedule) -> str:
    ends = (schedule.period_from, schedule.period_to)
    return " to ".join(end.isoformat() for end in ends if end) if schedule.next_due_at else ""


def subject_of(schedule: Schedule) -> str:
    return f"schedule {schedule.name}"


def _is_taken(name: str) -> bool:
    return Schedule.objects.filter(name=name).exists()


def _checked(wanted: Wanted) -> Wanted:
    """What is wanted, with its rhythm. Raises QueryInvalid."""
    controls.kind(wanted.kind)
    if wanted.cadence not in Cadence.values:
        raise errors.QueryInvalid(f"The cadence is one of {', '.join(Cadence.values)}.")
    if not 1 <= wanted.late_days <= 90:
        raise errors.QueryInvalid("A report is late after 1 to 90 days.")
    if wanted.cadence == Cadence.ONCE:
        if wanted.period is None:
            raise errors.QueryInvalid("A report that is due once needs its period: from and to.")
        check_period(*wanted.period)
        return wanted
    if wanted.period is not None or wanted.run_at is not None:
        raise errors.QueryInvalid("A repeated report covers its last whole period; leave from, to and run-at out.")
    return dataclasses.replace(wanted, rhythm=wanted.rhythm or periods.rhythm(wanted.cadence))


def _put(schedule: Schedule, wanted: Wanted) -> None:
    schedule.kind, schedule.cadence, schedule.late_days = wanted.kind, wanted.cadence, wanted.late_days
    schedule.environment, schedule.datasources = wanted.scope[0], list(wanted.scope[1])
    if wanted.rhythm is not None:
        schedule.zone = wanted.rhythm.zone
        own = wanted.rhythm if wanted.cadence == Cadence.CUSTOM else None
        schedule.every, schedule.unit = (own.every, own.unit) if own else (None, "")
        schedule.anchor = own.anchor if own else None


def _begin(schedule: Schedule, wanted: Wanted, now: dt.datetime) -> None:
    """The first period: of repeated ones that which holds `now`."""
    if wanted.period is not None:
        schedule.period_from, schedule.period_to = wanted.period
        schedule.next_due_at = max(wanted.run_at or wanted.period[1], wanted.period[1])
    else:
        _next(schedule, periods.first_start(rhythm_of(schedule), now))


def _next(schedule: Schedule, start: dt.datetime) -> None:
    schedule.period_from, schedule.period_to = next(periods.since(rhythm_of(schedule), start))
    schedule.next_due_at = schedule.period_to


def _advance(schedule: Schedule) -> None:
    if schedule.cadence == Cadence.ONCE:
        schedule.next_due_at = None
    else:
        assert schedule.period_to is not None
        _next(schedule, schedule.period_to)


def check_period(since: dt.datetime, until: dt.datetime) -> None:
    """Raises QueryInvalid unless the period has a length."""
    if since >= until:
        raise errors.QueryInvalid("The period ends before it begins.")


def queue_due(now: dt.datetime) -> list[int]:
    """Makes one queued report for each due period of each schedule; returns their ids. Safe to call at any time.

    A schedule that cannot be read is logged and holds up no other.
    """
    due = Schedule.objects.filter(enabled=True, next_due_at__lte=now).order_by("next_due_at")
    return list(itertools.chain.from_iterable(_queue(number, now) for number in due.values_list("pk", flat=True)))


def _queue(number: int, now: dt.datetime) -> Sequence[int]:
    made = []
    try:
        with transaction.atomic():
            waiting = Schedule.objects.filter(pk=number, enabled=True, next_due_at__lte=now)
            schedule = waiting.select_for_update(skip_locked=True).first()
            if schedule is None:
                return ()
            for _ in range(CATCH_UP_MOST):
                if schedule.next_due_at is None or schedule.next_due_at > now:
                    break
                found = _occurrence(schedule)
                if found.report is None and not found.skipped:
                    found.report = _report(schedule, found)
                    found.save()
                    made.append(found.report.pk)
                _advance(schedule)
            schedule.save()
    except (errors.TouchstoneError, DatabaseError) as error:
        log.error("schedule %s could not be run (%s); trying again", number, type(error).__name__)
        return ()
    return made


def _occurrence(schedule: Schedule, skipped: str = "") -> Occurrence:
    """The row of the schedule's next period; the one that is there, if there is one."""
    assert schedule.period_from is not None
    assert schedule.period_to is not None
    assert schedule.next_due_at is not None
    found, _ = Occurrence.objects.get_or_create(
        schedule=schedule,
        period_from=schedule.period_from,
        period_to=schedule.period_to,
        defaults={"due_at": schedule.next_due_at, "skipped": skipped},
    )
    return found


def _report(schedule: Schedule, found: Occurrence) -> Report:
    report, _ = Report.objects.get_or_create(
        schedule=schedule,
        period_from=found.period_from,
        period_to=found.period_to,
        defaults={
            "kind": schedule.kind,
            "environment": schedule.environment,
            "datasources": schedule.datasources,
            "created_by": schedule.created_by,
        },
    )
    return report


def waiting() -> list[int]:
    """Ids of reports that are queued, oldest first."""
    return list(Report.objects.filter(status=Status.QUEUED).order_by("pk").values_list("pk", flat=True))
