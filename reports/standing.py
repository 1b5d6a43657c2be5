"""How far evidence may go as a report: what keeps it from being final, and what does not reconcile."""

from __future__ import annotations

import datetime as dt

from reports.evidence import Evidence
from reports.models import Report, Status


def unfinished(evidence: Evidence, now: dt.datetime) -> list[str]:
    """Why the report cannot be final yet: the period is open, or a source was not heard after its end."""
    reasons = []
    until = evidence.request.until
    if now < until:
        reasons.append(f"The period is open until {until:%Y-%m-%d %H:%M:%S} UTC.")
    if not evidence.completeness["sources"]:
        reasons.append("No source is connected in this scope.")
    for source in evidence.completeness["sources"]:
        if _moment(source["created_at"]) >= until:
            continue
        heard = max((m for m in (source["watermark_at"], source["revoked_at"]) if m), default=None, key=_moment)
        if heard is None:
            reasons.append(f"Source {source['name']} sends no heartbeat: nothing says that it has told everything.")
        elif _moment(heard) < until:
            reasons.append(f"Source {source['name']} was last heard at {_moment(heard):%Y-%m-%d %H:%M:%S} UTC.")
    return reasons


def contradictions(evidence: Evidence) -> list[str]:
    """What does not reconcile: numbered records that are missing, rows reported but never captured."""
    reasons = []
    for source in evidence.completeness["sources"]:
        if source["missing"]:
            reasons.append(f"{source['missing']:,} numbered records of source {source['name']} are missing.")
    more = evidence.completeness["reconciliation"].get("reported_more") or 0
    if more:
        reasons.append(f"In {more:,} transactions the statements report more rows than were captured as changes.")
    untold = (evidence.completeness.get("gateway") or {}).get("sessions_untold") or 0
    if untold:
        reasons.append(
            f"Sessions of the gateway of which the server's log tells statements and the gateway none: {untold:,}."
        )
    differing = (evidence.completeness.get("commitments") or {}).get("differing") or 0
    if differing:
        reasons.append(f"{differing:,} counts of records that the log committed to are not borne out by what is found.")
    return reasons


def state(evidence: Evidence, override: str = "") -> tuple[Status, list[str]]:
    """Final only for a closed period that every source has passed and that reconciles, or was let stand (`override` says by whom)."""
    against = contradictions(evidence)
    if against and not override:
        return Status.BLOCKED, against
    reasons = unfinished(evidence, evidence.collected_at)
    if evidence.request.draft_only:
        reasons.append("It was asked for as a draft.")
    return (Status.DRAFT if reasons else Status.FINAL), [*reasons, *against, *([override] if override else [])]


def may_be_delivered(report: Report) -> bool:
    """Whether a report may leave the house: it is final, and everybody who was asked to has signed it."""
    return report.status == Status.FINAL


def _moment(value: str | dt.datetime) -> dt.datetime:
    return value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(value)
