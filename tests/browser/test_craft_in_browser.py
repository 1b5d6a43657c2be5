"""What holds for every page: readable for everybody, light and dark, whole at any width, harmless and quiet whatever it shows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Response, expect

from tests import serving, showcase
from tests.browser.conftest import launched

pytestmark = pytest.mark.slow
WIDE = {"width": 1280, "height": 900}
NARROW = (390, 320)
GRAVE = ("serious", "critical")
AXE = """rules => axe.run(document, { resultTypes: ["violations"], selectors: false, ...rules }).then(({ violations }) =>
    violations.map(({ id, impact, nodes }) => ({ id, impact, nodes: nodes.slice(0, 3).map((one) => one.html) })))"""
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
    page.evaluate(AXE_SCRIPT)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        told = page.evaluate(AXE, {} if scheme == "light" else {"runOnly": ["color-contrast"]})
        found += [f"{path} {scheme}: {one['id']} {one['nodes']}" for one in told if one["impact"] in GRAVE]
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


MOST_BYTES = 300_000
READ_WITHOUT_SCRIPT = {
    "overview": "Newest accesses", "search-records": "public.customers", "session": "UPDATE", "identity": "Dana Reyes",
    "table": "Omar Haddad", "row": "400.00", "databases": "orders-prod", "findings": "Severity", "approvals": "OPS-42",
    "integrity": "checkpoint", "record": "OPS-42", "lineage-ticket": "OPS-42", "reports": "report",
}  # fmt: skip
MOVED = """() => new Promise((done) => new PerformanceObserver((list) =>
    done(list.getEntries().filter((one) => !one.hadRecentInput).reduce((sum, one) => sum + one.value, 0))
).observe({ type: "layout-shift", buffered: true }) || setTimeout(() => done(0), 300))"""


def test_the_main_pages_can_be_read_without_a_script(filled: str, chromium: Browser, cookies: dict[str, Any]) -> None:
    for visited in visiting(filled, chromium, cookies[showcase.READER], java_script_enabled=False):
        for name, words in READ_WITHOUT_SCRIPT.items():
            page = visited.go(showcase.PAGES[name])
            expect(page.locator("main")).to_contain_text(words)
        page = visited.go(showcase.PAGES["overview"])
        page.get_by_text("Show as table").first.click()
        expect(page.get_by_role("region", name="Accesses over time by kind of actor, as a table")).to_be_visible()
        page.locator("#q").fill("op:update")
        page.locator("#q").press("Enter")
        expect(page.locator("main")).to_contain_text("UPDATE")


def test_a_second_view_transfers_little_and_nothing_moves_while_a_page_comes(reader: Visited) -> None:
    for path in ("/", "/search?q=relation:customers", "/sessions/"):
        reader.go(path)
    wire = reader.context.new_cdp_session(reader.page)
    wire.send("Network.enable")
    sizes: list[float] = []
    wire.on("Network.loadingFinished", lambda told: sizes.append(told["encodedDataLength"]))
    for path in ("/", "/search?q=relation:customers", "/sessions/"):
        sizes.clear()
        page = reader.go(path)
        if page.locator(".plot").count():
            expect(page.locator(".plot .bars .point").first).to_be_attached()
        assert 0 < sum(sizes) <= MOST_BYTES, (path, sizes)
        assert page.evaluate(MOVED) < 0.05, path


def test_times_are_shown_in_the_zone_that_the_reader_chose_with_utc_at_hand_and_a_way_back(reader: Visited) -> None:
    page = reader.go(showcase.PAGES["record"])
    time = page.locator("main time").first
    utc = dt.datetime.fromisoformat(str(time.get_attribute("datetime")))
    page.get_by_role("link", name="UTC", exact=True).click()
    page.get_by_label("Zone of times on pages").select_option("Asia/Kolkata")
    page.get_by_role("button", name="Show times in this zone").click()
    expect(page.locator(".toasts")).to_contain_text("Times on pages are in Asia/Kolkata now.")
    reader.go(showcase.PAGES["record"])
    expect(time).to_contain_text(f"{utc + dt.timedelta(hours=5, minutes=30):%H:%M:%S}")
    assert f"{utc:%H:%M:%S}" in str(time.get_attribute("title"))
    expect(page.locator(".toasts")).to_be_empty()
    page.get_by_role("button", name="Show UTC").click()
    expect(time).to_contain_text(f"{utc:%H:%M:%S}")
    page.get_by_role("button", name="Undo").click()
    expect(time).to_contain_text(f"{utc + dt.timedelta(hours=5, minutes=30):%H:%M:%S}")


def test_keys_go_along_a_list_open_its_line_and_are_told_by_a_question_mark(reader: Visited) -> None:
    page = reader.go("/search?q=op:update")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()
    lines = page.locator("main table.events tbody tr")
    for key, at in (("j", 0), ("j", 1), ("k", 0)):
        page.keyboard.press(key)
        expect(lines.nth(at).locator(".more a")).to_be_focused()
    page.keyboard.press("o")
    page.wait_for_url("**/events/*/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="To the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#content")).to_be_focused()


def test_a_slow_answer_can_be_given_up_and_the_page_stays(reader: Visited) -> None:
    page = reader.go("/tables/")
    # A navigation that hangs would hold up every look at the page: the click leads nowhere, after the page has heard of it.
    page.evaluate("window.addEventListener('click', (event) => event.preventDefault())")
    page.get_by_role("link", name="Sessions", exact=True).click()
    expect(page.locator("#progress")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#progress")).to_be_hidden()
    expect(page.locator(".toasts")).to_contain_text("Stopped waiting.")
    assert page.url.endswith("/tables/")


def test_the_printed_page_says_where_it_is_from_and_whose_it_is(reader: Visited) -> None:
    page = reader.go(showcase.PAGES["row"])
    page.emulate_media(media="print")
    expect(page.locator(".printed")).to_contain_text(f"rows/9001/ · printed by {showcase.READER}")
    for hidden in (".rail", ".top", ".zone"):
        expect(page.locator(hidden)).to_be_hidden()
    expect(page.locator("main")).to_contain_text("400.00")
