"""What the comparison with other systems says of lookups: who was faster, and whether all counted the same."""

from __future__ import annotations

from benchmarks import _questions, query
from benchmarks._history import Plan
from benchmarks.query import OURS, Measured


def measured(seconds: float, *counts: int) -> Measured:
    return Measured([seconds], [seconds] * len(counts), [seconds] * len(counts), list(counts))


def test_answers_that_count_otherwise_are_said_with_the_first_of_them() -> None:
    found = {
        OURS: measured(1, 3, 20_000, 7),
        "ClickHouse": measured(1, 3, 20_001, 8),
        "PostgreSQL": measured(1, 3, 20_000),
    }
    assert query.agreement(found, 2**62) == "ClickHouse counts otherwise in 1 of 2 (first 20001, ours 20000)"
    assert query.agreement(found, 10_000) == "the same counts in all 2, 10,003 together"


def test_a_lookup_that_is_slower_than_a_peer_is_printed_as_lost() -> None:
    assert query._beside(measured(2, 1), measured(1, 1)) == "**lost**, 2.0 ×"
    assert query._beside(measured(1, 1), measured(2, 1)) == "won, 2.0 ×"
    assert query._beside(measured(1), measured(2, 1)) == "–"


def test_every_lookup_is_asked_of_all_systems_with_the_same_values() -> None:
    assert set(_questions.ours()) == {question.name for question in _questions.QUESTIONS}
    drawn = _questions.draw(Plan(2_000, chunk=1_000), 12)
    assert len({each.session for each in drawn}) > 3
    for question in _questions.QUESTIONS:
        values = _questions.literals(drawn[0], question, lambda text: f"'{text}'", "{column} = any(columns)")
        for statement in question.statements:
            assert "{" not in statement.format(**values)
