"""Pages when something is wrong: each says what happened, what was kept and what to do, under an id, even without a database."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.db import connection, connections
from django.test import Client

from tests import story
from tests.lineage.test_pages import Markup, signed_in

pytestmark = pytest.mark.slow


def test_without_a_database_every_page_is_an_error_with_an_id_and_the_sign_in_still_shows(
    store: str, settings: Any
) -> None:
    auditor = signed_in(story.person())
    auditor.raise_request_exception = False
    connections.close_all()
    before, connection.settings_dict["NAME"] = connection.settings_dict["NAME"], "no_such_database"
    try:
        for path in ("/", "/search?q=op:read", "/integrity/", "/preferences/"):
            answer = auditor.get(path)
            html = answer.content.decode()
            assert answer.status_code == 503, path
            assert re.search(r"id <code>[0-9a-f]{12}</code>", html)
            assert "What was accepted into the log before is kept." in html
            assert "no_such_database" not in html
            assert Markup(html).risky == []
        assert Client().get("/accounts/login/").status_code == 200
    finally:
        connections.close_all()
        connection.settings_dict["NAME"] = before


def test_refused_unreadable_and_unknown_addresses_say_what_to_do_under_an_id(store: str) -> None:
    auditor = signed_in(story.person())
    member = signed_in(story.person("m@shop.example", "member"))
    for client, path, status in (
        (auditor, "/nowhere", 404),
        (auditor, "/?since=x", 400),
        (member, "/", 403),
        (auditor, "/findings/9/", 404),
    ):
        answer = client.get(path)
        assert answer.status_code == status, path
        html = answer.content.decode()
        assert re.search(r"id <code>[0-9a-f]{12}</code>", html), path
        assert html.count("<h1>") == 1
        assert 'class="btn"' in html, path


def test_a_nul_in_an_address_is_a_fault_of_the_address_and_not_of_the_store(store: str) -> None:
    admin = signed_in(story.person("root@shop.example", "admin"))
    for path in (
        "/findings/?rule=%00",
        "/api/v1/findings?rule=%00",
        "/logins/?datasource=%00",
        "/integrity/quarantine/?source=%00",
        "/tables/a%00b/x.y/tags/",
    ):
        assert admin.get(path).status_code in (400, 404), path
    answer = Client().post(
        "/api/v1/token", {"grant_type": "client_credentials", "client_id": "\0", "client_secret": "x"}
    )
    assert answer.status_code in (400, 401)
