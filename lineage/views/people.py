"""Sessions and identities."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse

from lineage import charts, queries, words
from lineage.access import Viewer
from lineage.answers import evidence_read
from lineage.views import frame


@evidence_read
def sessions(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    window, q = frame.window(request), request.GET.get("q", "")
    answer = queries.sessions(viewer, q, window, frame.limit(request), request.GET.get("cursor"))
    title = f"{words.total(answer.total, 'session')} {frame.period(request)}"
    context = {"answer": answer, "q": q, "title": title, "simulated": frame.shows_simulated(window, answer.items)}
    return frame.page(request, "lineage/sessions.html", context)


@evidence_read
def session(request: HttpRequest, viewer: Viewer, key: str) -> HttpResponse:
    found = queries.session(viewer, key)
    head = found["session"]
    context = {
        "found": found,
        "session": head,
        "title": words.session_title(head),
        "strip": charts.strip(found["steps"]),
        "coverage": frame.only(found["coverage"], head["datasource"]),
        "simulated": head["environment"] == frame.SIMULATED,
    }
    return frame.page(request, "lineage/session.html", context)


@evidence_read
def identities(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    window, q = frame.window(request), request.GET.get("q", "")
    answer = queries.identities(viewer, q, window, frame.limit(request), request.GET.get("cursor"))
    title = f"{words.total(answer.total, 'identity', 'identities')} {frame.period(request)}"
    context = {"answer": answer, "q": q, "title": title, "simulated": frame.may_show_simulated(window, answer.coverage)}
    return frame.page(request, "lineage/identities.html", context)


@evidence_read
def identity(request: HttpRequest, viewer: Viewer, identity_id: str) -> HttpResponse:
    window = frame.window(request)
    found = queries.identity(viewer, identity_id, window)
    rows = [*found["sessions"], *found["recent"]]
    context = {
        "found": found,
        "identity": found["identity"],
        "title": words.identity_title(found["identity"], frame.period(request)),
        "sentence": words.identity_sentence(found),
        "heat": charts.heat(found["weeks"]),
        "simulated": frame.shows_simulated(window, rows),
    }
    return frame.page(request, "lineage/identity.html", context)
