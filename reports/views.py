"""Pages of the reports: the list with its two forms, one report, and its files. Each look is recorded."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import msgspec
from django.conf import settings
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from lineage import api, errors, queries
from lineage.access import Viewer
from lineage.answers import evidence_read, signed_in
from lineage.queries import short
from lineage.views import frame
from reports import (
    acts,
    available,
    controls,
    deliveries,
    exceptions,
    issuing,
    periods,
    policies,
    redraws,
    reperformance,
    requests,
    review_views,
    sampling,
    spreadsheets,
    tasks,
    unshown,
)
from reports.controls import KINDS
from reports.models import Cadence, Report, Status
from reports.sampling import Plan

SHOWN_MOST = 200
LISTED = (
    "kind", "period_from", "period_to", "environment", "datasources", "status", "reasons", "as_of", "sha256",
    "unsigned_sha256", "counts", "created_by", "issued_at",
)  # fmt: skip
SEARCHED = {"environment": "environment", "datasource": "datasources", "actor": "created_by"}
"""By which fields of the search language reports are found, and the members that hold them."""
MEDIA = {".pdf": "application/pdf", ".json": "application/json", ".zip": "application/zip"}


@require_GET
@evidence_read
def reports(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    found = list(requests.visible(viewer)[:SHOWN_MOST])
    final = sum(1 for report in found if report.status == Status.FINAL)
    return frame.page(request, "reports/reports.html", _forms(request, viewer) | {
        "reports": found,
        "title": f"{final} final report{'' if final == 1 else 's'}" if found else "Reports",
    })  # fmt: skip


def _forms(request: HttpRequest, viewer: Viewer) -> dict[str, Any]:
    monthly = periods.rhythm(Cadence.MONTHLY)
    first = periods.start_of(monthly, dt.datetime.now(dt.UTC))
    return {
        **available.offered(viewer),
        "may_ask": viewer.sees_values,
        "sample_presets": sampling.PRESETS.items(),
        "may_schedule": requests.may_schedule(viewer),
        "suggested": (periods.previous(monthly, first), first),
        "choices": frame.environments(viewer),
    }


@require_POST
@signed_in
def ask(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """Queues a report and leads to its page."""
    report = requests.ask(viewer, requests.read(request.POST))
    tasks.enqueue(report.pk)
    return redirect("report", report_id=report.pk)


@require_POST
@signed_in
def redraw(request: HttpRequest, viewer: Viewer, report_id: int) -> HttpResponse:
    """Queues a report with the same inputs and another sample, and leads to its page."""
    redraws.allow(viewer)
    wanted = Plan(*(request.POST.get(name, "") for name in ("engagement", "nonce", "sample")))
    report = redraws.ask(viewer, requests.one(viewer, report_id), wanted)
    tasks.enqueue(report.pk)
    return redirect("report", report_id=report.pk)


@require_GET
@evidence_read
def report(request: HttpRequest, viewer: Viewer, report_id: int) -> HttpResponse:
    found = requests.one(viewer, report_id)
    summary = _summary(found)
    if summary:
        exceptions.attach(viewer, found, summary)
    return frame.page(request, "reports/report.html", {
        "report": found,
        "kind": KINDS.get(found.kind),
        "summary": summary and reperformance.shown(found, summary),
        "deliveries": deliveries.of(found),
        "unknown": [
            {"count": summary["completeness"]["unknown"].get(key, 0), "words": words} for key, words in unshown.UNKNOWN
            if key in summary["completeness"]["unknown"]
        ] if summary else [],
        "title": _title(found, summary),
        "sample_presets": sampling.PRESETS.items(),
        "sign_off": review_views.shown(viewer, found),
        "working": found.status in (Status.QUEUED, Status.RUNNING),
        **acts.shown(viewer, found),
    })  # fmt: skip


@require_GET
@evidence_read
def listing(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """`GET /api/v1/reports`: the reports in scope, newest first, as the other lists of the API answer."""
    api.known(request)
    asked, window = request.GET, api.window_of(request)
    found = requests.within_window(requests.visible(viewer), window)
    items = [{"id": one.pk, "number": one.number} | {name: getattr(one, name) for name in LISTED} for one in found]
    size = queries.integrity(viewer)["size"]
    items = short.narrowed(items, asked.get("q", ""), SEARCHED, ("number", "kind", "status"))
    shown, following = short.page(items, "id", api.limit_of(request) or SHOWN_MOST, asked.get("cursor"), size)
    return api.formatted(request, queries.Answer(shown, following, queries.Total(len(items), True), size, []))


def _title(found: Report, summary: dict[str, Any] | None) -> str:
    kind = controls.title(found.kind, found.control) if found.kind in KINDS else found.kind
    return f"{kind}: {summary['conclusion']}" if summary else f"{kind}: {Status(found.status).label.lower()}"


def _summary(found: Report) -> dict[str, Any] | None:
    if not found.path:
        return None
    path = (Path(settings.DATA_DIR) / found.path).with_suffix(".json")
    summary: dict[str, Any] = msgspec.json.decode(path.read_bytes())
    for source in summary["completeness"]["sources"]:
        source["watermark_at"] = source["watermark_at"] and dt.datetime.fromisoformat(source["watermark_at"])
    for deviation in (one for test in summary["tests"] for one in test["deviations"]):
        deviation["occurred_at"] = dt.datetime.fromisoformat(deviation["occurred_at"])
    return summary


@require_http_methods(["GET", "HEAD"])
@evidence_read
def download(request: HttpRequest, viewer: Viewer, report_id: int, form: str) -> HttpResponseBase:
    """The signed PDF, the JSON beside it, or the ZIP of what is too large for the PDF."""
    found = requests.one(viewer, report_id)
    if not found.path:
        raise errors.NotFound("This report has no file yet.")
    path = (Path(settings.DATA_DIR) / found.path).with_suffix(f".{form}")
    if not path.exists():
        raise errors.NotFound("All files of this report are in its PDF; there is no ZIP beside it.")
    answer = FileResponse(path.open("rb"), as_attachment=True, filename=path.name, content_type=MEDIA[path.suffix])
    answer["Cache-Control"] = "private, no-store"
    return answer


@require_http_methods(["GET", "HEAD"])
@evidence_read
def spreadsheet(request: HttpRequest, viewer: Viewer, report_id: int, test_id: str) -> HttpResponseBase:
    """The answer of one test as CSV, made from the file that the report carries as Parquet."""
    found = requests.one(viewer, report_id)
    test = controls.tests().get(test_id)
    items = issuing.folder_of(found) / f"{test.stem}.items.parquet" if test else None
    if not found.path or items is None or not items.exists():
        raise errors.NotFound("This report has no such test, or no file yet.")
    answer = StreamingHttpResponse(spreadsheets.parts(items), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="{found.number}_{items.stem}.csv"'
    answer["Cache-Control"] = "private, no-store"
    return answer


@require_GET
@signed_in
def policy(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """The policy file. It holds public keys alone: reading it is not recorded."""
    answer = HttpResponse(policies.text(), content_type="text/plain; charset=utf-8")
    answer["Content-Disposition"] = 'attachment; filename="touchstone.policy"'
    return answer
