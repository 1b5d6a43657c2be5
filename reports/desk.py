"""Pages where a reader works with evidence: a file that they bring is checked, and a report is tried before it is issued."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_GET, require_http_methods

from lineage import errors, ledger
from lineage.access import Viewer
from lineage.answers import evidence_read, signed_in
from lineage.verify.verdicts import INVALID, UNREADABLE, UNTRUSTED, VALID
from lineage.views import frame
from lineage.views.names import lines
from reports import available, builder, checking, controls, periods, policies, requests, sampling
from reports.models import Cadence, Report

FORM_BYTES = 64 * 1024
ASKED = (
    "kind",
    "control",
    "from",
    "to",
    "environment",
    "datasources",
    "q",
    "draft",
    "engagement",
    "sample",
    "framework",
)
TITLES = {
    VALID: "Valid: every check of this file holds",
    INVALID: "Invalid: do not rely on this file",
    UNTRUSTED: "Consistent, and not confirmed: something is missing",
    UNREADABLE: "This file cannot be read as evidence",
}
TONES = {VALID: "complete", INVALID: "gap", UNTRUSTED: "silent", UNREADABLE: "gap"}
STATES = {"pass": "complete", "fail": "gap", "missing": "silent", "note": "waiting"}


@csrf_exempt
@require_http_methods(["GET", "POST"])
def verify(request: HttpRequest) -> HttpResponseBase:
    """Says no to what is too large before any of it is read; the form's own token is looked at behind that."""
    most = checking.BYTES_MOST + checking.POLICY_BYTES_MOST + FORM_BYTES
    if int(request.META.get("CONTENT_LENGTH") or 0) > most:
        raise errors.BodyTooLarge(
            f"Here at most {checking.BYTES_MOST // 1024**2} MiB are checked. Check it on your own machine; nothing was read."
        )
    return _verify(request)


@csrf_protect
@signed_in
def _verify(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """The form; of a file that is brought, the numbered verdict. The file is not kept."""
    context: dict[str, Any] = {
        "title": "Check a report or an evidence pack",
        "most_mib": checking.BYTES_MOST // 1024**2,
    }
    if request.method == "POST":
        context |= _judged(request, viewer)
    return frame.page(request, "reports/verify.html", context)


def _judged(request: HttpRequest, viewer: Viewer) -> dict[str, Any]:
    file, own = request.FILES.get("file"), request.FILES.get("policy")
    if file is None:
        raise errors.QueryInvalid("Choose the file that is to be checked: a report (PDF) or an evidence pack.")
    policy = policies.text() if own is None else _policy(own)
    sha256 = hashlib.sha256()
    for chunk in file.chunks():
        sha256.update(chunk)
    try:
        found = checking.verdict(file.chunks(), policy)
    except errors.CheckStopped as stopped:
        _record(viewer, sha256.hexdigest(), stopped.code)
        raise
    _record(viewer, sha256.hexdigest(), str(found["exit"]))
    return {
        "title": TITLES[found["exit"]],
        "tone": TONES[found["exit"]],
        "verdict": found,
        "checks": [{**check, "tone": STATES[check["state"]]} for check in found["checks"]],
        "file": {"name": file.name, "bytes": file.size, "sha256": sha256.hexdigest()},
        "is_own_policy": own is not None,
        "issued": _issued(viewer, sha256.hexdigest()),
    }


def _policy(own: UploadedFile[bytes]) -> str:
    raw = own.read(checking.POLICY_BYTES_MOST + 1)
    if len(raw) > checking.POLICY_BYTES_MOST:
        raise errors.BodyTooLarge("A policy file has at most 256 KiB. Nothing was checked.")
    try:
        return bytes(raw).decode()
    except UnicodeDecodeError as error:
        raise errors.QueryInvalid("The policy file is not text in UTF-8. Nothing was checked.") from error


def _issued(viewer: Viewer, sha256: str) -> Report | None:
    """The report in the viewer's scope that was issued with exactly these bytes."""
    return requests.visible(viewer).filter(sha256=sha256).first()


@require_GET
@evidence_read
def build(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """The form of a new report; when it is filled in, what the report would say as of now."""
    if not viewer.sees_values:
        raise errors.AccessDenied("Reports name people and statements; your role sees shapes only. Ask compliance.")
    month = periods.rhythm(Cadence.MONTHLY)
    first = periods.start_of(month, dt.datetime.now(dt.UTC))
    context: dict[str, Any] = {
        **available.offered(viewer),
        "title": "A new report",
        "sample_presets": sampling.PRESETS.items(),
        "choices": frame.environments(viewer),
        "suggested": (periods.previous(month, first), first),
        "asked": {name: request.GET.get(name, "") for name in ASKED},
        "named": lines(request.GET, "datasources"),
        "most": builder.ACCESSES_MOST,
    }
    status = 200
    if "kind" in request.GET:
        try:
            found = builder.preview(viewer, requests.read(request.GET))
            context |= {"found": found, "title": _foretold(found)}
        except errors.AccessDenied:
            raise
        except errors.TouchstoneError as fault:
            context |= {"fault": fault, "title": "This cannot be previewed"}
            # htmx leaves the page as it is for anything but 200; the reader is to see the reason.
            status = 200 if request.headers.get("HX-Request") else fault.status
    answer = frame.page(request, "reports/build.html", context)
    answer.status_code = status
    return answer


def _foretold(found: builder.Preview) -> str:
    return f"{controls.title(found.request.kind, found.request.control)}: {found.conclusion}, as of now"


def _record(viewer: Viewer, sha256: str, transition: str) -> None:
    """Notes who had which file checked, with what answer, before it is given. Raises EvidenceReadUnrecorded."""
    try:
        ledger.record_decision(
            "evidence_read", decided_by=viewer.email, subject=f"verify sha256:{sha256}", transition=transition
        )
    except (errors.StoreUnavailable, DatabaseError) as error:
        raise errors.EvidenceReadUnrecorded from error
