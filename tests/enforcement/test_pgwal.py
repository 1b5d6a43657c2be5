"""Change capture against a real PostgreSQL 15: what is sent is exactly what was committed, whatever is killed when."""

from __future__ import annotations

import base64
import json
import random
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.enforcement.conftest import Database
from tests.enforcement.processes import Collector
from tests.enforcement.sink import Sink

pytestmark = pytest.mark.slow

Make = Callable[..., Collector]


@pytest.fixture
def pgwal(collector: Make, database: Database) -> Callable[..., Collector]:
    def make(*arguments: Any, **options: Any) -> Collector:
        fixed = ("--create", "--slot", database.slot, "--canary-seconds", 0)
        return collector("pgwal", database.dsn, *fixed, *arguments, **options)

    return make


def ready(database: Database) -> None:
    """Wait until the slot is there and being read: what is committed from now on is captured."""
    until = time.monotonic() + 30
    while not database.run(f"select 1 from pg_replication_slots where slot_name = '{database.slot}' and active"):
        assert time.monotonic() < until
        time.sleep(0.05)


def changes(sink: Sink) -> list[dict[str, Any]]:
    """The records in the order of their sequence; every key exactly once, every transaction whole."""
    records = [item["record"] for item in sink.items() if "record" in item]
    keys = [(r["timeline"], r["commit_lsn"], r["ordinal"]) for r in records]
    assert len(keys) == len(set(keys)), "a change was sent under two sequence numbers"
    of: dict[str, int] = {}
    for record in records:
        of[record["commit_lsn"]] = max(record["of"], of.get(record["commit_lsn"], 0))
    for lsn, count in of.items():
        ordinals = [r["ordinal"] for r in records if r["commit_lsn"] == lsn and r["ordinal"]]
        assert ordinals == list(range(1, count + 1))
    return records


def arrived(sink: Sink) -> int:
    return len({item["sequence"] for batch in list(sink.batches) for item in batch})


def values(record: dict[str, Any], image: str = "new") -> dict[str, Any]:
    return dict(zip([c["name"] for c in record["relation"]["columns"]], record[image], strict=True))


def test_each_operation_and_replica_identity_is_told_as_it_was(database: Database, pgwal: Make, sink: Sink) -> None:
    database.run(
        "create table by_key(id bigint primary key, email text, note text)",
        "create table whole(b text, a int, v numeric(12,2), primary key (a, b))",
        "alter table whole replica identity full",
        "create table by_index(id int, code text not null, v int)",
        "create unique index code on by_index(code)",
        "alter table by_index replica identity using index code",
        "create type mood as enum ('calm', 'tired')",
        "create table odd(\"Key\"\"s\" uuid primary key, m mood, at timestamptz, b bytea, f float8, j jsonb)",
    )  # fmt: skip
    one = pgwal().start()
    ready(database)
    database.run(
        "insert into by_key values (1, 'a@b', null)",
        "update by_key set email = 'c@d' where id = 1",
        "update by_key set id = 2",
        "delete from by_key",
        "insert into whole values ('x,y', 7, 1.5)",
        "update whole set v = 123456789.25",
        "delete from whole",
        "insert into by_index values (1, 'k', 1)",
        "update by_index set code = 'l'",
        "insert into odd values ('5b6d0c5e-8f5c-4b5e-9d5e-000000000001', 'tired', '2026-01-02 03:04:05.678901+02', "
        "'\\x00ff', 0.1::float8 + 0.2::float8, '{\"a\": 1}')",
        "truncate by_key, whole",
    )
    sink.wait_for(lambda: arrived(sink) == 12)
    found = changes(sink)
    assert [(r["type"], r["relation"]["name"]) for r in found[:4]] == [
        ("insert", "by_key"), ("update", "by_key"), ("update", "by_key"), ("delete", "by_key"),
    ]  # fmt: skip
    insert, update, renamed, delete = found[:4]
    unavailable = {"state": "unavailable"}
    assert (insert["old_kind"], values(insert)) == (None, {"id": "1", "email": "a@b", "note": None})
    assert (update["old_kind"], update["old"], values(update)["email"]) == (None, None, "c@d")
    assert (renamed["old_kind"], renamed["old"]) == ("key", ["1", unavailable, unavailable])
    assert (delete["old"], delete["new"]) == (["2", unavailable, unavailable], None)
    update = found[5]
    assert update["relation"]["key"] == ["a", "b"]
    assert (update["old_kind"], values(update, "old")["v"], values(update)["v"]) == ("full", "1.50", "123456789.25")
    by_index = found[8]
    assert (by_index["relation"]["key"], by_index["relation"]["replica_identity"]) == (["code"], "index")
    assert by_index["old"] == [unavailable, "k", unavailable]
    odd = found[9]
    assert [c["type"] for c in odd["relation"]["columns"]] == [
        "uuid", "mood", "timestamp with time zone", "bytea", "double precision", "jsonb",
    ]  # fmt: skip
    assert odd["relation"]["key"] == ['Key"s']
    assert odd["new"][1:5] == ["tired", "2026-01-02 01:04:05.678901+00", "\\x00ff", "0.30000000000000004"]
    assert [(r["type"], r["relation"]["name"], r["ordinal"], r["of"]) for r in found[10:]] == [
        ("truncate", "by_key", 1, 2), ("truncate", "whole", 2, 2),
    ]  # fmt: skip
    assert one.stop() == 0


def test_a_large_unchanged_value_is_said_to_be_unchanged(database: Database, pgwal: Make, sink: Sink) -> None:
    database.run("create table t(id int primary key, big text, n int)", "alter table t alter big set storage external")
    pgwal().start()
    ready(database)
    database.run("insert into t values (1, repeat('x', 9000), 1)", "update t set n = 2", "alter table t replica identity full",
                 "update t set n = 3")  # fmt: skip
    sink.wait_for(lambda: arrived(sink) == 3)
    insert, update, full = changes(sink)
    assert values(insert)["big"] == "x" * 9000
    assert values(update)["big"] == {"state": "unchanged"}
    assert values(full, "old")["big"] == "x" * 9000


def test_a_huge_value_is_cut_with_its_length_and_hash(database: Database, pgwal: Make, sink: Sink) -> None:
    database.run("create table t(id int primary key, big text, small text)")
    pgwal().start()
    ready(database)
    database.run("insert into t values (1, repeat('abcdefgh', 1000000), 'kept')")
    sink.wait_for(lambda: arrived(sink) == 1)
    (insert,) = changes(sink)
    big = values(insert)["big"]
    assert (big["state"], big["length"], len(big["value"]), len(big["sha256"])) == ("truncated", 8000000, 1024, 64)
    assert values(insert)["small"] == "kept"


def test_schema_changes_between_and_inside_transactions_are_followed(
    database: Database, pgwal: Make, sink: Sink
) -> None:
    database.run("create table t(id int primary key, a text)")
    pgwal().start()
    ready(database)
    with database.connect() as connection:
        connection.execute("insert into t values (1, 'one')")
        with connection.transaction():
            connection.execute("insert into t values (2, 'two')")
            connection.execute("alter table t add column b int default 5")
            connection.execute("insert into t values (3, 'three', 6)")
        connection.execute("alter table t drop column a")
        connection.execute("insert into t values (4, 7)")
    sink.wait_for(lambda: arrived(sink) == 4)
    assert [values(r) for r in changes(sink)] == [
        {"id": "1", "a": "one"}, {"id": "2", "a": "two"}, {"id": "3", "a": "three", "b": "6"}, {"id": "4", "b": "7"},
    ]  # fmt: skip


def test_messages_are_sent_with_their_transaction_and_loose_ones_at_once(
    database: Database, pgwal: Make, sink: Sink
) -> None:
    database.run("create table t(id int primary key)")
    pgwal().start()
    ready(database)
    with database.connect() as connection:
        for n in range(5):
            with connection.transaction():
                connection.execute("select pg_logical_emit_message(true, 'touchstone', %s)", [f'{{"actor": "{n}"}}'])
                connection.execute("insert into t values (%s)", [n])
                # A loose message directly before the commit ends where the commit record begins.
                connection.execute("select pg_logical_emit_message(false, 'touchstone_canary', %s)", [f"id-{n}"])
        with connection.transaction(force_rollback=True):
            connection.execute("select pg_logical_emit_message(true, 'touchstone', 'never')")
            connection.execute("insert into t values (100)")
    sink.wait_for(lambda: arrived(sink) == 15)
    found = changes(sink)
    claims = [r for r in found if r["type"] == "message" and r["message"]["transactional"]]
    loose = [r for r in found if r["type"] == "message" and not r["message"]["transactional"]]
    inserts = [r for r in found if r["type"] == "insert"]
    assert [json.loads(base64.b64decode(r["message"]["content_base64"]))["actor"] for r in claims] == list("01234")
    assert [(r["xid"], r["ordinal"], r["message"]["prefix"]) for r in loose] == [(0, 0, "touchstone_canary")] * 5
    assert [(c["xid"], c["ordinal"]) for c in claims] == [(i["xid"], i["ordinal"] - 1) for i in inserts]
    assert {r["commit_lsn"] for r in loose} & {r["commit_lsn"] for r in inserts}, "the case that needs ordinal 0"


def kill_while(one: Collector, sink: Sink, expected: int, kills: int, longest: float) -> None:
    """Kill and start again at random moments, until all has come."""
    chance = random.Random(expected)
    for _ in range(kills):
        time.sleep(chance.uniform(0.05, longest))
        one.kill9()
        one.start()
    sink.wait_for(lambda: arrived(sink) >= expected, 150)


def test_200_000_rows_in_one_streamed_transaction_are_exact_through_kills(
    database: Database, pgwal: Make, sink: Sink
) -> None:
    database.run("create table t(id int primary key, v text)")
    one = pgwal().start()
    ready(database)
    with database.connect() as connection, connection.transaction():
        connection.execute("insert into t select g, 'value ' || g from generate_series(1, 120000) g")
        one.kill9()
        one.start()
        connection.execute("insert into t select g, 'value ' || g from generate_series(120001, 200000) g")
    kill_while(one, sink, 200000, kills=4, longest=4)
    found = changes(sink)
    assert len({r["xid"] for r in found}) == 1
    assert [int(r["new"][0]) for r in found] == list(range(1, 200001))
    row = database.run(f"select stream_txns from pg_stat_replication_slots where slot_name = '{database.slot}'")
    assert row[0][0] >= 1
    assert one.peak_memory_mib() < 150


def test_a_copy_of_5000_and_single_commits_are_exact_through_kills(database: Database, pgwal: Make, sink: Sink) -> None:
    database.run("create table t(id int primary key, v text)", "create table u(id int primary key)")
    one = pgwal().start()
    ready(database)
    with database.connect() as connection:
        with connection.cursor() as cursor, cursor.copy("copy t from stdin") as copy:
            for n in range(5000):
                copy.write_row((n, f"value {n}"))
        for n in range(300):
            connection.execute("insert into u values (%s)", [n])
            if n % 100 == 50:
                one.kill9()
                one.start()
    kill_while(one, sink, 5300, kills=3, longest=0.8)
    found = changes(sink)
    assert [int(r["new"][0]) for r in found if r["relation"]["name"] == "t"] == list(range(5000))
    assert [int(r["new"][0]) for r in found if r["relation"]["name"] == "u"] == list(range(300))


def test_rolled_back_savepoints_in_streamed_transactions_leave_no_trace(
    database: Database, pgwal: Make, sink: Sink
) -> None:
    database.run("create table t(id int primary key, v text)", "create table u(id int primary key, w text)")
    one = pgwal().start()
    ready(database)
    with database.connect() as connection, database.connect() as other:
        fill = "insert into {} select g, repeat('x', 40) from generate_series({}, {}) g"

        def insert(table: str, first: int, last: int, where: psycopg.Connection[Any] = connection) -> None:
            where.execute(fill.format(table, first, last).encode())

        def statement(text: str) -> None:
            connection.execute(text.encode())

        statement("begin")
        insert("t", 1, 3000)
        statement("savepoint a")
        insert("t", 3001, 6000)
        statement("savepoint b")
        statement("alter table u add column extra int default 1")
        statement("insert into u select g, 'y', 2 from generate_series(1, 3000) g")
        statement("release b")
        one.kill9()
        one.start()
        statement("rollback to a")
        other.execute("begin")
        insert("u", 9001, 12000, other)
        insert("u", 20001, 23000)
        statement("savepoint c")
        insert("t", 30001, 33000)
        statement("release c")
        other.execute("rollback")
        one.kill9()
        one.start()
        time.sleep(1)
        insert("t", 40001, 40010)
        statement("commit")
    kill_while(one, sink, 9010, kills=3, longest=0.7)
    expected = [("t", n) for n in range(1, 3001)] + [("u", n) for n in range(20001, 23001)]
    expected += [("t", n) for n in range(30001, 33001)] + [("t", n) for n in range(40001, 40011)]
    found = changes(sink)
    assert [(r["relation"]["name"], int(r["new"][0])) for r in found] == expected
    assert all(len(r["new"]) == 2 for r in found)


def confirmed(database: Database) -> int:
    query = f"select confirmed_flush_lsn - '0/0' from pg_replication_slots where slot_name = '{database.slot}'"
    return int(database.run(query)[0][0])


def wal(database: Database) -> int:
    return int(database.run("select pg_current_wal_lsn() - '0/0'")[0][0])


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


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


def gaps(sink: Sink) -> list[dict[str, Any]]:
    return [item["custody"] for item in sink.items() if "custody" in item]


def test_a_lost_slot_is_a_gap_with_both_positions_and_a_new_slot(database: Database, pgwal: Make, sink: Sink) -> None:
    database.run("create table t(id int primary key)")
    one = pgwal().start()
    ready(database)
    database.run("insert into t values (1)")
    sink.wait_for(lambda: arrived(sink) == 1)
    wait_until(lambda: confirmed(database) >= wal(database))
    last = database.run(
        f"select confirmed_flush_lsn::text from pg_replication_slots where slot_name = '{database.slot}'"
    )[0][0]
    one.kill9()
    database.run("alter system set max_slot_wal_keep_size = '1MB'", "select pg_reload_conf()")
    try:
        database.run("insert into t values (2)")
        status = f"select wal_status from pg_replication_slots where slot_name = '{database.slot}'"
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


def test_bytes_that_are_not_utf8_are_kept_as_they_are(database: Database, collector: Make, sink: Sink) -> None:
    with database.cluster.connect() as connection:
        connection.execute(f"drop database {database.name}".encode())
        connection.execute(
            f"create database {database.name} encoding 'SQL_ASCII' locale 'C' template template0".encode()
        )
    with psycopg.connect(database.dsn, autocommit=True, client_encoding="sql_ascii") as connection:
        connection.execute("create table t(id int primary key, v text)")
    collector("pgwal", database.dsn, "--create", "--slot", database.slot, "--canary-seconds", 0).start()
    ready(database)
    with psycopg.connect(database.dsn, autocommit=True, client_encoding="sql_ascii") as connection:
        connection.execute(b"insert into t values (1, 'caf\xe9')")
    sink.wait_for(lambda: arrived(sink) == 1)
    raw = base64.b64decode(sink.items()[0]["record_base64"])
    assert b'"new":["1","caf\xe9"]' in raw


def test_canaries_come_back_through_the_log(database: Database, collector: Make, sink: Sink) -> None:
    collector("pgwal", database.dsn, "--create", "--slot", database.slot, "--canary-seconds", 0.5).start()
    sink.wait_for(lambda: arrived(sink) >= 3)
    found = changes(sink)
    assert {r["message"]["prefix"] for r in found} == {"touchstone_canary"}


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
