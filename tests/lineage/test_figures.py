"""Searches for persons and tables, looked up: lists, values and counts are those of the whole log, however it lies in files."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from lineage import checkpoints, ledger, queries, segments
from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts import meeting
from lineage.extracts.postings import Damaged
from lineage.findings import judging
from lineage.queries import Window, figures, kinds, latest, sought, stretches
from tests import extracts
from tests.lineage.test_lookups import NOON, logins_of
from tests.lineage.test_queries import ALL, Feed
from tests.lineage.test_same_answers import Unproxied, plain

pytestmark = pytest.mark.slow

SEARCHES = (
    "actor:report-bot", "actor:b*", "actor:bob relation:customers", "relation:public.customers environment:prod",
    "(actor:omar@x or actor:lea) op:update", "relation:customers key:4711", "op:update relation:cust*", "run:run-7 or session:s-1",
)  # fmt: skip
SCOPED = dataclasses.replace(ALL, from_at=NOON)
ASKED: tuple[tuple[Viewer, Window, tuple[str, ...]], ...] = (
    (ALL, Window(), SEARCHES), (SCOPED, Window(environment="prod"), SEARCHES[1:2]),
)  # fmt: skip


def answers() -> dict[str, Any]:
    asks: dict[str, Callable[[Viewer, str, Window], Any]] = {
        "sessions": queries.sessions, "identities": queries.identities, "relations": queries.relations,
        "kinds": queries.kinds_counted, "values": queries.search_counts,
    }  # fmt: skip
    return {
        f"{name} of {q} {number}": plain(ask(viewer, q, window))
        for number, (viewer, window, searches) in enumerate(ASKED)
        for q in searches
        for name, ask in asks.items()
    }


def test_searches_for_persons_and_tables_are_answered_as_over_the_whole_log(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Unproxied()
    logins_of("orders")
    with Question() as question:
        assert question.look() is None
    expected = answers()
    assert sum(one["total"].value > 0 for name, one in expected.items() if name.startswith("sessions of")) > 4
    checkpoints.checkpoint()
    for end in (told.cuts[1], None):
        monkeypatch.setattr(segments, "SEGMENT_MOST", end - segments.sealed_to() if end else 1000)
        assert segments.seal()
        assert extracts.everything() == 1
        # Of the first part some is newer than what extracts hold.
        assert end is None or answers() == expected
    # As where the records are too many to be read one by one, and to be named.
    assert extracts.merged()
    monkeypatch.setattr(sought, "CARDS_MOST", 0)
    assert answers() == expected


def test_counts_of_each_kind_are_told_out_of_codes_or_groups(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Unproxied().feed
    feed.statement("update customers set name = 'x' where id in (3, 4)", user="twice")
    searches = ("op:update", "not op:read type:agent", "")
    expected = [queries.kinds_counted(ALL, q, Window()) for q in searches]
    twice = queries.kinds_counted(ALL, "actor:twice", Window())
    assert (twice["event"].value, twice["touch"].value) == (1, 2)
    checkpoints.checkpoint()
    assert segments.seal()
    extracts.everything()
    with Question() as question:
        told = figures.kinds(question, ALL, "actor:report-bot", Window())
        assert told is not None
        assert told["event"] > 0
        assert figures.kinds(question, ALL, "actor:twice", Window()) == {by: one.value for by, one in twice.items()}
        # Everybody whom records do not name is called so.
        assert figures.kinds(question, ALL, "actor:unknown", Window()) is None
        assert queries.kinds_counted(ALL, "actor:unknown", Window())["event"].value
        assert figures.kinds(question, ALL, "op:read", Window()) is None
        assert [kinds.counted(question, ALL, q, Window()) for q in searches] == expected


def test_sessions_that_only_an_earlier_record_finds_stand_where_they_were_active_last(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = Feed()
    for user in ("early", "gone"):
        feed.statement("update customers set name = 'x' where id = 3", user=user)
    cut = feed.statement("select 1 from customers", user="reader", op="read") + 1
    for user in ("one", "two"):
        feed.statement("update customers set name = 'y' where id = 4", user=user)
    feed.statement("select 2 from customers", user="early", op="read")
    for number in range(5):
        # Nobody's act, and as many as there may be behind the last session.
        ledger.record(judging.event("prod", "orders", NOON, number, detail="found", transition="begins"))

    def asked() -> list[Any]:
        pages = [answer := queries.sessions(ALL, "op:update", limit=2)]
        pages.append(queries.sessions(ALL, "op:update", limit=2, cursor=answer.next))
        return [plain(page) | {"total": None} for page in pages]

    expected = asked()
    assert [row["session"] for page in expected for row in page["items"]] == [
        f"orders~s-{user}" for user in ("early", "two", "one", "gone")
    ]
    checkpoints.checkpoint()
    for most in (cut, 1000):
        monkeypatch.setattr(segments, "SEGMENT_MOST", most)
        assert segments.seal()
        assert extracts.everything() == 1
    # As where more sessions match than are counted: the newest are told of the newest extract alone.
    monkeypatch.setattr(latest, "COUNT_MOST", 1)
    monkeypatch.setattr(latest, "SPAN_MOST", 6)
    mended: list[stretches.Latest] = []
    mend = latest._Newest.mended
    monkeypatch.setattr(latest._Newest, "mended", lambda *of: mended.append(mend(*of)) or mended[-1])
    assert asked() == expected
    assert [len(one.sessions) for one in mended] == [3, 2]
    monkeypatch.setattr(latest, "SPAN_MOST", 0)
    assert asked() == expected
    assert len(mended) == 2


def test_a_quarter_is_asked_of_the_log_where_an_extract_cannot_tell(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Unproxied()
    months = [dt.datetime(2026, month, 1, tzinfo=dt.UTC) for month in (10, 11, 12)]

    def asked() -> list[int]:
        return queries.tallied(ALL, {"one": "op:update"}, list(itertools.pairwise(months)), None)[0]["one"]

    expected = asked()
    assert expected[1] > 0
    checkpoints.checkpoint()
    assert segments.seal()
    extracts.everything()
    made: list[meeting.Cells] = []
    cells = meeting.cells
    monkeypatch.setattr(meeting, "cells", lambda *of: made.append(cells(*of)) or made[-1])
    assert asked() == expected
    assert len(made) == 1

    def damaged(*_: object) -> None:
        raise Damaged("It is not what it was.")

    monkeypatch.setattr(meeting, "met", damaged)
    assert asked() == expected
