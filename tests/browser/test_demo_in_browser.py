"""The four readers at the demo's captured data: a real order database, what really happened there, and a browser."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from demo import readers
from demo.actors import AGENT
from demo.monitored import free_port
from demo.run import BASE_DIR
from tests.browser.conftest import launched

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PATIENCE_SECONDS = 300
PATIENCE_MILLISECONDS = 60_000


@dataclass
class Running:
    """A demo in a process of its own: its address, folder, sign-ins, and the deeds that its actors noted."""

    address: str
    folder: Path
    signins: dict[str, str]
    deeds: list[dict[str, Any]]

    def deed(self, label: str) -> dict[str, Any]:
        return next(deed for deed in self.deeds if deed["label"] == label)

    def superuser(self) -> psycopg.Connection[Any]:
        """Somebody who may do anything in the order database."""
        password = (self.folder / "shop" / "superuser.password").read_text()
        dsn = (self.folder / "monitored.dsn").read_text()
        return psycopg.connect(dsn, user="postgres", password=password, autocommit=True)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Running]:
    """A demo without generated days, once its story is played and the store has all of it. Nothing of it stays."""
    port, said = free_port(), folder / "said"
    command = [
        sys.executable,
        "-m",
        "demo.run",
        "--port",
        str(port),
        "--data",
        str(folder / "demo"),
        "--without-generated",
    ]
    own = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    with said.open("w") as out:
        process = subprocess.Popen(command, cwd=BASE_DIR, env=own, stdout=out, stderr=out, start_new_session=True)
    try:
        deeds, deadline = folder / "demo" / "deeds.json", time.monotonic() + PATIENCE_SECONDS
        while not deeds.exists():
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < deadline, said.read_text()
            time.sleep(0.2)
        signins = dict(re.findall(r"^    (\w+@shop\.example) +(\S+)$", said.read_text(), re.MULTILINE))
        yield Running(f"http://127.0.0.1:{port}", folder / "demo", signins, json.loads(deeds.read_text()))
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(90)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("demo")) as one:
        yield one


@pytest.fixture(scope="module")
def chromium(demo: Running) -> Iterator[Browser]:
    with launched() as browser:
        expect.set_options(timeout=PATIENCE_MILLISECONDS)
        yield browser
        expect.set_options(timeout=5_000)


@dataclass
class Reader:
    """Somebody at the overview, and how often they clicked since."""

    page: Page
    clicks: int = 0

    def click(self, where: Locator) -> None:
        where.click()
        self.clicks += 1


@pytest.fixture
def reader(request: pytest.FixtureRequest, demo: Running, chromium: Browser) -> Iterator[Reader]:
    context = chromium.new_context(
        viewport={"width": 1280, "height": 900}, base_url=demo.address, accept_downloads=True
    )
    context.set_default_timeout(PATIENCE_MILLISECONDS)
    page, email = context.new_page(), f"{request.param}@shop.example"
    page.goto("/accounts/login/")
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password").fill(demo.signins[email])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{demo.address}/")
    yield Reader(page)
    context.close()


@pytest.mark.parametrize("reader", ["auditor"], indirect=True)
def test_the_auditor_finds_who_changed_customer_4711_and_who_approved_it_in_three_clicks(
    demo: Running, reader: Reader
) -> None:
    page, deed = reader.page, demo.deed(readers.APPROVED)
    reader.click(page.get_by_role("link", name="Tables", exact=True))
    reader.click(page.get_by_role("cell", name=readers.TABLE, exact=True).get_by_role("link").last)
    reader.click(page.locator("main").get_by_role("link", name=readers.CUSTOMER, exact=True).first)
    expect(page.get_by_role("heading", level=1)).to_contain_text(readers.CUSTOMER)
    version = page.locator(".version").filter(has=page.get_by_role("link", name=deed["xid"], exact=True))
    expect(version).to_have_count(1)
    expect(version).to_contain_text("Bob Brandt")
    expect(version.locator(f'a[href*="{deed["person"]}"]').first).to_be_visible()
    expect(version).to_contain_text("approved in time by erin@shop.example")
    expect(version).to_contain_text("update customers set name = 'Maria Bergman' where id = 4711")
    expect(version.locator(".diff")).to_contain_text("Maria Lindqvist")
    assert deed["person"] == "bob@shop.example"
    assert deed["committed"]
    assert reader.clicks <= readers.CLICKS_MOST


@pytest.mark.parametrize("reader", ["security"], indirect=True)
def test_security_lists_everything_that_the_agents_run_touched_in_one_search(demo: Running, reader: Reader) -> None:
    page, facets = reader.page, reader.page.locator(".facets")
    page.keyboard.press("/")
    page.keyboard.type(f"run:{AGENT['run_id']}")
    page.keyboard.press("Enter")
    deleted = sum(deed["rows"] for deed in demo.deeds if deed["login"] == "analyst_agent" and deed["committed"])
    assert deleted == 40
    expect(facets.locator("li", has_text=re.compile(rf"^\s*change\s+{deleted}\s*$"))).to_have_count(1)
    for table in ("public.customers", "public.notes"):
        expect(facets).to_contain_text(table)
    expect(page.locator("main table.events")).to_contain_text("Insight agent")
    expect(page.locator("main table.events")).to_contain_text("dana@shop.example")


@pytest.mark.parametrize("reader", ["compliance"], indirect=True)
def test_compliance_runs_a_saved_search_and_a_question_of_the_quarter_again_and_takes_both_away(
    demo: Running, reader: Reader, tmp_path: Path
) -> None:
    page = reader.page
    page.locator("#q").fill(readers.SEARCH)
    page.locator("#q").press("Enter")
    page.locator("summary", has_text="Save this search").click()
    page.get_by_label("Name").fill(readers.SAVED)
    page.get_by_role("button", name="Save", exact=True).click()
    page.goto("/")
    page.get_by_role("link", name="Search", exact=True).click()
    page.get_by_role("link", name="Saved searches").click()
    page.get_by_role("link", name=readers.SAVED, exact=True).click()
    lines = taken(page, tmp_path / "changes.zip")
    assert {line["transaction_id"] for line in lines} == {
        demo.deed(label)["xid"] for label in ("support-phone", readers.APPROVED)
    }
    name = readers.quarter(dt.datetime.now(dt.UTC))
    page.get_by_role("link", name="Search", exact=True).click()
    page.get_by_role("link", name="Twelve questions for a quarter").first.click()
    page.get_by_label("Quarter").select_option(label=name)
    page.get_by_role("button", name="Show", exact=True).click()
    count = page.get_by_role("link", name=f"{readers.QUARTERLY} {name}: ")
    counted = int(count.inner_text())
    count.click()
    lines = taken(page, tmp_path / "quarter.zip")
    assert len(lines) == counted
    assert any("add column loyalty_tier" in line["statement"] for line in lines)


def taken(page: Page, file: Path) -> list[dict[str, str]]:
    """What the page shows as a file, whose hash is the manifest's."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Export with manifest").click()
    download.value.save_as(file)
    return readers.exported(file.read_bytes())[1]


@pytest.mark.parametrize("reader", ["operator"], indirect=True)
def test_the_operator_finds_the_gap_after_change_capture_lost_its_slot(demo: Running, reader: Reader) -> None:
    page = reader.page
    silent = page.locator("section", has=page.get_by_role("heading", name="What is silent"))
    expect(silent).not_to_contain_text(readers.CAPTURE)
    with demo.superuser() as connection:
        readers.lose_changes(connection)
    # First it is told that somebody dropped the slot, and what that lost once the collector is back.
    told, deadline = silent.locator("li", has_text=readers.CAPTURE), time.monotonic() + readers.PATIENCE_SECONDS
    while not told.filter(has_text=readers.LOST).count() and time.monotonic() < deadline:
        page.reload()
    expect(told).to_contain_text(readers.LOST)
    reader.click(page.get_by_role("link", name="Integrity", exact=True).first)
    reader.click(page.get_by_role("link", name="Gaps", exact=True).first)
    gap = page.locator("main tbody tr", has_text=readers.CAPTURE).filter(has_text=readers.LOST)
    expect(gap.first).to_contain_text("gap")
    assert reader.clicks == 2
