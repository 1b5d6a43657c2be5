"""A browser (Debian's Chromium) at a running server over a store of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests import serving, story


@pytest.fixture
def address(store: str) -> Iterator[str]:
    """The address of a server over the test's store."""
    with serving.serving() as address:
        yield address


@pytest.fixture
def browser() -> Iterator[Browser]:
    if not Path(serving.CHROMIUM).exists():
        pytest.skip("needs Debian's chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=serving.CHROMIUM, args=serving.ARGUMENTS)
        yield running
        running.close()


def sign_in(page: Page, address: str, email: str = "alice@audit.example") -> None:
    page.goto(f"{address}/accounts/login/")
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password").fill(story.PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{address}/")
