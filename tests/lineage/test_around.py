"""What went around a gateway that a database requires is found, once, when both sides have told; nothing else is."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from lineage import checkpoints, health, queries, segments
from lineage.models import Gateway, GatewayDatabase, Source
from tests.lineage.test_health import ALL, Shop, told

pytestmark = pytest.mark.slow

RULE = "around-the-gateway"


class Guarded(Shop):
    """The shop behind a gateway, through which everybody but the collector and the migrations must go."""

    def __init__(self) -> None:
        super().__init__()
        gate = Source.objects.create(name="gate", format="gateway", environment="prod")
        self.sources["gate"] = gate
        self.gateway = Gateway.objects.create(source=gate, name="gw", seen_at=dt.datetime.now(dt.UTC))
        self.declared = GatewayDatabase.objects.create(
            gateway=self.gateway, name="shop", datasource="orders", environment="prod",
            required_since=self.started - dt.timedelta(minutes=1), other_accounts=["migrator", "collector"],
        )  # fmt: skip

    def statement(self, seconds: float, xid: str | None = None, session: str = "s1") -> int:
        return self.send(
            "gate", seconds, kind="query", op="update", verdict="allowed", datasource="orders", session_id="gw-1",
            db_session_id=session, actor={"id": "dana@shop.example", "type": "human", "db_user": "bob"},
            **({"transaction": {"id": xid}} if xid else {}),
        )  # fmt: skip

    def begun(self, seconds: float, user: str, session: str, app: str = "psql", ip: str = "10.1.4.9") -> int:
        return self.send(
            "log", seconds, kind="session", op="session", verdict="allowed", session={"phase": "start"},
            actor={"db_user": user}, db_session_id=session, client={"ip": ip, "app": app},
        )  # fmt: skip

    def beat(self, spooled: int | None = None) -> None:
        last = self.numbers.get("gate", 0)
        health.beat(
            self.sources["gate"], last_sequence=last, position="", reported_at=dt.datetime.now(dt.UTC),
            detail={"spooled": last if spooled is None else spooled},
        )  # fmt: skip

    def later(self, seconds: float = 60) -> None:
        """All three have told of something after everything else."""
        super().later(seconds)
        self.statement(seconds, f"9{seconds:.0f}")
        self.beat()


@pytest.fixture
def shop(store: str) -> Guarded:
    return Guarded()


def around() -> list[dict[str, Any]]:
    return [custody for custody in told("finding") if custody["subject"] == RULE]


@pytest.mark.parametrize("where", ["tail", "sealed"])
def test_a_change_that_no_statement_of_the_gateway_names_is_found_with_rows_table_and_login(
    shop: Guarded, where: str
) -> None:
    shop.statement(1, "500")
    shop.change(1, "500")
    shop.change(2, "501")
    shop.change(2, "501")
    shop.send(
        "log", 2, kind="query", op="update", command="UPDATE", verdict="allowed", actor={"db_user": "mallory"}, db_session_id="s7",
        correlation_id="s7/1.1", transaction={"id": "501"}, client={"ip": "10.9.9.9", "app": "psql"},
        resources=[{"schema": "public", "relation": "orders"}], statement={"text": "update orders set v = 1", "state": "whole"},
    )  # fmt: skip
    shop.later()
    if where == "sealed":
        checkpoints.checkpoint()
        segments.seal()
    shop.look()
    (found,) = around()
    assert (found["first"], found["count"]) == ("s7", 2)
    assert "mallory from 10.9.9.9 (psql) changed 2 rows of public.orders" in found["detail"]
    shop.look(7200)
    assert len(around()) == 1
    (item,) = [f for f in queries.findings(ALL).items if f["rule"] == RULE]
    assert (item["severity"], item["datasource"]) == ("high", "orders")
    assert {c.state for c in queries.events(ALL).coverage if c.source == "wal"} == {"unknown"}, (
        "no source is less complete"
    )


def test_nothing_is_judged_before_the_gateway_has_told_beyond_it(shop: Guarded) -> None:
    shop.statement(0.5, "400")
    shop.change(2, "501")
    Shop.later(shop)
    shop.look()
    assert around() == [], "the gateway is away since before the change"
    shop.beat(spooled=9)
    shop.look(3700)
    assert around() == [], "it is back, with records that wait in its spool"
    shop.statement(2, "501")
    shop.statement(60, "960")
    shop.beat()
    shop.look(3800)
    assert around() == []


def test_a_quiet_gateway_has_told_up_to_its_heartbeat(shop: Guarded) -> None:
    shop.change(2, "501")
    Shop.later(shop)
    shop.look()
    assert around() == []
    shop.beat()
    shop.look(3700)
    assert {finding["first"] for finding in around()} >= {"501"}


def test_a_transaction_is_the_gateways_through_the_session_of_its_line_too(shop: Guarded) -> None:
    shop.statement(1, session="s1")
    shop.line(2, "update orders set v = 1", "501")
    shop.change(2, "501")
    shop.later()
    shop.look()
    assert around() == []


@pytest.mark.parametrize(
    "why", ["an account of its own", "before it was required", "not required", "the gateway is gone"]
)
def test_who_may_go_around_is_not_found(shop: Guarded, why: str) -> None:
    login = "migrator" if why == "an account of its own" else "mallory"
    if why == "before it was required":
        GatewayDatabase.objects.update(required_since=shop.started + dt.timedelta(seconds=30))
    if why == "not required":
        GatewayDatabase.objects.update(required_since=None)
    if why == "the gateway is gone":
        Source.objects.filter(name="gate").update(revoked_at=dt.datetime.now(dt.UTC))
    shop.begun(1, login, "s7")
    shop.send("log", 2, kind="query", op="update", command="UPDATE", verdict="allowed", actor={"db_user": login},
              db_session_id="s7", correlation_id="s7/1.1", transaction={"id": "501"},
              resources=[{"schema": "public", "relation": "orders"}], statement={"text": "update orders set v = 1"})  # fmt: skip
    shop.change(2, "501")
    shop.later()
    shop.look()
    assert around() == []


def test_a_logged_write_without_captured_change_and_a_mere_session_are_found_too(shop: Guarded) -> None:
    shop.begun(1, "bob", "s1")
    shop.begun(1, "omar", "s8")
    shop.begun(3, "omar", "s9")
    shop.begun(1, "mallory", "s7")
    shop.send("log", 2, kind="query", op="ddl", command="ALTER TABLE", verdict="allowed", actor={"db_user": "mallory"},
              db_session_id="s7", correlation_id="s7/1.1", resources=[{"schema": "public", "relation": "orders"}])  # fmt: skip
    shop.later()
    shop.look()
    found = {finding["first"]: finding["detail"] for finding in around()}
    assert set(found) == {"s7", "s8"}
    assert "mallory ALTER TABLE on public.orders" in found["s7"]
    assert "omar from 10.1.4.9 (psql) reached orders around the gateway: 2 sessions" in found["s8"]


def test_many_at_once_are_named_and_the_rest_counted(shop: Guarded) -> None:
    for number in range(25):
        shop.change(2, str(600 + number))
    shop.later()
    shop.look()
    assert len(around()) == 21
    assert "5 more transactions" in around()[-1]["detail"]


def test_the_gateways_own_sessions_are_known_by_what_it_told_and_by_no_name_that_anybody_can_give(
    shop: Guarded,
) -> None:
    for session, phase in (("s2", "start"), ("s2", "end")):
        shop.send(
            "gate", 2, kind="session", op="session", datasource="orders", session_id=f"own-{session}", db_session_id=session,
            session={"phase": phase}, actor={"id": "gateway gw", "type": "system", "db_user": "bob"},
        )  # fmt: skip
    explained = {}
    for session, login, ip in (("s2", "bob", "10.0.0.2"), ("s3", "bob", "10.0.0.2"), ("s4", "gateway", "10.0.0.2")):
        shop.begun(1, login, session, "touchstone-gateway plan", ip)
        explained[session] = shop.send(
            "log", 2, kind="query", op="update", command="UPDATE", verdict="allowed", actor={"db_user": login}, db_session_id=session,
            correlation_id=f"{session}/1.1", client={"ip": ip, "app": "touchstone-gateway plan"}, rows={"affected": 5000},
            resources=[{"schema": "public", "relation": "orders"}], statement={"text": "explain update orders set v = 1", "state": "whole"},
        )  # fmt: skip
    shop.later()
    shop.look()
    assert {finding["first"] for finding in around()} == {"s3", "s4"}
    rows = {row["index"]: row for row in queries.events(ALL, "kind:query op:update").items}
    own = rows[explained["s2"]]
    assert (own["who_id"], own["who_type"], own["flags"]) == ("gateway gw", "system", ["seen_by_gateway"])
    assert rows[explained["s3"]]["who_id"] == "bob"
    bulk = {item["who_id"] for item in queries.findings(ALL).items if item["rule"] == "bulk-change"}
    assert bulk == {"bob", "gateway"}, "the gateway's question changed nothing"


def test_one_session_with_its_transactions_is_one_finding_that_names_both(shop: Guarded) -> None:
    shop.begun(1, "omar", "s8")
    for xid in ("501", "502"):
        shop.send("log", 2, kind="query", op="update", command="UPDATE", verdict="allowed", actor={"db_user": "omar"},
                  db_session_id="s8", correlation_id=f"s8/{xid}.1", transaction={"id": xid}, client={"ip": "10.9.9.9", "app": "psql"},
                  resources=[{"schema": "public", "relation": "orders"}], statement={"text": "update orders set v = 1"})  # fmt: skip
        shop.change(2, xid)
    shop.later()
    shop.look()
    (found,) = around()
    assert (found["first"], found["count"]) == ("s8", 2)
    assert "Transactions 501, 502 in session s8 of orders: omar from 10.9.9.9 (psql) changed 2 rows" in found["detail"]


def test_a_session_that_writes_after_it_was_found_stays_one_finding_which_says_so(shop: Guarded) -> None:
    shop.begun(1, "omar", "s8")
    shop.later()
    shop.look()
    shop.send("log", 70, kind="query", op="update", command="UPDATE", verdict="allowed", actor={"db_user": "omar"},
              db_session_id="s8", correlation_id="s8/1.1", transaction={"id": "501"},
              resources=[{"schema": "public", "relation": "orders"}], statement={"text": "update orders set v = 1"})  # fmt: skip
    shop.change(70, "501")
    shop.later(120)
    shop.look(3700)
    assert [finding["first"] for finding in around()] == ["s8", "s8"]
    (item,) = [f for f in queries.findings(ALL).items if f["rule"] == RULE]
    assert "Transaction 501 in session s8" in item["sentence"]
    assert item["sentence"].endswith("It went on, and was told 2 times.")
