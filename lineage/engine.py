"""DuckDB over sealed files and tail: one question, one cursor, one log size.

A `Snapshot` is read in one short REPEATABLE READ transaction, closed before DuckDB runs. The tail is projected once per
process and kept by index. Never share a cursor: two threads on one get each other's rows.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import os
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb  # noqa: TID251 - the one place
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction

from lineage import errors, joins, projections, statements, tagged

MEMORY = "1GB"
IDLE_SECONDS = 30.0
ERASED_AT = "select max(published_at) from ledger_erasure"
SIZE = f"select size, ({ERASED_AT}) from ledger_head"  # noqa: S608 - our own words
FAR = dt.datetime(9999, 1, 1, tzinfo=dt.UTC)


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """What one question is asked of: log size, sealed files, and the tail as Arrow."""

    size: int
    sealed_to: int
    folders: tuple[str, ...]
    events: pa.Table
    touches: pa.Table
    identities: pa.Table
    context_roles: pa.Table
    conflicted: pa.Table
    tagged: pa.Table


class _Process:
    """What one process keeps between questions: the DuckDB instance, and the projected tail up to `next_index`."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.database = _connect()
        self.store: str | None = None
        self.first_index = self.next_index = 0
        self.parts: list[tuple[int, pa.Table, pa.Table]] = []
        self.erased_at: dt.datetime | None = None
        self.tagged: tuple[tuple[Any, ...], pa.Table] = ((), tagged.PLACES.empty_table())
        self.asked_at = time.monotonic()
        self.address: dict[str, Any] = {}
        threading.Thread(target=_look_when_idle, args=(weakref.ref(self),), name="forgetting", daemon=True).start()

    def forget(self, store: str | None) -> None:
        """Drops every value that is remembered: of the tail, and of statements."""
        self.store, self.first_index, self.next_index, self.parts = store, 0, 0, []
        statements.forget()

    def look_when_idle(self) -> None:
        if not self.parts or time.monotonic() - self.asked_at < IDLE_SECONDS:
            return
        # A lost database has nothing to tell; the next look will.
        with contextlib.suppress(psycopg.Error), psycopg.connect(**self.address) as own:
            if own.execute(ERASED_AT).fetchone() != (self.erased_at,):
                with self.lock:
                    self.forget(None)


def _look_when_idle(process: weakref.ref[_Process]) -> None:
    """A process that is asked nothing learns of an erasure too; else it would remember the values."""
    while True:
        time.sleep(IDLE_SECONDS)
        here = process()
        if here is None:
            return
        here.look_when_idle()
        # DuckDB must be let go of at exit, where this thread is only stopped.
        del here


_process: _Process | None = None
_process_lock = threading.Lock()


def _connect() -> duckdb.DuckDBPyConnection:
    database = duckdb.connect(":memory:")
    for statement in (
        f"set memory_limit = '{MEMORY}'",
        f"set threads = {max(1, (os.cpu_count() or 2) // 2)}",
        "set python_enable_replacements = false",
        "set autoinstall_known_extensions = false",
        "set autoload_known_extensions = false",
        "set TimeZone = 'UTC'",
        f"set temp_directory = '{Path(settings.DATA_DIR) / 'spill'}'",
    ):
        database.execute(statement)
    return database


def _here() -> _Process:
    """This process's state; made after fork, never before."""
    global _process
    with _process_lock:
        if _process is None or _process.pid != os.getpid():
            _process = _Process()
        return _process


def snapshot() -> Snapshot:
    """The present log as one consistent whole. Raises StoreUnavailable when PostgreSQL does not answer."""
    here = _here()
    try:
        with here.lock, transaction.atomic():
            return _read(here)
    except (psycopg.OperationalError, psycopg.InterfaceError, OperationalError, InterfaceError) as error:
        connection.close()
        raise errors.StoreUnavailable from error


def _read(here: _Process) -> Snapshot:
    connection.ensure_connection()
    store = f"{connection.settings_dict['HOST']}/{connection.settings_dict['NAME']}"
    with psycopg.Cursor(connection.connection) as cursor:
        if not connection.in_atomic_block or len(connection.savepoint_ids) == 0:
            cursor.execute("set transaction isolation level repeatable read")
        cursor.execute(SIZE)
        size, erased_at = cursor.fetchone() or (0, None)
        if here.store != store or size < here.next_index or erased_at != here.erased_at:
            here.forget(store)
        here.erased_at, here.asked_at, here.address = erased_at, time.monotonic(), connection.get_connection_params()
        cursor.execute("select folder, next_index from ledger_segment order by first_index")
        segments = cursor.fetchall()
        sealed_to = segments[-1][1] if segments else 0
        _look(cursor, here, sealed_to)
        identities, roles, conflicted = _reference(cursor)
        tags = _tagged(cursor, here, store)
    events = pa.concat_tables([projections.EVENTS.empty_table(), *(part[1] for part in here.parts)])
    touches = pa.concat_tables([projections.TOUCHES.empty_table(), *(part[2] for part in here.parts)])
    return Snapshot(
        size, sealed_to, tuple(s[0] for s in segments), events, touches, identities, roles, conflicted, tags
    )


def _look(cursor: psycopg.Cursor[Any], here: _Process, sealed_to: int) -> None:
    """Brings the kept tail up to date: drops what is sealed, projects what is new since the last look."""
    here.parts = [part for part in here.parts if part[0] > sealed_to]
    start = max(here.next_index, sealed_to)
    cursor.execute(
        "select b.first_index + j.ordinal, j.leaf, j.actor, j.action, j.statement, j.change "
        "from ledger_batch b join ledger_journal j on j.slot = b.slot and j.batch = b.batch "
        "where b.first_index + b.n > %s and b.first_index + j.ordinal >= %s order by 1",
        (start, start),
        binary=True,
    )
    rows = cursor.fetchall()
    if rows:
        events, touches = projections.tables((row[0], row[1], row[2:]) for row in rows)
        here.next_index = rows[-1][0] + 1
        here.parts.append((here.next_index, events, touches))
    if len(here.parts) > 64:
        merged = [_unsealed(pa.concat_tables([part[n] for part in here.parts]), sealed_to) for n in (1, 2)]
        here.parts = [(here.next_index, merged[0], merged[1])]
    here.next_index = max(here.next_index, sealed_to)


def _unsealed(table: pa.Table, sealed_to: int) -> pa.Table:
    return table.filter(pc.field("index") >= sealed_to).combine_chunks()


def _reference(cursor: psycopg.Cursor[Any]) -> tuple[pa.Table, pa.Table, pa.Table]:
    cursor.execute(
        "select datasource, db_user, person_id, name, nullif(email, ''), type, as_of, "
        "coalesce(lead(as_of) over (partition by datasource, db_user order by as_of), %s) from lineage_identity",
        (FAR,),
    )
    names = ["datasource", "db_user", "person_id", "name", "email", "type"]
    schema = pa.schema([(n, pa.string()) for n in names] + [("from_at", projections.TIME), ("to_at", projections.TIME)])
    identities = _table(cursor.fetchall(), schema)
    # Of revoked sources too: what was proved while the source was heard stays proved.
    cursor.execute("select distinct environment, datasource, unnest(context_roles) from lineage_source")
    roles = _table(cursor.fetchall(), pa.schema([(n, pa.string()) for n in ("environment", "datasource", "db_user")]))
    cursor.execute(
        "select distinct b.first_index + k.ordinal from ledger_conflict c "
        "join ledger_key k using (source_id, key) join ledger_batch b on b.batch = k.batch"
    )
    return identities, roles, _table(cursor.fetchall(), pa.schema([("index", pa.int64())]))


def _tagged(cursor: psycopg.Cursor[Any], here: _Process, store: str) -> pa.Table:
    """The classified tables, kept while nobody changes a tag or a catalog."""
    state = (store, *tagged.state(cursor))
    if here.tagged[0] != state:
        here.tagged = state, tagged.places(cursor)
    return here.tagged[1]


def _table(rows: Sequence[Sequence[Any]], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema)


def segment_root() -> Path:
    return Path(settings.DATA_DIR) / "segments"


class _Watch(threading.Thread):
    """Interrupts a cursor from the time limit on, again and again: an interrupt between two queries stops neither."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        super().__init__(daemon=True)
        self.cursor = cursor
        self.over = threading.Event()
        self.late = False

    def run(self) -> None:
        wait = float(settings.QUERY_SECONDS)
        while not self.over.wait(wait):
            self.late, wait = True, 0.1
            self.cursor.interrupt()

    def stop(self) -> None:
        self.over.set()
        self.join()


class Question:
    """One cursor over one snapshot, with the views of `lineage.joins`. Use as a context manager, in one thread.

    Without `joined` there is only what sources reported (`raw_events`, `raw_touches`): asked without a look at the whole log.
    """

    def __init__(self, snap: Snapshot | None = None, as_of: int | None = None, joined: bool = True) -> None:
        self.snapshot = snap or snapshot()
        self.size = min(as_of, self.snapshot.size) if as_of is not None else self.snapshot.size
        self.cursor = _here().database.cursor()
        self.watch = _Watch(self.cursor)
        self.watch.start()
        try:
            with self._limits():
                self._views(joined)
        except BaseException:
            self.__exit__()
            raise

    def _views(self, joined: bool) -> None:
        snap = self.snapshot
        for name, table in (
            ("tail_events", snap.events),
            ("tail_touches", snap.touches),
            ("identities", snap.identities),
            ("context_roles", snap.context_roles),
            ("conflicted", snap.conflicted),
            ("tagged", snap.tagged),
        ):
            self.cursor.register(name, table)
        for name in ("events", "touches"):
            sealed = ""
            if snap.folders:
                files = ", ".join(f"'{segment_root() / folder / name}.parquet'" for folder in snap.folders)
                sealed = f"select * from read_parquet([{files}]) where index < {self.size} union all "  # noqa: S608
            self.cursor.execute(
                f"create temp view raw_{name} as {sealed}select * from tail_{name} "  # noqa: S608 - our own names
                f"where index >= {snap.sealed_to} and index < {self.size}"
            )
        if joined:
            self.cursor.execute(joins.TAGS + joins.TRANSACTIONS + joins.ACTIVITY)

    def __enter__(self) -> Question:
        return self

    def __exit__(self, *_: object) -> None:
        self.watch.stop()
        self.cursor.close()

    @contextlib.contextmanager
    def _limits(self) -> Iterator[None]:
        if self.watch.late:
            raise errors.QueryTooLong
        try:
            yield
        except duckdb.InterruptException as error:
            raise errors.QueryTooLong from error
        except duckdb.OutOfMemoryException as error:
            raise errors.QueryTooLong(
                "The question needs too much memory. Narrow it by time, database or table."
            ) from error

    def arrow(self, sql: str, values: Sequence[Any] = ()) -> pa.Table:
        """The answer as an Arrow table. Raises QueryTooLong after the time limit, or when the memory is too small."""
        with self._limits():
            return self.cursor.sql(sql, params=list(values)).to_arrow_table()

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The answer as a list of dicts."""
        rows: list[dict[str, Any]] = self.arrow(sql, values).to_pylist()
        return rows


def over(tables: Mapping[str, pa.Table], sql: str) -> pa.Table:
    """The answer of `sql` over these tables alone, for tests of controls that re-run on attached files."""
    cursor = _here().database.cursor()
    try:
        for name, table in tables.items():
            cursor.register(name, table)
        return cursor.sql(sql).to_arrow_table()
    finally:
        cursor.close()
