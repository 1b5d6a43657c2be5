"""What every HTTP answer shares: errors in one form, sign-in, and the record of each read of evidence.

A read of evidence is appended to the log before its answer leaves; when that fails the answer is 503.
"""

from __future__ import annotations

import datetime as dt
import functools
import logging
import traceback
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_to_bytes, urlencode

import psycopg
from django.conf import settings
from django.contrib import auth
from django.db import DatabaseError, DataError, transaction
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect, render
from django.utils import timezone

from lineage import access, errors, ledger
from lineage.models import Role, User

View = Callable[..., HttpResponseBase]
log = logging.getLogger("touchstone")
FEEDS = ("/api/v1/ingest/", "/api/v1/heartbeat", "/api/v1/gateway/exchange")
"""What feeds send is kept and sent again: it is never told to be at fault where only the database says so."""
REFUSED_AGAIN = dt.timedelta(hours=1)
RECORDLESS: dict[str, str] = {
    Role.WITNESS: "A witness reads checkpoints, tiles and proofs, and no records.",
    Role.SERVICE: "A service connects to databases (POST /api/v1/connect) and reads no records.",
    Role.MEMBER: "A member works on databases and reads no records. `/connect/` and `/approvals/` are open to you.",
}


def wants_json(request: HttpRequest) -> bool:
    return request.path.startswith(("/api/", "/healthz", "/readyz", "/checkpoint", "/tile/", "/log/"))


def route(request: HttpRequest) -> str:
    """The pattern of the address, without the names and keys that it holds."""
    return str(request.resolver_match.route) if request.resolver_match else "-"


def error_answer(request: HttpRequest, error: errors.TouchstoneError) -> HttpResponse:
    """The same error as JSON for programs and as a page for people, under one id."""
    error_id = uuid.uuid4().hex[:12]
    if error.status >= 500:
        # Only code, id and route: messages could hold statement or row values, addresses row keys and names.
        log.error("error %s id=%s route=%s", error.code, error_id, route(request))
    if wants_json(request):
        answer: HttpResponse = JsonResponse(
            {"code": error.code, "message": error.message, "fields": error.fields, "id": error_id}, status=error.status
        )
    else:
        page = {"error": error, "error_id": error_id, "title": error.code.replace("-", " ").capitalize()}
        answer = render(request, "error.html", page, status=error.status)
    if error.status in (429, 503):
        answer["Retry-After"] = str(getattr(error, "seconds", 5))
    if error.status == 401:
        answer["WWW-Authenticate"] = 'Bearer realm="touchstone"'
    return answer


class ErrorMiddleware:
    """Turns deliberate errors into their answers, and unexpected ones into a plain 500 without their text."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        try:
            unquote_to_bytes(request.META.get("QUERY_STRING", "")).decode()
        except UnicodeDecodeError:
            return error_answer(
                request,
                errors.QueryInvalid("The address holds bytes that are no text. Write it in UTF-8, as %C3%A9 for é."),
            )
        answer = self.get_response(request)
        if answer.status_code != errors.MethodUnknown.status or answer.get("Content-Type", "").startswith(
            "application/json"
        ):
            return answer
        told = error_answer(request, errors.MethodUnknown())
        told["Allow"] = answer.get("Allow", "GET")
        return told

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if isinstance(exception, errors.TouchstoneError):
            if isinstance(exception, errors.AccessDenied) and hasattr(request, "viewer"):
                _record_refusal(request, request.viewer.email, exception)
            if isinstance(exception, errors.SeatEnded):
                _record_ended(request, exception)
            return error_answer(request, exception)
        if isinstance(exception, (DataError, psycopg.DataError)) and not request.path.startswith(FEEDS):
            # A NUL, say, which no text in the database can hold: what was asked is at fault, and nothing was done.
            return error_answer(
                request, errors.QueryInvalid("The address holds a character or number that cannot be looked for.")
            )
        if isinstance(exception, (DatabaseError, psycopg.Error)):
            log.error("database error %s at %s", type(exception).__name__, route(request))
            return error_answer(request, errors.StoreUnavailable())
        place = traceback.extract_tb(exception.__traceback__)[-1]
        log.error(
            "unexpected %s in %s line %s at %s", type(exception).__name__, place.name, place.lineno, route(request)
        )
        return None


def _record_refusal(request: HttpRequest, email: str, refused: errors.TouchstoneError) -> None:
    """Notes in the log who was refused what. A refusal stands even where it cannot be noted."""
    try:
        ledger.record_decision(
            "evidence_read",
            decided_by=email,
            subject=request.path,
            transition=f"{refused.status} {refused.code}",
            purpose=request.META.get("QUERY_STRING") or None,
        )
    except (errors.StoreUnavailable, DatabaseError):
        log.error("a refusal was not recorded route=%s", route(request))


def _record_ended(request: HttpRequest, ended: errors.SeatEnded) -> None:
    """Notes that a seat was used after its end: once, and again after an hour, since programs ask every second."""
    now = timezone.now()
    due = Q(refused_at__isnull=True) | Q(refused_at__lt=now - REFUSED_AGAIN)
    try:
        with transaction.atomic():
            if User.objects.filter(due, email=ended.email).update(refused_at=now):
                _record_refusal(request, ended.email, ended)
    except DatabaseError:
        log.error("a refusal was not recorded route=%s", route(request))


def for_members(view: View) -> View:
    """Written under `signed_in` or `evidence_read`: the page is open to members too, and shows them their own alone."""
    view.is_for_members = True  # type: ignore[attr-defined]
    return view


def signed_in(view: View) -> View:
    """Passes `viewer` to the view; without one a page leads to sign-in and the API answers 401."""

    @functools.wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            viewer = access.viewer_for(request)
        except errors.TokenInvalid as error:
            asked = {"next": request.get_full_path()}
            if isinstance(error, errors.SeatEnded):
                _record_ended(request, error)
                asked["why"] = error.code
                if not access.bearer(request):
                    auth.logout(request)
            if wants_json(request):
                return error_answer(request, error)
            return redirect(f"/accounts/login/?{urlencode(asked)}")
        request.viewer = viewer  # type: ignore[attr-defined]
        is_theirs = viewer.role == Role.MEMBER and getattr(view, "is_for_members", False)
        if not (viewer.reads_records or is_theirs):
            raise errors.AccessDenied(RECORDLESS[viewer.role])
        return view(request, viewer, *args, **kwargs)

    return wrapped


def log_read(view: View) -> View:
    """For hashes and checkpoints, which say nothing of anybody: any token, none where the log is made public.

    Not recorded: who follows the log by its tiles would otherwise make it grow.
    """

    @functools.wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not settings.PUBLIC_LOG:
            access.viewer_for(request)
        return view(request, *args, **kwargs)

    return wrapped


def evidence_read(view: View) -> View:
    """`signed_in`, and the read is recorded in the log before the answer leaves (PCI DSS 10.2.1.3)."""

    @signed_in
    @functools.wraps(view)
    def wrapped(request: HttpRequest, viewer: access.Viewer, *args: Any, **kwargs: Any) -> HttpResponseBase:
        answer = view(request, viewer, *args, **kwargs)
        try:
            ledger.record_decision(
                "evidence_read",
                decided_by=viewer.email,
                subject=request.path,
                transition=str(answer.status_code),
                purpose=request.META.get("QUERY_STRING") or None,
            )
        except (errors.StoreUnavailable, DatabaseError) as error:
            raise errors.EvidenceReadUnrecorded from error
        return answer

    return wrapped
