"""The clients that people use, through a running gateway with the rules that hold from the first minute."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from tests.enforcement.gateway.running import Running, until

pytestmark = pytest.mark.slow


def test_psql_describes_tables_and_shows_what_it_shows_without_the_gateway(gateway: Running) -> None:
    for command in (
        r"\d",
        r"\dt+",
        r"\d customers",
        r"\du",
        r"\l",
        r"\dn",
        r"\df",
        r"\sf pg_catalog.now",
        r"\conninfo",
    ):
        done = gateway.psql(command)
        assert done.returncode == 0, (command, done.stderr)
        assert "ERROR" not in done.stderr, (command, done.stderr)
    assert "customer_id" in gateway.psql(r"\d orders").stdout
    assert gateway.psql(stdin="select 1 as a, 'x' as b \\gdesc\n").stdout == "a|integer\nb|text\n"


def test_psql_copies_both_ways(gateway: Running, tmp_path: Path) -> None:
    taken = tmp_path / "orders.csv"
    assert gateway.psql(rf"\copy orders to '{taken}' csv header").stdout == "COPY 200\n"
    assert taken.read_text().splitlines()[0] == "id,customer_id,total,placed_at"
    brought = tmp_path / "notes.tsv"
    brought.write_text("901\tfrom a file\n902\t\\N\n")
    assert gateway.psql(rf"\copy notes from '{brought}'").stdout == "COPY 2\n"
    assert gateway.shop.run("select text from notes where id = 901") == [("from a file",)]
    ((event),) = gateway.queries("COPY  notes FROM STDIN")
    assert (event["op"], event["rows"]["affected"]) == ("import", 2)


def test_psql_shows_a_refusal_as_an_error_with_a_hint_and_goes_on(gateway: Running) -> None:
    done = gateway.psql("drop table orders", "select count(*) from orders")
    assert "ERROR:" in done.stderr
    assert "HINT:" in done.stderr
    assert done.stdout == "200\n"


def test_psycopg_prepared_statements_types_cursors_and_pipelines(gateway: Running) -> None:
    with gateway.connect() as connection:
        for number in range(1, 12):
            found = connection.execute("select id, total from orders where id = %s", [number], prepare=True).fetchone()
            assert found is not None
            assert found[0] == number
        with connection.pipeline():
            cursors = [connection.execute("select %s::int", [n]) for n in range(50)]
        assert [c.fetchone()[0] for c in cursors] == list(range(50))  # type: ignore[index]
        with connection.transaction(), connection.cursor(name="served") as cursor:
            cursor.itersize = 30
            assert [row[0] for row in cursor.execute("select id from orders order by id")] == list(range(1, 201))
        with connection.cursor(binary=True) as cursor:
            assert cursor.execute("select 1::int8, 'x'::text, now() is not null").fetchone() == (1, "x", True)
        with connection.cursor().copy(
            "copy (select id from orders order by id limit 3) to stdout (format binary)"
        ) as copy:
            copy.set_types(["int4"])
            assert list(copy.rows()) == [(1,), (2,), (3,)]


def in_a_pipeline(connection: psycopg.Connection[Any], *texts: str) -> None:
    with connection.pipeline():
        for text in texts:
            connection.execute(text.encode())


def test_psycopg_sees_an_error_in_a_pipeline_as_it_would_without_the_gateway(gateway: Running) -> None:
    with gateway.connect() as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            in_a_pipeline(connection, "select 1", "select 1 / 0", "select 2")
        assert connection.execute("select 3").fetchone() == (3,)


def test_asyncpg_reads_writes_prepares_copies_and_keeps_transactions(gateway: Running) -> None:
    async def work() -> None:
        told = gateway.parameters()
        trusted = ssl.create_default_context(cafile=told["sslrootcert"])
        connection = await asyncpg.connect(
            host=told["host"], port=told["port"], user=told["user"], password=told["password"], database=told["dbname"],
            ssl=trusted, direct_tls=False,
        )  # fmt: skip
        try:
            assert await connection.fetchval("select count(*) from orders") == 200
            rows = await connection.fetch("select id, placed_at, total from orders where id = any($1::int[])", [3, 4])
            assert [row["id"] for row in rows] == [3, 4]
            async with connection.transaction():
                await connection.executemany(
                    "insert into notes (id, text) values ($1, $2)", [(n, "a") for n in range(500, 520)]
                )
                async for row in connection.cursor("select id from notes order by id", prefetch=5):
                    assert row["id"] >= 1
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute("truncate notes")
            copied = await connection.copy_records_to_table(
                "notes", records=[(801, "x"), (802, "y")], columns=["id", "text"]
            )
            assert copied == "COPY 2"
        finally:
            await connection.close()

    asyncio.run(work())
    assert gateway.shop.run("select count(*) from notes where id between 500 and 519 or id in (801, 802)") == [(22,)]


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int]
    total: Mapped[Any] = mapped_column(sa.Numeric(10, 2))


def test_sqlalchemy_reflects_reads_and_writes(gateway: Running) -> None:
    engine = sa.create_engine("postgresql+psycopg://", creator=lambda: gateway.connect(autocommit=False))
    try:
        assert {"customers", "orders", "notes"} <= set(sa.inspect(engine).get_table_names())
        assert [c["name"] for c in sa.inspect(engine).get_columns("notes")] == ["id", "text"]
        with Session(engine) as session, session.begin():
            order = session.get(Order, 7)
            assert order is not None
            order.total = 70
            session.add(Order(id=900, customer_id=1, total=9))
    finally:
        engine.dispose()
    assert gateway.shop.run("select total from orders where id in (7, 900) order by id") == [(70,), (9,)]
    (event,) = gateway.queries("UPDATE orders SET total")
    assert event["rows"]["affected"] == 1
    assert event["transaction"]["id"]


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_pgbench_in_every_protocol_mode(gateway: Running, mode: str) -> None:
    gateway.rules()
    told = gateway.parameters()
    environment = {**os.environ, "PGPASSWORD": told.pop("password")}
    reach = psycopg.conninfo.make_conninfo("", **told)
    made = subprocess.run(
        ["pgbench", "-i", "-q", "-I", "dtGp", "-s", "1", reach],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    done = subprocess.run(
        ["pgbench", "-n", "-c", "4", "-t", "25", "-M", mode, reach],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "number of transactions actually processed: 100/100" in done.stdout, done.stderr
    assert gateway.shop.run("select count(*) from pgbench_history") == [(100,)]
    written = until(lambda: [e for e in gateway.queries("INSERT INTO pgbench_history") if e["verdict"] == "allowed"])
    assert len(written) == 100
    assert all(e["transaction"]["id"] for e in written)


def test_cancel_from_psql_reaches_the_statement_and_no_other(gateway: Running) -> None:
    with gateway.connect() as slow, gateway.connect() as other:
        threading.Timer(0.5, slow.cancel_safe).start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            slow.execute("select pg_sleep(60)")
        assert slow.execute("select 1").fetchone() == (1,)
        assert other.execute("select 2").fetchone() == (2,)
