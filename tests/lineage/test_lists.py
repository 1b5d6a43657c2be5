"""Lists that are found by look-ups: the same rows, pages and totals as over the whole log."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from config import workers
from lineage import checkpoints, engine, queries, segments
from lineage.engine import Question
from lineage.extracts import codes, filed, meeting, sums
from lineage.queries import Window, keyed, walking
from lineage.search import questions
from tests import extracts
from tests.lineage.test_queries import ALL, STRANGER, Feed
from tests.lineage.test_same_answers import plain

pytestmark = pytest.mark.slow

NOON = dt.datetime(2026, 11, 20, 10, tzinfo=dt.UTC)
NARROW = Window(NOON + dt.timedelta(seconds=3), NOON + dt.timedelta(seconds=12), "prod")
ROWS = (
    "customers key:3 datasource:orders",
    "orders key:1",
    "customers key:4711",
    "customers key:9 environment:prod",
    "customers key:5,6",
    "customers key:4*",
)
"""Tables with keys: of rows that were read once or more, written, written together with another's, changed."""
SEARCHES = (
    "relation:customers", "relation:Public.CUSTOMERS datasource:ORDERS relation:customers", "environment:touchstone relation:customers",
    "relation:archive.customers", "relation:public.ünïque", *(f"relation:{one}" for one in ROWS),
)  # fmt: skip


def tell(feed: Feed) -> None:
    """Tables told by a source, by a text or by both; touched once, thrice and five times in one record."""
    customers = [{"schema": "public", "relation": "customers"}]
    feed.statement("select * from customers where id in (1, 2, 3)", op="read", resources=customers)
    feed.statement("select * from orders join archive.customers using (id)", op="read")
    feed.statement("select * from customers where id in (1, 2, 3, 4, 5)", op="read", resources=customers)
    feed.statement("delete from customers where id = 9; delete from orders where id = 1", op="delete")
    feed.change("70")
    feed.change("71", key="4712", op="insert")
    feed.statement("vacuum", op="other", resources=customers)
    feed.statement("update customers set name = 'x' where id = 3", op="update", resources=customers)
    feed.statement("update customers set name = 'x' where id = 3 and region = '7'", op="update", resources=customers)
    feed.statement("update customers set name = 'y' where region = '3'", op="update", resources=customers)
    feed.statement("select 1 from customers", op="read", flags=["canary"])
    feed.statement('select 1 from "public"."ünïque"', op="read")
    feed.statement("select * from customers", op="read", verdict="blocked", resources=customers)


def pages(ask: Any) -> Iterator[Any]:
    cursor = None
    while cursor or cursor is None:
        answer = ask(ALL, SEARCHES[0], limit=6, cursor=cursor)
        yield plain(answer)
        cursor = answer.next or ""


def asked() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for ask in (queries.events, queries.touches):
        for q in SEARCHES[1:]:
            found[f"{ask.__name__} {q}"] = plain(ask(ALL, q, limit=100))
        found[f"{ask.__name__} narrow"] = plain(ask(ALL, SEARCHES[0], NARROW))
        found[f"{ask.__name__} paged"] = list(pages(ask))
        found[f"{ask.__name__} back"] = plain(
            ask(ALL, SEARCHES[0], limit=6, cursor=found[f"{ask.__name__} paged"][1]["previous"])
        )
    for by in ("event", "relation"):
        found[f"counts by {by}"] = queries.search_counts(ALL, SEARCHES[0], by=by)
    for q in (*SEARCHES[:2], *SEARCHES[-len(ROWS) :]):
        found[f"kinds {q}"] = queries.kinds_counted(ALL, q, Window())
        found[f"values {q}"] = queries.search_counts(ALL, q, NARROW, "touch")
    return found | {"stranger": plain(queries.touches(STRANGER, SEARCHES[0]))}


def test_a_table_is_found_as_over_the_whole_log_however_its_records_lie(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = Feed()
    tell(feed)
    cut = feed.change("72") + 1
    tell(feed)
    expected = asked()
    page = expected["touches narrow"]["items"]
    assert len(page) > len({row["index"] for row in page}) == len(expected["events narrow"]["items"])
    assert expected["stranger"]["items"] == []
    checkpoints.checkpoint()
    for most in (cut, 1000):
        monkeypatch.setattr(segments, "SEGMENT_MOST", most)
        assert segments.seal()
        assert extracts.everything() == 1
        assert asked() == expected
    assert extracts.merged()
    with Question() as question:
        told = [keyed.kinds(question, ALL, f"relation:{one}", Window()) for one in ROWS]
    assert [one is not None for one in told] == [True] * 4 + [False] * 2
    counted = [expected[f"kinds relation:{one}"] for one in ROWS[:4]]
    assert [one["touch"] for one in told if one] == [one["touch"].value for one in counted] > [0, 0, 0, 0]
    monkeypatch.delattr(walking, "rows")
    assert [list(pages(ask)) for ask in (queries.events, queries.touches)] == [
        expected["events paged"], expected["touches paged"]
    ]  # fmt: skip


def test_a_process_that_opened_before_it_was_asked_opens_nothing_when_it_is(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(Feed())
    checkpoints.checkpoint()
    assert segments.seal()
    assert extracts.everything() == 1

    def told() -> list[Any]:
        row = queries.row(ALL, "orders", "public.customers", "4711")
        column = queries.column(ALL, "orders", "public.customers", "id")
        quarter = questions.quarter_of(dt.datetime.now(dt.UTC)).moved(-1)
        asked = {one.id: one.q for one in questions.QUESTIONS}
        tallied = queries.tallied(ALL, asked, [(quarter.start, quarter.end)], None)[0]
        return [row, column, queries.touches(ALL, SEARCHES[0]), queries.overview(ALL), tallied]

    expected = told()
    engine._here().forget(None)
    workers.post_worker_init(None)
    (warming,) = [one for one in threading.enumerate() if one.name == "warming"]
    warming.join()
    monkeypatch.delattr(filed.Filed, "__init__")
    monkeypatch.delattr(sums.Sums, "__init__")
    monkeypatch.delattr(codes.Codes, "texts")
    monkeypatch.delattr(meeting, "_bits")
    assert told() == expected
