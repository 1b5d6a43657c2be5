"""The first page: what happened, what needs a look, live."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from django.core import signing
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from lineage import charts, due, outside, queries, words
from lineage.access import Viewer
from lineage.answers import evidence_read, signed_in
from lineage.views import frame, proof

WATCH_SECONDS = 60
WATCH_SALT = "touchstone.watch"
LOOKS = 6


def watch_token(request: HttpRequest, viewer: Viewer) -> str:
    """Proof that this reader's view of this question was recorded now: it covers live updates for a minute."""
    return signing.dumps([viewer.email, request.GET.get("q", ""), frame.carried(request.GET)], salt=WATCH_SALT)


def watching(request: HttpRequest) -> bool:
    """Whether the request carries a watch token that is still good for its reader and question."""
    viewer = getattr(request, "viewer", None)
    try:
        held = signing.loads(request.headers.get("X-Watch", ""), salt=WATCH_SALT, max_age=WATCH_SECONDS)
    except signing.BadSignature:
        return False
    return viewer is not None and held == [viewer.email, request.GET.get("q", ""), frame.carried(request.GET)]


def counted(request: HttpRequest, viewer: Viewer, looks: int = 0) -> dict[str, Any]:
    window = frame.window(request)
    found = queries.overview(viewer, window)
    shown = [e["name"] for e in found["by_environment"]]
    return {
        "counts": found,
        "charts": charts.activity(found["bars"]),
        "findings": queries.pressing(viewer, window, looks, real_ones(window, shown)),
        "now": dt.datetime.now(dt.UTC),
        "simulated": words.simulated(window, shown, frame.SIMULATED),
        "only_simulated": shown == [frame.SIMULATED],
        "window": window,
    }


def real_ones(window: queries.Window, shown: Sequence[str]) -> list[str]:
    """The environments to look at first: made-up ones only where nothing else is shown. Empty: all."""
    real = [name for name in shown if name != frame.SIMULATED]
    return real if frame.SIMULATED in shown and not window.environment else []


@evidence_read
def overview(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    context = counted(request, viewer, LOOKS)
    found = context["counts"]
    accesses = words.counted(found["accesses"], "access", "accesses")
    people = words.counted(found["identities"], "identity", "identities")
    log = queries.integrity(viewer)
    context |= {
        "title": f"{accesses} by {people} {frame.period(request)}",
        "silent": [c for c in found["coverage"] if c.state != "complete"],
        "watch": watch_token(request, viewer),
        "log": log,
        "sealed": proof.sentence(log, dt.datetime.now(dt.UTC)),
        "outside": outside.sentence(found["as_of"], most=1),
        "nothing_outside": words.NOTHING_OUTSIDE,
        "dues": due.listed(viewer),
        "is_paused": request.GET.get("live") == "off",
    }
    return frame.page(request, "lineage/overview.html", context)


@signed_in
def overview_live(request: HttpRequest, viewer: Viewer) -> HttpResponseBase:
    """The numbers, charts and newest accesses again. One record in the log covers a minute of watching."""
    return _live(request, viewer, request.headers["X-Watch"]) if watching(request) else _recorded_live(request)


def _live(request: HttpRequest, viewer: Viewer, watch: str) -> HttpResponse:
    return frame.page(
        request, "lineage/_overview_live.html", counted(request, viewer) | {"watch": watch, "again": True}
    )


@evidence_read
def _recorded_live(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    return _live(request, viewer, watch_token(request, viewer))


@evidence_read
def firsts(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """Who touched which table for the first time in the window."""
    window = frame.window(request)
    answer = queries.firsts(viewer, window, frame.limit(request), request.GET.get("cursor"))
    pairs = words.total(answer.total, "first access", "first accesses")
    return frame.page(request, "lineage/firsts.html", {
        "answer": answer,
        "imported": queries.tickets(viewer, [row["ticket"] for row in answer.items]),
        "title": f"{pairs} of an identity to a table {frame.period(request)}",
        "simulated": frame.shows_simulated(window, answer.items),
    })  # fmt: skip
