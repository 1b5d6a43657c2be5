"""The exchange: each second a gateway says what it holds and is told what was decided (docs/held.md)."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
from django.db import DatabaseError, transaction
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from lineage import access, api, errors, gateways, held, rights
from lineage.exchanged import Agent, Hold, Live, Message, Person
from lineage.models import Gateway, HeldStatement
from lineage.sources.pgoutput import without_nul

FORMAT = "gateway"
NUL = b"\\u0000"
ASK_HOURS = 24
_decode = msgspec.json.Decoder(Message).decode


@csrf_exempt
@require_POST
def exchange(request: HttpRequest) -> HttpResponse:
    """POST /api/v1/gateway/exchange, with the token of a source of format `gateway`."""
    source = access.source_for(request)
    if source.format != FORMAT:
        raise errors.AccessDenied(
            f"This token is for the format {source.format}; a gateway needs one of format {FORMAT}."
        )
    try:
        body = api.read_body(request)
        # PostgreSQL cannot hold NUL, and one statement must not make a gateway deaf.
        message = msgspec.convert(without_nul(msgspec.json.decode(body)), Message) if NUL in body else _decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise errors.BodyUnreadable(f"This is not an exchange of a gateway ({error}). Nothing was kept.") from error
    return HttpResponse(
        msgspec.json.encode(answer(gateways.of(source, message), message)), content_type="application/json"
    )


def answer(gateway: Gateway, message: Message) -> dict[str, Any]:
    """Keeps what the gateway says and returns what it is told."""
    standing, refused = gateways.standing(gateway), list[dict[str, str]]()
    is_declared, is_seen = standing.declares(message.databases), standing.sees(message.sessions)
    if message.held or message.done or not (is_declared and is_seen):
        with transaction.atomic():
            if not is_declared:
                gateways.declare(gateway, message.databases)
            if not is_seen:
                gateways.see(gateway, message.sessions)
            refused = keep(gateway, message.held, message.sessions) + finish(gateway, message)
        standing = gateways.standing(gateway)
    keys_state, keys = gateways.keys(message.keys)
    asked = [*message.asked, *(hold.request_id for hold in message.held)]
    return {
        "rules": gateways.rules(standing, message),
        "tags": gateways.tags(gateway, standing, message.tags), "tags_state": standing.tags,
        "keys": keys, "keys_state": keys_state,
        "kills": standing.kills,
        "decisions": decisions(gateway, asked) if asked or standing.has_approvals else [],
        "refused": refused + unknown(gateway, message.asked),
    }  # fmt: skip


def keep(gateway: Gateway, holds: tuple[Hold, ...], sessions: tuple[Live, ...]) -> list[dict[str, str]]:
    """Keeps new requests, each recorded. Returns those refused: an id that stands for another statement."""
    wanted = {hold.request_id: hold for hold in holds}
    digests = dict(HeldStatement.objects.filter(pk__in=wanted, gateway=gateway).values_list("request_id", "digest"))
    live = {session.session_id: session for session in sessions}
    refused = []
    for request_id, hold in wanted.items():
        if digests.get(request_id) == hold.digest:
            continue
        given = msgspec.json.encode(_row(gateway, hold, live.get(hold.session_id))).decode()
        try:
            with transaction.atomic():
                rights.call("select gateway_hold(%s::jsonb)", given)
                kept = HeldStatement.objects.get(pk=request_id)
                held.record(kept, "access_request", "requested", held.name_of(kept.requested_by) or "unknown")
        except DatabaseError as error:
            if held.sqlstate(error) != "55000":
                raise
            gateways.refuse(gateway, f"Request {request_id} stands for another statement; it was not taken.")
            refused.append({"request_id": request_id, "code": errors.NotDecidable.code})
    return refused


def _row(gateway: Gateway, hold: Hold, session: Live | None) -> dict[str, Any]:
    """The columns of a new request. What the session tells of its people completes names given alone."""
    asker = _person(hold.requested_by, session.actor if session else None)
    behalf = _person(hold.on_behalf_of, session.on_behalf_of if session else None) if hold.on_behalf_of else None
    chain = hold.delegation or (session.delegation if session else ())
    agent = Agent(id=hold.agent) if isinstance(hold.agent, str) else hold.agent
    people = [asker, behalf, *chain, *((session.actor, session.on_behalf_of) if session else ())]
    involved = {name.lower() for person in people if person for name in (person.id, person.email, person.name) if name}
    now = timezone.now()
    row: dict[str, Any] = msgspec.to_builtins(hold)
    return row | {
        "gateway_id": gateway.pk, "requested_by": asker, "on_behalf_of": behalf, "delegation": chain, "agent": agent,
        "involved": sorted(involved), "purpose": hold.purpose or "", "ticket": hold.ticket or "", "asked_at": now,
        "ask_until": now + dt.timedelta(hours=ASK_HOURS), "asked_rows": hold.row_cap,
    }  # fmt: skip


def _person(told: Person | str | None, known: Person | None) -> Person:
    if isinstance(told, str):
        named = known and told in (known.id, known.email, known.name)
        return known if known and named else Person(id=told)
    return told or Person()


def finish(gateway: Gateway, message: Message) -> list[dict[str, str]]:
    """Keeps what became of requests, each recorded. A second use of an approval is refused and recorded."""
    refused = []
    for done in message.done:
        try:
            with transaction.atomic():
                is_new = rights.call(
                    "select gateway_finish(%s, %s, %s, %s, %s)",
                    done.request_id,
                    gateway.pk,
                    done.digest,
                    done.state,
                    done.at,
                )
                if is_new:
                    held.record(
                        HeldStatement.objects.get(pk=done.request_id), "approval", done.state, f"gateway {gateway.name}"
                    )
        except DatabaseError as error:
            code = {"55000": errors.NotDecidable.code, "P0002": errors.NotFound.code}.get(held.sqlstate(error) or "")
            if code is None:
                raise
            gateways.refuse(gateway, f"Request {done.request_id} was not to be called {done.state}.")
            refused.append({"request_id": done.request_id, "code": code})
    return refused


def unknown(gateway: Gateway, asked: tuple[str, ...]) -> list[dict[str, str]]:
    """Requests that this store has not: the gateway tells them again, whole."""
    known = HeldStatement.objects.filter(gateway=gateway, pk__in=asked).values_list("pk", flat=True) if asked else ()
    return [{"request_id": one, "code": errors.NotFound.code} for one in asked if one not in set(known)]


def decisions(gateway: Gateway, asked: list[str]) -> list[dict[str, Any]]:
    """What was decided of the requests that the gateway asks about, and every approval that is good and not used."""
    now = timezone.now()
    found = HeldStatement.objects.filter(gateway=gateway).filter(
        Q(state="approved", expires_at__gt=now) | (Q(request_id__in=asked) & ~Q(state="requested"))
    )
    return [
        {
            "request_id": one.request_id, "digest": one.digest, "by": one.decided_by, "reason": one.reason,
            "state": "expired" if one.state == "approved" and one.expires_at and one.expires_at <= now else one.state,
            "decided_at": one.decided_at, "expires_at": one.expires_at, "row_cap": one.row_cap, "break_glass": one.break_glass,
        }
        for one in found.order_by("asked_at")
    ]  # fmt: skip
