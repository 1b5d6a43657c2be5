"""What is said of deviations, on the report's page and for programs."""

from __future__ import annotations

import msgspec
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_GET, require_POST

from lineage import toasts
from lineage.access import Viewer
from lineage.answers import evidence_read, signed_in
from reports import exceptions, requests


@require_POST
@signed_in
def say(request: HttpRequest, viewer: Viewer, report_id: int) -> HttpResponse:
    """Says the same of the items that were chosen, and leads back to the page."""
    exceptions.allow(viewer)
    found = requests.one(viewer, report_id)
    given = {name: request.POST.get(name, "") for name in exceptions.SAID}
    changed = exceptions.say(viewer, found, request.POST.get("test", ""), request.POST.getlist("items"), given)
    toasts.say(request, f"Said of {changed} deviating item{'' if changed == 1 else 's'}, on record.")
    return redirect("report", report_id=report_id)


@require_POST
@signed_in
def judge(request: HttpRequest, viewer: Viewer, report_id: int) -> HttpResponse:
    """Concludes whether the deviations of a test are systematic, and leads back to the page."""
    exceptions.allow(viewer)
    found = requests.one(viewer, report_id)
    given = (request.POST.get(name, "") for name in ("test", "systematic", "reason"))
    exceptions.judge(viewer, found, *given)
    return redirect("report", report_id=report_id)


@require_GET
@evidence_read
def listing(request: HttpRequest, viewer: Viewer, report_id: int) -> HttpResponse:
    """`GET /api/v1/reports/NUMBER/exceptions`: what was said of the report's deviations and concluded of its tests so far."""
    found = requests.one(viewer, report_id)
    about = {name: getattr(found, name) for name in ("number", "kind", "environment", "datasources")}
    said = {"report": about, "items": exceptions.listed(found)}
    return HttpResponse(msgspec.json.encode(said), content_type="application/json")
