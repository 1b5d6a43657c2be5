"""Saved searches, and the twelve questions of a quarter with their counts side by side."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from lineage import cells, errors, queries, saved, words
from lineage.access import Viewer
from lineage.answers import evidence_read, signed_in
from lineage.models import SavedSearch
from lineage.search import questions
from lineage.views import frame
from lineage.views.searching import KINDS

PERIODS = 4
"""The quarter that was chosen, and those before it."""


@require_GET
@signed_in
def saved_searches(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    kept = saved.listing(viewer)
    gone = saved.deleted(viewer)
    undo = request.GET.get("undo", "")
    context = {
        "rows": [shown(viewer, one) for one in kept],
        "gone": gone,
        "undo": next((one for one in gone if str(one.pk) == undo), None),
        "kinds": KINDS,
        "title": words.counted(len(kept), "saved search", "saved searches") if kept else "No search is saved yet",
    }
    return frame.page(request, "lineage/saved.html", context)


def shown(viewer: Viewer, one: SavedSearch) -> dict[str, Any]:
    """A saved search with its address; times stay as they were written, so that 24h is always the last day."""
    given = {"q": one.q, "by": one.by, "since": one.since, "until": one.until, "environment": one.environment}
    address = f"{reverse('search')}?{urlencode({name: text for name, text in given.items() if text})}"
    since = (
        f"last {one.since}" if re.fullmatch(r"[0-9]+[smhdw]", one.since) else f"from {one.since}" if one.since else ""
    )
    when = " ".join(filter(None, (since, one.until and f"until {one.until}"))) or "all time"
    return {
        "one": one,
        "is_own": one.owner == viewer.email,
        "address": address,
        "kind": KINDS[one.by].tab,
        "when": when,
    }


@require_POST
@signed_in
def saved_add(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    kept = saved.save(viewer, given(request), request.POST.get("shared") == "1")
    return redirect(f"{reverse('saved')}#saved-{kept.pk}")


@require_http_methods(["GET", "POST"])
@signed_in
def saved_change(request: HttpRequest, viewer: Viewer, number: int) -> HttpResponse:
    """The form of one's own search; a fault keeps what was written."""
    kept = saved.one(viewer, number)
    context: dict[str, Any] = {"one": kept, "kinds": KINDS, "written": kept, "title": f"Change “{kept.name}”"}
    status = 200
    if request.method == "POST":
        written = given(request)
        try:
            saved.save(viewer, written, request.POST.get("shared") == "1", number)
            return redirect(f"{reverse('saved')}#saved-{number}")
        except errors.QueryInvalid as fault:
            context |= {"fault": fault, "written": written | {"role": request.POST.get("shared", "")}}
            status = fault.status
    elif kept.owner != viewer.email:
        raise errors.AccessDenied(f"This search is kept by {kept.owner}: only they change it.")
    answer = frame.page(request, "lineage/saved_change.html", context)
    answer.status_code = status
    return answer


def given(request: HttpRequest) -> dict[str, str]:
    """What a form says. Raises QueryInvalid for times that cannot be read."""
    written = {name: str(request.POST.get(name, "")) for name in saved.FIELDS}
    for name in ("since", "until"):
        frame.moment(written[name].strip(), dt.datetime.now(dt.UTC))
    return written


@require_POST
@signed_in
def saved_remove(request: HttpRequest, viewer: Viewer, number: int) -> HttpResponse:
    saved.remove(viewer, number)
    return redirect(f"{reverse('saved')}?undo={number}")


@require_POST
@signed_in
def saved_restore(request: HttpRequest, viewer: Viewer, number: int) -> HttpResponse:
    saved.restore(viewer, number)
    return redirect(f"{reverse('saved')}#saved-{number}")


@require_GET
@evidence_read
def quarter(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """The twelve questions for a quarter, beside the three before it; each count leads to its records."""
    now, environment = dt.datetime.now(dt.UTC), request.GET.get("environment") or None
    chosen = asked_quarter(request, now)
    periods = [chosen.moved(-back) for back in range(PERIODS)]
    counts, size, coverage = queries.tallied(
        viewer,
        {one.id: one.q for one in questions.QUESTIONS},
        [(one.start, one.end) for one in periods],
        environment,
    )
    if request.GET.get("format") == "csv":
        return sheet(chosen, periods, counts, size)
    found = sum(counts[one.id][0] > 0 for one in questions.QUESTIONS)
    context = {
        "rows": [
            {
                "question": one,
                "counts": [
                    cell(one, period, count, environment) for period, count in zip(periods, counts[one.id], strict=True)
                ],
            }
            for one in questions.QUESTIONS
        ],
        "quarter": chosen,
        "periods": periods,
        "choices": [questions.quarter_of(now).moved(-back) for back in range(12)],
        "as_of": size,
        "coverage": coverage,
        "is_running": chosen.end > now,
        "title": f"{found} of {len(questions.QUESTIONS)} questions found something in {chosen.name}",
        "simulated": frame.may_show_simulated(queries.Window(environment=environment), coverage),
    }
    return frame.page(request, "lineage/quarter.html", context)


def sheet(
    chosen: questions.Quarter, periods: list[questions.Quarter], counts: dict[str, list[int]], size: int
) -> HttpResponse:
    """The counts as CSV, with the search behind each."""
    rows = [
        {"question": one.title, "search": one.q, "as_of_log_size": size}
        | {period.name: count for period, count in zip(periods, counts[one.id], strict=True)}
        for one in questions.QUESTIONS
    ]
    answer = HttpResponse(cells.as_csv(rows), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="touchstone-{chosen.name}-{size}.csv"'
    answer["Cache-Control"] = "private, no-store"
    return answer


def asked_quarter(request: HttpRequest, now: dt.datetime) -> questions.Quarter:
    """The quarter in the address; without one the last that is whole. Raises QueryInvalid."""
    text = request.GET.get("quarter", "").strip()
    try:
        return questions.quarter(text) if text else questions.quarter_of(now).moved(-1)
    except ValueError as error:
        raise errors.QueryInvalid(f"{error}.", quarter=text[:20]) from error


def cell(one: questions.Question, period: questions.Quarter, count: int, environment: str | None) -> dict[str, Any]:
    """A count, and the address of the records that it counts."""
    asked = {"q": one.q, "since": f"{period.start:%Y-%m-%d}", "until": f"{period.end:%Y-%m-%d}"}
    asked |= {"environment": environment} if environment else {}
    return {"count": count, "address": f"{reverse('search')}?{urlencode(asked)}", "period": period}
