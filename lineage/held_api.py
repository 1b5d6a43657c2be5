"""GET /api/v1/gateway/held and POST …/held/<id>/decision: held statements, decided by program (docs/held.md)."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from lineage import access, errors, held
from lineage.access import Viewer
from lineage.answers import evidence_read, for_members
from lineage.api import read_body
from lineage.models import HeldStatement

LISTED = (
    "request_id", "state", "asked_at", "ask_until", "requested_by", "on_behalf_of", "delegation", "agent", "datasource", "environment",
    "database", "account", "purpose", "ticket", "rule", "rule_version", "sentence", "effects", "estimated_rows", "redacted", "digest",
    "asked_rows", "in_transaction", "hold_until", "session_id", "decided_by", "decided_at", "reason", "expires_at", "row_cap",
    "break_glass", "used_at", "reviewed_by", "reviewed_at", "review_note",
)  # fmt: skip
VALUES = ("statement", "parameters", "plan")
MOST = 500
VERDICTS: dict[str, held.Verdict] = {"approve": "approved", "reject": "rejected", "break-glass": "break_glass"}


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """`digest`, where given, is that of the statement that was looked at."""

    decision: Literal["approve", "reject", "break-glass", "review"]
    reason: str
    digest: str | None = None
    minutes: int = held.MINUTES
    row_cap: int | None = None


@require_GET
@evidence_read
@for_members
def listing(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """Those in scope, of a member their own, newest first; `state` narrows. Statement, its values and plan for those who see values."""
    found = held.in_scope(viewer)
    state = request.GET.get("state")
    if state:
        found = found.filter(state=state)
    return _json({"items": [_told(viewer, one) for one in found[:MOST]]})


@csrf_exempt
@require_POST
def decision(request: HttpRequest, request_id: str) -> HttpResponse:
    """By API token alone: a browser's session decides on the page, whose form is protected."""
    request.viewer = viewer = access.viewer_of_token(access.bearer(request) or "")  # type: ignore[attr-defined]
    try:
        wanted = msgspec.json.decode(read_body(request), type=Wanted)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise errors.BodyUnreadable(
            "Send a JSON object with decision (approve, reject, break-glass or review) and reason. Nothing was decided."
        ) from error
    if wanted.decision == "review":
        held.review(viewer, request_id, wanted.reason)
    else:
        held.decide(
            viewer, request_id, VERDICTS[wanted.decision], wanted.reason, digest=wanted.digest, minutes=wanted.minutes,
            row_cap=wanted.row_cap,
        )  # fmt: skip
    return _json(_told(viewer, held.one(viewer, request_id)))


def _told(viewer: Viewer, one: HeldStatement) -> dict[str, Any]:
    names = (*LISTED, *VALUES) if viewer.sees_values else LISTED
    return {name: getattr(one, name) for name in names}


def _json(answer: dict[str, Any]) -> HttpResponse:
    return HttpResponse(msgspec.json.encode(answer), content_type="application/json")
