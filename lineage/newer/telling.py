"""What a record is with all that is behind it: `lineage.resolving.RESOLVED` once more, in Python. Pure."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from lineage.coverage import LOGS
from lineage.newer import saying
from lineage.newer.behind import Behind, Person, Transaction, Watched
from lineage.newer.saying import Row

LATER = re.compile(r"[.]([2-9]|[1-9][0-9]+)\Z")
COLUMNS = (
    "index event_id kind class op command occurred_at received_at occurred_at_quality environment source source_format sequence "
    "source_event_id datasource database db_system told_id told_name told_email told_type on_behalf_of agent_id agent_name "
    "agent_run db_user roles told_by attribution_index claimed purpose ticket client_app client_ip session transaction_id vid "
    "position outcome verdict relations relations_provenance columns keys rows_returned rows_affected bytes_returned duration_us "
    "error_code error_message flags refused statement statement_state redacted opaque fingerprint parameters emitted weakens key "
    "key_columns diff before_values after_values approval approval_request approval_state policy policies masked masked_columns "
    "session_phase auth_method close_reason decision decision_type decision_subject decided_by state custody custody_type "
    "custody_subject correlation_id db_session_id"
).split()
"""Those of `resolved`, in its order."""


class _Of(NamedTuple):
    """A record, and what is behind it."""

    row: Row
    is_right: bool
    asserted: bool
    believed: bool
    person: Person | None
    act: Transaction
    gateway: Watched
    watched: Watched


NO_ACT = Transaction(None, None, None, None, None, None, None, None, None)
NO_ONE = Watched(None, None, None, None, None, None)


class Joined(NamedTuple):
    """What is taken of other records, and by which keys: transaction and session of the server."""

    changed: dict[str, Any]
    transaction_id: str | None
    session_id: str | None


def joined(row: Row, behind: Behind) -> Joined:
    """The columns of `resolved` that are not, or not always, what was reported."""
    may, place = saying.is_authorised(row), (row["environment"], row["datasource"])
    xid = saying.xid_of(row)
    if xid is None:
        xid = behind.xid(*place, row["db_session_id"], row["vid"])
    transaction_id = xid if may else None
    act, gateway = behind.transaction(*place, transaction_id), behind.gateway(*place, transaction_id)
    session_id = row["db_session_id"]
    if session_id is None and act is not None:
        session_id = act.line_session
    watched = behind.session(*place, session_id) if may else None
    is_right = may and "claim" not in row["flags"]
    asserted = is_right and row["actor_id"] is not None
    person = None
    if row["source_format"] != "gateway" and not asserted:
        person = gateway.person if gateway is not None else watched.person if watched is not None else None
    of = _Of(
        row, is_right, asserted, act is not None and act.claim_state == "proved", person,
        act or NO_ACT, gateway or NO_ONE, watched or NO_ONE,
    )  # fmt: skip
    more = _who(of) | _why(of) | _where(of) | _ended(of, watched is not None)
    return Joined(more | {"transaction_id": transaction_id}, transaction_id, session_id)


def content(row: Row, behind: Behind) -> list[Any]:
    """The record's columns in the order of `COLUMNS`; times in microseconds."""
    changed = joined(row, behind).changed
    return [changed[name] if name in changed else row[name] for name in COLUMNS]


def _first(*values: str | None) -> str | None:
    return next((value for value in values if value is not None), None)


def _who(of: _Of) -> dict[str, Any]:
    row, person, act, claim = of.row, of.person, of.act, of.act.claim
    named: tuple[Any, ...] = (None,) * 6
    login = _first(row["db_user"] if saying.is_authorised(row) else None, act.line_user)
    index = row["index"] if row["db_user"] is not None else act.line_index
    if of.asserted:
        name = _first(row["actor_name"], row["actor_email"], row["actor_id"])
        how = "gateway" if row["source_format"] == "gateway" else "asserted_by_proxy"
        named = row["actor_id"], name, row["actor_email"], row["actor_type"], how, row["index"]
    elif person is not None:
        name = _first(person.name, person.email, person.id)
        named = person.id, name, person.email, person.type, "gateway", person.at
    elif of.believed and claim is not None and claim.actor_id is not None:
        name = _first(claim.actor_name, claim.actor_email, claim.actor_id)
        named = claim.actor_id, name, claim.actor_email, claim.actor_type, "context_message", act.claim_index
    else:
        named = *named[:5], index
    told = dict(
        zip(("told_id", "told_name", "told_email", "told_type", "told_by", "attribution_index"), named, strict=True)
    )
    waits = act.claim_state == "waiting" and person is None
    return told | {"db_user": login, "claimed": waits, "refused": act.claim_state == "refused"}


def _why(of: _Of) -> dict[str, Any]:
    row, person, claim = of.row, of.person, of.act.claim if of.believed else None
    vouched = person is not None
    behalf = None
    if claim is not None and not vouched:
        behalf = claim.on_behalf_of
    elif claim is not None and person is not None and person.type == "service":
        behalf = _first(claim.on_behalf_of, claim.actor_id)
    right = of.is_right
    agent = person or claim
    run = _first(of.gateway.run, of.watched.run) if vouched else claim.agent_run if claim else None
    return {
        "on_behalf_of": _first(row["on_behalf_of"] if right else None, person.behalf if person else None, behalf),
        "agent_id": _first(row["agent_id"] if right else None, agent.agent_id if agent else None),
        "agent_name": _first(row["agent_name"] if right else None, agent.agent_name if agent else None),
        "agent_run": _first(row["agent_run"] if right else None, run),
        "purpose": _first(
            row["purpose"], _first(of.gateway.purpose, of.watched.purpose) if vouched else None, claim.purpose if claim else None
        ),
        "ticket": _first(
            row["ticket"], _first(of.gateway.ticket, of.watched.ticket) if vouched else None, claim.ticket if claim else None
        ),
    }  # fmt: skip


def _where(of: _Of) -> dict[str, Any]:
    row, act = of.row, of.act
    gateway = None if of.asserted else _first(of.gateway.session, of.watched.session)
    session = _first(row["session_id"], gateway, row["db_session_id"], act.line_session)
    is_known = session is not None and row["datasource"] is not None
    return {
        "client_app": _first(row["client_app"], act.line_app),
        "client_ip": _first(row["client_ip"], act.line_ip),
        "session": f"{row['datasource']}~{session}" if is_known else None,
    }


def _ended(of: _Of, is_watched: bool) -> dict[str, Any]:
    row = of.row
    outcome = row["outcome"] if row["outcome"] != "unknown" else None
    is_line = row["kind"] == "query" and row["source_format"] in LOGS and not LATER.search(row["correlation_id"] or "")
    verdict = row["verdict"]
    if verdict is None and row["kind"] in ("query", "change"):
        verdict = "unknown"
    return {
        "outcome": _first(outcome, of.act.outcome, of.gateway.outcome, row["outcome"], "unknown"),
        "verdict": verdict,
        "flags": [*row["flags"], *(["seen_by_gateway"] if is_watched and is_line else [])],
    }
