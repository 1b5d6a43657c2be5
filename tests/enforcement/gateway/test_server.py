"""Real clients through a running gateway to a real PostgreSQL, with TLS on both sides."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import psycopg
import pytest
from psycopg import pq

from enforcement.gateway.databases import Upstream
from enforcement.gateway.server import Served
from tests.enforcement.gateway.running import Authority, Process, Running, until

pytestmark = pytest.mark.slow


def test_psql_reads_and_writes_and_each_statement_becomes_an_event(gateway: Running) -> None:
    gateway.rules()
    done = gateway.psql("select count(*) from orders", "insert into notes(text) values ('from psql')")
    assert (done.stdout, done.returncode) == ("200\nINSERT 0 1\n", 0), done.stderr
    assert gateway.shop.run("select text from notes") == [("from psql",)]
    (told,) = until(lambda: gateway.queries("from psql"))
    assert told["actor"]["email"] == "dana@shop.example"
    assert told["rows"]["affected"] == 1


def test_psycopg_speaks_the_extended_protocol_through_it(gateway: Running) -> None:
    gateway.rules()
    with gateway.connect() as client:
        assert client.execute("select id, total from orders where id = %s", [7]).fetchone()[0] == 7
        with client.pipeline():
            found = [client.execute("select %s::int + 1", [n]) for n in range(5)]
        assert [one.fetchone()[0] for one in found] == [1, 2, 3, 4, 5]


def test_data_is_copied_in_and_out(gateway: Running) -> None:
    gateway.rules()
    with gateway.connect() as client:
        with client.cursor().copy("copy notes (text) from stdin") as into:
            for n in range(2000):
                into.write_row([f"line {n}"])
        with client.cursor().copy("copy (select text from notes order by id) to stdout") as out:
            told = b"".join(out)
        assert told.count(b"\n") == 2000
    done = gateway.psql(stdin="\\copy notes(text) from stdin\na\nb\n\\.\nselect count(*) from notes;\n")
    assert done.stdout.splitlines()[-1] == "2002", done.stderr


def test_a_cancel_from_psql_ends_the_statement(gateway: Running) -> None:
    gateway.rules()
    line = ["psql", "-X", psycopg.conninfo.make_conninfo("", **gateway.parameters()), "-c", "select pg_sleep(600)"]
    client = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: gateway.shop.is_running("pg_sleep"))
    client.send_signal(signal.SIGINT)
    _, told = client.communicate(timeout=60)
    assert "canceling statement due to user request" in told
    (event,) = until(lambda: gateway.queries("pg_sleep"))
    assert event["error"]["code"] == "57014"


def test_after_a_cancel_the_session_goes_on(gateway: Running) -> None:
    gateway.rules()
    with gateway.connect() as client:
        client.pgconn.send_query(b"select pg_sleep(600)")
        until(lambda: gateway.shop.is_running("pg_sleep"))
        client.cancel_safe()
        # get_result waits without letting go of the interpreter, which the gateway in this process needs to answer.
        until(lambda: client.pgconn.consume_input() or not client.pgconn.is_busy())
        assert client.pgconn.get_result().error_field(pq.DiagnosticField.SQLSTATE) == b"57014"
        until(lambda: client.pgconn.consume_input() or not client.pgconn.is_busy())
        assert client.pgconn.get_result() is None
        assert client.execute("select 1").fetchone() == (1,)


def test_a_cancel_key_that_was_not_given_out_cancels_nothing(gateway: Running) -> None:
    gateway.rules()
    with gateway.connect() as client, socket.create_connection(("127.0.0.1", gateway.port)) as other:
        other.sendall(b"\0\0\0\x10\x04\xd2\x16\x2e" + client.info.backend_pid.to_bytes(4, "big") + b"\1\2\3\4")
        assert other.recv(10) == b""
        assert client.execute("select 1").fetchone() == (1,)


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"password": "a-password"}, "not a token"),
        ({"claims": {"minutes": -5}}, "expired"),
        ({"claims": {"aud": "somebody-else"}}, "another service"),
        ({"claims": {"databases": ["billing"]}}, "not for this database"),
        ({"who": "eve@elsewhere.example"}, "No account"),
    ],
    ids=["no token", "expired", "foreign", "other database", "nobody here"],
)
def test_a_bad_token_is_refused_before_the_database_is_dialled(
    gateway: Running, told: dict[str, object], sentence: str
) -> None:
    with pytest.raises(psycopg.OperationalError, match=sentence):
        gateway.connect(**told)
    assert gateway.shop.sessions() == []
    (failed,) = until(lambda: [one for one in gateway.sessions() if one["session"]["phase"] == "failed"])
    assert failed["error"]["code"] == "28000"
    assert gateway.queries("") == []


def test_without_tls_no_token_is_asked_for(gateway: Running) -> None:
    with pytest.raises(psycopg.OperationalError, match="only inside TLS"):
        gateway.connect(sslmode="disable")


def test_on_loopback_a_token_may_come_in_clear_where_the_settings_say_so(make_gateway: Callable[..., Running]) -> None:
    gateway = make_gateway(gateway="cleartext_on_loopback = true")
    with gateway.connect(sslmode="disable") as client:
        assert client.execute("select 1").fetchone() == (1,)


def test_an_unknown_database_is_refused_with_the_ones_there_are(gateway: Running) -> None:
    with pytest.raises(psycopg.OperationalError, match=r"(?s)no database billing.*It has: shop"):
        gateway.connect(dbname="billing")
    (failed,) = until(lambda: [one for one in gateway.sessions() if one["session"]["phase"] == "failed"])
    assert failed["error"]["code"] == "3D000"


def test_a_database_whose_certificate_another_authority_signed_gets_no_password(
    gateway: Running, tmp_path: Path
) -> None:
    served = gateway.gateway.served["shop"]
    database = msgspec.structs.replace(served.database, sslrootcert=str(Authority(tmp_path / "stranger").ca))
    gateway.gateway.served["shop"] = Served(database, Upstream(database, 10), served.keeper)
    with pytest.raises(psycopg.OperationalError, match="cannot be encrypted as it must be"):
        gateway.connect()
    assert gateway.shop.sessions() == []


def test_when_the_database_is_away_the_client_reads_so(gateway: Running) -> None:
    gateway.rules()
    gateway.shop.cluster.stop()
    try:
        with pytest.raises(psycopg.OperationalError, match=r"(?s)cannot be reached now.*Try again"):
            gateway.connect()
    finally:
        gateway.shop.cluster.start()
    with gateway.connect() as client:
        assert client.execute("select 1").fetchone() == (1,)


def test_a_killed_backend_ends_the_session_with_its_own_error(gateway: Running) -> None:
    gateway.rules()
    client = gateway.connect()
    gateway.shop.run("select pg_terminate_backend(%s)", gateway.shop.sessions()[0][0])
    with pytest.raises(psycopg.OperationalError):
        client.execute("select 1")
    (ended,) = until(lambda: [one for one in gateway.sessions() if one["session"]["phase"] == "end"])
    assert (
        "database gone" in ended["session"]["close_reason"] or "connection was lost" in ended["session"]["close_reason"]
    )


def test_a_client_that_dies_in_a_transaction_leaves_no_lock(gateway: Running) -> None:
    gateway.rules()
    client = gateway.connect(autocommit=False)
    client.execute("update orders set total = 0 where id = 1")
    with contextlib.closing(socket.socket(fileno=client.pgconn.socket)) as plain:
        plain.shutdown(socket.SHUT_RDWR)
        plain.detach()
    until(lambda: not gateway.shop.sessions())
    assert gateway.shop.run("set lock_timeout = '5s'; update orders set total = 1 where id = 1 returning id") == [(1,)]


def test_a_client_that_dies_while_its_statement_runs_has_it_cancelled(gateway: Running) -> None:
    gateway.rules()
    client = gateway.connect(autocommit=False)
    client.pgconn.send_query(b"select pg_sleep(600)")
    until(lambda: gateway.shop.is_running("pg_sleep"))
    client.close()
    until(lambda: not gateway.shop.sessions())


def test_a_statement_of_a_megabyte_goes_through(gateway: Running) -> None:
    gateway.rules()
    with gateway.connect() as client:
        text = "x" * (1 << 20)
        assert client.execute(f"select length('{text}')").fetchone() == (1 << 20,)
        assert client.execute("select length(%s)", [text]).fetchone() == (1 << 20,)


def test_bytes_that_are_no_text_are_refused_and_nothing_runs(gateway: Running) -> None:
    gateway.rules()
    client = gateway.connect()
    result = client.pgconn.exec_(b"insert into notes(text) values ('\xff\xfe')")
    assert result.status == pq.ExecStatus.FATAL_ERROR
    assert gateway.shop.run("select count(*) from notes") == [(0,)]
    client.close()
    with gateway.connect() as client:
        assert client.execute("select 1").fetchone() == (1,)


def test_a_zero_byte_inside_a_statement_is_refused(gateway: Running) -> None:
    gateway.rules()
    client = gateway.connect()
    plain = client.pgconn
    with contextlib.suppress(psycopg.OperationalError):
        plain.exec_params(b"select $1::text", [b"a\0b"])
    client.close()
    with gateway.connect() as client:
        assert client.execute("select count(*) from notes").fetchone() == (0,)


def test_too_many_sessions_are_told_so(make_gateway: Callable[..., Running]) -> None:
    gateway = make_gateway(gateway="max_sessions = 3\nmax_sessions_per_identity = 2")
    first = [gateway.connect(), gateway.connect()]
    with pytest.raises(psycopg.OperationalError, match=r"dana@shop.example has 2 sessions"):
        gateway.connect()
    third = gateway.connect("carol@shop.example")
    with pytest.raises(psycopg.OperationalError, match="The gateway has 3 sessions"):
        gateway.connect("erin@shop.example")
    third.close()
    until(lambda: len(gateway.gateway.sessions) == 2)
    gateway.connect("erin@shop.example").close()
    for one in first:
        one.close()


def test_a_live_session_is_ended_by_a_person(gateway: Running) -> None:
    gateway.rules()
    client = gateway.connect()
    client.execute("select 1")
    (running,) = gateway.call(lambda: list(gateway.gateway.sessions))
    assert gateway.call(lambda: gateway.gateway.kill(running.facts.session_id, "carol@shop.example", "too curious"))
    with pytest.raises(psycopg.OperationalError, match=r"carol@shop.example ended this session: too curious"):
        client.execute("select 2")
    until(lambda: not gateway.shop.sessions())


def test_a_silent_client_is_ended(make_gateway: Callable[..., Running]) -> None:
    gateway = make_gateway(database="idle_seconds = 0.3\nidle_in_transaction_seconds = 60")
    client = gateway.connect()
    until(lambda: not gateway.shop.sessions())
    with pytest.raises(psycopg.OperationalError, match="silent for"):
        client.execute("select 1")


@pytest.mark.slow
def test_a_hundred_megabytes_pass_in_bounded_memory(gateway_process: Process) -> None:
    client = gateway_process.connect()
    client.execute("select 1")
    before = gateway_process.memory_kib()
    client.pgconn.send_query(b"select n, repeat('x', 500) from generate_series(1, 200000) n")
    client.pgconn.set_chunked_rows_mode(10_000)
    rows = 0
    while (result := client.pgconn.get_result()) is not None:
        rows += result.ntuples
    assert rows == 200_000
    assert gateway_process.memory_kib() - before < 60_000
    client.close()
    (event,) = until(lambda: gateway_process.queries("200000"))
    assert event["rows"]["returned"] == 200_000


def test_a_slow_reader_holds_the_database_back(gateway_process: Process) -> None:
    client = gateway_process.connect()
    client.execute("select 1")
    before = gateway_process.memory_kib()
    client.pgconn.send_query(b"select repeat('x', 1000) from generate_series(1, 300000)")
    until(lambda: gateway_process.shop.waits() == ["ClientWrite"])
    assert gateway_process.memory_kib() - before < 60_000
    client.close()


def test_sigterm_ends_idle_sessions_in_order_and_lets_transactions_finish(gateway_process: Process) -> None:
    idle, busy = gateway_process.connect(), gateway_process.connect(autocommit=False)
    busy.execute("insert into notes(text) values ('finishing')")
    gateway_process.process.terminate()
    with pytest.raises(psycopg.OperationalError, match="the gateway stops"):
        until(lambda: idle.execute("select 1") and None)
    busy.commit()
    assert gateway_process.stop() == 0
    assert gateway_process.shop.run("select text from notes") == [("finishing",)]
    phases = [one["session"]["phase"] for one in gateway_process.sessions()]
    assert sorted(phases) == ["end", "end", "start", "start"]


def test_the_gateways_own_sessions_with_the_database_are_told_in_its_own_name(
    make_gateway: Callable[..., Running],
) -> None:
    gateway = make_gateway()
    with gateway.connect() as client:
        client.execute("select 1")
    (own,) = until(lambda: [one for one in gateway.events(kind="session") if one["actor"]["type"] == "system"])
    assert (own["actor"], own["purpose"]) == ({"id": "gateway test", "type": "system", "db_user": "app"}, "catalog")
    name = "to_hex(trunc(extract(epoch from backend_start))::int4) || '.' || to_hex(pid)"
    there = gateway.shop.run(
        f"select {name} from pg_stat_activity where application_name = 'touchstone-gateway catalog'"
    )
    assert (own["db_session_id"],) in there
