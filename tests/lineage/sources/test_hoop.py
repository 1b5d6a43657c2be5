"""hoop: sessions with input, exit code, guardrails and reviews, from the API and from hooks."""

from __future__ import annotations

import json
from typing import Any

from lineage.events import Event, Quarantined, Skipped
from tests.lineage.sources.golden import one, parse

SESSION: dict[str, Any] = {
    "id": "5b8c7f1e-0001", "org_id": "o", "user": "dana@shop.example", "user_id": "u-1", "user_name": "Dana Reyes", "identity_type": "user",
    "connection": "orders-prod", "type": "database", "subtype": "postgres", "verb": "exec", "status": "done", "exit_code": 0,
    "script": {"data": "UPDATE customers SET email = 'x' WHERE id = 4711"}, "start_date": "2026-11-21T01:41:00.5Z",
    "end_date": "2026-11-21T01:41:02Z", "correlation_id": "run-7", "event_stream": [[0.1, "o", "Uk9XUw=="]],
    "review": {"id": "rev-1", "type": "onetime", "status": "EXECUTED", "review_groups_data": [
        {"group": "dba", "status": "APPROVED", "reviewed_by": {"id": "u-2", "name": "Omar", "email": "omar@shop.example"},
         "review_date": "2026-11-21T01:40:30Z"}]},
}  # fmt: skip
HOOK = {
    "id": "hook-1", "sid": "5b8c7f1e-0002", "command": [], "event_session_open": {
        "verb": "exec", "connection_name": "orders-prod", "connection_type": "database", "connection_subtype": "postgres",
        "input": "DELETE FROM orders WHERE id = 9", "user_email": "dana@shop.example"},
}  # fmt: skip
CLOSED = {"id": "hook-2", "sid": "5b8c7f1e-0002", "event_session_close": {"exit_code": 1, "output": "SECRET RESULT"}}


def of(record: Any, **options: Any) -> Any:
    return one("hoop", json.dumps(record).encode(), **options)


def test_a_session_tells_who_ran_what_and_who_approved_it() -> None:
    found = of(SESSION)
    assert (found.kind, found.op, found.class_, found.verdict) == ("query", "update", "write", "approved")
    assert (found.actor.id, found.actor.name, found.actor.type, found.actor.db_user) == (
        "dana@shop.example",
        "Dana Reyes",
        "human",
        None,
    )
    assert (found.approval.request_id, found.approval.state, found.approval.approvers, found.approval.requested_by) == (
        "rev-1", "approved", ("omar@shop.example",), "dana@shop.example",
    )  # fmt: skip
    assert found.approval.decided_at == "2026-11-21T01:40:30.000000Z"
    assert (found.duration_us, found.datasource, found.db_system) == (1_500_000, "orders-prod", "postgresql")
    assert (found.rows, found.client, found.resources) == (None, None, ())
    assert found.source_event_id == "5b8c7f1e-0001/exec/done/EXECUTED"


def test_the_verdict_is_the_strongest_thing_that_happened() -> None:
    cases = [
        ({"guardrails_info": [{"rule_name": "no-drop", "direction": "input"}]}, "blocked"),
        ({"review": {"id": "r", "status": "REJECTED", "rejection_reason": "no"}}, "blocked"),
        ({"review": {"id": "r", "status": "PENDING"}, "status": "open", "exit_code": None}, "pending"),
        ({"exit_code": 2}, "error"), ({"review": None}, "allowed"), ({"review": None, "exit_code": -100}, "unknown"),
        ({"review": None, "status": "open", "exit_code": None, "end_date": None}, "unknown"),
    ]  # fmt: skip
    assert [of({**SESSION, **changes}).verdict for changes, _ in cases] == [verdict for _, verdict in cases]
    blocked = of({**SESSION, **cases[0][0], "ai_analysis": {"risk_level": "high", "action": "block_execution"}})
    assert [(p.id, p.rule, p.effect) for p in blocked.policy] == [
        ("hoop-guardrails", "no-drop", "block"), ("hoop-analysis", "high", "block_execution"),
    ]  # fmt: skip


def test_another_reading_of_a_session_is_the_same_though_its_recording_grew() -> None:
    first, again = (
        of(SESSION),
        of({**SESSION, "event_stream": [[0.1, "o", "Uk9XUw=="], [0.2, "o", "TU9SRQ=="]], "event_size": 9}),
    )
    assert (first.source_event_id, first.origin.sha256) == (again.source_event_id, again.origin.sha256)
    assert of({**SESSION, "exit_code": 1}).origin.sha256 != first.origin.sha256


def test_a_connected_session_is_a_session_and_a_machine_is_a_service() -> None:
    found = of({**SESSION, "verb": "connect", "script": None, "review": None, "identity_type": "machine"})
    assert (found.kind, found.session.phase, found.actor.type, found.statement) == ("session", "end", "service", None)
    assert of({**SESSION, "verb": "connect", "status": "open", "end_date": None}).session.phase == "start"


def test_hooks_tell_the_input_and_the_exit_and_the_output_is_never_kept() -> None:
    opened, closed = of(HOOK), of(CLOSED)
    assert (opened.kind, opened.op, opened.actor.id, opened.session_id) == (
        "query",
        "delete",
        "dana@shop.example",
        "5b8c7f1e-0002",
    )
    assert (opened.occurred_at, opened.occurred_at_quality, opened.verdict) == (None, "unknown", "unknown")
    assert (closed.kind, closed.session.close_reason, closed.verdict) == ("session", "exit code 1", "error")
    assert "SECRET" not in repr(closed)


def test_what_is_no_database_is_skipped_and_what_is_no_session_is_kept_aside() -> None:
    assert isinstance(of({**SESSION, "type": "application"}), Skipped)
    assert isinstance(of({"id": "x"}), Quarantined)
    deep = b'{"id": "1", "verb": ' + b"[" * 10_000 + b"]" * 10_000 + b"}"
    outputs = parse(
        "hoop", b"\n".join([json.dumps(SESSION).encode(), deep, b'{"id": NaN}', b'{"id":"1","id":"2"}', b"\xff{}"])
    )
    assert [type(o) for o in outputs] == [Event] + [Quarantined] * 4


def test_a_script_of_a_megabyte_with_a_nul_and_lost_bytes_is_cut_and_said() -> None:
    long = of({**SESSION, "script": {"data": "SELECT '" + "x" * 1_000_000}})
    assert (long.statement.state, "truncated" in long.flags) == ("truncated", True)
    assert "nul_removed" in of({**SESSION, "script": {"data": "SELECT '\0'"}}).flags
    assert "invalid_utf8" in one("hoop", json.dumps(SESSION).encode().replace(b"4711", b"\xff")).flags
    assert of({**SESSION, "exit_code": 10**40, "start_date": "9999-12-31T23:59:59-14:00"}).occurred_at is None
