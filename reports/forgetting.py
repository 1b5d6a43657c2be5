"""What reports keep of erased records: drafts lose their files and can be made again, final reports are named."""

from __future__ import annotations

import bisect
import datetime as dt
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pyarrow.parquet as pq

from lineage import reach
from lineage.erasures import selection
from lineage.events import Erased
from reports import exceptions, issuing
from reports.models import Report, Status
from reports.review_models import SignOff

ERASED_SEARCH = "(erased)"
ERASED_WORDS = "(erased here; the signed file has them)"


def forget_texts(texts: Sequence[str]) -> None:
    """The search text of reports, and what was said at a sign-off, is emptied where it holds one of the texts."""
    exceptions.forget_texts(texts)
    for report in Report.objects.exclude(q=""):
        if selection.names_one(texts, report.q):
            Report.objects.filter(pk=report.pk).update(q=ERASED_SEARCH)
    for step in SignOff.objects.exclude(words=""):
        if selection.names_one(texts, step.words):
            SignOff.objects.filter(pk=step.pk).update(words=ERASED_WORDS)


def forget_records(spans: Sequence[Erased], before: dt.datetime) -> list[str]:
    """Drafts, blocked and failed reports made from these records lose their files; final ones are named."""
    kept = []
    for report in Report.objects.all():
        folder = issuing.folder_of(report)
        if not folder.exists() or not _holds_one(folder, spans, before):
            continue
        if report.status in (Status.FINAL, Status.AWAITING, Status.REFUSED):
            kept.append(f"issued report {report.number}")
            continue
        shutil.rmtree(folder)
        words = ["Its files held erased values and were removed. It can be made again."]
        Report.objects.filter(pk=report.pk).exclude(status__in=(Status.QUEUED, Status.RUNNING)).update(
            path="", reasons=words
        )
    return kept


def _holds_one(folder: Path, spans: Sequence[Erased], before: dt.datetime) -> bool:
    """Whether the frozen inputs are from before, or half made, and name one of the records."""
    inputs = folder / "inputs.json"
    if inputs.exists():
        collected = dt.datetime.fromisoformat(msgspec.json.decode(inputs.read_bytes())["collected_at"])
        if collected >= before:
            return False
    indexes = sorted({index for path in folder.glob("*.parquet") for index in _indexes(path)})
    return any(bisect.bisect_left(indexes, s.first) < bisect.bisect_right(indexes, s.last) for s in spans)


def _indexes(path: Path) -> list[int]:
    schema = pq.read_schema(path)
    names = [name for name in ("index", "approval_index") if name in schema.names]
    table = pq.read_table(path, columns=names)
    return [index for name in names for index in table[name].to_pylist() if index is not None]


PLACE = reach.Place(
    forget_texts,
    forget_records,
    ("reports_report", "reports_reportexception", "reports_judgement", "reports_signoff"),
)
