"""What bodies, interrupted work and exchanged databases do to the running store."""

from __future__ import annotations

import gzip
import json
import logging
import threading
import time
from typing import Any

import pytest
import zstandard
from django.db import connection
from django.test import Client

from lineage import checkpoints, engine, errors, keeper, reported, segments, turns, watching
from lineage.engine import Question
from tests.lineage.test_api import client, item, post, reader, size
from tests.lineage.test_queries import Feed

pytestmark = pytest.mark.slow
__all__ = ["client"]


@pytest.fixture
def feed(store: str) -> Feed:
    return Feed()


def body(number: int) -> bytes:
    return json.dumps(item(number)).encode() + b"\n"


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("zstd", zstandard.compress)])
def test_each_part_of_a_compressed_body_counts_and_half_a_part_is_refused(
    client: Client, encoding: str, pack: Any
) -> None:
    head = {"content-encoding": encoding}
    assert post(client, pack(body(1)) + pack(body(2)), headers=head).json()["accepted"] == 2
    assert post(client, pack(body(3) * 500)[:-5], headers=head).status_code == 400
    assert post(client, pack(b" " * 50_000_000), headers=head).status_code == 413
    assert post(client, pack(body(3)) + b"rubbish", headers=head).status_code == 400
    assert size() == 2


@pytest.mark.parametrize(
    "address",
    [
        "events?limit=²", "events?limit=99999999999", "events?since=9999999999999d", "events?since=²d",
        "events?until=0001-01-01T00:00:00%2B14:00", "proof/inclusion?index=²", "events?cursor=WzEsImFiYyJd",
        "relations?cursor=WzEsMV0", "proof/consistency?from=1&to=99999999999999999999",
    ],
)  # fmt: skip
def test_questions_in_odd_form_are_refused_with_a_reason(client: Client, address: str) -> None:
    assert reader().get(f"/api/v1/{address}").status_code == 400


@pytest.mark.parametrize("beat", [{"last_sequence": 2**70}, {"last_sequence": -1}, {"at": "0001-01-01T00:00:00+14:00"}])
def test_a_heartbeat_in_odd_form_is_refused(client: Client, beat: dict[str, Any]) -> None:
    assert post(client, beat, "/api/v1/heartbeat").status_code == 400


def test_a_heartbeat_may_hold_any_character(client: Client) -> None:
    assert post(client, {"position": "a\0b"}, "/api/v1/heartbeat").status_code == 200


@pytest.mark.parametrize("when", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_beyond_all_years_is_quarantined(client: Client, when: str) -> None:
    assert post(client, [item(1, occurred_at=when), item(2)]).json()["quarantined"] == 1


def test_no_row_key_gets_into_our_own_log(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    asker = reader()
    with connection.cursor() as cursor:
        cursor.execute("drop table ledger_head cascade")
    with caplog.at_level(logging.INFO):
        assert asker.get("/api/v1/relations/orders/public.t/rows/secret-key").status_code == 503
    assert "secret-key" not in caplog.text


ENDLESS = "select count(*) as n from range(1000000) a, range(1000000) b where a.range + b.range = 7"


def test_the_time_limit_holds_for_the_whole_question(feed: Feed, settings: Any) -> None:
    # What is joined once for all questions shall not count: that takes as long as other work on the machine makes it.
    with Question():
        settings.QUERY_SECONDS = 4
    with Question() as question:
        time.sleep(4.5)
        with pytest.raises(errors.QueryTooLong):
            question.rows("select 1")
    started = time.monotonic()
    with Question() as question, pytest.raises(errors.QueryTooLong):
        question.rows(ENDLESS)
    assert time.monotonic() - started < 20
    assert not [t for t in threading.enumerate() if isinstance(t, watching.Watch)]


def test_the_time_limit_holds_while_the_views_are_made(
    feed: Feed, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asker = reader()
    settings.QUERY_SECONDS = 1
    monkeypatch.setattr(reported.Reported, "take", lambda self, cursor, snap, size: cursor.execute(ENDLESS))
    answer = asker.get("/api/v1/events")
    assert (answer.status_code, answer.json()["code"]) == (503, "query-too-long")
    assert not [t for t in threading.enumerate() if isinstance(t, watching.Watch)]


def test_the_kept_tail_forgets_what_is_sealed(feed: Feed) -> None:
    for n in range(70):
        feed.change(str(n))
        engine.snapshot()
        if n == 40:
            checkpoints.checkpoint()
            segments.seal()
    assert engine.snapshot().events.num_rows < 40


def test_a_keeper_on_an_older_database_sweeps_nothing_away(feed: Feed, settings: Any) -> None:
    feed.change("1")
    checkpoints.checkpoint()
    segments.seal()
    with connection.cursor() as cursor:
        for statement in ("alter table ledger_segment disable trigger all", "delete from ledger_segment",
                          "alter table ledger_checkpoint disable trigger all", "delete from ledger_checkpoint",
                          "alter table ledger_head disable trigger all", "update ledger_head set size = 0"):  # fmt: skip
            cursor.execute(statement)
    with pytest.raises(errors.SignerRefused):
        turns.Rounds(keeper.rounds()).once(time.monotonic())
    assert len(list((settings.DATA_DIR / "segments").iterdir())) == 1


def test_an_older_database_that_grew_again_is_not_given_the_newer_checkpoint(feed: Feed) -> None:
    feed.change("1")
    checkpoints.checkpoint()
    with connection.cursor() as cursor:
        for table in ("checkpoint", "batch", "journal", "key"):
            cursor.execute(f"alter table ledger_{table} disable trigger all")
        cursor.execute("select inhrelid::regclass::text from pg_inherits where inhparent = 'ledger_journal'::regclass")
        for (part,) in cursor.fetchall():
            cursor.execute(f"alter table {part} disable trigger all")
        for table in ("checkpoint", "batch", "journal", "key"):
            cursor.execute(f"delete from ledger_{table}")
        cursor.execute("alter table ledger_head disable trigger all")
        cursor.execute("update ledger_head set size = 0")
    feed.change("2")
    feed.change("3")
    with pytest.raises(errors.SignerRefused):
        checkpoints.checkpoint()
