"""The pages that are looked at are all that there are."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from django.urls import Resolver404, resolve

from tests import showcase
from tests.addresses import ADDRESSES

READ = {address.route for address in ADDRESSES if address.post is None and not address.route.startswith("api/v1/")}


def shown() -> set[str]:
    """The routes of the pages in the showcase; an address that leads nowhere is shown on purpose and has none."""
    routes = set()
    for path in showcase.PAGES.values():
        try:
            routes.add(resolve(urlsplit(path).path).route)
        except Resolver404:
            assert path == showcase.PAGES["unknown-page"], path
    return routes


def test_every_page_is_looked_at_by_the_walks_or_named_with_the_reason_why_it_is_none() -> None:
    assert READ - shown() - set(showcase.NO_PAGES) == set(), "add these to PAGES of tests/showcase.py"
    assert set(showcase.NO_PAGES) - READ == set(), "these are not read any more: take them out of NO_PAGES"
    assert set(showcase.NO_PAGES) & shown() == set()


@pytest.mark.parametrize("name", showcase.ADMIN_PAGES)
def test_a_page_that_shows_an_administrator_more_is_one_of_the_pages(name: str) -> None:
    assert name in showcase.PAGES
