"""What a gateway bears, and what it says where it does not: long messages, silent clients, senseless bytes, its own end."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any

import msgspec
import psycopg
import pytest

from enforcement.gateway import messages, server
from tests.enforcement.gateway.running import Running, until
from tests.enforcement.gateway.stalls import Stall
from tests.enforcement.gateway.wire_scripts import Q, S, bind, execute, parse
from tests.enforcement.gateway.wired import split

pytestmark = pytest.mark.slow


def failed(gateway: Running) -> list[dict[str, Any]]:
    return [one for one in gateway.events(kind="session") if one["session"]["phase"] == "failed"]


@pytest.mark.parametrize("text", ["reset all", "discard all", "reset client_connection_check_interval"])
def test_no_reset_takes_back_what_lets_the_database_notice_a_dead_gateway(gateway: Running, text: str) -> None:
    gateway.rules()
    with gateway.connect(options="-c search_path=pg_catalog,public") as client:
        client.execute("set client_connection_check_interval = 0")
        client.execute(text)
        assert client.execute("show client_connection_check_interval").fetchone() == ("2s",)
        assert client.execute("show tcp_keepalives_idle").fetchone() == ("60",)
        assert client.execute("show search_path").fetchone() == ("pg_catalog,public",)


@pytest.mark.parametrize("as_value", [False, True])
def test_a_message_over_the_limit_of_the_settings_is_refused_and_told(
    make_gateway: Callable[..., Running], as_value: bool
) -> None:
    gateway = make_gateway(gateway="message_mib = 1")
    gateway.rules()
    fits, over = "x" * (900 << 10), "x" * (1 << 20)
    client = gateway.connect()
    assert client.execute(f"select length('{fits}')").fetchone() == (len(fits),)
    asked = ("insert into notes(text) values (%s)", [over]) if as_value else (f"select '{over}' into taken", None)
    with pytest.raises(psycopg.OperationalError, match="message_mib"):
        client.execute(*asked)
    assert gateway.shop.run("select count(*), to_regclass('taken') from notes") == [(0, None)]
    (told,) = until(lambda: [one for one in gateway.events(kind="query") if one["verdict"] == "blocked"])
    assert (told["command"], told["error"]["code"]) == ("BIND" if as_value else "QUERY", "54000")
    until(lambda: not gateway.shop.sessions())


def test_while_it_stops_new_clients_read_so_and_at_the_end_the_others(gateway: Running) -> None:
    own = msgspec.structs.replace(gateway.settings.gateway, drain_seconds=600)
    gateway.gateway.settings = msgspec.structs.replace(gateway.settings, gateway=own)
    gateway.rules()
    busy = gateway.connect(autocommit=False)
    busy.execute("select 1")
    gateway.call(gateway.gateway.stop)
    with pytest.raises(psycopg.OperationalError, match=r"(?s)is stopping and takes no new sessions.*Connect again"):
        gateway.connect()
    (told,) = until(lambda: failed(gateway))
    assert told["error"]["code"] == "57P03"
    assert busy.execute("select 2").fetchone() == (2,)
    gateway.call(gateway.gateway.stop)
    with pytest.raises(psycopg.errors.AdminShutdown, match="the gateway stops now"):
        busy.execute("select 3")


def test_who_says_nothing_is_cut_off_when_the_time_to_sign_in_is_up(make_gateway: Callable[..., Running]) -> None:
    gateway = make_gateway(gateway="login_seconds = 0.3")
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=60) as silent:
        assert silent.recv(1) == b""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=60) as slow:
        slow.sendall(messages.encode_ssl_request())
        assert slow.recv(1) == b"S"
        assert slow.recv(1) == b""
    until(lambda: not gateway.gateway._arriving)


def test_silent_clients_take_no_place_from_those_that_sign_in(gateway: Running) -> None:
    silent = [
        socket.create_connection(("127.0.0.1", gateway.port), timeout=60) for _ in range(server.MOST_ARRIVING + 3)
    ]
    try:
        for one in silent[:3]:
            assert one.recv(1) == b"", "the oldest makes room"
        assert len(gateway.gateway._arriving) <= server.MOST_ARRIVING
        with gateway.connect() as client:
            assert client.execute("select 1").fetchone() == (1,)
    finally:
        for one in silent:
            one.close()
    until(lambda: not gateway.gateway._arriving)


@pytest.mark.parametrize(
    "parameters",
    [
        b"user\0dana\0database\0sh\0op\0\0", b"user\0dana\0\0database\0shop\0\0", b"user\0d\xff\xfe\0\0", b"user\0dana\0",
        b"\0", b"user\0\0\0", b"user\0dana\0options\0-c a\\\0\0",
    ],
)  # fmt: skip
def test_a_startup_message_that_makes_no_sense_is_answered_and_nobody_is_let_in(
    make_gateway: Callable[..., Running], parameters: bytes
) -> None:
    gateway = make_gateway(gateway="cleartext_on_loopback = true")
    body = struct.pack(">I", 3 << 16) + parameters
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=60) as plain:
        plain.sendall(struct.pack(">I", 4 + len(body)) + body)
        seen = b""
        while chunk := plain.recv(4096):
            seen += chunk
    ((kind, fields),) = split(seen)
    assert kind == "E"
    assert fields.startswith(b"SFATAL\0")
    assert gateway.shop.sessions() == []
    with gateway.connect() as client:
        assert client.execute("select 1").fetchone() == (1,)


@pytest.mark.parametrize("highest", [65535, 65536, 70_000])
def test_a_statement_of_more_parameters_than_there_can_be_ends_in_an_error(stall: Stall, highest: int) -> None:
    text = "select " + "+".join(f"${n}::int" for n in (*range(1, 500), highest))
    wired = stall.wired()
    direct = stall.direct()
    script = parse(text) + bind((b"1",) * 500) + execute() + S
    assert wired.answers(script, 1) == direct.answers(script, 1)
    assert wired.closed is None
    assert [kind for kind, _ in split(wired.answers(Q("select 1"), 1))] == ["T", "D", "C", "Z"]
