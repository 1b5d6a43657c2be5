"""Who is sent the final reports of a schedule: seats and receivers whose scope holds what it covers."""

from __future__ import annotations

import dataclasses

from django.db import transaction
from django.utils import timezone

from lineage import access, configuration, errors
from lineage.access import Viewer
from lineage.finding_models import Receiver
from lineage.findings import receivers
from lineage.models import User
from reports import planning, requests, schedules
from reports.models import Delivery, Recipient, Report, Schedule

ENDED = "not sent: taken off the schedule"
UNKNOWN = (
    "Name a seat by its e-mail address, or a receiver by its name, that may see all that this schedule covers. "
    "Nothing was changed."
)


def of(schedule: Schedule) -> list[Recipient]:
    """Those who are sent its reports now."""
    return list(Recipient.objects.select_related("receiver").filter(schedule=schedule, ended_at=None).order_by("pk"))


def add(viewer: Viewer, number: int, name: str, *, attaches: bool) -> Recipient:
    """Sends a schedule's reports, from the next final one on, to a seat (by e-mail address) or a receiver (by name).

    With `attaches` a mail holds the file, else it leads to it. Raises AccessDenied, NotFound, AlreadyDone, ReceiverInvalid.
    """
    with configuration.asked(viewer.email, f"{planning.ASKED} {number}"), transaction.atomic():
        schedule = planning.locked(viewer, number)
        found = _receiver(viewer, schedule, name.strip()) or _seat(schedule, name.strip())
        if found is None:
            raise errors.ReceiverInvalid(UNKNOWN, field="recipient")
        there = Recipient.objects.filter(schedule=schedule, email=found.email, receiver=found.receiver, ended_at=None)
        if there.exists():
            raise errors.AlreadyDone(f"{found.name} is sent these reports already.")
        before = _told(schedule)
        found.attaches = attaches and (found.receiver is None or found.receiver.kind == "mail")
        found.by = viewer.email
        found.save()
        configuration.record(viewer.email, schedules.subject_of(schedule), before, _told(schedule))
        return found


def end(viewer: Viewer, number: int, recipient: int) -> Recipient:
    """Sends nothing more there, also not what waits. Raises AccessDenied and NotFound."""
    with configuration.asked(viewer.email, f"{planning.ASKED} {number}"), transaction.atomic():
        schedule = planning.locked(viewer, number)
        found = Recipient.objects.filter(schedule=schedule, pk=recipient, ended_at=None).first()
        if found is None:
            raise errors.NotFound("This schedule has no such recipient.")
        before = _told(schedule)
        found.ended_at = timezone.now()
        found.save(update_fields=["ended_at"])
        Delivery.objects.filter(recipient=found, told_at=None).exclude(body=None).update(body=None, answer=ENDED)
        configuration.record(viewer.email, schedules.subject_of(schedule), before, _told(schedule))
        return found


def end_named(viewer: Viewer, number: int, name: str) -> Recipient:
    """The same by e-mail address or name of a receiver."""
    found = [one for one in of(planning.one(viewer, number)) if one.name.lower() == name.strip().lower()]
    return end(viewer, number, found[0].pk if found else 0)


def may_have(recipient: Recipient, report: Report) -> bool:
    """Whether the recipient may see the report today."""
    if recipient.receiver is not None:
        return _holds(recipient.receiver, report.environment, report.datasources)
    user = User.objects.filter(email__iexact=recipient.email).first()
    if user is None or not access.is_open(user):
        return False
    return requests.visible(access.viewer_of(user)).filter(pk=report.pk).exists()


def nameable(viewer: Viewer, schedule: Schedule) -> list[Receiver]:
    """The receivers that the viewer may name for it."""
    return [
        one
        for one in receivers.in_scope(viewer)
        if one.is_on and _holds(one, schedule.environment, schedule.datasources)
    ]


def _told(schedule: Schedule) -> dict[str, list[str]]:
    return {"sent to": [f"{one.name}{' with the file' if one.attaches else ''}" for one in of(schedule)]}


def _receiver(viewer: Viewer, schedule: Schedule, name: str) -> Recipient | None:
    found = next((one for one in nameable(viewer, schedule) if one.name == name), None)
    return Recipient(schedule=schedule, receiver=found) if found else None


def _seat(schedule: Schedule, email: str) -> Recipient | None:
    user = User.objects.filter(email__iexact=email).first() if "\0" not in email else None
    if user is None or not access.is_open(user):
        return None
    viewer = access.viewer_of(user)
    # Times bound which reports are sent; each is looked at when it is.
    place = dataclasses.replace(viewer, from_at=None, until_at=None)
    wanted = Viewer(
        "", viewer.role, tuple(schedule.datasources), (schedule.environment,) if schedule.environment else ()
    )
    return Recipient(schedule=schedule, email=user.email) if viewer.sees_values and place.covers(wanted) else None


def _holds(receiver: Receiver, environment: str, datasources: list[str]) -> bool:
    """Whether what is in these is within the receiver's; empty means all."""
    told = Viewer("", "", tuple(receiver.datasources), tuple(receiver.environments))
    return told.covers(Viewer("", "", tuple(datasources), (environment,) if environment else ()))
