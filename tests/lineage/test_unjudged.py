"""Findings in what the keeper has not come to yet, and those of a log that lies in extracts."""

from __future__ import annotations

import re

import pytest

from lineage import checkpoints, queries, segments
from lineage.queries import unjudged
from tests import extracts, story
from tests.lineage.test_findings import ALL, STRANGER, at, judge, tell_story
from tests.lineage.test_pages import page, signed_in


def test_while_the_keeper_is_behind_the_newest_records_are_judged_and_the_list_says_that_it_is_not_whole(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = story.source()
    for number in range(4):
        name = f"b{number}"
        story.send(desk, story.query(name, at(number), story.OMAR, f"truncate behind_{number}", "truncate"))
    assert queries.findings(ALL).total == queries.Total(4, True)
    reader = story.person()
    monkeypatch.setattr(unjudged, "CHUNK", 2)
    found = queries.findings(ALL)
    assert [row["occurred_at"] for row in found.items] == [at(3), at(2)]
    assert found.total == queries.Total(2, False)
    pressing = queries.pressing(ALL, most=1)
    assert (pressing.total, pressing.high, len(pressing.looks)) == (found.total, 0, 1)
    behind = page(signed_in(reader), "/findings/")
    assert "Older records wait to be judged" in behind
    assert re.search(r"At least \d open findings? so far", behind)
    judge()
    assert queries.findings(ALL).total == queries.Total(4, True)
    assert "wait to be judged" not in page(signed_in(reader), "/findings/")


def test_findings_are_told_the_same_from_extracts_and_the_high_ones_come_first(store: str) -> None:
    tell_story()
    judge()
    before = queries.findings(ALL).items
    checkpoints.checkpoint()
    segments.seal()
    assert extracts.everything()
    assert queries.findings(ALL).items == before
    looks = queries.pressing(ALL, most=len(before)).looks
    assert looks == sorted(before, key=lambda row: (row["severity"] != "high", -row["index"]))
    assert queries.pressing(ALL, most=3).looks == looks[:3]
    assert queries.pressing(ALL, most=3, environments=["elsewhere"]).looks == []
    hidden = queries.pressing(STRANGER, most=3)
    assert (hidden.total.value, hidden.high, hidden.looks) == (0, 0, [])
