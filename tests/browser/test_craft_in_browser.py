"""What holds for every page: readable for everybody, light and dark, whole at any width, harmless and quiet whatever it shows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Response

from tests import serving, showcase
from tests.browser.conftest import launched

pytestmark = pytest.mark.slow
WIDE = {"width": 1280, "height": 900}
NARROW = (390, 320)
GRAVE = ("serious", "critical")
ODD_SEARCH = '/search?q=datasource:"odd place"&limit=100'


@dataclass
class Visited:
    """A browser at the shared store, and everything that must not happen in it."""

    address: str
    context: BrowserContext
    page: Page
    complaints: list[str] = field(default_factory=list)

    def watch(self) -> None:
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(f"{self.page.url}: {error}"))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"{self.page.url}: dialog {dialog.message}"))
        self.page.on("request", self._request)
        self.page.on("response", self._response)

    def _console(self, message: ConsoleMessage) -> None:
        asked_for = "Failed to load resource: the server responded with a status of 40"
        if message.type in ("error", "warning") and not message.text.startswith(asked_for):
            self.complaints.append(f"{self.page.url}: {message.text}")

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.complaints.append(f"{self.page.url}: asks {request.url}")

    def _response(self, response: Response) -> None:
        policy = response.headers.get("content-security-policy", "")
        if response.request.is_navigation_request() and ("default-src 'none'" not in policy or "unsafe" in policy):
            self.complaints.append(f"{self.page.url}: policy {policy}")

    def go(self, path: str) -> Page:
        self.page.goto(path)
        return self.page

    def misfits(self, path: str) -> list[str]:
        """Where the page is wider than its window."""
        found = []
        for width in (WIDE["width"], *NARROW):
            self.page.set_viewport_size({"width": width, "height": 844})
            over = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            if over > 0:
                found.append(f"{path} at {width}: {over} pixels too wide")
        self.page.set_viewport_size(WIDE)  # type: ignore[arg-type]
        return found


@pytest.fixture(scope="module")
def filled(shared_store: str) -> Iterator[str]:
    now = dt.datetime.now(dt.UTC)
    showcase.people()
    showcase.tell(now)
    showcase.hostile(now)
    with serving.serving() as address:
        yield address


@pytest.fixture(scope="module")
def cookies(filled: str) -> dict[str, dict[str, Any]]:
    return {email: showcase.cookie(email, filled) for email in (showcase.READER, showcase.ADMIN)}


@pytest.fixture(scope="module")
def chromium(cookies: dict[str, Any]) -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture
def reader(filled: str, chromium: Browser, cookies: dict[str, Any]) -> Iterator[Visited]:
    yield from visiting(filled, chromium, cookies[showcase.READER])


@pytest.fixture
def admin(filled: str, chromium: Browser, cookies: dict[str, Any]) -> Iterator[Visited]:
    yield from visiting(filled, chromium, cookies[showcase.ADMIN])


def visiting(address: str, chromium: Browser, cookie: Any, **more: Any) -> Iterator[Visited]:
    context = chromium.new_context(viewport=WIDE, base_url=address, **more)  # type: ignore[arg-type]
    context.add_cookies([cookie])
    visited = Visited(address, context, context.new_page())
    visited.watch()
    yield visited
    context.close()


def grave(page: Page, path: str) -> list[str]:
    """What axe-core calls serious or critical, in light and in dark."""
    found = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        rules: dict[str, Any] = {} if scheme == "light" else {"runOnly": ["color-contrast"]}
        told = Axe().run(page, options={"resultTypes": ["violations"], **rules}).response["violations"]
        found += [
            f"{path} {scheme}: {one['id']} {[node['target'] for node in one['nodes'][:3]]}"
            for one in told
            if one["impact"] in GRAVE
        ]
    page.emulate_media(color_scheme="light")
    return found


def looked_at(visited: Visited, paths: list[str]) -> list[str]:
    faults = []
    for path in paths:
        page = visited.go(path)
        if page.locator("h1").count() != 1:
            faults.append(f"{path}: {page.locator('h1').count()} first headings")
        faults += visited.misfits(path) + grave(page, path)
    return faults + visited.complaints


def test_every_page_is_readable_for_everybody_light_and_dark_and_fits_every_window(reader: Visited) -> None:
    assert "\n".join(looked_at(reader, list(showcase.PAGES.values()))) == ""


def test_what_an_administrator_sees_more_is_readable_too(admin: Visited) -> None:
    assert "\n".join(looked_at(admin, [showcase.PAGES[name] for name in showcase.ADMIN_PAGES])) == ""


def test_hostile_words_in_every_field_are_shown_as_text_and_break_no_page(reader: Visited) -> None:
    page = reader.go(ODD_SEARCH)
    links = page.locator("main a").evaluate_all("all => all.map((a) => a.getAttribute('href'))")
    kinds = ("/events/", "/identities/", "/sessions/", "/tables/")
    paths = list(dict.fromkeys(link for link in links if link and urlsplit(link).path.startswith(kinds)))
    assert len(paths) >= 12
    faults = []
    for path in [ODD_SEARCH, ODD_SEARCH + "&by=touch", ODD_SEARCH + "&by=identity", ODD_SEARCH + "&by=session", *paths]:
        reader.go(path)
        faults += reader.misfits(path)
    assert "\n".join(faults + reader.complaints) == ""
