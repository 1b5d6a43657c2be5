"""What questions share between each other, and that they share nothing else."""

from __future__ import annotations

import datetime as dt
import threading
from typing import Any

import pytest

from lineage import engine, joining, joins, queries, reported, resolving
from lineage.access import Viewer
from lineage.engine import Question
from tests import story

AUDITOR = Viewer("alice@audit.example", "auditor")
NOW = dt.datetime(2026, 11, 22, 9, tzinfo=dt.UTC)


@pytest.fixture
def told(store: str) -> None:
    story.tell(NOW)


def _schemas() -> list[str]:
    """The schemas in which joins lie."""
    rows = (
        engine._here()
        .database.cursor()
        .execute("select schema_name from duckdb_schemas() where schema_name like 'joined%' order by 1")
    )
    return [row[0] for row in rows.fetchall()]


def _people(question: Question) -> list[tuple[str, int]]:
    rows = question.rows("select who_name, count(*) as n from activity where kind = 'query' group by all order by 1")
    return [(row["who_name"], row["n"]) for row in rows]


def test_joins_are_made_once_until_a_source_reports_again(told: None) -> None:
    queries.events(AUDITOR, "")
    before = engine._here().joins.made
    story.person()
    queries.events(AUDITOR, "kind:query")
    assert engine._here().joins.made == before
    source = story.source("more", datasource="other")
    found = len(queries.events(AUDITOR, "actor:dana", limit=1000).items)
    story.send(source, story.query("more-1", NOW, story.DANA, "select 1 from customers", "read"))
    assert len(queries.events(AUDITOR, "actor:dana", limit=1000).items) == found + 1
    assert engine._here().joins.made == before + 1
    assert len(_schemas()) == 1


def test_a_question_keeps_its_joins_while_newer_ones_are_made_and_they_go_when_it_ends(told: None) -> None:
    source = story.source("more", datasource="other")
    with Question() as first:
        before = _people(first)
        story.send(source, story.query("more-1", NOW, story.DANA, "select 1 from customers", "read"))
        with Question() as second:
            assert _people(second) != before
            assert _people(first) == before
            assert len(_schemas()) == 2
    assert len(_schemas()) == 1


def test_a_question_as_of_an_earlier_record_leaves_no_joins_behind(told: None) -> None:
    queries.events(AUDITOR, "")
    kept = _schemas()
    with Question(as_of=3) as question:
        assert sum(n for _, n in _people(question)) <= 3
        assert _schemas() != kept
    assert _schemas() == kept


def test_questions_in_threads_at_once_get_their_own_answers(told: None) -> None:
    with Question() as question:
        expected = _people(question)
        snap = question.snapshot
    engine._here().joins.forget()
    answers: list[list[tuple[str, int]]] = []

    def ask() -> None:
        with Question(snap) as own:
            answers.append(_people(own))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert answers == [expected] * 4
    assert len(_schemas()) == 1


def test_joins_that_cannot_be_made_leave_nothing_behind(told: None, monkeypatch: pytest.MonkeyPatch) -> None:
    engine._here().joins.forget()
    monkeypatch.setattr(resolving, "ACTIVITY", "create view activity as select nothing_such from resolved")
    with pytest.raises(Exception, match="nothing_such"), Question():
        pass
    assert _schemas() == []
    monkeypatch.undo()
    with Question() as question:
        assert _people(question)


def test_where_nobody_told_of_gateways_or_claims_the_joins_have_the_same_shape_and_answers(told: None) -> None:
    """What is left out to plan less is what would have been empty: here, the whole is made in spite of it."""
    made = {}
    with Question(joined=False) as question:
        cursor = question.cursor
        question.here.joins.bring(cursor, question.snapshot, question.size)
        for name, table in zip(joining.REFERENCE, _reference(question), strict=True):
            cursor.register(name, table)
        for present in (True, False):
            cursor.execute(f"create schema joined_{present};" + reported.enter(f"joined_{present}"))
            cursor.execute(joins.statements(present, present, present))
            shapes = [
                cursor.execute(f"describe {table}").fetchall()
                for table in (
                    "gateway_transactions",
                    "gateway_sessions",
                    "claims",
                    "told_twice",
                    "transactions",
                    "activity",
                    "touches",
                )
            ]
            made[present] = shapes, question.rows("select * from activity order by index")
            cursor.execute(f"drop schema joined_{present} cascade")
    assert made[True] == made[False]


def _reference(question: Question) -> tuple[Any, ...]:
    snap = question.snapshot
    return snap.identities, snap.context_roles, snap.conflicted


def test_a_limit_holds_where_what_is_joined_is_empty(told: None) -> None:
    with Question() as question:
        assert question.snapshot.conflicted.num_rows == 0
        rows = question.rows("select index from activity where index >= 0 and index < 100 order by index desc limit 3")
    assert [row["index"] for row in rows] == [99, 98, 97]
