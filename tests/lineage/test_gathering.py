"""Batches that come at once, feeds that are put off, and tokens that are revoked while their batch is read."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from django.db import connection, connections
from django.test import Client, RequestFactory
from django.utils import timezone

from config import lanes
from config.settings import backlog_for
from lineage import access, backlog, checkpoints, errors, gathering, ingest, intake_api, journal, ledger, segments
from lineage.events import Event
from lineage.models import Source, SourceHealth

pytestmark = pytest.mark.slow


def made(name: str) -> Source:
    return Source.objects.create(
        name=name, format="events", environment="prod", datasource="orders", token_hash=access.token_hash(f"tsi_{name}")
    )


@pytest.fixture
def source(store: str, monkeypatch: pytest.MonkeyPatch) -> Source:
    monkeypatch.setattr(intake_api, "_pressure", backlog.Pressure())
    return made("shop")


def batch(source: Source, *ids: str) -> ledger.Batch:
    said = [Event(kind="query", op="read", source_event_id=one, occurred_at="2026-11-21T04:00:00Z") for one in ids]
    entries = [ingest.admit(source, event) for event in said]
    return ledger.Batch(source.pk, [entry for entry in entries if isinstance(entry, ledger.Entry)])


def rows(sql: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


@pytest.fixture
def head_is_held(source: Source) -> Iterator[Callable[[], None]]:
    """Somebody else holds the head, so that a transaction of ours cannot end before what is given is called."""
    other = psycopg.connect(**connection.get_connection_params() | {"dbname": connection.settings_dict["NAME"]})
    other.execute("select 1 from ledger_head for update")
    yield other.rollback
    other.close()


def at_once(line: gathering.Gathering, batches: list[ledger.Batch], begin: Callable[[], None]) -> list[Any]:
    """What became of each, where the first is in its transaction and the others in line when `begin` is called."""
    found: list[Any] = [None] * len(batches)

    def send(at: int) -> None:
        try:
            found[at] = line.append(batches[at])
        except errors.TouchstoneError as error:
            found[at] = error
        except psycopg.Error as error:
            found[at] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=send, args=(at,)) for at in range(len(batches))]
    threads[0].start()
    wait_until(lambda: line._is_busy and not line._line)
    for thread in threads[1:]:
        thread.start()
    wait_until(lambda: len(line._line) == len(batches) - 1)
    begin()
    for thread in threads:
        thread.join()
    return found


def wait_until(holds: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(2_000):
        if holds():
            return
        pause.wait(0.005)
    raise AssertionError("it did not come to that")


def test_what_comes_while_one_commits_shares_the_next_transaction_on_the_same_connection(
    source: Source, head_is_held: Callable[[], None]
) -> None:
    line = gathering.Gathering()
    line.connected = gathering.Shared()
    desk = made("desk")
    batches = [batch(source, "first"), batch(source, "a", "b"), batch(desk, "a"), batch(source, "c")]
    found = at_once(line, batches, head_is_held)
    with line.connected():
        assert (
            rows("select count(*) from pg_stat_activity where datname = current_database() and state is not null")[0][0]
            <= 3
        )
        connection.close()
    assert sorted(place.index for places in found for place in places) == [0, 1, 2, 3, 4]
    assert found[0][0].index == 0
    assert [places[0].status for places in found] == ["accepted"] * 4
    # The batches of one source are one in the journal; both sources' were written by one transaction.
    assert rows("select count(distinct xmin::text), count(*), sum(n) from ledger_batch") == [(2, 3, 5)]
    assert checkpoints.checkpoint() == 5


def test_statements_of_the_shared_connection_are_prepared_and_place_each_item_as_before(source: Source) -> None:
    line = gathering.Gathering()
    line.connected = gathering.Shared()
    for turn in range(gathering.PREPARED_AFTER + 3):
        (placed,) = line.append(batch(source, str(turn)))
        assert (placed.status, placed.index) == ("accepted", turn)
    with line.connected():
        assert rows("select count(*) from pg_prepared_statements where statement like 'insert into ledger_key%'") != [
            (0,)
        ]
    again = line.append(batch(source, "7", "new", "0"))
    assert [(place.status, place.index) for place in again] == [("duplicate", 7), ("accepted", 8), ("duplicate", 0)]
    with line.connected():
        connection.close()


def test_one_item_sent_twice_at_once_is_kept_once_and_both_are_told_where(
    source: Source, head_is_held: Callable[[], None]
) -> None:
    batches = [batch(source, "first"), batch(source, "a"), batch(source, "a")]
    found = at_once(gathering.Gathering(), batches, head_is_held)
    assert sorted(places[0].status for places in found[1:]) == ["accepted", "duplicate"]
    assert [places[0].index for places in found] == [0, 1, 1]
    assert rows("select size from ledger_head") == [(2,)]


def test_a_batch_that_cannot_be_stored_fails_none_of_those_beside_it(
    source: Source, head_is_held: Callable[[], None]
) -> None:
    bad = batch(source, "bad")
    bad.rows[0] = journal.Row(b"\xff" * 4 * 9, bad.rows[0].leaf_hash)
    found = at_once(
        gathering.Gathering(), [batch(source, "first"), batch(source, "a"), bad, batch(source, "b")], head_is_held
    )
    assert isinstance(found[2], psycopg.Error)
    assert [[place.status for place in found[at]] for at in (0, 1, 3)] == [["accepted"]] * 3
    assert rows("select size from ledger_head") == [(3,)]
    assert [place.status for place in ledger.append(source.pk, batch(source, "bad").entries)] == ["accepted"]


def test_the_line_goes_on_after_a_transaction_that_failed(source: Source) -> None:
    line = gathering.Gathering()
    bad = batch(source, "bad")
    bad.rows[0] = journal.Row(b"\xff" * 4 * 9, bad.rows[0].leaf_hash)
    with pytest.raises(psycopg.Error):
        line.append(bad)
    assert [place.status for place in line.append(batch(source, "good"))] == ["accepted"]


def test_a_new_part_of_the_journal_waits_for_nobody_who_reads_or_appends(source: Source) -> None:
    ledger.append(source.pk, batch(source, "a").entries)
    place = connection.get_connection_params() | {"dbname": connection.settings_dict["NAME"]}
    with psycopg.connect(**place) as other:
        other.execute("select count(*) from ledger_journal")
        other.execute("lock table ledger_journal in row exclusive mode")
        with connection.cursor() as cursor:
            cursor.execute("set lock_timeout = '1s'")
            cursor.execute("select ledger_open_slot(ledger_slot() + 1)")
            cursor.execute("reset lock_timeout")
    following = "(select 'ledger_journal_' || (max(slot) + 1) from ledger_batch)::regclass"
    assert rows(f"select count(*) from pg_inherits where inhrelid = {following}") == [(1,)]
    assert rows(f"select count(*) from pg_trigger where tgrelid = {following} and tgname = 'append_only'") == [(1,)]
    assert rows(f"select count(*) from pg_index where indrelid = {following} and indisprimary") == [(1,)]


def client(source: Source) -> Client:
    return Client(headers={"authorization": f"Bearer tsi_{source.name}"})


def post(client: Client, *ids: str) -> Any:
    body = [{"kind": "query", "op": "read", "source_event_id": one} for one in ids]
    return client.post("/api/v1/ingest/events", json.dumps(body), content_type="application/json")


def test_a_token_that_was_used_a_moment_ago_is_refused_from_the_moment_it_is_revoked(source: Source) -> None:
    feed = client(source)
    assert post(feed, "a").status_code == 200
    Source.objects.filter(pk=source.pk).update(revoked_at=timezone.now())
    refused = post(feed, "b")
    assert (refused.status_code, refused.json()["code"]) == (401, "token-invalid")
    unreadable = feed.post("/api/v1/ingest/events", b"{", content_type="application/json")
    assert (unreadable.status_code, unreadable.json()["code"]) == (401, "token-invalid")
    assert rows("select size from ledger_head") == [(1,)]


def test_a_right_that_a_source_is_given_holds_for_its_next_batch(source: Source) -> None:
    feed = client(source)
    body = [{"kind": "query", "op": "read", "source_event_id": one, "actor": {"id": "dana"}} for one in "ab"]
    for one in body:
        assert feed.post("/api/v1/ingest/events", json.dumps(one), content_type="application/json").status_code == 200
        Source.objects.filter(pk=source.pk).update(asserts=["actor"])
    flags = [
        b"unauthorised_assertion" in bytes(action)
        for (action,) in rows("select action from ledger_journal order by batch")
    ]
    assert flags == [True, False]


def test_what_may_wait_to_be_sealed_follows_the_memory_of_the_machine() -> None:
    assert backlog_for(2 << 30, 5_000) == 65_536
    assert backlog_for(256 << 20, 5_000) == 10_000
    assert backlog_for(1 << 40, 5_000) == 2_000_000


def test_feeds_are_put_off_and_counted_while_too_much_is_unsealed_and_the_store_goes_on_recording(
    source: Source, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.BACKLOG_EVENTS = 2
    feed = client(source)
    assert post(feed, "a", "b", "c").status_code == 200
    answers = [post(feed, "d"), post(feed, "e")]
    assert [(each.status_code, each.json()["code"], each["Retry-After"]) for each in answers] == [
        (429, "backlog-full", "5")
    ] * 2
    assert rows("select size from ledger_head") == [(3,)]
    ledger.record_decision("configuration", decided_by="ada@example.test", subject="desk")
    checkpoints.checkpoint()
    segments.seal()
    monkeypatch.setattr(backlog, "REST_SECONDS", 0.0)
    intake_api._pressure._until = 0.0
    assert post(feed, "d").status_code == 200
    settings.BACKLOG_EVENTS = 0
    assert post(feed, "e").status_code == 429
    assert SourceHealth.objects.get(source=source).put_off == 3


def test_a_feed_is_answered_while_all_places_of_pages_are_taken(source: Source) -> None:
    told: list[str] = []
    entered = threading.Semaphore(0)

    def pages(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        entered.release()
        return [b"a page"]

    both = lanes.Lanes(pages, at_once=1)
    page = {"REQUEST_METHOD": "GET", "PATH_INFO": "/"}
    first = both(page, lambda *_: None)
    entered.acquire()
    second = threading.Thread(target=lambda: told.extend(each.decode() for each in both(page, lambda *_: None)))
    second.start()
    body = json.dumps([{"kind": "query", "op": "read", "source_event_id": "a"}]).encode()
    statuses: list[str] = []
    answer = both(
        RequestFactory()
        .post("/api/v1/ingest/events", body, "application/json", HTTP_AUTHORIZATION="Bearer tsi_shop")
        .environ,
        lambda status, headers: statuses.append(status),
    )
    assert (statuses, json.loads(b"".join(answer))["accepted"]) == (["200 OK"], 1)
    assert not entered.acquire(blocking=False), "the second page waits"
    first.close()  # type: ignore[attr-defined]
    second.join(10)
    assert told == ["a page"]
