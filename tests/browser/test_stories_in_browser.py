"""The four readers at work: each answers their question from the first page on, by clicking and typing as people do."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings
from playwright.sync_api import Browser, Page, expect

from lineage import health
from lineage.models import Source
from tests import serving, showcase, story
from tests.browser.conftest import launched

pytestmark = pytest.mark.slow
NOW = dt.datetime.now(dt.UTC)
PEOPLE = {
    "auditor": showcase.READER, "security": "severin@security.example", "compliance": "carla@compliance.example",
    "operator": "otto@ops.example",
}  # fmt: skip
RUN = "run-20261122-7"


def ago(minutes: float) -> dt.datetime:
    return NOW - dt.timedelta(minutes=minutes)


def happen() -> None:
    """The story, an approved change of customer 4711, an agent's run, and a feed of which items are missing."""
    story.tell(NOW)
    desk = Source.objects.get(name="desk")
    ticket = {"ticket": "OPS-42", "purpose": "Customer moved", "transaction": {"id": "880", "outcome": "committed"}}
    agent = {
        "on_behalf_of": {"id": "dana@shop.example", "name": "Dana Reyes"},
        "agent": {"id": "report-bot", "name": "report-bot", "run_id": RUN},
    }
    story.send(
        desk,
        story.query("k1", ago(30), story.OMAR, "UPDATE public.customers SET city = 'Lyon' WHERE id = 4711", "update",
                    rows={"affected": 1}, **ticket),
        story.change("k2", ago(30), story.OMAR, "customers", "4711", "update", before={"id": "4711", "city": "Paris"},
                     after={"id": "4711", "city": "Lyon"}, **ticket),
        story.query("r1", ago(9), story.BOT, "SELECT total FROM public.orders WHERE id = 3", "read", rows={"returned": 1}, **agent),
        story.query("r2", ago(8), story.BOT, "SELECT amount FROM public.payments WHERE id = 9001", "read", rows={"returned": 1}, **agent),
    )  # fmt: skip
    feed = story.source("orders-log", "production", "orders-prod")
    for number in (1, 2, 5):
        at = ago(20 - number)
        story.send(
            feed, story.query(f"g{number}", at, story.API, "SELECT 1 FROM public.orders", "read") | {"sequence": number}
        )


@pytest.fixture(scope="module")
def shop(shared_store: str) -> Iterator[str]:
    for role, email in PEOPLE.items():
        story.person(email, role)
    happen()
    with override_settings(COVERAGE_GRACE_SECONDS=0):
        health.look(NOW - dt.timedelta(days=1), dt.datetime.now(dt.UTC))
    with serving.serving() as address:
        yield address


@pytest.fixture(scope="module")
def cookies(shop: str) -> dict[str, Any]:
    return {role: showcase.cookie(email, shop) for role, email in PEOPLE.items()}


@pytest.fixture(scope="module")
def chromium(cookies: dict[str, Any]) -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture
def page(request: pytest.FixtureRequest, shop: str, chromium: Browser, cookies: dict[str, Any]) -> Iterator[Page]:
    """The overview, as the reader whom the test names sees it."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, base_url=shop, accept_downloads=True)
    context.add_cookies([cookies[request.param]])
    opened = context.new_page()
    opened.goto("/")
    yield opened
    context.close()


@pytest.mark.parametrize("page", ["auditor"], indirect=True)
def test_the_auditor_answers_who_changed_customer_4711_and_who_approved_it_in_three_clicks(page: Page) -> None:
    page.get_by_role("link", name="Tables", exact=True).click()
    page.get_by_role("cell", name="orders-prod / public.customers").get_by_role("link").first.click()
    page.locator("main").get_by_role("link", name="4711", exact=True).first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("4711")
    version = page.locator(".version", has_text="Lyon").first
    expect(version).to_contain_text("Omar Haddad")
    expect(version).to_contain_text("approved in time by lea@shop.example")
    expect(version.locator(".diff")).to_contain_text("Paris")


@pytest.mark.parametrize("page", ["security"], indirect=True)
def test_security_lists_everything_that_a_run_of_an_agent_touched_in_one_search(page: Page) -> None:
    page.keyboard.press("/")
    page.keyboard.type(f"run:{RUN}")
    page.keyboard.press("Enter")
    main = page.locator("main")
    expect(main).to_contain_text("2 records")
    for table in ("public.orders", "public.payments"):
        expect(main.locator("table.events")).to_contain_text(table)
    expect(main.locator("table.events")).to_contain_text("dana@shop.example")


@pytest.mark.parametrize("page", ["compliance"], indirect=True)
def test_compliance_runs_a_saved_search_again_and_exports_what_it_shows(page: Page) -> None:
    page.goto("/search?q=relation:customers op:update&environment=production")
    page.locator("summary", has_text="Save this search").click()
    page.get_by_label("Name").fill("Changes of customers")
    page.get_by_role("button", name="Save", exact=True).click()
    page.goto("/")
    page.get_by_role("link", name="Search", exact=True).click()
    page.get_by_role("link", name="Saved searches").click()
    page.get_by_role("link", name="Changes of customers", exact=True).click()
    page.wait_for_url("**by=event**")
    shown = page.locator("main table.events tbody tr").count()
    assert shown >= 2
    with page.expect_download() as download:
        page.get_by_role("button", name="Export with manifest").click()
    with zipfile.ZipFile(download.value.path()) as pack:
        manifest = json.loads(pack.read("manifest.json"))
        name = next(n for n in pack.namelist() if n.endswith(".csv"))
        rows = list(csv.DictReader(io.StringIO(pack.read(name).decode())))
    assert len(rows) == shown
    assert "relation:customers" in json.dumps(manifest)


@pytest.mark.parametrize("page", ["operator"], indirect=True)
def test_the_operator_finds_the_gap_that_the_feed_has(page: Page) -> None:
    silent = page.locator("section", has=page.get_by_role("heading", name="What is silent"))
    expect(silent).to_contain_text("orders-log")
    page.get_by_role("link", name="Integrity", exact=True).first.click()
    page.get_by_role("link", name="Gaps").first.click()
    expect(page.locator("main > .scroll tbody tr", has_text="of the items numbered")).to_contain_text(
        "2 of the items numbered 3 to 4 did not arrive"
    )
