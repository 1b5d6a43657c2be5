"""A real gateway, its events and the log of the real database behind it: one act, one person, and what went around is found."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from lineage import health, ingest, queries
from lineage.access import Viewer
from lineage.models import Gateway, GatewayDatabase, Source
from tests.enforcement.gateway.fixtures import *  # noqa: F403
from tests.enforcement.gateway.running import Running, until

pytestmark = pytest.mark.slow
ALL = Viewer(email="audit@example.test", role="auditor")
LONG_AGO = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def lines(gateway: Running) -> list[dict[str, Any]]:
    """What the server logged of the gateway's database."""
    found = []
    for path in sorted(Path(gateway.shop.cluster.log_dir).glob("*.json")):
        found += [json.loads(line) for line in path.read_text().split("\n") if line.endswith("}")]
    return [line for line in found if line.get("dbname") == gateway.shop.name]


def send(source: Source, items: list[dict[str, Any]]) -> None:
    """As collectors do, numbered from 1."""
    told = [json.dumps({"sequence": n, "position": str(n), "record": item}) for n, item in enumerate(items, 1)]
    accepted = ingest.accept(source, "\n".join(told).encode(), feed=True)
    assert accepted.count("quarantined") == 0, accepted.items


def test_what_ran_through_the_gateway_is_its_persons_and_what_went_around_is_a_finding(
    store: str, gateway: Running, settings: Any
) -> None:
    if not gateway.shop.cluster.has_pgaudit:
        pytest.skip("needs pgAudit")
    settings.COVERAGE_GRACE_SECONDS = 0  # the clocks are one
    gateway.rules()
    since = dt.datetime.now(dt.UTC)
    with gateway.connect("dana@shop.example", application_name="desk") as client:
        client.execute("set touchstone.ticket = 'OPS-42'")
        client.execute("update customers set name = 'through' where id = 1")
        client.execute("select name from customers where id = 1").fetchall()
    gateway.shop.run("update customers set name = 'around' where id = 2")
    gateway.shop.run("select 'the end'")
    until(lambda: any("the end" in line.get("message", "") for line in lines(gateway)))
    until(lambda: len(gateway.events(kind="query")) >= 2)
    (ours,) = gateway.queries("'through'")
    datasource = ours["datasource"]
    gate = Source.objects.create(name="gate", format="gateway", environment="production")
    log = Source.objects.create(name="log", format="postgres-jsonlog", environment="production", datasource=datasource)
    send(log, lines(gateway))
    send(gate, gateway.events())

    rows = queries.events(ALL, "kind:query op:update", limit=100).items
    told = {row["source"]: row for row in rows if "'through'" in row["statement"]}
    assert (told["gate"]["flags"], told["log"]["flags"]) == ([], ["seen_by_gateway"])
    for name in ("who_id", "attribution", "transaction_id", "session", "ticket", "attribution_index"):
        assert told["log"][name] == told["gate"][name], name
    assert (told["log"]["who_id"], told["log"]["attribution"], told["log"]["ticket"]) == (
        "dana@shop.example", "gateway", "OPS-42",
    )  # fmt: skip
    assert told["gate"]["transaction_id"]
    (around,) = [row for row in rows if "'around'" in row["statement"]]
    assert (around["who_id"], around["flags"]) == ("postgres", [])
    session = queries.session(ALL, told["gate"]["session"])
    assert [step["source"] for step in session["steps"] if step["op"] == "update"] == ["gate"]
    assert session["session"]["writes"] == 1

    declared = Gateway.objects.create(source=gate, name="gw", seen_at=since)
    GatewayDatabase.objects.create(
        gateway=declared, name="shop", datasource=datasource, environment="production", required_since=since
    )
    now = dt.datetime.now(dt.UTC)
    health.beat(
        gate,
        last_sequence=len(gateway.events()),
        position="",
        reported_at=now,
        detail={"spooled": len(gateway.events())},
    )
    health.look(LONG_AGO, now + dt.timedelta(hours=1))
    found = [f["sentence"] for f in queries.findings(ALL).items if f["rule"] == "around-the-gateway"]
    (act,) = [sentence for sentence in found if "Transaction" in sentence]
    assert (
        f"Transaction {around['transaction_id']} in session {around['session'].partition('~')[2]} of {datasource}: postgres"
        in act
    )
    assert "public.customers" in act
    assert not any(sentence.startswith("app ") for sentence in found), "what the gateway opened itself is known"
