"""What a client sees through a session that allows everything is, byte for byte, what it sees without one."""

from __future__ import annotations

import struct

import pytest

from demo.monitored import Monitored
from enforcement.gateway import messages
from tests.enforcement.gateway import wire_scripts
from tests.enforcement.gateway.stalls import Stall
from tests.enforcement.gateway.wired import split

pytestmark = pytest.mark.slow

SETUP = [(one, count) for one, count in wire_scripts.SIMPLE if b"create table" in one and b"temp" not in one]


def comparable(data: bytes) -> list[tuple[str, object]]:
    """The messages, with what differs between two databases made equal: oids of relations and process ids."""
    found: list[tuple[str, object]] = []
    for kind, body in split(data):
        if kind == "T":
            columns = messages.decode_row_description(body).fields
            found.append(
                (kind, [(f.name, bool(f.table_oid), f.attribute, f.type_oid, f.size, f.format) for f in columns])
            )
        elif kind == "E":
            # The gateway answers for a missing statement itself: it has no line of the server's source to name.
            fields = messages.decode_error_response(body).fields
            found.append((kind, {letter: text for letter, text in fields.items() if letter not in "FLR"}))
        elif kind == "A":
            found.append((kind, body[4:]))
        else:
            found.append((kind, body))
    return found


@pytest.mark.parametrize("name", ["SIMPLE", "EXTENDED", "COPY"])
@pytest.mark.parametrize("at_a_time", [0, 7])
def test_answers_are_those_of_the_database_itself(name: str, at_a_time: int, monitored: Monitored) -> None:
    through, around = Stall(monitored), Stall(monitored)
    try:
        wired, direct = through.wired(), around.direct()
        before = [] if name == "SIMPLE" else SETUP
        for number, (script, readies) in enumerate([*before, *getattr(wire_scripts, name)]):
            seen = wired.answers(script, readies, at_a_time)
            assert wired.closed is None, (number, script, wired.closed, wired.session.fault)
            assert comparable(seen) == comparable(direct.answers(script, readies)), (number, script)
        begun = [entry for entry in wired.entries if type(entry).__name__ == "Began"]
        ended = [entry for entry in wired.entries if type(entry).__name__ == "Ended"]
        assert begun
        assert sorted(entry.began.id for entry in ended) == sorted(entry.id for entry in begun)
    finally:
        through.remove()
        around.remove()


def test_a_large_result_passes_whole(stall: Stall) -> None:
    wired = stall.wired()
    sql = "select g, repeat('x', 100) from generate_series(1, 20000) g"
    seen = wired.answers(wire_scripts.Q(sql), 1)
    assert seen == stall.direct().answers(wire_scripts.Q(sql), 1)
    assert wired.entries[-1].rows_returned == 20000
    assert any(flag.startswith("rows_sha256:") for flag in wired.entries[-1].flags)


def test_protocol_kept_bytes_do_not_depend_on_how_the_server_cuts_them(stall: Stall) -> None:
    wired = stall.wired()
    script, readies = wire_scripts.Q("select id, name from customers order by id; select 1"), 1
    wanted = stall.direct().answers(script, readies)
    receive = wired.direct.receive

    pieces: list[bytes] = []

    def slowly() -> bytes:
        if not pieces:
            data = receive()
            pieces.extend(struct.pack("B", byte) for byte in data)
        return pieces.pop(0)

    wired.direct.receive = slowly  # type: ignore[method-assign]
    assert wired.answers(script, readies) == wanted
