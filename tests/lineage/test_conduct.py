"""How an identity behaves: rights held against rights used, and acts unlike what it did before, each with its numbers."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from lineage import queries, words
from lineage.access import Viewer
from lineage.events import format_time
from lineage.queries.conduct import usual_hours
from tests import story
from tests.lineage.test_pages import Markup, page, plain, signed_in

pytestmark = pytest.mark.slow

ALL = Viewer("alice@audit.example", "auditor")
TODAY = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
DANA = "dana@shop.example"


def grant(grantee: str, relation: str, privilege: str) -> dict[str, Any]:
    return {"grantee": grantee, "schema": "public", "relation": relation, "privilege": privilege}


def twelve_days_and_a_night() -> None:
    """Twelve days of reading a customer at ten o'clock; then at night a whole table, a new table, and an update without a grant."""
    desk = story.source()
    days = [
        story.query(f"d{n}", TODAY - dt.timedelta(days=n, hours=-10), story.DANA,
                    f"SELECT name FROM public.customers WHERE id = {n}", "read", rows={"returned": 1 + n % 2})
        for n in range(3, 15)
    ]  # fmt: skip
    night = TODAY - dt.timedelta(days=1, hours=-3)
    state = {
        "roles": [{"name": "dana", "login": True, "member_of": ["support"]}, {"name": "support", "member_of": ["readers"]},
                  {"name": "readers"}, {"name": "omar", "login": True}],
        "grants": [grant("readers", "customers", "SELECT"), grant("support", "customers", "UPDATE"), grant("dana", "orders", "SELECT"),
                   grant("dana", "orders", "DELETE"), grant("public", "news", "SELECT"), grant("omar", "salaries", "SELECT"),
                   grant("dana", "orders", "TRIGGER")],
    }  # fmt: skip
    story.send(
        desk, *days,
        story.query("n1", night, story.DANA, "SELECT name FROM public.customers", "read", rows={"returned": 4_000}),
        story.query("n2", night, story.DANA, "SELECT 1 FROM public.orders", "read", rows={"returned": 1}),
        story.query("n3", night, story.DANA, "UPDATE public.notes SET body = '' WHERE id = 1", "update", rows={"affected": 1}),
        story.query("n4", night, story.DANA, "SELECT 1 FROM public.salaries", "read", verdict="blocked"),
        {"kind": "state", "source_event_id": "s", "occurred_at": format_time(TODAY - dt.timedelta(days=2)), "state": state},
    )  # fmt: skip


def test_rights_held_stand_beside_rights_used(store: str) -> None:
    twelve_days_and_a_night()
    rights = queries.conduct(ALL, DANA)["rights"]
    assert {row["relation"]: (row["rights"], row["via"]) for row in rights["never_used"]} == {
        "public.customers": (["UPDATE"], ["support"]),
        "public.orders": (["DELETE"], ["itself"]),
        "public.news": (["SELECT"], ["public"]),
    }
    assert [(row["relation"], row["right"], row["count"]) for row in rights["without_grant"]] == [
        ("public.notes", "UPDATE", 1)
    ]
    assert rights["held"] == 5
    nobody = queries.conduct(ALL, DANA, queries.Window(until=TODAY - dt.timedelta(days=5)))["rights"]
    assert not nobody["is_known"]
    assert nobody["unknown"] == ["orders-prod"]


def test_rights_on_two_tables_of_one_name_are_told_apart_by_their_schemas(store: str) -> None:
    at = TODAY - dt.timedelta(hours=1)
    sales = grant("dana", "orders", "SELECT") | {"schema": "sales"}
    state = {"roles": [{"name": "dana", "login": True}],
             "grants": [sales, grant("dana", "notes", "SELECT"), grant("dana", "notes", "UPDATE")]}  # fmt: skip
    story.send(
        story.source(),
        {"kind": "state", "source_event_id": "s", "occurred_at": format_time(at - dt.timedelta(hours=1)), "state": state},
        story.query("q1", at, story.DANA, "SELECT 1 FROM public.orders", "read"),
        story.query("q2", at, story.DANA, "SELECT 1 FROM notes", "read"),
    )  # fmt: skip
    rights = queries.conduct(ALL, DANA)["rights"]
    assert [(row["relation"], row["rights"]) for row in rights["never_used"]] == [
        ("public.notes", ["UPDATE"]),
        ("sales.orders", ["SELECT"]),
    ]
    assert [row["relation"] for row in rights["without_grant"]] == ["public.orders"]


def test_unusual_acts_say_their_numbers_and_what_they_are_measured_against(store: str) -> None:
    twelve_days_and_a_night()
    window = queries.Window(since=TODAY - dt.timedelta(days=2))
    unusual = queries.conduct(ALL, DANA, window)["unusual"]
    assert (unusual["base_acts"], unusual["base_days"], unusual["judged_acts"]) == (12, 12, 3)
    assert [row["relation"] for row in unusual["first_tables"]] == ["public.notes", "public.orders"]
    assert unusual["usual_hours"] == [10]
    assert [row["count"] for row in unusual["odd_hours"]] == [3]
    assert [(row["rows"], row["usual"], row["base"]) for row in unusual["many_rows"]] == [(4_000, 1.5, 12)]
    auditor = signed_in(story.person())
    html = page(auditor, f"/identities/{DANA}/?since={TODAY - dt.timedelta(days=2):%Y-%m-%d}")
    assert Markup(html).risky == []
    text = plain(html)
    for said in (
        "Usual: 10–11 UTC.",
        "4,000 rows of",
        "the median of its 12 statements there before is 1.5",
        "none of the 12 accesses before",
        "Held and not used (3 tables)",
        "Used without a known grant (1)",
        "90 days before: 12 accesses on 12 days",
    ):
        assert said in text, said
    assert "Nothing can be compared" in plain(
        page(auditor, f"/identities/{DANA}/?until={TODAY - dt.timedelta(days=13):%Y-%m-%d}")
    )


def test_what_is_out_of_scope_is_no_base_and_no_identity(store: str) -> None:
    twelve_days_and_a_night()
    bounded = Viewer("eve@audit.example", "auditor", from_at=TODAY - dt.timedelta(days=2))
    assert queries.conduct(bounded, DANA)["unusual"]["base_acts"] == 0
    page(signed_in(story.person("eve@other.example", datasources=["other-prod"])), f"/identities/{DANA}/", 404)


def test_an_hour_is_usual_only_after_five_days() -> None:
    def acts(days: int, *hours: int) -> list[dict[str, Any]]:
        return [
            {"hour": TODAY - dt.timedelta(days=day) + dt.timedelta(hours=hour)} for day in range(days) for hour in hours
        ]

    assert usual_hours(acts(4, 9)) == []
    assert usual_hours([*acts(5, 9, 10), {"hour": TODAY + dt.timedelta(hours=23)}]) == [9, 10]
    assert words.hours_of_day([8, 9, 14]) == "08–10, 14–15 UTC"
    assert words.hours_of_day([]) == ""
