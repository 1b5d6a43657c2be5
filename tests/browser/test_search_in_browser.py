"""Search in a real browser: completion by keyboard, an export that arrives whole, a deletion taken back; and without a script."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import zipfile
from pathlib import Path

import pytest
from django.db import connections
from playwright.sync_api import Browser, expect

from tests import showcase, story

pytestmark = pytest.mark.slow
SLOW_MS = 20_000


@pytest.fixture
def cookie(address: str) -> dict[str, str]:
    story.tell(dt.datetime.now(dt.UTC))
    story.person()
    given = showcase.cookie("alice@audit.example", address)
    connections.close_all()
    return given


def test_a_search_is_written_by_keyboard_exported_saved_and_taken_back(
    address: str, cookie: dict[str, str], browser: Browser, tmp_path: Path
) -> None:
    context = browser.new_context(base_url=address, viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.add_cookies([cookie])  # type: ignore[list-item]
    page = context.new_page()
    page.set_default_timeout(SLOW_MS)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.goto("/search")
    box = page.get_by_role("combobox", name="Search the records")
    box.press_sequentially("act")
    expect(page.get_by_role("option", name="actor:")).to_be_visible(timeout=SLOW_MS)
    box.press("ArrowDown")
    box.press("Enter")
    expect(box).to_have_value("actor:")
    expect(page.get_by_role("option", name="Dana Reyes")).to_be_visible(timeout=SLOW_MS)
    box.press_sequentially("om")
    expect(page.locator("[role=option]:visible")).to_have_count(1, timeout=SLOW_MS)
    box.press("ArrowDown")
    assert box.get_attribute("aria-activedescendant") == "options-0-0"
    box.press("Enter")
    expect(box).to_have_value('actor:"Omar Haddad" ')
    box.press_sequentially("op:upd")
    expect(page.get_by_role("option", name="update")).to_be_visible(timeout=SLOW_MS)
    box.press("Escape")
    expect(box).to_have_attribute("aria-expanded", "false")
    box.press_sequentially("ate")
    box.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("2 records so far", timeout=SLOW_MS)
    with page.expect_download() as coming:
        page.get_by_role("button", name="Export with manifest").click()
    coming.value.save_as(tmp_path / "export.zip")
    with zipfile.ZipFile(tmp_path / "export.zip") as archive:
        manifest = json.loads(archive.read("manifest.json"))
        assert manifest["rows"]["count"] == 2
        assert manifest["file"]["sha256"] == hashlib.sha256(archive.read("records.csv")).hexdigest()
    expect(page.locator("[data-export] [role=status]")).to_contain_text("2 rows in touchstone-records-")
    page.get_by_text("Save this search").last.click()
    page.get_by_label("Name").fill("What Omar changed")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("button", name="Delete What Omar changed").click()
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("link", name="What Omar changed", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("2 records so far", timeout=SLOW_MS)
    assert complaints == []
    context.close()
    plain = browser.new_context(base_url=address, java_script_enabled=False, accept_downloads=True)
    plain.add_cookies([cookie])  # type: ignore[list-item]
    page = plain.new_page()
    page.set_default_timeout(SLOW_MS)
    page.goto("/search?q=type:agent op:export")
    page.get_by_role("link", name="Without op:export").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("2 records so far")
    with page.expect_download() as coming:
        page.get_by_role("button", name="Export with manifest").click()
    assert zipfile.is_zipfile(coming.value.path())
    plain.close()
