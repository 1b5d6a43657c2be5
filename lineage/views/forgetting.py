"""Erasure, holds and retention on a page: what was asked, by whom, its state, and what still holds values."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from lineage import erasures, errors, holds, retention, rights, words
from lineage.access import Viewer
from lineage.answers import evidence_read, signed_in
from lineage.events import GROUPS, parse_time
from lineage.views import frame

STATES = {
    "requested": "waits for another person's approval", "approved": "is approved and runs within seconds",
    "rejected": "was rejected", "refused": "was refused when it should have run", "erased": "is complete within our reach",
    "pending": "is pending: its values are gone from every answer, and going from the files",
}  # fmt: skip


@require_GET
@evidence_read
def forgetting(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """The erasures in scope. Only those who may decide see the search of one that waits: it names what shall go."""
    found = erasures.in_scope(viewer)
    waiting = sum(1 for each in found if each.state in ("requested", "approved", "pending"))
    context = {
        "erasures": [{"one": each, "still": [s for s in erasures.still(each) if s.ours]} for each in found],
        "holds": holds.in_scope(viewer),
        "policies": retention.in_scope(viewer),
        "refusals": rights.refusals(),
        "may": rights.may(viewer),
        "groups": GROUPS,
        "title": f"{words.counted(waiting, 'erasure')} under way" if waiting else "No erasure is under way",
    }
    return frame.page(request, "lineage/forgetting.html", context)


def _sample(asked: erasures.Asked) -> list[dict[str, Any]]:
    """The headers of the first records that would go, with their time as one."""
    return [row | {"at": parse_time(row["occurred_at"]) if row.get("occurred_at") else None} for row in asked.sample]


@require_GET
@evidence_read
def erasure(request: HttpRequest, viewer: Viewer, number: int) -> HttpResponse:
    """One request that waits: what it would take now, by count and headers, never by value."""
    found = erasures.seen(viewer, number)
    asked = erasures.preview(viewer, found) if found.state == "requested" and rights.may(viewer) else None
    context = {
        "one": found,
        "asked": asked,
        "sample": _sample(asked) if asked else [],
        "still": erasures.still(found),
        "may": rights.may(viewer),
        "own": viewer.email.lower() == found.requested_by.lower(),
        "title": f"Erasure {number} {STATES[found.state]}",
    }
    return frame.page(request, "lineage/erasure.html", context)


@require_POST
@signed_in
def erasure_ask(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    given, now = request.POST, timezone.now()
    asked = erasures.request(
        viewer, given.get("q", ""), given.getlist("groups"), reason=given.get("reason", ""), ground=given.get("ground", ""),
        since=frame.moment(given.get("since", "").strip(), now), until=frame.moment(given.get("until", "").strip(), now),
        texts=[given["value"].strip()] if given.get("value", "").strip() else [],
    )  # fmt: skip
    return redirect("erasure", number=asked.number)


@require_POST
@signed_in
def erasure_decide(request: HttpRequest, viewer: Viewer, number: int) -> HttpResponse:
    """Approves or rejects; the keeper executes what is approved within seconds."""
    deeds = {"approve": erasures.approve, "reject": erasures.reject}
    deed = deeds.get(request.POST.get("decision", ""))
    if deed is None:
        raise errors.QueryInvalid("Approve or reject.")
    deed(viewer, number)
    return redirect("erasure", number=number)


@require_POST
@signed_in
def hold_add(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    holds.add(viewer, request.POST.get("q", ""), request.POST.get("reason", ""))
    return redirect("forgetting")


@require_POST
@signed_in
def hold_release(request: HttpRequest, viewer: Viewer, number: int) -> HttpResponse:
    holds.release(viewer, number)
    return redirect("forgetting")
