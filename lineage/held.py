"""Held statements: what waits for a person, who decides about it, and what became of it (docs/held.md).

Decided by security or admin, never by somebody it is for: checked here and by the database. Each step is a decision
record of the signed log under the request's id; a refusal too.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator
from typing import Any, Literal

import msgspec
from django.db import DatabaseError, connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from lineage import errors, ledger, rights
from lineage.access import Viewer
from lineage.events import Actor, Agent, Approval, Policy, Principal, format_time
from lineage.models import HeldStatement, Role

ROLES = frozenset({Role.SECURITY, Role.ADMIN})
MINUTES = 30
MINUTES_MOST = 24 * 60
REASON_MOST = 500
Verdict = Literal["approved", "rejected", "break_glass"]


def may(viewer: Viewer) -> bool:
    return viewer.role in ROLES


def in_scope(viewer: Viewer) -> QuerySet[HeldStatement]:
    """The held statements within a viewer's databases, environments and times, newest first; their own where they read no records."""
    found = HeldStatement.objects.filter(viewer.within("asked_at")).order_by("-asked_at", "request_id")
    return found if viewer.reads_records else found.filter(involved__overlap=_names(viewer))


def one(viewer: Viewer, request_id: str) -> HeldStatement:
    """Raises NotFound, also for what is outside the viewer's scope."""
    found = in_scope(viewer).filter(request_id=request_id).first()
    if found is None:
        raise errors.NotFound("No held statement with this id is in your scope. `/approvals/` lists those that are.")
    return found


def waits(held: HeldStatement) -> bool:
    """Whether it can be decided now; the sweep that calls it expired may come a little later."""
    return held.state == "requested" and held.ask_until > timezone.now()


def review_due(held: HeldStatement) -> bool:
    """Whether glass was broken for it and nobody has looked at that yet."""
    return held.break_glass and held.reviewed_at is None


def involves(viewer: Viewer, held: HeldStatement) -> bool:
    """Whether it is for the viewer: asked by them, on their behalf, or by an agent of theirs."""
    return bool(set(_names(viewer)) & set(held.involved))


def _names(viewer: Viewer) -> list[str]:
    return list(rights.call("select gateway_names(%s)", viewer.email))


def decide(
    viewer: Viewer,
    request_id: str,
    verdict: Verdict,
    reason: str,
    *,
    digest: str | None = None,
    minutes: int = MINUTES,
    row_cap: int | None = None,
) -> HeldStatement:
    """Approves, rejects, or breaks glass. `digest` is that of the statement the person was shown.

    An approval is good for `minutes`, once; without `row_cap` the rule's holds. Breaking glass (admin alone) has no cap and may
    go against a rejection; another person reviews it afterwards. Raises AccessDenied, NotFound, NotDecidable and QueryInvalid;
    each refusal is recorded.
    """
    with _asked(viewer, request_id):
        held = one(viewer, request_id)
        _check(reason, minutes, row_cap)
        until = timezone.now() + dt.timedelta(minutes=minutes)
        with transaction.atomic():
            rights.call(
                "select gateway_decide(%s, %s, %s, %s, %s, %s, %s)", request_id, viewer.email, verdict, reason.strip(),
                held.digest if digest is None else digest, until, row_cap or held.asked_rows,
            )  # fmt: skip
            held.refresh_from_db()
            kind: Literal["approval", "break_glass"] = "break_glass" if verdict == "break_glass" else "approval"
            record(held, kind, held.state, viewer.email)
        return held


def review(viewer: Viewer, request_id: str, note: str) -> None:
    """Another person has looked at broken glass. Raises AccessDenied, NotFound, NotDecidable and QueryInvalid."""
    with _asked(viewer, request_id):
        held = one(viewer, request_id)
        _check(note)
        with transaction.atomic():
            rights.call("select gateway_review(%s, %s, %s)", request_id, viewer.email, note.strip())
            record(held, "review", "reviewed", viewer.email, note.strip())


def _check(words: str, minutes: int = MINUTES, row_cap: int | None = None) -> None:
    if not words.strip() or len(words) > REASON_MOST:
        raise errors.QueryInvalid(
            f"Say why, in at most {REASON_MOST} characters. It stays in the log.", reason="missing"
        )
    if not 1 <= minutes <= MINUTES_MOST:
        raise errors.QueryInvalid(f"An approval is good for 1 to {MINUTES_MOST} minutes.", minutes=str(minutes))
    if row_cap is not None and not 1 <= row_cap < 2**53:
        raise errors.QueryInvalid("The most rows is a number from 1; leave it out to take the rule's.", row_cap="bad")


@contextlib.contextmanager
def _asked(viewer: Viewer, request_id: str) -> Iterator[None]:
    """Around what a person asks for. Whatever is refused inside, here or by the database, is recorded."""
    try:
        if not may(viewer):
            raise errors.AccessDenied(
                "Held statements are decided by security and administrators. The refusal is recorded."
            )
        yield
    except errors.TouchstoneError as error:
        if error.status < 500:
            refuse(viewer.email, request_id, error.code)
        raise
    except DatabaseError as error:
        told = _told(request_id, error)
        if told is None:
            raise
        refuse(viewer.email, request_id, told.code)
        raise told from error


def _told(request_id: str, error: DatabaseError) -> errors.TouchstoneError | None:
    """What the database's own refusal means to a reader; None for any other fault."""
    match sqlstate(error):
        case "42501":
            return errors.AccessDenied(
                "Another person with the right to it must decide than those the statement is for. The refusal is recorded."
            )
        case "55000":
            state = HeldStatement.objects.filter(request_id=request_id).values_list("state", flat=True).first()
            return errors.NotDecidable(
                f"Request {request_id} does not wait for this; it is {state}. Nothing was changed."
            )
        case "P0002":
            return errors.NotFound(f"There is no request {request_id}. `/approvals/` lists what waits.")
    return None


def sqlstate(error: DatabaseError) -> str | None:
    state = getattr(error.__cause__, "sqlstate", None)
    return str(state) if state else None


def refuse(who: str, request_id: str, code: str) -> None:
    """Records that something about a held statement was refused, by its code alone."""
    ledger.record_decision("approval", decided_by=who, subject=request_id, transition="refused", purpose=code)


def sweep() -> None:
    """What the keeper does: records what nobody decided or used in time, and forgets the texts of what has ended."""
    with transaction.atomic():
        for held in _expired():
            record(held, "approval", "expired", "touchstone")
    with connection.cursor() as cursor:
        cursor.execute("select gateway_forget()")


def _expired() -> list[HeldStatement]:
    with connection.cursor() as cursor:
        cursor.execute("select gateway_expire()")
        named = [row[0] for row in cursor.fetchall()]
    return list(HeldStatement.objects.filter(request_id__in=named)) if named else []


def record(
    held: HeldStatement,
    kind: Literal["access_request", "approval", "break_glass", "review"],
    transition: str,
    by: str,
    note: str | None = None,
) -> None:
    """One step in the log, under the request's id as ticket. The statement's text is in the gateway's own record."""
    said = ledger.decision(
        kind, decided_by=by, subject=held.request_id, transition=transition, purpose=held.purpose or None,
        requested_by=name_of(held.requested_by),
    )  # fmt: skip
    ledger.record(
        msgspec.structs.replace(
            said, environment=held.environment, datasource=held.datasource, database=held.database,
            session_id=held.session_id, ticket=held.request_id, approval=_approval(held, transition, note),
            actor=msgspec.convert(_known(held.requested_by), Actor) if kind == "access_request" else said.actor,
            on_behalf_of=msgspec.convert(_known(held.on_behalf_of), Principal) if held.on_behalf_of else None,
            agent=msgspec.convert(held.agent, Agent) if held.agent else None,
            policy=(Policy(id="guardrails", version=str(held.rule_version), rule=held.rule[:512], effect="approve"),),
        )
    )  # fmt: skip


def _approval(held: HeldStatement, transition: str, note: str | None) -> Approval | None:
    """An approval's facts. A use decides nothing: it names the request alone, so that the decision before it stands."""
    if transition in ("used", "reviewed"):
        return Approval(request_id=held.request_id, reason=note)
    state: Any = "revoked" if transition == "withdrawn" else transition
    decided = state in ("approved", "rejected")
    return Approval(
        request_id=held.request_id,
        state=state,
        approvers=(held.decided_by,) if decided and held.decided_by else (),
        requested_by=name_of(held.requested_by),
        decided_at=format_time(held.decided_at) if decided and held.decided_at else None,
        reason=held.reason if decided else None,
        expires_at=format_time(held.expires_at) if state == "approved" and held.expires_at else None,
    )


def name_of(person: dict[str, Any]) -> str | None:
    name = person.get("id") or person.get("email") or person.get("name")
    return str(name) if name else None


def _known(person: dict[str, Any]) -> dict[str, Any]:
    return {name: person[name] for name in ("id", "name", "email", "type") if person.get(name)}
