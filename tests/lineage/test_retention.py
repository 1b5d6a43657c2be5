"""Retention: nothing goes by itself; a policy of two people purges values, never leaves, and says what went."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
import time_machine
from django.core.management import call_command
from django.db import DatabaseError
from django.utils import timezone

from lineage import erasures, errors, fsck, holds, ingest, keeper, ledger, retention, rights, segments, sources
from lineage.access import Viewer
from lineage.erasures import execution
from lineage.events import Event
from tests import merges, story
from tests.lineage import forgetting

pytestmark = pytest.mark.slow

WORDS = {"reason": "kept a year", "ground": "storage limitation"}


@pytest.fixture
def pair(store: str, settings: Any) -> tuple[Viewer, Viewer]:
    settings.GRACE_SECONDS, settings.WAL_HOURS = -settings.QUERY_SECONDS, 0
    two = forgetting.people()
    forgetting.act_as("store")
    return two


def gone() -> list[int]:
    return [r.index for r in segments.records(range(6)) if r.groups and set(r.groups.values()) == {None}]


@pytest.fixture
def aged(pair: tuple[Viewer, Viewer]) -> list[int]:
    """Three records received 400 days ago by the store's clock, and three now."""
    source = story.source()
    parsed = sources.parse("events", json.dumps(forgetting.items("Zebedee-Q7", "4711")).encode())
    # Only the admission sees the other time: the database has a clock of its own.
    with time_machine.travel(timezone.now() - dt.timedelta(days=400), tick=True):
        entries = [ingest.admit(source, event) for event in parsed if isinstance(event, Event)]
    old = [p.index for p in ledger.append(source.pk, [e for e in entries if isinstance(e, ledger.Entry)])]
    forgetting.send("Zacharias-Q8", source, "9")
    return old


def valid(pair: tuple[Viewer, Viewer], query: str = "", days: int = 365) -> int:
    number = retention.propose(pair[0], query, days, **WORDS)
    retention.approve(pair[1], number)
    return number


def test_without_a_policy_of_two_people_everything_is_kept(pair: tuple[Viewer, Viewer], aged: list[int]) -> None:
    assert forgetting.locked(retention.run) == []
    number = retention.propose(pair[0], "", 365, **WORDS)
    with pytest.raises(errors.AccessDenied, match="another person"):
        retention.approve(pair[0], number)
    assert forgetting.decisions("retention")[-1][1] == "refused"
    assert forgetting.locked(retention.run) == []
    with pytest.raises(DatabaseError, match="not valid"):
        rights.call("select ledger_request_retention(%s, now() - interval '400 days', 0, 0, sha256(''))", number)
    assert gone() == []


def test_what_has_expired_loses_its_values_and_keeps_leaves_proofs_and_counts(
    pair: tuple[Viewer, Viewer], aged: list[int]
) -> None:
    keeper.once()
    leaves = dict(segments.leaves(0, 6))
    valid(pair)
    (number,) = forgetting.locked(retention.run)
    assert gone() == aged
    assert dict(segments.leaves(0, 6)) == leaves
    assert list(fsck.check()) == []
    subject, transition, decision = forgetting.decisions("retention")[-1]
    assert (subject, transition) == (f"retention {number}", "pending")
    assert [(s["first"], s["last"]) for s in decision["erased"]] == [(0, 2)]
    assert {(c["source_id"], c["class"], c["count"]) for c in decision["counts"]} == {
        ("desk", "write", 2),
        ("desk", "read", 1),
    }
    assert forgetting.locked(retention.run) == []
    assert forgetting.locked(erasures.run_due) == 0
    assert forgetting.decisions("retention")[-1][1] == "erased"


def test_a_segment_merged_across_the_boundary_loses_what_has_expired_and_keeps_the_rest(
    pair: tuple[Viewer, Viewer], aged: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "SEGMENT_MOST", 3)
    forgetting.locked(execution.seal_everything)
    assert [row[:2] for row in segments.manifest()][:2] == [(0, 3), (3, 6)]
    leaves, kept = dict(segments.leaves(0, 6)), list(segments.records(range(3, 6)))
    merges.everything()
    assert len(segments.manifest()) == 1
    valid(pair)
    assert len(forgetting.locked(retention.run)) == 1
    for _ in range(2):
        assert gone() == aged
        assert list(segments.records(range(3, 6))) == kept
        assert dict(segments.leaves(0, 6)) == leaves
        assert list(fsck.check()) == []
        merges.everything()
    assert forgetting.locked(retention.run) == []


def test_held_records_stay_and_the_rest_goes(pair: tuple[Viewer, Viewer], aged: list[int]) -> None:
    holds.add(pair[0], "key:4711", "court case 7")
    valid(pair)
    forgetting.locked(retention.run)
    assert gone() == [2]
    assert forgetting.locked(retention.run) == []


def test_a_policy_names_what_expires_and_a_stopped_one_purges_nothing(
    pair: tuple[Viewer, Viewer], aged: list[int]
) -> None:
    first, second = valid(pair, "kind:change"), valid(pair)
    retention.stop(pair[0], second)
    forgetting.locked(retention.run)
    assert gone() == [1]
    assert [(p.id, p.state) for p in retention.listing()] == [(second, "stopped"), (first, "valid")]


def test_the_database_keeps_the_age_that_was_approved(pair: tuple[Viewer, Viewer], aged: list[int]) -> None:
    number = valid(pair)
    with pytest.raises(DatabaseError, match="keeps 365 days"):
        rights.call("select ledger_request_retention(%s, now(), 0, 0, sha256(''))", number)
    assert erasures.listing() == []


def test_on_the_command_line_a_run_says_what_went(
    pair: tuple[Viewer, Viewer], aged: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("retention", "run")
    valid(pair)
    call_command("retention", "run")
    call_command("retention", "list")
    assert capsys.readouterr().out.splitlines()[:2] == ["Nothing has expired; everything is kept.", "3 records purged"]
