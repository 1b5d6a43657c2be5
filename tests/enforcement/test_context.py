"""Context messages from psycopg, SQLAlchemy and Django arrive in the write-ahead log, once in each transaction."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import django.db
import psycopg
import pytest
import sqlalchemy
from django.db import transaction
from django.http import HttpRequest, HttpResponse

from enforcement import context
from tests.enforcement.conftest import Database
from tests.enforcement.processes import Collector
from tests.enforcement.sink import Sink


class Decoded:
    """What change capture sees of a database with one table, by transaction."""

    def __init__(self, database: Database, collector: Callable[..., Collector], sink: Sink) -> None:
        self.database, self.sink = database, sink
        database.run("create table t(id int primary key, v text)")
        self.pgwal = collector("pgwal", database.dsn, "--create", "--slot", database.slot, "--once")
        assert self.pgwal.start().wait() == 0

    def read(self) -> list[list[Any]]:
        """Per committed transaction: a dict for each message, and the table's name for each change."""
        assert self.pgwal.start().wait() == 0
        found: dict[str, list[Any]] = {}
        for record in (item["record"] for item in self.sink.items()):
            message = record.get("message")
            told = json.loads(base64.b64decode(message["content_base64"])) if message else record["relation"]["name"]
            assert not message or (message["prefix"], message["transactional"]) == ("touchstone", True)
            found.setdefault(record["commit_lsn"], []).append(told)
        return list(found.values())


@pytest.fixture
def decoded(database: Database, collector: Callable[..., Collector], sink: Sink) -> Decoded:
    return Decoded(database, collector, sink)


@pytest.mark.slow
def test_psycopg_needs_one_line(decoded: Decoded) -> None:
    with decoded.database.connect() as connection, connection.transaction():
        context.stamp(connection, actor="dana@shop.example", ticket="OPS-42", agent={"id": "a1", "model": "m"})
        connection.execute("insert into t values (1, 'ž')")
    assert decoded.read() == [
        [{"actor": "dana@shop.example", "ticket": "OPS-42", "agent": {"id": "a1", "model": "m"}}, "t"]
    ]


@pytest.mark.slow
def test_sqlalchemy_stamps_each_writing_transaction_once(decoded: Decoded) -> None:
    parameters = psycopg.conninfo.conninfo_to_dict(decoded.database.dsn)
    engine = sqlalchemy.create_engine("postgresql+psycopg://", connect_args=parameters, poolclass=sqlalchemy.NullPool)
    context.install_sqlalchemy(engine)
    insert = sqlalchemy.text("insert into t values (:id, 'x')")
    with context.acting(actor="dana@shop.example"):
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("select 1"))
            connection.execute(insert, {"id": 1})
            connection.execute(insert, {"id": 2})
        with engine.connect() as connection:
            for n in (3, 4):
                connection.execute(insert, {"id": n})
                connection.commit()
            with connection.begin_nested() as savepoint:
                connection.execute(insert, {"id": 90})
                savepoint.rollback()
            connection.execute(insert, {"id": 5})
            connection.commit()
            connection.execute(sqlalchemy.text("select 1"))
    with engine.begin() as connection:
        connection.execute(insert, {"id": 6})
    engine.dispose()
    said = {"actor": "dana@shop.example"}
    assert decoded.read() == [[said, "t", "t"], [said, "t"], [said, "t"], [said, "t"], ["t"]]


@pytest.fixture
def django_connection(decoded: Decoded, django_db_blocker: Any) -> Iterator[Any]:
    parameters = psycopg.conninfo.conninfo_to_dict(decoded.database.dsn)
    names = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
    settings = {
        **django.db.connections["default"].settings_dict,
        "OPTIONS": {},
        **{k: parameters[v] for k, v in names.items()},
    }
    django.db.connections.databases["watched"] = settings
    with django_db_blocker.unblock():
        yield django.db.connections["watched"]
        django.db.connections["watched"].close()
    del django.db.connections.databases["watched"]
    del django.db.connections["watched"]


class SignedIn:
    is_authenticated, email = True, "dana@shop.example"


@pytest.mark.slow
def test_django_stamps_each_writing_transaction_of_a_signed_in_request_once(
    decoded: Decoded, django_connection: Any
) -> None:
    @transaction.atomic(using="watched")
    def write(number: int) -> None:
        with django_connection.cursor() as cursor:
            cursor.execute("select 1")
            cursor.execute("insert into t values (%s, 'x')", [number])
            cursor.execute("update t set v = 'y' where id = %s", [number])

    def view(request: HttpRequest) -> HttpResponse:
        write(1)
        write(2)
        with transaction.atomic(using="watched"):
            with contextlib.suppress(ZeroDivisionError), transaction.atomic(using="watched"):
                write(90)
                raise ZeroDivisionError
            write(3)
        return HttpResponse()

    request = HttpRequest()
    request.user = SignedIn()  # type: ignore[assignment]
    request.META["HTTP_X_TICKET"] = "OPS-42"
    context.django_middleware(view)(request)
    write(4)
    said = {"actor": "dana@shop.example", "actor_type": "human", "ticket": "OPS-42"}
    assert decoded.read() == [[said, "t", "t"], [said, "t", "t"], [said, "t", "t"], ["t", "t"]]


def test_an_unknown_field_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(TypeError, match="acter"):
        context.message(acter="dana@shop.example")
    with pytest.raises(TypeError, match="acter"), context.acting(acter="dana@shop.example"):
        raise AssertionError("never reached")


def test_only_statements_that_write_are_stamped() -> None:
    writes = [
        "insert into t",
        " UPDATE t",
        "/* who */ delete from t",
        "with x as (delete from t returning 1) select 1",
        "call p()",
    ]
    reads = [
        "select 1",
        "savepoint a",
        "release savepoint a",
        "set x = 1",
        "explain select 1",
        "fetch 1 from c",
        "updated",
    ]
    assert [bool(context._WRITES.match(s)) for s in writes] == [True] * len(writes)
    assert [bool(context._WRITES.match(s)) for s in reads] == [False] * len(reads)
