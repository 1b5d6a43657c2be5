"""Which report follows which: one of the same question and period replaces what was issued of it before."""

from __future__ import annotations

from typing import Any

from reports.models import Report, Status

OPEN = (Status.DRAFT, Status.BLOCKED, Status.REFUSED)
ASKED = ("kind", "period_from", "period_to", "environment", "datasources", "q", "control", "framework")


def replaced_by(report: Report) -> Report | None:
    """The newest report of the same question, period and scope that this one replaces; a draft never replaces a final one.

    A supplement replaces nothing, it adds to the report that it amends; nor does a sample that is drawn again.
    """
    if report.amends is not None or report.redraws is not None or report.draft_only:
        return None
    same = {name: getattr(report, name) for name in ASKED}
    before = Report.objects.filter(**same, amends=None, redraws=None, pk__lt=report.pk).exclude(path="").order_by("-pk")
    known = before.filter(successors=report).first()
    if known is not None:
        return known
    last = before.filter(successors=None)
    final = last.filter(status=Status.FINAL).first() if report.status == Status.FINAL else None
    return final or last.filter(status__in=OPEN).first()


def lines(report: Report) -> list[dict[str, Any]]:
    """What a report says of its place in the chain: what it amends and what it replaces, with the hashes of those files."""
    told = [("Amends", report.amends), ("Replaces", report.supersedes)]
    return [
        {"words": words, "number": other.number, "status": other.status, "sha256": other.sha256, "as_of": other.as_of}
        for words, other in told
        if other is not None
    ]


def around(report: Report) -> dict[str, Any]:
    """The chain for a reader: what came before, what came after, and the supplements. They are all of one scope."""
    return {
        "before": [one for one in (report.amends, report.supersedes) if one is not None],
        "after": list(report.successors.order_by("pk")),
        "supplements": list(report.supplements.order_by("supplement")),
    }
