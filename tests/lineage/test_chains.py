"""From intent to row and back: each step says how it is joined, and what is not known is said."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from django.test import Client
from django.urls import reverse

from lineage import access, chains, queries
from tests import story
from tests.lineage.test_custody_pages import page, signed_in
from tests.lineage.test_pages import NOW, Markup, plain

pytestmark = pytest.mark.slow

AUDITOR = access.Viewer("a@example.org", "auditor")


def joins(*start: str) -> dict[tuple[str, str], str]:
    chain = chains.build(queries.chain(AUDITOR, *start))  # type: ignore[arg-type]
    return {(line["start"].title, line["end"].title): line["join"].strength for line in chain.table}


@pytest.fixture
def told(store: str) -> dict[str, int]:
    return story.tell(NOW)


@pytest.fixture
def auditor(store: str) -> Client:
    return signed_in("auditor")


UPDATE = "UPDATE public.payments SET amount = 40.00 -- was 400 WHERE id = 9001"
WHOLE = {
    ("OPS-42", "Approved by lea@shop.example"): "asserted",
    ("Approved by lea@shop.example", "Omar Haddad"): "asserted",
    ("Omar Haddad", UPDATE): "exact",
    (UPDATE, "public.payments 9001"): "exact",
}


def test_the_way_from_request_to_row_is_the_same_from_every_end(told: dict[str, int]) -> None:
    assert joins("ticket", "OPS-42") == WHOLE
    assert joins("record", str(told["fix"])) == WHOLE
    assert joins("record", str(told["fixed"])) == WHOLE
    assert joins("record", str(told["approval"])) == WHOLE
    assert joins("row", "orders-prod", "public.payments", "9001") == WHOLE
    assert joins("session", "orders-prod~s-omar@shop.example") == WHOLE


def test_a_decision_of_another_teams_database_is_not_in_the_picture(told: dict[str, int]) -> None:
    other = story.source("hr-desk", datasource="hr-prod")
    approval = {
        "request_id": "OPS-42",
        "state": "approved",
        "approvers": ["eve@hr.example"],
        "reason": "payroll secret",
    }
    story.send(other, {
        "kind": "decision", "occurred_at": NOW.isoformat(), "source_event_id": "hr1", "ticket": "OPS-42", "approval": approval,
        "datasource": "hr-prod", "decision": {"type": "approval", "subject": "OPS-42", "decided_by": "eve@hr.example"},
    })  # fmt: skip
    narrow = access.Viewer("n@example.org", "auditor", datasources=("orders-prod",))
    for viewer, is_there in ((AUDITOR, True), (narrow, False)):
        assert ("payroll secret" in str(queries.chain(viewer, "ticket", "OPS-42"))) is is_there


def test_what_no_record_joins_is_said_and_drawn_not_left_out(told: dict[str, int]) -> None:
    found = joins("row", "orders-prod", "public.customers", "4711")
    assert found["No statement reported", "public.customers 4711"] == "none"
    assert found["No request known", "No approval known"] == "none"
    lone = story.change("n1", NOW, story.DANA, "accounts", "7", "delete")
    del lone["actor"], lone["db_session_id"]
    story.send(story.source("wal", datasource="wal-db"), lone)
    lonely = joins("row", "wal-db", "public.accounts", "7")
    assert lonely["Not attributed", "No statement reported"] == "none"


def test_a_key_that_only_a_condition_names_is_marked_as_read_from_the_statement(told: dict[str, int]) -> None:
    found = joins("record", str(told["read"]))
    assert found["SELECT id, name, email FROM public.customers WHERE id = 4711", "public.customers 4711"] == "parsed"


def test_rows_of_a_trigger_and_of_several_statements_are_joined_to_their_transaction(store: str) -> None:
    desk, transaction = story.source(), {"transaction": {"id": "55"}}
    story.send(
        desk,
        story.query("s1", NOW, story.DANA, "UPDATE public.orders SET a = 1 WHERE b = 2", "update", **transaction),
        story.query("s2", NOW, story.DANA, "UPDATE public.orders SET a = 3 WHERE b = 4", "update", **transaction),
        story.change("c1", NOW, story.DANA, "orders", "1", "update", after={"a": "1"}, **transaction),
        story.change("c2", NOW, story.DANA, "order_log", "9", "insert", after={"a": "1"}, **transaction),
    )
    chain = chains.build(queries.chain(AUDITOR, "record", "2"))
    by = {line["end"].title: line["join"].by for line in chain.table}
    assert "one of 2 statements of it that write public.orders" in by["public.orders 1"]
    assert "do not name public.order_log" in by["public.order_log 9"]


def test_a_big_session_is_folded_and_counted(store: str) -> None:
    items: list[dict[str, Any]] = []
    for n in range(40):
        transaction = {"transaction": {"id": str(n + 1)}}
        items.append(
            story.query(f"q{n}", NOW, story.API, f"DELETE FROM public.orders WHERE id = {n}", "delete", **transaction)
        )
        items.append(
            story.change(f"c{n}", NOW, story.API, "orders", str(n), "delete", before={"id": str(n)}, **transaction)
        )
    story.send(story.source(), *items)
    chain = chains.build(queries.chain(AUDITOR, "session", "orders-prod~s-orders-api"))
    assert chain.columns[3]["more statements"].title == "and 28 more statements"
    assert chain.columns[4]["more rows"].title == "and 28 more rows"
    assert chain.joins["more statements", "more rows"].strength == "exact"


def test_the_page_says_in_words_what_the_picture_shows_and_holds_nothing_that_runs(
    told: dict[str, int], auditor: Client
) -> None:
    html = page(auditor, "/lineage/ticket/OPS-42/")
    assert "<h1>OPS-42, approved by lea@shop.example</h1>" in html
    text = plain(html)
    assert "transaction 801: the only statement of it that writes public.payments" in text
    assert "told by desk" in text
    assert Markup(html).risky == []
    story.hostile(NOW)
    bad = quote(story.HOSTILE, safe="")
    for path in (
        f"/lineage/ticket/{bad}/",
        f"/lineage/session/db{bad}~{bad}/",
        reverse("row-chain", args=[f"db{story.HOSTILE}", f"public.{story.HOSTILE}", story.HOSTILE]),
    ):
        html = page(auditor, path)
        assert Markup(html).risky == [], path
        assert "<script>alert" not in html
    operator = signed_in("operator")
    assert "9001 -- was" not in page(operator, "/lineage/ticket/OPS-42/")


def test_another_team_finds_no_lineage_from_any_end(told: dict[str, int]) -> None:
    stranger = signed_in("auditor", datasources=["warehouse"])
    for path in (
        "/lineage/ticket/OPS-42/", f"/lineage/record/{told['fix']}/", f"/lineage/record/{told['approval']}/",
        "/lineage/session/orders-prod~s-omar@shop.example/", "/lineage/row/orders-prod/public.payments/rows/9001/",
        "/lineage/record/99999999999999999999/",
    ):  # fmt: skip
        assert "lea@" not in page(stranger, path, 404)
