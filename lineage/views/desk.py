"""The desk of a gateway on pages: statements that wait for a person, decisions, live sessions and their end."""

from __future__ import annotations

import re
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase, QueryDict
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from lineage import errors, gateways, held, queries, words
from lineage.access import Viewer
from lineage.answers import evidence_read, for_members, signed_in
from lineage.models import GatewaySession, HeldStatement
from lineage.views import frame
from lineage.views.watch import watch_token, watching

RECENT = 50
VERDICTS: dict[str, held.Verdict] = {"approve": "approved", "reject": "rejected", "break-glass": "break_glass"}


def inbox(request: HttpRequest, viewer: Viewer) -> dict[str, Any]:
    """What waits for a decision or a review, and what was decided lately, in the viewer's scope."""
    found = held.in_scope(viewer)
    waiting = [shown(one) for one in found.filter(state="requested", ask_until__gt=timezone.now())]
    named = queries.tickets(viewer, [one["held"].ticket for one in waiting])
    due = found.filter(break_glass=True, reviewed_at__isnull=True)
    return {
        "waiting": waiting,
        "imported": named,
        "reviews": [shown(one) for one in due],
        "decided": [shown(one) for one in found.exclude(pk__in=[one["held"].pk for one in waiting])[:RECENT]],
        "may_decide": held.may(viewer),
        "watch": watch_token(request, viewer),
        "now": timezone.now(),
    }


def shown(one: HeldStatement) -> dict[str, Any]:
    """A held statement with what is said of it in words."""
    asker, behalf = one.requested_by, one.on_behalf_of or {}
    return {
        "held": one,
        "state": words.HELD["lapsed" if one.state == "requested" and not held.waits(one) else one.state],
        "who": _who(asker, behalf, one.agent),
        "effects": [words.effect(effect) for effect in one.effects],
        "review_due": held.review_due(one),
    }


def _who(actor: dict[str, Any], behalf: dict[str, Any], agent: dict[str, Any] | None) -> dict[str, Any]:
    """The members that the identity chip takes."""
    return {
        "who_id": actor.get("id"), "who_name": actor.get("name") or actor.get("email") or actor.get("id"),
        "who_type": actor.get("type"), "on_behalf_of": behalf.get("email") or behalf.get("id") or behalf.get("name"),
        "agent_name": (agent or {}).get("name") or (agent or {}).get("id"), "attribution": "gateway",
    }  # fmt: skip


@require_GET
@signed_in
@for_members
def approvals_live(request: HttpRequest, viewer: Viewer) -> HttpResponseBase:
    """The inbox again. One record in the log covers a minute of watching."""
    return _inbox(request, viewer) if watching(request) else _recorded_inbox(request)


def _inbox(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    context = inbox(request, viewer) | ({"watch": request.headers["X-Watch"]} if watching(request) else {})
    return frame.page(request, "lineage/_inbox.html", context)


@evidence_read
@for_members
def _recorded_inbox(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    return _inbox(request, viewer)


@require_GET
@evidence_read
@for_members
def held_statement(request: HttpRequest, viewer: Viewer, request_id: str) -> HttpResponse:
    """One held statement, whole for those who see values, with the form of those who may decide about it."""
    one = held.one(viewer, request_id)
    involved = held.involves(viewer, one)
    waits = held.waits(one)
    may = held.may(viewer) and not involved
    context = shown(one) | {
        "waits": waits,
        "may": may,
        "involved": involved,
        "may_break": may and viewer.role == "admin" and (waits or one.state == "rejected"),
        "may_review": may and held.review_due(one) and one.decided_by != viewer.email,
        "minutes": held.MINUTES,
        "minutes_most": held.MINUTES_MOST,
    }
    context["imported"] = queries.tickets(viewer, [one.ticket])
    context["title"] = words.held_title(one.state if waits or one.state != "requested" else "expired", context["who"])
    return frame.page(request, "lineage/held.html", context)


@require_POST
@signed_in
def held_decide(request: HttpRequest, viewer: Viewer, request_id: str) -> HttpResponse:
    """Approves, rejects or breaks glass; the gateway is told within a second."""
    given = request.POST
    verdict = VERDICTS.get(given.get("decision", ""))
    if verdict is None:
        raise errors.QueryInvalid("Approve or reject.")
    held.decide(
        viewer, request_id, verdict, given.get("reason", ""), digest=given.get("digest", "-"),
        minutes=_number(given, "minutes") or held.MINUTES, row_cap=_number(given, "row_cap"),
    )  # fmt: skip
    return redirect("held", request_id=request_id)


@require_POST
@signed_in
def held_review(request: HttpRequest, viewer: Viewer, request_id: str) -> HttpResponse:
    """The look at broken glass afterwards, by another person."""
    held.review(viewer, request_id, request.POST.get("note", ""))
    return redirect("held", request_id=request_id)


def _number(given: QueryDict, name: str) -> int | None:
    text = given.get(name, "").strip()
    if text and not re.fullmatch(r"[0-9]{1,15}", text):
        raise errors.QueryInvalid("Write minutes and rows as whole numbers.", **{name: "not a number"})
    return int(text) if text else None


def _live(request: HttpRequest, viewer: Viewer) -> dict[str, Any]:
    sessions = list(gateways.live(viewer))
    return {
        "sessions": [_session(one) for one in sessions],
        "silent": sorted({one.gateway.name for one in sessions if gateways.is_silent(one.gateway)}),
        "may_kill": gateways.may_kill(viewer),
        "watch": watch_token(request, viewer),
        "now": timezone.now(),
    }


def _session(one: GatewaySession) -> dict[str, Any]:
    return {
        "one": one, "who": _who(one.actor, one.on_behalf_of or {}, one.agent), "key": f"{one.datasource}~{one.session_id}",
        "is_silent": gateways.is_silent(one.gateway), "is_ending": one.is_ending,  # type: ignore[attr-defined]
    }  # fmt: skip


@require_GET
@evidence_read
def live(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """Who is connected through a gateway now."""
    context = _live(request, viewer)
    count = len(context["sessions"])
    title = (
        f"{words.counted(count, 'session is', 'sessions are')} live"
        if count
        else "Nobody is connected through a gateway"
    )
    return frame.page(request, "lineage/live.html", context | {"title": title})


@require_GET
@signed_in
def live_rows(request: HttpRequest, viewer: Viewer) -> HttpResponseBase:
    """The list again. One record in the log covers a minute of watching."""
    return _rows(request, viewer) if watching(request) else _recorded_rows(request)


def _rows(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    context = _live(request, viewer) | ({"watch": request.headers["X-Watch"]} if watching(request) else {})
    return frame.page(request, "lineage/_live.html", context)


@evidence_read
def _recorded_rows(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    return _rows(request, viewer)


@require_GET
@evidence_read
def live_session(request: HttpRequest, viewer: Viewer, number: int) -> HttpResponse:
    """One live session, with the form that ends it."""
    found = gateways.live(viewer).filter(pk=number).first()
    if found is None:
        raise errors.NotFound("This session is not live any more, or not in your scope.")
    context = _session(found) | {"may_kill": gateways.may_kill(viewer)}
    title = f"{context['who']['who_name']} is connected to {found.datasource}"
    return frame.page(request, "lineage/live_session.html", context | {"title": title})


@require_POST
@signed_in
def live_kill(request: HttpRequest, viewer: Viewer, number: int) -> HttpResponse:
    """Orders the end of a session; the gateway ends it within a second."""
    gateways.kill(viewer, number, request.POST.get("reason", ""))
    return redirect("live")
