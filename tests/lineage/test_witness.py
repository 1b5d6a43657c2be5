"""The witness that an auditor runs: the public dialogue, forks, set-backs, crashes, and bodies meant to harm."""

from __future__ import annotations

import base64
import hashlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage import merkle, notes
from lineage.errors import NoteInvalid, ProofInvalid, SettingsInvalid
from lineage.witness import rules
from lineage.witness.__main__ import known_logs
from lineage.witness.server import add_checkpoint
from lineage.witness.state import State
from tests import vectors
from tests.witnesses import ROOT, Log, Witness, submission

pytestmark = pytest.mark.slow

NAME = "witness.example/w1"


def logs_of(*logs: Log) -> dict[str, list[notes.VerifierKey]]:
    return known_logs(None, [log.vkey for log in logs])


def begun(path: Path, name: str = NAME) -> State:
    state = State(path)
    with state.open(name):
        pass
    return state


def size_in(state: State, log: Log) -> int:
    with state.open() as book:
        return book.held(log.origin)[0]


def cosigned_at(log: Log, size: int, line: str, vkey: str) -> int:
    """The time of a cosignature line over the log's checkpoint of a size; NoteInvalid when it does not verify."""
    (found,) = notes.verify(log.note(size) + line.encode(), [vkey]).verified
    assert found.timestamp is not None
    return found.timestamp


def test_the_public_dialogue_is_answered_as_the_present_specification_says(tmp_path: Path) -> None:
    case = vectors.load("witness/add_checkpoint_dialogue.json")
    key = b"\x01" + bytes.fromhex(case["log_public_key_hex"])
    origin = case["log_origin"]
    key_id = hashlib.sha256(origin.encode() + b"\n" + key).digest()[:4].hex()
    vkey = f"{origin}+{key_id}+{base64.b64encode(key).decode()}"
    with Witness(tmp_path / "state.json", vkey, name="example.com/witness") as witness:
        assert len(case["requests_in_order"]) == 9
        for request in case["requests_in_order"]:
            status, body, content_type = witness.post(request["request_body"].encode())
            assert status == request.get("c2sp_2026_status", request["status"]), body
            kind, _, wanted = request["assert"].partition(' "')
            wanted = wanted.removesuffix('"').replace("\\n", "\n")
            if kind == "body ==":
                assert (body, content_type) == (wanted, "text/x.tlog.size")
            else:
                assert kind == "body contains"
                assert wanted in body
            if status == 200:
                note = request["request_body"].partition("\n\n")[2] + body
                assert notes.verify(note, [witness.vkey]).verified[0].timestamp is not None
    with State(tmp_path / "state.json").open() as book:
        assert book.logs[origin].size == case["final_size"]


def test_every_public_policy_that_a_strict_reader_takes_names_its_witnesses_and_where_they_are() -> None:
    for case in vectors.load("witness/policy.json"):
        if not case["accept"] or "c2sp" in case:
            with pytest.raises(NoteInvalid):
                notes.parse_policy(case["policy"])
        else:
            policy = notes.parse_policy(case["policy"])
            assert policy.urls == {"w1": "https://sigsum.org/witness/", "w2": "https://example.com/witness/"}


def test_public_cosigner_keys_and_notes_are_read_as_published() -> None:
    published = vectors.load("note/cosignature.json")
    for case in published["vkeys"]:
        if case["accept"]:
            assert notes.parse_vkey(case["vkey"]).algorithm == 4
        else:
            with pytest.raises(NoteInvalid):
                notes.parse_vkey(case["vkey"])
    note = (vectors.path("note") / published["cosigned_note"]["note_file"]).read_bytes()
    assert notes.verify(note, [published["cosigned_note"]["cosigner_vkey"]]).verified[0].timestamp


def test_a_witness_follows_a_growing_log_and_its_time_is_now(tmp_path: Path) -> None:
    log, state = Log(), begun(tmp_path / "state.json")
    with state.open() as book:
        vkey = notes.vkey_of(book.key)
    before, old = int(time.time()), 0
    for size in (1, 2, 3, 7, 8, 8, 255, 256, 257, 300):
        answer = add_checkpoint(state, logs_of(log), log.body(old, size))
        assert answer.status == 200, answer.body
        assert before <= cosigned_at(log, size, answer.body, vkey) <= int(time.time())
        assert size_in(state, log) == size
        old = size


def test_a_checkpoint_of_another_history_is_refused_whatever_its_size(tmp_path: Path) -> None:
    log, state = Log(), begun(tmp_path / "state.json")
    other = Log(skey=log.skey, salt="other ")
    assert add_checkpoint(state, logs_of(log), log.body(0, 5)).status == 200
    kept = state.path.read_bytes()
    assert (add_checkpoint(state, logs_of(log), other.body(5, 5))) == rules.Answer(409, "5\n", rules.SIZE, is_fork=True)
    assert add_checkpoint(state, logs_of(log), other.body(5, 9)).status == 422
    assert add_checkpoint(state, logs_of(log), other.body(0, 9)).status == 409
    assert add_checkpoint(state, logs_of(log), other.body(3, 4)).status == 409
    assert state.path.read_bytes() == kept


def test_a_fork_is_printed_with_the_kept_checkpoint_so_that_somebody_can_keep_both(tmp_path: Path) -> None:
    log = Log()
    other = Log(skey=log.skey, salt="other ")
    with Witness(tmp_path / "state.json", log.vkey) as witness:
        assert witness.post(log.body(0, 5))[0] == 200
        assert witness.post(other.body(5, 5))[:2] == (409, "5\n")
    assert log.note(5).decode() in witness.told
    assert other.note(5).decode() in witness.told


def test_a_witness_does_not_go_back_to_a_smaller_checkpoint(tmp_path: Path) -> None:
    log, state = Log(), begun(tmp_path / "state.json")
    assert add_checkpoint(state, logs_of(log), log.body(0, 9)).status == 200
    for old in (0, 4):
        answer = add_checkpoint(state, logs_of(log), log.body(old, 4))
        assert (answer.status, answer.body, answer.content_type) == (409, "9\n", "text/x.tlog.size")
    assert add_checkpoint(state, logs_of(log), submission(9, [], log.note(4))).status == 400
    with state.open() as book, pytest.raises(ProofInvalid):
        state.take(book, log.note(4))
    assert size_in(state, log) == 9


def test_logs_are_kept_apart_and_a_rotated_key_of_the_same_log_is_known(tmp_path: Path) -> None:
    first, second, state = Log("one.example"), Log("two.example"), begun(tmp_path / "state.json")
    rotated = Log("one.example", salt=first.salt)
    logs = logs_of(first, second, rotated)
    assert add_checkpoint(state, logs, first.body(0, 5)).status == 200
    assert add_checkpoint(state, logs, second.body(0, 3)).status == 200
    assert add_checkpoint(state, logs, rotated.body(5, 6)).status == 200
    assert (size_in(state, first), size_in(state, second)) == (6, 3)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"old 0\n", 400),
        (b"old 0\n\n", 400),
        (b"old 00\n\n" + Log().note(1), 400),
        (b"old -1\n\n" + Log().note(1), 400),
        (b"old 9223372036854775808\n\n" + Log().note(1), 400),
        (b"old 0\r\n\r\n" + Log().note(1), 400),
        (b"new 0\n\n" + Log().note(1), 400),
        (b"old 0\nAAAA\n\n" + Log().note(1), 400),
        (b"old 0\n" + base64.b64encode(bytes(31)) + b"\n\n" + Log().note(1), 400),
        (b"\xff\xfe\n\n" + Log().note(1), 400),
        (b"old 0\n\n" + Log().note(1)[:-1], 403),
        (b"old 0\n\nlog.example/orders\n1\nAAAA\n\nx\n", 400),
        (b"old 0\n\nlog.example/orders\n01\n" + base64.b64encode(bytes(32)) + b"\n\n\n", 400),
        (b"old 0\n\nlog.example/orders\n1\n" + base64.b64encode(bytes(32)) + b"\n\n\n", 400),
        (b"old 0\n\nlog.example/orders\0\n1\n" + base64.b64encode(bytes(32)) + "\n\n— x AAAAAAA=\n".encode(), 404),
        (submission(0, [bytes(32)] * 64, Log().note(1)), 400),
        (b"old 0\n\n" + Log("log.example/other").note(1), 404),
        (b"old 0\n\n" + Log("log.example/orders/").note(1), 404),
        (b"old 0\n\n" + Log().note(1), 403),
    ],
    # The notes hold new keys each time; the tests' names must not.
    ids=map(str, itertools.count()),
)
def test_a_body_that_does_not_follow_the_form_is_refused_and_nothing_is_kept(
    body: bytes, status: int, tmp_path: Path
) -> None:
    log, state = Log(), begun(tmp_path / "state.json")
    before = state.path.read_bytes()
    assert add_checkpoint(state, logs_of(log), body).status == status
    assert state.path.read_bytes() == before


@given(st.binary(max_size=300))
def test_no_bytes_at_all_make_the_reader_of_submissions_fail(body: bytes) -> None:
    log = Log()
    for each in (body, b"old 0\n\n" + body, log.body(0, 1) + body, log.body(0, 1)[: len(body)]):
        answer = rules.read(each, logs_of(log))
        assert isinstance(answer, rules.Submission) or answer.status in (400, 403, 404)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 400))
def test_a_changed_proof_is_never_taken(old: int, more: int, place: int) -> None:
    log, size = Log(), old + more
    proof = merkle.consistency_proof(log.hashes(size), old)
    root = merkle.root(log.hashes(old))
    good = rules.read(submission(old, proof, log.note(size)), logs_of(log))
    assert isinstance(good, rules.Submission)
    assert rules.refusal(good, old, root) is None
    if proof:
        at = place % len(proof)
        damaged = [*proof[:at], merkle.leaf_hash(proof[at]), *proof[at + 1 :]]
        for wrong in (damaged, proof[:-1], [*proof, proof[0]]):
            bad = rules.read(submission(old, wrong, log.note(size)), logs_of(log))
            assert isinstance(bad, rules.Submission)
            refused = rules.refusal(bad, old, root)
            assert refused is not None
            assert refused.status == 422


def test_a_megabyte_a_nul_and_a_slow_sender_do_not_stop_a_running_witness(tmp_path: Path) -> None:
    log = Log()
    with Witness(tmp_path / "state.json", log.vkey) as witness:
        host, port = "127.0.0.1", int(witness.url.rpartition(":")[2])
        with socket.create_connection((host, port)) as slow:
            slow.sendall(b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 100\r\n\r\nold")
            assert witness.post(b"x" * 1024 * 1024)[0] == 400
            assert witness.post(log.body(0, 3) + b"\n" * 100_000)[0] == 400
            assert witness.post(log.body(0, 3).replace(b"\n3\n", b"\n3\0\n"))[0] == 400
            assert witness.post(log.body(0, 3), path="/add-checkpoints")[0] == 404
            with socket.create_connection((host, port)) as raw:
                raw.sendall(b"POST /add-checkpoint HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
                assert b" 400 " in raw.recv(100)
            assert witness.post(log.body(0, 3))[0] == 200


def test_two_submissions_at_once_leave_one_history_and_the_larger_checkpoint(tmp_path: Path) -> None:
    log = Log()
    with Witness(tmp_path / "state.json", log.vkey) as witness, ThreadPoolExecutor(8) as pool:
        old = 0
        for size in (3, 10, 40):
            bodies = [log.body(old, size + n) for n in range(8)]
            answers = list(pool.map(witness.post, bodies))
            (taken,) = [n for n, answer in enumerate(answers) if answer[0] == 200]
            assert {answer[:2] for n, answer in enumerate(answers) if n != taken} == {(409, f"{size + taken}\n")}
            old = size + taken
    assert size_in(State(tmp_path / "state.json"), log) == old


KILLED = """
import os, signal, sys
from lineage.witness import __main__, state
write = state.State._write
def dying(self, book):
    {before}
    write(self, book)
    if book.logs:
        os.kill(os.getpid(), signal.SIGKILL)
state.State._write = dying
sys.argv[0] = "witness"
sys.exit(__main__.main())
"""


@pytest.mark.parametrize(
    ("before", "size"),
    [("pass", 3), ("if book.logs: os.kill(os.getpid(), signal.SIGKILL)", 0)],
    ids=["after the state is durable", "before it is"],
)
def test_a_witness_killed_before_it_answered_goes_on_from_its_state(before: str, size: int, tmp_path: Path) -> None:
    log, state = Log(), tmp_path / "state.json"
    with Witness(state, log.vkey, program=KILLED.format(before=before)) as dying:
        with pytest.raises(OSError):  # noqa: PT011 the connection breaks in one of several ways
            dying.post(log.body(0, 3))
        assert dying.process.wait(60) == -signal.SIGKILL
    with Witness(state, log.vkey) as witness:
        assert witness.vkey == dying.vkey
        assert size_in(State(state), log) == size
        if size:
            assert witness.post(log.body(0, 5))[:2] == (409, "3\n")
        assert witness.post(log.body(size, 5))[0] == 200


def test_a_witness_that_cannot_write_its_state_cosigns_nothing(tmp_path: Path) -> None:
    log = Log()
    program = KILLED.format(before="if book.logs: raise OSError(28, 'No space left on device')")
    with Witness(tmp_path / "state.json", log.vkey, program=program) as witness:
        status, body, _ = witness.post(log.body(0, 3))
        assert (status, "—" in body) == (500, False)
    assert size_in(State(tmp_path / "state.json"), log) == 0


def test_the_state_file_is_private_keeps_its_key_and_is_never_made_anew_by_accident(tmp_path: Path) -> None:
    path = tmp_path / "auditor" / "state.json"
    with pytest.raises(SettingsInvalid), State(path).open():
        pass
    begun(path)
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()
    begun(path)
    assert path.read_bytes() == before
    with pytest.raises(SettingsInvalid, match="named"):
        begun(path, "other.example/w")
    path.chmod(0o644)
    with pytest.raises(SettingsInvalid, match="chmod"):
        begun(path)
    path.chmod(0o600)
    path.write_text('{"version": 1}')
    with pytest.raises(SettingsInvalid, match="damaged"):
        begun(path)
    assert path.read_text() == '{"version": 1}'


def test_the_command_prints_the_key_alone_and_needs_no_store_and_no_django(tmp_path: Path) -> None:
    words = ["witness", "key", "--state", "state.json", "--name", NAME]
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": "postgresql://127.0.0.1:1/nowhere",
        "HOME": str(tmp_path),
    }
    done = subprocess.run(
        [ROOT / "bin" / "manage", *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    with State(tmp_path / "state.json").open() as book:
        assert done.stdout == notes.vkey_of(book.key) + "\n"
    loaded = (
        "import sys, lineage.witness.__main__; sys.exit(any(n in sys.modules for n in ('django', 'psycopg', 'duckdb')))"
    )
    assert subprocess.run([sys.executable, "-c", loaded], cwd=ROOT).returncode == 0


def test_a_witness_without_a_log_to_watch_does_not_start(tmp_path: Path) -> None:
    policy = tmp_path / "policy"
    policy.write_text("quorum none\n")
    with pytest.raises(SettingsInvalid):
        known_logs(policy, [])
    policy.write_text(f"log {Log().vkey}\nquorum none\n")
    assert list(known_logs(policy, [])) == ["log.example/orders"]
