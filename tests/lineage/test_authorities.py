"""The store asks timestamp authorities: keeps what holds, is not held up by what does not, and says when none answers."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from django.core.management import call_command
from django.db import Error, connection, transaction
from django.test import Client

import manage
from demo import authority as local
from lineage import authorities, checkpoints, errors, ingest, keeper, keys, ledger, notes, packfile, packs, timestamps
from lineage.access import Viewer
from lineage.events import Event, format_time
from lineage.models import Role, Source
from lineage.verify import Check, Verdict, verify
from tests import story

pytestmark = pytest.mark.slow

NOW = dt.datetime.now(dt.UTC)
HOUR = dt.timedelta(hours=1)


def rows(sql: str, *values: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return list(cursor.fetchall()) if cursor.description else []


def url(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/tsr"


@contextlib.contextmanager
def answering(answer: Callable[[BaseHTTPRequestHandler, bytes], None]) -> Iterator[str]:
    """A server that does with each request what the test says; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with contextlib.suppress(OSError):
                answer(self, body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield url(server)
    finally:
        server.shutdown()
        server.server_close()


def say(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture(scope="module")
def tsa(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = local.serve(local.Authority(tmp_path_factory.mktemp("tsa") / "one"))
    yield url(server)
    server.shutdown()
    server.server_close()


@pytest.fixture
def log(store: str) -> Callable[[], int]:
    """Called, it adds a record and signs; returns the size."""
    source = story.source()
    count = iter(range(1000))

    def grow() -> int:
        story.send(source, story.query(f"q{next(count)}", NOW, story.DANA, "select 1", "read"))
        return checkpoints.checkpoint()

    grow()
    return grow


def earlier(size: int, at: dt.datetime) -> None:
    """A checkpoint of the past, as the signer would have left it."""
    note = notes.sign(notes.make_checkpoint("touchstone.local/log", size, bytes(32)), notes.generate_key("x"))
    rows(
        "insert into ledger_checkpoint (size, root, note, at) values (%s, %s, %s, %s)",
        size,
        bytes(32),
        note.decode(),
        at,
    )


def token(size: int, at: dt.datetime, authority: str = "here") -> None:
    rows(
        "insert into ledger_timestamp (size, authority, response, stated_at, at) values (%s, %s, '', %s, %s)",
        size, authority, at, at,
    )  # fmt: skip


def alarms() -> list[str]:
    return [row[0] for row in rows("select code from ledger_alarm where cleared_at is null order by id")]


def test_a_token_of_the_newest_checkpoint_is_kept_whole_and_verifies_under_the_printed_policy(
    log: Any, tsa: str, settings: Any
) -> None:
    settings.TSA = [f"here={tsa}"]
    size = log()
    authorities.Asking()()
    ((kept_size, name, response, stated_at),) = rows(
        "select size, authority, response, stated_at from ledger_timestamp"
    )
    assert (kept_size, name) == (size, "here")
    out = io.StringIO()
    call_command("policy", stdout=out)
    policy = notes.parse_policy(out.getvalue())
    ((note,),) = rows("select note from ledger_checkpoint where size = %s", size)
    text = notes.verify(note, policy.logs).text
    stamp = timestamps.verify(bytes(response), text.encode(), policy.authorities[0])
    assert stamp.stated_at == stated_at
    assert abs(stated_at - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=5)


def test_the_keeper_asks_apart_from_the_signer(settings: Any) -> None:
    (found,) = [each for each in keeper.rounds() if each.name == "timestamps"]
    assert found.apart
    assert isinstance(found.work, authorities.Asking)


def test_one_token_an_hour_and_none_when_the_log_did_not_grow(log: Any, tsa: str, settings: Any) -> None:
    settings.TSA = [f"here={tsa}"]
    asking = authorities.Asking()
    first = log()
    asking()
    log()
    asking()
    assert rows("select size from ledger_timestamp") == [(first,)]
    settings.TSA_HOURS = 0.0
    second = log()
    asking()
    asking()
    assert rows("select size from ledger_timestamp order by size") == [(first,), (second,)]


def test_each_authority_is_asked_in_its_own_time(log: Any, tsa: str, settings: Any) -> None:
    settings.TSA = [f"one={tsa}"]
    size = log()
    authorities.Asking()()
    settings.TSA = [f"one={tsa}", f"two={tsa}"]
    later = log()
    authorities.Asking()()
    assert rows("select size, authority from ledger_timestamp order by authority") == [(size, "one"), (later, "two")]
    # Two names of one authority are one line of a policy, which lists no certificate twice.
    assert len(authorities.policy_lines()) == 1


DAYS = (
    ("2026-11-20T23:30Z", "2026-11-20T23:30Z", "2026-11-21T00:00Z", True),
    ("2026-11-20T23:30Z", "2026-11-20T23:30Z", "2026-11-20T23:59Z", False),
    ("2026-11-20T23:59Z", "2026-11-21T00:01Z", "2026-11-21T00:02Z", True),
    ("2026-11-21T00:00Z", "2026-11-21T00:00Z", "2026-11-21T00:59Z", False),
    ("2026-11-20T22:00Z", "2026-11-20T22:30Z", "2026-11-20T23:59Z", True),
)


def test_the_first_checkpoint_of_a_day_is_stamped_also_within_the_hour(store: str, time_machine: Any) -> None:
    for number, (*times, due) in enumerate(DAYS, 1):
        last_signed, last_asked, newest = (dt.datetime.fromisoformat(each) for each in times)
        earlier(10 * number, last_signed)
        token(10 * number, last_asked, f"authority {number}")
        earlier(10 * number + 1, newest)
        time_machine.move_to(newest + dt.timedelta(seconds=1), tick=False)
        assert authorities.is_due(f"authority {number}") is due, times


def test_nothing_is_asked_before_the_first_checkpoint(store: str, settings: Any) -> None:
    settings.TSA = ["here=http://127.0.0.1:1/"]
    authorities.Asking()()
    with pytest.raises(errors.NotFound):
        authorities.ask("here", "http://127.0.0.1:1/")
    assert alarms() == []


def otherwise(body: bytes, place: int) -> bytes:
    """The request with one bit of one byte changed."""
    changed = bytearray(body)
    changed[place] ^= 1
    return bytes(changed)


def test_no_time_is_asked_for_while_records_wait_for_their_checkpoint(log: Any, tsa: str, time_machine: Any) -> None:
    log()
    ledger.record_decision("configuration", decided_by="operator@command-line")
    authorities.ask("here", tsa)
    time_machine.move_to(dt.datetime.now(dt.UTC) + dt.timedelta(minutes=6))
    with pytest.raises(errors.TimestampInvalid, match="while records wait"):
        authorities.ask("there", tsa)
    assert rows("select authority from ledger_timestamp") == [("here",)]


@contextlib.contextmanager
def failing(kind: str, tmp_path: Path) -> Iterator[str]:
    """The address of an authority that fails in one way."""
    tsa = local.Authority(tmp_path / "failing")
    other = local.Authority(tmp_path / "unknown", issuer=(local.certificate("Far root", tsa.key, ca=True), tsa.key))

    # openssl puts the longer certificate first; DER wants the shorter there.
    unsorted = local.Authority(tmp_path / "unsorted", issuer=(local.certificate("R", tsa.key, ca=True), tsa.key))
    (unsorted.folder / "chain.pem").write_bytes(local.certificate("R", tsa.key, ca=True).public_bytes(Encoding.PEM))
    with (unsorted.folder / "tsa.conf").open("a") as config:
        config.write(f"certs = {unsorted.folder}/chain.pem\n")

    def slowly(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b"0")
            time.sleep(0.05)

    deeds: dict[str, Callable[[BaseHTTPRequestHandler, bytes], None]] = {
        "garbage": lambda handler, _: say(handler, b"<html>hello</html>"),
        "nothing": lambda handler, _: say(handler, b""),
        "error": lambda handler, _: say(handler, b"", 500),
        "redirect": lambda handler, _: say(handler, b"", 302, Location="http://127.0.0.1:1/"),
        "huge": lambda handler, body: say(handler, tsa.answer(body) + bytes(1 << 20)),
        "another message": lambda handler, body: say(handler, tsa.answer(otherwise(body, body.index(b"\x04\x20") + 2))),
        # The last byte of the nonce, before the flag that asks for the certificate.
        "another nonce": lambda handler, body: say(handler, tsa.answer(otherwise(body, -4))),
        "refusal": lambda handler, _: say(handler, tsa.answer(b"no request")),
        "cut": lambda handler, body: say(handler, tsa.answer(body)[:-9]),
        "unknown root": lambda handler, body: say(handler, other.answer(body)),
        "unsorted": lambda handler, body: say(handler, unsorted.answer(body)),
        "byte by byte": lambda handler, _: slowly(handler),
    }
    if kind == "down":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        yield f"http://127.0.0.1:{port}/"
        return
    with answering(deeds[kind]) as address:
        yield address


SAID = {
    "garbage": "cannot be read", "nothing": "cannot be read", "error": "did not answer", "redirect": "did not answer",
    "huge": "larger than 64 KiB", "another message": "Mismatch between messages", "another nonce": "Nonce mismatch",
    "refusal": "did not grant", "cut": "cannot be read", "unknown root": "TOUCHSTONE_TSA_ROOTS", "unsorted": "InvalidSetOrdering",
    "byte by byte": "within", "down": "did not answer",
}  # fmt: skip


def test_whatever_an_authority_does_wrong_is_told_and_nothing_is_kept(
    log: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind, said in SAID.items():
        monkeypatch.setattr(authorities, "TIMEOUT_SECONDS", 1.0 if kind == "byte by byte" else 60.0)
        with failing(kind, tmp_path / kind) as bad, pytest.raises(errors.TimestampInvalid, match=said):
            authorities.ask("bad", bad)
    assert rows("select 1 from ledger_timestamp") == rows("select 1 from ledger_authority") == []


def test_a_failing_authority_is_told_once_and_waits_and_the_next_is_asked(
    log: Any, tsa: str, settings: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    size = log()
    asking = authorities.Asking()
    with failing("garbage", tmp_path / "bad") as bad:
        settings.TSA = [f"bad={bad}", f"good={tsa}"]
        asking()
        asking()
    (told,) = [record.getMessage() for record in caplog.records if "no timestamp of bad" in record.getMessage()]
    assert told.endswith("Asked again in 60 s.")
    assert rows("select size, authority from ledger_timestamp") == [(size, "good")]


def test_each_further_failure_waits_longer_but_never_beyond_half_an_hour(log: Any, settings: Any) -> None:
    settings.TSA = ["bad=http://127.0.0.1:1/"]
    asking = authorities.Asking()
    waits = []
    for _ in range(8):
        asking.not_before.clear()
        asking()
        waits.append(round(asking.not_before["bad"] - time.monotonic(), -1))
    assert waits == [60, 120, 240, 480, 960, 1800, 1800, 1800]


def test_the_late_alarm_comes_with_a_checkpoint_that_waits_and_goes_with_the_next_token(
    store: str, tsa: str, settings: Any
) -> None:
    settings.TSA = ["here=http://127.0.0.1:1/"]
    # NOW is when this file was read, some minutes ago.
    earlier(10, NOW - 1 * HOUR)
    authorities.judge_lateness()
    assert alarms() == []
    earlier(5, NOW - 5 * HOUR)
    authorities.judge_lateness()
    authorities.judge_lateness()
    assert alarms() == ["timestamp-late"]
    settings.TSA = [f"here={tsa}"]
    authorities.Asking()()
    assert alarms() == []


def test_no_alarm_where_no_authority_is_asked_for_or_nothing_new_waits(store: str, settings: Any) -> None:
    earlier(10, NOW - 50 * HOUR)
    authorities.judge_lateness()
    assert alarms() == []
    settings.TSA = ["here=http://127.0.0.1:1/"]
    token(10, NOW - 49 * HOUR)
    authorities.judge_lateness()
    assert alarms() == []


def test_an_authority_that_states_another_time_is_kept_and_the_difference_is_on_record(
    log: Any, tsa: str, time_machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    log()
    time_machine.move_to(dt.datetime.now(dt.UTC) - dt.timedelta(seconds=200))
    authorities.ask("close", tsa)
    assert skews() == []
    time_machine.move_to(dt.datetime.now(dt.UTC) + dt.timedelta(seconds=600))
    authorities.ask("there", tsa)
    assert re.fullmatch(r"the store's clock is \d{3} s ahead of there", skews()[0])
    # Further back the database would not take the record: its own clock is the second one that must be near.
    monkeypatch.setattr(authorities, "SKEW_SECONDS", 100)
    time_machine.move_to(dt.datetime.now(dt.UTC) - dt.timedelta(seconds=600))
    authorities.ask("here", tsa)
    assert [each for each in skews() if re.fullmatch(r"the store's clock is \d{3} s behind here", each)]
    assert len(rows("select 1 from ledger_timestamp")) == 3


def skews() -> list[str]:
    found = rows(
        "select convert_from(action, 'UTF8') from ledger_journal where position('clock_skew'::bytea in action) > 0"
    )
    return [json.loads(row[0])["custody"]["detail"] for row in found]


def test_the_command_asks_now_and_prints_authority_size_and_time(log: Any, tsa: str, settings: Any) -> None:
    settings.TSA = [f"here={tsa}"]
    size, out = log(), io.StringIO()
    call_command("timestamp", stdout=out)
    assert out.getvalue().startswith(f"here: {size} records at {dt.datetime.now(dt.UTC):%Y-%m-%dT%H}")
    call_command("timestamp", stdout=out)
    assert len(rows("select 1 from ledger_timestamp")) == 1


def test_the_command_says_what_fails_and_that_none_is_named(
    log: Any, tsa: str, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        call_command("timestamp")
    assert "Set TOUCHSTONE_TSA=NAME=URL" in capsys.readouterr().err
    settings.TSA = ["bad=http://127.0.0.1:1/", f"good={tsa}"]
    with pytest.raises(SystemExit):
        call_command("timestamp")
    printed = capsys.readouterr()
    assert "bad: The authority did not answer" in printed.err
    assert printed.out.startswith("good: ")


@pytest.mark.parametrize("value", ["here", "here=ftp://x/", "=http://x/", "a+b=http://x/", "here=file:///etc/passwd"])
def test_a_setting_that_names_no_authority_is_refused_by_name(settings: Any, value: str) -> None:
    settings.TSA = [value]
    with pytest.raises(errors.SettingsInvalid, match="TOUCHSTONE_TSA"):
        authorities.configured()
    settings.TSA = ["here=http://x/", "here=http://y/"]
    with pytest.raises(errors.SettingsInvalid, match="each name once"):
        authorities.configured()


def test_roots_of_the_operators_own_complete_a_chain(log: Any, settings: Any, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    root = local.certificate("House root", key, ca=True)
    server = local.serve(local.Authority(tmp_path / "house", issuer=(root, key)))
    try:
        with pytest.raises(errors.TimestampInvalid, match="CN=House root"):
            authorities.ask("house", url(server))
        settings.TSA_ROOTS = str(tmp_path / "roots.pem")
        (tmp_path / "roots.pem").write_text("nothing")
        with pytest.raises(errors.SettingsInvalid, match="TOUCHSTONE_TSA_ROOTS"):
            authorities.ask("house", url(server))
        (tmp_path / "roots.pem").write_bytes(root.public_bytes(Encoding.PEM))
        authorities.ask("house", url(server))
    finally:
        server.shutdown()
        server.server_close()
    assert notes.parse_policy(f"{authorities.policy_lines()[0]}\nquorum none\n").authorities[0].certificates[1] == root


def test_a_renewed_certificate_is_a_second_line_and_old_tokens_keep_the_first(
    log: Any, settings: Any, tmp_path: Path
) -> None:
    for number in (1, 2):
        log()
        server = local.serve(local.Authority(tmp_path / str(number)))
        authorities.ask("here", url(server))
        server.shutdown()
        server.server_close()
    policy = notes.parse_policy("\n".join([*authorities.policy_lines(), "quorum none", ""]))
    assert [each.name for each in policy.authorities] == ["here", "here"]
    for size, response in rows("select size, response from ledger_timestamp order by size"):
        ((note,),) = rows("select note from ledger_checkpoint where size = %s", size)
        text = notes.read_note(note.encode()).text.encode()
        (by,) = [each for each in policy.authorities if timestamps.made_by(bytes(response), each)]
        assert timestamps.verify(bytes(response), text, by)


def test_a_record_was_in_the_log_by_the_earliest_time_stated_over_it_and_its_page_says_so(log: Any) -> None:
    size = log()
    assert authorities.first_over(0) is None
    token(size, NOW - HOUR, "second")
    token(size + 1, NOW - 2 * HOUR, "first")
    token(1, NOW, "third")
    assert authorities.first_over(0) == authorities.Stamped(size + 1, "first", NOW - 2 * HOUR)
    assert authorities.first_over(size) == authorities.Stamped(size + 1, "first", NOW - 2 * HOUR)
    assert authorities.first_over(size + 1) is None
    client = Client()
    client.force_login(story.person())
    page = client.get("/events/0/").content.decode()
    assert "in the log by" in page
    assert "says first" in page


def test_a_pack_carries_the_times_before_and_after_its_records_and_the_newest(log: Any, tsa: str) -> None:
    sizes = []
    for _ in range(5):
        sizes.append(log())
        authorities.ask("here", tsa)
    pack = packs.collect(Viewer(email="a@audit.example", role=Role.ADMIN), f"index:{sizes[2] - 1}")
    found = packfile.read(pack).anchors
    assert [notes.parse_checkpoint(notes.read_note(each.note).text).size for each in found] == [*sizes[1:3], sizes[4]]
    verdict, said = judged(f"index:{sizes[2] - 1}")
    assert (verdict.exit, said.state) == (0, "pass")
    assert said.sentence.count("here states 20") == 3


def test_a_record_that_is_dated_back_behind_a_stamped_checkpoint_is_found_by_the_verifier(log: Any, tsa: str) -> None:
    log()
    authorities.ask("here", tsa)
    source = Source.objects.get(name="desk")
    admission = ingest.Admission(source)
    admission.received_at = format_time(NOW - HOUR)
    dated = admission.admit(Event(kind="query", op="read", source_event_id="late", occurred_at=format_time(NOW - HOUR)))
    assert isinstance(dated, ledger.Entry)
    (placed,) = ledger.append(source.pk, [dated])
    checkpoints.checkpoint()
    authorities.ask("here", tsa)
    verdict, said = judged(f"index:{placed.index}")
    assert (verdict.exit, said.state) == (1, "fail")
    assert said.sentence.startswith(f"Record {placed.index} says that it was received at ")
    assert judged("index:0")[0].exit == 0


def judged(query: str) -> tuple[Verdict, Check]:
    """The verdict on a pack under the policy that the store prints, and its check of time."""
    pack = packs.collect(Viewer(email="a@audit.example", role=Role.ADMIN), query)
    policy = "\n".join([f"log {keys.vkey('checkpoint')}", *authorities.policy_lines(), "quorum none", ""])
    verdict = verify(pack, notes.parse_policy(policy))
    (said,) = [each for each in verdict.checks if each.name == "time"]
    return verdict, said


def test_the_keepers_role_may_do_all_of_it_and_the_command_runs_with_that_role(
    log: Any, tsa: str, settings: Any
) -> None:
    settings.TSA = [f"here={tsa}"]
    size = log()
    rows("set role touchstone_store")
    try:
        authorities.Asking()()
        assert len(authorities.policy_lines()) == 1
    finally:
        rows("reset role")
    assert rows("select size from ledger_timestamp") == [(size,)]
    assert manage.ROLES["timestamp"] == manage.ROLES["keeper"] == "store"


def test_what_is_kept_is_never_changed_and_the_web_adds_nothing(log: Any, tsa: str) -> None:
    log()
    authorities.ask("here", tsa)
    for sql in (
        "delete from ledger_timestamp", "update ledger_timestamp set stated_at = now()", "truncate ledger_authority",
        "update ledger_authority set line = ''",
    ):  # fmt: skip
        with pytest.raises(Error), transaction.atomic():
            rows(sql)
    for sql in (
        "insert into ledger_timestamp (size, authority, response, stated_at) values (1, 'x', '', now())",
        "insert into ledger_authority (name, fingerprint, line) values ('x', sha256('x'), 'x')",
    ):
        with transaction.atomic():
            rows("set local role touchstone_web")
            with pytest.raises(Error), transaction.atomic():
                rows(sql)
    assert len(rows("select 1 from ledger_timestamp")) == 1
