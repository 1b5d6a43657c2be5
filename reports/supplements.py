"""Supplements: what came after a final report was issued and falls into its period goes into a numbered file of its own.

The report itself never changes. A supplement runs the same tests again over all that is in the log by now, names the report
that it amends with its hash, lists what came late, and says what became of each test.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from django.conf import settings
from django.db import transaction

from lineage import engine, errors
from lineage.access import Viewer
from lineage.models import Role
from lineage.queries.late import Span, late
from reports import evidence, redraws, requests
from reports.evidence import Evidence
from reports.models import Report, Status
from reports.printed import listed, moment, short

LATE = "late.parquet"
LISTED_MOST = 100
WORKING = (Status.QUEUED, Status.RUNNING)
STORE = Viewer(email="touchstone", role=Role.ADMIN)
"""Only counts for it: each supplement is made for the person who asked for the report."""
COPIED = (
    "kind",
    "period_from",
    "period_to",
    "environment",
    "datasources",
    "q",
    "engagement",
    "sample",
    "control",
    "framework",
)


@dataclasses.dataclass(frozen=True)
class Amendment:
    """What a supplement adds: `before` is the report or supplement before it; `table` holds the accesses that came since."""

    amended: Report
    before: Report
    table: pa.Table
    decisions: int


def before(report: Report) -> Report:
    """The newest file of this report's chain: its last issued supplement, or itself."""
    return report.supplements.exclude(path="").order_by("-supplement").first() or report


def looked_to(report: Report) -> int:
    """The log index from which on late records were not looked for yet."""
    return max(before(report).as_of or 0, report.late_to or 0)


def may_follow(report: Report) -> bool:
    """Whether this report can have supplements."""
    return report.status == Status.FINAL and report.amends is None and report.redraws is None


def ask(viewer: Viewer, report_id: int) -> Report:
    """Queues the next supplement. Raises NotFound, or QueryInvalid where the report is not final or nothing came late."""
    redraws.allow(viewer)
    report = requests.one(viewer, report_id)
    if not may_follow(report):
        raise errors.QueryInvalid(
            f"Only a final report that amends no other and draws no sample again gets supplements; {report.number} is {report.status}."
        )
    found, _ = late(viewer, [_span(report, before(report).as_of or 0)])
    if not found:
        raise errors.QueryInvalid(f"Nothing of this period came since {before(report).number} was made.")
    made = _queue(report, viewer.email)
    if made is None:
        raise errors.QueryInvalid(f"A supplement of {report.number} is being made.")
    return made


def queue_late() -> list[int]:
    """Queues a supplement for each final report of whose period anything came since; returns their ids."""
    finals = [
        report
        for report in Report.objects.filter(status=Status.FINAL, amends=None, redraws=None).order_by("pk")
        if not report.supplements.filter(status__in=WORKING).exists()
    ]
    found, size = late(STORE, [_span(report, looked_to(report)) for report in finals])
    queued = [_queue(report, report.created_by) for report in finals if report.pk in found]
    Report.objects.filter(pk__in=[report.pk for report in finals]).update(late_to=size)
    return [report.pk for report in queued if report is not None]


def _span(report: Report, from_index: int) -> Span:
    scope = report.environment, tuple(report.datasources)
    return Span(report.pk, report.period_from, report.period_to, *scope, from_index)


def _queue(report: Report, who: str) -> Report | None:
    """The next supplement, or None while one is being made."""
    with transaction.atomic():
        Report.objects.select_for_update(of=("self",)).get(pk=report.pk)
        if report.supplements.filter(status__in=WORKING).exists():
            return None
        copied = {name: getattr(report, name) for name in COPIED}
        number = report.supplements.count() + 1
        return Report.objects.create(amends=report, supplement=number, created_by=who, **copied)


def amendment(report: Report, found: Evidence) -> Amendment | None:
    """What this report adds to the one that it amends; None for a report that amends none. Writes the table of late records.

    Raises QueryInvalid where nothing of it is new.
    """
    if report.amends is None:
        return None
    earlier = report.amends.supplements.exclude(path="").filter(supplement__lt=report.supplement)
    last = earlier.order_by("-supplement").first() or report.amends
    came, decisions = _since(found, "population", last), _since(found, "decisions", last).num_rows
    if not came.num_rows and not decisions:
        raise errors.QueryInvalid(f"Nothing that this report looks at came since {last.number} was made.")
    evidence.write_table(came, found.folder / LATE)
    return Amendment(report.amends, last, came, decisions)


def _since(found: Evidence, name: str, last: Report) -> pa.Table:
    """The rows of a frozen table that came after a report was made; none where the table is not frozen."""
    if name not in found.tables:
        return pa.table({})
    return engine.over({name: found.tables[name]}, f"from {name} where index >= {last.as_of or 0} order by index")


def told(made: Amendment | None, tests: list[dict[str, Any]]) -> dict[str, Any] | None:
    """An amendment as JSON and pages have it; `tests` are those of the supplement, by their `id`, `conclusion`, `counts`."""
    if made is None:
        return None
    earlier = {test["id"]: test for test in _summary(made.before)["tests"]}
    return {
        "amends": made.amended.number, "amends_sha256": made.amended.sha256, "after": made.before.number,
        "after_as_of": made.before.as_of, "late_accesses": made.table.num_rows, "late_decisions": made.decisions,
        "tests": [
            {"title": test["title"], "before": _state(earlier.get(test["id"])), "now": _state(test)} for test in tests
        ],
        "records": [_record(row) for row in made.table.slice(0, LISTED_MOST).to_pylist()],
    }  # fmt: skip


def _state(test: dict[str, Any] | None) -> dict[str, Any] | None:
    return test and {name: test["counts"][name] for name in ("items", "tested", "deviating")} | {
        "conclusion": test["conclusion"]
    }


def _summary(report: Report) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(
        (Path(settings.DATA_DIR) / report.path).with_suffix(".json").read_bytes()
    )
    return found


def _record(row: dict[str, Any]) -> dict[str, Any]:
    names = (
        "index",
        "occurred_at",
        "received_at",
        "source",
        "who_name",
        "db_user",
        "command",
        "op",
        "relations",
        "datasource",
    )
    shown = {name: row[name] for name in names}
    return {
        name: value.astimezone(dt.UTC) if isinstance(value, dt.datetime) else value for name, value in shown.items()
    }


def printed(told: Mapping[str, Any]) -> dict[str, Any]:
    """What came late, with its times and names as they are printed."""
    records = [
        {
            **one, "occurred_at": moment(one["occurred_at"]), "received_at": moment(one["received_at"]),
            "who": short(one["who_name"] or one["db_user"], 60), "what": short(one["command"] or one["op"], 40),
            "relations": listed(one["relations"], 3),
        }
        for one in told["records"]
    ]  # fmt: skip
    return {**told, "records": records, "more": told["late_accesses"] - len(records)}
