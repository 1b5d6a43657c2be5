"""Findings in what the keeper has not come to yet, and those of a log that lies in extracts."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import pytest

from lineage import checkpoints, queries, segments
from lineage.finding_models import FindingProgress
from lineage.findings import judging
from lineage.queries import unjudged
from tests import extracts, story
from tests.lineage.test_findings import ALL, LATER, STRANGER, at, by_rule, judge, tell_story
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


def test_while_much_waits_what_is_in_extracts_is_judged_as_they_tell_of_it_and_the_findings_are_the_same(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell_story()
    checkpoints.checkpoint()
    segments.seal()
    assert extracts.everything()
    extracted_to = segments.sealed_to()
    story.send(story.Source.objects.get(name="desk"), story.query("t9", at(9), story.OMAR, "truncate t9", "truncate"))
    waiting = {rule: [row["index"] for row in rows] for rule, rows in by_rule().items()}
    looks: list[int] = []

    class Question(judging.Question):
        def __init__(self, *of: Any, as_of: int | None = None, **more: Any) -> None:
            super().__init__(*of, as_of=as_of, **more)
            looks.extend([as_of] if as_of else [])

    monkeypatch.setattr(judging, "Question", Question)
    monkeypatch.setattr(judging, "CHUNK", 4)
    monkeypatch.setattr(judging, "AT_ONCE", 7)
    reached = []
    while not reached or reached[-1] <= extracted_to:
        judging.judge(dt.datetime.now(dt.UTC) + LATER, again=False)
        reached.append(FindingProgress.objects.get().judged_to)
    parts = -(-extracted_to // 7)
    assert reached[:parts] == [*range(7, extracted_to, 7), extracted_to]
    assert looks[:parts] == [extracted_to] * parts, "what the extracts tell is joined already"
    assert looks[parts] == reached[parts] == extracted_to + 7
    assert {rule: [row["index"] for row in rows] for rule, rows in by_rule().items()} == waiting


def test_a_look_waits_for_an_extract_that_is_on_its_way_and_for_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    at = [judging.Reached(size=900_000, sealed_to=900_000, extracted_to=400_000, judged_to=400_000)]
    monkeypatch.setattr(judging, "judge", lambda **_: looked.append(at[0].judged_to) or -1)
    monkeypatch.setattr(judging, "_reached", lambda: at[0])
    looks = judging.Judging()

    def look(**reached: int) -> list[int]:
        looked.clear()
        at[0], looks.not_before = at[0]._replace(**reached), 0.0
        looks()
        return looked

    assert look() == [], "the next extract has it"
    assert look(extracted_to=500_000) == [400_000], "it is there"
    assert look(judged_to=500_000) == []
    assert look(judged_to=800_000) == [800_000], "extracts made anew are far from there"
    assert look(judged_to=500_000, extracted_to=450_000, sealed_to=550_000) == [500_000], "little is not in extracts"
    at[0] = at[0]._replace(sealed_to=900_000)
    monkeypatch.setattr(judging, "EXTRACT_SECONDS", 0.0)
    assert look() == [500_000], "no extract has come for long"
