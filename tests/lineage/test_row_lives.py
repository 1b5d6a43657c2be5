"""A row's life: under every key that it had, deleted and inserted again, and as it was at any moment."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.test import Client

from lineage import access, queries
from tests import story
from tests.lineage.test_custody_pages import page, signed_in
from tests.lineage.test_pages import NOW, Markup, plain

pytestmark = pytest.mark.slow

AUDITOR = access.Viewer("a@example.org", "auditor")
ROW = "/tables/orders-prod/public.accounts/rows"


def at(minutes: int) -> dt.datetime:
    return NOW - dt.timedelta(minutes=minutes)


def change(minutes: int, key: str, op: str, before: str | None, after: str | None, **more: Any) -> dict[str, Any]:
    images = {name: {"id": key, "owner": value} for name, value in (("before", before), ("after", after)) if value}
    return story.change(f"c{minutes}", at(minutes), story.OMAR, "accounts", key, op, **images, **more)


@pytest.fixture
def auditor(store: str) -> Client:
    """7 is made, changed, becomes 8, is changed, deleted, and 8 is inserted again; 7 is used for another row."""
    rename = {"old_key": [{"column": "id", "value": "7"}]}
    story.send(
        story.source(),
        change(60, "7", "insert", None, "ann"),
        change(50, "7", "update", "ann", "bea"),
        change(40, "8", "update", "bea", "cleo", **rename),
        change(35, "7", "insert", None, "another"),
        change(30, "8", "update", "cleo", "dora"),
        change(20, "8", "delete", "dora", None),
        change(10, "8", "insert", None, "eve"),
        story.query("scan", at(5), story.DANA, "SELECT owner FROM public.accounts WHERE owner LIKE 'a%'", "read"),
        story.query("copy", at(4), story.DANA, "COPY public.accounts TO STDOUT", "export"),
    )
    return signed_in("auditor")


def test_the_keys_that_a_row_had_before_are_followed_and_no_further(auditor: Client) -> None:
    found = queries.row(AUDITOR, "orders-prod", "public.accounts", "8")
    assert found["names"] == ["8", "7"]
    assert [(e["op"], e["key"]) for e in found["earlier"]] == [("update", "7"), ("insert", "7")]
    states = [(v["deleted"], v["again"], v["row"]["owner"]["value"]) for v in found["versions"]]
    assert [s[:2] for s in states] == [
        (False, True),
        (True, False),
        (False, False),
        (False, False),
        (False, False),
        (False, False),
    ]
    assert [s[2] for s in states][2:] == ["dora", "cleo", "bea", "ann"]
    old = queries.row(AUDITOR, "orders-prod", "public.accounts", "7")
    assert [v["renamed_to"] for v in old["versions"]] == [None, "8", None, None]
    assert old["versions"][0]["row"]["owner"]["value"] == "another"
    text = plain(page(auditor, f"{ROW}/8/"))
    assert "Before that it had the key 7: 2 changes more." in text
    assert "Its key changed: 7 → 8" in text


@pytest.mark.parametrize(
    ("minutes", "expected"), [(55, "ann"), (45, "bea"), (39, "cleo"), (25, "dora"), (15, "Deleted at"), (1, "eve")]
)
def test_the_row_is_shown_as_it_was_at_any_time_without_a_script(auditor: Client, minutes: int, expected: str) -> None:
    html = page(auditor, f"{ROW}/8/?time={at(minutes):%Y-%m-%dT%H:%M:%S}")
    card = plain(html[html.index("As it was") : html.index("Read by its key")])
    shown = card[card.index("At ") :]
    assert expected in shown
    assert not [
        name for name in ("ann", "bea", "cleo", "dora", "eve") if name in shown and name != expected and minutes != 15
    ]


def test_before_the_first_known_change_and_before_anything_was_known(auditor: Client) -> None:
    assert "Nothing is known of this row then" in page(auditor, f"{ROW}/8/?time=2001-01-01")
    story.send(
        story.source("wal"),
        story.change("u", NOW, story.OMAR, "notes", "1", "update", before={"t": "old"}, after={"t": "new"}),
    )
    html = page(auditor, "/tables/orders-prod/public.notes/rows/1/?at=original")
    assert "Before the first known change" in html
    assert ">old<" in html[html.index("As it was") :]
    page(auditor, f"{ROW}/8/?time=yesterday-ish", 400)


def test_the_versions_are_walked_by_links(auditor: Client) -> None:
    seen, address = [], f"{ROW}/8/"
    for _ in range(6):
        html = page(auditor, address)
        seen.append(html.count('rel="prev"'))
        earlier = [a for a in Markup(html).links if "at=" in a and a.endswith("#as-it-was")]
        address = f"{ROW}/8/{earlier[0].partition('#')[0]}"
    assert seen == [1, 1, 1, 1, 1, 0]


def test_what_could_have_read_a_row_says_why(auditor: Client) -> None:
    found = queries.row(AUDITOR, "orders-prod", "public.accounts", "8")
    assert [e["why"] for e in found["could_have_read"]] == ["an export of the table", "no condition that fixes the key"]
    assert "an export of the table" in page(auditor, f"{ROW}/8/")


def test_a_truncate_ends_every_row_that_was_known(auditor: Client) -> None:
    wiped = story.change("t", NOW, story.OMAR, "accounts", "x", "truncate")
    del wiped["key"]
    story.send(story.source("wal"), wiped)
    assert queries.row(AUDITOR, "orders-prod", "public.accounts", "8")["versions"][0]["deleted"] is True


@pytest.mark.parametrize("name", ['"; drop', "a/b", "50%2Foff", "tä ble", "x/rows/y"])
def test_a_table_of_any_name_has_its_pages(auditor: Client, name: str) -> None:
    from django.urls import reverse

    item = story.change("h", NOW, story.OMAR, name, "k/1", "insert", after={"id": "k/1"})
    story.send(story.source("odd", datasource="d/b%"), item)
    html = page(auditor, reverse("row", args=["d/b%", f"public.{name}", "k/1"]))
    assert "Changed 1 time" in plain(html)
    if name != "x/rows/y":
        assert "written by 1 identity" in page(auditor, reverse("table", args=["d/b%", f"public.{name}"]))


def test_a_statement_that_waits_for_a_decision_neither_changed_nor_read_a_row(auditor: Client) -> None:
    def held(minutes: int, sql: str, op: str) -> dict[str, Any]:
        request = {"request_id": f"r-{minutes}", "state": "requested", "requested_by": story.DANA["id"]}
        return story.query(f"h{minutes}", at(minutes), story.DANA, sql, op, verdict="pending", approval=request)

    story.send(
        story.source("held"),
        held(3, "UPDATE public.accounts SET owner = 'x' WHERE id BETWEEN 1 AND 9", "update"),
        held(2, "SELECT owner FROM public.accounts", "read"),
        held(1, "DELETE FROM public.accounts WHERE id = '8'", "delete"),
        story.query(
            "u",
            NOW,
            story.DANA,
            "UPDATE public.accounts SET owner = 'y' WHERE owner LIKE 'z%'",
            "update",
            verdict="approved",
        ),
    )
    found = queries.row(AUDITOR, "orders-prod", "public.accounts", "8")
    assert [e["verdict"] for e in found["uncertain"]] == ["approved"]
    assert [e["verdict"] for e in found["could_have_read"]] == ["allowed", "allowed"]
    assert [(e["op"], e["verdict"]) for e in found["refused"]] == [("delete", "pending")]
    text = plain(page(auditor, f"{ROW}/8/"))
    assert "Changed 4, and 1 write that may have" in text
    assert "refused, failed, or not decided then" in text
