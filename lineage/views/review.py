"""Approvals: what a reviewer holds against what was done."""

from __future__ import annotations

import re

from django.http import HttpRequest, HttpResponse

from lineage import queries, words
from lineage.access import Viewer
from lineage.answers import evidence_read, for_members
from lineage.views import desk, frame

REQUEST = re.compile(r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}")
"""How a gateway names a request: that is decided here, and stands in no tracker."""


@evidence_read
@for_members
def approvals(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    if not viewer.reads_records:
        return _own(request, viewer)
    window, q = frame.window(request), request.GET.get("q", "")
    answer = queries.approvals(viewer, q, window, frame.limit(request), request.GET.get("cursor"))
    waiting = desk.inbox(request, viewer)
    waiting["imported"] |= queries.tickets(viewer, [item["ticket"] for item in answer.items])
    for item in answer.items:
        item["is_request"] = bool(REQUEST.fullmatch(item["ticket"]))
        item["word"], item["reading"] = words.APPROVALS[item["state"]]
    good = sum(1 for item in answer.items if item["state"] == "good")
    used = sum(1 for item in answer.items if item["accesses"] or item["rows_changed"])
    tickets = f"{good} of {words.counted(used, 'ticket')} approved in time by somebody else {frame.period(request)}"
    wait = f"{words.counted(len(waiting['waiting']), 'statement waits', 'statements wait')} for a decision"
    context = waiting | {
        "answer": answer,
        "title": wait if waiting["waiting"] else tickets,
        "tickets": tickets,
        "simulated": frame.shows_simulated(window, answer.items),
    }
    return frame.page(request, "lineage/approvals.html", context)


def _own(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """For a member: what waits or was decided of their own statements, and no records."""
    inbox = desk.inbox(request, viewer)
    waiting = words.counted(len(inbox["waiting"]), "statement of yours waits", "statements of yours wait")
    return frame.page(request, "lineage/approvals.html", inbox | {"title": f"{waiting} for a decision"})
