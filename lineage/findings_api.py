"""/api/v1/findings: the list, one of them, and what somebody says of it (docs/findings.md)."""

from __future__ import annotations

from typing import Any

import msgspec
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from lineage import access, api, errors, queries
from lineage.access import Viewer
from lineage.answers import evidence_read
from lineage.findings import triage
from lineage.queries.found import STATES


@require_GET
@evidence_read
def listing(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    api.known(request, "state", "rule", "severity")
    asked = request.GET
    if asked.get("state", "") not in ("", "all", *STATES):
        raise errors.QueryInvalid(f"state is one of all, {', '.join(STATES)}")
    state = asked.get("state", "")
    narrowed = queries.Narrowed(asked.get("rule", ""), asked.get("severity", ""), "" if state == "all" else state)
    answer = queries.findings(
        viewer, api.window_of(request), api.limit_of(request), asked.get("cursor"), asked.get("q", ""), narrowed
    )
    return api.formatted(request, answer)


@require_GET
@evidence_read
def one(request: HttpRequest, viewer: Viewer, number: int) -> HttpResponse:
    told = queries.finding(viewer, number)
    return _json(told | {"rule": msgspec.to_builtins(told["rule"]), "as_of": {"size": told["as_of"]}})


class Said(msgspec.Struct, forbid_unknown_fields=True):
    act: str
    value: str = ""
    note: str = ""


@csrf_exempt
@require_POST
def said(request: HttpRequest, number: int) -> HttpResponse:
    """By API token alone: a browser's session triages on the page, whose form is protected."""
    request.viewer = viewer = access.viewer_of_token(access.bearer(request) or "")  # type: ignore[attr-defined]
    try:
        given = msgspec.json.decode(api.read_body(request), type=Said)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise errors.BodyUnreadable("Send a JSON object with act, value and note. Nothing was changed.") from error
    kept = triage.establish(viewer, number, given.act, given.value, given.note)
    return _json({"number": kept.pk, "state": kept.state, "verdict": kept.verdict, "owner": kept.owner})


def _json(body: Any) -> HttpResponse:
    return HttpResponse(msgspec.json.encode(body), content_type="application/json")
