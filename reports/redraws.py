"""Drawing a report's sample again, from the same frozen inputs: with the auditor's nonce, or in another size.

A nonce counts only after the population's hash was shown, or it could be chosen to fit. So the first report of a period
takes none, and the report with the nonce names the one whose inputs it uses.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lineage import errors
from lineage.access import Viewer
from reports import evidence, sampling
from reports.evidence import Evidence, Request
from reports.models import Report, Status
from reports.sampling import Plan

ISSUED = (Status.DRAFT, Status.AWAITING, Status.REFUSED, Status.FINAL, Status.BLOCKED)
SHOW_FIRST = (
    "A nonce counts only after the population's hash was shown. Make the report without a nonce first: it shows the hash; "
    "then draw its sample again with the nonce."
)


def plan(request: Request) -> Plan:
    """How the sample of a first report is drawn. Raises SampleInvalid, also for a nonce that comes too early."""
    if request.nonce.strip():
        raise errors.SampleInvalid(SHOW_FIRST, nonce="too early")
    return sampling.checked(Plan(request.engagement, "", request.sample))


def allow(viewer: Viewer) -> None:
    """Raises AccessDenied for roles that may not see values."""
    if not viewer.sees_values:
        raise errors.AccessDenied("Reports name people and statements; your role sees shapes only. Ask compliance.")


def ask(viewer: Viewer, first: Report, wanted: Plan, draft_only: bool = False) -> Report:
    """A queued report with the inputs of `first` and its sample drawn again. Raises SampleInvalid and AccessDenied."""
    allow(viewer)
    if first.status not in ISSUED or not first.path:
        raise errors.SampleInvalid(f"{first.number} has no file, so nobody was shown the hash of its population.")
    root = first.redraws or first
    wanted = Plan(wanted.engagement.strip() or root.engagement, wanted.nonce, wanted.size.strip() or root.sample)
    wanted = sampling.checked(wanted)
    if root.engagement not in ("", wanted.engagement):
        raise errors.SampleInvalid(f"{root.number} was made for engagement {root.engagement}, which stays.")
    return Report.objects.create(
        kind=root.kind, period_from=root.period_from, period_to=root.period_to, environment=root.environment,
        datasources=root.datasources, q=root.q, draft_only=draft_only, created_by=viewer.email,
        engagement=wanted.engagement, nonce=wanted.nonce, sample=wanted.size, redraws=root, control=root.control,
        framework=root.framework,
    )  # fmt: skip


def newest(issued: Iterable[Report], request: Request) -> Report:
    """The newest report that was issued of the same period and scope for the same engagement. Raises SampleInvalid."""
    for report in issued:
        about = (report.kind, report.period_from, report.period_to, report.environment, report.q)
        if (
            about == (request.kind, request.since, request.until, request.environment, request.q)
            and (report.control, report.framework) == (request.control, request.framework)
            and sorted(report.datasources) == sorted(request.datasources)
            and report.engagement in ("", request.engagement)
            and report.path
            and report.amends is None
        ):
            return report
    raise errors.SampleInvalid(SHOW_FIRST, nonce="too early")


def inputs(report: Report, request: Request, folder: Path) -> Evidence | None:
    """The inputs of a report that draws again, frozen in its own folder; None for any other. Raises SampleInvalid."""
    if report.redraws is None:
        return None
    found = evidence.load(folder.parent / report.redraws.number)
    if found is None:
        raise errors.SampleInvalid(f"The inputs of {report.redraws.number} are kept no more. Make a new report.")
    return evidence.freeze_again(found, request, folder)


def earlier(report: Report) -> list[str]:
    """The draws from the same inputs that were asked for before this one, in words: whoever draws often is seen to."""
    if report.redraws is None:
        return []
    before = Report.objects.filter(redraws=report.redraws, pk__lt=report.pk).order_by("pk")
    return [
        f"{one.number}: engagement {one.engagement or 'not named'}, nonce {one.nonce or 'none'}, sample {one.sample}"
        for one in (report.redraws, *before)
    ]


def sentence(report: Report) -> str:
    """What the record of the issue says of the sample."""
    said = f", engagement {report.engagement}" if report.engagement else ""
    said += f", nonce {report.nonce}" if report.nonce else ""
    return said + (f", sample drawn again from the inputs of {report.redraws.number}" if report.redraws else "")
