"""Entries as events: nothing that a session tells is left out, and the store takes every one."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from enforcement import shipper
from enforcement.gateway import entries, events
from lineage.events import Approval, Effect, Event, Parameter, Policy, Resource, Value
from tests.enforcement.gateway.recorded import FACTS, began, ended, refused
from tests.lineage.sources.golden import one

LONG = "select '" + "é" * 40_000 + "'"


def taken(event: Event) -> Event:
    """The event as the store has it after it came in a feed. Fails when the store does not take it."""
    line = b'{"sequence":5,%b}\n' % shipper.item(event.source_event_id or "", events.encode(event))
    found = one("gateway", line, feed=True)
    assert isinstance(found, Event), found
    return found


def plain(value: Any) -> Any:
    """As JSON has it."""
    return msgspec.json.decode(msgspec.json.encode(value))


def test_everything_that_a_statement_tells_is_in_its_event() -> None:
    effect = Effect(verb="update", schema="public", relation="orders", columns=("note",))
    keyed = msgspec.structs.replace(effect, keys=((Value(column="id", value="7"),),))
    begun = began(
        "st-1", correlation_id="text-1.2", parameters=(Parameter(position=1, value="7"),), fingerprint="f00",
        purpose="monthly report", ticket="OPS-42", run_id="r9", tool_call_id="t3", verdict="approved",
        policy=(Policy(id="guardrails", version="3", rule="bulk", effect="approve"),),
        approval=Approval(request_id="ask-1", state="approved", approvers=("omar@shop.example",), requested_by="dana@shop.example"),
        resources=(Resource(database="shop", schema="public", relation="orders", kind="table", columns=("note",), access="write"),),
        effects=(effect,), flags=("assumed_resolution",),
    )  # fmt: skip
    closed = ended(
        begun, rows_returned=0, rows_affected=3, bytes_returned=120, masked={"iban": 2, "email": 5}, masked_columns=("email",),
        effects=(keyed,), outcome="committed", flags=("recorded_late",),
    )  # fmt: skip
    found = taken(events.answered(events.asked(begun), closed))
    assert plain(msgspec.structs.replace(found, origin=None)) == {
        "kind": "query", "class": "write", "sequence": 5, "occurred_at": "2026-11-18T11:06:41.500000Z",
        "occurred_at_quality": "source", "source_event_id": "st-1", "correlation_id": "text-1.2",
        "actor": {"id": "dana@shop.example", "email": "dana@shop.example", "type": "human", "db_user": "app", "roles": ["support"]},
        "on_behalf_of": {"id": "lea@shop.example", "type": "human"}, "delegation": [{"id": "report-bot", "type": "agent"}],
        "agent": {"id": "report-bot", "name": "report-bot", "version": "2", "run_id": "r9", "tool_call_id": "t3"},
        "client": {"app": "psql", "ip": "192.0.2.7", "port": 50123, "host": "desk"},
        "purpose": "monthly report", "ticket": "OPS-42", "datasource": "orders", "db_system": "postgresql", "database": "shop",
        "session_id": "s-1", "db_session_id": "69200000.1f4", "transaction": {"id": "77", "outcome": "committed"},
        "verdict": "approved", "policy": [{"id": "guardrails", "version": "3", "rule": "bulk", "effect": "approve"}],
        "approval": {"request_id": "ask-1", "state": "approved", "approvers": ["omar@shop.example"],
                     "requested_by": "dana@shop.example"},
        "masked": {"columns": ["email"], "types": [{"name": "email", "count": 5}, {"name": "iban", "count": 2}]},
        "op": "update", "command": "UPDATE", "rows": {"returned": 0, "affected": 3}, "bytes_returned": 120, "duration_us": 1500,
        "resources": [{"database": "shop", "schema": "public", "relation": "orders", "kind": "table", "columns": ["note"],
                       "access": "write"}],
        "flags": ["assumed_resolution", "recorded_late"],
        "statement": {"text": "update orders set note = 'st-1'", "length": 31, "state": "whole", "redaction": "none",
                      "sha256": hashlib.sha256(b"update orders set note = 'st-1'").hexdigest(), "fingerprint": "f00"},
        "parameters": [{"position": 1, "value": "7"}],
        "effects": [{"verb": "update", "schema": "public", "relation": "orders", "columns": ["note"],
                     "keys": [[{"column": "id", "value": "7"}]]}],
    }  # fmt: skip


def test_what_is_unknown_is_absent_and_not_zero() -> None:
    closed = ended(began("a"), rows_affected=None, transaction_id=None)
    found = plain(taken(events.answered(events.asked(began("a")), closed)))
    assert not {"rows", "bytes_returned", "transaction", "masked", "error", "approval", "effects"} & found.keys()


def test_purpose_and_ticket_of_the_session_hold_where_the_statement_names_none() -> None:
    found = taken(events.asked(began("a")))
    assert (found.purpose, found.ticket) == ("support", "OPS-1")
    assert found.agent is not None
    assert found.agent.run_id == "r0"


def test_a_run_that_a_comment_names_makes_an_agent_where_there_was_none() -> None:
    person = msgspec.structs.replace(FACTS, agent=None)
    found = taken(events.asked(began("a", session=person, run_id="r9")))
    assert plain(found.agent) == {"run_id": "r9"}
    assert taken(events.asked(began("a", session=person))).agent is None


@pytest.mark.parametrize(
    ("decided", "answer", "verdict"),
    [
        ("allowed", {}, "allowed"),
        ("allowed", {"masked": {"email": 1}}, "masked"),
        ("approved", {"masked": {"email": 1}}, "approved"),
        ("masked", {}, "masked"),
        ("allowed", {"error_code": "23505"}, "error"),
        ("approved", {"error_code": "57014"}, "error"),
        ("allowed", {"error_code": "42501"}, "blocked"),
        ("allowed", {"error_code": "28000"}, "blocked"),
        ("unknown", {}, "unknown"),
        ("approved", {"error_code": "08006", "flags": ("answer_lost",)}, "approved"),
    ],
)
def test_the_gravest_verdict_counts(decided: Any, answer: dict[str, Any], verdict: str) -> None:
    begun = began("a", verdict=decided)
    found = taken(events.answered(events.asked(begun), ended(begun, **answer)))
    assert found.verdict == verdict
    assert (found.error.code if found.error else None) == answer.get("error_code")


def test_a_refusal_tells_what_was_asked_and_what_the_client_read() -> None:
    found = taken(events.refused(refused("r")))
    assert (found.verdict, found.op, found.command, found.duration_us) == ("blocked", "ddl", "DROP TABLE", 1000)
    assert found.error is not None
    assert (found.error.code, found.error.message) == ("42501", "No table is dropped here.")
    assert found.statement is not None
    assert found.statement.text == "drop table orders"
    assert found.transaction is None
    assert found.rows is None


def test_a_session_is_told_at_its_start_and_its_end() -> None:
    start = taken(events.session_began(entries.SessionBegan(session=FACTS)))
    end = taken(
        events.session_ended(
            entries.SessionEnded(session=FACTS, at=FACTS.started_at + 2.5, close_reason="killed by carol")
        )
    )
    assert [e.source_event_id for e in (start, end)] == ["s-1.start", "s-1.end"]
    assert [(e.session.phase, e.session.auth_method, e.session.mfa) for e in (start, end) if e.session] == [
        ("start", "touchstone-token", True), ("end", "touchstone-token", True),
    ]  # fmt: skip
    assert (start.verdict, end.verdict, end.duration_us) == ("allowed", None, 2_500_000)
    assert end.session is not None
    assert (end.session.started_at, end.session.ended_at) == (
        "2026-11-18T11:06:40.250000Z",
        "2026-11-18T11:06:42.750000Z",
    )
    assert end.session.close_reason == "killed by carol"
    for event in (start, end):
        assert (event.actor, event.on_behalf_of, event.delegation) == (
            FACTS.actor,
            FACTS.on_behalf_of,
            FACTS.delegation,
        )
        assert (event.session_id, event.db_session_id, event.op) == ("s-1", "69200000.1f4", "session")


def test_who_did_not_get_in_is_told_with_the_reason() -> None:
    nobody = entries.SessionFacts(
        session_id="s-2", started_at=FACTS.started_at, datasource="orders", database="shop", actor=entries.Actor(type="unknown"),
        client=FACTS.client,
    )  # fmt: skip
    found = taken(
        events.session_failed(
            entries.SessionFailed(session=nobody, at=FACTS.started_at, sqlstate="28000", sentence="Expired.")
        )
    )
    assert (found.verdict, found.source_event_id) == ("blocked", "s-2.failed")
    assert found.session is not None
    assert found.session.phase == "failed"
    assert found.error is not None
    assert (found.error.code, found.error.message) == ("28000", "Expired.")
    assert found.client == FACTS.client


def test_a_long_statement_is_cut_with_its_length_and_hash() -> None:
    found = taken(events.asked(began("a", statement=LONG)))
    assert found.statement is not None
    assert (found.statement.state, found.statement.length) == ("truncated", len(LONG.encode()))
    assert found.statement.sha256 == hashlib.sha256(LONG.encode()).hexdigest()
    assert len((found.statement.text or "").encode()) <= 1024


def test_text_that_is_not_valid_is_replaced_and_said() -> None:
    begun = began("a", statement="select '\udcff'")
    closed = ended(begun, error_code="22021", error_message="invalid byte \udce9\0")
    found = taken(events.answered(events.asked(begun), closed))
    assert found.error is not None
    assert found.error.message == "invalid byte \ufffd\u2400"
    assert "invalid_utf8" in found.flags


def test_parameters_are_told_as_text_binary_in_hexadecimal_and_null_as_null() -> None:
    found = entries.parameters([b"7", None, b"\x00\x01", "é".encode()], [0, 0, 1, 0])
    assert [(p.position, p.state, p.value) for p in found] == [
        (1, "present", "7"), (2, "null", None), (3, "present", "\\x0001"), (4, "present", "é"),
    ]  # fmt: skip
    assert [p.value for p in entries.parameters([b"a", b"b"], [1])] == ["\\x61", "\\x62"]
    assert [p.value for p in entries.parameters([b"a", b"b"], [])] == ["a", "b"]


def test_long_parameters_are_cut_one_by_one_and_all_together() -> None:
    found = entries.parameters([b"x" * 20_000, b"y" * 300_000, b"z"], [])
    assert [(p.state, len(p.value or "")) for p in found] == [("truncated", 1024), ("truncated", 0), ("truncated", 0)]
    assert len(taken(events.asked(began("a", parameters=found))).parameters) == 3


TEXT = some.text(some.characters(exclude_categories=[]), max_size=100)
MAYBE = some.none() | TEXT
COUNT = some.none() | some.integers(0, 2**53 - 1)


@given(some.data())
@settings(max_examples=40, deadline=None)
def test_the_store_takes_whatever_a_session_tells(data: some.DataObject) -> None:
    begun = began(
        data.draw(some.uuids()).hex, statement=data.draw(TEXT), purpose=data.draw(MAYBE), ticket=data.draw(MAYBE),
        run_id=data.draw(MAYBE), command=data.draw(TEXT), fingerprint=data.draw(MAYBE), flags=(data.draw(TEXT),),
        parameters=entries.parameters(data.draw(some.lists(some.none() | some.binary(max_size=9), max_size=3)), []),
        effects=(Effect(verb="read", relation=data.draw(MAYBE), keys=((Value(column=data.draw(TEXT), value=data.draw(MAYBE)),),)),),
    )  # fmt: skip
    closed = ended(
        begun, rows_returned=data.draw(COUNT), error_code=data.draw(some.none() | some.just("22021")), error_message=data.draw(MAYBE),
        masked=data.draw(some.dictionaries(TEXT, some.integers(0, 9), max_size=2)), at=begun.at + data.draw(some.floats(-5, 1e9)),
    )  # fmt: skip
    found = taken(events.answered(events.asked(begun), closed))
    assert (found.source_event_id, found.kind) == (begun.id, "query")
    assert found.duration_us is not None
    assert found.duration_us >= 0
