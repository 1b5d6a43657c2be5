"""Makes one report from its registry row: collect and freeze, test, render, sign, record in the log, register.

Killed at any point it can be run again: frozen inputs are used again, and the registry row is written last. The record
in the signed log comes before the registry says that the report is issued; without it there is no report.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from django.conf import settings
from django.db import transaction

from lineage import access, errors, ledger, spare
from lineage.access import Viewer
from lineage.models import Role, User
from reports import (
    archives,
    attachments,
    document,
    evidence,
    exceptions,
    meanwhile,
    outcomes,
    overrides,
    redraws,
    render,
    requests,
    reviews,
    signing,
    standing,
    succession,
    supplements,
    timestamping,
)
from reports.evidence import Evidence, Request
from reports.models import Cadence, Report, Status
from reports.outcomes import Outcome, Result

COMMAND_LINE = "@command-line"
WAIT_HOURS = 24
DEVIATIONS_MOST = 1_000


def folder_of(report: Report) -> Path:
    return Path(settings.DATA_DIR) / "reports" / report.number.replace(" ", "-")


def claim(report_id: int) -> Report | None:
    """Takes a queued report for making; None when somebody else has it or it is done."""
    with transaction.atomic():
        report = Report.objects.select_for_update(skip_locked=True).filter(pk=report_id, status=Status.QUEUED).first()
        if report is not None:
            report.status, report.started_at = Status.RUNNING, dt.datetime.now(dt.UTC)
            report.save(update_fields=["status", "started_at"])
        return report


def issue(report: Report) -> Report:
    """Makes a claimed report for the person who asked. On a deliberate error the row keeps its sentence, and it is raised.

    What cannot be done just now (503) goes back to the queue; everything else is failed.
    """
    try:
        return _issue(report, viewer_of(report))
    except errors.TouchstoneError as error:
        _put(report, Status.QUEUED if error.status == errors.StoreUnavailable.status else Status.FAILED, error.message)
        raise
    except Exception:
        # Not one of ours: its text could hold values, so the page says only that it failed. The worker's log has it.
        _put(report, Status.FAILED, errors.TouchstoneError.default)
        raise


def _begin(report: Report, phase: str) -> None:
    """Tells those who wait on the report's page what is being done; what DuckDB keeps of the phase before is given back."""
    spare.release()
    report.phase = phase
    Report.objects.filter(pk=report.pk).update(phase=phase)


def _put(report: Report, status: Status, reason: str) -> None:
    report.status, report.reasons = status, [reason]
    report.save(update_fields=["status", "reasons"])


def viewer_of(report: Report) -> Viewer:
    """For whom a report is made: the user who asked for it, with today's scope; the command line sees everything.

    Raises AccessDenied when that user is gone or may no longer see all of it.
    """
    if report.created_by.endswith(COMMAND_LINE):
        return Viewer(email=report.created_by, role=Role.ADMIN)
    user = User.objects.filter(email=report.created_by, is_active=True).first()
    if user is None or not access.is_open(user) or not access.viewer_of(user).sees_values:
        raise errors.AccessDenied(f"{report.created_by} may no longer ask for reports.")
    viewer = access.viewer_of(user)
    if not requests.visible(viewer).filter(pk=report.pk).exists():
        raise errors.AccessDenied(f"{report.created_by} may no longer see all that this report covers.")
    return viewer


def request_of(report: Report) -> Request:
    return Request(
        report.kind, report.period_from, report.period_to, report.environment, tuple(report.datasources), report.q,
        report.draft_only, report.engagement, report.nonce, report.sample, report.control,
        report.framework,
    )  # fmt: skip


def _issue(report: Report, viewer: Viewer) -> Report:
    folder = folder_of(report)
    _begin(report, "collecting the evidence")
    found = evidence.load(folder) or redraws.inputs(report, request_of(report), folder)
    found = found or evidence.collect(viewer, request_of(report), folder)
    if not report.path and _worth_waiting(report, found):
        shutil.rmtree(folder)
        _put(report, Status.QUEUED, f"Waiting: {standing.unfinished(found, found.collected_at)[0]}")
        return report
    _begin(report, "running the tests")
    result = outcomes.evaluate(found)
    allowed = overrides.granted(report, standing.contradictions(found))
    report.status, report.reasons = standing.state(found, overrides.sentence(allowed) if allowed else "")
    report.supersedes = succession.replaced_by(report)
    report.issued_at = (allowed and allowed.granted_at) or found.collected_at
    reviews.begin(report, folder, result.conclusion)
    added = supplements.told(supplements.amendment(report, found), [_test(outcome) for outcome in result.outcomes])
    exceptions.freeze(report, folder)
    _begin(report, "writing the attachments")
    with meanwhile.asked(lambda: document.told(found, result)) as telling:
        lines = attachments.write(report, found, result, viewer)
    # The blocked file stays beside the one that was let through.
    path = folder / f"{report.file_stem}{'_override' if allowed else ''}.pdf"
    heading = _heading(report, lines, evidence.sha256(folder / attachments.MANIFEST), added)
    page, unsigned = document.html(heading, telling.result()), folder / "unsigned.pdf"
    _begin(report, "printing")
    # What prints it takes as much memory again, in a process of its own.
    spare.release()
    with meanwhile.asked(lambda: attachments.archive(folder, lines, path.with_suffix(".zip"))) as archiving:
        render.pdf(page, attachments.embedded(folder, result, lines), report.issued_at, unsigned)
    archiving.result()
    _begin(report, "signing")
    signed = signing.sign(unsigned.read_bytes())
    path.write_bytes(signed)
    report.unsigned_sha256, report.sha256 = evidence.sha256(unsigned), hashlib.sha256(signed).hexdigest()
    report.as_of, report.checkpoint, report.counts = found.as_of, found.checkpoint, result.counts
    report.path = str(path.relative_to(settings.DATA_DIR))
    _summarise(report, found, result, heading, path.with_suffix(".json"))
    ledger.record_decision(
        "report_issued",
        decided_by=report.created_by,
        subject=f"{report.number} sha256:{report.sha256}",
        transition=report.status,
        purpose=f"{report.kind} {report.period_from.isoformat()} to {report.period_to.isoformat()}, log size {found.as_of}"
        + redraws.sentence(report),
    )
    reviews.announce(report)
    report.save()
    unsigned.unlink()
    return report


def _worth_waiting(report: Report, found: Evidence) -> bool:
    """A repeated report waits up to a day for sources that were not heard after the period's end; others do not."""
    repeated = report.schedule is not None and report.schedule.cadence != Cadence.ONCE
    in_time = found.collected_at < report.period_to + dt.timedelta(hours=WAIT_HOURS)
    return repeated and in_time and bool(standing.unfinished(found, found.collected_at))


def _heading(
    report: Report, lines: Sequence[dict[str, Any]], manifest_sha256: str, added: dict[str, Any] | None
) -> document.Heading:
    return document.Heading(
        number=report.number,
        status=report.status,
        reasons=report.reasons,
        issued_at=report.issued_at or report.created_at,
        requested_by=report.created_by + (f", schedule {report.schedule.name}" if report.schedule else ""),
        origin=settings.ORIGIN,
        fingerprint=signing.fingerprint(),
        manifest_sha256=manifest_sha256,
        attachments=lines,
        draws=redraws.earlier(report),
        sign_offs=reviews.printed(report),
        chain=succession.lines(report),
        supplement=added,
        exceptions=exceptions.freeze(report, folder_of(report)),
        archive=archives.goes_with(lines),
    )


def _summarise(report: Report, found: Evidence, result: Result, heading: document.Heading, path: Path) -> None:
    """The JSON beside the PDF: the same numbers for programs."""
    summary = {
        "report": report.number,
        "kind": report.kind,
        "control": report.control,
        "framework": report.framework,
        "status": report.status,
        "reasons": report.reasons,
        "override": overrides.summary(overrides.granted(report, standing.contradictions(found))),
        "chain": succession.lines(report),
        "supplement": heading.supplement,
        "period": {"from": report.period_from, "to": report.period_to},
        "environment": report.environment,
        "datasources": report.datasources,
        "as_of": found.as_of,
        "checkpoint": found.checkpoint,
        "issued_at": report.issued_at,
        "requested_by": report.created_by,
        "conclusion": result.conclusion,
        "counts": result.counts,
        "tests": [_test(outcome) for outcome in result.outcomes],
        "exceptions": heading.exceptions,
        "completeness": found.completeness,
        "sign_off": reviews.summary(list(report.sign_offs.all())),
        "pdf": {
            "file": path.with_suffix(".pdf").name,
            "sha256": report.sha256,
            "unsigned_sha256": report.unsigned_sha256,
            "timestamp": timestamping.told(signing.stamped_at(path.with_suffix(".pdf").read_bytes())),
        },
        "archive": _archive(path.with_suffix(".zip")),
        "manifest_sha256": heading.manifest_sha256,
        "certificate_sha256": heading.fingerprint,
    }
    path.write_bytes(msgspec.json.format(msgspec.json.encode(summary)))


def _archive(path: Path) -> dict[str, Any] | None:
    """The ZIP beside the PDF, where some files are too large to be in it."""
    if not path.exists():
        return None
    return {"file": path.name, "sha256": evidence.sha256(path), "bytes": path.stat().st_size}


def _test(outcome: Outcome) -> dict[str, Any]:
    """One test of the JSON: what it is, its counts and its deviations, without statements and lists of records."""
    test = outcome.test
    deviating = outcome.answer.deviating(DEVIATIONS_MOST)
    return {
        **{name: getattr(test, name) for name in ("id", "version", "title", "question", "item", "items", "sha256")},
        "conclusion": outcome.conclusion,
        "limits": outcome.limits.sentences(),
        "counts": outcome.counts(),
        "attributes": [dataclasses.asdict(attribute) for attribute in outcome.attributes],
        "sample": outcome.sample.told(),
        "markers": [dataclasses.asdict(marker) for marker in outcome.markers],
        "deviations": [{k: v for k, v in item.items() if k not in ("indexes", "statement")} for item in deviating],
    }
