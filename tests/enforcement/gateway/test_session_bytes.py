"""A session does the same however its bytes are cut, and never fails on bytes that make no sense."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from demo.monitored import Monitored
from enforcement.gateway import messages
from enforcement.gateway.session.outputs import Close, Output, Record, ToClient, ToServer
from tests.enforcement.gateway import wire_scripts
from tests.enforcement.gateway.stalls import Stall
from tests.enforcement.gateway.wire_scripts import Q, S, bind, copied, describe, execute, parse, run
from tests.enforcement.gateway.wired import Wired, make

Event = tuple[str, bytes]
RULES = """
version = 1
[[rule]]
id = "no-delete"
title = "Nothing is deleted"
outcome = "block"
verbs = ["delete"]
"""
SCRIPTS = [
    (Q("create temp table made(id int); insert into made values(1); select * from made"), 1),
    (run("insert into made values($1)", b"2") + run("delete from made") + run("select 1") + S, 1),
    (parse("select * from made", "s") + bind((), "p", "s") + describe("p") + execute("p", 1) + execute("p", 1) + S, 1),
    (Q("begin; insert into made values(3)"), 1),
    (Q("delete from made") + Q("rollback"), 2),
    (Q("copy made from stdin") + copied(b"5\n6", b"\n") + Q("copy made to stdout"), 2),
]


class Recording(Wired):
    """Keeps what came from where, to be played again."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.events: list[Event] = []
        receive = self.direct.receive

        def received() -> bytes:
            self.events.append(("server", receive()))
            return self.events[-1][1]

        self.direct.receive = received  # type: ignore[method-assign]

    def answers(self, data: bytes, readies: int, at_a_time: int = 0) -> bytes:
        self.events.append(("client", data))
        return super().answers(data, readies, at_a_time)


def seen(outputs: list[Output]) -> tuple[bytes, bytes, list[Any]]:
    """Everything for the client, everything for the server, everything else in order."""
    client = b"".join(one.data for one in outputs if isinstance(one, ToClient))
    server = b"".join(one.data for one in outputs if isinstance(one, ToServer))
    return client, server, [one for one in outputs if not isinstance(one, ToClient | ToServer)]


def still() -> float:
    return 1000.0


def played(events: list[Event], cut: Callable[[bytes], list[bytes]]) -> tuple[bytes, bytes, list[Any]]:
    session, outputs = make(RULES, clock=still), list[Output]()
    for side, data in events:
        for piece in cut(data):
            outputs += session.from_client(piece) if side == "client" else session.from_server(piece)
    assert session.fault is None
    return seen(outputs)


@pytest.fixture(scope="module")
def conversation(monitored: Monitored) -> list[Event]:
    """What a client and a real server said to a session."""
    stall = Stall(monitored)
    try:
        wired = Recording(stall.direct(), make(RULES, clock=still))
        for script, readies in SCRIPTS:
            wired.answers(script, readies)
        return wired.events
    finally:
        stall.remove()


def test_bytes_one_by_one_do_the_same_as_bytes_in_one_piece(conversation: list[Event]) -> None:
    whole = played(conversation, lambda data: [data])
    assert len(whole[2]) > 15
    assert whole[0].count(b"Nothing is deleted") == 2 or b"42501" in whole[0]
    assert played(conversation, lambda data: [data[at : at + 1] for at in range(len(data))]) == whole


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(step=some.lists(some.integers(1, 60), min_size=1, max_size=8))
def test_bytes_in_any_pieces_do_the_same(conversation: list[Event], step: list[int]) -> None:
    def cut(data: bytes) -> list[bytes]:
        pieces, at, turn = [], 0, 0
        while at < len(data):
            pieces.append(data[at : at + step[turn % len(step)]])
            at, turn = at + step[turn % len(step)], turn + 1
        return pieces

    assert played(conversation, cut) == played(conversation, lambda data: [data])


FRAGMENTS = [script for script, _ in wire_scripts.EXTENDED + wire_scripts.COPY]
ANSWERS = [
    messages.encode_parse_complete(), messages.encode_bind_complete(), messages.encode_close_complete(), messages.encode_no_data(),
    messages.encode_ready_for_query("I"), messages.encode_ready_for_query("T"), messages.encode_ready_for_query("E"),
    messages.encode_command_complete("SELECT 1"), messages.encode_data_row([b"1", None]), messages.error("42601", "no"),
    messages.encode_portal_suspended(), messages.encode_empty_query_response(), messages.encode_copy_in_response(0, (0,)),
    messages.encode_copy_out_response(0, (0,)), messages.encode_copy_data(b"1\n"), messages.encode_copy_done(),
    messages.encode_parameter_description((23,)), messages.encode_parameter_status("client_encoding", "UTF8"),
    messages.encode_row_description((messages.Field("a", 0, 0, 23, 4, -1, 0),)),
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    some.lists(
        some.one_of(
            some.tuples(some.just("client"), some.one_of(some.binary(max_size=60), some.sampled_from(FRAGMENTS))),
            some.tuples(some.just("server"), some.one_of(some.binary(max_size=30), some.sampled_from(ANSWERS))),
        ),
        max_size=25,
    )
)
def test_no_bytes_make_a_session_fail(events: list[Event]) -> None:
    session = make(RULES, clock=still)
    closed = 0
    for side, data in events:
        for output in session.from_client(data) if side == "client" else session.from_server(data):
            assert isinstance(output, Output)
            closed += isinstance(output, Close)
            assert not isinstance(output, Record) or output.entry.at == 1000.0
    assert session.fault is None
    assert closed == session.is_closed
