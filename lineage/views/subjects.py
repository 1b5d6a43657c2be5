"""One identity or one agent run: everything it touched, and the script that would take its changes back."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse

from lineage import errors, queries, undo, words
from lineage.access import Viewer
from lineage.answers import evidence_read
from lineage.queries import Subject
from lineage.views import frame

BY = {"statements": ("access", "accesses"), "rows": ("row", "rows"), "tables": ("table", "tables")}
SHOWN_CHARACTERS = 100_000
LEFT_SHOWN = 200


def subject_of(request: HttpRequest) -> Subject:
    """Whom `identity` or `run` in the address names. Raises QueryInvalid."""
    identity, run = request.GET.get("identity"), request.GET.get("run")
    if bool(identity) == bool(run):
        raise errors.QueryInvalid("Name one identity (identity=…) or one run of an agent (run=…).")
    return Subject(identity=identity or None, run=run or None)


def _touched(request: HttpRequest, viewer: Viewer, subject: Subject) -> dict[str, Any]:
    by: Any = request.GET.get("by", "statements")
    by = by if by in BY else "statements"
    window = frame.window(request)
    answer = queries.touched(viewer, subject, by, window, frame.limit(request), request.GET.get("cursor"))
    one, many = BY[by]
    return {
        "subject": subject,
        "by": by,
        "kinds": BY,
        "answer": answer,
        "imported": queries.tickets(viewer, [row.get("ticket") for row in answer.items]),
        "title": f"{subject.name}: {words.total(answer.total, one, many)} {frame.period(request)}",
        "simulated": frame.shows_simulated(window, answer.items),
    }


@evidence_read
def touched(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """What an identity or run touched, as statements, rows or tables. What nobody did is an empty list."""
    return frame.page(request, "lineage/touched.html", _touched(request, viewer, subject_of(request)))


@evidence_read
def run(request: HttpRequest, viewer: Viewer, run: str) -> HttpResponse:
    """One run of an agent: who, for whom, why, and everything that it touched."""
    found = queries.run(viewer, run, frame.window(request))
    context = _touched(request, viewer, Subject(run=run)) | {"run": found, "title": words.run_title(run, found)}
    return frame.page(request, "lineage/run.html", context)


def _undo(request: HttpRequest, viewer: Viewer) -> dict[str, Any]:
    subject, window = subject_of(request), frame.window(request)
    given = request.GET.get("datasource"), request.GET.get("database", "")
    found = queries.undoing(viewer, subject, window, (given[0], given[1]) if given[0] is not None else None)
    place = found["place"]
    if (place["db_system"] or "postgresql") != "postgresql":
        raise errors.QueryInvalid(
            f"Undo scripts are written for PostgreSQL; {place['datasource']} is {place['db_system']}. Its changes are in the search."
        )
    plan = undo.plan(found["changes"], found["later"])
    where = " / ".join(part for part in (place["datasource"], place["database"]) if part) or "an unnamed database"
    about = [f"Undo script for {subject.name} in {where}, {frame.period(request)}, as of log size {found['as_of']}."]
    if found["is_cut"]:
        about.append(
            f"There are more changes: only the newest {len(found['changes'])} are in this script. Narrow the time range."
        )
    return {
        "subject": subject,
        "found": found,
        "place": place,
        "plan": plan,
        "without": words.without_image(found["without"]),
        "script": undo.script(plan, about, words.without_image(found["without"])),
    }


@evidence_read
def undo_page(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """The undo script, shown; what it cannot restore comes first."""
    context = _undo(request, viewer)
    steps, left = len(context["plan"].steps), context["plan"].left
    of = words.counted(steps + len(left), "captured row change")
    context |= {
        "title": f"{words.number(steps)} of {of} by {context['subject'].name} can be taken back",
        "left": [{"text": undo.told(one), "index": one.change.index} for one in left[:LEFT_SHOWN]],
        "left_more": max(0, len(left) - LEFT_SHOWN),
        "limits": undo.LIMITS,
        "shown": context["script"][:SHOWN_CHARACTERS],
        "is_shown_whole": len(context["script"]) <= SHOWN_CHARACTERS,
        "simulated": frame.window(request).environment == frame.SIMULATED,
    }
    return frame.page(request, "lineage/undo.html", context)


@evidence_read
def undo_file(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """The undo script as a file."""
    answer = HttpResponse(_undo(request, viewer)["script"], content_type="application/sql; charset=utf-8")
    answer["Content-Disposition"] = 'attachment; filename="undo.sql"'
    answer["Cache-Control"] = "private, no-store"
    return answer
