"""Sessions and identities."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from typing import Any

from django.http import HttpRequest, HttpResponse

from lineage import charts, queries, words
from lineage.access import Viewer
from lineage.answers import evidence_read
from lineage.search import chips, parse
from lineage.views import frame
from lineage.views.searching import facets

STEPS = 100
CHANGES_SHOWN = 20
TABLES_SHOWN = 50
"""Of more tables those stand on an identity's page that it used most often."""


@evidence_read
def sessions(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    window, q, state = frame.window(request), request.GET.get("q", "").strip(), request.GET.get("state", "")
    answer, counts, is_whole = queries.sessions_faceted(
        viewer, q, window, frame.limit(request), request.GET.get("cursor"), state
    )
    states = counts.pop("state")
    if not is_whole:
        states = [{"name": name, "count": None} for name in ("open", "ended")]
    title = f"{words.total(answer.total, 'session')} {frame.period(request)}"
    context = {
        "answer": answer,
        "q": q,
        "chips": chips(parse(q)),
        "facets": facets(q, counts),
        "facets_of": "" if is_whole else f"{queries.FACETED} sessions",
        "states": [one | {"is_chosen": one["name"] == state} for one in states],
        "title": title,
        "simulated": frame.shows_simulated(window, answer.items),
    }
    return frame.page(request, "lineage/sessions.html", context)


@evidence_read
def session(request: HttpRequest, viewer: Viewer, key: str) -> HttpResponse:
    """One session; `from` is the place of the first statement on the page, `q` narrows within it."""
    q, text = request.GET.get("q", "").strip(), request.GET.get("from", "1")
    first = int(text) if text.isascii() and text.isdigit() and 0 < len(text) < 8 else 1
    start = max(0, first - 1)
    found = queries.session(viewer, key, q, start, STEPS, CHANGES_SHOWN)
    head, places = found["session"], found["places"]
    told = frame.only(found["coverage"], head["datasource"])
    bound(found["chain"]["reasons"], places, head)
    context = {
        "found": found,
        "imported": queries.tickets(viewer, [one["ticket"] for one in found["chain"]["reasons"]]),
        "session": head,
        "q": q,
        "title": words.session_title(head),
        "strip": charts.strip(places),
        "steps": STEPS,
        "shown": {"first": start + 1, "last": start + len(found["steps"]), "of": found["found"], "all": len(places)},
        "earlier": max(1, start + 1 - STEPS) if start else None,
        "later": start + STEPS + 1 if start + len(found["steps"]) < found["found"] else None,
        "narrowings": narrowings(places),
        "with_gaps": between(found["steps"], told, start == 0, start + len(found["steps"]) >= found["found"]),
        "around": neighbours(found["around"], head),
        "citation": citation(request, viewer, found),
        "coverage": told,
        "simulated": head["environment"] == frame.SIMULATED,
    }
    return frame.page(request, "lineage/session.html", context)


def bound(reasons: list[dict[str, Any]], places: list[dict[str, Any]], head: dict[str, Any]) -> None:
    """Adds to each reason when it was first and last given; what only the session itself names, for all of it."""
    for reason in reasons:
        times = [one["occurred_at"] for one in places if one["ticket"] == reason["ticket"]]
        times = times or [head["started_at"], head["ended_at"] or head["started_at"]]
        reason["first_at"], reason["last_at"] = min(times), max(times)


def neighbours(around: dict[str, Any], head: dict[str, Any]) -> list[tuple[str, str]]:
    """The sessions around this one with what their links say."""
    labels = (
        ("previous_own", f"← earlier by {head['who_name']}"), ("next_own", f"later by {head['who_name']} →"),
        ("previous_same", f"← earlier in {head['datasource']}"), ("next_same", f"later in {head['datasource']} →"),
    )  # fmt: skip
    return [(around[name], label) for name, label in labels if around[name]]


def narrowings(places: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """By what the statements of a session can be narrowed, with counts."""
    fields = (("verdict", "verdict"), ("op", "op"))
    counts = Counter(
        words.condition(field, step[member]) for field, member in fields for step in places if step[member] and step["kind"] != "session"
    )  # fmt: skip
    return counts.most_common(12)


def between(
    steps: list[dict[str, Any]], coverage: list[queries.Coverage], is_first: bool, is_last: bool
) -> list[dict[str, Any]]:
    """Steps and, where they fall between them, times in which a source was silent or lacks records."""
    if not steps:
        return []
    start, end = steps[0]["occurred_at"], steps[-1]["occurred_at"]
    spans = [
        (span.from_at or start, {"gap": span, "source": one.source})
        for one in coverage
        for span in one.spans
        if (span.to_at is None or span.to_at >= start) and (span.from_at is None or span.from_at <= end)
    ]
    spans = [(max(at, start), one) for at, one in spans if at >= start or is_first]
    merged: list[tuple[dt.datetime, int, int, dict[str, Any]]] = [
        (step["occurred_at"], 1, n, {"step": step}) for n, step in enumerate(steps)
    ]
    merged += [(at, 0, n, one) for n, (at, one) in enumerate(spans)]
    return [item[3] for item in sorted(merged, key=lambda item: item[:3])]


def citation(request: HttpRequest, viewer: Viewer, found: dict[str, Any]) -> str:
    """What somebody writes down about a session: what was said, where it stands, and under which checkpoint."""
    log, head = queries.integrity(viewer), found["session"]
    records = [
        index for step in found["places"] for index in (*step["records"], *(c["index"] for c in step["changes"]))
    ]
    span = (
        f"records {min(records)} to {max(records)}, {len(records)} of them this session's"
        if records
        else "no record of a statement"
    )
    under = (
        f"checkpoint of {log['checkpoint_size']} records, root {log['root']}" if log["root"] else "no checkpoint yet"
    )
    ended = f" to {head['ended_at']:%Y-%m-%d %H:%M:%S}" if head["ended_at"] else ""
    return "\n".join(
        (
            f"{words.session_title(head)}",
            f"Session {head['session']} in {head['datasource']} ({head['environment']})",
            f"From {head['started_at']:%Y-%m-%d %H:%M:%S}{ended} UTC",
            f"Log {log['origin']}: {span}; read as of log size {found['as_of']}; {under}",
            request.build_absolute_uri(request.path),
            f"Read by {viewer.email} at {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M:%S} UTC",
        )
    )


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
    conduct = queries.conduct(viewer, identity_id, window)
    rows = [*found["sessions"], *found["recent"]]
    tables, count = charts.busiest(found["tables"], TABLES_SHOWN, "datasource", "relation")
    context = {
        "found": found,
        "identity": found["identity"],
        "title": words.identity_title(found["identity"], frame.period(request)),
        "sentence": words.identity_sentence(found),
        "heat": charts.heat(found["weeks"], TABLES_SHOWN),
        "tables": {"rows": tables, "of": count},
        "tables_shown": TABLES_SHOWN,
        "chart": charts.identity_activity(conduct["hours"]),
        "conduct": conduct,
        "rights": conduct["rights"],
        "imported": queries.tickets(viewer, [row["ticket"] for row in found["recent"]]),
        "unusual": conduct["unusual"],
        "usual": words.hours_of_day(conduct["unusual"]["usual_hours"]),
        "simulated": frame.shows_simulated(window, rows),
    }
    return frame.page(request, "lineage/identity.html", context)
