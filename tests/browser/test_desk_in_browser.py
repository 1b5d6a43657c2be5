"""The desk in a real browser: fits every window, refreshes by itself, and is worked with the keyboard alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from lineage.models import HeldStatement
from tests import story
from tests.browser.conftest import apart, sign_in
from tests.lineage import desk

pytestmark = pytest.mark.slow
SLOW_MS = 20_000
LONG = "update public.customers set note = '" + "Zebedee" * 40 + "'\n" + "\n".join(f"where id = {n}" for n in range(12))


@pytest.fixture
def complaints() -> list[str]:
    return []


@pytest.fixture
def address_of_desk(address: str) -> str:
    desk.source()
    story.person(desk.SEVERIN, "security")
    story.person(desk.ADA, "admin")
    long = dict.fromkeys(("purpose", "sentence", "rule"), "averylongwordwithoutanyspace" * 6)
    desk.exchange(
        sessions=[desk.live(), desk.live("s-2", purpose="x" * 300, app="y" * 150)],
        held=[
            desk.hold(),
            desk.hold("req-2", statement=LONG, plan="Update on customers " * 40, in_transaction=True, **long),
        ],
    )
    return address


@pytest.fixture
def page(address_of_desk: str, browser: Browser, complaints: list[str]) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1280, "height": 900}, base_url=address_of_desk)

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(f"{opened.url}: {message.text}")

    opened.on("console", heard)
    opened.on("pageerror", lambda error: complaints.append(f"{opened.url}: {error}"))
    sign_in(opened, address_of_desk, desk.ADA)
    yield opened
    opened.close()


def test_the_pages_of_the_desk_fit_every_window_and_keep_to_the_content_policy(
    page: Page, complaints: list[str]
) -> None:
    for path in ("/approvals/", "/approvals/held/req-2/", "/sessions/live/", "/sessions/live/1/"):
        page.set_viewport_size({"width": 1280, "height": 900})
        page.goto(path)
        for width in (1280, 899, 390):
            page.set_viewport_size({"width": width, "height": 844})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (path, width)
    assert complaints == []


def test_a_new_request_appears_by_itself_and_is_decided_with_the_keyboard_alone(
    page: Page, complaints: list[str]
) -> None:
    page.goto("/approvals/")
    expect(page.locator(".asked")).to_have_count(2)
    apart(
        lambda: desk.exchange(
            held=[desk.hold("req-3", statement="delete from orders", sentence="Deletes need an approval.")]
        )
    )
    expect(page.locator(".asked")).to_have_count(3, timeout=SLOW_MS)
    link = page.get_by_role("link", name="Deletes need an approval.")
    link.focus()
    page.keyboard.press("Enter")
    reason = page.get_by_label("Reason (stays")
    reason.focus()
    page.keyboard.type("looked at it")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Approve")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_text("approved, not run yet")).to_be_visible(timeout=SLOW_MS)
    assert complaints == []

    def state() -> None:
        assert HeldStatement.objects.get(pk="req-3").state == "approved"

    apart(state)
