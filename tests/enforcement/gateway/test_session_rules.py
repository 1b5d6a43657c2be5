"""What a session does with decisions: refusals that leave nothing behind, caps, approvals, identity messages, reasons."""

from __future__ import annotations

import json
from typing import Any

import pytest

from enforcement.gateway import messages
from enforcement.gateway.entries import Began, Ended, Refused
from enforcement.gateway.session.outputs import Decided, Hold, ReloadCatalog, Withdraw
from tests.enforcement.gateway.stalls import Stall
from tests.enforcement.gateway.wire_scripts import H, Q, S, bind, copied, describe, execute, parse, run
from tests.enforcement.gateway.wired import Wired, identity, split

NO_DELETE = """
version = 3
[[rule]]
id = "no-delete"
title = "Nothing is deleted"
outcome = "block"
verbs = ["delete"]
hint = "Ask the shop's owner."
"""
CAP = """
version = 4
[[rule]]
id = "few-rows"
title = "At most five rows"
outcome = "limit"
verbs = ["read", "update", "insert", "export", "import"]
rows_over = 5
"""
APPROVE = """
version = 5
[[rule]]
id = "ask-first"
title = "Updates are approved"
outcome = "approve"
verbs = ["update"]
rows_over = 3
"""


def kinds(data: bytes) -> str:
    return "".join(kind for kind, _ in split(data))


def error(data: bytes) -> dict[str, str]:
    """The one error in what the client saw."""
    found = [messages.decode_error_response(body).fields for kind, body in split(data) if kind == "E"]
    assert len(found) == 1
    return found[0]


def rows(data: bytes) -> list[tuple[bytes | None, ...]]:
    return [messages.decode_data_row(body).values for kind, body in split(data) if kind == "D"]


def ready(data: bytes) -> str:
    *_, (kind, body) = split(data)
    assert kind == "Z"
    return body.decode()


def locks(stall: Stall, wired: Wired) -> int:
    """Locks on relations that the session's connection holds in the database."""
    found = stall.run(f"select count(*) from pg_locks where pid = {wired.direct.pid} and locktype = 'relation'")
    return int(found[0][0])


def test_a_refused_query_is_never_sent_and_the_client_reads_rule_object_and_hint(stall: Stall) -> None:
    wired = stall.wired(rules=NO_DELETE)
    wired.answers(Q("select 1"), 1)
    wired.sent.clear()
    seen = wired.answers(Q("select 1; delete from customers"), 1)
    fields = error(seen)
    assert (kinds(seen), ready(seen), wired.sent) == ("EZ", "I", [])
    assert (fields["C"], fields["s"], fields["t"]) == ("42501", "public", "customers")
    assert (fields["H"], "no-delete, version 3" in fields["D"]) == ("Ask the shop's owner.", True)
    refused = wired.told(Refused)[0]
    assert (refused.began.verdict, refused.sentence, refused.began.policy[0].rule) == (
        "blocked",
        fields["M"],
        "no-delete",
    )
    assert stall.run("select count(*) from customers") == [(20,)]


@pytest.mark.parametrize("script", [Q("delete from customers"), run("delete from customers") + S])
def test_a_refusal_in_a_transaction_leaves_no_lock_and_a_failed_transaction(stall: Stall, script: bytes) -> None:
    wired = stall.wired(rules=NO_DELETE)
    wired.answers(Q("begin; update customers set name = 'x' where id = 1"), 1)
    assert locks(stall, wired) > 0
    seen = wired.answers(script, 1)
    assert (error(seen)["C"], ready(seen)) == ("42501", "E")
    assert locks(stall, wired) == 0
    assert error(wired.answers(Q("select 1"), 1))["C"] == "25P02"
    assert ready(wired.answers(Q("rollback"), 1)) == "I"
    assert stall.run("select name from customers where id = 1") == [("name 1",)]
    assert len(wired.told(Refused)) == 1
    assert rows(wired.answers(Q("select count(*) from pg_prepared_statements"), 1)) == [(b"0",)]


def test_a_refusal_in_a_pipeline_comes_in_order_and_undoes_what_was_before_it(stall: Stall) -> None:
    wired = stall.wired(rules=NO_DELETE)
    script = run("select 7", described=False) + run("update customers set name = 'x' where id = 1", described=False)
    seen = wired.answers(
        script + run("delete from customers") + run("select 8") + S + run("select 9", described=False) + S, 2
    )
    assert kinds(seen) == "12DC12CEZ12DCZ"
    assert [row[0] for row in rows(seen)] == [b"7", b"9"]
    assert stall.run("select name from customers where id = 1") == [("name 1",)]
    outcomes = {entry.began.statement: entry.outcome for entry in wired.told(Ended)}
    assert outcomes["update customers set name = 'x' where id = 1"] == "rolled_back"


def test_what_stands_behind_an_error_of_the_database_is_not_refused_but_skipped(stall: Stall) -> None:
    wired = stall.wired(rules=NO_DELETE)
    seen = wired.answers(run("select * from nowhere") + run("delete from customers") + S, 1)
    assert (kinds(seen), error(seen)["C"]) == ("EZ", "42P01")
    assert wired.told(Refused) == []


def test_a_statement_is_judged_again_with_the_search_path_of_now(stall: Stall) -> None:
    stall.run("create schema attic; create table attic.customers(id int)")
    rules = NO_DELETE.replace('verbs = ["delete"]', 'verbs = ["delete"]\nrelations = ["public.*"]')
    wired = stall.wired(rules=rules)
    wired.answers(Q("set search_path = attic"), 1)
    assert kinds(wired.answers(Q("delete from customers"), 1)) == "CZ"
    assert kinds(wired.answers(parse("delete from customers", "d") + S, 1)) == "1Z"
    wired.answers(Q("set search_path = public"), 1)
    assert error(wired.answers(bind((), "", "d") + execute() + S, 1))["C"] == "42501"
    wired.answers(Q("begin; set local search_path = attic"), 1)
    assert kinds(wired.answers(Q("delete from customers"), 1)) == "CZ"
    wired.answers(Q("rollback"), 1)
    assert error(wired.answers(Q("delete from customers"), 1))["C"] == "42501"
    wired.answers(Q("begin; savepoint a; set local search_path = attic; rollback to a"), 1)
    assert error(wired.answers(Q("delete from customers"), 1))["C"] == "42501"
    assert stall.run("select count(*) from customers") == [(20,)]


def test_prepared_in_sql_or_in_the_protocol_a_statement_is_judged_when_it_is_executed(stall: Stall) -> None:
    wired = stall.wired(rules=NO_DELETE)
    assert error(wired.answers(Q("prepare gone as delete from customers"), 1) + wired.answers(Q("execute gone"), 1))
    assert error(wired.answers(parse("delete from customers", "d") + S, 1))["C"] == "42501"
    assert error(wired.answers(Q("execute d"), 1))
    assert stall.run("select count(*) from customers") == [(20,)]


def test_a_write_carries_its_identity_once_in_its_transaction(stall: Stall) -> None:
    stall.run("select pg_create_logical_replication_slot('told_" + stall.name + "', 'test_decoding')")
    wired = stall.wired()
    try:
        wired.answers(Q("set touchstone.purpose = 'stock'"), 1)
        wired.answers(Q("update customers set name = 'a' where id = 1"), 1)
        wired.answers(
            Q(
                "begin; select 1; update customers set name = 'b' where id = 1; update customers set name = 'c' where id = 2"
            ),
            1,
        )
        wired.answers(Q("commit"), 1)
        wired.answers(
            run("update customers set name = 'd' where id = 3")
            + run("update customers set name = 'd' where id = 4")
            + S,
            1,
        )
        changes = stall.run(f"select xid::text, data from pg_logical_slot_get_changes('told_{stall.name}', null, null)")
    finally:
        stall.run(f"select pg_drop_replication_slot('told_{stall.name}')")
    told = [(xid, data) for xid, data in changes if "touchstone" in data]
    assert len(told) == 3
    said = json.loads(told[0][1].split("content:", 1)[1])
    assert said == {
        "actor": "human@shop.example",
        "actor_type": "human",
        "purpose": "stock",
        "session_id": "session-00000001",
    }
    writes = [entry for entry in wired.told(Ended) if entry.began.op == "update"]
    changed = [xid for xid, data in changes if "UPDATE" in data]
    assert [entry.transaction_id for entry in writes] == changed
    assert {entry.rows_affected for entry in writes} == {1}
    assert [entry.outcome for entry in writes] == ["committed", None, None, "committed", "committed"]
    assert next(e for e in wired.told(Ended) if e.began.command == "COMMIT").transaction_id == changed[1]


def test_a_write_that_cannot_carry_its_identity_does_not_run(stall: Stall) -> None:
    stall.run("revoke execute on function pg_logical_emit_message(boolean, text, text) from public; "
             f"create role {stall.name} login; grant all on customers to {stall.name}")  # fmt: skip
    wired = stall.wired()
    try:
        wired.answers(Q(f"set role {stall.name}"), 1)
        for script in (
            Q("delete from orders; update customers set name = 'x'"),
            run("update customers set name = 'x'") + S,
        ):
            seen = wired.answers(script, 1)
            assert ("who writes" in error(seen)["M"], ready(seen)) == (True, "I")
        wired.answers(Q("begin"), 1)
        assert ready(wired.answers(Q("update customers set name = 'x'"), 1)) == "E"
        wired.answers(Q("rollback; reset role"), 1)
        assert stall.run("select count(*) from customers where name = 'x'") == [(0,)]
        assert {entry.error_code for entry in wired.told(Ended) if entry.began.op == "update"} == {"25P02"}
    finally:
        wired.direct.close()
        stall.run(f"drop owned by {stall.name}; drop role {stall.name}")


@pytest.mark.parametrize(
    "script",
    [
        Q("select * from customers"),
        run("select * from customers") + S,
        run("select * from customers", described=False) + S,
    ],
)
def test_rows_beyond_the_cap_are_not_sent_and_the_statement_is_cancelled(stall: Stall, script: bytes) -> None:
    wired = stall.wired(rules=CAP)
    seen = wired.answers(script, 1)
    assert (len(rows(seen)), error(seen)["C"], ready(seen), wired.cancels) == (5, "54000", "I", 1)
    ended = wired.told(Ended)[-1]
    assert (ended.rows_returned, ended.error_code, ended.outcome) == (5, "54000", "rolled_back")
    assert len(rows(wired.answers(Q("select * from customers limit 5"), 1))) == 5


def test_a_cap_in_a_transaction_fails_it_and_leaves_no_lock(stall: Stall) -> None:
    wired = stall.wired(rules=CAP)
    wired.answers(Q("begin"), 1)
    assert ready(wired.answers(Q("update customers set name = 'x'"), 1)) == "E"
    assert locks(stall, wired) == 0
    wired.answers(Q("rollback"), 1)
    wired.answers(Q("begin"), 1)
    assert ready(wired.answers(run("select * from customers") + S, 1)) == "E"
    assert locks(stall, wired) == 0
    assert stall.run("select count(*) from customers where name = 'x'") == [(0,)]


@pytest.mark.parametrize(
    "script",
    [
        Q("update customers set name = 'x'"),
        Q("update customers set name = 'x' where id < 3; update customers set name = 'x' where id > 10"),
        run("update customers set name = 'x'") + S,
        run("update customers set name = 'x' where id < 3")
        + run("update customers set name = 'x'")
        + run("select 1")
        + S,
        Q("copy customers(id, name) from stdin") + copied(*(f"{100 + at}\tx\n".encode() for at in range(9))),
        run("copy customers(id, name) from stdin") + S + copied(*(f"{100 + at}\tx\n".encode() for at in range(9))) + S,
    ],
)
def test_a_write_of_more_rows_than_the_cap_is_undone(stall: Stall, script: bytes) -> None:
    wired = stall.wired(rules=CAP)
    seen = wired.answers(script, 1)
    assert (error(seen)["C"], ready(seen)) == ("54000", "I")
    assert stall.run("select count(*) from customers where name = 'x'") == [(0,)]
    assert locks(stall, wired) == 0
    assert all(entry.outcome == "rolled_back" for entry in wired.told(Ended))
    assert kinds(wired.answers(Q("update customers set name = 'x' where id < 5"), 1)) == "CZ"
    assert stall.run("select count(*) from customers where name = 'x'") == [(4,)]


def answering(wired: Wired, *states: str, **more: Any) -> list[Hold]:
    """Makes the desk answer holds with these states, in turn. Returns the holds as they come."""
    held: list[Hold] = []
    left = list(states)

    def decide(hold: Hold) -> Decided:
        held.append(hold)
        state: Any = left.pop(0)
        return Decided(request_id="request-1", digest=hold.digest, state=state, by="carol@shop.example", **more)

    wired.decide = decide
    return held


@pytest.mark.parametrize(
    "script",
    [Q("update customers set name = 'x' where id < 3"), run("update customers set name = 'x' where id < $1", b"3") + S],
)
def test_a_statement_waits_for_approval_and_runs_when_sent_again(stall: Stall, script: bytes) -> None:
    wired = stall.wired(rules=APPROVE)
    held = answering(wired, "pending", "approved", row_cap=2, expires_at="2026-11-21T12:00:00.000000Z")
    fields = error(wired.answers(script, 1))
    assert "request-1" in fields["H"]
    assert stall.run("select count(*) from customers where name = 'x'") == [(0,)]
    assert (wired.told(Refused)[0].began.verdict, wired.told(Refused)[0].began.approval.state) == (
        "pending",
        "requested",
    )
    assert "E" not in kinds(wired.answers(script, 1))
    assert stall.run("select count(*) from customers where name = 'x'") == [(2,)]
    began = next(entry for entry in wired.told(Began) if entry.op == "update")
    assert (began.verdict, began.approval.approvers) == ("approved", ("carol@shop.example",))
    assert held[0].digest == held[1].digest
    assert (held[0].estimated_rows, held[0].row_cap, held[0].in_transaction, held[0].hold_until) == (7, 3, False, None)


def test_another_parameter_is_another_request(stall: Stall) -> None:
    wired = stall.wired(rules=APPROVE)
    held = answering(wired, "pending", "pending", "pending")
    for value in (b"3", b"4"):
        wired.answers(run("update customers set name = 'x' where id < $1", value) + S, 1)
    wired.answers(Q("update customers set name = 'x' where id < 3"), 1)
    assert len({hold.digest for hold in held}) == 3


def test_more_rows_than_approved_are_undone(stall: Stall) -> None:
    wired = stall.wired(rules=APPROVE)
    answering(wired, "approved", "approved", row_cap=2)
    for script in (Q("update customers set name = 'x'"), run("update customers set name = 'x'") + S):
        assert error(wired.answers(script, 1))["C"] == "54000"
    assert stall.run("select count(*) from customers where name = 'x'") == [(0,)]


def test_in_a_transaction_the_session_waits_and_the_statement_then_runs(stall: Stall) -> None:
    moment = [1000.0]
    wired = stall.wired(rules=APPROVE, clock=lambda: moment[0])
    held = answering(wired, "pending")
    wired.answers(Q("begin; select 1"), 1)
    wired.to_client = b""
    wired.perform(wired.session.from_client(Q("update customers set name = 'x' where id = 1")))
    assert (wired.to_client, wired.session.is_quiet_for_client) == (b"", True)
    assert (held[0].in_transaction, held[0].hold_until) == (True, 1060.0)
    moment[0] += 30
    wired.perform(wired.session.tick())
    assert wired.session.is_quiet_for_client
    decided = Decided(request_id="request-1", digest=held[0].digest, state="approved", by="carol@shop.example")
    wired.perform(wired.session.told(decided))
    assert kinds(wired.answers(b"", 1)) == "CZ"
    wired.answers(Q("commit"), 1)
    assert stall.run("select name from customers where id = 1") == [("x",)]


@pytest.mark.parametrize("state", ["rejected", "late"])
def test_what_nobody_approves_in_a_transaction_fails_it(stall: Stall, state: str) -> None:
    moment = [1000.0]
    wired = stall.wired(rules=APPROVE, clock=lambda: moment[0])
    held = answering(wired, "pending")
    wired.answers(Q("begin; insert into orders values(1, 1, 'x')"), 1)
    wired.perform(wired.session.from_client(Q("update customers set name = 'x' where id = 1")))
    if state == "late":
        moment[0] += 61
        wired.perform(wired.session.tick())
    else:
        wired.perform(
            wired.session.told(
                Decided(request_id="r", digest=held[0].digest, state="rejected", by="carol@x.example", reason="no")
            )
        )
    wired.to_client = b""
    seen = wired.answers(b"", 1)
    assert (error(seen)["C"], ready(seen), locks(stall, wired)) == ("42501", "E", 0)
    assert any(isinstance(asked, Withdraw) for asked in wired.questions) == (state == "late")
    assert stall.run("select count(*) from orders") == [(0,)]


def test_an_agent_writes_only_for_a_person_and_with_a_purpose(stall: Stall) -> None:
    write = Q("insert into orders values(1, 1, 'x')")
    nobody = stall.wired(who=identity("agent"))
    assert "works for nobody" in error(nobody.answers(write, 1))["M"]
    agent = stall.wired(who=identity("agent", "dana@shop.example"))
    assert "touchstone.purpose" in error(agent.answers(write, 1))["H"]
    assert rows(agent.answers(Q("select count(*) from orders"), 1)) == [(b"0",)]
    agent.answers(Q("/*purpose='restock%20now',tool_call_id='t-1'*/ insert into orders values(1, 1, 'x')"), 1)
    began = agent.told(Began)[-1]
    assert (began.purpose, began.tool_call_id, began.session.on_behalf_of.id) == (
        "restock now",
        "t-1",
        "dana@shop.example",
    )
    assert stall.run("select count(*) from orders") == [(1,)]


@pytest.mark.parametrize("extended", [False, True])
def test_the_gateways_own_settings_never_reach_the_database(stall: Stall, extended: bool) -> None:
    wired = stall.wired()
    wired.answers(Q("select 1"), 1)
    wired.sent.clear()
    text = "set touchstone.purpose = 'audit of May'"
    seen = wired.answers(run(text) + S if extended else Q(text), 1)
    assert kinds(seen) == ("12nCZ" if extended else "CZ")
    assert not any(b"touchstone.purpose" in sent for sent in wired.sent)
    wired.answers(Q("select 2"), 1)
    assert wired.told(Began)[-1].purpose == "audit of May"
    wired.answers(Q("reset touchstone.purpose"), 1)
    wired.answers(Q("select 3"), 1)
    assert wired.told(Began)[-1].purpose is None
    assert error(wired.answers(Q("set touchstone.ticket = 'x'; select 1"), 1))["C"] == "0A000"


@pytest.mark.parametrize(
    "text",
    [
        "set client_encoding = latin1",
        "set standard_conforming_strings = off",
        "select set_config('client_encoding', 'latin1', false)",
    ],
)
def test_settings_that_would_hide_later_statements_are_refused(stall: Stall, text: str) -> None:
    wired = stall.wired()
    for script in (Q(text), run(text) + S):
        assert error(wired.answers(script, 1))["C"] == "42501"
    assert rows(wired.answers(Q("show client_encoding"), 1)) == [(b"UTF8",)]


def test_a_function_that_switches_string_escapes_ends_the_session(stall: Stall) -> None:
    stall.run(
        "create function quietly() returns text language sql as $$select set_config('standard_conforming_strings', 'off', false)$$"
    )
    wired = stall.wired()
    seen = wired.answers(Q("select quietly()"), 1)
    assert error(seen)["S"] == "FATAL"
    assert wired.closed is not None


def test_a_function_call_message_is_refused(stall: Stall) -> None:
    wired = stall.wired()
    seen = wired.answers(messages.encode_function_call(1598, (), (), 0), 1)
    assert (error(seen)["C"], ready(seen)) == ("0A000", "I")
    assert [entry.began.command for entry in wired.told(Refused)] == ["FUNCTION CALL"]
    assert not any(b"\x06>" in sent for sent in wired.sent)


@pytest.mark.parametrize("in_transaction", [False, True])
@pytest.mark.parametrize("extended", [False, True])
def test_what_cannot_be_written_down_does_not_run(stall: Stall, extended: bool, in_transaction: bool) -> None:
    wired = stall.wired()
    if in_transaction:
        wired.answers(Q("begin"), 1)
    wired.unrecordable = lambda entry: isinstance(entry, Began)
    text = "update customers set name = 'x'"
    seen = wired.answers(run(text) + S if extended else Q(text), 1)
    assert (error(seen)["C"], ready(seen)) == ("58030", "E" if in_transaction else "I")
    wired.unrecordable = lambda entry: False
    wired.answers(Q("rollback"), 1)
    assert stall.run("select count(*) from customers where name = 'x'") == [(0,)]
    assert rows(wired.answers(Q("select 5"), 1)) == [(b"5",)]


def test_where_the_place_says_so_statements_run_unrecorded(stall: Stall) -> None:
    wired = stall.wired(when_unrecorded="run")
    wired.unrecordable = lambda entry: isinstance(entry, Began)
    assert kinds(wired.answers(Q("update customers set name = 'x'"), 1)) == "CZ"
    assert wired.told(Ended)[0].rows_affected == 20


def test_a_lost_server_names_what_ran_as_unknown(stall: Stall) -> None:
    wired = stall.wired()
    wired.perform(wired.session.from_client(Q("update customers set name = 'x'")))
    wired.perform(wired.session.from_server(wired.direct.receive()))
    wired.to_client = b""
    wired.perform(wired.session.lost_server("connection reset"))
    ended = wired.told(Ended)[-1]
    assert (ended.outcome, ended.flags, ended.error_code) == ("unknown", ("answer_lost",), "08006")
    assert (error(wired.to_client)["S"], wired.closed.sqlstate) == ("FATAL", "08006")
    assert list(wired.session.from_client(Q("select 1"))) == []


def test_a_killed_session_says_by_whom(stall: Stall) -> None:
    wired = stall.wired()
    wired.perform(wired.session.killed("carol@shop.example", "wrong database"))
    assert "carol@shop.example" in error(wired.to_client)["M"]
    assert wired.closed.sqlstate == "57P01"


def test_ddl_asks_for_the_catalog_again_once_it_is_committed(stall: Stall) -> None:
    wired = stall.wired()
    wired.answers(Q("begin; create table more(id int)"), 1)
    assert not wired.questions
    wired.answers(Q("commit"), 1)
    assert wired.questions == [ReloadCatalog("shop", 1)]


@pytest.mark.parametrize("extended", [False, True])
def test_a_write_that_fails_as_it_commits_is_told_as_undone(stall: Stall, extended: bool) -> None:
    wired = stall.wired()
    text = "insert into orders values(1, 99, 'x')"
    seen = wired.answers(run(text) + S if extended else Q(text), 1)
    assert (error(seen)["C"], ready(seen)) == ("23503", "I")
    assert wired.told(Ended)[-1].outcome == "rolled_back"
    assert stall.run("select count(*) from orders") == [(0,)]


def test_a_portal_read_in_steps_is_one_statement(stall: Stall) -> None:
    wired = stall.wired()
    script = (
        parse("select id from customers")
        + bind((), "p")
        + describe("p")
        + b"".join(execute("p", 6) + H for _ in range(5))
    )
    assert kinds(wired.answers(script + S, 1)).count("D") == 20
    assert [entry.rows_returned for entry in wired.told(Ended)] == [20]


def test_a_frame_that_nothing_asked_for_ends_the_session(stall: Stall) -> None:
    wired = stall.wired()
    wired.perform(wired.session.from_server(messages.encode_data_row([b"1"])))
    assert (wired.closed.sqlstate, error(wired.to_client)["C"]) == ("08P01", "08P01")


@pytest.mark.parametrize(
    "script",
    [
        Q("with gone as (update customers set name = 'x' returning id) select count(*) from gone"),
        Q("prepare p as with gone as (update customers set name = 'x' returning 1) select 1 from gone; execute p"),
        run("explain analyze update customers set name = 'x'") + S,
        Q("with gone as (update customers set name = 'x' returning 1) update customers set name = name where id = 1"),
    ],
)
def test_a_change_that_no_count_tells_is_not_held_but_refused(stall: Stall, script: bytes) -> None:
    wired = stall.wired(rules=APPROVE)
    held = answering(wired)
    seen = wired.answers(script, 1)
    assert (error(seen)["C"], "how many" in error(seen)["M"], ready(seen)) == ("42501", True, "I")
    assert held == []
    assert stall.run("select count(*) from customers where name = 'x'") == [(0,)]
    assert wired.told(Refused)[-1].began.policy[0].rule == "countable"
