"""Who may make schedules and set them otherwise: compliance and administrators, in their scope. Refusals are recorded."""

from __future__ import annotations

import dataclasses
import datetime as dt

from lineage import configuration, errors
from lineage.access import Viewer
from reports import available, requests, schedules
from reports.models import Report, Schedule
from reports.schedules import Wanted

ASKED = "schedule"


REFUSED = "Schedules are made by compliance and administrators, and reach on: not by who sees a stretch of time alone."


def check(viewer: Viewer) -> None:
    """Raises AccessDenied where the viewer may set no schedules at all."""
    if not requests.may_schedule(viewer):
        raise errors.AccessDenied(REFUSED)


def one(viewer: Viewer, number: int) -> Schedule:
    """A schedule that the viewer may set. Raises AccessDenied and NotFound."""
    check(viewer)
    found = requests.visible_schedules(viewer).filter(pk=number).first()
    if found is None:
        raise errors.NotFound("There is no schedule here that you may set.")
    return found


def locked(viewer: Viewer, number: int) -> Schedule:
    """The same, locked until the transaction ends. Raises NotFound."""
    return Schedule.objects.select_for_update().get(pk=one(viewer, number).pk)


def named(viewer: Viewer, name: str) -> Schedule:
    """The same by its name. Raises NotFound."""
    found = requests.visible_schedules(viewer).filter(name=name).first()
    if found is None:
        raise errors.NotFound(f"There is no schedule {name[:100]} that you may set.")
    return found


def add(viewer: Viewer, name: str, wanted: Wanted, now: dt.datetime | None = None) -> Schedule:
    """A new schedule. Raises AccessDenied, KindUnavailable and QueryInvalid."""
    with configuration.asked(viewer.email, ASKED):
        wanted = _within(viewer, wanted)
        available.check_control(wanted.kind, "")
        available.check(viewer, wanted.kind, *wanted.scope)
        return schedules.add(
            viewer, name, wanted.kind, wanted.cadence, rhythm=wanted.rhythm, run_at=wanted.run_at, period=wanted.period,
            scope=wanted.scope, late_days=wanted.late_days, now=now,
        )  # fmt: skip


def change(viewer: Viewer, number: int, wanted: Wanted) -> Schedule:
    """Sets a schedule otherwise, in the viewer's name. Raises AccessDenied, NotFound, KindUnavailable and QueryInvalid."""
    with configuration.asked(viewer.email, f"{ASKED} {number}"):
        there = one(viewer, number)
        wanted = _within(viewer, wanted)
        if wanted.kind != there.kind:
            available.check(viewer, wanted.kind, *wanted.scope)
        return schedules.change(viewer, there.pk, wanted)


def pause(viewer: Viewer, number: int) -> Schedule:
    """Raises NotFound and AlreadyDone."""
    with configuration.asked(viewer.email, f"{ASKED} {number}"):
        return schedules.pause(viewer, one(viewer, number).pk)


def resume(viewer: Viewer, number: int, *, catch_up: bool) -> Schedule:
    """Raises NotFound and AlreadyDone."""
    with configuration.asked(viewer.email, f"{ASKED} {number}"):
        return schedules.resume(viewer, one(viewer, number).pk, catch_up=catch_up)


def run(viewer: Viewer, number: int, occurrence: int | None = None) -> Report:
    """A queued report of what was missed, or of the last whole period. Raises NotFound, AlreadyDone and QueryInvalid."""
    with configuration.asked(viewer.email, f"{ASKED} {number}"):
        return Report.objects.get(pk=schedules.run(viewer, one(viewer, number).pk, occurrence))


def _within(viewer: Viewer, wanted: Wanted) -> Wanted:
    """What is wanted, in the viewer's scope. Raises AccessDenied."""
    check(viewer)
    return dataclasses.replace(wanted, scope=requests.within(viewer, *wanted.scope))
