"""The undo script, tried for real: what a PostgreSQL 15 did is captured, taken back by the script, and the tables compared."""

from __future__ import annotations

import base64
import datetime as dt
import json
from typing import Any

import psycopg
import pytest

from lineage import access, checkpoints, ingest, queries, undo
from lineage.access import Viewer
from lineage.models import Source
from lineage.queries import Subject
from tests import story
from tests.enforcement.capture import Make, arrived, ready
from tests.enforcement.conftest import Database
from tests.enforcement.sink import Sink
from tests.lineage.sources.golden import one

pytestmark = pytest.mark.slow

NOW = dt.datetime.now(dt.UTC)
VIEWER = Viewer("alice@audit.example", "auditor")
ODD = '"a""; drop table kept; --"'
TABLES = (
    "create type mood as enum ('calm', 'ti''red')",
    f'create table {ODD}(id int generated always as identity primary key, "c""; --" text, b bytea, a text[], j json, x jsonb, '
    "m mood, t timestamptz, d interval, f float8, n numeric(20,4), p point, c char(5), g int generated always as (1 + 1) stored)",
    f"alter table {ODD} replica identity full",
    "create table parent(id text primary key, v int)",
    "create table child(a int, b text, parent text references parent on delete cascade, primary key (a, b))",
    "alter table parent replica identity full",
    "alter table child replica identity full",
    "create table kept(id int primary key, v text)",
)
VALUES = (
    "E'it''s; \\\\ \\n -- \\u202e$touchstone$ ; drop', '\\x0027ff00', array['a,b', '\"q\"', null, '\\'], '{\"k\" : \"\\u0041''\"}', "
    "'{\"z\": 1, \"a\": [null]}', 'ti''red', '2026-01-02 03:04:05.678901+02', '1 mon 2 days 03:00:00.5', 0.1::float8 + 0.2::float8, "
    "12.3400, '(1.5,2)', 'ab'"
)
BEFORE = (
    f'insert into {ODD}("c""; --", b, a, j, x, m, t, d, f, n, p, c) values ({VALUES}), ({VALUES}), (null, null, null, null, '
    "null, null, null, null, null, null, null, null)",
    "insert into parent values ('x,y', 1), ('q''; --', 2)",
    "insert into child values (1, 'k', 'x,y'), (2, 'l', 'x,y'), (3, 'm', 'q''; --')",
    "insert into kept values (1, 'old'), (2, 'old')",
)
WORK = (
    f"update {ODD} set \"c\"\"; --\" = 'z', j = '[1]', n = null, p = '(0,0)', a = '{{}}' where id = 1",
    f"update {ODD} set b = null, t = 'infinity', d = null, m = 'calm' where id in (1, 3)",
    f"delete from {ODD} where id = 2",
    f'insert into {ODD}("c""; --", j) values (E\'\\\\\', \'{{"n": 1}}\')',
    "delete from parent where id = 'x,y'",
    "update parent set id = 'renamed', v = v + 1 where id = 'none'; update child set b = 'mm' where a = 3",
    "insert into child values (9, 'n', 'q''; --'); delete from child where a = 9",
    "update kept set v = 'new' where id = 1",
)
LATER = "update child set b = 'by another' where a = 3"


def whole(database: Database) -> dict[str, Any]:
    with database.connect() as connection:
        return {
            table: connection.execute(f"select t::text from {table} t order by 1".encode()).fetchall()
            for table in (ODD, "parent", "child", "kept")
        }


def told(sink: Sink) -> None:
    """The captured items enter the store; a log line names a login for each transaction."""
    token = {"environment": "production", "datasource": "shop-db"}
    captured = Source.objects.create(name="wal", format="pgoutput", token_hash=access.token_hash("wal"), **token)
    accepted = ingest.accept(captured, b"\n".join(json.dumps(item).encode() for item in sink.items()), feed=True)
    assert {item.status for item in accepted.items} == {"accepted"}
    transactions = list(dict.fromkeys(item["record"]["xid"] for item in sink.items() if "record" in item))
    logins = {xid: "dana" for xid in transactions} | {transactions[-1]: "omar"}
    lines = [
        story.query(f"line{xid}", NOW, {"id": login, "db_user": login, "type": "human"}, "UPDATE t SET v = 1", "update",
                    transaction={"id": str(xid)}, db_session_id=f"s-{login}")
        for xid, login in logins.items()
    ]  # fmt: skip
    story.send(story.source("log", datasource="shop-db"), *lines)
    checkpoints.checkpoint()


def script_for(identity: str) -> tuple[undo.Plan, str]:
    found = queries.undoing(VIEWER, Subject(identity=identity))
    plan = undo.plan(found["changes"], found["later"])
    return plan, undo.script(plan, ["Undo"])


def test_the_script_brings_every_table_back_and_names_what_it_cannot(
    store: str, database: Database, pgwal: Make, sink: Sink
) -> None:
    database.run(*TABLES, *BEFORE)
    first = whole(database)
    one = pgwal().start()
    ready(database)
    database.run(*WORK, LATER)
    sink.wait_for(lambda: arrived(sink) == 13)
    one.stop()
    told(sink)
    plan, script = script_for("dana")
    reasons = {left.change.relation: left.reason for left in plan.left}
    assert reasons["kept"].startswith("there is no image of the row before it")
    assert reasons["child"] == "omar changed the same row later"
    assert len(plan.left) == 2
    with database.connect() as connection:
        connection.execute(script.encode())
    after = whole(database)
    assert after[ODD] == first[ODD]
    assert after["parent"] == first["parent"]
    assert after["kept"] != first["kept"]
    assert sorted(after["child"])[:2] == sorted(first["child"])[:2]
    assert "by another" in str(after["child"])
    # A row that is not as it was left stops the whole script, and nothing is done.
    with database.connect() as connection, pytest.raises(psycopg.errors.RaiseException, match="Nothing was undone"):
        connection.execute(script.encode())
    assert whole(database) == after


# Debezium

MICROS, DURATION = "io.debezium.time.MicroTimestamp", "io.debezium.time.MicroDuration"
FIELDS = {
    "id": ("int32", None, 7), "note": ("string", None, "it's"), "paid": ("boolean", None, True),
    "made_at": ("int64", MICROS, 1795225772500000), "due": ("int32", "io.debezium.time.Date", 20778),
    "opens": ("int64", "io.debezium.time.MicroTime", 3600500000), "seal": ("bytes", None, "3q2+7w=="),
    "total": ("bytes", "org.apache.kafka.connect.data.Decimal", base64.b64encode(b"\x04\xd2").decode()),
    "seen": ("string", "io.debezium.time.ZonedTimestamp", "2026-01-02T03:04:05.5Z"),
}  # fmt: skip
BOUGHT = (
    "create table bought(id int primary key, note text, paid bool, made_at timestamp, due date, opens time, seal bytea, "
    "total numeric(10, 2), seen timestamptz)"
)


def debezium(op: str, fields: dict[str, tuple[str, str | None, Any]], with_schema: bool = True) -> undo.Change:
    """The change of a row as a connector tells it."""
    row = {name: value for name, (_, _, value) in fields.items()}
    told = [
        {"type": kind, "name": named, "field": name, "parameters": {"scale": "2"}}
        for name, (kind, named, _) in fields.items()
    ]
    sides = [{"type": "struct", "fields": told, "field": side} for side in ("before", "after")]
    source = {
        "connector": "postgresql",
        "name": "shop",
        "db": "shop",
        "schema": "public",
        "table": "bought",
        "txId": 1,
        "lsn": 2,
    }
    payload = {
        "before": row if op == "d" else None,
        "after": row if op == "c" else None,
        "source": source,
        "op": op,
        "ts_ms": 1,
    }
    said = {"schema": {"type": "struct", "fields": sides}, "payload": payload} if with_schema else payload
    event = one("debezium", json.dumps(said).encode(), key=["public.bought:id"])
    images = {name: getattr(event, name) for name in ("key", "before", "after")}
    return undo.Change(index=1, at=NOW, who="dana", op=event.op, schema="public", relation="bought", **images)


def test_what_debezium_tells_with_types_is_taken_back_as_it_was(database: Database) -> None:
    database.run(BOUGHT)
    with database.connect() as connection:
        connection.execute(undo.script(undo.plan([debezium("d", FIELDS)], {}), []).encode())
    with database.connect() as connection:
        (row,) = connection.execute("select t::text from bought t").fetchall()
    assert row == (
        '(7,it\'s,t,"2026-11-21 01:49:32.5",2026-11-21,01:00:00.5,"\\\\xdeadbeef",12.34,"2026-01-02 03:04:05.5+00")',
    )
    with database.connect() as connection:
        connection.execute(undo.script(undo.plan([debezium("c", FIELDS)], {}), []).encode())
    with database.connect() as connection:
        assert connection.execute("select count(*) from bought").fetchone() == (0,)


def test_bytes_that_a_connector_sends_as_text_are_never_written_as_letters(database: Database) -> None:
    database.run("create table bought(id int primary key, seal bytea)")
    script = undo.script(undo.plan([debezium("d", {"id": FIELDS["id"], "seal": ("string", None, "3q2+7w==")})], {}), [])
    with database.connect() as connection, pytest.raises(psycopg.errors.DatatypeMismatch):
        connection.execute(script.encode())


@pytest.mark.parametrize("op", ["c", "d"])
@pytest.mark.parametrize(
    "field",
    [
        ("int64", DURATION, 3600000000), ("double", None, 0.1), ("bytes", "io.debezium.data.Bits", "Bg=="), ("array", None, ["a"]),
        ("int64", "org.apache.kafka.connect.data.Timestamp", 1), ("int64", MICROS, 9223372036825200000), ("struct", "com.a.x.Y", {}),
    ],
)  # fmt: skip
def test_a_change_is_left_where_the_source_does_not_say_what_a_value_is(
    op: str, field: tuple[str, str | None, Any]
) -> None:
    for change in (
        debezium(op, {"id": FIELDS["id"], "x": field}),
        debezium(op, {"id": FIELDS["id"]}, with_schema=False),
    ):
        (left,) = undo.plan([change], {}).left
        assert left.reason.startswith("the source does not say its type"), left.reason
