"""An evidence pack by form: what would go in, what is withheld, and the file."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_http_methods

from lineage import errors, ledger, packs, queries, tree, words
from lineage.access import Viewer
from lineage.answers import signed_in
from lineage.events import GROUPS, Group
from lineage.views import frame

HELD = {
    "actor": "people, agents, programs and addresses", "action": "tables, verdicts, tickets, times of the source",
    "statement": "statement texts and parameters", "change": "row keys and values",
}  # fmt: skip
SUBJECT = "pack"


@require_http_methods(["GET", "POST"])
@signed_in
def pack(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """GET: how much a pack for `q` would hold. POST: the pack, recorded with its question before it leaves."""
    given = request.POST if request.method == "POST" else request.GET
    q = given.get("q", "").strip()
    withhold: list[Group] = [name for name in GROUPS if name in given.getlist("withhold")]
    context: dict[str, Any] = {
        "q": q, "withhold": withhold, "groups": [(name, HELD[name], name in withhold) for name in GROUPS],
        "title": "Evidence pack", "most": packs.RECORDS_MOST, "size": tree.published()[0],
    }  # fmt: skip
    status = 200
    try:
        window = frame.window(request)
        if request.method == "POST":
            return _file(viewer, q, window, withhold)
        if q:
            _recorded(viewer, q, "counted")
            found = queries.events(viewer, q, window, 1)
            context |= {"count": found.total, "title": f"Evidence pack of {words.total(found.total, 'record')}"}
    except (errors.QueryInvalid, errors.NotFound) as fault:
        context["fault"], status = fault, fault.status
    answer = frame.page(request, "lineage/pack.html", context)
    answer.status_code = status
    return answer


def _file(viewer: Viewer, q: str, window: queries.Window, withhold: list[Group]) -> HttpResponse:
    if not q:
        raise errors.QueryInvalid("Say what the pack is to hold, such as ticket:OPS-42; a star alone is not enough.")
    body = packs.collect(viewer, q, window, withhold=withhold)
    _recorded(viewer, q, f"given, {len(body)} bytes" + (f", without {', '.join(withhold)}" if withhold else ""))
    answer = HttpResponse(body, content_type="application/zip")
    answer["Content-Disposition"] = f'attachment; filename="evidence-{tree.published()[0]}.touchstone.zip"'
    answer["Cache-Control"] = "private, no-store"
    return answer


def _recorded(viewer: Viewer, q: str, told: str) -> None:
    """Before the answer leaves; where it cannot be recorded there is none."""
    try:
        ledger.record_decision("evidence_read", decided_by=viewer.email, subject=SUBJECT, transition=told, purpose=q)
    except errors.StoreUnavailable as error:
        raise errors.EvidenceReadUnrecorded from error
