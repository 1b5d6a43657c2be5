"""What is told of a text by an example of its shape is what its own tree says; equal values, and values of every kind, too."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage import statements
from lineage.statements import examples, shapes
from tests.enforcement.gateway import test_alike as alike

looked = statements._looked_at
VALUES = st.one_of(
    alike.values, st.sampled_from(["40.00", "40.50", "40.5", "x" * 1100, "2026-01-01", "a" * 32, "A b", "-7", "1e3"])
)


def told(sql: str, parameters: tuple[str | None, ...] = ()) -> statements.Statement | None:
    return examples.told(sql, parameters, looked)


def thrice(sql: str, parameters: tuple[str | None, ...] = ()) -> statements.Statement | None:
    """Comes so often that its shape has an example, where it can have one."""
    return [told(sql, parameters) for _ in range(3)][-1]


@settings(max_examples=250)
@given(alike.statements, st.lists(st.integers(1, 5), min_size=40, max_size=40), st.data())
def test_what_an_example_tells_of_a_text_is_what_its_tree_says(sql: str, by: list[int], data: st.DataObject) -> None:
    found = thrice(sql)
    assert found is None or found == looked(sql, ())
    for numbers in (by, data.draw(st.permutations(range(1, 41)))):
        near = alike.other(sql, numbers)
        found = thrice(near) if near is not None else None
        assert found is None or found == looked(near or "", ())


@settings(max_examples=150)
@given(alike.statements, st.tuples(VALUES, VALUES), st.tuples(VALUES, VALUES))
def test_what_an_example_tells_of_parameters_is_what_the_tree_says_with_them(sql: str, first: Any, second: Any) -> None:
    for given_values in (first, second):
        found = thrice(sql, given_values)
        assert found is None or found == looked(sql, given_values)


@pytest.mark.parametrize(
    ("sql", "again"),
    [
        (
            "insert into orders (id, n, note, amount) values (7, 7, 'a', 1.50), (8, 7, 'a', 2.50)",
            "insert into orders (id, n, note, amount) values (9, 9, 'b', 7.50), (9, 9, 'b', 7.50)",
        ),
        ("update orders set n = 5, m = 5 where id = 5", "update orders set n = 6, m = 1 where id = 7"),
        ("select n from orders where id in ('a', 'b') or id = 'c'", "select n from orders where id in ('x', 'x') or id = 'x'"),
    ],
)  # fmt: skip
def test_a_shape_tells_of_texts_that_say_the_same_value_twice(sql: str, again: str) -> None:
    thrice(sql)
    for text in (sql, again):
        found = thrice(text)
        assert found is not None
        assert found == looked(text, ())


@pytest.mark.parametrize(
    "condition", ["n + {} = n + {}", "n = {} or not n = {}", "(n + {}) is null or (n + {}) is not null"]
)
def test_a_change_whose_condition_holds_for_all_rows_with_equal_values_is_not_told_by_others(condition: str) -> None:
    same, other = ("delete from orders where " + condition.format(5, n) for n in (5, 6))
    for first, second in ((same, other), (other, same)):
        for sql in (first, second):
            found = thrice(sql)
            assert found is None or found == looked(sql, ())


def test_what_was_learnt_of_texts_is_forgotten_with_them() -> None:
    sql = "select n from orders where id = 4711"
    assert thrice(sql) is not None
    statements.forget()
    assert told(sql) is None


def test_a_text_of_hundreds_of_combinations_is_looked_at_itself() -> None:
    lists = " and ".join(f"c{n} in ({n}1, {n}2, {n}3, {n}4, {n}5)" for n in range(1, 6))
    assert shapes.shape(f"select 1 from t where {lists}", ()) is not None
    assert thrice(f"select 1 from t where {lists}") is None
