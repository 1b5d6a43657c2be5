"""The page Connect in a browser: the token, how long it lets in, and nothing that the content policy refuses."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, expect

from tests import story
from tests.browser.conftest import sign_in
from tests.lineage.test_connect import declare

pytestmark = pytest.mark.slow


@pytest.fixture
def shop(address: str) -> str:
    """The address of a store that a gateway told about a database."""
    story.person()
    declare("shop", "orders-prod")
    return address


def test_a_token_is_had_by_form_and_its_time_runs_down(shop: str, browser: Browser) -> None:
    page = browser.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    sign_in(page, shop)
    page.get_by_role("link", name="Connect").click()
    page.get_by_label("Purpose").fill("Correct the addresses of order 4711")
    page.get_by_text("For an agent that works for you").click()
    page.get_by_label("Agent", exact=True).fill("report-bot")
    page.get_by_role("button", name="Get the token").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("Ready for shop until"))
    expect(page.locator("[data-countdown]")).to_have_text(re.compile(r"for another 1[45] min \d+ s"))
    before = page.locator("[data-countdown]").text_content()
    expect(page.locator("[data-countdown]")).not_to_have_text(before or "")
    assert (page.locator("pre").first.text_content() or "").startswith("PGPASSWORD=ey")
    assert said == []
    page.close()
