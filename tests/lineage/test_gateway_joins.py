"""What a gateway's record names: the person of its transaction's changes and of its session's lines, each act once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lineage import queries
from lineage.models import Identity, Source
from tests.lineage.test_queries import ALL, Feed, emit, feed, seal_now, settle, value

pytestmark = pytest.mark.slow

__all__ = ["feed", "settle"]
AGENT: dict[str, Any] = {
    "actor": {"id": "report-bot", "name": "Report bot", "email": "bot@shop.example", "type": "agent", "db_user": "app"},
    "on_behalf_of": {"id": "dana@shop.example"}, "agent": {"id": "report-bot", "name": "report-bot", "run_id": "run-7"},
    "purpose": "monthly figures", "ticket": "OPS-42",
}  # fmt: skip
UPDATE = "update customers set email = 'b@x' where id = 4711"


@pytest.fixture
def gate(feed: Feed) -> Callable[..., int]:
    """Sends a statement as the gateway tells it."""
    source = Source.objects.create(name="gate", format="gateway", environment="prod")

    def send(text: str, xid: str | None = None, **fields: Any) -> int:
        base: dict[str, Any] = {
            "kind": "query", "op": "update", "verdict": "allowed", "datasource": "orders", "session_id": "gw-1", "db_session_id": "s-1",
            "statement": {"text": text, "state": "whole"}, "correlation_id": f"st-{feed.count}.1", **AGENT,
        }  # fmt: skip
        return feed.send(source, **(base | ({"transaction": {"id": xid}} if xid else {}) | fields))

    return send


def changed() -> dict[str, Any]:
    (found,) = queries.row(ALL, "orders", "public.customers", "4711")["changed"]
    return dict(found)


@pytest.mark.parametrize("first", ["gateway", "change"])
def test_a_change_takes_the_person_of_the_gateways_query_whichever_side_comes_first(
    feed: Feed, gate: Callable[..., int], settle: Callable[[str], None], first: str
) -> None:
    Identity.objects.create(
        datasource="orders", db_user="app", person_id="app", name="App", type="service", as_of="2026-01-01T00:00Z"
    )
    sent = {"gateway": lambda: gate(UPDATE, "77", rows={"affected": 1}), "change": lambda: feed.change("77")}
    places = {}
    for name in sorted(sent, key=lambda name: name != first):
        places[name] = sent[name]()
        settle("early")
    feed.statement(UPDATE, user="app", xid="77", session="s-1")
    feed.claim("77", "mallory@shop.example")
    settle("late")
    row = changed()
    assert {name: row[name] for name in ("who_id", "who_type", "on_behalf_of", "agent_id", "agent_run", "purpose", "ticket")} == {
        "who_id": "report-bot", "who_type": "agent", "on_behalf_of": "dana@shop.example", "agent_id": "report-bot",
        "agent_run": "run-7", "purpose": "monthly figures", "ticket": "OPS-42",
    }  # fmt: skip
    assert (row["attribution"], row["attribution_index"], row["session"], row["db_user"]) == (
        "gateway", places["gateway"], "orders~gw-1", "app",
    )  # fmt: skip


def test_the_gateway_outranks_a_claim_that_a_listed_login_made(
    feed: Feed, gate: Callable[..., int], settle: Callable[[str], None]
) -> None:
    feed.claim("78", "omar@shop.example", ticket="OPS-9")
    feed.statement(emit("omar@shop.example", ticket="OPS-9"), user="orders_api", xid="78", session="s-1", op="read")
    settle("early")
    feed.change("78")
    gate(UPDATE, "78", ticket=None)
    settle("late")
    row = changed()
    assert (row["who_id"], row["attribution"], row["on_behalf_of"]) == ("report-bot", "gateway", "dana@shop.example")
    assert row["ticket"] == "OPS-9"


def test_a_service_behind_the_gateway_may_say_for_whom_it_works(feed: Feed, gate: Callable[..., int]) -> None:
    feed.claim("79", "omar@shop.example")
    feed.statement(emit("omar@shop.example"), user="orders_api", xid="79", session="s-1", op="read")
    feed.change("79")
    gate(UPDATE, "79", actor={"id": "orders-api", "type": "service"}, on_behalf_of=None, agent=None)
    assert (changed()["who_id"], changed()["on_behalf_of"]) == ("orders-api", "omar@shop.example")


@pytest.mark.parametrize(
    ("who", "flags"), [("report-bot", []), ("bot@shop.example", []), ("boss@shop.example", ["suspected_forgery"])]
)
def test_the_gateways_own_identity_message_is_vouched_for_and_anothers_is_a_forgery(
    feed: Feed, gate: Callable[..., int], who: str, flags: list[str]
) -> None:
    feed.claim("80", who)
    feed.statement(emit(who), user="app", xid="80", session="s-1", op="read")
    feed.change("80")
    gate(UPDATE, "80")
    assert (changed()["who_id"], changed()["flags"]) == ("report-bot", flags)


def test_lines_of_a_session_that_the_gateway_names_are_its_persons_and_of_another_are_not(
    feed: Feed, gate: Callable[..., int], settle: Callable[[str], None]
) -> None:
    mine = feed.statement("select 1 from customers", user="app", session="s-1", op="read")
    other = feed.statement("select 1 from customers", user="app", session="s-2", op="read")
    settle("early")
    named = gate("select 1 from customers", op="read", ticket=None)
    gate("select 2 from customers", op="read", ticket="OPS-42")
    settle("late")
    rows = {row["index"]: row for row in queries.events(ALL, "kind:query op:read").items}
    assert (rows[mine]["who_id"], rows[mine]["attribution"], rows[mine]["attribution_index"]) == (
        "report-bot", "gateway", named,
    )  # fmt: skip
    assert (rows[mine]["session"], rows[mine]["ticket"], rows[mine]["flags"]) == (
        "orders~gw-1",
        None,
        ["seen_by_gateway"],
    )
    assert (rows[other]["who_id"], rows[other]["attribution"], rows[other]["flags"]) == ("app", "db_login", [])


def test_a_change_whose_query_lost_its_transaction_id_is_joined_through_the_session_of_its_line(
    feed: Feed, gate: Callable[..., int]
) -> None:
    gate(UPDATE, flags=["answer_lost"])
    feed.statement(UPDATE, user="app", xid="81", session="s-1")
    feed.change("81")
    assert (changed()["who_id"], changed()["attribution"]) == ("report-bot", "gateway")


def test_statements_of_one_transaction_with_different_tickets_leave_its_changes_without_one(
    feed: Feed, gate: Callable[..., int]
) -> None:
    gate("select 1 from orders", "82", op="read", ticket="OPS-1")
    gate(UPDATE, "82", ticket="OPS-2")
    feed.change("82")
    assert changed()["ticket"] == "OPS-2"
    gate("delete from customers where id = 5", "82", op="delete", ticket="OPS-3")
    assert (changed()["ticket"], changed()["who_id"]) == (None, "report-bot")


def test_a_transaction_that_two_people_are_named_for_is_nobodys(feed: Feed, gate: Callable[..., int]) -> None:
    gate(UPDATE, "83")
    gate(UPDATE, "83", actor={"id": "omar@shop.example", "type": "human"}, session_id="gw-2", db_session_id="s-9")
    feed.change("83")
    assert changed()["attribution"] != "gateway"


def test_the_logs_line_of_what_the_gateway_told_is_one_act_and_one_finding(
    feed: Feed, gate: Callable[..., int], settle: Callable[[str], None]
) -> None:
    grant = {"op": "privilege", "command": "GRANT", "class": "privilege"}
    feed.statement("grant select on customers to omar", user="app", session="s-1", xid="84", **grant)
    settle("early")
    gate("grant select on customers to omar", "84", **grant)
    feed.statement("grant all on customers to omar", user="app", session="s-1", xid="85", **grant)
    settle("late")
    seal_now()
    session = queries.session(ALL, "orders~gw-1")
    assert (session["session"]["statements"], session["lines"]) == (1, 2)
    assert [step["source"] for step in session["steps"]] == ["gate"]
    found = [f for f in queries.findings(ALL).items if f["rule"] == "privilege-change"]
    assert len(found) == 2, "the second grant is told by the log alone, and not lost"
    assert queries.overview(ALL)["accesses"] == 1


def test_what_a_function_did_inside_a_statement_counts_for_itself(feed: Feed, gate: Callable[..., int]) -> None:
    gate("select f()", op="procedural")
    feed.statement("select f()", user="app", session="s-1", op="procedural")
    nested = feed.send(
        feed.log, kind="query", op="delete", verdict="allowed", actor={"db_user": "app"}, db_session_id="s-1",
        correlation_id="s-1/1.2", resources=[{"schema": "public", "relation": "customers"}], key=[value("id", "1")],
    )  # fmt: skip
    rows = {row["index"]: row for row in queries.events(ALL, "op:delete").items}
    assert (rows[nested]["who_id"], rows[nested]["flags"]) == ("report-bot", [])
    assert queries.overview(ALL)["accesses"] == 2


def test_rows_that_the_gateway_saw_in_a_result_were_read_by_key(
    feed: Feed, gate: Callable[..., int], settle: Callable[[str], None]
) -> None:
    feed.change("90", key="1")
    keys = [[value("id", "4711")], [value("id", "4712")]]
    seen = gate(
        "select email from customers where city = 'Bern'", op="read", rows={"returned": 2},
        resources=[{"schema": "public", "relation": "customers", "access": "read"}],
        effects=[{"verb": "read", "schema": "public", "relation": "customers", "columns": ["email"], "keys": keys}],
    )  # fmt: skip
    settle("late")
    row = queries.row(ALL, "orders", "public.customers", "4712")
    assert ([r["index"] for r in row["read"]], row["could_have_read"]) == ([seen], [])
    touches = queries.touches(ALL, "relation:customers op:read").items
    assert sorted((t["key"], t["provenance"]) for t in touches) == [("4711", "reported"), ("4712", "reported")]


def test_a_refusal_says_whether_a_guardrail_the_gateway_or_the_database_refused(
    feed: Feed, gate: Callable[..., int]
) -> None:
    blocked = {
        "verdict": "blocked",
        "error": {"code": "42501"},
        "resources": [{"schema": "public", "relation": "orders"}],
    }
    gate(
        "drop table orders",
        op="ddl",
        policy=[{"id": "guardrails", "version": "0", "rule": "no-drop", "effect": "block"}],
        **blocked,
    )
    gate(
        "select 1 from orders",
        op="read",
        policy=[{"id": "guardrails", "version": "0", "rule": "", "effect": "allow"}],
        **blocked,
    )
    feed.statement("select 1 from orders", user="app", session="s-1", op="read", **blocked)
    gate("", kind="session", op="session", session={"phase": "failed"}, statement=None, db_session_id=None, verdict="blocked",
         error={"code": "28000"})  # fmt: skip
    said = [f["sentence"] for f in queries.findings(ALL).items if f["rule"] == "refused"]
    assert said == [
        "Report bot was refused by the gateway: a connection, no table named.",
        "Report bot was refused by the database: read, public.orders.",
        "Report bot was refused by the guardrail no-drop: ddl, public.orders.",
    ]
