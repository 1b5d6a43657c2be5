"""The generated quarter: each thing that goes wrong in it is found by the tests that it is for, and nothing else is."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from demo import planted, simulated
from lineage import checkpoints, ingest
from lineage.access import Viewer
from lineage.models import Source
from reports import controls, evidence, outcomes
from reports.evidence import Request
from reports.outcomes import Outcome

pytestmark = pytest.mark.slow
FIRST_DAY = dt.date(2026, 8, 23)
DAYS = sorted({one.day for one in planted.PLANTED} | {planted.SILENT_DAY})
AUDITOR = Viewer(email="audit@example.test", role="auditor")
LOOKED_AT = ("privileged-access", "change-management", "approvals", "agents", "log-coverage", "sensitive-data")


def day(number: int) -> dt.date:
    return FIRST_DAY + dt.timedelta(days=number)


def sent(tmp_path: Path) -> None:
    """The days on which something was planted, as the demo sends them."""
    source = Source.objects.create(
        name="generated", format="events", environment="simulated", datasource=simulated.DATASOURCE,
        asserts=["actor", "approval"],
    )  # fmt: skip
    wanted = {str(day(number)) for number in DAYS}
    items = [e for e in simulated.Generator(FIRST_DAY).events() if str(e["occurred_at"])[:10] in wanted]
    for first in range(0, len(items), 1_000):
        answer = ingest.accept(source, json.dumps(items[first : first + 1_000]).encode())
        assert {item.status for item in answer.items} == {"accepted"}
    for kind, text in (("identities", simulated.IDENTITIES), ("tags", simulated.TAGS)):
        file = tmp_path / f"{kind}.csv"
        file.write_text(text)
        call_command("reference", "import", kind, str(file), "--as-of", f"{FIRST_DAY}T00:00:00Z")
    checkpoints.checkpoint()


def at(number: int) -> dt.datetime:
    return dt.datetime.combine(day(number), dt.time(), dt.UTC)


def results(folder: Path) -> Iterator[Outcome]:
    for kind in LOOKED_AT:
        asked = Request(kind, at(DAYS[0]), at(DAYS[-1] + 1), "simulated")
        yield from outcomes.evaluate(evidence.collect(AUDITOR, asked, folder / kind)).outcomes


def test_each_planted_deviation_is_found_by_its_tests_and_nothing_else_is(store: str, tmp_path: Path) -> None:
    sent(tmp_path)
    found: dict[str, list[tuple[str, list[str]]]] = {}
    seen: dict[str, int] = {}
    for outcome in results(tmp_path):
        if outcome.test.id != "source-hours":
            seen[outcome.test.id] = outcome.tested
            found[outcome.test.id] = sorted(map(_told, outcome.answer.deviating(100_000)))
        else:
            silent = [
                item["occurred_at"]
                for item in outcome.answer.deviating(100_000)
                if item["occurred_at"].date() in map(day, DAYS)
            ]
            assert silent == [at(planted.SILENT_DAY) + dt.timedelta(hours=hour) for hour in planted.SILENT_HOURS]
    wanted: dict[str, list[tuple[str, list[str]]]] = {test: [] for test in found}
    for one in planted.PLANTED:
        for test, words in one.found.items():
            place = f"Ticket {one.ticket}" if test == "approvals" else str(day(one.day))
            wanted[test].append((place, words))
    assert found == {test: sorted(told) for test, told in wanted.items()}
    assert all(seen[test] > 20 for test in ("privileged-access", "direct-data-changes", "approvals", "agent-acts"))
    assert seen["non-human-identities"] == len(simulated.SERVICES) + len(simulated.AGENTS)
    assert {test for one in planted.PLANTED for test in one.found} <= set(controls.tests())


def _told(item: dict[str, Any]) -> tuple[str, list[str]]:
    return (item["subject"] if "subject" in item else str(item["occurred_at"].date()), item["deviations"])
