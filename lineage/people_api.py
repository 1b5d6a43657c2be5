"""The JSON API of identities and agent runs, over `lineage.queries`."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

from lineage import api, errors, queries
from lineage.access import Viewer
from lineage.answers import evidence_read


@require_GET
@evidence_read
def touched(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """GET /api/v1/touched?identity= or run=, by=statements, rows or tables: everything that one touched."""
    given = {name: request.GET.get(name) or None for name in ("identity", "run")}
    by: Any = request.GET.get("by", "statements")
    if (given["identity"] is None) == (given["run"] is None) or by not in ("statements", "rows", "tables"):
        raise errors.QueryInvalid("Name one identity= or one run=, and by=statements, rows or tables.")
    subject, cursor = queries.Subject(**given), request.GET.get("cursor")
    return api.formatted(
        request, queries.touched(viewer, subject, by, api.window_of(request), api.limit_of(request), cursor)
    )
