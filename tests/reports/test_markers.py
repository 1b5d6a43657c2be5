"""Markers of systematic deviation: each at its threshold and not below it."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest

from reports import markers

START = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)
END = START + dt.timedelta(days=100)


def item(day: float, *deviations: str, who: str = "dana", tested: bool = True) -> dict[str, Any]:
    at = START + dt.timedelta(days=day)
    return {"item": f"{day}", "occurred_at": at, "tested": tested, "deviations": list(deviations), "who_id": who,
            "who_name": who.title(), "datasource": "orders"}  # fmt: skip


def good(count: int, who: str = "eve") -> list[dict[str, Any]]:
    return [item(n * 100 / count, who=who) for n in range(count)]


def ids(rows: list[dict[str, Any]]) -> list[str]:
    schema = pa.schema({
        "item": pa.string(), "occurred_at": pa.timestamp("us", tz="UTC"), "tested": pa.bool_(),
        "deviations": pa.list_(pa.string()), "who_id": pa.string(), "who_name": pa.string(), "datasource": pa.string(),
    })  # fmt: skip
    return [one.id for one in markers.found([pa.Table.from_pylist(rows, schema=schema)], START, END)]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (good(300), []),
        ([], []),
        ([item(1, "late"), *good(8)], ["few"]),
        ([item(1, "late"), *good(9)], []),
        ([item(1, "late"), item(2, "late", who="eve"), *good(20)], []),
        ([item(n, "late", who=w) for n, w in enumerate(("a", "b", "eve"))] + good(20), ["recurs"]),
        ([item(n, word, who=w) for n, (word, w) in enumerate((("late", "a"), ("none", "b"), ("self", "eve")))] + good(20), []),
        ([item(1 + n / 100, f"w{n}", who=f"p{n}") for n in range(13)] + good(238), ["rate"]),
        ([item(1 + n / 100, f"w{n}", who=f"p{n}") for n in range(13)] + good(237), []),
        ([item(1 + n / 100, f"w{n}", who=f"p{n}") for n in range(12)] + good(240), []),
        ([item(1, "a", who="a"), item(30, "b", who="b"), item(60, "c", who="c"), *good(20)], ["persists"]),
        ([item(1, "a", who="a"), item(24, "b", who="b"), item(60, "c", who="c"), *good(20)], []),
        ([item(n, f"w{n}") for n in range(3)] + good(20), ["concentrated"]),
        ([item(n, f"w{n}") for n in range(2)] + good(20), []),
        ([item(n, f"w{n}", who="eve") for n in range(3)] + good(20), []),
        ([item(n, f"w{n}", tested=False) for n in range(9)] + good(20), []),
    ],
)  # fmt: skip
def test_a_marker_stands_from_its_threshold_on(rows: list[dict[str, Any]], expected: list[str]) -> None:
    assert ids(rows) == expected


def test_a_sentence_names_the_numbers_and_who() -> None:
    rows = [item(n, "no ticket", who="=cmd|<b>") for n in range(4)] + good(20)
    found = markers.found([pa.Table.from_pylist([row]) for row in rows], START, END)
    assert [one.words for one in found] == [
        "“no ticket” recurs: in 4 of 4 deviating items.",
        "4 of 4 deviating items are of person =Cmd|<B>; 4 of the 24 items tested are.",
    ]
    assert markers.proposal(found) == "markers of a systematic deviation"
    assert markers.proposal([]) == "no marker of a systematic deviation"
