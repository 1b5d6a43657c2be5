"""What the gateway's tests share: a database of their own, spoken to in raw messages."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from demo.monitored import Monitored
from enforcement.gateway.session.machine import Session
from tests.enforcement.gateway.wired import Direct, Wired, load_catalog, make


class Shop:
    """One database with customers and orders, and connections to it with and without a session between."""

    def __init__(self, cluster: Monitored) -> None:
        self.cluster, self.name = cluster, f"t{secrets.token_hex(4)}"
        with cluster.connect() as connection:
            connection.execute(f"create database {self.name}".encode())
        self.dsn = cluster.dsn(dbname=self.name)
        self._open: list[Direct] = []

    def run(self, sql: str) -> list[Any]:
        """Rows of what is run as superuser, around the gateway."""
        with self.cluster.connect(self.name) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def direct(self) -> Direct:
        self._open.append(Direct(self.dsn))
        return self._open[-1]

    def wired(self, session: Session | None = None, rules: str | None = None, **more: Any) -> Wired:
        """A connection through a session; its catalog is the database's."""
        return Wired(self.direct(), session or make(rules, load_catalog(self.dsn), **more))

    def close(self) -> None:
        for connection in self._open:
            connection.close()
        with self.cluster.connect() as connection:
            connection.execute(f"drop database {self.name} with (force)".encode())


@pytest.fixture
def shop(monitored: Monitored) -> Iterator[Shop]:
    made = Shop(monitored)
    made.run(
        "create table customers(id int primary key, name text, email text);"
        "create table orders(id int primary key, customer_id int references customers deferrable initially deferred, note text);"
        "insert into customers select g, 'name ' || g, 'c' || g || '@shop.example' from generate_series(1, 20) g"
    )
    yield made
    made.close()


Connect = Callable[..., Wired]
