"""The sender against a real HTTP server that refuses, breaks off and comes back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from enforcement import shipper, spool
from tests.enforcement.sink import Sink

Start = Callable[..., tuple[spool.Spool, shipper.Shipper]]


@pytest.fixture
def start(tmp_path: Path, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.setattr(shipper, "FIRST_WAIT_SECONDS", 0.05)
    running: list[tuple[spool.Spool, shipper.Shipper]] = []

    def go(count: int = 0, heartbeat_seconds: float = 0.1, **store: Any) -> tuple[spool.Spool, shipper.Shipper]:
        queue = spool.Spool(tmp_path / "spool")
        if count:
            queue.append([shipper.raw_item(f"line {n}", b"record %d" % n) for n in range(count)], {"text": "here"})
            queue.sync()
        options = {"url": sink.url, "token": "t", "format": "postgres-csvlog", **store}
        sender = shipper.Shipper(queue, shipper.Store(**options), heartbeat_seconds=heartbeat_seconds, timeout=5)
        sender.start()
        running.append((queue, sender))
        return queue, sender

    yield go
    for queue, sender in running:
        sender.stop(0.2)
        queue.close()


@pytest.mark.parametrize("encoding", ["zstd", "gzip"])
def test_everything_arrives_in_batches_of_at_most_a_thousand(sink: Sink, start: Start, encoding: str) -> None:
    queue, sender = start(2500, encoding=encoding, query="timezone=Europe%2FPrague")
    assert sender.drain(10)
    assert [len(batch) for batch in sink.batches] == [1000, 1000, 500]
    assert sink.items()[2] == {"sequence": 3, "position": "line 2", "record": "record 2"}
    assert set(sink.encodings) == {encoding}
    assert set(sink.paths) == {"/api/v1/ingest/postgres-csvlog?timezone=Europe%2FPrague"}
    assert queue.acknowledged == 2500


def test_an_answer_that_got_lost_leads_to_the_same_items_with_the_same_numbers(sink: Sink, start: Start) -> None:
    sink.refusals = ["drop", "silence", 503, 500, "drop"]
    _, sender = start(1500)
    assert sender.drain(20)
    assert len(sink.items()) == 1500
    assert sum(len(batch) for batch in sink.batches) > 1500


def test_a_store_that_is_away_loses_nothing_and_is_told_once(
    sink: Sink, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    sink.is_down = True
    queue, sender = start(10)
    time.sleep(0.6)
    assert (sender.reachable, queue.acknowledged) == (False, 0)
    sink.is_down = False
    assert sender.drain(20)
    assert sender.reachable
    assert len(sink.items()) == 10
    assert capsys.readouterr().err.count("does not answer") == 1


def test_a_connection_that_the_store_closed_meanwhile_is_opened_again_without_complaint(
    sink: Sink, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    sink.closes_connections = True
    queue, sender = start(5)
    assert sender.drain(5)
    sink.wait_for(lambda: len(sink.heartbeats) > 4, 5)
    queue.append([shipper.raw_item("next", b"next")], {})
    queue.sync()
    assert sender.drain(5)
    assert sender.reachable
    assert capsys.readouterr().err == ""


def test_retry_after_is_honoured(sink: Sink, start: Start) -> None:
    sink.refusals, sink.retry_after = [429], 1
    begun = time.monotonic()
    _, sender = start(5)
    assert sender.drain(10)
    assert time.monotonic() - begun > 0.95


def test_a_batch_that_is_too_large_is_halved_until_it_fits(sink: Sink, start: Start) -> None:
    sink.refusals = [413, 413]
    _, sender = start(1000)
    assert sender.drain(10)
    assert sink.sizes[:3] == [(413, 1000), (413, 500), (200, 250)]
    assert len(sink.items()) == 1000


def test_a_refused_batch_is_kept_reported_as_a_gap_and_does_not_stop_the_feed(sink: Sink, start: Start) -> None:
    sink.refusals = [400]
    queue, sender = start(3)
    sink.wait_for(lambda: bool(sink.sizes))
    queue.append([shipper.raw_item("next", b"next")], {})
    queue.sync()
    assert sender.drain(10)
    sink.wait_for(lambda: sum(map(len, sink.batches)) == 2)
    came = [item for batch in sink.batches for item in batch]
    gap = next(item["custody"] for item in came if "custody" in item)
    assert (gap["type"], gap["first"], gap["last"], gap["count"]) == ("gap", "1", "3", 3)
    assert [item["record"] for item in came if "record" in item] == ["next"]
    kept = list((queue.folder / "refused").iterdir())
    assert len(kept) == 1
    assert kept[0].read_text().count("record ") == 3


def test_one_item_that_is_too_large_alone_is_refused_not_retried_for_ever(sink: Sink, start: Start) -> None:
    sink.refusals = [413]
    _, sender = start(1)
    assert sender.drain(10)
    sink.wait_for(lambda: bool(sink.batches))
    assert sink.batches[0][0]["custody"]["type"] == "gap"


def test_an_unknown_token_is_said_and_tried_again_slowly(
    sink: Sink, start: Start, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipper, "LONGEST_WAIT_SECONDS", 0.5)
    sink.refusals = [401]
    _, sender = start(2)
    assert sender.drain(10)
    assert "does not know this token" in capsys.readouterr().err
    assert len(sink.items()) == 2


def test_another_servers_page_is_no_acknowledgement(sink: Sink, start: Start) -> None:
    sink.refusals = [200]
    _, sender = start(2)
    assert sender.drain(10)
    assert sink.sizes[0] == (200, 2)
    assert len(sink.items()) == 2


def test_heartbeats_tell_what_the_store_has_and_begin_after_the_replay(sink: Sink, start: Start) -> None:
    sink.refusals = [503, 503]
    _, sender = start(20)
    sender.note(skipped=7)
    assert sender.drain(10)
    assert all(beat["last_sequence"] == 20 for beat in sink.heartbeats)
    sink.wait_for(lambda: any(beat["detail"].get("skipped") == 7 for beat in sink.heartbeats))
    assert sink.heartbeats[-1]["position"] == "here"
    assert sink.heartbeats[-1]["detail"]["spooled"] == 20


def test_a_quiet_collector_still_sends_heartbeats(sink: Sink, start: Start) -> None:
    start()
    sink.wait_for(lambda: len(sink.heartbeats) >= 3, 5)


def test_bytes_that_are_not_utf8_travel_as_base64(sink: Sink, start: Start) -> None:
    queue, sender = start()
    queue.append([shipper.raw_item("p", b"caf\xe9")], {})
    queue.sync()
    sink.wait_for(lambda: bool(sink.batches))
    assert sink.items() == [{"sequence": 1, "position": "p", "record_base64": "Y2Fm6Q=="}]
    assert sender.drain(5)


def test_the_token_comes_from_a_file_when_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("from-file\n")
    monkeypatch.setenv("TOUCHSTONE_TOKEN", "from-environment")
    assert shipper.secret("TOUCHSTONE_TOKEN") == "from-environment"
    monkeypatch.setenv("TOUCHSTONE_TOKEN_FILE", str(tmp_path / "token"))
    assert shipper.secret("TOUCHSTONE_TOKEN") == "from-file"
