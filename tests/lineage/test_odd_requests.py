"""Clocks, times, bytes and methods that nobody means: each is shown or refused in words, and none is an error of ours."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.test import Client

from lineage import zones
from tests import story
from tests.lineage.test_pages import NOW, signed_in

pytestmark = pytest.mark.slow
TABLE = "/tables/orders-prod/public.customers/"
LAST, EARLY = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC), dt.datetime(1000, 1, 1, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def auditor(shared_store: str) -> Client:
    """A reader of records of which two lie where no clock should: in the first thousand years, and on the last day."""
    story.tell(NOW)
    story.send(
        story.source("odd-clock"),
        story.query("late", LAST, story.DANA, "select email from customers", "read"),
        story.query("early", EARLY, story.DANA, "select email from customers", "read"),
    )
    client = signed_in(story.person())
    client.raise_request_exception = False
    return client


def test_a_record_with_a_wrong_clock_breaks_no_page(auditor: Client) -> None:
    auditor.cookies[zones.COOKIE] = "Asia/Tokyo"
    for path in ("/", "/overview/live/", "/identities/dana@shop.example/", TABLE, "/search?q=op:read", "/databases/"):
        assert auditor.get(path).status_code == 200, path
    weeks = auditor.get("/identities/dana@shop.example/").content.count(b'class="heat-')
    assert 0 < weeks < 1000
    del auditor.cookies[zones.COOKIE]


def test_a_time_range_that_ends_before_it_begins_is_refused_everywhere(auditor: Client) -> None:
    for path in ("/", "/sessions/", "/api/v1/events", "/api/v1/findings", "/api/v1/touched"):
        for until in ("2026-11-01", "2026-12-01"):
            answer = auditor.get(
                path, {"since": "2026-12-01", "until": until} | ({"identity": "x"} if "touched" in path else {})
            )
            assert (answer.status_code, b"before it begins" in answer.content) == (400, True), path


def test_times_at_the_ends_of_the_calendar_are_answered_or_refused(auditor: Client) -> None:
    for path in ("/", "/findings/", "/identities/dana@shop.example/", "/api/v1/findings", "/api/v1/events"):
        for since in ("0001-01-01", "9999-12-31"):
            assert auditor.get(path, {"since": since}).status_code in (200, 404), (path, since)
        for since in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"):
            assert auditor.get(path, {"since": since}).status_code == 400, (path, since)


def test_an_address_that_is_no_utf_8_is_refused_instead_of_searched(auditor: Client) -> None:
    answer = auditor.get("/api/v1/events?q=%FF%FE")
    assert (answer.status_code, answer.json()["code"]) == (400, "query-invalid")
    assert auditor.get("/search?q=%C3").status_code == 400


def test_a_method_that_an_address_does_not_take_is_told_those_it_takes(auditor: Client) -> None:
    program = Client(enforce_csrf_checks=True)
    asked: list[tuple[str, str, Any]] = [
        ("PUT", "/api/v1/events", "GET"),
        ("DELETE", "/api/v1/events", "GET"),
        ("GET", "/api/v1/ingest/events", "POST"),
        ("OPTIONS", "/api/v1/heartbeat", "POST"),
    ]
    for method, path, allowed in asked:
        answer = program.generic(method, path)
        told = answer.json()
        assert (answer.status_code, answer["Allow"], told["code"]) == (405, allowed, "method-unknown"), (method, path)
        assert len(told["id"]) == 12
    page = auditor.get("/findings/1/triage/")
    assert (page.status_code, page["Allow"], b"id <code>" in page.content) == (405, "POST", True)


def test_a_list_refuses_a_parameter_that_it_does_not_know(auditor: Client) -> None:
    for name in ("events", "sessions", "approvals", "findings", "datasources", "reports"):
        answer = auditor.get(f"/api/v1/{name}", {"environement": "production"})
        told = answer.json()
        assert (answer.status_code, told["code"]) == (400, "query-invalid"), name
        assert "the nearest is environment" in told["message"], name


def test_databases_reports_and_approvals_are_searched_and_paged_as_every_list(auditor: Client) -> None:
    def ask(name: str, **asked: Any) -> dict[str, Any]:
        answer = auditor.get(f"/api/v1/{name}", asked)
        assert answer.status_code == 200, (name, asked, answer.content)
        return dict(answer.json())

    crm = story.source("crm", datasource="crm", environment="staging")
    story.send(crm, *(story.query(f"c{n}", NOW, story.DANA, "select 1", "read", ticket=f"CRM-{n}") for n in range(2)))
    every = [row["datasource"] for row in ask("datasources")["items"]]
    first = ask("datasources", limit=2)
    second = ask("datasources", limit=2, cursor=first["next"])
    assert every == ["crm", "orders-prod", "shop-simulated"]
    assert [row["datasource"] for page in (first, second) for row in page["items"]] == every
    assert (first["total"]["value"], second["next"]) == (3, None)
    for q in (
        "datasource:crm",
        "environment:staging",
        "source:cr*",
        "-environment:production -environment:simulated",
        "CRM",
    ):
        assert [row["datasource"] for row in ask("datasources", q=q)["items"]] == ["crm"], q
    assert [row["datasource"] for row in ask("datasources", environment="staging")["items"]] == ["crm"]
    (ticket,) = [row["ticket"] for row in ask("approvals", limit=1)["items"]]
    whole = ask("approvals")
    assert (ticket, whole["next"]) == (whole["items"][0]["ticket"], None)
    pages = [ask("approvals", limit=1)]
    while pages[-1]["next"]:
        pages.append(ask("approvals", limit=1, cursor=pages[-1]["next"]))
    assert [row["ticket"] for page in pages for row in page["items"]] == [row["ticket"] for row in whole["items"]]
    assert ask("approvals", limit=1, cursor=pages[1]["previous"])["items"] == pages[0]["items"]
    assert {page["total"]["value"] for page in pages} == {len(whole["items"])}
    assert ask("reports", q="privileged actor:dana", since="2026-01-01")["items"] == []
    for name in ("datasources", "reports", "approvals"):
        for asked in ({"q": "nofield:x"}, {"cursor": "x"}, {"limit": 0}):
            assert auditor.get(f"/api/v1/{name}", asked).status_code == 400, (name, asked)
    assert b"searched by words and by" in auditor.get("/api/v1/datasources", {"q": "ticket:x"}).content
