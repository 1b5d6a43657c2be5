"""The kinds of report for programs: which can be asked for in the viewer's scope, and why the others cannot."""

from __future__ import annotations

import msgspec
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

from lineage import api
from lineage.access import Viewer
from lineage.answers import evidence_read
from reports import available


@require_GET
@evidence_read
def listing(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """`GET /api/v1/reports/kinds`: every kind with its tests; `reason` is empty where it is available."""
    api.known(request)
    items = available.listed(viewer, request.GET.get("environment", ""))
    return HttpResponse(msgspec.json.encode({"items": items}), content_type="application/json")
