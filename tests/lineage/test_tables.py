"""A table's page: who touched which column, who held which right when, and who could but never did."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.test import Client

from lineage import access, queries
from lineage.events import format_time
from lineage.models import Source, Tag
from tests import story
from tests.lineage.test_custody_pages import page, signed_in
from tests.lineage.test_pages import NOW, Markup, plain

pytestmark = pytest.mark.slow

AUDITOR = access.Viewer("a@example.org", "auditor")
TABLE = "/tables/orders-prod/public.customers/"


def state(minutes: int, grants: list[dict[str, Any]], roles: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "kind": "state", "source_event_id": f"state-{minutes}", "occurred_at": format_time(NOW - dt.timedelta(minutes=minutes)),
        "datasource": "orders-prod", "state": {"roles": roles, "grants": grants,
            "keys": [{"schema": "public", "relation": "customers", "owner": "shop_owner", "columns": ["id"]}]},
    }  # fmt: skip


def may(grantee: str, privilege: str, **more: Any) -> dict[str, Any]:
    return {"grantee": grantee, "privilege": privilege, "schema": "public", "relation": "customers", **more}


@pytest.fixture
def auditor(store: str) -> Client:
    story.tell(NOW)
    roles = [
        {"name": "dana", "login": True, "member_of": ["readers"]}, {"name": "intern", "login": True, "member_of": ["readers"]},
        {"name": "readers", "login": False}, {"name": "boss", "login": True, "superuser": True},
        {"name": "shop_owner", "login": True}, {"name": "nobody", "login": True},
    ]  # fmt: skip
    desk = Source.objects.get(name="desk")
    story.send(
        desk,
        state(120, [may("nobody", "SELECT", column="email")], roles),
        state(30, [may("readers", "SELECT"), {"grantee": "intern", "role": "readers"}], roles),
    )
    Tag.objects.create(datasource="orders-prod", relation="public.customers", column="email", classes=["email"], by="x")
    return signed_in("auditor")


def test_who_could_but_never_did_is_named_with_the_role_it_goes_through(auditor: Client) -> None:
    html = page(auditor, TABLE)
    text = plain(html)
    assert Markup(html).risky == []
    assert "4 logins could act here; 3 of them were not seen here in this window" in text
    assert "internSELECTmember of readerscould, and was not seen here" in text.replace(" intern", "intern")
    assert "bosseverythingsuperuser" in text
    assert "the table belongs to shop_owner" in text


def test_who_held_which_right_is_answered_for_a_time(auditor: Client) -> None:
    an_hour_ago = f"{NOW - dt.timedelta(minutes=60):%Y-%m-%dT%H:%M:%S}"
    text = plain(page(auditor, f"{TABLE}?held={an_hour_ago}"))
    assert "nobodySELECT (email)its own grant" in text
    assert "member of readers" not in text
    assert "Rights unknown" in plain(page(auditor, f"{TABLE}?held=2001-01-01"))
    page(auditor, f"{TABLE}?held=some-day", 400)
    now = queries.holders(AUDITOR, "orders-prod", "public.customers")
    assert [one["login"] for one in now["people"]] == ["boss", "dana", "intern", "shop_owner"]


def test_a_column_has_its_classes_and_its_readers(auditor: Client) -> None:
    html = page(auditor, f"{TABLE}?column=email")
    assert "tag%3Aemail" in html
    text = plain(html[html.index('id="column"') : html.index('id="held"')])
    assert "Dana Reyes" in text
    assert "Omar" not in text
    other = page(auditor, f"{TABLE}?column=phone")
    assert "Dana Reyes" not in plain(other[other.index('id="column"') : other.index('id="held"')])


def test_another_team_learns_nothing_of_rights_and_columns(auditor: Client) -> None:
    stranger = access.Viewer("s@example.org", "auditor", datasources=("warehouse",))
    assert queries.column(stranger, "orders-prod", "public.customers", "email") == {"readers": [], "writers": []}
    page(signed_in("auditor", datasources=["warehouse"]), f"{TABLE}?column=email&held=1h", 404)
