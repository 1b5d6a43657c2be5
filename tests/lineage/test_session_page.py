"""Sessions: the list with what narrows it, and one session as the reader of evidence goes through it."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import pytest

from lineage import checkpoints, queries, segments
from lineage.access import Viewer
from lineage.queries import people, walking
from lineage.queries.course import performance
from tests import extracts, story
from tests.lineage.test_pages import Markup, page, plain, signed_in

pytestmark = pytest.mark.slow

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
ALL = Viewer("alice@audit.example", "auditor")
LONG = "/sessions/orders-prod~s-orders-api/"
AGENT = {
    "on_behalf_of": {"id": "dana@shop.example"},
    "agent": {"id": "bot", "name": "bot", "run_id": "r1"},
    "ticket": "OPS-7",
}


def at(seconds: int) -> dt.datetime:
    return NOW - dt.timedelta(seconds=5_000 - seconds)


def a_long_session() -> None:
    """1,050 statements of a service, the first one refused and the last one slow; before and after it one of another's."""
    desk = story.source()
    sql = "SELECT id FROM public.orders WHERE id = 1"
    many = [
        story.query(
            f"n{n}", at(n), story.API, sql, "read", duration_us=1_000 + n, rows={"returned": 2}, bytes_returned=10
        )
        for n in range(1, 1_049)
    ]
    first = story.query("n0", at(0), story.API, "DELETE FROM public.orders", "delete", verdict="blocked")
    last = story.query(
        "last", at(1_100), story.API, "SELECT count(*) FROM public.orders", "read", duration_us=9_000_000
    )
    story.send(desk, first, *many, last)
    story.send(
        desk,
        story.query("b", at(-60), story.BOT, "SELECT 1 FROM public.notes", "read", **AGENT),
        story.query("o", at(2_000), story.OMAR, "SELECT 1 FROM public.notes", "read"),
        story.query("p", at(2_100), story.API, sql, "read", db_session_id="s-orders-api-2"),
        {"kind": "decision", "source_event_id": "d", "ticket": "OPS-7", "decision": {"type": "approval", "decided_by": "lea@shop.example"},
         "approval": {"request_id": "OPS-7", "state": "approved", "approvers": ["lea@shop.example"]}},
    )  # fmt: skip
    checkpoints.checkpoint()


def test_a_long_session_is_paged_and_each_statement_can_be_reached_and_cited(store: str) -> None:
    a_long_session()
    auditor = signed_in(story.person())
    html = page(auditor, LONG)
    text = plain(html)
    assert html.count('<details class="statement') == 100
    assert "1–100 of 1,050" in text
    assert len(re.findall('class="tick ', html)) <= 500
    assert Markup(html).risky == []
    assert "the longest 9.0 s" in text
    assert "95 % within 2.0 ms" in text
    assert "1,049 of 1,050 statements" in text
    last = page(auditor, f"{LONG}?from=1001")
    assert "1,001–1,050 of 1,050" in plain(last)
    assert "Later</a>" not in last
    narrowed = page(auditor, f"{LONG}?q=verdict:blocked")
    assert "1–1 of 1 that match, of 1,050 in all" in plain(narrowed)
    citation = re.search(r"Cite this session.*?<code>(.*?)</code>", html, re.S)
    assert citation is not None
    for said in (
        "Session orders-prod~s-orders-api",
        "root ",
        "http://testserver/sessions/",
        "1050 of them",
        "alice@audit.example",
    ):
        assert said in citation[1]
    assert "Statements" in page(auditor, f"{LONG}?from=no&since=7d")


def test_a_session_leads_to_those_around_it_and_says_who_for_whom_and_by_whose_leave(store: str) -> None:
    a_long_session()
    auditor = signed_in(story.person())
    found = queries.session(ALL, "orders-prod~s-orders-api", limit=1)["around"]
    assert found == {
        "previous_own": None, "next_own": "orders-prod~s-orders-api-2",
        "previous_same": "orders-prod~s-report-bot", "next_same": "orders-prod~s-omar@shop.example",
    }  # fmt: skip
    text = plain(page(auditor, "/sessions/orders-prod~s-report-bot/"))
    for said in (
        "dana@shop.example asserted by the source",
        "run r1",
        "OPS-7",
        "Approved by lea@shop.example for OPS-7",
    ):
        assert said in text, said


def test_the_list_counts_sessions_not_records_and_narrows_by_what_it_counts(store: str) -> None:
    a_long_session()
    auditor = signed_in(story.person())
    facets, is_whole = queries.session_facets(ALL)
    assert is_whole
    assert {row["name"]: row["count"] for row in facets["type"]} == {"service": 2, "agent": 1, "human": 1}
    assert {row["name"]: row["count"] for row in facets["verdict"]} == {"allowed": 4, "blocked": 1}
    assert facets["state"] == [{"name": "open", "count": 4}]
    assert "1 session so far" in plain(page(auditor, "/sessions/?q=verdict:blocked"))
    assert "0 sessions" in plain(page(auditor, "/sessions/?state=ended"))
    first = page(auditor, "/sessions/?limit=3&since=7d")
    older = next(a for a in Markup(first).links if "cursor=" in a)
    assert "since=7d" in older
    assert "Newer</a>" in page(auditor, f"/sessions/{older}")


def test_performance_takes_the_nearest_rank_and_says_of_how_many() -> None:
    statements = [
        {"index": n, "place": n, "command": "SELECT", "duration_us": n or None, "rows_returned": 1, "rows_affected": None,
         "bytes_returned": None}
        for n in range(101)
    ]  # fmt: skip
    found = performance(statements)
    assert (found["timed"], found["p50_us"], found["p95_us"], found["most_us"]) == (100, 50, 95, 100)
    assert found["rows_returned"] == {"sum": 101, "known": 101}
    assert found["bytes_returned"] == {"sum": None, "known": 0}
    assert performance([])["p50_us"] is None


def test_a_strangers_session_is_not_found_and_adds_nothing_to_the_counts(store: str) -> None:
    a_long_session()
    stranger = signed_in(story.person("eve@other.example", datasources=["other-prod"]))
    page(stranger, LONG, 404)
    html = page(stranger, "/sessions/")
    assert "orders" not in plain(html).replace("Sessions", "")


def test_pages_of_sessions_are_the_same_from_extracts_and_count_the_values_of_those_active_last(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_long_session()
    asked: list[dict[str, Any]] = [
        {},
        {"q": "verdict:blocked"},
        {"q": "type:human"},
        {"window": queries.Window(until=NOW)},
    ]
    before = [all_pages(**one) for one in asked]
    assert [len(rows) for rows in before] == [4, 1, 1, 4]
    checkpoints.checkpoint()
    assert segments.seal()
    assert extracts.everything()
    assert [all_pages(**one) for one in asked] == before
    with monkeypatch.context() as short:
        short.setattr(walking, "FIRST", 3)
        assert [all_pages(**one) for one in asked] == before
    assert both(limit=3) == both(limit=3, apart=True)
    monkeypatch.setattr(people, "FACETED", 1)
    assert both(limit=1) == both(limit=1, apart=True)
    facets, is_whole = queries.session_facets(ALL)
    assert not is_whole
    assert [row["name"] for row in facets["actor"]] == [before[0][0]["who_name"]]
    text = plain(page(signed_in(story.person()), "/sessions/"))
    assert "Counted among the newest 200 sessions" in text
    assert "Open 4" not in text
    alone, is_whole = queries.session_facets(ALL, "verdict:blocked")
    assert is_whole
    assert alone["verdict"] == [{"name": "allowed", "count": 1}, {"name": "blocked", "count": 1}]


def both(limit: int, apart: bool = False) -> list[Any]:
    """A page of sessions and what they can be narrowed by, asked at once or apart."""
    told = queries.sessions(ALL, limit=limit), *queries.session_facets(ALL)
    answer, *facets = told if apart else queries.sessions_faceted(ALL, limit=limit)
    return [answer.items, answer.next, answer.previous, answer.total, *facets]


def all_pages(**asked: Any) -> list[dict[str, Any]]:
    """The sessions of all pages, one on each; backwards they are the same."""
    pages = [answer := queries.sessions(ALL, limit=1, **asked)]
    while answer.next:
        pages.append(answer := queries.sessions(ALL, limit=1, cursor=answer.next, **asked))
    assert {page.total for page in pages} == {queries.Total(len(pages), True)}
    backs = []
    while answer.previous:
        backs.append(answer := queries.sessions(ALL, limit=1, cursor=answer.previous, **asked))
    assert [back.items for back in reversed(backs)] == [page.items for page in pages[:-1]]
    return [row for page in pages for row in page.items]
