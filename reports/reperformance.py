"""For each number of a report what it takes to have it again: the command, its SQL, and the records in the live store."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.urls import reverse

from reports import controls
from reports.models import Report

RECORDS_MOST = 40
COUNTS = (
    ("items", "were found", "count(*)"),
    ("tested", "of them were tested", "count(*) filter (tested)"),
    ("excluded", "were counted and not tested", "count(*) filter (not tested)"),
    ("deviating", "of those tested deviate", "count(*) filter (len(deviations) > 0)"),
)
RERUN = """python3 - <<'END'
import duckdb

for name in {tables}:
    duckdb.sql(f"create or replace view {{name}} as from '{{name}}.parquet'")
duckdb.sql("create or replace table items as " + open("{stem}.sql").read())
print(duckdb.sql("select {counted} from items").fetchall()[0][0])
END"""
POPULATION = """python3 - <<'END'
import duckdb

print(duckdb.sql("select count(*) from 'population.parquet'").fetchall()[0][0])
END"""


def shown(report: Report, summary: dict[str, Any]) -> dict[str, Any]:
    """The summary with `again` beside each count: (words, value, command, SQL, address of the live records)."""
    for test in summary["tests"]:
        known = controls.tests().get(test["id"])
        # A test of another version stands in the file as it was run; nothing is said here of what this one would count.
        if known is not None and known.sha256 == test["sha256"]:
            test["sql"] = known.sql
            test["again"] = [_count(report, known, test, *one) for one in COUNTS]
            for attribute in test["attributes"]:
                letter = attribute["letter"].lower()
                attribute["again"] = _command(known, f"count({letter})")
                attribute["failed"] = _command(known, f"count(*) filter ({letter} <> 'pass')")
    summary["again"] = {"command": POPULATION, "live": _live(report)}
    summary["detach"] = f"pdfdetach -saveall {report.file_stem}.pdf"
    if summary.get("archive"):
        summary["detach"] += f" && unzip -o {report.file_stem}.zip"
    return summary


def _command(test: controls.Test, counted: str) -> dict[str, str]:
    tables = "(" + ", ".join(f'"{name}"' for name in test.tables) + ",)"
    return {"command": RERUN.format(tables=tables, stem=test.stem, counted=counted)}


def _count(
    report: Report, test: controls.Test, told: dict[str, Any], name: str, words: str, counted: str
) -> dict[str, Any]:
    live = _deviating(report, told) if name == "deviating" else _live(report)
    return {
        "name": name,
        "words": words,
        "value": told["counts"][name],
        "live": live,
        **_command(test, counted),
    }


def _live(report: Report) -> str:
    """The accesses of the period as the live store shows them, by event."""
    return _search(report, " ".join(["(kind:query or kind:change)", *_places(report)]))


def _places(report: Report) -> list[str]:
    return (
        ["(" + " or ".join(f'datasource:"{name}"' for name in report.datasources) + ")"] if report.datasources else []
    )


def _deviating(report: Report, told: dict[str, Any]) -> str:
    """The first records of the items that deviate; empty where none has a record."""
    indexes = [one["first_index"] for one in told["deviations"] if one.get("first_index") is not None]
    return _search(report, " or ".join(f"index:{index}" for index in indexes[:RECORDS_MOST])) if indexes else ""


def _search(report: Report, q: str) -> str:
    window = {"since": report.period_from.isoformat(), "until": report.period_to.isoformat()}
    place = {"environment": report.environment} if report.environment else {}
    return f"{reverse('search')}?{urlencode({'q': q, **window, **place})}"
