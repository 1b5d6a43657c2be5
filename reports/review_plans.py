"""What sign-off is asked for: for a kind of report, or for one schedule. Each change is a configuration record."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from lineage import access, configuration, errors
from lineage.access import Viewer
from lineage.models import Role, User
from reports import controls, requests
from reports.models import Report, Schedule
from reports.review_models import Part, SignOffPlan

SIGNERS = frozenset({Role.SECURITY, Role.COMPLIANCE, Role.ADMIN})
"""Whose seats may sign. An auditor reads evidence and signs none of it."""
DAYS_MOST = 366
REASON_MOST = 1_000
ORDER = [part.value for part in Part]


@dataclasses.dataclass(frozen=True)
class Step:
    """Who signs as what within how many days after the issue, and who may do so after that."""

    part: str
    person: str
    days: int
    second: str = ""


def may(viewer: Viewer) -> bool:
    """Who says what is signed by whom: compliance and administrators, of reports that they may schedule."""
    return requests.may_schedule(viewer)


def of(report: Report) -> SignOffPlan | None:
    """The plan that a report falls under: its schedule's, else its kind's."""
    own = SignOffPlan.objects.filter(schedule=report.schedule_id).first() if report.schedule_id else None
    return own or SignOffPlan.objects.filter(kind=report.kind, schedule__isnull=True).first()


def visible(viewer: Viewer) -> QuerySet[SignOffPlan]:
    """Plans of the schedules in scope; those of kinds for who sees everything, since they hold everywhere."""
    found = SignOffPlan.objects.select_related("schedule").order_by("kind", "schedule__name")
    if not may(viewer):
        return found.none()
    of_schedules = found.filter(schedule__in=requests.visible_schedules(viewer))
    return of_schedules if viewer.is_narrowed else found


def establish(
    viewer: Viewer, kind: str, schedule: Schedule | None, steps: Sequence[Step], *, if_empty: bool, reason: str
) -> None:
    """Sets the plan of a kind (or of one schedule of it); without steps there is none any more.

    Reports that are issued already keep the steps they have. Raises AccessDenied, SignOffRefused and QueryInvalid, on record.
    """
    subject = f"sign-off of schedule {schedule.name}" if schedule else f"sign-off of {kind[:40]}"
    with configuration.asked(viewer.email, subject), transaction.atomic():
        _expect_right(viewer, schedule)
        controls.kind(kind)
        why = said(reason)
        check(steps)
        found = SignOffPlan.objects.select_for_update().filter(kind=kind, schedule=schedule).first()
        old = value(found) if found else None
        if found and not steps:
            found.delete()
        new = None
        if steps:
            plan = found or SignOffPlan(kind=kind, schedule=schedule)
            plan.steps = [dataclasses.asdict(step) for step in steps]
            plan.approve_if_empty, plan.set_by = if_empty, viewer.email
            plan.save()
            new = value(plan)
        configuration.record(viewer.email, subject, old, new, why)


def _expect_right(viewer: Viewer, schedule: Schedule | None) -> None:
    if not may(viewer):
        raise errors.AccessDenied("Who signs reports is said by compliance and administrators.")
    if schedule is None and viewer.is_narrowed:
        raise errors.AccessDenied(
            f"What a kind of report needs holds everywhere; your scope is {viewer.label}. Set it for a schedule of yours."
        )


def said(reason: str) -> str:
    """The reason of a change. Raises QueryInvalid without one."""
    why = " ".join(reason.split())
    if not why or len(why) > REASON_MOST or "\0" in why:
        raise errors.QueryInvalid(
            "Say in up to 1,000 characters why. Nothing was changed.", reason="missing or too long"
        )
    return why


def check(steps: Sequence[Step]) -> None:
    """Raises SignOffRefused where the steps are out of order, or a person has no seat, signs twice, or may not sign."""
    parts = [step.part for step in steps]
    if any(part not in ORDER for part in parts) or [ORDER.index(p) for p in parts] != sorted(
        {ORDER.index(p) for p in parts}
    ):
        raise errors.SignOffRefused(
            "The steps are preparer, control owner, approver, each once at most, in this order."
        )
    people = [name.lower() for step in steps for name in (step.person, step.second) if name]
    if len(set(people)) != len(people):
        raise errors.SignOffRefused("Each person, the seconds too, stands in one step alone: nobody signs twice.")
    for step in steps:
        if not 0 <= step.days <= DAYS_MOST:
            raise errors.SignOffRefused(f"A step is due 0 to {DAYS_MOST} days after the issue.")
        for email in filter(None, (step.person, step.second)):
            signer(email)
        if not step.person:
            raise errors.SignOffRefused(f"Name who signs as {Part(step.part).label.lower()}.")


def signer(email: str) -> User:
    """The open seat of somebody who may sign. Raises SignOffRefused."""
    user = User.objects.filter(email__iexact=email.strip()).first()
    if user is None or not access.is_open(user) or user.role not in SIGNERS:
        raise errors.SignOffRefused(
            f"{email[:100]} has no open seat as security, compliance or administrator, so cannot sign. Nothing was changed.",
            person=email[:100],
        )
    return user


def value(plan: SignOffPlan) -> dict[str, Any]:
    """As a record tells it."""
    told = [
        f"{Part(step['part']).label.lower()} {step['person']} within {step['days']} days"
        + (f", then {step['second']} too" if step["second"] else "")
        for step in plan.steps
    ]
    return {"steps": told, "approve if empty": plan.approve_if_empty}
