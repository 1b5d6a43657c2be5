"""What a process keeps of extracts and of what is newer goes with an erasure, also where a question began before it."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest

from lineage import checkpoints, engine, segments
from lineage.engine import Question
from lineage.queries import glance
from lineage.queries.ask import Window
from tests import extracts
from tests.lineage.test_queries import ALL, Feed

pytestmark = pytest.mark.slow


def ask(question: Question) -> None:
    """By look-ups, by sums, and with SQL."""
    look = question.look()
    assert look is not None
    assert look.sums is not None
    assert glance.counted(question, ALL, Window())
    question.rows("select * from activity")


def test_a_question_that_began_before_an_erasure_leaves_nothing_behind(store: str) -> None:
    feed = Feed()
    feed.statement("select * from customers where id = 1", op="read")
    checkpoints.checkpoint()
    assert segments.seal()
    assert extracts.everything() == 1
    feed.change("70")
    before, opening = engine.snapshot(), engine._here().opening
    with Question(before) as question:
        ask(question)
    assert opening.remembers
    assert opening.summing.standing
    erased_at = dt.datetime.now(dt.UTC)
    with Question(before) as question:
        opening.now(before.store, erased_at)
        assert not opening.remembers
        ask(question)
    assert not (opening.remembers)
    assert not (opening.newer.stands)
    assert not (opening.summing.standing)
    assert not (opening.seeing.newer)
    with Question(dataclasses.replace(before, erased_at=erased_at)) as question:
        ask(question)
    assert opening.remembers
