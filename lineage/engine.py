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
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction

from lineage import errors, joins, snapshots, statements, tagged
from lineage.snapshots import Snapshot
from lineage.tail import Tail

MEMORY, TEST_MEMORY = "1GB", "400MB"
IDLE_SECONDS = 30.0
BATCH_ROWS = 20_000


@dataclasses.dataclass(eq=False)
class _Joined:
    """What `lineage.joins` made of the log as far as it was reported, in a schema of its own, and how many questions use it."""

    name: str
    state: tuple[Any, ...]
    reference: tuple[pa.Table, ...]
    users: int = 0

    def holds(self, state: tuple[Any, ...], reference: tuple[pa.Table, ...]) -> bool:
        return self.state == state and all(a.equals(b) for a, b in zip(self.reference, reference, strict=True))


class _Joins:
    """The joins of the newest state that was asked for, made once and shared: what readers do adds nothing to join."""

    def __init__(self, database: duckdb.DuckDBPyConnection) -> None:
        self.database = database
        self.making, self.lock = threading.Lock(), threading.Lock()
        self.newest: _Joined | None = None
        self.made = 0

    def take(self, cursor: duckdb.DuckDBPyConnection, snap: Snapshot, size: int, keep: bool) -> _Joined:
        """The joins of this state, made on `cursor` where nobody has; `keep` them for the next question. Raises QueryTooLong."""
        state = (snap.store, snap.erased_at, snap.folders, snap.sealed_to, snap.reported_to(size))
        reference = (snap.identities, snap.context_roles, snap.conflicted)
        if not self.making.acquire(timeout=settings.QUERY_SECONDS):
            raise errors.QueryTooLong
        try:
            with self.lock:
                found = self.newest if self.newest is not None and self.newest.holds(state, reference) else None
                if found is not None:
                    found.users += 1
                    return found
            self.made += 1
            fresh = _Joined(f"joined_{self.made}", state, reference, users=1)
            self._make(cursor, fresh)
            if keep:
                self._replace(fresh)
            return fresh
        finally:
            self.making.release()

    def _make(self, cursor: duckdb.DuckDBPyConnection, fresh: _Joined) -> None:
        names = ("identities", "context_roles", "conflicted")
        try:
            cursor.execute(f"create schema {fresh.name}; set schema = '{fresh.name}'")
            for name, table in zip(names, fresh.reference, strict=True):
                cursor.register(f"given_{name}", table)
                cursor.execute(f"create table {name} as select * from given_{name}")  # noqa: S608 - our own names
            present = cursor.execute(joins.PRESENT).fetchone() or (True, True, True)
            cursor.execute(joins.statements(*present))
        except BaseException:
            self._drop(fresh)
            raise

    def give_back(self, joined: _Joined) -> None:
        with self.lock:
            joined.users -= 1
            unused = joined.users == 0 and joined is not self.newest
        if unused:
            self._drop(joined)

    def forget(self) -> None:
        """What is remembered goes, with the names and reasons that it holds; a question that uses it ends first."""
        self._replace(None)

    def _replace(self, fresh: _Joined | None) -> None:
        with self.lock:
            old, self.newest = self.newest, fresh
            unused = old is not None and old.users == 0
        if old is not None and unused:
            self._drop(old)

    def _drop(self, joined: _Joined) -> None:
        with contextlib.closing(self.database.cursor()) as own:
            own.execute(f"drop schema if exists {joined.name} cascade")


class _Process:
    """What one process keeps between questions: the DuckDB instance, its joins, and the projected tail."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.database = _connect()
        self.joins = _Joins(self.database)
        self.store: str | None = None
        self.tail = Tail()
        self.erased_at: dt.datetime | None = None
        self.tagged: tuple[tuple[Any, ...], pa.Table] = ((), tagged.PLACES.empty_table())
        self.asked_at = time.monotonic()
        self.address: dict[str, Any] = {}
        threading.Thread(target=_look_when_idle, args=(weakref.ref(self),), name="forgetting", daemon=True).start()

    def forget(self, store: str | None) -> None:
        """Drops every value that is remembered: of the tail, of joins, and of statements."""
        self.store = store
        self.tail.forget()
        self.joins.forget()
        statements.forget()

    def look_when_idle(self) -> None:
        if not (self.tail.parts or self.joins.newest) or time.monotonic() - self.asked_at < IDLE_SECONDS:
            return
        # A lost database has nothing to tell; the next look will.
        with contextlib.suppress(psycopg.Error), psycopg.connect(**self.address) as own:
            if own.execute(snapshots.ERASED_AT).fetchone() != (self.erased_at,):
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


def _connect(memory: str = MEMORY) -> duckdb.DuckDBPyConnection:
    database = duckdb.connect(":memory:")
    for statement in (
        f"set memory_limit = '{memory}'",
        f"set threads = {max(1, (os.cpu_count() or 2) // 2)}",
        "set python_enable_replacements = false",
        "set autoinstall_known_extensions = false",
        "set autoload_known_extensions = false",
        # Footers are remembered: they hold no value (`rowgroups.STATED`), and names of files are never used again.
        "set parquet_metadata_cache = true",
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
        cursor.execute(snapshots.SIZE)
        size, erased_at = cursor.fetchone() or (0, None)
        if here.store != store or size < here.tail.next_index or erased_at != here.erased_at:
            here.forget(store)
        here.erased_at, here.asked_at, here.address = erased_at, time.monotonic(), connection.get_connection_params()
        cursor.execute("select folder, next_index from ledger_segment order by first_index")
        segments = cursor.fetchall()
        sealed_to = segments[-1][1] if segments else 0
        here.tail.look(cursor, sealed_to, size)
        identities, roles, conflicted = snapshots.reference(cursor)
        tags = _tagged(cursor, here, store)
    events, touches = here.tail.tables()
    folders = tuple(s[0] for s in segments)
    return Snapshot(store, erased_at, size, sealed_to, folders, events, touches, identities, roles, conflicted, tags)


def _tagged(cursor: psycopg.Cursor[Any], here: _Process, store: str) -> pa.Table:
    """The classified tables, kept while nobody changes a tag or a catalog."""
    state = (store, *tagged.state(cursor))
    if here.tagged[0] != state:
        here.tagged = state, tagged.places(cursor)
    return here.tagged[1]


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
        self.here = _here()
        self.cursor = self.here.database.cursor()
        self.joined: _Joined | None = None
        self.watch = _Watch(self.cursor)
        self.watch.start()
        try:
            with self._limits():
                self._views(joined)
        except BaseException:
            self.__exit__()
            raise

    def _views(self, joined: bool) -> None:
        self._reported()
        if joined:
            keep = self.size == self.snapshot.size
            self.joined = self.here.joins.take(self.cursor, self.snapshot, self.size, keep)
            self.cursor.execute(f"set schema = '{self.joined.name}'")
            if self.snapshot.tagged.num_rows:
                self.cursor.register("tagged", self.snapshot.tagged)
                self.cursor.execute(joins.TAGS)

    def _reported(self) -> None:
        snap = self.snapshot
        for name, tail in (("events", snap.events), ("touches", snap.touches)):
            self.cursor.register(f"tail_{name}", tail)
            sealed = ""
            if snap.folders:
                files = ", ".join(f"'{segment_root() / folder / name}.parquet'" for folder in snap.folders)
                sealed = f"select * from read_parquet([{files}]) where index < {self.size} union all "  # noqa: S608
            self.cursor.execute(
                f"create temp view raw_{name} as {sealed}select * from tail_{name} "  # noqa: S608 - our own names
                f"where index >= {snap.sealed_to} and index < {self.size}"
            )

    def __enter__(self) -> Question:
        return self

    def __exit__(self, *_: object) -> None:
        self.watch.stop()
        self.cursor.close()
        if self.joined is not None:
            self.here.joins.give_back(self.joined)
            self.joined = None

    @contextlib.contextmanager
    def _limits(self) -> Iterator[None]:
        if self.watch.late:
            raise errors.QueryTooLong
        try:
            yield
        except duckdb.InterruptException as error:
            raise errors.QueryTooLong from error
        except pa.ArrowException as error:
            # What stops a question while its answer is read comes in the words of Arrow.
            raise errors.QueryTooLong from error
        except duckdb.OutOfMemoryException as error:
            raise errors.QueryTooLong(
                "The question needs too much memory. Narrow it by time, database or table."
            ) from error

    def arrow(self, sql: str, values: Sequence[Any] = ()) -> pa.Table:
        """The answer as an Arrow table. Raises QueryTooLong after the time limit, or when the memory is too small."""
        with self._limits():
            return self.cursor.sql(sql, params=list(values)).to_arrow_table()

    def batches(self, sql: str, values: Sequence[Any] = ()) -> Iterator[pa.RecordBatch]:
        """The answer in parts of at most 20,000 rows, of which one is held at a time; the first is empty and has the columns.

        Raises as `arrow` does.
        """
        with self._limits():
            yield from _parts(self.cursor.sql(sql, params=list(values)))

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The answer as a list of dicts; a statement is planned once here, twice on the way to Arrow."""
        with self._limits():
            answer = self.cursor.execute(sql, list(values))
            names = [column[0] for column in answer.description]
            return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]


@contextlib.contextmanager
def _apart(tables: Mapping[str, pa.Table | Path]) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB of its own over these tables and Parquet files alone. What it held in memory goes with it."""
    with contextlib.closing(_connect(TEST_MEMORY)) as database:
        for name, table in tables.items():
            if isinstance(table, Path):
                place = str(table).replace("'", "''")
                database.execute(f"create view {name} as select * from read_parquet('{place}')")  # noqa: S608
            else:
                database.register(name, table)
        yield database


def over(tables: Mapping[str, pa.Table | Path], sql: str) -> pa.Table:
    """The answer of `sql` over these tables and Parquet files alone, for tests of controls that re-run on attached files."""
    with _apart(tables) as database:
        return database.sql(sql).to_arrow_table()


def batches_over(tables: Mapping[str, pa.Table | Path], sql: str) -> Iterator[pa.RecordBatch]:
    """The same answer in parts, as `Question.batches` gives it: for answers as large as a population."""
    with _apart(tables) as database:
        yield from _parts(database.sql(sql))


def _parts(answer: duckdb.DuckDBPyRelation) -> Iterator[pa.RecordBatch]:
    reader = answer.to_arrow_reader(BATCH_ROWS)
    yield pa.RecordBatch.from_pylist([], schema=reader.schema)
    yield from reader
