"""hoop sessions, from its API or its runbook hooks -> statements and sessions with their reviews (docs/sources/hoop.md)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from lineage.events import (
    CLASS_OF_OP,
    Actor,
    Approval,
    ErrorCode,
    Event,
    Origin,
    Policy,
    Quarantined,
    Session,
    Skipped,
    parse_time,
)
from lineage.sources import feed, members
from lineage.sources.feed import Item, JsonRefused, short
from lineage.sources.members import Members

UNKNOWN_EXIT = -100
REVIEWS = {
    "PENDING": "requested", "APPROVED": "approved", "PROCESSING": "approved", "EXECUTED": "approved", "REJECTED": "rejected",
    "REVOKED": "revoked", "EXPIRED": "expired",
}  # fmt: skip
ACTORS = {"user": "human", "machine": "service"}
RECORDINGS = ("event_stream", "event_size", "metrics", "output")
"""What grows or is a result: not part of what makes two readings of a session the same, and never kept."""


def parse(body: bytes, **options: Any) -> Iterator[Event | Quarantined | Skipped]:
    """One output for each session object or hook payload of a feed, array or NDJSON, or for one. Options: `feed`. Never raises."""
    for item in feed.object_items(body, bool(options.get("feed"))):
        yield event(item) if isinstance(item, Item) else item


def event(item: Item) -> Event | Quarantined | Skipped:
    """The one output of one session object, or of one hook payload."""
    try:
        said, sha256, flags = members.object_of(item, "hoop")
        if said.part("event_session_open") or said.part("event_session_close"):
            return _hooked(item, said, sha256, flags)
        if not said.text("id") or said.text("verb") is None:
            raise JsonRefused("hoop", "a session object has id, user, connection, verb, status and start_date")
        if said.text("type") not in (None, "database"):
            return item.skipped("a session on something that is not a database")
        return _session(item, said, _hash(said, sha256, flags), flags)
    except JsonRefused as refusal:
        return item.quarantined(refusal.code, refusal.reason)


def _hash(said: Members, sha256: str, flags: tuple[str, ...]) -> str:
    """The hash over the session without its recording, which another reading may have longer."""
    if flags or not any(name in said.said for name in RECORDINGS):
        return sha256
    return feed.json_item(msgspec.json.encode({k: v for k, v in said.said.items() if k not in RECORDINGS}))[1]


def _session(item: Item, said: Members, sha256: str, flags: tuple[str, ...]) -> Event:
    started, ended = said.time("start_date"), said.time("end_date")
    review = said.part("review")
    status, decided = said.name("status") or "", review.name("status") or ""
    read: dict[str, Any] = {}
    more: tuple[str, ...] = ()
    if said.text("verb") == "exec":
        read, more = members.statement(said.part("script").text("data"))
        shape: dict[str, Any] = {
            "kind": "query",
            "class_": CLASS_OF_OP[read["op"]],
            "duration_us": _between(started, ended),
        }
    else:
        phase: Any = "end" if ended or status == "done" else "start"
        about = Session(phase=phase, auth_method="hoop", started_at=started, ended_at=ended, close_reason=_exit(said))
        shape = {"kind": "session", "class_": "session", "op": "session", "session": about}
    return Event(
        **{**read, **shape, **_who(said, "user", "user_name")},
        **_where(said, "connection", "subtype", "connection_subtype"),
        **_judged(said, review, status),
        sequence=item.sequence,
        source_event_id=_identity(said.text("id"), said.text("verb"), status, decided),
        occurred_at=started,
        occurred_at_quality="source" if started else "unknown",
        session_id=said.name("id"),
        correlation_id=said.name("correlation_id"),
        policy=_policies(said),
        flags=(*flags, *more),
        origin=Origin(sha256=sha256, position=item.position),
    )


def _identity(*parts: str | None) -> str:
    identity = "/".join(part or "" for part in parts)
    if len(identity) > feed.NAME_LIMIT:
        raise JsonRefused("hoop", "the session's identity is too long")
    return identity


def _between(started: str | None, ended: str | None) -> int | None:
    if started is None or ended is None or ended < started:
        return None
    spent = parse_time(ended) - parse_time(started)
    return (spent.days * 86_400 + spent.seconds) * 1_000_000 + spent.microseconds


def _exit(said: Members) -> str | None:
    code = said.text("exit_code")
    return None if code is None or code == str(UNKNOWN_EXIT) else f"exit code {code}"[: feed.NAME_LIMIT]


def _who(said: Members, *names: str) -> dict[str, Any]:
    identity, kind = said.text(names[0], "machine_identity_id"), ACTORS.get(said.text("identity_type") or "")
    shown = members.person(identity, kind)
    if shown is None:
        return {}
    name = said.name(*names[1:]) if len(names) > 1 else None
    return {"actor": Actor(id=shown.id, name=name or shown.id, email=shown.email, type=shown.type)}


def _where(said: Members, connection: str, *subtypes: str) -> dict[str, Any]:
    system = said.name(*subtypes)
    return {"datasource": said.name(connection), "db_system": members.SYSTEMS.get(system or "", system)}


def _judged(said: Members, review: Members, status: str) -> dict[str, Any]:
    """Verdict, approval and error. The strongest counts: blocked, then an error, then the review, then the exit code."""
    state: Any = REVIEWS.get(review.text("status") or "")
    code, guarded = said.text("exit_code"), said.parts("guardrails_info")
    failed = code is not None and code not in ("0", str(UNKNOWN_EXIT))
    finished = code == "0" and (status == "done" or said.time("end_date") is not None)
    verdict = next(
        word
        for word, holds in (
            ("blocked", guarded or state in ("rejected", "revoked", "expired")),
            ("pending", state == "requested"),
            ("error", failed),
            ("approved", state == "approved" and finished),
            ("allowed", finished),
            ("unknown", True),
        )
        if holds
    )
    error = ErrorCode(code=f"exit {code}"[: feed.NAME_LIMIT]) if failed and verdict == "error" else None
    return {"verdict": verdict, "error": error, "approval": _approval(said, review, state) if review else None}


def _approval(said: Members, review: Members, state: Any) -> Approval:
    groups = review.parts("review_groups_data")
    deciders = [
        group.part("reviewed_by").name("email", "name", "id") for group in groups if group.text("status") != "PENDING"
    ]
    decided = [group.time("review_date", "reviewed_at") for group in groups]
    return Approval(
        request_id=review.name("id"),
        state=state,
        approvers=tuple(dict.fromkeys(one for one in deciders if one)),
        requested_by=said.name("user"),
        decided_at=max((one for one in decided if one), default=None) if state != "requested" else None,
        reason=(review.text("rejection_reason") or "")[:1024] or None,
    )


def _policies(said: Members) -> tuple[Policy, ...]:
    """Guardrails that held the session, and what the analysis of its risk said."""
    rules = [
        Policy(id="hoop-guardrails", rule=one.name("rule_name", "name", "rule_id", "id"), effect="block")
        for one in said.parts("guardrails_info")
    ]
    risk = said.part("ai_analysis")
    if risk:
        rules.append(Policy(id="hoop-analysis", rule=risk.name("risk_level"), effect=risk.name("action")))
    return tuple(rules)


# Runbook hooks


def _hooked(item: Item, said: Members, sha256: str, flags: tuple[str, ...]) -> Event | Skipped:
    """What a hook was told: a session opened, with its input, or closed, with its exit code. The output is not kept."""
    opened, closed = said.part("event_session_open"), said.part("event_session_close")
    session = said.text("sid")
    if not session:
        raise JsonRefused("hoop", "a hook payload names its session as sid")
    if opened.text("connection_type") not in (None, "database"):
        return item.skipped("a session on something that is not a database")
    common = {
        **_who(opened, "user_email"), **_where(opened, "connection_name", "connection_subtype"),
        "sequence": item.sequence, "session_id": short(session), "occurred_at_quality": "unknown",
        "origin": Origin(sha256=sha256, position=item.position),
    }  # fmt: skip
    if closed:
        return Event(
            kind="session",
            class_="session",
            op="session",
            session=Session(phase="end", auth_method="hoop", close_reason=_exit(closed)),
            source_event_id=_identity(session, "close", said.text("id")),
            flags=flags,
            **{**common, **_judged(closed, Members(None), "done")},
        )
    read, more = members.statement(opened.text("input"))
    if opened.text("verb") == "exec" and "statement" in read:
        shape: dict[str, Any] = {**read, "kind": "query", "class_": CLASS_OF_OP[read["op"]]}
    else:
        shape, more = {"kind": "session", "class_": "session", "op": "session", "session": Session(phase="start")}, ()
    identity = _identity(session, "open", said.text("id"))
    return Event(verdict="unknown", source_event_id=identity, flags=(*flags, *more), **common, **shape)
