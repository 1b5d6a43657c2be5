"""A browser (Debian's Chromium) at a running server over a store of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
from django.db import connections
from playwright.sync_api import Browser, Page, sync_playwright

from tests import serving, story

T = TypeVar("T")


@pytest.fixture
def address(store: str) -> Iterator[str]:
    """The address of a server over the test's store."""
    with serving.serving() as address:
        yield address


@pytest.fixture
def browser() -> Iterator[Browser]:
    with launched() as running:
        yield running


@contextlib.contextmanager
def launched() -> Iterator[Browser]:
    """Chromium for the length of the block. Connections to the database are not carried into or out of its event loop."""
    if not Path(serving.CHROMIUM).exists():
        pytest.skip("needs Debian's chromium")
    connections.close_all()
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=serving.CHROMIUM, args=serving.ARGUMENTS)
        yield running
        running.close()
    connections.close_all()


def apart(work: Callable[..., T], *given: Any) -> T:
    """Does database work on a thread of its own: this one belongs to the browser's event loop."""
    with ThreadPoolExecutor(1, initializer=connections.close_all) as pool:
        done = pool.submit(work, *given).result()
        pool.submit(connections.close_all).result()
    return done


def sign_in(page: Page, address: str, email: str = "alice@audit.example") -> None:
    page.goto(f"{address}/accounts/login/")
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password").fill(story.PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{address}/")
