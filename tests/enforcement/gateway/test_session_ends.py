"""The ends of statements and of the gateway's own transactions: what is told of them, to the store and to the client."""

from __future__ import annotations

import pytest

from enforcement.gateway.entries import Ended
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
