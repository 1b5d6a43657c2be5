"""Lets a blocked report stand all the same: one person asks and says why, another one grants it (docs/reports.md).

The blocked file stays as it is. The report is made again from the same frozen inputs, and prints who, when and why.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from django.db import transaction

from lineage import configuration, errors
from lineage.access import Viewer
from lineage.models import Role
from reports import requests
from reports.models import Override, Report, Status

ROLES = frozenset({Role.COMPLIANCE, Role.ADMIN})
REASON_MOST = 500


def may(viewer: Viewer) -> bool:
    return viewer.role in ROLES


def may_grant(viewer: Viewer, report: Report) -> bool:
    """Whether this person is another than who asked for the override and for the report."""
    asked = of(report)
    return may(viewer) and asked is not None and not _same(viewer, asked.asked_by, report.created_by)


def _same(viewer: Viewer, *others: str) -> bool:
    return viewer.email.lower() in {other.lower() for other in others}


def of(report: Report) -> Override | None:
    """The override of a report, asked for or granted."""
    return Override.objects.filter(report=report).first()


def ask(viewer: Viewer, report_id: int, reason: str) -> Override:
    """Asks for it; asking again before it is granted puts another reason in its place. Refusals are recorded.

    Raises AccessDenied, NotFound, QueryInvalid.
    """
    with _asked(viewer, report_id), transaction.atomic():
        report = _blocked(viewer, report_id)
        if not reason.strip() or len(reason) > REASON_MOST:
            raise errors.QueryInvalid(f"Say why it may stand all the same, in at most {REASON_MOST} characters.")
        before = of(report)
        fields = {"reason": reason.strip().replace("\0", "\u2400"), "asked_by": viewer.email}
        configuration.record(viewer.email, _subject(report), _told(before), {"state": "asked for", **fields})
        made, _ = Override.objects.update_or_create(
            report=report,
            defaults=fields | {"contradictions": report.reasons, "asked_at": dt.datetime.now(dt.UTC)},
        )
        return made


def grant(viewer: Viewer, report_id: int) -> Report:
    """Grants what another one asked for; the report is queued to be made again. Refusals are recorded.

    Raises AccessDenied, NotFound.
    """
    with _asked(viewer, report_id), transaction.atomic():
        report = _blocked(viewer, report_id)
        asked = of(report)
        if asked is None or asked.granted_at:
            raise errors.NotFound(f"Nobody asks for an override of {report.number}. Ask for it first, with a reason.")
        if not may_grant(viewer, report):
            raise errors.AccessDenied(
                "An override is granted by another person than who asked for it or for the report. The refusal is recorded."
            )
        before = _told(asked)
        asked.granted_by, asked.granted_at = viewer.email, dt.datetime.now(dt.UTC)
        configuration.record(viewer.email, _subject(report), before, _told(asked), asked.reason)
        asked.save(update_fields=["granted_by", "granted_at"])
        report.status = Status.QUEUED
        report.save(update_fields=["status"])
        return report


def _asked(viewer: Viewer, report_id: int) -> Any:
    return configuration.asked(viewer.email, f"override of report {report_id}")


def _subject(report: Report) -> str:
    return f"override of report {report.number}"


def _told(override: Override | None) -> dict[str, Any] | None:
    if override is None:
        return None
    state = f"granted by {override.granted_by}" if override.granted_at else "asked for"
    return {"state": state, "reason": override.reason, "asked_by": override.asked_by}


def _blocked(viewer: Viewer, report_id: int) -> Report:
    """The blocked report, locked. Raises AccessDenied, NotFound, QueryInvalid."""
    if not may(viewer):
        raise errors.AccessDenied("Overrides are for compliance and administrators. The refusal is recorded.")
    requests.one(viewer, report_id)
    report = Report.objects.select_for_update(of=("self",)).get(pk=report_id)
    if report.status != Status.BLOCKED:
        raise errors.QueryInvalid(f"{report.number} is {report.status}; only what is blocked can be overridden.")
    return report


def granted(report: Report, against: Sequence[str]) -> Override | None:
    """The override that lets exactly these contradictions stand, where it was granted."""
    found = of(report)
    return found if found is not None and found.granted_at and found.contradictions == list(against) else None


def sentence(override: Override) -> str:
    """As it is printed on the cover."""
    assert override.granted_at is not None
    return (
        f"Overridden on {override.granted_at:%Y-%m-%d %H:%M:%S} UTC by {override.granted_by}, asked for by {override.asked_by}: "
        f"{override.reason}"
    )


def summary(override: Override | None) -> dict[str, Any] | None:
    """As it stands in the JSON beside the file."""
    if override is None:
        return None
    names = ("reason", "contradictions", "asked_by", "asked_at", "granted_by", "granted_at")
    return {name: getattr(override, name) for name in names}
