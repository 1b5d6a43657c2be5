"""Pages in a real browser: keys, live parts, the content policy, and no page wider than its window."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from lineage.models import Source
from tests import story
from tests.browser.conftest import apart, sign_in
from tests.lineage.test_pages import PAGES

pytestmark = pytest.mark.slow
SESSION = "/sessions/orders-prod~s-orders-api/"
SLOW_MS = 20_000
"""What a busy machine may take: a test of what happens, not of how fast."""
WIDE = {"width": 1280, "height": 900}


@pytest.fixture
def address_of_story(address: str) -> str:
    story.tell(dt.datetime.now(dt.UTC))
    story.person()
    return address


@pytest.fixture
def complaints() -> list[str]:
    """What the browser complained about: script errors, refused inline code, failed requests."""
    return []


@pytest.fixture
def page(address_of_story: str, browser: Browser, complaints: list[str]) -> Iterator[Page]:
    opened = browser.new_page(viewport=WIDE, base_url=address_of_story)

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(f"{opened.url}: {message.text}")

    opened.on("console", heard)
    opened.on("pageerror", lambda error: complaints.append(f"{opened.url}: {error}"))
    sign_in(opened, address_of_story)
    yield opened
    opened.close()


def delete_from(table: str) -> None:
    desk, now = Source.objects.get(name="desk"), dt.datetime.now(dt.UTC)
    story.send(desk, story.query(table, now, story.OMAR, f"DELETE FROM public.{table}", "delete"))


def test_every_page_fits_every_window_and_keeps_to_the_content_policy(page: Page, complaints: list[str]) -> None:
    for path in PAGES:
        page.set_viewport_size(WIDE)
        page.goto(path)
        if page.locator(".plot").count():
            expect(page.locator(".plot .bars .point").first).to_be_attached()
        for width in (1280, 899, 390):
            page.set_viewport_size({"width": width, "height": 844})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (path, width)
    apart(story.hostile, dt.datetime.now(dt.UTC))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    for path in ("/", "/search?q=kind:query", "/findings/"):
        page.goto(path)
    assert complaints == []


def test_keys_lead_to_the_search_and_along_the_statements_of_a_session_but_stay_letters_in_a_field(page: Page) -> None:
    page.goto(SESSION)
    steps, statement = page.locator(".statements summary"), page.locator(".statements pre").nth(1)
    page.keyboard.press("j")
    expect(steps.nth(0)).to_be_focused()
    for key in "jjk":
        page.keyboard.press(key)
    expect(steps.nth(1)).to_be_focused()
    expect(statement).to_be_hidden()
    page.keyboard.press("o")
    expect(statement).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("jo/k")
    expect(page.locator("#q")).to_have_value("jo/k")
    page.locator("#q").fill("op:update")
    page.keyboard.press("Enter")
    expect(page).to_have_title("3 records so far · Touchstone")


def test_the_overview_asks_every_two_seconds_stands_still_when_paused_and_says_when_it_is_stale(page: Page) -> None:
    first, status = page.locator(".newest tbody tr").first, page.locator("[role=status][data-live-word]")
    expect(page.locator("[hx-get^='/overview/live/']")).to_have_attribute("hx-trigger", "every 2s")
    apart(delete_from, "notes")
    expect(first).to_contain_text("public.notes", timeout=SLOW_MS)
    page.get_by_role("button", name="Pause").click()
    expect(status).to_have_text("Paused")
    apart(delete_from, "letters")
    page.wait_for_timeout(5_000)
    expect(first).to_contain_text("public.notes")
    page.get_by_role("button", name="Go on").click()
    expect(first).to_contain_text("public.letters", timeout=SLOW_MS)
    page.route("**/overview/live/**", lambda route: route.abort())
    expect(status).to_have_text("Not refreshed: the store does not answer", timeout=SLOW_MS)


def test_range_environment_and_row_are_chosen_and_stay_in_the_address(page: Page) -> None:
    page.goto("/tables/orders-prod/public.payments/")
    page.get_by_label("Environment").select_option("production")
    page.wait_for_url("**environment=production*")
    page.get_by_label("Time range").select_option("24h")
    page.wait_for_url("**since=24h*")
    page.get_by_placeholder("4711", exact=True).fill("9001")
    page.get_by_role("button", name="Show its history").click()
    page.wait_for_url("**/tables/orders-prod/public.payments/rows/9001/?since=24h&environment=production")
    expect(page.locator(".diff").first).to_contain_text("400.00")
