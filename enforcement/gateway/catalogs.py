"""Keeps what the gateway knows of one database up to date, over a side connection of its own.

Every few seconds it looks whether anything changed: a digest over the row versions (oid, xmin) of the system tables that DDL
writes, without reading definitions. Where it did, and whenever a session asks after DDL of its own, the catalog is read anew.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
import psycopg

from enforcement import shipper
from enforcement.gateway import catalog
from enforcement.gateway.catalog import Catalog
from enforcement.gateway.classes import classify
from enforcement.gateway.errands import Errands
from enforcement.gateway.settings import Database

LOOK_SECONDS = 5.0
RETRY_SECONDS = 2.0
LOAD_SECONDS = 90.0
Tags = Mapping[tuple[str, str, str], tuple[str, ...]]
"""Classes that the store gives a column: by schema, relation, column."""

CHANGED = """select md5(concat(
(select string_agg(concat(oid, ':', xmin), ',' order by oid) from pg_class
    where relnamespace not in (select oid from pg_namespace where nspname like 'pg\\_t%')),
(select string_agg(concat(attrelid, '.', attnum, ':', xmin), ',' order by attrelid, attnum) from pg_attribute
    where attrelid >= 16384 and attnum > 0),
(select string_agg(concat(oid, ':', xmin), ',' order by oid) from pg_namespace where nspname not like 'pg\\_t%'),
(select string_agg(concat(oid, ':', xmin), ',' order by oid) from pg_rewrite where ev_class >= 16384),
(select string_agg(concat(oid, ':', xmin), ',' order by oid) from pg_trigger),
(select string_agg(concat(oid, ':', xmin), ',' order by oid) from pg_constraint),
(select string_agg(concat(inhrelid, ':', inhparent), ',' order by inhrelid, inhparent) from pg_inherits),
(select string_agg(concat(oid, ':', xmin), ',' order by oid) from pg_proc where oid >= 16384),
(select string_agg(concat(oid, ':', xmin), ',' order by oid) from pg_operator where oid >= 16384),
(select string_agg(rolname, ',' order by rolname) from pg_roles)))"""


class Unavailable(Exception):
    """The catalog cannot be read; the text says why and holds no password."""


class Keeper:
    """The catalog of `database` in `current`; `changed(catalog)` is called in the event loop for every new version."""

    def __init__(self, database: Database, errands: Errands, changed: Callable[[Catalog], None]) -> None:
        self.database, self._errands, self._changed = database, errands, changed
        self.current: Catalog | None = None
        self._tags: Tags = {}
        self._seen = ""
        self._wanted = asyncio.Event()
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._session = contextlib.AsyncExitStack()
        self._lock = asyncio.Lock()
        self._asked = self._answered = 0
        self._fault: Unavailable | None = None
        self._said = ""

    def want(self) -> None:
        """Read anew at once."""
        self._seen = ""
        self._wanted.set()

    def put_tags(self, tags: Tags) -> None:
        """The store's tags for this datasource; read anew where they changed."""
        if tags != self._tags:
            self._tags = tags
            self.want()

    async def anew(self) -> Catalog:
        """The catalog, read after this was called; one reading serves all who wait. Unavailable when the database does not tell."""
        self._asked += 1
        number = self._asked
        async with self._lock:
            if self._answered < number:
                return await self._read_for_all()
            if self._fault is not None:
                raise Unavailable(str(self._fault))
            assert self.current is not None
            return self.current

    async def load(self) -> Catalog:
        """The catalog as it is now. Unavailable when the database does not tell."""
        async with self._lock:
            return await self._read_for_all()

    async def _read_for_all(self) -> Catalog:
        """One reading, and its outcome for all who asked before it began. Whoever asks from here on waits for the next."""
        number, self._fault = self._asked, None
        if number > self._answered:
            self._seen = ""
        try:
            # A connection that is half-open would otherwise keep the old catalog for ever.
            async with asyncio.timeout(LOAD_SECONDS):
                found = await self._load()
        except (psycopg.Error, msgspec.MsgspecError, OSError) as error:
            await self.close()
            self._answered, self._fault = number, Unavailable(_reason(error))
            raise self._fault from None
        except asyncio.CancelledError:
            # In the middle of an answer: nobody can go on with this connection.
            await self.close()
            raise
        self._answered = number
        return found

    async def run(self) -> None:
        """Look and load until cancelled. While the database is away the last catalog stays."""
        try:
            while True:
                seconds = LOOK_SECONDS
                try:
                    await self.load()
                    self._say("")
                except Unavailable as error:
                    self._say(f"its catalog cannot be read: {error}.")
                    seconds = RETRY_SECONDS
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await self._wanted.wait()
                self._wanted.clear()
        finally:
            # Who still reads loses nothing: it waits for its turn.
            async with self._lock:
                await self.close()

    async def _load(self) -> Catalog:
        if self._connection is None or self._connection.closed:
            await self.close()
            session = self._errands.session(self.database, self.database.reader, "catalog")
            self._connection = await self._session.enter_async_context(session)
            await self._connection.execute("set search_path = pg_catalog")
            await self._connection.execute("set statement_timeout = '60s'")
        row = await (await self._connection.execute(CHANGED)).fetchone()
        assert row is not None
        if self.current is not None and row[0] == self._seen:
            return self.current
        answer = await _last_value(self._connection)
        told = await asyncio.to_thread(self._read, answer)
        self._seen = row[0]
        if self.current is None or told.version != self.current.version:
            self.current = told
            self._changed(told)
        return self.current

    def _read(self, answer: str) -> Catalog:
        """Takes a while for a large database: in a thread."""
        tags = self._tags

        def classes(schema: str, relation: str, column: str, type_name: str, _: Any) -> tuple[str, ...]:
            return classify(schema, relation, column, type_name, tags.get((schema, relation, column), ()))

        harmless: Iterable[tuple[str, str]] = (_pair(name) for name in self.database.harmless_functions)
        return catalog.read(answer, classes, (), harmless)

    async def close(self) -> None:
        """Let the connection go; the next load makes another."""
        self._connection = None
        with contextlib.suppress(psycopg.Error, OSError):
            await self._session.aclose()

    def _say(self, text: str) -> None:
        if text != self._said:
            shipper.say(f"gateway: database {self.database.name}: {text or 'its catalog is read again.'}")
            self._said = text


async def _last_value(connection: psycopg.AsyncConnection[Any]) -> str:
    """The one value of the last of the statements of `catalog.SQL`."""
    cursor = await connection.execute(catalog.SQL)
    while cursor.nextset():
        pass
    row = await cursor.fetchone()
    assert row is not None
    return str(row[0])


def _pair(name: str) -> tuple[str, str]:
    schema, _, function = name.partition(".")
    return schema, function


def _reason(error: Exception) -> str:
    """Which fault, and in whose words where a connection was not made: then there is no statement whose values it could hold."""
    state = getattr(error, "sqlstate", None)
    if isinstance(error, psycopg.OperationalError) and state is None:
        return " ".join(str(error).split())[:300].rstrip(".")
    return f"{type(error).__name__}{f' ({state})' if state else ''}"
