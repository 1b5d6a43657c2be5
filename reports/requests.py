"""Asking for a report and finding it again: who may, and what they may see of it."""

from __future__ import annotations

import dataclasses
import datetime as dt

from django.db.models import Q, QuerySet
from django.http import QueryDict

from lineage import errors
from lineage.access import Viewer
from lineage.models import Role
from lineage.queries import Window
from lineage.views.names import lines
from reports import available, controls, redraws, schedules
from reports.evidence import Request
from reports.models import Report, Schedule

SCHEDULERS = frozenset({Role.COMPLIANCE, Role.ADMIN})


def ask(viewer: Viewer, request: Request) -> Report:
    """A queued report within the viewer's scope. Raises AccessDenied, or QueryInvalid naming what is wrong."""
    request = checked(viewer, request)
    return Report.objects.create(
        kind=request.kind, period_from=request.since, period_to=request.until, environment=request.environment,
        datasources=list(request.datasources), q=request.q, draft_only=request.draft_only, created_by=viewer.email,
        engagement=request.engagement, sample=request.sample, control=request.control,
        framework=request.framework,
    )  # fmt: skip


def checked(viewer: Viewer, request: Request) -> Request:
    """The request narrowed to the viewer's scope. Raises AccessDenied, or QueryInvalid naming what is wrong."""
    if not viewer.sees_values:
        raise errors.AccessDenied("Reports name people and statements; your role sees shapes only. Ask compliance.")
    available.check_control(request.kind, request.control)
    controls.check_framework(request.framework)
    plan = redraws.plan(request)
    schedules.check_period(request.since, request.until)
    environment, datasources = within(viewer, request.environment, request.datasources)
    available.check(viewer, request.kind, environment, datasources, request.control)
    if (viewer.from_at and request.since < viewer.from_at) or (viewer.until_at and request.until > viewer.until_at):
        raise errors.AccessDenied(f"Your scope is {viewer.label}; the period reaches beyond it.")
    return dataclasses.replace(
        request, environment=environment, datasources=tuple(datasources), engagement=plan.engagement, sample=plan.size
    )


def within(viewer: Viewer, environment: str, datasources: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The asked scope, narrowed to what the viewer may see. Raises AccessDenied when it reaches beyond that."""
    if viewer.environments and not environment:
        if len(viewer.environments) > 1:
            raise errors.AccessDenied(
                "Name one of your environments: a report covers one, or all for those who see all."
            )
        environment = viewer.environments[0]
    beyond = set(datasources) - set(viewer.datasources) if viewer.datasources else set()
    if beyond or (viewer.environments and environment not in viewer.environments):
        raise errors.AccessDenied(f"Your scope is {viewer.label}; the report would reach beyond it.")
    return environment, datasources or viewer.datasources


def read(form: QueryDict) -> Request:
    """What a form asks for. Raises QueryInvalid for a time that is none."""
    return Request(
        kind=form.get("kind", ""),
        since=moment(form.get("from", ""), "from"),
        until=moment(form.get("to", ""), "to"),
        environment=form.get("environment", ""),
        datasources=lines(form, "datasources"),
        q=form.get("q", "").strip(),
        draft_only="draft" in form,
        engagement=form.get("engagement", ""),
        sample=form.get("sample", ""),
        control=form.get("control", "").strip(),
        framework=form.get("framework", "").strip(),
    )


def visible(viewer: Viewer) -> QuerySet[Report]:
    """Reports whose whole scope lies within the viewer's, newest first; none for roles that may not see values."""
    found = Report.objects.select_related("schedule", "amends", "supersedes").order_by("-pk")
    return found.filter(_scope(viewer)) if viewer.sees_values else found.none()


def place(viewer: Viewer) -> Q:
    """The condition on rows with `environment` and `datasources`: all of their scope lies in the viewer's."""
    condition = Q()
    if viewer.environments:
        condition &= Q(environment__in=viewer.environments)
    if viewer.datasources:
        condition &= Q(datasources__contained_by=list(viewer.datasources)) & ~Q(datasources=[])
    return condition


def within_window(found: QuerySet[Report], window: Window) -> QuerySet[Report]:
    """Those of which the period touches the window, in its environment or all of them."""
    if window.since:
        found = found.filter(period_to__gt=window.since)
    if window.until:
        found = found.filter(period_from__lt=window.until)
    return found.filter(environment__in=("", window.environment)) if window.environment else found


def _scope(viewer: Viewer) -> Q:
    condition = place(viewer)
    if viewer.from_at:
        condition &= Q(period_from__gte=viewer.from_at)
    if viewer.until_at:
        condition &= Q(period_to__lte=viewer.until_at)
    return condition


def may_schedule(viewer: Viewer) -> bool:
    """Compliance and administrators; not who sees a stretch of time alone, since a schedule has no end."""
    return viewer.role in SCHEDULERS and not (viewer.from_at or viewer.until_at)


def visible_schedules(viewer: Viewer) -> QuerySet[Schedule]:
    """Schedules for those who may make them: of what lies in their scope whole."""
    found = Schedule.objects.order_by("name")
    return found.filter(place(viewer)) if may_schedule(viewer) else found.none()


def one(viewer: Viewer, report_id: int) -> Report:
    """One report in scope. Raises NotFound."""
    report = visible(viewer).filter(pk=report_id).first()
    if report is None:
        raise errors.NotFound("No report with this number is in your scope.")
    return report


def moment(text: str, name: str) -> dt.datetime:
    """A time from a form or the command line: a date, or a time; UTC unless it says otherwise. Raises QueryInvalid."""
    try:
        found = dt.datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise errors.QueryInvalid(f"{name}: write 2026-11-21 or 2026-11-21T14:30, UTC.", **{name: text[:40]}) from error
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def day(text: str, name: str) -> dt.date:
    """A day from a form or the command line. Raises QueryInvalid."""
    try:
        return dt.date.fromisoformat(text.strip())
    except ValueError as error:
        raise errors.QueryInvalid(f"{name}: write a day such as 2026-11-21.", **{name: text[:40]}) from error
