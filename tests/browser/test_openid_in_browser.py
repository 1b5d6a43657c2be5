"""Sign-in by OpenID Connect in a browser, which holds our content policy against each redirect."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser

from config import openid
from tests import story
from tests.browser.conftest import apart
from tests.lineage.openid import CLIENT, SECRET, Provider

pytestmark = pytest.mark.slow


def test_the_link_leads_to_the_provider_and_back_to_the_page_that_was_asked_for(
    address: str, browser: Browser, settings: Any
) -> None:
    provider = Provider()
    provider.honest()
    settings.OPENID = openid.Provider(provider.issuer, CLIENT, SECRET, "Shop")
    apart(story.person, "dana@shop.example")
    page = browser.new_page()
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.goto(f"{address}/account/")
    page.get_by_role("link", name="Sign in with Shop").click()
    page.wait_for_url(f"{address}/account/")
    assert page.get_by_text("dana@shop.example").count() > 0
    assert complaints == []
    provider.stop()
