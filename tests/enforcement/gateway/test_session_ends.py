"""The ends of statements and of the gateway's own transactions: what is told of them, to the store and to the client."""

from __future__ import annotations

import pytest

from enforcement.gateway.entries import Began, Ended, Refused
from tests.enforcement.gateway.running import until
from tests.enforcement.gateway.stalls import Stall
from tests.enforcement.gateway.wire_scripts import Q, S, bind, execute, parse, run
from tests.enforcement.gateway.wired import split


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


UPDATE = "update customers set name = 'x' where id = 1"


@pytest.mark.parametrize("script", [Q(UPDATE), run(UPDATE) + S])
def test_the_wait_for_the_end_of_the_transaction_is_no_part_of_a_statement(stall: Stall, script: bytes) -> None:
    clock = Clock()
    wired = stall.wired(clock=clock)
    wired.answers(Q("begin"), 1)
    clock.now = 1010.0
    wired.answers(script, 1)
    clock.now = 1500.0
    wired.answers(Q("commit"), 1)
    told = {entry.began.command: (entry.began.at, entry.at, entry.outcome) for entry in wired.told(Ended)}
    assert told["UPDATE"][:2] == (1010.0, 1010.0)
    assert told["COMMIT"] == (1500.0, 1500.0, "committed")


def test_a_portal_that_is_left_half_read_ended_with_the_last_rows_that_were_asked_for(stall: Stall) -> None:
    clock = Clock()
    wired = stall.wired(clock=clock)
    wired.answers(Q("begin") + parse("select id from customers") + bind((), "p") + execute("p", 2) + S, 2)
    clock.now = 1010.0
    wired.answers(execute("p", 2) + S, 1)
    clock.now = 1500.0
    wired.answers(Q("commit"), 1)
    (read,) = (entry for entry in wired.told(Ended) if entry.began.command == "SELECT")
    assert (read.began.at, read.at, read.rows_returned) == (1000.0, 1010.0, 4)


def test_a_local_setting_beside_a_write_is_told_behind_the_answers_with_its_return(stall: Stall) -> None:
    wired = stall.wired()
    seen = wired.answers(Q("insert into customers values(100, 'x', 'y'); set local datestyle = german"), 1)
    assert [(kind, body) for kind, body in split(seen) if kind != "Z"] == [
        ("C", b"INSERT 0 1\0"), ("C", b"SET\0"), ("S", b"DateStyle\0German, DMY\0"), ("S", b"DateStyle\0ISO, MDY\0"),
    ]  # fmt: skip


@pytest.mark.parametrize("lost", [1, 2])
def test_a_text_of_which_one_part_cannot_be_written_down_leaves_no_part_open(stall: Stall, lost: int) -> None:
    wired = stall.wired()
    asked: list[Began] = []

    def unrecordable(entry: object) -> bool:
        if isinstance(entry, Began):
            asked.append(entry)
        return isinstance(entry, Began) and len(asked) == lost

    wired.unrecordable = unrecordable
    seen = wired.answers(Q("insert into customers values(100, 'x', 'y'); delete from orders; select 1"), 1)
    assert b"C58030\0" in seen
    assert stall.run("select count(*) from customers") == [(20,)]
    ended = {entry.began.id: entry for entry in wired.told(Ended)}
    assert (
        ended.keys()
        == {entry.id for entry in wired.told(Began)}
        == {entry.id for entry in asked} - {asked[lost - 1].id}
    )
    for entry in ended.values():
        assert (entry.error_code, entry.outcome, entry.flags) == ("58030", "rolled_back", ())
    (refused,) = wired.told(Refused)
    assert (refused.sqlstate, refused.began.verdict) == ("58030", "error")
    wired.perform(wired.session.lost_client("gone"))
    assert len(wired.told(Ended)) == 2, "nothing is told a second time, as lost"


@pytest.mark.parametrize("text", ["prepare transaction 'x'", "commit prepared 'x'", "rollback prepared 'x'"])
@pytest.mark.parametrize("extended", [False, True])
def test_a_transaction_that_ends_elsewhere_is_refused(stall: Stall, text: str, extended: bool) -> None:
    wired = stall.wired()
    if text.startswith("prepare"):
        wired.answers(Q("begin; delete from customers where id = 20"), 1)
    seen = wired.answers(run(text) + S if extended else Q(text), 1)
    assert b"C0A000\0" in seen
    assert b"COMMIT or ROLLBACK" in seen
    assert not any(text.encode() in sent for sent in wired.sent)
    (refused,) = wired.told(Refused)
    assert (refused.began.command, refused.began.verdict) == (text.upper().removesuffix(" 'X'"), "blocked")
    wired.answers(Q("commit"), 1)
    assert stall.run("select count(*) from customers") == [(20,)]
    assert not any(entry.outcome == "committed" for entry in wired.told(Ended) if entry.began.command == "DELETE")


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("in_transaction", [False, True])
def test_a_late_cancel_that_meets_the_gateways_own_question_ends_no_session(
    stall: Stall, extended: bool, in_transaction: bool
) -> None:
    wired = stall.wired()
    if in_transaction:
        wired.answers(Q("begin"), 1)
    wired.to_client = b""
    with stall.cluster.connect(stall.name) as admin, admin.transaction():
        # The question reads pg_class: it waits here for as long as we like.
        admin.execute("lock table pg_class in access exclusive mode")
        wired.perform(wired.session.from_client(run("select 1") + S if extended else Q("select 1")))
        until(
            lambda: admin.execute(
                "select pid from pg_locks where not granted and pid = %s", [wired.direct.pid]
            ).fetchall()
        )
        wired.direct.cancel()
        while b"57014" not in wired.to_client and wired.closed is None:
            wired.perform(wired.session.from_server(wired.direct.receive()))
    assert wired.closed is None
    (refused,) = wired.told(Refused)
    assert (refused.sqlstate, refused.began.verdict, refused.began.statement) == ("57014", "error", "select 1")
    while not wired.to_client.endswith(b"E" if in_transaction else b"I"):
        wired.perform(wired.session.from_server(wired.direct.receive()))
    assert wired.to_client.count(b"57014") == 1
    if in_transaction:
        wired.answers(Q("rollback"), 1)
    seen = wired.answers(run("select 7") + S if extended else Q("select 7"), 1)
    assert [body for kind, body in split(seen) if kind == "D"] == [b"\0\1\0\0\0\x017"]
