"""Makes one report from its registry row: collect and freeze, test, render, sign, record in the log, register.

Killed at any point it can be run again: frozen inputs are used again, and the registry row is written last. The record
in the signed log comes before the registry says that the report is issued; without it there is no report.
"""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import hashlib
import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
from django.conf import settings
from django.db import transaction

from lineage import access, errors, ledger, packs, queries
from lineage.access import Viewer
from lineage.models import Role, User
from reports import controls, document, evidence, render, signing
from reports.evidence import Evidence, Request
from reports.models import Cadence, Report, Status

COMMAND_LINE = "@command-line"
WAIT_HOURS = 24
UNSAFE_CELLS = ("=", "+", "-", "@", "\t", "\r")
FILES = (
    ("population.parquet", "Every access of the period", "application/vnd.apache.parquet", "Data"),
    ("roles.parquet", "Role attributes and when they were in force", "application/vnd.apache.parquet", "Data"),
    ("owners.parquet", "Owners of tables and when they owned them", "application/vnd.apache.parquet", "Data"),
    ("decisions.parquet", "Requests and approvals on the tickets cited", "application/vnd.apache.parquet", "Data"),
    ("privileged_acts.parquet", "The test's result: one row for each privileged act", "application/vnd.apache.parquet", "Data"),
    ("privileged_acts.csv", "The same for spreadsheets; cells that could be formulas begin with '", "text/csv", "Data"),
    ("privileged_access.sql", "The test, as it was run", "application/sql", "Source"),
    ("completeness.json", "The counts of section 3 and 4", "application/json", "Data"),
    ("evidence.touchstone.zip", "Evidence pack: the privileged records with proofs", "application/zip", "Supplement"),
    ("checkpoint.txt", "The signed checkpoint that covers every record", "text/plain", "Supplement"),
    ("report-certificate.pem", "The certificate of this file's signature", "application/x-pem-file", "Supplement"),
)  # fmt: skip


def folder_of(report: Report) -> Path:
    return Path(settings.DATA_DIR) / "reports" / report.number


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


def _put(report: Report, status: Status, reason: str) -> None:
    report.status, report.reasons = status, [reason]
    report.save(update_fields=["status", "reasons"])


def viewer_of(report: Report) -> Viewer:
    """For whom a report is made: the user who asked for it, with today's scope; the command line sees everything.

    Raises AccessDenied when that user is gone or may no longer see values.
    """
    if report.created_by.endswith(COMMAND_LINE):
        return Viewer(email=report.created_by, role=Role.ADMIN)
    user = User.objects.filter(email=report.created_by, is_active=True).first()
    if user is None or not access.is_open(user) or not access.viewer_of(user).sees_values:
        raise errors.AccessDenied(f"{report.created_by} may no longer ask for reports.")
    return access.viewer_of(user)


def request_of(report: Report) -> Request:
    return Request(
        report.kind, report.period_from, report.period_to, report.environment, tuple(report.datasources), report.q,
        report.draft_only,
    )  # fmt: skip


def _issue(report: Report, viewer: Viewer) -> Report:
    folder = folder_of(report)
    found = evidence.load(folder) or evidence.collect(viewer, request_of(report), folder)
    if _worth_waiting(report, found):
        shutil.rmtree(folder)
        _put(report, Status.QUEUED, f"Waiting: {controls.unfinished(found, found.collected_at)[0]}")
        return report
    result = controls.evaluate(found)
    report.status, report.reasons = _standing(found)
    report.issued_at = found.collected_at
    attachments = _attach(report, found, result, viewer)
    manifest = folder / "manifest.json"
    heading = _heading(report, attachments, evidence.sha256(manifest))
    unsigned = folder / "unsigned.pdf"
    listed = [*FILES, ("manifest.json", "List of the attachments", "application/json", "Supplement")]
    render.pdf(
        document.html(heading, found, result),
        [
            render.Attached(str(folder / n), n, words, media, rel)
            for n, words, media, rel in listed
            if (folder / n).exists()
        ],
        found.collected_at,
        unsigned,
    )
    signed = signing.sign(unsigned.read_bytes())
    path = folder / f"{report.file_stem}.pdf"
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
        purpose=f"{report.kind} {report.period_from.isoformat()} to {report.period_to.isoformat()}, log size {found.as_of}",
    )
    report.save()
    unsigned.unlink()
    return report


def _worth_waiting(report: Report, found: Evidence) -> bool:
    """A repeated report waits up to a day for sources that were not heard after the period's end; others do not."""
    repeated = report.schedule is not None and report.schedule.cadence != Cadence.ONCE
    in_time = found.collected_at < report.period_to + dt.timedelta(hours=WAIT_HOURS)
    return repeated and in_time and bool(controls.unfinished(found, found.collected_at))


def _standing(found: Evidence) -> tuple[Status, list[str]]:
    """Final only for a closed period that every source has passed and that reconciles."""
    against = controls.contradictions(found)
    if against:
        return Status.BLOCKED, against
    reasons = controls.unfinished(found, found.collected_at)
    if found.request.draft_only:
        reasons.append("It was asked for as a draft.")
    return (Status.DRAFT, reasons) if reasons else (Status.FINAL, [])


def _attach(report: Report, found: Evidence, result: controls.Result, viewer: Viewer) -> list[dict[str, Any]]:
    """Writes what the test made into the folder, and the manifest over all files; returns the manifest's lines."""
    folder = found.folder
    evidence.write_table(result.table, folder / "privileged_acts.parquet")
    (folder / "privileged_acts.csv").write_text(as_csv(result.acts), encoding="utf-8")
    (folder / "privileged_access.sql").write_text(result.sql, encoding="utf-8")
    (folder / "completeness.json").write_bytes(msgspec.json.format(msgspec.json.encode(found.completeness)))
    (folder / "report-certificate.pem").write_bytes(signing.certificate_pem())
    _pack(found, result, viewer)
    lines = [_line(folder / name, words) for name, words, _, _ in FILES if (folder / name).exists()]
    manifest = {
        "report": report.number,
        "kind": report.kind,
        "period": {"from": report.period_from, "to": report.period_to},
        "environment": report.environment,
        "datasources": report.datasources,
        "status": report.status,
        "as_of": found.as_of,
        "counts": result.counts,
        "conclusion": result.conclusion,
        "files": lines,
    }
    (folder / "manifest.json").write_bytes(msgspec.json.format(msgspec.json.encode(manifest, order="sorted")))
    return lines


def _pack(found: Evidence, result: controls.Result, viewer: Viewer) -> None:
    """The evidence pack of the privileged records and of the approvals and states they are held against; made once."""
    path = found.folder / "evidence.touchstone.zip"
    indexes = {i for act in result.acts for i in act["indexes"]}
    indexes |= {act["approval_index"] for act in result.acts if act["approval_index"] is not None}
    if path.exists() or not indexes:
        return
    body = packs.collect(
        viewer,
        found.request.q,
        queries.Window(found.request.since, found.request.until, found.request.environment or None),
        withhold=evidence.WITHHELD,
        earlier=found.checkpoint,
        indexes=sorted(indexes)[: packs.RECORDS_MOST],
    )
    draft = path.with_suffix(".draft")
    draft.write_bytes(body)
    draft.rename(path)


def _line(path: Path, words: str) -> dict[str, Any]:
    rows = pq.read_metadata(path).num_rows if path.suffix == ".parquet" else None
    return {
        "name": path.name,
        "description": words,
        "bytes": path.stat().st_size,
        "rows": rows,
        "sha256": evidence.sha256(path),
    }


def as_csv(acts: Sequence[controls.Act]) -> str:
    """The acts as CSV in which no cell begins like a formula: such cells get an apostrophe in front."""
    out = io.StringIO()
    if acts:
        columns = [name for name in acts[0] if name != "indexes"]
        writer = csv.writer(out)
        writer.writerow(columns)
        writer.writerows([_cell(act[name]) for name in columns] for act in acts)
    return out.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dt.datetime):
        return value.isoformat()
    text = "; ".join(str(v) for v in value) if isinstance(value, list) else str(value)
    return f"'{text}" if text.startswith(UNSAFE_CELLS) else text


def _heading(report: Report, attachments: Sequence[dict[str, Any]], manifest_sha256: str) -> document.Heading:
    return document.Heading(
        number=report.number,
        status=report.status,
        reasons=report.reasons,
        issued_at=report.issued_at or report.created_at,
        requested_by=report.created_by + (f", schedule {report.schedule.name}" if report.schedule else ""),
        origin=settings.ORIGIN,
        fingerprint=signing.fingerprint(),
        manifest_sha256=manifest_sha256,
        attachments=attachments,
    )


def _summarise(report: Report, found: Evidence, result: controls.Result, heading: document.Heading, path: Path) -> None:
    """The JSON beside the PDF: the same numbers for programs."""
    deviating = [{k: v for k, v in act.items() if k not in ("indexes", "statement")} for act in result.deviating]
    summary = {
        "report": report.number,
        "kind": report.kind,
        "status": report.status,
        "reasons": report.reasons,
        "period": {"from": report.period_from, "to": report.period_to},
        "environment": report.environment,
        "datasources": report.datasources,
        "as_of": found.as_of,
        "checkpoint": found.checkpoint,
        "issued_at": report.issued_at,
        "requested_by": report.created_by,
        "conclusion": result.conclusion,
        "counts": result.counts,
        "attributes": [dataclasses.asdict(a) for a in result.attributes],
        "deviations": deviating,
        "completeness": found.completeness,
        "test_sha256": result.sql_sha256,
        "pdf": {
            "file": path.with_suffix(".pdf").name,
            "sha256": report.sha256,
            "unsigned_sha256": report.unsigned_sha256,
        },
        "manifest_sha256": heading.manifest_sha256,
        "certificate_sha256": heading.fingerprint,
    }
    path.write_bytes(msgspec.json.format(msgspec.json.encode(summary)))
