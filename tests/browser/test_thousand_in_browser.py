"""A thousand records more: lists stay light, go on both ways, and are used by keys."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests import serving, showcase
from tests.browser.conftest import launched

pytestmark = pytest.mark.slow
LISTS = (
    "/",
    "/search?q=relation:orders",
    "/search?q=relation:orders&by=touch",
    "/sessions/orders-prod~s-orders-api/",
    "/tables/orders-prod/public.orders/",
)
MOST_LETTERS = 1_000_000


@pytest.fixture(scope="module")
def page(shared_store: str) -> Iterator[Page]:
    now = dt.datetime.now(dt.UTC)
    showcase.people()
    showcase.tell(now)
    showcase.thousand(now)
    with serving.serving() as address:
        cookie = showcase.cookie(showcase.READER, address)
        with launched() as browser:
            yield opened(browser, address, cookie)


def opened(browser: Browser, address: str, cookie: object) -> Page:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, base_url=address)
    context.add_cookies([cookie])  # type: ignore[list-item]
    return context.new_page()


def too_wide(page: Page, width: int) -> int:
    page.set_viewport_size({"width": width, "height": 900})
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def test_lists_of_a_thousand_fit_the_window_and_stay_light(page: Page) -> None:
    for path in LISTS:
        page.goto(path)
        assert len(page.content()) < MOST_LETTERS, path
        assert [too_wide(page, width) for width in (320, 1280)] == [0, 0], path


def test_a_list_goes_on_to_older_records_and_back_and_its_lines_are_gone_along_by_key(page: Page) -> None:
    page.goto("/search?q=relation:orders")
    records = page.locator("main table.events .more a")
    expect(records).to_have_count(50)
    expect(page.locator("main .pager")).to_contain_text(re.compile(r"50 of 1,0\d\d shown"))
    newest = records.all_inner_texts()
    page.get_by_role("link", name="Older").click()
    page.wait_for_url("**cursor=**")
    assert not set(records.all_inner_texts()) & set(newest)
    for _ in range(3):
        page.keyboard.press("j")
    expect(records.nth(2)).to_be_focused()
    page.keyboard.press("o")
    page.wait_for_url("**/events/*/")
    page.go_back()
    expect(records).to_have_count(50)
    page.go_back()
    assert records.all_inner_texts() == newest
    page.goto("/search?q=relation:orders&limit=1000")
    expect(records).to_have_count(1000)
    assert [too_wide(page, width) for width in (320, 1280)] == [0, 0]
