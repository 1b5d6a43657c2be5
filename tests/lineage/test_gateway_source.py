"""The format `gateway`: what the gateway saw it may say without further right, and nothing else."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from lineage import ingest, queries
from lineage.access import Viewer
from lineage.events import STORE_ONLY_DECISIONS, Event, Quarantined
from lineage.models import Source
from tests.lineage.sources.golden import one

pytestmark = pytest.mark.slow

ALL = Viewer(email="audit@example.test", role="auditor")
QUERY: dict[str, Any] = {
    "kind": "query", "source_event_id": "st-1", "op": "update", "occurred_at": "2026-11-21T01:49:32.009748Z",
    "actor": {"id": "dana@shop.example", "type": "human", "db_user": "app"}, "transaction": {"id": "77"},
    "on_behalf_of": {"id": "lea@shop.example"}, "agent": {"id": "bot", "run_id": "r1"}, "verdict": "approved",
    "policy": [{"id": "guardrails", "version": "3", "rule": "bulk", "effect": "approve"}],
    "approval": {"request_id": "ask-1", "state": "approved", "approvers": ["omar@shop.example"]}, "datasource": "orders",
}  # fmt: skip


def of(**changes: Any) -> Any:
    return one("gateway", json.dumps({**QUERY, **changes}).encode())


def test_sessions_statements_and_what_it_says_of_its_own_feed_are_taken() -> None:
    assert isinstance(of(), Event)
    assert of(kind="session", op="session", session={"phase": "failed"}).session.phase == "failed"
    assert of(kind="custody", op=None, custody={"type": "gap"}).custody.type == "gap"
    line = b'{"sequence": 4, "position": "4", "record": ' + json.dumps(QUERY).encode() + b"}\n"
    assert one("gateway", line, feed=True).sequence == 4


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("decision", {"decision": {"type": "approval", "decided_by": "omar@shop.example"}}),
        ("change", {}),
        ("state", {"state": {"mode": "snapshot"}}),
    ],
)
def test_what_it_cannot_have_seen_is_kept_out(kind: str, part: dict[str, Any]) -> None:
    refused = of(kind=kind, op=None, **part)
    assert isinstance(refused, Quarantined)
    assert refused.code == "not-seen"
    assert json.loads(refused.body)["kind"] == kind


@pytest.mark.parametrize("kind", sorted(STORE_ONLY_DECISIONS))
def test_what_only_the_store_writes_is_kept_out(kind: str) -> None:
    assert of(kind="decision", op=None, decision={"type": kind}).code == "store-only"


def test_its_token_alone_lets_it_name_person_approval_and_policy(store: str) -> None:
    out = StringIO()
    call_command("source", "add", "gate", "--format", "gateway", "--environment", "prod", stdout=out)
    gate = Source.objects.get(name="gate")
    assert (out.getvalue().startswith("tsi_"), gate.asserts) == (True, [])
    accepted = ingest.accept(gate, json.dumps([QUERY, {**QUERY, "kind": "change", "source_event_id": "x"}]).encode())
    assert [item.status for item in accepted.items] == ["accepted", "quarantined"]
    (row,) = queries.events(ALL, "verdict:approved policy:bulk approval:approved").items
    assert (row["who_id"], row["on_behalf_of"], row["attribution"], row["environment"]) == (
        "dana@shop.example", "lea@shop.example", "gateway", "prod",
    )  # fmt: skip
    assert row["flags"] == []
