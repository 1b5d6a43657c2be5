"""What others hold of our log: real witness processes, auditors who pull, checkpoints given away, and what pages say."""

from __future__ import annotations

import datetime as dt
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref import simple_server

import psycopg
import pytest
from django.core import mail
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.db import connection, connections
from django.test import Client

from config import mail as mail_settings
from lineage import access, alarms, drops, errors, keeper, keys, ledger, notes, outside, posting, tree, witnesses, words
from lineage.management.commands import _told
from lineage.models import ApiToken, User
from lineage.witness.state import State
from tests.witnesses import ROOT, Log, Witness

pytestmark = pytest.mark.slow


def grow(records: int) -> int:
    """So many records more, under a checkpoint; the log's size."""
    for _ in range(records):
        ledger.record_decision("configuration", decided_by="test")
    return keeper.once()


def asked(sql: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def cosignatures() -> list[Any]:
    return asked("select size, witness from ledger_cosignature order by size, witness")


def standing() -> list[tuple[str, str]]:
    return [(alarm["code"], alarm["subject"]) for alarm in alarms.standing()]


def recorded() -> list[bytes]:
    """The action and actor groups of what the log holds."""
    return [bytes(row[0]) for row in asked("select actor from ledger_journal where actor is not null")]


@pytest.fixture
def trusts(settings: Any, tmp_path: Path) -> Callable[..., None]:
    """Call it with witnesses: those become the policy's, named w1, w2 …; with `url=False` they pull."""

    def write(*each: Witness, url: bool = True) -> None:
        lines = [f"witness w{n} {one.vkey} {one.url if url else ''}".strip() for n, one in enumerate(each, 1)]
        (tmp_path / "policy").write_text("\n".join([*lines, "quorum none"]) + "\n")
        settings.WITNESS_POLICY = str(tmp_path / "policy")

    return write


@pytest.fixture
def witness(store: str, tmp_path: Path, trusts: Callable[..., None]) -> Iterator[Witness]:
    """A witness process that knows our log's key and is named in the policy."""
    with Witness(tmp_path / "w1.json", keys.vkey("checkpoint")) as running:
        trusts(running)
        yield running


def only() -> witnesses.Witness:
    (one,) = witnesses.configured()
    return one


def viewer(role: str = "auditor") -> Client:
    user = User.objects.create(email=f"{role}@audit.example", role=role)
    ApiToken.objects.create(user=user, token_hash=access.token_hash(f"tsu_{role}"))
    return Client(headers={"authorization": f"Bearer tsu_{role}"})


def shown(one: Witness, log: Log, size: int) -> None:
    """Make the witness hold this history."""
    assert one.post(log.body(0, size))[0] == 200


def forged() -> Log:
    """Another history, signed with the log's own key."""
    skey = keys.load("checkpoint")
    return Log(notes.parse_skey(skey).name, skey, salt="forged ")


def test_the_newest_checkpoint_is_cosigned_kept_and_served_with_the_cosignature(witness: Witness) -> None:
    client, showing = viewer(), witnesses.Showing()
    for records in (1, 4, 30):
        size = grow(records)
        showing()
        assert cosignatures()[-1] == (size, "w1")
        for path in ("/checkpoint", "/checkpoint?witnessed=1"):
            note = client.get(path).content
            assert note.decode() == outside.note_with_cosignatures(size) == tree.newest_note()
            both = notes.verify(note, [keys.vkey("checkpoint"), witness.vkey])
            assert [each.timestamp is None for each in both.verified] == [True, False]
    unwitnessed = grow(1)
    assert client.get("/checkpoint").content.decode() == outside.signed_note(unwitnessed)
    assert client.get("/checkpoint?witnessed=1").content.decode() == outside.note_with_cosignatures(size)
    assert [anchor.size for anchor in outside.anchors(1, unwitnessed)] == [row[0] for row in cosignatures()]
    assert outside.anchors(unwitnessed, unwitnessed) == []
    assert standing() == []


def test_the_keeper_shows_and_drops_in_rounds_that_signing_does_not_wait_for() -> None:
    assert {each.name for each in keeper.rounds() if each.apart} >= {"witnesses", "drops"}


def test_a_witness_that_knows_more_than_we_thought_is_shown_a_proof_from_there(witness: Witness) -> None:
    first = grow(3)
    assert witness.post(f"old 0\n\n{outside.signed_note(first)}".encode())[0] == 200
    second = grow(5)
    assert witnesses.show(only()) is None
    assert cosignatures() == [(second, "w1")]
    # A cosignature that was lost on the way is asked for again.
    third = grow(3)
    body = "\n".join([f"old {second}", *tree.consistency(second, third)["proof"], "", outside.signed_note(third)])
    assert witness.post(body.encode())[0] == 200
    assert witnesses.show(only()) is None
    assert cosignatures() == [(second, "w1"), (third, "w1")]
    assert standing() == []


@pytest.mark.parametrize("theirs", [2, 3, 4], ids=["older", "as large", "larger"])
def test_a_witness_that_holds_another_history_is_an_alarm_and_nothing_is_kept(witness: Witness, theirs: int) -> None:
    grow(2)
    size = grow(1)
    shown(witness, forged(), {2: 2, 3: size, 4: size + 5}[theirs])
    witnesses.Showing()()
    assert standing() == [("witness-refused", "w1")]
    assert cosignatures() == []
    witnesses.Showing()()
    assert len(standing()) == 1
    assert "witness-refused" in "".join(
        row[0] for row in asked("select code from ledger_alarm where record is not null")
    )


def test_a_witness_that_holds_a_size_that_we_never_signed_is_an_alarm(witness: Witness) -> None:
    grow(2)
    grow(5)
    shown(witness, forged(), 4)
    assert "never signed" in str(witnesses.show(only()))
    assert standing() == [("witness-refused", "w1")]


def test_a_witness_whose_memory_was_set_back_is_an_alarm_and_is_shown_nothing(witness: Witness, tmp_path: Path) -> None:
    grow(3)
    assert witnesses.show(only()) is None
    shutil.copy(witness.state, tmp_path / "backup.json")
    grow(3)
    assert witnesses.show(only()) is None
    (tmp_path / "backup.json").rename(witness.state)
    before, kept = witness.state.read_bytes(), cosignatures()
    grow(1)
    assert "set back" in str(witnesses.show(only()))
    assert standing() == [("witness-refused", "w1")]
    assert (witness.state.read_bytes(), cosignatures()) == (before, kept)


def test_a_new_key_of_a_witness_begins_anew_without_an_alarm(
    witness: Witness, trusts: Callable[..., None], tmp_path: Path
) -> None:
    grow(3)
    assert witnesses.show(only()) is None
    with Witness(tmp_path / "new.json", keys.vkey("checkpoint")) as new:
        trusts(new)
        size = grow(2)
        assert witnesses.show(only()) is None
    assert cosignatures()[-1] == (size, "w1")
    assert standing() == []


def test_an_answer_that_another_key_signed_is_not_kept(
    witness: Witness, trusts: Callable[..., None], tmp_path: Path
) -> None:
    grow(3)
    with Witness(tmp_path / "other.json", keys.vkey("checkpoint")) as other:
        other.vkey = witness.vkey
        trusts(other)
        assert "no line" in str(witnesses.show(only()))
    assert cosignatures() == []


def test_a_witness_that_does_not_know_our_log_says_so(store: str, tmp_path: Path, trusts: Callable[..., None]) -> None:
    grow(1)
    with Witness(tmp_path / "w1.json", Log("other.example").vkey) as stranger:
        trusts(stranger)
        assert "404" in str(witnesses.show(only()))
    assert "did not answer" in str(witnesses.show(only()))
    assert cosignatures() == standing() == []


def test_a_silent_witness_is_given_up_and_the_others_are_shown_the_checkpoint(
    witness: Witness, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witnesses, "TIMEOUT_SECONDS", 0.5)
    silent = notes.vkey_of(notes.generate_key("silent.example", 4))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        policy = Path(settings.WITNESS_POLICY)
        line = f"witness w0 {silent} http://127.0.0.1:{listening.getsockname()[1]}\n"
        policy.write_text(line + policy.read_text())
        size, showing = grow(2), witnesses.Showing()
        showing()
    assert cosignatures() == [(size, "w1")]
    assert list(showing.failures) == ["w0"]
    assert showing.not_before["w0"] > 0


def test_a_dripping_answer_ends_when_its_time_is_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            one, _ = listening.accept()
            with one:
                for byte in b"HTTP/1.1 200 OK\r\n" * 100:
                    if stopped.wait(0.05):
                        return
                    one.sendall(bytes([byte]))

        stopped = threading.Event()
        thread = threading.Thread(target=drip)
        thread.start()
        with pytest.raises(errors.StoreUnavailable, match="within"):
            posting.post(f"http://127.0.0.1:{listening.getsockname()[1]}/", b"x", "text/plain", 0.5, 100)
        stopped.set()
        thread.join()


def test_a_checkpoint_that_nobody_cosigns_is_late_until_somebody_does_but_not_where_all_pull(
    witness: Witness, trusts: Callable[..., None], settings: Any
) -> None:
    settings.WITNESS_LATE_SECONDS = 0.0
    grow(1)
    trusts(witness, url=False)
    witnesses.judge_lateness()
    assert standing() == []
    trusts(witness)
    witnesses.judge_lateness()
    assert standing() == [("witness-late", "")]
    witnesses.Showing()()
    assert standing() == []
    settings.WITNESS_LATE_SECONDS = 3600.0
    grow(1)
    witnesses.judge_lateness()
    assert standing() == []


@pytest.mark.parametrize(
    "text", ["quorum w9\n", "witness w1 key\nquorum none\n", "witness w1 {} ftp://x\nquorum none\n", "\xff"]
)
def test_a_policy_of_witnesses_that_cannot_be_used_is_named(text: str, settings: Any, tmp_path: Path) -> None:
    key = notes.vkey_of(notes.generate_key("w.example", 4))
    (tmp_path / "policy").write_bytes(text.format(key).encode("latin-1"))
    settings.WITNESS_POLICY = str(tmp_path / "policy")
    with pytest.raises(errors.SettingsInvalid, match="TOUCHSTONE_WITNESS_POLICY"):
        witnesses.configured()
    settings.WITNESS_POLICY = str(tmp_path / "missing")
    with pytest.raises(errors.SettingsInvalid, match="TOUCHSTONE_WITNESS_POLICY"):
        witnesses.configured()


def test_a_cosignature_is_taken_from_an_auditor_only_when_a_witness_of_the_policy_made_it(
    witness: Witness, trusts: Callable[..., None]
) -> None:
    trusts(witness, url=False)
    size, client = grow(3), viewer()
    status, line, _ = witness.post(f"old 0\n\n{outside.signed_note(size)}".encode())
    assert status == 200
    stranger = notes.generate_key("stranger.example", 4)
    theirs = notes.cosign(outside.signed_note(size).encode(), stranger, 1)[len(outside.signed_note(size).encode()) :]

    def bring(body: str | bytes, of: object = size, by: Client = client) -> int:
        return by.post(f"/api/v1/cosignature?size={of}", body, content_type="text/plain").status_code

    assert bring(line, by=Client()) == 401
    refused = [theirs, line[:-6] + "AAAA=\n", "", "—", b"\xff" * 100, "x" * 100_000]
    assert [bring(body) for body in refused] == [403] * len(refused)
    assert b'"403 access-denied"' in b"".join(recorded())
    assert (bring(line, of=size + 50), bring(line, of="x"), bring(line, of=0)) == (404, 400, 404)
    assert cosignatures() == []
    assert bring(theirs.decode() + line) == 200
    assert cosignatures() == [(size, "w1")]
    assert outside.cosigned(size) == [line]
    assert bring(line) == 200
    assert cosignatures() == [(size, "w1")]
    assert b'"cosigned by w1"' in b"".join(recorded())
    assert bring(line, by=viewer("witness")) == 200


def test_the_web_role_adds_cosignatures_only_through_the_function_that_looks_for_the_checkpoint(
    store: str, server: Callable[..., dict[str, Any]]
) -> None:
    size = grow(2)
    with psycopg.connect(**server("web", dbname=store), autocommit=True) as web:
        for words_ in ("insert into ledger_cosignature values (1, 'w', 'line')", "delete from ledger_cosignature"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                web.execute(words_)
        assert web.execute("select ledger_cosign(%s, 'w', 'line')", [size + 1]).fetchone() == (False,)
        assert cosignatures() == []
        assert web.execute("select ledger_cosign(%s, 'w', 'line')", [size]).fetchone() == (True,)
        assert web.execute("select ledger_cosign(%s, 'w', 'other')", [size]).fetchone() == (True,)
    assert outside.cosigned(size) == ["line"]


class Quiet(simple_server.WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture
def address(store: str) -> Iterator[str]:
    """Our own server, as an auditor reaches it."""
    application = get_wsgi_application()

    def serve(environ: Any, start: Any) -> Any:
        try:
            return [b"".join(application(environ, start))]
        finally:
            connections.close_all()

    with simple_server.make_server("127.0.0.1", 0, serve, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def pull(address: str, state: Path, token: str = "tsu_auditor") -> subprocess.CompletedProcess[str]:
    words_ = ["pull", address, "--state", str(state), "--name", "w.example/pull", "--log", keys.vkey("checkpoint")]
    return subprocess.run(
        [sys.executable, "-m", "lineage.witness", *words_],
        cwd=ROOT, env={"TOUCHSTONE_TOKEN": token}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def key_of(state: Path) -> str:
    with State(state).open("w.example/pull") as book:
        return notes.vkey_of(book.key)


def test_an_auditor_whom_we_cannot_reach_pulls_keeps_and_brings_the_cosignature(
    address: str, settings: Any, tmp_path: Path
) -> None:
    viewer()
    state = tmp_path / "auditor.json"
    (tmp_path / "policy").write_text(f"witness far {key_of(state)}\nquorum far\n")
    settings.WITNESS_POLICY = str(tmp_path / "policy")
    for records in (1, 5):
        size = grow(records)
        done = pull(address, state)
        assert (done.returncode, done.stderr) == (0, "")
        assert cosignatures()[-1] == (size, "far")
        with State(state).open() as book:
            assert book.held(settings.ORIGIN)[0] == size
    assert {(each.kind, each.holder) for each in outside.held().holdings} == {
        ("witness", "far"),
        ("pull", "auditor@audit.example"),
    }


def test_a_pull_without_our_policy_knowing_the_key_keeps_the_checkpoint_all_the_same(
    address: str, tmp_path: Path
) -> None:
    viewer()
    grow(2)
    done = pull(address, tmp_path / "auditor.json")
    assert done.returncode == 0
    assert "did not take the cosignature" in done.stderr
    assert "access-denied" in done.stderr
    assert cosignatures() == []


def test_a_pull_refuses_a_fork_and_a_shrink_and_prints_both_notes(address: str, tmp_path: Path) -> None:
    viewer()
    grow(2)
    size = grow(3)
    # Older than ours, as large, of a size that we never signed, and larger.
    for kept, word in ((2, "forked"), (size, "forked"), (4, "forked"), (size + 20, "shrank")):
        state = State(tmp_path / f"auditor{kept}.json")
        with state.open("w.example/pull") as book:
            state.take(book, forged().note(kept))
        before = state.path.read_bytes()
        done = pull(address, state.path)
        assert done.returncode == 1
        assert "REFUSED" in done.stderr
        assert word in done.stderr
        assert outside.signed_note(size) in done.stdout
        assert forged().note(kept).decode() in done.stdout
        assert state.path.read_bytes() == before
    assert cosignatures() == []


def test_a_pull_with_an_older_copy_of_the_state_is_refused(address: str, settings: Any, tmp_path: Path) -> None:
    viewer()
    state = tmp_path / "auditor.json"
    (tmp_path / "policy").write_text(f"witness far {key_of(state)}\nquorum none\n")
    settings.WITNESS_POLICY = str(tmp_path / "policy")
    grow(2)
    old = state.read_bytes()
    assert pull(address, state).returncode == 0
    # The newest checkpoint now holds the cosignature of a witness whose file does not remember making it.
    keeper.once()
    connection.cursor().execute("select 1")
    assert asked("select max(size) from ledger_checkpoint")[0][0] >= cosignatures()[-1][0]
    note = outside.note_with_cosignatures(cosignatures()[-1][0])
    state.write_bytes(old)
    settings.WITNESS_POLICY = str(tmp_path / "policy")
    with simple_server.make_server("127.0.0.1", 0, _only(note), handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        done = pull(f"http://127.0.0.1:{server.server_port}", state)
        server.shutdown()
        thread.join()
    assert done.returncode == 1
    assert "older copy" in done.stderr
    assert state.read_bytes() == old


def _only(note: str) -> Any:
    def serve(environ: Any, start: Any) -> list[bytes]:
        start("200 OK", [("Content-Type", "text/plain")])
        return [note.encode()]

    return serve


def test_a_pull_that_learns_nothing_says_so_and_changes_nothing(address: str, tmp_path: Path) -> None:
    state = tmp_path / "auditor.json"
    key_of(state)
    before = state.read_bytes()
    grow(1)
    assert pull(address, state, token="wrong").returncode == 2
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    done = pull(f"http://127.0.0.1:{port}", state)
    assert done.returncode == 2
    assert "Nothing was learnt" in done.stderr
    assert state.read_bytes() == before


def test_two_histories_shown_to_two_auditors_are_found(
    address: str, tmp_path: Path, trusts: Callable[..., None], settings: Any
) -> None:
    viewer()
    size, other = grow(4), forged()
    with (
        Witness(tmp_path / "w1.json", keys.vkey("checkpoint"), name="one.example") as first,
        Witness(tmp_path / "w2.json", keys.vkey("checkpoint"), name="two.example") as second,
    ):
        trusts(first, second)
        # Both histories are signed with the log's key; the second auditor was shown the other one.
        shown(second, other, size)
        cosigned = second.post(other.body(size, size))[1].encode()
        witnesses.Showing()()
        assert standing() == [("witness-refused", "w2")]
        assert cosignatures() == [(size, "w1")]
        keys_of = f"log {keys.vkey('checkpoint')}\nwitness w1 {first.vkey}\nwitness w2 {second.vkey}\n"
        policy = notes.parse_policy(keys_of + "group both all w1 w2\nquorum both\n")
        for note in (tree.newest_note().encode(), other.note(size) + cosigned):
            read = notes.verify(note, policy.checkpoint_keys)
            assert len(read.verified) == 2
            assert not policy.quorum_met(read)
    # And when the second auditor looks at the first one's history.
    with State(tmp_path / "w2.json").open() as book:
        assert book.held(settings.ORIGIN)[0] == size
    name = "two.example"
    words_ = ["pull", address, "--state", str(tmp_path / "w2.json"), "--name", name, "--log", keys.vkey("checkpoint")]
    done = subprocess.run(
        [sys.executable, "-m", "lineage.witness", *words_],
        cwd=ROOT, env={"TOUCHSTONE_TOKEN": "tsu_auditor"}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1
    assert outside.signed_note(size) in done.stdout
    assert other.note(size).decode() in done.stdout


def test_a_checkpoint_is_dropped_into_a_folder_durably_and_never_written_over(
    store: str, settings: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "drop"
    folder.mkdir()
    settings.DROP_FOLDER = str(folder)
    size = grow(2)
    drops.drop_when_due()
    file = folder / f"checkpoint-{size}.txt"
    assert file.read_text() == outside.signed_note(size)
    file.write_text(outside.signed_note(size)[:-9])
    drops.drop()
    assert file.read_text() == outside.signed_note(size)[:-9]
    grow(1)
    drops.drop_when_due()
    assert len(list(folder.iterdir())) == 1
    settings.DROP_SECONDS = 0.0
    drops.drop_when_due()
    assert len(list(folder.iterdir())) == 2
    grow(1)
    call_command("checkpoint", "--drop")
    assert len(list(folder.iterdir())) == 3
    assert standing() == []


def test_a_dropped_checkpoint_that_the_log_does_not_know_is_an_alarm_and_nothing_is_dropped(
    store: str, settings: Any, tmp_path: Path
) -> None:
    grow(2)
    for size in (2, 50):
        folder = tmp_path / f"drop{size}"
        folder.mkdir()
        settings.DROP_FOLDER = str(folder)
        (folder / f"checkpoint-{size}.txt").write_bytes(forged().note(size))
        with pytest.raises(errors.SignerRefused):
            drops.drop()
        assert standing() == [("checkpoint-unknown", "drop folder")]
        assert len(list(folder.iterdir())) == 1
    assert outside.held().holdings == ()


def test_a_drop_folder_that_is_gone_does_not_keep_the_mail_back(store: str, settings: Any, tmp_path: Path) -> None:
    settings.DROP_FOLDER, settings.DROP_MAIL = str(tmp_path / "gone"), "audit@firm.example"
    size = grow(2)
    with pytest.raises(errors.SettingsInvalid, match="TOUCHSTONE_DROP_FOLDER"):
        drops.drop_when_due()
    (message,) = mail.outbox
    assert message.to == ["audit@firm.example"]
    assert message.attachments == [
        (f"checkpoint-{size}.txt", outside.signed_note(size).encode(), "application/octet-stream")
    ]
    assert outside.signed_note(size) in message.body
    assert [each.kind for each in outside.held().holdings] == ["mail"]
    with pytest.raises(errors.SettingsInvalid):
        drops.drop_when_due()
    assert len(mail.outbox) == 1


def test_a_mail_server_that_refuses_or_takes_the_checkpoint_is_told_apart(store: str, settings: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        for name, value in mail_settings.settings(f"smtp://127.0.0.1:{listening.getsockname()[1]}").items():
            setattr(settings, name, value)
        settings.EMAIL_BACKEND, settings.DROP_MAIL = "django.core.mail.backends.smtp.EmailBackend", "audit@firm.example"
        size = grow(1)
        for code, given in ((550, False), (250, True)):
            taken: list[str] = []
            thread = threading.Thread(target=_mailbox, args=(listening, code, taken))
            thread.start()
            if given:
                assert drops.drop() == [f"audit@firm.example: {size} records"]
            else:
                with pytest.raises(errors.SettingsInvalid, match="could not be mailed"):
                    drops.drop()
            thread.join()
            assert [f'filename="checkpoint-{size}.txt"' in text for text in taken] == [True] * given
            assert len(outside.held().holdings) == given


def _mailbox(listening: socket.socket, code: int, taken: list[str]) -> None:
    """One conversation with a mail server that answers the recipient with this code (RFC 5321)."""
    one, _ = listening.accept()
    with one, one.makefile("rw", newline="\r\n") as talk:

        def say(line: str) -> None:
            talk.write(line + "\n")
            talk.flush()

        say("220 mail.example")
        for line in talk:
            word = line[:4].upper()
            if word == "DATA":
                say("354 go on")
                taken.append("".join(iter(talk.readline, ".\r\n")))
            say(f"{code} it is" if word == "RCPT" else "221 bye" if word == "QUIT" else "250 yes")
            if word == "QUIT":
                return


def test_with_nowhere_to_drop_to_or_nobody_to_show_to_the_command_says_so(store: str) -> None:
    for option in ("--drop", "--show"):
        with pytest.raises(SystemExit):
            call_command("checkpoint", option)
    assert isinstance(_told.operator(), str)


def test_a_mail_server_is_read_from_one_address() -> None:
    found = mail_settings.settings("smtp+tls://me%40x:p%2Fw@mail.example:2525")
    assert (found["EMAIL_HOST_USER"], found["EMAIL_HOST_PASSWORD"]) == ("me@x", "p/w")
    assert (found["EMAIL_HOST"], found["EMAIL_PORT"], found["EMAIL_USE_TLS"]) == ("mail.example", 2525, True)
    assert mail_settings.settings("smtps://mail.example")["EMAIL_USE_SSL"]
    assert mail_settings.settings(None)["EMAIL_HOST"] == "localhost"
    for wrong in ("http://mail.example", "smtp://", "mail.example"):
        with pytest.raises(ValueError, match="EMAIL_URL"):
            mail_settings.settings(wrong)


def test_it_is_said_who_holds_what_since_when_and_what_it_means_that_nobody_does() -> None:
    at = dt.datetime(2026, 11, 21, 7, 30, tzinfo=dt.UTC)
    since = dt.datetime(2026, 11, 1, 8, 0, tzinfo=dt.UTC)
    assert words.held_outside((), 10).startswith(
        "With nothing held outside, whoever holds the key could have rewritten"
    )
    north = outside.Holding("witness", "north", 1200, at, since)
    assert words.held_outside([north], 1212) == (
        "Held outside: the witness north holds the checkpoint of 1,200 records (21 Nov 2026 07:30 UTC, the first "
        "1 Nov 2026 08:00). 12 newer records are under no checkpoint that is held outside yet."
    )
    others = [
        outside.Holding("timestamp", "tsa", 900, at, since),
        outside.Holding("pull", "ann@audit.example", 7, at, since),
        outside.Holding("mail", "audit@firm.example", 1, at, since),
        outside.Holding("folder", "", 1, at, since),
    ]
    told = words.held_outside([north, *others], 1200)
    assert "the timestamp authority tsa has stamped the checkpoint of 900 records" in told
    assert "ann@audit.example fetched" in told
    assert "and 2 others hold one" in told
    assert told.endswith("Nothing under it can be rewritten unnoticed while they keep it.")


def test_the_printed_policy_names_the_witnesses_and_asks_for_their_quorum(
    witness: Witness, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("policy")
    assert notes.parse_policy(capsys.readouterr().out).quorum == "none"
    policy = Path(settings.WITNESS_POLICY)
    policy.write_text(f"# ours\n{policy.read_text().replace('quorum none', 'quorum w1')}")
    call_command("policy")
    printed = notes.parse_policy(capsys.readouterr().out)
    assert (printed.quorum, list(printed.witnesses)) == ("w1", ["w1"])
    grow(2)
    assert witnesses.show(only()) is None
    read = notes.verify(tree.newest_note(), printed.checkpoint_keys)
    assert printed.quorum_met(read)


def test_pages_and_packs_say_who_holds_what_or_that_nobody_does(
    witness: Witness, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = viewer()
    size = grow(2)
    for path in ("/", "/integrity/"):
        assert words.NOTHING_OUTSIDE in client.get(path).content.decode()
    call_command("pack", "kind:decision", "--out", str(tmp_path / "pack.zip"))
    told = capsys.readouterr().out
    assert "Held outside: the witness w1 holds the checkpoint of" in told
    assert cosignatures()[-1][0] > size
    for path in ("/", "/integrity/"):
        page = client.get(path).content.decode()
        assert words.NOTHING_OUTSIDE not in page
        assert "Held outside: the witness w1 holds the checkpoint of" in page
