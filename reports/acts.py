"""What people do about an issued report: override a blocked one, ask for a supplement; by form, and by API token."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from lineage import access, api, errors, toasts
from lineage.access import Viewer
from lineage.answers import signed_in
from reports import overrides, succession, supplements, tasks
from reports.models import Report, Status


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    act: Literal["ask", "grant"]
    reason: str = ""


@require_POST
@signed_in
def override(request: HttpRequest, viewer: Viewer, report_id: int) -> HttpResponse:
    """Asks for an override of a blocked report, or grants it."""
    if "grant" in request.POST:
        report = _granted(viewer, report_id)
        toasts.say(request, f"{report.number} is made again and will print the override and its reason.")
    else:
        overrides.ask(viewer, report_id, request.POST.get("reason", ""))
        toasts.say(request, "The override is asked for. Another person of compliance or an administrator grants it.")
    return redirect("report", report_id=report_id)


@require_POST
@signed_in
def supplement(request: HttpRequest, viewer: Viewer, report_id: int) -> HttpResponse:
    """Queues the next supplement and leads to its page."""
    made = supplements.ask(viewer, report_id)
    tasks.enqueue(made.pk)
    return redirect("report", report_id=made.pk)


@csrf_exempt
@require_POST
def override_by_token(request: HttpRequest, report_id: int) -> HttpResponse:
    """`POST /api/v1/reports/<id>/override`: by API token alone; a browser's session acts on the page."""
    viewer = _viewer(request)
    try:
        wanted = msgspec.json.decode(api.read_body(request), type=Wanted)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise errors.BodyUnreadable(
            "Send a JSON object with act (ask or grant) and, to ask, reason. Nothing was changed."
        ) from error
    if wanted.act == "ask":
        overrides.ask(viewer, report_id, wanted.reason)
        return _json(Report.objects.get(pk=report_id))
    return _json(_granted(viewer, report_id))


@csrf_exempt
@require_POST
def supplement_by_token(request: HttpRequest, report_id: int) -> HttpResponse:
    """`POST /api/v1/reports/<id>/supplement`: by API token alone."""
    made = supplements.ask(_viewer(request), report_id)
    tasks.enqueue(made.pk)
    return _json(made)


def _granted(viewer: Viewer, report_id: int) -> Report:
    report = overrides.grant(viewer, report_id)
    tasks.enqueue(report.pk)
    return report


def _viewer(request: HttpRequest) -> Viewer:
    viewer = access.viewer_of_token(access.bearer(request) or "")
    request.viewer = viewer  # type: ignore[attr-defined]
    return viewer


def _json(report: Report) -> HttpResponse:
    told = {
        "id": report.pk,
        "number": report.number,
        "status": report.status,
        "override": overrides.summary(overrides.of(report)),
    }
    return HttpResponse(msgspec.json.encode(told), content_type="application/json")


def shown(viewer: Viewer, report: Report) -> dict[str, Any]:
    """What the report's page shows of all this, and which forms it offers this viewer."""
    blocked = report.status == Status.BLOCKED and overrides.may(viewer)
    return {
        "chain": succession.around(report),
        "override": overrides.of(report),
        "may_override": blocked,
        "may_grant": blocked and overrides.may_grant(viewer, report),
        "may_supplement": supplements.may_follow(report),
    }
