"""Pages of sign-off: what waits for whom, the form on a report's page, and what is asked for of which reports."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from lineage import api, errors, queries, sign_in, toasts, words
from lineage.access import Viewer
from lineage.answers import evidence_read, signed_in
from lineage.due import Due
from lineage.queries import short
from lineage.views import frame
from lineage.views.access import in_person
from reports import requests, review_plans, reviews
from reports.controls import KINDS
from reports.models import Report, Schedule, Status
from reports.review_models import Part, SignOff

SEARCHED = {"environment": "environment", "datasource": "datasources", "actor": "people"}
"""By which fields of the search language steps are found, and the members that hold them."""
SHOWN_MOST = 500
DUE_MOST = 5
DEEDS = {"sign": reviews.sign, "refuse": reviews.refuse}


@require_GET
@evidence_read
def sign_offs(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """What waits for the viewer, what waits for others, and what is late; for some the plans."""
    now = timezone.now()
    lines = _lines(viewer, now)
    mine = [line for line in lines if line["is_mine"]]
    late = [line for line in lines if line["is_late"] and not line["is_mine"]]
    plans = review_plans.visible(viewer)
    return frame.page(request, "reports/sign_offs.html", {
        "mine": mine,
        "late": late,
        "others": [line for line in lines if not line["is_mine"] and not line["is_late"]],
        "title": f"{words.counted(len(mine), 'report')} {'waits' if len(mine) == 1 else 'wait'} for your signature",
        "may_plan": review_plans.may(viewer),
        "plans": [{"plan": plan, "told": review_plans.value(plan)["steps"], "kind": KINDS.get(plan.kind)} for plan in plans],
        "kinds": [] if viewer.is_narrowed else KINDS.values(),
        "schedules": requests.visible_schedules(viewer),
        "parts": Part.choices,
    })  # fmt: skip


@require_GET
@evidence_read
def listing(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """`GET /api/v1/sign-offs`: every step of the reports in scope, newest first, as the other lists of the API answer."""
    api.known(request)
    asked = request.GET
    found = requests.within_window(requests.visible(viewer), api.window_of(request))
    steps = SignOff.objects.select_related("report").filter(report__in=found).order_by("-pk")
    items = short.narrowed([_item(step) for step in steps], asked.get("q", ""), SEARCHED, ("report", "part", "act"))
    size = queries.integrity(viewer)["size"]
    shown, following = short.page(items, "id", api.limit_of(request) or SHOWN_MOST, asked.get("cursor"), size)
    return api.formatted(request, queries.Answer(shown, following, queries.Total(len(items), True), size, []))


def _item(step: SignOff) -> dict[str, Any]:
    """A step for programs; how its person was known is said in words."""
    (told,) = reviews.summary([step])
    about = {name: getattr(step.report, name) for name in ("kind", "environment", "datasources", "status")}
    known = reviews.how(step.signed_in) if step.acted_by else None
    people = [name for name in (step.person, step.second, step.acted_by) if name]
    more = {"people": people, "escalated_at": step.escalated_at, "barred": list(step.barred), "signed_in": known}
    return {"id": step.pk, "report": step.report.number} | about | told | more


def _lines(viewer: Viewer, now: dt.datetime) -> list[dict[str, Any]]:
    """The steps in scope that nobody has signed yet, by their due time, with whose turn it is."""
    steps = list(reviews.waiting(viewer)[:SHOWN_MOST])
    turns = dict[int, int]()
    for step in steps:
        turns[step.report_id] = min(step.position, turns.get(step.report_id, step.position))
    return [_line(viewer, step, turns[step.report_id] == step.position, now) for step in steps]


def _line(viewer: Viewer, step: SignOff, is_turn: bool, now: dt.datetime) -> dict[str, Any]:
    return {
        "step": step,
        "report": step.report,
        "kind": KINDS.get(step.report.kind),
        "signers": reviews.signers(step),
        "is_turn": is_turn,
        "is_mine": is_turn and reviews.is_for(viewer, step),
        "is_late": is_turn and step.due_at <= now,
    }


def shown(viewer: Viewer, report: Report) -> dict[str, Any]:
    """What a report's page tells of its sign-off: the steps, and the form for whose turn it is."""
    steps = list(report.sign_offs.all())
    current = reviews.turn(steps) if report.status == Status.AWAITING else None
    return {
        "steps": [
            {"step": step, "how": reviews.how(step.signed_in), "signers": reviews.signers(step)} for step in steps
        ],
        "turn": current,
        "is_mine": current is not None and reviews.is_for(viewer, current),
        "may_name": current is not None and review_plans.may(viewer),
        "now": timezone.now(),
        "words_most": reviews.WORDS_MOST,
    }


@require_POST
@signed_in
@in_person
def sign_off(request: HttpRequest, viewer: Viewer, report_id: int) -> HttpResponse:
    """Signs, sends back, or names another person."""
    given = request.POST
    if given.get("do") == "name":
        step = reviews.name_another(viewer, report_id, given.get("person", ""), given.get("reason", ""))
        toasts.say(request, f"{step.person} is asked to sign now.")
        return redirect("report", report_id=report_id)
    deed = DEEDS.get(given.get("do", ""))
    if deed is None:
        raise errors.QueryInvalid("Sign, send back, or name another person.")
    step = deed(
        viewer, report_id, given.get("words", ""), given.get("seen", ""), sign_in.kept(request), dt.datetime.now(dt.UTC)
    )
    done = "Signed" if given["do"] == "sign" else "Sent back"
    toasts.say(request, f"{done} as {reviews.label(step)}, and recorded in the signed log.")
    return redirect("report", report_id=report_id)


@require_POST
@signed_in
@in_person
def plan(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """Sets what a kind or a schedule needs; without a person in any step nothing is asked for any more."""
    kind, schedule = _about(viewer, request.POST.get("about", ""))
    review_plans.establish(
        viewer,
        kind,
        schedule,
        _steps(request.POST),
        if_empty="if_empty" in request.POST,
        reason=request.POST.get("reason", ""),
    )
    return redirect("sign-offs")


def _about(viewer: Viewer, about: str) -> tuple[str, Schedule | None]:
    """`kind NAME` or `schedule NUMBER`. Raises NotFound for a schedule that is not in scope."""
    what, _, name = about.partition(" ")
    if what != "schedule":
        return name, None
    schedule = requests.visible_schedules(viewer).filter(pk=int(name)).first() if name.isdecimal() else None
    if schedule is None:
        raise errors.NotFound("No schedule with this number is in your scope.")
    return schedule.kind, schedule


def _steps(given: QueryDict) -> Sequence[review_plans.Step]:
    """The steps that name somebody. Raises QueryInvalid for days that are no number."""
    steps = []
    for part in Part.values:
        person, second, days = (given.get(f"{part}-{field}", "").strip() for field in ("person", "second", "days"))
        if person or second:
            if not days.isdecimal() or len(days) > 4:
                raise errors.QueryInvalid("Give the days as a number. Nothing was changed.", days=days[:10])
            steps.append(review_plans.Step(part, person, int(days), second))
    return steps


def due(viewer: Viewer) -> list[Due]:
    """For the first page: what waits for the viewer's signature, and what of others is late."""
    found = [line for line in _lines(viewer, timezone.now()) if line["is_mine"] or line["is_late"]]
    return [
        Due(
            f"{line['report'].number}: sign-off as {reviews.label(line['step'])}",
            reverse("report", args=[line["report"].pk]),
            "late" if line["is_late"] else "for you",
            line["step"].due_at,
            line["is_late"],
        )
        for line in sorted(found, key=lambda line: not line["is_mine"])[:DUE_MOST]
    ]
