"""Access on pages: administrators let people in, people keep their own tokens and password, and everything is a record."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client

from lineage import access
from lineage.finding_models import Receiver
from lineage.models import ApiToken, Source, User
from tests import story
from tests.lineage.test_pages import Markup
from tests.lineage.test_seats import bearing, recorded, token_of

pytestmark = pytest.mark.slow


def signed_in(email: str, role: str, **scope: Any) -> Client:
    client = Client()
    client.force_login(story.person(email, role, **scope))
    return client


def secret_in(html: str) -> str:
    found = re.search(r'kept nowhere:</strong> <code class="wide">([^<]+)</code>', html)
    assert found is not None, html[:3000]
    return found[1]


def post(client: Client, path: str, status: int, **given: Any) -> str:
    answer = client.post(path, given)
    assert answer.status_code == status, (answer.status_code, answer.content.decode()[-1500:])
    assert status != 200 or answer["Cache-Control"] == "private, no-store"
    return str(answer.content.decode())


def test_an_administrator_lets_a_person_in_changes_and_closes_the_seat(store: str) -> None:
    ada = signed_in("ada@admin.example", "admin")
    made = post(
        ada,
        "/access/",
        200,
        email="dana@shop.example",
        role="security",
        datasources="orders-prod\nhr-prod",
        ends_at="2099-01-01",
    )
    password = secret_in(made)
    assert password not in ada.get("/access/").content.decode(), "shown once"
    dana = User.objects.get(email="dana@shop.example")
    page = f"/access/seats/{dana.pk}/"
    entered = Client().post("/accounts/login/", {"username": dana.email, "password": password})
    assert entered.status_code == 302
    assert "Security · orders-prod · hr-prod" in ada.get(page).content.decode()
    post(ada, page, 302, do="change", role="operator", datasources="orders-prod")
    assert recorded()[0]["decision"]["transition"] == (
        "changed: role security → operator; databases orders-prod, hr-prod → orders-prod; ends 2099-01-01T00:00Z → nothing"
    )
    other = secret_in(post(ada, page, 200, do="password"))
    assert other != password
    post(ada, page, 302, do="close")
    assert Client().post("/accounts/login/", {"username": dana.email, "password": other}).status_code == 401
    post(ada, page, 422, do="close")
    service = secret_in(post(ada, "/access/", 200, email="importer", role="service"))
    assert access.viewer_of_token(service).role == "service"
    for html in (
        ada.get("/access/"),
        ada.get(page),
        ada.get("/access/tokens/"),
        ada.get("/access/sources/"),
        ada.get("/account/"),
    ):
        text = html.content.decode()
        assert Markup(text).risky == []
        assert text.count("<h1>") == 1
        assert 'href="/access/"' in text


def test_a_source_is_added_and_revoked_on_the_page_and_operators_only_look(store: str) -> None:
    ada, olga = (
        signed_in("ada@admin.example", "admin"),
        signed_in("olga@shop.example", "operator", datasources=["orders-prod"]),
    )
    asked = {
        "name": "shop",
        "format": "events",
        "environment": "production",
        "datasource": "orders-prod",
        "asserts": ["actor", "grant"],
    }
    token = secret_in(post(ada, "/access/sources/", 200, **asked))
    source = Source.objects.get(name="shop")
    assert bytes(source.token_hash or b"") == access.token_hash(token)
    assert source.asserts == ["actor", "grant"]
    post(ada, "/access/sources/", 200, **asked | {"name": "hr", "datasource": "hr-prod"})
    assert olga.get("/access/")["Location"] == "/access/sources/"
    seen = olga.get("/access/sources/").content.decode()
    assert "<td>shop</td>" in seen
    assert "hr-prod" not in seen
    assert "Add the source" not in seen
    post(olga, "/access/sources/", 403, **asked | {"name": "mine"})
    post(olga, "/access/sources/", 403, do="revoke", name="shop")
    post(ada, "/access/sources/", 422, **asked | {"name": "x", "asserts": ["everything"]})
    post(ada, "/access/sources/", 302, do="revoke", name="shop")
    source.refresh_from_db()
    assert source.revoked_at is not None
    assert recorded()[0]["decision"]["subject"] == "source shop"


def test_a_person_makes_and_revokes_tokens_changes_the_password_and_sees_what_they_read(store: str) -> None:
    user = story.person(datasources=["orders-prod"])
    client = Client()
    client.force_login(user)
    token = secret_in(
        post(client, "/account/", 200, do="token", name="<b>laptop</b>", datasources="orders-prod", days="7")
    )
    assert bearing(token).get("/api/v1/events").status_code == 200
    post(client, "/account/", 422, do="token", name="wide", datasources="hr-prod")
    post(client, "/account/", 400, do="token", name="long", days="9999")
    client.get("/search?q=ticket:OPS-42")
    page = client.get("/account/").content.decode()
    assert "&lt;b&gt;laptop&lt;/b&gt;" in page
    assert token not in page
    for told in ("/search", "ticket:OPS-42", "orders-prod", "/api/v1/events"):
        assert told in page, told
    number = ApiToken.objects.get().pk
    stranger = signed_in("eve@audit.example", "auditor")
    assert stranger.post(f"/access/tokens/{number}/revoke/").status_code == 404
    assert client.post(f"/access/tokens/{number}/revoke/")["Location"] == "/account/"
    assert bearing(token).get("/api/v1/events").status_code == 401
    post(client, "/account/", 422, do="password", old="wrong", new="another long enough one")
    post(client, "/account/", 422, do="password", old=story.PASSWORD, new="short")
    post(client, "/account/", 302, do="password", old=story.PASSWORD, new="another long enough one")
    user.refresh_from_db()
    assert user.check_password("another long enough one")
    assert client.get("/account/").status_code == 200, "the session in which it was changed goes on"


def test_an_api_token_opens_no_page_of_access_so_that_a_narrow_one_makes_no_wider_one(store: str) -> None:
    admin = story.person("ada@admin.example", "admin")
    program = bearing(token_of(admin, datasources=("orders-prod",)))
    whole = bearing(token_of(admin))
    for path in ("/account/", "/access/", "/access/tokens/", "/access/sources/", f"/access/seats/{admin.pk}/"):
        assert program.get(path).status_code == 403
        assert whole.get(path).status_code == 403
    assert whole.post("/account/", {"do": "token", "name": "wide"}).status_code == 403
    assert ApiToken.objects.count() == 2


def test_a_database_whose_name_holds_a_comma_or_a_space_is_written_on_a_line_of_its_own(store: str) -> None:
    names = ["orders, old", "hr prod"]
    ada, page = signed_in("ada@admin.example", "admin"), "/access/"
    post(ada, page, 200, email="dana@shop.example", role="security", datasources="\r\n".join([*names, "", names[0]]))
    dana = User.objects.get(email="dana@shop.example")
    assert dana.datasources == names
    page = f"/access/seats/{dana.pk}/"
    shown = re.search(r'<textarea[^>]*name="datasources"[^>]*>([^<]*)</textarea>', ada.get(page).content.decode())
    assert shown is not None
    post(ada, page, 302, do="change", role="operator", datasources=shown[1])
    assert User.objects.get(pk=dana.pk).datasources == names, "what the form shows is what it is sent"
    given = {
        "name": "pager",
        "kind": "mail",
        "address": "oncall@shop.example",
        "severity": "low",
        "is_on": "1",
        "reason": "x",
    }
    post(ada, "/findings/receivers/", 200, **given, datasources="\n".join(names))
    assert Receiver.objects.get().datasources == sorted(names)
