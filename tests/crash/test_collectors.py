"""Two collectors of one database at once, each killed again and again: the store has every statement and change once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from benchmarks._running import ROOT
from demo.monitored import Monitored
from tests.crash.running import Product, wait_for

pytestmark = pytest.mark.slow
KILLS = 5
TABLE = (
    "create table orders (id int primary key, amount int); insert into orders select n, 0 from generate_series(1, 20) n"
)


class Collector:
    """One collector process that is started again with the same words after each kill."""

    def __init__(self, product: Product, name: str, token: str, folder: Path, *words: str) -> None:
        self.log = folder / f"{name}.log"
        self.command = [sys.executable, "-m", f"enforcement.{name}", *words, "--spool", str(folder / name)]
        self.environment = product.environment | {"TOUCHSTONE_URL": product.url, "TOUCHSTONE_TOKEN": token}
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def kill9(self) -> None:
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


class Work:
    """Updates of single rows, each its own transaction and each with a number in its statement, until stopped."""

    def __init__(self, dsn: str) -> None:
        self.dsn, self.done = dsn, 0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Work:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.thread.join(30)

    def _run(self) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            while not self.stopping.wait(0.005):
                statement = f"update orders set amount = {self.done + 1} where id = {self.done % 20 + 1}"
                connection.execute(statement.encode())
                self.done += 1

    def wait_for_more(self, count: int) -> None:
        target = self.done + count
        wait_for(lambda: self.done >= target, 30, "the database works")


@pytest.fixture
def database(monitored: Monitored) -> Iterator[str]:
    with monitored.connect() as admin:
        admin.execute("create database crash")
    with monitored.connect("crash") as admin:
        if monitored.has_pgaudit:
            admin.execute("create extension pgaudit")
        for statement in TABLE.split(";"):
            admin.execute(statement)
    yield monitored.dsn(dbname="crash")
    with monitored.connect() as admin:
        admin.execute("select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = 'crash'")
        admin.execute("drop database crash with (force)")


def test_kill_of_two_collectors_at_once_loses_and_doubles_nothing(
    product: Product, auditor: str, monitored: Monitored, database: str, tmp_path: Path
) -> None:
    log_token = product.add_source("crash-log", "postgres-csvlog")
    wal_token = product.add_source("crash-wal", "pgoutput")
    quiet = ("--canary-seconds", "0")
    pglog = Collector(product, "pglog", log_token, tmp_path, str(monitored.log_dir), "--from-end", *quiet)
    pgwal = Collector(product, "pgwal", wal_token, tmp_path, database, "--create", "--slot", "crash", *quiet)
    try:
        wait_for(lambda: slot_exists(database), 30, "change capture has its slot")
        wait_for(lambda: any((tmp_path / "pglog" / "segments").glob("*.seg")), 30, "the log is followed")
        with Work(database) as work:
            for _ in range(KILLS):
                for collector in (pglog, pgwal):
                    work.wait_for_more(100)
                    collector.kill9()
                    work.wait_for_more(30)
                    collector.start()
            work.wait_for_more(100)
        numbers = range(1, work.done + 1)
        wait_for(lambda: counted(product, auditor, "crash-wal") >= len(numbers), 60, "all changes arrive")
        wait_for(lambda: counted(product, auditor, "crash-log") >= len(numbers), 60, "all statements arrive")
    finally:
        pglog.stop()
        pgwal.stop()
    changes = [row for row in product.rows("events", auditor, q="source:crash-wal kind:change op:update")]
    amounts = Counter(int(c["after"]) for row in changes for c in row["diff"] if c["column"] == "amount")
    assert amounts == Counter(numbers)
    lines = product.rows("events", auditor, q='source:crash-log kind:query text:"update orders set amount"')
    told = Counter(int(row["statement"].split()[5]) for row in lines)
    assert told == Counter(numbers)
    assert "All agrees" in product.manage("fsck")


def slot_exists(dsn: str) -> bool:
    with psycopg.connect(dsn) as connection:
        return bool(connection.execute("select 1 from pg_replication_slots where slot_name = 'crash'").fetchone())


def counted(product: Product, auditor: str, source: str) -> int:
    """Updates that the store has from one source."""
    answer = product.ask(f"/api/v1/events?limit=1&q=source:{source}+op:update", auditor)
    return int(answer["total"]["value"])
