"""DuckDB over sealed files and tail: one question, one cursor, one log size.

A `Snapshot` is read in one short REPEATABLE READ transaction, closed before DuckDB runs. The tail is projected once per
process and kept by index. Never share a cursor: two threads on one get each other's rows.
"""

from __future__ import annotations

import contextlib
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

from lineage import errors, facts, joining, reported, resolving, snapshots, statements, tagged, tail
from lineage.extracts import Extract, Indexes, basis, narrowing, opening, reading
from lineage.extracts.looking import Lookup
from lineage.listening import Heard, Listening
from lineage.snapshots import Snapshot, State
from lineage.spare import Given, Spare

MEMORY, TEST_MEMORY = "1GB", "400MB"
IDLE_SECONDS = 30.0
BATCH_ROWS = 20_000


class _Process:
    """What one process keeps between questions: the DuckDB instance, its joins, and the projected tail."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.database = _connect()
        self.joins = joining.Joins(self.database, _sealed)
        self.opening = opening.Opening(self.database, self.joins)
        self.listening = Listening(_sealed)
        self.reported = reported.Reported(self.database, _sealed)
        self.store: str | None = None
        self.tail = tail.Tail()
        self.erased_at: dt.datetime | None = None
        self.newest: tuple[State, Snapshot] | None = None
        self.asked_at = time.monotonic()
        self.address: dict[str, Any] = {}
        threading.Thread(target=_look_when_idle, args=(weakref.ref(self),), name="forgetting", daemon=True).start()

    def forget(self, store: str | None) -> None:
        """Drops every value that is remembered: of the tail, of joins, of what was heard, and of statements."""
        self.store, self.newest = store, None
        self.tail.forget()
        self.joins.forget()
        self.opening.forget()
        self.listening.forget()
        statements.forget()

    def look_when_idle(self) -> None:
        if (
            not (self.tail.parts or self.joins.remembers or self.opening.newest or self.listening.remembers)
            or time.monotonic() - self.asked_at < IDLE_SECONDS
        ):
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
        # With it DuckDB 2.0.0 forgets a limit behind an outer join to what is empty (docs/decisions/018).
        "set global disabled_optimizers = 'statistics_propagation'",
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


def snapshot(unsealed_most: int | None = None) -> Snapshot:
    """The present log as one consistent whole. Raises StoreUnavailable when PostgreSQL does not answer.

    Where more than `unsealed_most` records wait to be sealed it is of the log up to them, for who need not know the newest:
    to project what waits costs as much as to seal it.
    """
    here = _here()
    try:
        with here.lock:
            here.asked_at = time.monotonic()
            return _known(here) or _read(here, unsealed_most)
    except (psycopg.OperationalError, psycopg.InterfaceError, OperationalError, InterfaceError) as error:
        connection.close()
        raise errors.StoreUnavailable from error


def _state() -> State:
    connection.ensure_connection()
    store = f"{connection.settings_dict['HOST']}/{connection.settings_dict['NAME']}"
    with psycopg.Cursor(connection.connection) as cursor:
        return snapshots.state(cursor, store)


def _known(here: _Process) -> Snapshot | None:
    """The snapshot of the last question, where nothing has changed since."""
    if here.newest is not None:
        state, found = here.newest
        if here.erased_at == state.erased_at and _state() == state:
            return found
    return None


@transaction.atomic()
def _read(here: _Process, unsealed_most: int | None) -> Snapshot:
    connection.ensure_connection()
    with psycopg.Cursor(connection.connection) as cursor:
        if not connection.in_atomic_block or len(connection.savepoint_ids) == 0:
            cursor.execute("set transaction isolation level repeatable read")
        state = _state()
        if here.store != state.store or state.size < here.tail.next_index or state.erased_at != here.erased_at:
            here.forget(state.store)
        here.listening.now(state.store, state.erased_at)
        here.erased_at, here.address = state.erased_at, connection.get_connection_params()
        old, before = here.newest or (None, None)
        sealed = before.segments if before and old and old.segments == state.segments else snapshots.segments(cursor)
        end = sealed[-1].following if sealed else 0
        is_behind = unsealed_most is not None and state.size - end > unsealed_most
        if not is_behind:
            here.tail.look(cursor, end, state.size)
        if before and old and old.reference == state.reference:
            reference = before.identities, before.context_roles, before.conflicted
        else:
            reference = snapshots.reference(cursor)
        tags = before.tagged if before and old and old.tags == state.tags else tagged.places(cursor)
        if before and old and (old.extracts, old.reference) == (state.extracts, state.reference):
            extracts = before.extracts
        else:
            extracts = _extracts(cursor, reference[1])
    rest = sealed, *(tail.NOTHING if is_behind else here.tail.tables()), *reference, tags, extracts
    found = Snapshot(state.store, state.erased_at, end if is_behind else state.size, *rest)
    if not is_behind:
        here.newest = state, found
    return found


def _extracts(cursor: psycopg.Cursor[Any], roles: pa.Table) -> tuple[Extract, ...]:
    cursor.execute(snapshots.EXTRACTS)
    return reading.prefixes([reading.listed(*row) for row in cursor.fetchall()], basis.of(roles))


def segment_root() -> Path:
    return Path(settings.DATA_DIR) / "segments"


def _sealed(folders: Sequence[str], name: str) -> str:
    """The SQL of one file of these segments."""
    files = ", ".join(f"'{segment_root() / folder / name}.parquet'" for folder in folders)
    return f"read_parquet([{files}])"


class _Watch(threading.Thread):
    """Interrupts a cursor from the time limit on, again and again: an interrupt between two queries stops neither."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, seconds: float) -> None:
        super().__init__(daemon=True)
        self.cursor, self.seconds = cursor, seconds
        self.over = threading.Event()
        self.late = False

    def run(self) -> None:
        wait = self.seconds
        while not self.over.wait(wait):
            self.late, wait = True, 0.1
            self.cursor.interrupt()

    def stop(self) -> None:
        self.over.set()
        self.join()


class Question:
    """One cursor over one snapshot, with the views of `lineage.joins`. Use as a context manager, in one thread.

    Without `joined` there is only what sources reported (`raw_events`, `raw_touches`): asked without a look at the whole log.
    With `tables` there are also those that records are joined with, made of the whole log. It may take so many `seconds`.
    """

    def __init__(
        self, snap: Snapshot | None = None, as_of: int | None = None, joined: bool = True, tables: bool = False,
        seconds: float | None = None,
    ) -> None:  # fmt: skip
        self.snapshot = snap or snapshot()
        self.size = min(as_of, self.snapshot.size) if as_of is not None else self.snapshot.size
        self.here = _here()
        self.cursor = self.here.database.cursor()
        self.reported: reported.Views | None = None
        self.joined: joining.Joined | None = None
        self.heard: Heard | None = None
        self.opened: opening.Opened | None = None
        self.looked: Lookup | None = None
        self.watch = _Watch(self.cursor, settings.QUERY_SECONDS if seconds is None else seconds)
        self.watch.start()
        try:
            with self._limits():
                self._views(joined, tables)
        except BaseException:
            self.__exit__()
            raise

    def _views(self, joined: bool, tables: bool) -> None:
        self.reported = self.here.reported.take(self.cursor, self.snapshot, self.size)
        if joined:
            keep = self.size == self.snapshot.size
            if not tables:
                self.opened = self.here.opening.take(self.cursor, self.snapshot, self.size, keep)
            if self.opened is not None:
                self.here.opening.enter(self.cursor, self.opened, self.size)
            else:
                self.joined = self.here.joins.take(self.cursor, self.snapshot, self.size, keep)
                self.cursor.execute(reported.enter(self.joined.name))
            if self.snapshot.tagged.num_rows:
                self.cursor.register("tagged", self.snapshot.tagged)
                self.cursor.execute(resolving.TAGS)

    def days(self) -> list[reported.Day]:
        """Where the records of each day lie in sealed files with `heard`. Raises QueryTooLong as `arrow` does."""
        if self.reported is None:
            return []
        with self._limits():
            return self.here.reported.days(self.cursor, self.reported, self.snapshot)

    def hear(self) -> Heard:
        """When sources told (`lineage.heard`), of the records below the size."""
        if self.heard is None:
            self.heard = self.here.listening.hear(self.arrow, self.snapshot, self.size)
        return self.heard

    def __enter__(self) -> Question:
        return self

    def __exit__(self, *_: object) -> None:
        self.watch.stop()
        self.cursor.close()
        if self.joined is not None:
            self.here.joins.give_back(self.joined)
            self.joined = None
        if self.opened is not None:
            self.here.opening.give_back(self.opened)
            self.opened = None
        if self.reported is not None:
            self.here.reported.give_back(self.reported)
            self.reported = None

    def look(self) -> Lookup | None:
        """Look-ups by terms instead of questions to the whole log; None where there is nothing to look up in."""
        if self.opened is not None and self.looked is None:
            with self._limits():
                self.looked = self.here.opening.look(self.cursor, self.opened, self.snapshot, self.size, self._limits)
        return self.looked

    @contextlib.contextmanager
    def narrowed(self, look: Lookup, indexes: Indexes) -> Iterator[None]:
        """Within it `activity` and `touches` have these records alone."""
        with self._limits():
            narrowing.begin(self.cursor, look, indexes, self.snapshot)
        try:
            yield
        finally:
            narrowing.end(self.cursor)

    def records(self, indexes: Indexes, columns: Sequence[str]) -> dict[int, dict[str, Any]] | None:
        """These columns of `activity` by index, where this question looks up already; None: ask it in SQL."""
        with self._limits():
            return narrowing.records(self.looked, indexes, self.snapshot, columns) if self.looked else None

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


_apart = Spare(lambda: _connect(TEST_MEMORY)).over


def over(tables: Mapping[str, Given], sql: str) -> pa.Table:
    """The answer of `sql` over these tables and Parquet files alone, for tests of controls that re-run on attached files."""
    with _apart(tables) as database:
        return database.sql(sql).to_arrow_table()


def agree(tables: Mapping[str, Given], sql: str) -> bool:
    """Whether what `sql` asks holds: its one value. Planned once, which is most of what it costs of a small segment."""
    with _apart(tables) as database:
        return database.execute(sql).fetchall() == [(True,)]


def facts_of(events: pa.Table | Path) -> pa.Table:
    """What these records say that others are joined with, as it is kept beside them."""
    return over({"events": events}, facts.made_of("events")).cast(facts.SCHEMA)


def batches_over(tables: Mapping[str, Given], sql: str) -> Iterator[pa.RecordBatch]:
    """The same answer in parts, as `Question.batches` gives it: for answers as large as a population."""
    with _apart(tables) as database:
        yield from _parts(database.sql(sql))


def each_over(tables: Mapping[str, Given], questions: Sequence[str]) -> Iterator[Iterator[pa.RecordBatch]]:
    """`batches_over` of several questions, one after the other: the files are looked at once."""
    with _apart(tables) as database:
        for sql in questions:
            yield _parts(database.sql(sql))


def _parts(answer: duckdb.DuckDBPyRelation) -> Iterator[pa.RecordBatch]:
    reader = answer.to_arrow_reader(BATCH_ROWS)
    yield pa.RecordBatch.from_pylist([], schema=reader.schema)
    yield from reader
