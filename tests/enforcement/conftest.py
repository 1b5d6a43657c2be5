"""What the collector tests share: a sink, started collectors that are ended, and a database of their own."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from demo.monitored import Monitored
from tests.enforcement.processes import Collector
from tests.enforcement.sink import Sink


@pytest.fixture
def sink() -> Iterator[Sink]:
    made = Sink()
    yield made
    made.close()


@pytest.fixture
def collector(sink: Sink, tmp_path: Path) -> Iterator[Callable[..., Collector]]:
    """Called with a collector's name and arguments: a Collector, not started, that sends to the sink."""
    made: list[Collector] = []

    def make(name: str, *arguments: Any, **options: Any) -> Collector:
        options = {"spool": tmp_path / "spool", "url": sink.url, **options}
        made.append(Collector(name, *arguments, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="session")
def streaming() -> Iterator[Monitored]:
    """A PostgreSQL 15 that streams transactions as soon as they pass 64 KiB."""
    root = Path(tempfile.mkdtemp(prefix="touchstone-streaming-"))
    root.chmod(0o711)
    settings = {"logical_decoding_work_mem": "64kB", "wal_sender_timeout": "5s"}
    cluster = Monitored(root, settings=settings)
    cluster.start()
    yield cluster
    cluster.remove()
    shutil.rmtree(root, ignore_errors=True)


class Database:
    """One database in a monitored cluster; its slots go with it."""

    def __init__(self, cluster: Monitored) -> None:
        self.cluster, self.name = cluster, f"t{secrets.token_hex(4)}"
        self.slot = self.name
        with cluster.connect() as connection:
            connection.execute(f"create database {self.name}".encode())
        self.dsn = cluster.dsn(dbname=self.name)

    def connect(self) -> psycopg.Connection[Any]:
        return self.cluster.connect(self.name)

    def run(self, *statements: str) -> list[Any]:
        """Each in its own transaction; the rows of the last."""
        with self.connect() as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def drop(self) -> None:
        with self.cluster.connect() as connection:
            connection.execute(
                "select pg_terminate_backend(active_pid) from pg_replication_slots where database = %s and active",
                [self.name],
            )
            for _ in range(100):
                try:
                    connection.execute(
                        "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = %s",
                        [self.name],
                    )
                    break
                except psycopg.errors.ObjectInUse:
                    connection.execute("select pg_sleep(0.05)")
            connection.execute(f"drop database {self.name} with (force)".encode())


@pytest.fixture
def database(streaming: Monitored) -> Iterator[Database]:
    made = Database(streaming)
    yield made
    made.drop()


@pytest.fixture
def pgwal(collector: Callable[..., Collector], database: Database) -> Callable[..., Collector]:
    def make(*arguments: Any, **options: Any) -> Collector:
        fixed = ("--create", "--slot", database.slot, "--canary-seconds", 0)
        return collector("pgwal", database.dsn, *fixed, *arguments, **options)

    return make
