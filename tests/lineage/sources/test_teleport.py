"""Teleport: who, on which database, by whose leave; what a session, a statement and an access request become."""

from __future__ import annotations

import json
from typing import Any

from lineage.events import Event, Quarantined, Skipped
from tests.lineage.sources.golden import one, parse

WHO: dict[str, Any] = {
    "cluster_name": "root", "user": "dana@shop.example", "user_kind": 1, "user_roles": ["dev", "db-writer"],
    "db_user": "orders_rw", "db_name": "shop", "db_service": "orders-prod", "db_protocol": "postgres",
    "db_uri": "db1.shop.example:5432", "sid": "13c04d4b-2e94-4106-a3a1-5ab8aae10465", "access_requests": ["0198-req"],
}  # fmt: skip
START = {
    **WHO, "event": "db.session.start", "code": "TDB00I", "ei": 0, "uid": "4a613b84-7315", "success": True,
    "time": "2026-11-21T01:40:00.958Z",
    "addr.remote": "10.0.0.7:52763", "postgres_pid": 32552, "with_mfa": "0b0c", "user_agent": "tsh/17.2",
    "trusted_device": {"device_id": "d-1", "asset_tag": "LAPTOP-42", "os_type": 2},
}  # fmt: skip
QUERY = {
    **WHO, "event": "db.session.query", "code": "TDB02I", "ei": 3, "uid": "c4550623-0538", "success": True, "time": "2026-11-21T01:41:00Z",
    "db_query": "UPDATE customers SET email = $1 WHERE id = 4711", "db_query_parameters": ["x@y.example"],
}  # fmt: skip
END = {**WHO, "event": "db.session.end", "code": "TDB01I", "ei": 16, "uid": "0a2387cd-3fa2", "time": "2026-11-21T01:50:00Z",
       "session_start": "2026-11-21T01:40:00.958Z", "session_stop": "2026-11-21T01:50:00Z"}  # fmt: skip
REQUEST = {"event": "access_request.create", "code": "T5000I", "uid": "68a8", "id": "0198-req", "time": "2026-11-21T01:30:00Z",
           "user": "dana@shop.example", "state": "PENDING", "roles": ["db-writer"], "reason": "OPS-42 wrong address"}  # fmt: skip
REVIEW = {"event": "access_request.review", "code": "T5002I", "uid": "68a9", "id": "0198-req", "time": "2026-11-21T01:35:00Z",
          "proposed_state": "APPROVED", "reviewer": "omar@shop.example", "reason": "go ahead"}  # fmt: skip
SPOKEN = {**WHO, "ei": 19, "time": "2026-11-21T01:42:00Z", "success": True}
PREPARED = [
    {**SPOKEN, "event": "db.session.postgres.statements.parse", "code": "TPG00I", "uid": "p1", "statement_name": "s1",
     "query": "DELETE FROM orders WHERE id = $1"},
    {**SPOKEN, "event": "db.session.postgres.statements.bind", "code": "TPG01I", "uid": "p2", "statement_name": "s1", "portal_name": "",
     "parameters": ["9"]},
    {**SPOKEN, "event": "db.session.postgres.statements.execute", "code": "TPG02I", "uid": "p3", "portal_name": ""},
]  # fmt: skip


def of(record: Any, **options: Any) -> Any:
    return one("teleport", json.dumps(record).encode(), **options)


def test_a_session_tells_who_with_what_and_which_backend_it_reached() -> None:
    found = of(START)
    assert (found.kind, found.session.phase, found.session.mfa, found.verdict) == ("session", "start", True, "allowed")
    assert (found.actor.id, found.actor.email, found.actor.type, found.actor.db_user) == (
        "dana@shop.example", "dana@shop.example", "human", "orders_rw",
    )  # fmt: skip
    assert found.actor.roles == ("dev", "db-writer")
    assert (found.client.ip, found.client.port, found.client.host, found.client.app) == (
        "10.0.0.7",
        52763,
        "LAPTOP-42",
        "tsh/17.2",
    )
    assert (found.datasource, found.database, found.db_system) == ("orders-prod", "shop", "postgresql")
    assert (found.session_id, found.db_session_id) == (WHO["sid"], "pid:32552")
    assert found.approval.request_id == "0198-req"
    end = of(END)
    assert (end.session.phase, end.session.started_at, end.session.ended_at) == (
        "end", "2026-11-21T01:40:00.958000Z", "2026-11-21T01:50:00.000000Z",
    )  # fmt: skip


def test_a_denied_session_is_blocked_and_a_failed_statement_an_error() -> None:
    denied = of(
        {**START, "code": "TDB00W", "success": False, "error": "access to db denied. User does not have permissions."}
    )
    assert (denied.verdict, denied.session.phase) == ("blocked", "failed")
    assert (
        of({"code": "TDB00W", "event": "db.session.start", "time": "2020-06-05T16:24:05Z", "uid": "68a8"}).verdict
        == "blocked"
    )
    failed = of(
        {**QUERY, "event": "db.session.query.failed", "code": "TDB02W", "success": False, "error": "connection lost"}
    )
    assert (failed.verdict, failed.error.message) == ("error", "connection lost")
    refused = of(
        {
            **QUERY,
            "event": "db.session.query.failed",
            "code": "TDB02W",
            "success": False,
            "error": "access to database denied",
        }
    )
    assert refused.verdict == "blocked"


def test_a_statement_has_text_values_and_what_its_first_word_does() -> None:
    found = of(QUERY)
    assert (found.kind, found.op, found.class_, found.command) == ("query", "update", "write", "UPDATE")
    assert [p.value for p in found.parameters] == ["x@y.example"]
    assert found.rows is None
    assert (found.occurred_at, found.source_event_id) == (
        "2026-11-21T01:41:00.000000Z",
        "c4550623-0538/db.session.query/TDB02I/3",
    )


def test_a_prepared_statement_counts_where_it_is_executed() -> None:
    parsed, bound, ran = parse("teleport", json.dumps(PREPARED).encode())
    assert [e.op for e in (parsed, bound, ran)] == ["other", "other", "delete"]
    assert (ran.statement.text, [p.value for p in ran.parameters]) == ("DELETE FROM orders WHERE id = $1", ["9"])
    alone = of(PREPARED[2])
    assert (alone.op, alone.statement, alone.command) == ("procedural", None, "EXECUTE")
    assert "previously_logged" in alone.flags


def test_who_acts_for_another_is_the_actor_and_a_bot_is_a_service() -> None:
    acting = of({**QUERY, "impersonator": "ci-signer"})
    assert (acting.actor.id, acting.on_behalf_of.id, acting.on_behalf_of.type) == (
        "ci-signer",
        "dana@shop.example",
        "human",
    )
    bot = of({**QUERY, "user": "bot-report", "user_kind": 2, "bot_name": "report"})
    assert (bot.actor.id, bot.actor.name, bot.actor.type) == ("bot-report", "report", "service")


def test_access_requests_become_a_request_and_its_decision() -> None:
    asked, decided = of(REQUEST), of(REVIEW)
    assert (asked.decision.type, asked.approval.state, asked.approval.reason) == (
        "access_request",
        "requested",
        "OPS-42 wrong address",
    )
    assert asked.approval.requested_by == "dana@shop.example"
    assert (decided.decision.type, decided.approval.state, decided.approval.approvers) == (
        "approval",
        "approved",
        ("omar@shop.example",),
    )
    assert decided.approval.decided_at == "2026-11-21T01:35:00.000000Z"
    assert of({**REVIEW, "event": "access_request.expire", "proposed_state": ""}).approval.state == "expired"


def test_accounts_that_are_made_and_rights_that_are_given_are_decisions() -> None:
    given = of({**WHO, "event": "db.session.permissions.update", "code": "TDB07I", "ei": 1, "uid": "5", "time": "2026-11-21T01:41:00Z",
                "permission_summary": [{"permission": "INSERT", "counts": {"table": 1}}]})  # fmt: skip
    assert (given.decision.type, given.decision.subject, given.decision.transition) == ("grant", "orders_rw", "INSERT")


def test_what_is_no_database_is_skipped_and_what_is_no_audit_event_is_kept_aside() -> None:
    assert isinstance(
        of({"event": "user.login", "uid": "1", "code": "T1000I", "time": "2026-11-21T01:41:00Z"}), Skipped
    )
    assert isinstance(of({"hello": 1}), Quarantined)
    deep = b'{"event": "db.session.query", "uid": "1", "args": ' + b"[" * 10_000 + b"]" * 10_000 + b"}"
    outputs = parse(
        "teleport", b"\n".join([json.dumps(QUERY).encode(), deep, b'{"uid": NaN}', b'{"uid":"1","uid":"2"}', b"\xff{}"])
    )
    assert [type(o) for o in outputs] == [Event] + [Quarantined] * 4


def test_a_statement_of_a_megabyte_with_a_nul_and_lost_bytes_is_cut_and_said() -> None:
    long = of({**QUERY, "db_query": "SELECT '" + "x" * 1_000_000})
    assert (long.statement.state, long.statement.length) == ("truncated", 1_000_008)
    assert "truncated" in long.flags
    nul = of({**QUERY, "db_query": "SELECT '\0'"})
    assert "nul_removed" in nul.flags
    assert "\u2400" in nul.statement.text
    broken = one("teleport", json.dumps(QUERY).encode().replace(b"4711", b"\xff"))
    assert "invalid_utf8" in broken.flags
    assert of({**QUERY, "ei": 10**40, "time": "not a time"}).occurred_at is None
