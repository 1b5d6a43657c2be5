"""Pages of schedules: all of them, one with what was due and who is sent it, and the calendar. Each look is recorded."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect
from django.views.decorators.http import require_GET, require_http_methods

from lineage import api, errors, queries, toasts, words, zones
from lineage.access import Viewer
from lineage.answers import evidence_read
from lineage.queries import short
from lineage.views import frame
from lineage.views.names import lines
from reports import available, calendar, periods, planning, recipients, requests, schedules, tasks
from reports.calendar import Cell, State
from reports.controls import KINDS
from reports.models import Cadence, Delivery, Schedule
from reports.schedules import Wanted

SHOWN_MOST = 60
LISTED_MOST = 200
SEARCHED = {"environment": "environment", "datasource": "datasources"}
BACK = dt.timedelta(days=365)
AHEAD = dt.timedelta(days=31)
MARKS = {
    State.DONE: "✓", State.DONE_LATE: "◷", State.DUE: "…", State.LATE: "!", State.MISSING: "✕", State.PLANNED: "○",
}  # fmt: skip
"""The shape of each state: it is told by sign, word and colour."""


@require_http_methods(["GET", "POST"])
@evidence_read
def schedules_page(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """All that the viewer may set, and a form that adds one."""
    planning.check(viewer)
    if request.method == "POST":
        made = planning.add(viewer, request.POST.get("name", "").strip(), _wanted(request.POST))
        toasts.say(
            request, f"{made.name}: {schedules.words_of(made)}. The first report is due at {_utc(made.next_due_at)}."
        )
        return redirect("schedule", number=made.pk)
    found = list(requests.visible_schedules(viewer))
    on = sum(1 for one in found if one.enabled and one.next_due_at)
    return frame.page(request, "reports/schedules.html", _choices(viewer) | {
        "schedules": [{"schedule": one, "words": schedules.words_of(one), "sent": recipients.of(one)} for one in found],
        "title": f"{words.counted(on, 'schedule')} of reports {'is' if on == 1 else 'are'} on",
    })  # fmt: skip


@require_http_methods(["GET", "POST"])
@evidence_read
def schedule_page(request: HttpRequest, viewer: Viewer, number: int) -> HttpResponse:
    """One schedule: what was due and became of it, who is sent it, and what may be done to it."""
    schedule = planning.one(viewer, number)
    if request.method == "POST":
        return _done(request, viewer, schedule)
    now = dt.datetime.now(dt.UTC)
    cells = calendar.of(schedule, now, SHOWN_MOST)
    sent = Delivery.objects.filter(recipient__schedule=schedule).select_related("report", "recipient__receiver")
    rhythm = None if schedule.cadence == Cadence.ONCE else schedules.rhythm_of(schedule)
    return frame.page(request, "reports/schedule.html", _choices(viewer) | {
        "schedule": schedule,
        "kind": KINDS.get(schedule.kind),
        "words": schedules.words_of(schedule),
        "rhythm": rhythm,
        "cells": [_shown(cell) for cell in cells],
        "left_out": sum(1 for cell in cells if cell.number is None and cell.state == State.MISSING),
        "recipients": recipients.of(schedule),
        "receivers": recipients.nameable(viewer, schedule),
        "deliveries": sent.order_by("-pk")[:SHOWN_MOST],
        "title": f"{schedule.name}: {schedules.words_of(schedule)}{'' if schedule.enabled else ', paused'}",
    })  # fmt: skip


def _done(request: HttpRequest, viewer: Viewer, schedule: Schedule) -> HttpResponse:
    """What the form's button asks for; then the page again, or the report that was queued. Raises QueryInvalid."""
    given, number = request.POST, schedule.pk
    act, _, argument = given.get("act", "").partition(":")
    match act:
        case "pause":
            planning.pause(viewer, number)
            toasts.say(request, "Paused: nothing of it is made until it goes on.", request.path, {"act": "resume"})
        case "resume" | "catch-up":
            planning.resume(viewer, number, catch_up=act == "catch-up")
            toasts.say(request, "It goes on.", request.path, {"act": "pause"})
        case "run":
            report = planning.run(viewer, number, _number(argument) if argument else None)
            tasks.enqueue(report.pk)
            return redirect("report", report_id=report.pk)
        case "change":
            planning.change(viewer, number, _wanted(given))
            toasts.say(request, "Set. The record has the old and the new value.")
        case "send":
            one = recipients.add(viewer, number, given.get("recipient", ""), attaches="attach" in given)
            toasts.say(request, f"{one.name} is sent what becomes final from now on.")
        case "unsend":
            recipients.end(viewer, number, _number(argument))
            toasts.say(request, "Nothing more is sent there.")
        case _:
            raise errors.QueryInvalid("Choose what to do with the schedule by one of the buttons of its page.")
    return redirect("schedule", number=number)


def _number(text: str) -> int:
    """A row's number in a button. Raises QueryInvalid."""
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise errors.QueryInvalid("This button's row cannot be read. Reload the page; nothing was changed.")
    return int(text)


@require_GET
@evidence_read
def calendar_page(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """What was due in the page's window, else in the last year, and what became of it."""
    now = dt.datetime.now(dt.UTC)
    window = frame.window(request)
    found = calendar.lines(viewer, window.since or now - BACK, window.until or now + AHEAD, now)
    if window.environment:
        found = [line for line in found if line.schedule.environment in ("", window.environment)]
    counts = calendar.counted(found)
    due = sum(counts[state] for state in State if state != State.PLANNED)
    done = counts[State.DONE] + counts[State.DONE_LATE]
    wanting = [cell for line in found for cell in line.cells if cell.state in calendar.WANTING]
    return frame.page(request, "reports/calendar.html", {
        "lines": [{"line": line, "cells": [_shown(cell) for cell in line.cells]} for line in found],
        "legend": [(MARKS[state], state, counts[state]) for state in State],
        "wanting": [_shown(cell) for cell in sorted(wanting, key=lambda cell: cell.due_at, reverse=True)[:SHOWN_MOST]],
        "wanting_count": len(wanting),
        "may_schedule": requests.may_schedule(viewer),
        "title": f"{done} of {words.counted(due, 'report')} that {'was' if due == 1 else 'were'} due {'is' if done == 1 else 'are'} done",
    })  # fmt: skip


@require_GET
@evidence_read
def occurrences(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """`GET /api/v1/reports/calendar`: what was due, newest first, as the other lists of the API answer."""
    api.known(request)
    now, window, asked = dt.datetime.now(dt.UTC), api.window_of(request), request.GET
    found = calendar.lines(viewer, window.since or now - BACK, window.until or now + AHEAD, now)
    places = ("", window.environment) if window.environment else None
    cells = [cell for line in found for cell in line.cells if places is None or cell.schedule.environment in places]
    items = [_item(cell) for cell in sorted(cells, key=lambda cell: cell.due_at, reverse=True)]
    items = short.narrowed(items, asked.get("q", ""), SEARCHED, ("schedule", "kind", "state", "report"))
    size = queries.integrity(viewer)["size"]
    shown, following = short.page(items, "id", api.limit_of(request) or LISTED_MOST, asked.get("cursor"), size)
    return api.formatted(request, queries.Answer(shown, following, queries.Total(len(items), True), size, []))


def _item(cell: Cell) -> dict[str, Any]:
    return {
        "id": f"{cell.schedule.pk} {cell.period_from.isoformat()}", "schedule": cell.schedule.name, "kind": cell.schedule.kind,
        "environment": cell.schedule.environment, "datasources": cell.schedule.datasources, "period_from": cell.period_from,
        "period_to": cell.period_to, "due_at": cell.due_at, "state": str(cell.state), "why": cell.why,
        "report": cell.report.number if cell.report else None, "report_id": cell.report.pk if cell.report else None,
    }  # fmt: skip


def _shown(cell: Cell) -> dict[str, Any]:
    """A cell with its words and sign."""
    days = schedules.days_of(cell.schedule, cell.period_from, cell.period_to)
    return {"cell": cell, "days": days, "mark": MARKS[cell.state], "tone": cell.state.replace(" ", "-")}


def _choices(viewer: Viewer) -> dict[str, Any]:
    return available.offered(viewer) | {
        "cadences": [c for c in Cadence.choices if c[0] != Cadence.ONCE],
        "units": list(periods.LONGEST),
        "zones": zones.names(),
        "choices": frame.environments(viewer),
        "late_days": schedules.LATE_DAYS,
    }


def _wanted(given: QueryDict) -> Wanted:
    """What the form asks for. Raises QueryInvalid."""
    cadence = given.get("cadence", "")
    scope = (given.get("environment", ""), lines(given, "datasources"))
    late = given.get("late_days", "").strip() or str(schedules.LATE_DAYS)
    if not (late.isascii() and late.isdigit() and len(late) < 4):
        raise errors.QueryInvalid("Write the days after which a report is late as a number.", late_days=late[:10])
    kind = given.get("kind", "")
    if cadence == Cadence.ONCE:
        period = (requests.moment(given.get("from", ""), "from"), requests.moment(given.get("to", ""), "to"))
        return Wanted(kind, cadence, period=period, scope=scope, late_days=int(late))
    zone = given.get("zone", "").strip()
    if cadence != Cadence.CUSTOM:
        return Wanted(kind, cadence, periods.rhythm(cadence, zone), scope=scope, late_days=int(late))
    every = given.get("every", "").strip()
    if not (every.isascii() and every.isdigit() and len(every) < 5):
        raise errors.QueryInvalid("Write how many days, weeks or months as a number.", every=every[:10])
    anchor = requests.day(given.get("anchor", ""), "anchor")
    rhythm = periods.rhythm(cadence, zone, int(every), given.get("unit", ""), anchor)
    return Wanted(kind, cadence, rhythm, scope=scope, late_days=int(late))


def _utc(at: dt.datetime | None) -> str:
    return f"{at:%-d %b %Y %H:%M} UTC" if at else "no time"
