"""Search, and one record whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse

from lineage import authorities, errors, queries, words
from lineage.access import Viewer
from lineage.answers import evidence_read
from lineage.search import chips, parse
from lineage.views import frame

BY: dict[str, tuple[Callable[..., queries.Answer], str, str]] = {
    "event": (queries.events, "record", "records"),
    "touch": (queries.touches, "access to a row or table", "accesses to rows and tables"),
    "session": (queries.sessions, "session", "sessions"),
    "identity": (queries.identities, "identity", "identities"),
}
EXAMPLES = (
    ("relation:customers key:4711", "who touched customer 4711"),
    ("type:agent op:delete", "what agents deleted"),
    ("verdict:blocked since:24h", "what was refused in the last day"),
    ("ticket:OPS-42", "what was done under a ticket"),
    ("op:export rows>1000", "large exports"),
)


@evidence_read
def search(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """Results for `q`, or how to ask. A question that cannot be understood keeps its text and says where."""
    q, by = request.GET.get("q", "").strip(), request.GET.get("by", "event")
    by = by if by in BY else "event"
    context: dict[str, Any] = {"q": q, "by": by, "kinds": BY, "examples": EXAMPLES, "title": "Search the records"}
    status = 200
    if q:
        try:
            context |= found(request, viewer, q, by)
        except errors.QueryInvalid as fault:
            context |= {"fault": fault, "title": "The search text cannot be understood"}
            status = fault.status
    answer = frame.page(request, "lineage/search.html", context)
    answer.status_code = status
    return answer


def found(request: HttpRequest, viewer: Viewer, q: str, by: str) -> dict[str, Any]:
    """The answer to a search, with counts by which it can be narrowed."""
    window = frame.window(request)
    ask, one, many = BY[by]
    answer = ask(viewer, q, window, frame.limit(request), request.GET.get("cursor"))
    counts = queries.search_counts(viewer, q, window)
    shown = [c["name"] for c in counts.get("environment", ())]
    return {
        "answer": answer,
        "chips": chips(parse(q)),
        "facets": [(field, rows) for field, rows in counts.items() if rows],
        "title": f"{words.total(answer.total, one, many)} {frame.period(request)}",
        "simulated": words.simulated(window, shown, frame.SIMULATED),
    }


@evidence_read
def event(request: HttpRequest, viewer: Viewer, index: int) -> HttpResponse:
    found = queries.event(viewer, index)
    context = {
        "event": found,
        "title": words.event_title(found),
        "groups": [(name, group_text(group)) for name, group in found["groups"].items()],
        "simulated": found["environment"] == frame.SIMULATED,
        "checkpoint_size": queries.integrity(viewer)["checkpoint_size"],
        "stamped": authorities.first_over(index),
    }
    return frame.page(request, "lineage/event.html", context)


def group_text(group: Any) -> str:
    """A disclosure group as indented JSON, or the word that says why it is not shown."""
    return group if isinstance(group, str) else json.dumps(group, indent=2, ensure_ascii=False)
