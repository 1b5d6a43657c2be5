"""A database with customers and orders for one test after the other, spoken to in raw messages."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from demo.monitored import Monitored
from tests.enforcement.gateway.wired import Direct, Wired, load_catalog, make

__all__ = ["Stall", "stall", "stall_database"]


TABLES = """
drop schema if exists public, attic cascade; create schema public; grant all on schema public to public;
create table customers(id int primary key, name text, email text);
create table orders(id int primary key, customer_id int references customers deferrable initially deferred, note text);
insert into customers select g, 'name ' || g, 'c' || g || '@shop.example' from generate_series(1, 20) g
"""


class Stall:
    """One database, and connections to it with and without a session between."""

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

    def wired(self, rules: str | None = None, **more: Any) -> Wired:
        """A connection through a session; its catalog is the database's."""
        return Wired(self.direct(), make(rules, load_catalog(self.dsn), **more))

    def hang_up(self) -> None:
        for connection in self._open:
            connection.close()
        self._open.clear()

    def remove(self) -> None:
        self.hang_up()
        with self.cluster.connect() as connection:
            connection.execute(f"drop database {self.name} with (force)".encode())


@pytest.fixture(scope="module")
def stall_database(monitored: Monitored) -> Iterator[Stall]:
    made = Stall(monitored)
    yield made
    made.remove()


@pytest.fixture
def stall(stall_database: Stall) -> Iterator[Stall]:
    """A database with 20 customers and no orders."""
    stall_database.run(TABLES)
    yield stall_database
    stall_database.hang_up()
