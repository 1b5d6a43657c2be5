"""The slot: confirmed when it may be, never before; lost, dropped or moved it is a gap; nothing is set up dangerously."""

from __future__ import annotations

import time

import pytest

from tests.enforcement.capture import Make, arrived, changes, confirmed, gaps, ready, wait_until, wal
from tests.enforcement.conftest import Database
from tests.enforcement.sink import Sink

pytestmark = pytest.mark.slow


def test_a_quiet_database_is_confirmed_too_and_needs_no_log_kept(database: Database, pgwal: Make, sink: Sink) -> None:
    pgwal().start()
    ready(database)
    database.cluster.connect().execute("create table if not exists elsewhere(id int)").connection.close()
    before = wal(database)
    wait_until(lambda: confirmed(database) >= before)
    assert sink.batches == []


def test_the_slot_is_confirmed_when_the_store_has_it_or_the_spool_while_the_store_is_away(
    database: Database, pgwal: Make, sink: Sink
) -> None:
    database.run("create table t(id int primary key)")
    sink.delay_seconds = 3
    one = pgwal().start()
    ready(database)
    database.run("insert into t values (1)")
    position = wal(database)
    time.sleep(1.5)
    assert confirmed(database) < position, "the store has not answered yet"
    wait_until(lambda: confirmed(database) >= position)
    sink.delay_seconds, sink.is_down = 0, True
    database.run("insert into t values (2)")
    position = wal(database)
    wait_until(lambda: confirmed(database) >= position)
    one.kill9()
    sink.is_down = False
    one.start()
    sink.wait_for(lambda: arrived(sink) == 2)
    assert [r["new"] for r in changes(sink)] == [["1"], ["2"]]


def test_a_full_spool_stops_confirmation_and_loses_nothing(database: Database, pgwal: Make, sink: Sink) -> None:
    database.run("create table t(id int primary key, v text)")
    sink.is_down = True
    one = pgwal("--spool-limit", 1).start()
    ready(database)
    for n in range(8):
        database.run(f"insert into t select {n} * 1000 + g, md5(g::text) from generate_series(1, 1000) g")
    position = wal(database)
    time.sleep(8)  # longer than wal_sender_timeout: the server must not give up on a collector that only waits
    assert confirmed(database) < position
    assert database.run(f"select active from pg_replication_slots where slot_name = '{database.slot}'") == [(True,)]
    one.kill9()
    sink.is_down = False
    one.start()
    sink.wait_for(lambda: arrived(sink) == 8000, 60)
    assert [int(r["new"][0]) for r in changes(sink)] == [n * 1000 + g for n in range(8) for g in range(1, 1001)]
    wait_until(lambda: confirmed(database) >= position)


def test_a_lost_slot_is_a_gap_with_both_positions_and_a_new_slot(database: Database, pgwal: Make, sink: Sink) -> None:
    database.run("create table t(id int primary key)")
    one = pgwal().start()
    ready(database)
    database.run("insert into t values (1)")
    sink.wait_for(lambda: arrived(sink) == 1)
    wait_until(lambda: confirmed(database) >= wal(database))
    one.kill9()
    # Read when nobody confirms any more: a quiet server's own records move the slot too.
    slot = f"from pg_replication_slots where slot_name = '{database.slot}'"
    wait_until(lambda: database.run(f"select active {slot}") == [(False,)])
    last = database.run(f"select confirmed_flush_lsn::text {slot}")[0][0]
    database.run("alter system set max_slot_wal_keep_size = '1MB'", "select pg_reload_conf()")
    try:
        database.run("insert into t values (2)")
        status = f"select wal_status {slot}"
        while database.run(status) != [("lost",)]:
            database.run("create table filler as select 1", "select pg_switch_wal()", "drop table filler", "checkpoint")
        one.start()
        ready(database)
        database.run("insert into t values (3)")
        sink.wait_for(lambda: arrived(sink) == 3)
    finally:
        database.run("alter system reset max_slot_wal_keep_size", "select pg_reload_conf()")
    (gap,) = gaps(sink)
    assert (gap["type"], gap["first"]) == ("gap", last)
    assert int(gap["last"].split("/")[1], 16) > int(last.split("/")[1], 16)
    assert [r["new"] for r in changes(sink)] == [["1"], ["3"]]


def test_a_slot_that_was_dropped_or_moved_by_somebody_is_a_gap(database: Database, pgwal: Make, sink: Sink) -> None:
    database.run("create table t(id int primary key)")
    one = pgwal().start()
    ready(database)
    database.run("insert into t values (1)")
    sink.wait_for(lambda: arrived(sink) == 1)
    assert one.stop() == 0
    database.run("insert into t values (2)")
    database.run(f"select pg_replication_slot_advance('{database.slot}', pg_current_wal_lsn())")
    one.start()
    ready(database)
    database.run("insert into t values (3)")
    sink.wait_for(lambda: arrived(sink) == 3)
    assert one.stop() == 0
    database.run(f"select pg_drop_replication_slot('{database.slot}')", "insert into t values (4)")
    one.start()
    ready(database)
    database.run("insert into t values (5)")
    sink.wait_for(lambda: arrived(sink) == 5)
    assert ["Somebody" in gap["detail"] for gap in gaps(sink)] == [True, False]
    assert [r["new"] for r in changes(sink)] == [["1"], ["3"], ["5"]]


def test_a_publication_made_anew_does_not_hold_the_feed_for_ever(database: Database, pgwal: Make, sink: Sink) -> None:
    database.run("create table t(id int primary key)")
    one = pgwal().start()
    ready(database)
    assert one.stop() == 0
    database.run(
        "drop publication touchstone", "insert into t values (1)", "create publication touchstone for all tables"
    )
    one.start()
    sink.wait_for(lambda: arrived(sink) == 1)
    ready(database)
    database.run("insert into t values (2)")
    sink.wait_for(lambda: arrived(sink) == 2)
    assert len(gaps(sink)) == 1
    assert [r["new"] for r in changes(sink)] == [["2"]]


def test_it_does_not_start_without_a_bound_on_the_kept_log(database: Database, pgwal: Make) -> None:
    database.run("alter system set max_slot_wal_keep_size = -1", "select pg_reload_conf()")
    try:
        time.sleep(0.2)
        one = pgwal().start()
        assert one.wait() == 1
        assert "ALTER SYSTEM SET max_slot_wal_keep_size" in one.told
        assert database.run("select 1 from pg_replication_slots where database = current_database()") == []
        accepted = pgwal("--accept-unbounded-wal").start()
        ready(database)
        assert accepted.stop() == 0
    finally:
        database.run("alter system reset max_slot_wal_keep_size", "select pg_reload_conf()")


def test_a_publication_that_would_break_updates_is_not_made(database: Database, pgwal: Make, sink: Sink) -> None:
    database.run("create table plain(id int)", "create table good(id int primary key)", "insert into plain values (1)")
    one = pgwal().start()
    assert one.wait() == 1
    assert "ALTER TABLE public.plain REPLICA IDENTITY FULL;" in one.told
    assert database.run("select 1 from pg_publication") == []
    database.run("update plain set id = 2")
    pgwal("--tables", "good").start()
    ready(database)
    database.run("update plain set id = 3", "insert into good values (1)")
    sink.wait_for(lambda: arrived(sink) == 1)
    assert changes(sink)[0]["relation"]["name"] == "good"


def test_a_restarted_server_is_connected_to_again(database: Database, pgwal: Make, sink: Sink) -> None:
    database.run("create table t(id int primary key)")
    one = pgwal().start()
    ready(database)
    database.run("insert into t values (1)")
    database.cluster.kill9()
    database.cluster.start()
    database.run("insert into t values (2)")
    sink.wait_for(lambda: arrived(sink) == 2, 60)
    assert [r["new"] for r in changes(sink)] == [["1"], ["2"]]
    assert one.stop() == 0
    assert "Nothing is lost" in one.told


def test_once_sends_what_is_there_and_ends(database: Database, pgwal: Make, sink: Sink) -> None:
    assert pgwal("--once").start().wait() == 0
    database.run("create table t(id int primary key)", "insert into t values (1)", "insert into t values (2)")
    assert pgwal("--once").start().wait() == 0
    assert [r["new"] for r in changes(sink)] == [["1"], ["2"]]
