"""What could not be tested: an hour that was quiet, an hour whose source was stopped, and what was heard of it in part."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from lineage import checkpoints, health
from lineage.models import SourceHealth
from reports import controls, evidence, hearing, outcomes
from reports.evidence import Request
from reports.outcomes import DEVIATED, NOT_OCCURRED, NOT_TESTED, OPERATED
from tests.reports import made
from tests.reports.made import END, START, access, decision, heard, silent, write
from tests.reports.test_issuing import AUDITOR, DAY, Shop

pytestmark = pytest.mark.slow
HALF = START + dt.timedelta(hours=1)
DESK = heard("desk", "decisions", format="events", datasource="")
LOG = heard("log", "statements", outages=[silent(HALF, None)])
GATEWAY = heard("gate", "statements", format="gateway")


def limits(tmp_path: Path, *sources: dict[str, Any], needs: tuple[str, ...] = ("statements",)) -> hearing.Limits:
    return hearing.limits(needs, made.made(tmp_path / "inputs", [], hearing=list(sources)))


@pytest.mark.parametrize(
    ("sources", "population", "conclusion"),
    [
        ([heard("log", "statements"), DESK], [access(1)], NOT_OCCURRED),
        ([LOG, DESK], [access(1)], NOT_TESTED),
        ([LOG, DESK], [write(1, ticket="T")], OPERATED),
        ([LOG, DESK], [write(1)], DEVIATED),
        ([heard("log", "statements", outages=[silent(START, END)]), DESK], [write(1)], NOT_TESTED),
        ([heard("log", "statements")], [write(1, ticket="T")], NOT_TESTED),
        ([heard("log", "statements")], [access(1)], NOT_OCCURRED),
        ([DESK], [access(1)], NOT_TESTED),
    ],
)
def test_nothing_found_is_no_result_where_its_source_was_not_heard(
    tmp_path: Path, sources: list[dict[str, Any]], population: list[dict[str, Any]], conclusion: str
) -> None:
    found = made.made(tmp_path / "inputs", population, hearing=sources, decisions=[decision(1, "T")])
    (outcome,) = outcomes.evaluate(found).outcomes
    assert outcome.conclusion == conclusion


def test_what_was_heard_in_part_is_said_with_its_hours_and_its_cause(tmp_path: Path) -> None:
    late = heard("log", "statements", from_at=START + dt.timedelta(minutes=1), outages=LOG["outages"])
    said = limits(tmp_path, late, DESK).sentences()
    assert said == [
        "Could not be tested from 2026-11-20 10:00:00 to 2026-11-20 10:01:00 UTC (1 min): source log, which tells of "
        "statements, was not heard. It was not connected yet.",
        "Could not be tested from 2026-11-20 11:00:00 to 2026-11-20 12:00:00 UTC (1 h): source log, which tells of "
        "statements, was not heard. no heartbeat.",
    ]


def test_a_source_of_the_same_kind_stands_in_for_another_and_one_of_another_kind_does_not(tmp_path: Path) -> None:
    second = heard("log2", "statements", from_at=HALF)
    assert limits(tmp_path / "a", LOG, second).unheard == ()
    assert [one.source for one in limits(tmp_path / "b", LOG, GATEWAY).unheard] == ["log"]
    revoked = heard("old", "statements", revoked_at="2026-11-19T00:00:00+00:00", outages=[silent(START, None)])
    assert limits(tmp_path / "c", revoked, heard("log", "statements")).unheard == ()
    assert limits(tmp_path / "d", revoked).never == ("statements",)


def test_either_of_two_needs_is_enough_and_weakened_or_missing_numbers_are_no_silence(tmp_path: Path) -> None:
    wal = heard("wal", "changes", format="pgoutput")
    assert limits(tmp_path / "a", LOG, wal, needs=("statements or changes",)) == hearing.Limits("statements or changes")
    weakened = [silent(START, None, state="weakened"), silent(START, None, state="gap", lasting=False)]
    assert limits(tmp_path / "b", heard("log", "statements", outages=weakened)).unheard == ()


def test_a_source_without_heartbeats_is_said_to_leave_quiet_and_silence_alike(tmp_path: Path) -> None:
    (said,) = limits(tmp_path, heard("desk", "decisions", beats=False), needs=("decisions",)).sentences()
    assert said.startswith("Source desk sends no heartbeat")


def test_a_head_may_need_only_what_sources_tell_of() -> None:
    sql = controls.tests()["approvals"].sql
    with pytest.raises(ValueError, match="not wishes"):
        controls.read_test(sql.replace('needs = ["statements"', 'needs = ["wishes"'))
    assert all(test.needs for test in controls.tests().values() if "population" in test.tables or "acts" in test.tables)


def test_an_idle_hour_did_not_occur_and_an_hour_with_its_source_stopped_could_not_be_tested(
    store: str, tmp_path: Path
) -> None:
    shop = Shop()
    shop.statement("select * from customers where id = 1", 1, "read", user="app")
    now = dt.datetime.now(dt.UTC)
    minutes = [now + dt.timedelta(minutes=minute) for minute in (0, 40, 90, 300)]
    shop.heard(minutes[0])
    health.look(DAY, minutes[1])
    SourceHealth.objects.update(heartbeat_at=minutes[2])
    health.look(DAY, minutes[2])
    shop.heard(minutes[3])
    checkpoints.checkpoint()

    def hour(minute: int) -> outcomes.Outcome:
        since = now + dt.timedelta(minutes=minute)
        asked = Request("privileged-access", since, since + dt.timedelta(hours=1), "prod")
        return outcomes.evaluate(evidence.collect(AUDITOR, asked, tmp_path / str(minute))).outcomes[0]

    half, stopped, idle = hour(60), hour(10), hour(120)
    assert (stopped.tested, stopped.conclusion, stopped.limits.never) == (0, NOT_TESTED, ("statements", "decisions"))
    assert (half.conclusion, half.limits.never) == (NOT_TESTED, ())
    assert [(one.source, one.to_at - one.from_at) for one in half.limits.unheard if one.need == "statements"] == [
        ("log", dt.timedelta(minutes=30))
    ]
    assert (idle.tested, idle.conclusion, idle.limits.sentences()) == (0, NOT_OCCURRED, [])
