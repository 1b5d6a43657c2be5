"""The recorder: what begins is on the disk first, what was in flight is told after a kill, once, and a full disk stops all."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from enforcement import shipper
from enforcement import spool as spools
from enforcement.gateway import entries
from enforcement.gateway.recording import Line, Recorder, Unrecorded
from enforcement.spool import Spool, SpoolError, frames
from tests.enforcement.gateway import recorded
from tests.enforcement.gateway.recorded import FACTS, began, ended, names, records, refused, spooled
from tests.enforcement.processes import BASE
from tests.enforcement.sink import Sink

NEVER = 3600.0


class Opened:
    """A recorder and its spool in one folder; closing and opening again is a restart."""

    def __init__(self, folder: Path, sync_seconds: float = 0.01, **options: Any) -> None:
        self.folder = folder
        self.spool = Spool(folder / "spool", **options)
        self.recorder = Recorder(folder, self.spool, sync_seconds=sync_seconds)

    def close(self) -> None:
        self.recorder.close()
        self.spool.close()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., Opened]]:
    made: list[Opened] = []

    def make(folder: Path = tmp_path / "gateway", **options: Any) -> Opened:
        made.append(Opened(folder, **options))
        return made[-1]

    yield make
    for one in made:
        with contextlib.suppress(ValueError, OSError):
            one.close()


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "not seen within a minute"
        time.sleep(0.005)


def dead(one: Opened, to: Path) -> Path:
    """The folder as a gateway that dies now leaves it."""
    shutil.copytree(one.folder, to)
    return to


@contextlib.contextmanager
def full_disk(*folders: Path) -> Iterator[None]:
    """No file grows beyond what the newest file of these queues has now: writes fail as on a full disk."""
    sizes = [path.stat().st_size for folder in folders for path in (folder / "segments").glob("*.seg")]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (min(sizes) + 20, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_happened_is_told_once_and_in_order(opened: Callable[..., Opened]) -> None:
    one = opened()
    statement = began("a")
    for entry in (
        entries.SessionBegan(session=FACTS), statement, ended(statement), refused("b"),
        entries.SessionEnded(session=FACTS, at=FACTS.started_at + 9, close_reason="terminate"),
        entries.SessionFailed(session=FACTS, at=FACTS.started_at, sqlstate="28000", sentence="The token has expired."),
    ):  # fmt: skip
        one.recorder.record(entry)
    one.close()
    assert names(one.folder / "spool") == ["s-1.start", "a", "b", "s-1.end", "s-1.failed"]
    assert [line["sequence"] for line in spooled(one.folder / "spool")] == [1, 2, 3, 4, 5]
    again = opened(one.folder)
    again.close()
    assert len(names(one.folder / "spool")) == 5


def test_what_begins_stands_on_the_disk_before_record_returns(opened: Callable[..., Opened]) -> None:
    one = opened()
    one.recorder.record(began("a", statement="delete from orders"))
    found = [
        line
        for path in (one.folder / "inflight/segments").iterdir()
        for frame, _ in frames(path)
        for line in frame.lines
    ]
    assert b"delete from orders" in found[-1]
    assert names(one.folder / "spool") == []


def test_events_reach_the_store_without_being_asked_for(opened: Callable[..., Opened], sink: Sink) -> None:
    one = opened()
    sender = shipper.Shipper(one.spool, shipper.Store(sink.url, "token", "gateway"))
    sender.start()
    statement = began("a")
    one.recorder.record(statement)
    one.recorder.record(ended(statement))
    sink.wait_for(lambda: len(sink.items()) == 1)
    assert sink.items()[0]["record"]["source_event_id"] == "a"
    sender.stop()


def test_what_was_in_flight_when_it_died_is_told_as_such_once(opened: Callable[..., Opened], tmp_path: Path) -> None:
    one = opened()
    done, lost = began("done"), began("lost", transaction_id="78", verdict="approved", flags=("opaque",))
    for entry in (entries.SessionBegan(session=FACTS), done, lost, ended(done)):
        one.recorder.record(entry)
    folder = dead(one, tmp_path / "died")
    for _ in range(2):
        opened(folder).close()
        assert names(folder / "spool") == ["s-1.start", "done", "s-1.end", "lost"]
    *_, end, last = records(folder / "spool")
    assert (last["flags"], last["verdict"], last["op"]) == (["opaque", "answer_lost"], "approved", "update")
    assert last["transaction"] == {"id": "78", "outcome": "unknown"}
    assert "duration_us" not in last
    assert last["occurred_at"] == records(one.folder / "spool")[1]["occurred_at"]
    assert end["session"]["close_reason"] == "the gateway stopped without telling the end"
    assert end["occurred_at_quality"] == "processing_time"
    assert [line["sequence"] for line in spooled(folder / "spool")] == [1, 2, 3, 4]


def cuts(path: Path) -> list[int]:
    """Where a file can end after a power cut: behind each frame, and one byte before."""
    ends = [end for _, end in frames(path)]
    return sorted({*ends, *(end - 1 for end in ends[1:])})


def test_no_place_where_the_files_may_end_loses_or_doubles_a_statement(
    opened: Callable[..., Opened], tmp_path: Path
) -> None:
    one = opened()
    a, b, c = began("a"), began("b"), began("c")
    for entry in (a, b, ended(a), refused("r"), c, ended(c), ended(b)):
        one.recorder.record(entry)
    one.close()
    kept = {part: next((one.folder / part / "segments").iterdir()) for part in ("inflight", "spool")}
    number = 0
    for of_inflight in cuts(kept["inflight"]):
        for of_spool in cuts(kept["spool"]):
            number += 1
            folder = tmp_path / str(number)
            for part, end in (("inflight", of_inflight), ("spool", of_spool)):
                made = folder / part / "segments" / kept[part].name
                made.parent.mkdir(parents=True)
                made.write_bytes(kept[part].read_bytes()[:end])
            known = {
                line.began for f, _ in frames(folder / "inflight/segments" / kept["inflight"].name) for line in lines(f)
            }
            told = set(names(folder / "spool"))
            opened(folder).close()
            found = names(folder / "spool")
            assert sorted(found) == sorted((known - {""}) | told), (of_inflight, of_spool)
            assert [line["sequence"] for line in spooled(folder / "spool")] == list(range(1, len(found) + 1))
            for record in records(folder / "spool"):
                assert ("answer_lost" in record.get("flags", [])) == (record["source_event_id"] not in told)
    assert number > 50


def whole(folder: Path) -> list[spools.Frame]:
    return [frame for path in sorted((folder / "segments").glob("*.seg")) for frame, _ in frames(path)]


def lines(frame: spools.Frame) -> list[Line]:
    return [msgspec.json.decode(text, type=Line) for text in frame.lines]


@pytest.mark.slow
def test_a_gateway_killed_at_any_moment_tells_each_statement_once(
    tmp_path: Path, opened: Callable[..., Opened]
) -> None:
    folder = tmp_path / "gateway"
    said: dict[str, set[str]] = {"began": set(), "ended": set()}
    rounds = 6
    for number in range(rounds):
        child = subprocess.Popen(
            [sys.executable, "-m", recorded.__name__, folder, f"k{number}"],
            cwd=BASE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert child.stdout is not None
        ready, _, _ = select.select([child.stdout], [], [], 60)
        assert ready, "the gateway did not begin within a minute"
        time.sleep(0.03 * number)
        child.kill()
        heard = child.communicate()[0].decode()
        for line in heard[: heard.rfind("\n") + 1].splitlines():
            word, name = line.split()
            said[word].add(name)
    opened(folder).close()
    found = names(folder / "spool")
    assert len(found) == len(set(found)), "an event stands there twice"
    by_name = dict(zip(found, records(folder / "spool"), strict=True))
    assert said["began"] <= by_name.keys()
    assert said["ended"]
    assert all("flags" not in by_name[name] for name in said["ended"])
    statements = {name: record for name, record in by_name.items() if record["kind"] == "query"}
    lost = {name for name, record in statements.items() if record.get("flags") == ["answer_lost"]}
    assert len(lost) <= 6 * rounds
    # At most one ended whose word did not come out before the kill, in each round.
    assert len(statements.keys() - lost - said["ended"]) <= rounds
    assert {f"k{number}.end" for number in range(rounds)} <= by_name.keys()
    assert [line["sequence"] for line in spooled(folder / "spool")] == list(range(1, len(found) + 1))


def test_a_disk_that_takes_nothing_lets_nothing_begin(opened: Callable[..., Opened]) -> None:
    one = opened()
    one.recorder.record(began("before"))
    with full_disk(one.folder / "inflight"):
        for name in ("a", "b"):
            with pytest.raises(Unrecorded) as refusal:
                one.recorder.record(began(name))
            assert "not run" in refusal.value.sentence
            assert "too large" in refusal.value.reason
            assert str(one.folder) not in refusal.value.sentence
    one.recorder.record(began("after"))
    one.close()
    opened(one.folder).close()
    assert names(one.folder / "spool") == ["before", "after"]


def test_what_happened_while_the_disk_was_full_is_written_when_it_takes_again(opened: Callable[..., Opened]) -> None:
    one = opened()
    first, second = began("a"), began("b")
    one.recorder.record(first)
    one.recorder.record(second)
    with full_disk(one.folder / "spool"):
        one.recorder.record(refused("r"))
        one.recorder.record(ended(first))
        with pytest.raises(Unrecorded):
            one.recorder.record(began("c"))
        with pytest.raises(Unrecorded):
            one.recorder.record(entries.SessionBegan(session=FACTS))
        assert names(one.folder / "spool") == []
        assert one.recorder.problem
    wait_for(lambda: not one.recorder.problem)
    one.recorder.record(ended(second))
    one.close()
    told = {record["source_event_id"]: record for record in records(one.folder / "spool")}
    assert list(told) == ["r", "a", "b"]
    assert told["r"]["flags"] == told["a"]["flags"] == ["recorded_late"]
    assert (told["r"]["verdict"], told["a"]["rows"]) == ("blocked", {"affected": 1})
    assert "flags" not in told["b"]
    opened(one.folder).close()
    assert len(names(one.folder / "spool")) == 3


def test_refusals_beyond_what_memory_should_hold_are_counted_in_a_gap(
    opened: Callable[..., Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("enforcement.gateway.recording.WAITING_LIMIT", 2)
    one = opened()
    statement = began("ran")
    one.recorder.record(statement)
    with full_disk(one.folder / "spool"):
        for number in range(5):
            one.recorder.record(refused(f"r{number}"))
        one.recorder.record(ended(statement))
    wait_for(lambda: not one.recorder.problem)
    *kept, gap = spooled(one.folder / "spool")
    assert [line["record"]["source_event_id"] for line in kept] == ["r0", "r1", "ran"]
    assert (gap["custody"]["type"], gap["custody"]["subject"], gap["custody"]["count"]) == ("gap", "recorder", 3)


def test_a_kill_while_the_disk_is_full_tells_what_was_in_flight(opened: Callable[..., Opened], tmp_path: Path) -> None:
    one = opened(sync_seconds=NEVER)
    statement = began("a")
    one.recorder.record(statement)
    with full_disk(one.folder / "spool"):
        one.recorder.record(ended(statement))
    folder = dead(one, tmp_path / "died")
    opened(folder).close()
    (told,) = records(folder / "spool")
    assert (told["source_event_id"], told["flags"]) == ("a", ["answer_lost"])


def test_where_only_the_word_that_it_is_done_was_lost_nothing_is_doubled(
    opened: Callable[..., Opened], tmp_path: Path
) -> None:
    one = opened(sync_seconds=NEVER)
    one.recorder.record(began("b", statement="x" * 5000))
    statement = began("a")
    one.recorder.record(statement)
    with full_disk(one.folder / "inflight"):
        # The spool's file is the shorter one: the event goes in, the line that says so does not.
        one.recorder.record(ended(statement, rows_affected=7))
        assert one.recorder.problem
    folder = dead(one, tmp_path / "died")
    opened(folder).close()
    told, lost = records(folder / "spool")
    assert (told["source_event_id"], told["rows"], told.get("flags")) == ("a", {"affected": 7}, None)
    assert (lost["source_event_id"], lost["flags"]) == ("b", ["answer_lost"])


def test_a_word_that_the_disk_did_not_take_is_said_later(opened: Callable[..., Opened]) -> None:
    one = opened()
    one.recorder.record(began("b", statement="x" * 5000))
    statement = began("a")
    one.recorder.record(statement)
    with full_disk(one.folder / "inflight"):
        one.recorder.record(ended(statement))
        with pytest.raises(Unrecorded):
            one.recorder.record(began("c"))
    wait_for(lambda: not one.recorder.problem)
    assert [line for f in whole(one.folder / "inflight") for line in lines(f) if line.done == ("a",)]
    one.recorder.record(began("d"))


@pytest.mark.parametrize("fault", [OSError(5, "Input/output error"), RuntimeError("out of the blue")])
def test_a_disk_that_could_not_make_durable_is_not_trusted_again(
    opened: Callable[..., Opened], monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    one = opened()
    statement = began("a")

    def refuse(handle: int) -> None:
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr("enforcement.spool.os.fsync", refuse)
        one.recorder.record(statement)
        wait_for(lambda: bool(one.recorder.problem))
    with pytest.raises(Unrecorded) as refusal:
        one.recorder.record(began("b"))
    assert str(fault.args[-1]) in refusal.value.reason
    one.recorder.record(ended(statement))
    with pytest.raises(Unrecorded):
        one.recorder.record(began("c"))
    one.close()
    again = opened(one.folder)
    again.recorder.record(began("d"))
    assert names(one.folder / "spool") == ["a"]


def test_a_full_spool_lets_nothing_begin_until_the_store_took_some(opened: Callable[..., Opened]) -> None:
    one = opened(limit_bytes=spools.MINIMUM_BYTES)
    statement = began("a", statement="x" * 50_000)
    while one.spool.has_room():
        one.recorder.record(statement)
        one.recorder.record(ended(statement))
    with pytest.raises(Unrecorded, match="the store has not taken"):
        one.recorder.record(began("b"))
    one.spool.sync()
    one.spool.acknowledge(one.spool.last)
    one.recorder.record(began("after"))


def test_a_statement_that_ran_unrecorded_is_told_as_recorded_late(opened: Callable[..., Opened]) -> None:
    one = opened()
    statement = began("a")
    with full_disk(one.folder / "inflight"), pytest.raises(Unrecorded):
        one.recorder.record(statement)
    # The database's `when_unrecorded` is "run": the session goes on and tells the end.
    one.recorder.record(ended(statement))
    one.close()
    (told,) = records(one.folder / "spool")
    assert (told["flags"], told["rows"]) == (["recorded_late"], {"affected": 1})


def test_the_list_of_what_runs_stays_short_and_keeps_what_runs_long(
    opened: Callable[..., Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("enforcement.gateway.recording.COMPACT_BYTES", 1 << 20)
    one = opened()
    one.recorder._inflight.segment_bytes = 1 << 18
    long = began("long")
    one.recorder.record(long)
    for number in range(100):
        statement = began(f"a{number}", statement="x" * 30_000)
        one.recorder.record(statement)
        one.recorder.record(ended(statement))
    wait_for(lambda: sum(segment.size for segment in one.recorder._inflight.segments) < 1 << 21)
    one.close()
    opened(one.folder).close()
    found = records(one.folder / "spool")
    assert [record["source_event_id"] for record in found] == [*(f"a{number}" for number in range(100)), "long"]
    assert found[-1]["flags"] == ["answer_lost"]


def test_damage_inside_the_list_of_what_runs_is_told(opened: Callable[..., Opened]) -> None:
    one = opened()
    one.recorder._inflight.segment_bytes = 1000
    for name in ("a", "b", "c"):
        one.recorder.record(began(name))
    one.close()
    first = min((one.folder / "inflight/segments").iterdir())
    content = bytearray(first.read_bytes())
    content[-10] ^= 0xFF
    first.write_bytes(content)
    opened(one.folder).close()
    custody = [line["custody"] for line in spooled(one.folder / "spool") if "custody" in line]
    assert [(one["type"], one["subject"]) for one in custody] == [("gap", "recorder")]
    assert first.name in custody[0]["detail"]


def test_many_sessions_may_record_at_once(opened: Callable[..., Opened]) -> None:
    one = opened()

    def work(prefix: str) -> None:
        for number in range(50):
            statement = began(f"{prefix}{number}")
            one.recorder.record(statement)
            one.recorder.record(ended(statement))

    threads = [threading.Thread(target=work, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    one.close()
    assert sorted(names(one.folder / "spool")) == sorted(
        f"{letter}{number}" for letter in "abcd" for number in range(50)
    )


def test_two_gateways_do_not_share_a_folder(opened: Callable[..., Opened], tmp_path: Path) -> None:
    one = opened()
    elsewhere = Spool(tmp_path / "elsewhere")
    with pytest.raises(SpoolError, match="in use"):
        Recorder(one.folder, elsewhere)
    elsewhere.close()


def test_only_the_owner_can_read_what_is_kept(opened: Callable[..., Opened]) -> None:
    one = opened()
    one.recorder.record(began("a"))
    for folder in (one.folder / "inflight", one.folder / "spool"):
        assert os.stat(folder).st_mode & 0o077 == 0
