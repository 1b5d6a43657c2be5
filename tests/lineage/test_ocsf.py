"""OCSF: every kind of record, validated against the schema that OCSF publishes; nothing lost, nothing of another's."""

from __future__ import annotations

import datetime as dt
import functools
import json
from typing import Any

import jsonschema
import pytest
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from lineage import access, ocsf
from lineage.events import Op, Verdict
from lineage.models import ApiToken
from tests import story

CLASSES = {6005: "datastore_activity", 3002: "authentication", 0: "base_event"}
AT = dt.datetime(2026, 11, 21, 1, 49, 32, 9748, tzinfo=dt.UTC)
ROW: dict[str, Any] = {
    "index": 4, "event_id": "0198f0aa-0000-7000-8000-000000000001", "kind": "query", "class": "write", "op": "update", "command": "UPDATE",
    "occurred_at": AT, "received_at": AT, "environment": "production", "source": "desk", "datasource": "orders-prod", "database": "shop",
    "db_system": "postgresql", "who_id": "dana@shop.example", "who_name": "Dana", "who_type": "human", "on_behalf_of": "lea@shop.example",
    "agent_id": "bot", "agent_name": "report-bot", "agent_run": "r-1", "attribution": "gateway", "purpose": "fix", "ticket": "OPS-42",
    "client_app": "psql", "client_ip": "10.0.0.7", "session": "orders-prod~s1", "verdict": "approved",
    "relations": ["public.customers", "t"],
    "rows_affected": 1, "duration_us": 1500, "error_code": None, "flags": [], "statement": "update customers set email = $1", "key": None,
    "policy": [{"id": "guardrails", "version": "3", "rule": "bulk", "effect": "approve"}],
    "approval": {"request_id": "ask-1", "state": "approved"},
    "diff": [{"column": "email", "before": "a", "after": "b"}], "correlation_id": "c-1", "statement_state": "whole", "fingerprint": "f00",
}  # fmt: skip


@functools.cache
def validator(class_uid: int, profiles: tuple[str, ...]) -> jsonschema.Draft202012Validator:
    embedded = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=ocsf.VERSION))
    return jsonschema.Draft202012Validator(embedded.get_class_schema(CLASSES[class_uid], list(profiles)))


def valid(event: dict[str, Any]) -> dict[str, Any]:
    found = [
        f"{'/'.join(map(str, e.path))}: {e.message[:200]}"
        for e in validator(event["class_uid"], tuple(event["metadata"]["profiles"])).iter_errors(event)
    ]
    assert not found, found
    assert 10**12 <= event["time"] < 10**13
    assert event["type_uid"] == event["class_uid"] * 100 + event["activity_id"]
    return event


def test_an_access_is_a_datastore_activity_with_who_for_whom_what_and_by_whose_leave() -> None:
    event = valid(ocsf.event(ROW))
    assert (event["class_uid"], event["activity_id"], event["disposition_id"], event["status_id"]) == (6005, 2, 8, 1)
    assert event["actor"]["user"] == {
        "uid": "dana@shop.example",
        "name": "Dana",
        "type_id": 1,
        "email_addr": "dana@shop.example",
    }
    assert event["table"] == {"name": "public.customers", "uid": "orders-prod/public.customers"}
    assert event["query_info"] == {"query_string": "update customers set email = $1", "uid": "f00"}
    assert {e["name"]: e["value"] for e in event["enrichments"]} == {
        "on_behalf_of": "lea@shop.example", "agent_name": "report-bot", "purpose": "fix", "ticket": "OPS-42",
    }  # fmt: skip
    rest = event["unmapped"]["touchstone"]
    assert (rest["rows_affected"], rest["relations"], rest["diff"][0]["after"]) == (1, ["public.customers", "t"], "b")
    assert event["authorizations"][0]["decision"] == "approved"


@given(
    op=st.sampled_from([*Op.__args__, None]), verdict=st.sampled_from([*Verdict.__args__, None]),
    kind=st.sampled_from(["query", "change", "session", "decision", "state", "custody"]),
    gone=st.sets(st.sampled_from(sorted(set(ROW) - {"event_id", "kind", "received_at", "environment", "source", "index"}))),
    text=st.text(max_size=20), phase=st.sampled_from(["start", "end", "failed", None]),
    who=st.sampled_from(["human", "agent", "service", "x", None]),
)  # fmt: skip
def test_any_record_is_valid_whatever_is_unknown_of_it(
    op: Any, verdict: Any, kind: str, gone: set[str], text: str, phase: Any, who: Any
) -> None:
    row = ROW | {
        "op": op,
        "verdict": verdict,
        "kind": kind,
        "session_phase": phase,
        "who_type": who,
        "client_ip": text,
        "client_app": text,
    }
    row |= dict.fromkeys(gone) | ({"decision": {"type": "grant", "subject": text}} if kind == "decision" else {})
    event = valid(ocsf.event(row))
    assert set(row) - ocsf.MAPPED >= set(event["unmapped"].get("touchstone", {})) - {"time_is_received"}


@pytest.mark.slow
def test_the_api_gives_what_the_search_found_and_a_stranger_gets_nothing(store: str) -> None:
    desk = story.source()
    at = "2026-11-20T10:00:00Z"
    story.send(
        desk,
        {"kind": "query", "op": "delete", "source_event_id": "1", "occurred_at": at, "actor": story.DANA, "verdict": "blocked",
         "statement": {"text": "delete from customers where id = 4711"}, "error": {"code": "42501", "message": "permission denied"}},
        {"kind": "session", "op": "session", "source_event_id": "2", "occurred_at": at, "actor": story.BOT, "session": {"phase": "failed"}},
        {"kind": "decision", "source_event_id": "3", "actor": story.OMAR, "decision": {"type": "approval", "subject": story.HOSTILE}},
        {"kind": "change", "op": "update", "source_event_id": "4", "occurred_at": at, "key": [{"column": "id", "value": "4711"}],
         "resources": [{"schema": "public", "relation": "customers"}]},
    )  # fmt: skip
    tokens = {}
    for name, scope in (("audit", {}), ("stranger", {"datasources": ["elsewhere"]})):
        user = story.person(f"{name}@audit.example", **scope)
        ApiToken.objects.create(user=user, token_hash=access.token_hash(f"tsu_{name}"))
        tokens[name] = Client(headers={"authorization": f"Bearer tsu_{name}"})
    answer = tokens["audit"].get("/api/v1/events", {"format": "ocsf", "environment": "production"})
    assert answer.status_code == 200
    found = [valid(json.loads(line)) for line in answer.content.splitlines()]
    assert sorted(e["class_uid"] for e in found) == [0, 3002, 6005, 6005]
    refused = next(e for e in found if e["class_uid"] == 6005 and e["activity_id"] == 7)
    assert (refused["status_id"], refused["status_code"], refused["action_id"]) == (2, "42501", 2)
    assert tokens["stranger"].get("/api/v1/events", {"format": "ocsf"}).content == b""
    for path in ("/api/v1/touches", "/api/v1/sessions"):
        assert tokens["audit"].get(path, {"format": "ocsf"}).json()["code"] == "query-invalid"
