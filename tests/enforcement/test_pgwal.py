"""Change capture against a real PostgreSQL 15: what is sent is exactly what was committed, whatever is killed when."""

from __future__ import annotations

import base64
import json
import random
import time
from typing import Any

import psycopg
import pytest

from lineage.sources import pgoutput as reader
from tests.enforcement.capture import Make, arrived, changes, events, ready, values
from tests.enforcement.conftest import Database
from tests.enforcement.processes import Collector
from tests.enforcement.sink import Sink

pytestmark = pytest.mark.slow


TABLES = (
    "create table by_key(id bigint primary key, email text, note text)",
    "create table whole(b text, a int, v numeric(12,2), primary key (a, b))",
    "alter table whole replica identity full",
    "create table by_index(id int, code text not null, v int)",
    "create unique index code on by_index(code)",
    "alter table by_index replica identity using index code",
    "create type mood as enum ('calm', 'tired')",
    'create table odd("Key""s" uuid primary key, m mood, at timestamptz, b bytea, f float8, j jsonb)',
)

WORK = (
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


def test_each_operation_and_replica_identity_is_told_as_it_was(database: Database, pgwal: Make, sink: Sink) -> None:
    database.run(*TABLES)
    one = pgwal().start()
    ready(database)
    database.run(*WORK)
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
    read = events(sink, reader.parse)
    assert [event.op for event in read[:4]] == ["insert", "update", "update", "delete"]
    assert [[value.value for value in event.key] for event in read[2:6]] == [["2"], ["2"], ["7", "x,y"], ["7", "x,y"]]
    assert [value.value for value in read[2].old_key] == ["1"]
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
    (event,) = events(sink, reader.parse)
    assert ([v.state for v in event.after], event.flags) == (["present", "truncated", "present"], ("truncated",))


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
