"""Signing in, on both sides: what comes in which order, what is refused with which sentence, and a real PostgreSQL."""

from __future__ import annotations

import hashlib
import secrets
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
import scramp
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as some

from demo.monitored import Monitored
from enforcement.gateway import login, messages, upstream
from enforcement.gateway.login import Cancel, ClientLogin, LoginRefused, Refuse, Send, SignIn, StartTls
from enforcement.gateway.messages import Reader
from enforcement.gateway.upstream import UpstreamLogin, UpstreamRefused
from tests.enforcement.gateway.running import Authority, Running, until

pytestmark = pytest.mark.slow

PARAMETERS = {"user": "dana", "database": "shop", "application_name": "psql", "client_encoding": "UTF8"}
TOKEN = messages.encode_password("the-token")


def begin(version: int = messages.PROTOCOL_3_0, **more: str) -> bytes:
    return messages.encode_startup(version, PARAMETERS | more)


def encrypted() -> ClientLogin:
    """A login whose TLS has just begun."""
    made = ClientLogin(tls=True, cleartext_allowed=False)
    made.feed(messages.encode_ssl_request())
    made.tls_started()
    return made


def sent(steps: list[Any]) -> list[messages.Frame]:
    return Reader(sender="server").feed(b"".join(step.data for step in steps if isinstance(step, Send | Refuse)))


def only_refusal(steps: list[Any]) -> Refuse:
    """The one step, whose message to the client says what it says itself, and is fatal."""
    (step,) = steps
    assert isinstance(step, Refuse)
    (frame,) = sent(steps)
    fields = messages.decode_error_response(frame.body).fields
    assert (fields["S"], fields["C"], fields["M"]) == ("FATAL", step.sqlstate, step.sentence)
    return step


def test_a_client_asks_for_tls_then_begins_then_gives_its_token() -> None:
    client = ClientLogin(tls=True, cleartext_allowed=False)
    assert client.feed(messages.encode_ssl_request()) == [Send(b"S"), StartTls()]
    client.tls_started()
    (ask,) = sent(client.feed(begin(options="-c touchstone.purpose=report")))
    assert messages.decode_authentication(ask.body).code == messages.CLEARTEXT_PASSWORD
    (step,) = client.feed(TOKEN)
    assert isinstance(step, SignIn)
    assert step.token == "the-token"
    assert step.startup == login.ClientStartup(
        version=messages.PROTOCOL_3_0, user="dana", database="shop", is_encrypted=True, about={"purpose": "report"},
        parameters={"application_name": "psql", "client_encoding": "UTF8"},
    )  # fmt: skip


def test_the_steps_are_the_same_wherever_the_bytes_are_cut() -> None:
    stream = begin() + TOKEN
    whole = ClientLogin(tls=False, cleartext_allowed=True).feed(stream)
    assert [type(step) for step in whole] == [Send, SignIn]
    for place in range(len(stream)):
        client = ClientLogin(tls=False, cleartext_allowed=True)
        assert client.feed(stream[:place]) + client.feed(stream[place:]) == whole


def test_bytes_behind_the_request_for_tls_are_refused() -> None:
    for more in (begin(), b"\0", messages.encode_ssl_request(), begin() + TOKEN):
        client = ClientLogin(tls=True, cleartext_allowed=True)
        assert only_refusal(client.feed(messages.encode_ssl_request() + more)).sqlstate == "08P01"


def test_bytes_between_the_request_for_tls_and_its_handshake_are_refused() -> None:
    client = ClientLogin(tls=True, cleartext_allowed=True)
    client.feed(messages.encode_ssl_request())
    assert only_refusal(client.feed(begin())).sqlstate == "08P01"


def test_gss_encryption_is_declined_and_tls_may_follow() -> None:
    client = ClientLogin(tls=True, cleartext_allowed=False)
    assert client.feed(messages.encode_gssenc_request()) == [Send(b"N")]
    assert client.feed(messages.encode_ssl_request()) == [Send(b"S"), StartTls()]


def test_without_a_certificate_tls_is_declined() -> None:
    client = ClientLogin(tls=False, cleartext_allowed=True)
    assert client.feed(messages.encode_ssl_request()) == [Send(b"N")]
    assert len(sent(client.feed(begin()))) == 1


def test_tls_inside_tls_is_declined_and_asking_again_is_refused() -> None:
    client = ClientLogin(tls=True, cleartext_allowed=False, is_encrypted=True)
    assert client.feed(messages.encode_ssl_request()) == [Send(b"N")]
    assert only_refusal(client.feed(messages.encode_ssl_request())).sqlstate == "08P01"


def test_a_token_is_not_asked_for_outside_tls() -> None:
    refusal = only_refusal(ClientLogin(tls=True, cleartext_allowed=False).feed(begin()))
    assert (refusal.sqlstate, "sslmode=verify-full" in refusal.sentence) == ("28000", True)
    assert refusal.startup is not None
    assert refusal.startup.user == "dana"


def test_a_cancel_request_is_told_with_its_key() -> None:
    for secret in (b"four", secrets.token_bytes(32)):
        for client in (ClientLogin(tls=True, cleartext_allowed=False), encrypted()):
            assert client.feed(messages.encode_cancel_request(77, secret)) == [Cancel(77, secret)]


@pytest.mark.parametrize("word", ["true", "on", "1", "database", "DATABASE"])
def test_replication_is_refused(word: str) -> None:
    refusal = only_refusal(encrypted().feed(begin(replication=word)))
    assert (refusal.sqlstate, "connect to the database itself" in refusal.sentence) == ("0A000", True)


def test_a_client_that_says_it_wants_no_replication_gets_in() -> None:
    assert len(sent(encrypted().feed(begin(replication="false")))) == 1


@pytest.mark.parametrize(
    ("version", "more", "agreed", "unknown"),
    [
        (3 << 16 | 2, {"_pq_.new": "1"}, 3 << 16 | 2, ("_pq_.new",)),
        (3 << 16 | 9999, {}, 3 << 16 | 2, ()),
        (3 << 16, {"_pq_.a": "", "_pq_.b": ""}, 3 << 16, ("_pq_.a", "_pq_.b")),
    ],
)
def test_newer_minor_versions_and_options_are_negotiated(
    version: int, more: dict[str, str], agreed: int, unknown: Any
) -> None:
    client = encrypted()
    negotiated, ask = sent(client.feed(begin(version, **more)))
    told = messages.decode_negotiate_protocol_version(negotiated.body)
    assert (told.version, told.options) == (agreed, unknown)
    assert messages.decode_authentication(ask.body).code == messages.CLEARTEXT_PASSWORD
    (step,) = client.feed(TOKEN)
    assert (step.startup.version, [n for n in step.startup.parameters if "_pq_" in n]) == (agreed, [])


@pytest.mark.parametrize("version", [messages.PROTOCOL_3_0, messages.PROTOCOL_3_2])
def test_versions_that_we_speak_are_not_negotiated(version: int) -> None:
    assert len(sent(encrypted().feed(begin(version)))) == 1


def test_the_database_is_named_after_the_user_when_none_is_given() -> None:
    told = login.startup(messages.Startup(messages.PROTOCOL_3_0, {"user": "dana"}), True)
    assert (told.database, told.parameters, told.about) == ("dana", {}, {})
    with pytest.raises(LoginRefused, match="names no user"):
        login.startup(messages.Startup(messages.PROTOCOL_3_0, {"database": "shop"}), True)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("-c work_mem=64MB", {"work_mem": "64MB"}),
        ("-cwork_mem=64MB --search-path=a,b", {"work_mem": "64MB", "search_path": "a,b"}),
        (r"-c touchstone.purpose=monthly\ report -c touchstone.ticket=OPS-42",
         {"touchstone.purpose": "monthly report", "touchstone.ticket": "OPS-42"}),
        (r"-c a=back\\slash\	tab", {"a": "back\\slash\ttab"}),
        ("-c DateStyle=ISO  -c datestyle=German", {"datestyle": "German"}),
        ("-c application_name=", {"application_name": ""}),
        ("-c a=x=y", {"a": "x=y"}),
    ],
)  # fmt: skip
def test_options_are_read_as_postgresql_reads_them(text: str, found: dict[str, str]) -> None:
    assert login.options(text) == found


@pytest.mark.parametrize(
    "text", ["-d 5", "-c", "-c novalue", "work_mem=1", "-c 1x=2", "-c a b=1", "-B 100", "--", "-ca;b=1"]
)
def test_other_command_line_options_are_refused(text: str) -> None:
    refusal = only_refusal(encrypted().feed(begin(options=text)))
    assert (refusal.sqlstate, "-c name=value" in refusal.sentence) == ("22023", True)


def test_settings_in_options_are_passed_on_under_one_name_and_the_explicit_one_wins() -> None:
    parameters = {"user": "dana", "DateStyle": "ISO", "options": "-c datestyle=German -c role=postgres"}
    told = login.startup(messages.Startup(messages.PROTOCOL_3_0, parameters), True)
    assert told.parameters == {"datestyle": "ISO", "role": "postgres"}


def test_what_the_gateway_is_told_about_is_taken_out_and_nothing_else_is_known() -> None:
    more = {"touchstone.run_id": "r1", "options": "-c touchstone.ticket=OPS-42 -c touchstone.purpose=x"}
    told = login.startup(messages.Startup(messages.PROTOCOL_3_0, PARAMETERS | more), True)
    assert told.about == {"run_id": "r1", "ticket": "OPS-42", "purpose": "x"}
    assert not [name for name in told.parameters if name.startswith("touchstone")]
    refusal = only_refusal(encrypted().feed(begin(options="-c touchstone.actor=carol")))
    assert (refusal.sqlstate, "touchstone.purpose" in refusal.sentence) == ("22023", True)


@pytest.mark.parametrize("password", ["", "  \n"])
def test_an_empty_password_is_refused_with_what_to_do(password: str) -> None:
    client = encrypted()
    client.feed(begin())
    refusal = only_refusal(client.feed(messages.encode_password(password)))
    assert (refusal.sqlstate, "Connect" in refusal.sentence) == ("28P01", True)


def test_a_statement_instead_of_the_token_is_refused() -> None:
    client = encrypted()
    client.feed(begin())
    assert only_refusal(client.feed(messages.encode_query("select 1"))).sqlstate == "08P01"


def test_what_comes_before_the_token_was_judged_is_refused() -> None:
    client = encrypted()
    client.feed(begin())
    assert only_refusal(client.feed(TOKEN + messages.encode_query("drop table x"))).sqlstate == "08P01"
    assert only_refusal(client.feed(messages.encode_query("select 1"))).sqlstate == "08P01"


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\0\1\0\1\xfc\3\3", b"\0\0\0\x08\0\2\0\0"]
)
def test_what_is_not_our_protocol_gets_a_sentence(first: bytes) -> None:
    assert only_refusal(ClientLogin(tls=True, cleartext_allowed=False).feed(first)).sqlstate == "08P01"


@given(some.binary(max_size=80), some.booleans(), some.booleans())
@settings(max_examples=200, deadline=None)
def test_random_bytes_end_in_a_step_or_a_refusal(data: bytes, after_startup: bool, tls: bool) -> None:
    client = ClientLogin(tls=tls, cleartext_allowed=True)
    if after_startup:
        client.feed(begin())
    for step in client.feed(data):
        assert isinstance(step, Send | StartTls | Cancel | SignIn | Refuse)


def test_accepting_tells_the_settings_and_a_key_of_our_own() -> None:
    client = encrypted()
    told = client.accepted({"server_version": "15.18", "TimeZone": "UTC"}, 77, b"four")
    ok, first, second, key, ready = Reader(sender="server").feed(told)
    assert messages.decode_authentication(ok.body).code == messages.AUTHENTICATION_OK
    named = [messages.decode_parameter_status(frame.body) for frame in (first, second)]
    assert [(one.name, one.value) for one in named] == [("server_version", "15.18"), ("TimeZone", "UTC")]
    assert messages.decode_backend_key_data(key.body) == messages.BackendKeyData(77, b"four")
    assert messages.decode_ready_for_query(ready.body).status == messages.IDLE


def test_cancel_keys_are_as_long_as_the_protocol_says_and_never_the_same() -> None:
    for version, length in ((messages.PROTOCOL_3_0, 4), (3 << 16 | 1, 4), (messages.PROTOCOL_3_2, 32)):
        keys = [login.cancel_key(version) for _ in range(50)]
        assert {len(secret) for _, secret in keys} == {length}
        assert len(set(keys)) == 50
        assert all(0 < pid < 2**31 for pid, _ in keys)


# The other side


def asking(code: int, data: bytes = b"", mechanisms: tuple[str, ...] = ()) -> bytes:
    return messages.encode_authentication(code, mechanisms, data)


def server_of(password: str, mechanism: str, binding: Any = None) -> Any:
    """The server's side of SCRAM as the library has it; the user is in the startup message, as PostgreSQL has it."""
    made = scramp.ScramMechanism(mechanism)
    kept = made.make_auth_info(password, iteration_count=4096)
    return made.make_server(lambda name: kept, channel_binding=binding)


def play(client: UpstreamLogin, server: Any, offered: tuple[str, ...]) -> None:
    """The exchange up to the server's proof. Fails when the client refuses."""
    first = messages.decode_sasl_initial_response(client.feed(asking(messages.SASL, mechanisms=offered))[5:])
    server.set_client_first((first.data or b"").decode())
    final = client.feed(asking(messages.SASL_CONTINUE, server.get_server_first().encode()))[5:]
    server.set_client_final(final.decode())
    assert client.feed(asking(messages.SASL_FINAL, server.get_server_final().encode())) == b""


def upstream_login(certificate: bytes | None = None) -> UpstreamLogin:
    return UpstreamLogin("app", "pa55", "shop", {"application_name": "psql"}, certificate)


END = (
    messages.encode_authentication(messages.AUTHENTICATION_OK)
    + messages.encode_parameter_status("server_version", "15.18")
    + messages.encode_backend_key_data(4242, b"four")
    + messages.encode_ready_for_query("I")
)


def test_the_server_must_prove_that_it_knows_the_password() -> None:
    client = upstream_login()
    play(client, server_of("pa55", "SCRAM-SHA-256"), ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"))
    assert client.feed(END + b"\1\2") == b""
    assert (client.is_done, client.parameters, client.pid, client.secret) == (
        True,
        {"server_version": "15.18"},
        4242,
        b"four",
    )
    assert client.rest == b"\1\2"


@pytest.mark.parametrize(
    ("message", "word"),
    [
        (asking(messages.AUTHENTICATION_OK), "trust"),
        (asking(messages.CLEARTEXT_PASSWORD), "clear text"),
        (asking(messages.MD5_PASSWORD, b"salt"), "MD5"),
        (asking(7), "kind 7"),
        (asking(9), "kind 9"),
        (asking(messages.SASL, mechanisms=("SCRAM-SHA-1", "OAUTHBEARER")), "OAUTHBEARER"),
        (asking(messages.SASL_CONTINUE, b"r=x"), "kind 11"),
        (asking(messages.SASL_FINAL, b"v=x"), "kind 12"),
    ],
)
def test_every_other_way_of_signing_in_is_refused_and_the_password_stays_here(message: bytes, word: str) -> None:
    client = upstream_login()
    with pytest.raises(UpstreamRefused) as refused:
        client.feed(message)
    assert "SCRAM-SHA-256 only" in refused.value.sentence
    assert word in refused.value.detail
    assert not client.is_done


def test_a_server_that_stops_half_way_and_says_ok_is_refused() -> None:
    client, server = upstream_login(), server_of("pa55", "SCRAM-SHA-256")
    first = messages.decode_sasl_initial_response(client.feed(asking(messages.SASL, mechanisms=("SCRAM-SHA-256",)))[5:])
    server.set_client_first((first.data or b"").decode())
    client.feed(asking(messages.SASL_CONTINUE, server.get_server_first().encode()))
    with pytest.raises(UpstreamRefused, match="trust"):
        client.feed(END)
    assert (client.is_done, client.pid) == (False, 0)


@pytest.mark.parametrize("final", [b"v=AAAA", b"e=invalid-proof", b"", b"\xff", b"v=", b"nonsense"])
def test_a_wrong_proof_of_the_server_is_refused(final: bytes) -> None:
    client, server = upstream_login(), server_of("pa55", "SCRAM-SHA-256")
    first = messages.decode_sasl_initial_response(client.feed(asking(messages.SASL, mechanisms=("SCRAM-SHA-256",)))[5:])
    server.set_client_first((first.data or b"").decode())
    client.feed(asking(messages.SASL_CONTINUE, server.get_server_first().encode()))
    with pytest.raises(UpstreamRefused):
        client.feed(asking(messages.SASL_FINAL, final))


@given(some.binary(max_size=60) | some.text("rsi=,0123456789abcdef+/", max_size=60).map(str.encode))
@settings(max_examples=200, deadline=None)
def test_any_first_answer_of_a_server_is_refused_or_gone_on_with(data: bytes) -> None:
    client = upstream_login()
    client.feed(asking(messages.SASL, mechanisms=("SCRAM-SHA-256",)))
    with pytest.raises(UpstreamRefused):
        client.feed(asking(messages.SASL_CONTINUE, data))


def test_statements_results_and_keys_before_the_end_are_refused() -> None:
    for message in (messages.encode_data_row([b"1"]), messages.encode_ready_for_query("I"), END[9:], b"\xff\0\0\0\4"):
        client = upstream_login()
        with pytest.raises(UpstreamRefused) as refused:
            client.feed(message)
        assert refused.value.sqlstate == "08P01"
        assert (client.is_done, client.parameters) == (False, {})


@pytest.mark.parametrize(
    ("code", "sqlstate", "word"),
    [
        ("28P01", "08004", "app"),
        ("28000", "08004", "app"),
        ("53300", "53300", "now"),
        ("57P03", "57P03", "now"),
        ("x\n", "08004", "app"),
    ],
)
def test_an_error_of_the_server_is_said_without_its_text(code: str, sqlstate: str, word: str) -> None:
    with pytest.raises(UpstreamRefused) as refused:
        upstream_login().feed(messages.encode_error_response({"S": "FATAL", "C": code, "M": "secret words"}))
    assert (refused.value.sqlstate, word in refused.value.sentence) == (sqlstate, True)
    assert "secret words" not in refused.value.sentence
    assert "secret words" in refused.value.detail


def test_tls_must_be_agreed_to_by_one_byte_alone() -> None:
    upstream.check_tls_answer(b"S")
    for answer, word in (
        (b"N", "does not speak TLS"),
        (b"E", "something else"),
        (b"SX", "something else"),
        (b"", "something else"),
    ):
        with pytest.raises(UpstreamRefused, match=word):
            upstream.check_tls_answer(answer)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, Path]]:
    """Called with a kind of key: certificate and key files for 127.0.0.1."""
    folder = tmp_path_factory.mktemp("certificates")

    def make(*kind: str) -> tuple[Path, Path]:
        name = folder / "-".join(kind).replace(":", "-")
        paths = name.with_suffix(".crt"), name.with_suffix(".key")
        subprocess.run(
            ["openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=IP:127.0.0.1", *kind, "-out", paths[0], "-keyout", paths[1]],
            check=True, capture_output=True,
        )  # fmt: skip
        return paths

    return make


def test_scram_is_bound_to_the_certificate(certificate: Callable[..., tuple[Path, Path]]) -> None:
    path, _ = certificate("-newkey", "rsa:2048", "-sha384")
    der = ssl.PEM_cert_to_DER_cert(path.read_text())
    both = ("SCRAM-SHA-256", "SCRAM-SHA-256-PLUS")
    bound = ("tls-server-end-point", hashlib.sha384(der).digest())
    client = upstream_login(der)
    play(client, server_of("pa55", "SCRAM-SHA-256-PLUS", bound), both)
    client.feed(END)
    assert client.is_done
    elsewhere = server_of("pa55", "SCRAM-SHA-256-PLUS", ("tls-server-end-point", hashlib.sha384(b"another").digest()))
    with pytest.raises(scramp.ScramException, match="bindings"):
        play(upstream_login(der), elsewhere, both)


def test_a_certificate_without_a_hash_of_its_own_cannot_be_bound_to(
    certificate: Callable[..., tuple[Path, Path]],
) -> None:
    path, _ = certificate("-newkey", "ed25519")
    der = ssl.PEM_cert_to_DER_cert(path.read_text())
    assert x509.load_der_x509_certificate(der).signature_hash_algorithm is None
    client = upstream_login(der)
    play(client, server_of("pa55", "SCRAM-SHA-256"), ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"))
    client.feed(END)
    assert client.is_done


# A real PostgreSQL


@pytest.fixture
def account(monitored: Monitored) -> Iterator[tuple[str, str]]:
    """A login with a password that SASLprep has something to say about."""
    name, password = f"gate_{secrets.token_hex(4)}", "pä55 ½ word"
    with monitored.connect() as connection:
        connection.execute(f"create role {name} login password '{password}'".encode())
        yield name, password
        connection.execute(f"drop role {name}".encode())


class SignedIn(NamedTuple):
    connection: socket.socket
    client: UpstreamLogin
    answers: list[bytes]


def sign_in(
    where: Monitored,
    user: str,
    password: str,
    database: str = "postgres",
    context: ssl.SSLContext | None = None,
    **more: str,
) -> SignedIn:
    """Play the login over a real connection."""
    connection, certificate, answers = socket.create_connection(("127.0.0.1", where.port), timeout=30), None, []
    try:
        if context is not None:
            connection.sendall(upstream.ask_tls())
            upstream.check_tls_answer(connection.recv(1))
            connection = context.wrap_socket(connection, server_hostname="127.0.0.1")
            certificate = connection.getpeercert(binary_form=True)
        client = UpstreamLogin(user, password, database, more, certificate)
        connection.sendall(client.begin())
        while not client.is_done:
            data = connection.recv(1 << 16)
            assert data, "the server closed the connection"
            if answer := client.feed(data):
                answers.append(answer)
                connection.sendall(answer)
    except BaseException:
        connection.close()
        raise
    return SignedIn(connection, client, answers)


def ask(connection: socket.socket, sql: str) -> list[list[bytes | None]]:
    """The rows of one statement."""
    connection.sendall(messages.encode_query(sql))
    reader, rows = Reader(sender="server"), []
    while True:
        for frame in reader.feed(connection.recv(1 << 16)):
            if frame.kind == messages.FromServer.DATA_ROW:
                rows.append(list(messages.decode_data_row(frame.body).values))
            if frame.kind == messages.FromServer.READY_FOR_QUERY:
                return rows


def test_it_signs_in_to_a_real_postgresql(monitored: Monitored, account: tuple[str, str]) -> None:
    connection, client, answers = sign_in(monitored, *account, application_name="gate", datestyle="German")
    with connection:
        assert client.parameters["application_name"] == "gate"
        assert client.parameters["DateStyle"].startswith("German")
        assert (len(client.secret), client.rest) == (4, b"")
        told = ask(connection, "select current_user, pg_backend_pid()")
        assert told == [[account[0].encode(), str(client.pid).encode()]]
    assert account[1].encode() not in b"".join(answers)


def test_a_wrong_password_is_refused_by_a_real_postgresql(monitored: Monitored, account: tuple[str, str]) -> None:
    with pytest.raises(UpstreamRefused) as refused:
        sign_in(monitored, account[0], "wrong")
    assert (refused.value.sqlstate, account[0] in refused.value.sentence) == ("08004", True)
    assert refused.value.detail.startswith("28P01")


def test_a_database_that_is_not_there_is_said_with_its_code(monitored: Monitored, account: tuple[str, str]) -> None:
    with pytest.raises(UpstreamRefused) as refused:
        sign_in(monitored, *account, "nowhere")
    assert refused.value.sqlstate == "3D000"


def test_a_real_postgresql_with_tls_takes_the_bound_form(
    monitored_with_tls: Monitored, authority: Authority, account: tuple[str, str]
) -> None:
    context = ssl.create_default_context(cafile=str(authority.ca))
    connection, client, answers = sign_in(monitored_with_tls, *account, context=context)
    with connection:
        assert messages.decode_sasl_initial_response(answers[0][5:]).mechanism == "SCRAM-SHA-256-PLUS"
        told = ask(connection, "select ssl, pid from pg_stat_ssl where pid = pg_backend_pid()")
        assert told == [[b"t", str(client.pid).encode()]]
    with pytest.raises(UpstreamRefused) as refused:
        sign_in(monitored_with_tls, account[0], "wrong", context=context)
    assert refused.value.detail.startswith("28P01")


def test_an_account_with_an_md5_password_is_refused_on_both_sides(
    monitored: Monitored, account: tuple[str, str]
) -> None:
    with monitored.connect() as connection:
        connection.execute("set password_encryption = 'md5'")
        connection.execute(f"alter role {account[0]} password 'pa55'".encode())
    with pytest.raises(UpstreamRefused) as refused:
        sign_in(monitored, account[0], "pa55")
    assert refused.value.sqlstate == "08004"


@pytest.mark.parametrize(("asked", "length"), [("3.0", 4), ("3.2", 32)])
def test_a_real_client_gets_the_cancel_key_of_the_version_it_asks_for(
    gateway: Running, asked: str, length: int
) -> None:
    """libpq 18 speaks 3.2 when it is told to; its cancel request then carries the long key."""
    with gateway.connect(min_protocol_version=asked, max_protocol_version=asked) as connection:
        (key,) = [running.key for running in gateway.call(lambda: list(gateway.gateway.sessions))]
        assert len(key[1]) == length
        cancelling = threading.Thread(
            target=lambda: until(lambda: gateway.shop.is_running("pg_sleep")) and connection.cancel_safe()
        )
        cancelling.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("select pg_sleep(60)")
        cancelling.join()
        assert connection.execute("select 1").fetchone() == (1,)
