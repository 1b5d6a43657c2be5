"""DuckDB over sealed files and tail: one question, one cursor, one log size.

A `Snapshot` is read in one short REPEATABLE READ transaction, closed before DuckDB runs. The tail is projected once per
process and kept by index. Never share a cursor: two threads on one get each other's rows.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import duckdb  # noqa: TID251 - with `lineage.instance` the one place
import psycopg
import pyarrow as pa
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction

from lineage import errors, facts, instance, joining, reported, resolving, snapshots, tagged, tail
from lineage.extracts import Extract, Indexes, basis, narrowing, opening, reading, seeing
from lineage.extracts.looking import Lookup, Wanted
from lineage.extracts.postings import Damaged
from lineage.listening import Asking, Heard
from lineage.process import Process
from lineage.snapshots import Snapshot, State
from lineage.spare import Given, Spare
from lineage.watching import Watch

TEST_MEMORY = "400MB"
Found = TypeVar("Found")
BATCH_ROWS = 20_000


_process: Process | None = None
_process_lock = threading.Lock()


def _here() -> Process:
    """This process's state; made after fork, never before."""
    global _process
    with _process_lock:
        if _process is None or _process.pid != os.getpid():
            _process = Process()
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


def _known(here: Process) -> Snapshot | None:
    """The snapshot of the last question, where nothing has changed since."""
    if here.newest is not None:
        state, found = here.newest
        if here.erased_at == state.erased_at and _state() == state:
            return found
    return None


@transaction.atomic()
def _read(here: Process, unsealed_most: int | None) -> Snapshot:
    connection.ensure_connection()
    with psycopg.Cursor(connection.connection) as cursor:
        if not connection.in_atomic_block or len(connection.savepoint_ids) == 0:
            cursor.execute("set transaction isolation level repeatable read")
        state = _state()
        if here.store != state.store or state.size < here.tail.next_index or state.erased_at != here.erased_at:
            here.forget(state.store)
        for keeping in (here.opening, here.listening):
            keeping.now(state.store, state.erased_at)
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


@dataclasses.dataclass
class _Asking:
    """A cursor of one question, and what is in it."""

    cursor: duckdb.DuckDBPyConnection
    has_views: bool = False
    has_tags: bool = False


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
        self.asking: _Asking | None = None
        self.reported: reported.Views | None = None
        self.joined: joining.Joined | None = None
        self.heard: Heard | None = None
        self.opened: opening.Opened | None = None
        self.looked: Lookup | None = None
        self.is_narrowed, self.names = False, 0
        self.watch = Watch(settings.QUERY_SECONDS if seconds is None else seconds)
        try:
            if joined:
                self._join(tables)
        except BaseException:
            self.__exit__()
            raise

    def _join(self, tables: bool) -> None:
        """What records are joined with is taken at once, since a later erasure forgets it; views of it are made when they are asked."""
        if not tables:
            self.opened = self.here.opening.find(self.snapshot, self.size)
        if self.opened is None:
            with self._limits():
                if not tables:
                    keep = self.size == self.snapshot.size
                    self.opened = self.here.opening.take(self._reporting, self.snapshot, self.size, keep)
                if self.opened is None:
                    self._make_joins()

    def _make_joins(self) -> None:
        self.joined = self.here.joins.take(self._reporting(), self.snapshot, self.size, self.size == self.snapshot.size)

    def _bare(self) -> _Asking:
        if self.asking is None:
            self.asking = _Asking(self.here.database.cursor())
            self.watch.begin(self.asking.cursor)
        return self.asking

    def _reporting(self) -> duckdb.DuckDBPyConnection:
        """The cursor with `raw_events` and `raw_touches`."""
        cursor = self._bare().cursor
        if self.reported is None:
            self.reported = self.here.reported.take(cursor, self.snapshot, self.size)
        return cursor

    @property
    def cursor(self) -> duckdb.DuckDBPyConnection:
        """With all views. They are made for who asks them: most look-ups do not."""
        asking = self._bare()
        if not asking.has_views:
            with self._limits():
                self._reporting()
                if self.opened is not None and not self.here.opening.enter(asking.cursor, self.opened, self.size):
                    # A file has gone since; what was looked up stays true.
                    self._make_joins()
                if self.joined is not None:
                    asking.cursor.execute(reported.enter(self.joined.name))
                self._tag(asking)
            asking.has_views = True
        return asking.cursor

    def _tag(self, asking: _Asking) -> None:
        if self.snapshot.tagged.num_rows and not asking.has_tags:
            asking.cursor.register("tagged", self.snapshot.tagged)
            asking.cursor.execute(resolving.TAGS)
        asking.has_tags = True

    def days(self) -> list[reported.Day]:
        """Where the records of each day lie in sealed files with `heard`. Raises QueryTooLong as `arrow` does."""
        if (known := self.here.reported.known_days(self.snapshot)) is not None:
            return known
        with self._limits():
            cursor = self._reporting()
            return self.here.reported.days(cursor, self.reported, self.snapshot) if self.reported else []

    def hear(self) -> Heard:
        """When sources told (`lineage.heard`), of the records below the size."""
        if self.heard is None:
            asking = Asking(self._of(self._files), self._of(self._reporting))
            self.heard = self.here.listening.hear(asking, self.snapshot, self.size)
        return self.heard

    def _files(self) -> duckdb.DuckDBPyConnection:
        """A cursor without views: files can be asked of it."""
        return self._bare().cursor

    def _of(self, cursor: Callable[[], duckdb.DuckDBPyConnection]) -> Callable[[str], pa.Table]:
        """Asks such a cursor, as `arrow` does."""

        def ask(sql: str) -> pa.Table:
            with self._limits():
                return cursor().sql(sql).to_arrow_table()

        return ask

    def __enter__(self) -> Question:
        return self

    def __exit__(self, *_: object) -> None:
        self.watch.stop()
        # It refers to this question: what it has read would stay until Python looks for garbage.
        self.looked = None
        if self.asking is not None:
            self.asking.cursor.close()
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
                asked = seeing.Asked(lambda: self.cursor, self._bare, self._limits, self.snapshot, self.size)
                self.looked = self.here.opening.look(asked, self.opened)
        return self.looked

    @contextlib.contextmanager
    def narrowed(self, look: Lookup, indexes: Indexes) -> Iterator[None]:
        """Within it `activity` and `touches` have these records alone."""
        asking = self._bare()
        with self._limits():
            self._tag(asking)
            narrowing.begin(asking.cursor, look, indexes, self.snapshot)
        self.is_narrowed = True
        try:
            yield
        finally:
            self.is_narrowed = False
            narrowing.end(asking.cursor)

    def of_file(self, ask: Callable[[duckdb.DuckDBPyConnection], Found]) -> Found:
        """What is asked of a file that is looked up in, with a cursor that knows tags and no views."""
        asking = self._bare()
        with self._limits():
            self._tag(asking)
            return ask(asking.cursor)

    @contextlib.contextmanager
    def named(self, indexes: Indexes) -> Iterator[str]:
        """Within it this condition holds of these records alone, which ascend and of which there are some.

        A table of them is joined: thousands of numbers in a statement take longer to plan than the question to answer.
        """
        cursor, self.names = self._bare().cursor, self.names + 1
        name = f"named_{self.names}"
        cursor.register(name, pa.table({"index": indexes}))
        try:
            yield f"index between {indexes[0]} and {indexes[-1]} and index in (select index from {name})"  # noqa: S608 - our own name
        finally:
            cursor.unregister(name)

    def _sql(self, sql: str, values: Sequence[Any]) -> duckdb.DuckDBPyRelation:
        return self._asked(lambda cursor: cursor.sql(sql, params=list(values)))

    def _asked(self, ask: Callable[[duckdb.DuckDBPyConnection], Found]) -> Found:
        """What is narrowed needs no other views as a rule; a statement that names one is refused before it runs."""
        if self.is_narrowed and not self._bare().has_views:
            with contextlib.suppress(duckdb.CatalogException):
                return ask(self._bare().cursor)
        return ask(self.cursor)

    def records(self, indexes: Indexes, columns: Sequence[str]) -> dict[int, dict[str, Any]] | None:
        """These columns of `activity` by index, where this question looks up already; None: ask it in SQL."""
        with self._limits():
            return narrowing.records(self.looked, indexes, self.snapshot, columns) if self.looked else None

    @contextlib.contextmanager
    def _limits(self) -> Iterator[None]:
        if self.watch.late:
            raise errors.QueryTooLong
        with instance.refusals():
            yield

    def arrow(self, sql: str, values: Sequence[Any] = ()) -> pa.Table:
        """The answer as an Arrow table. Raises QueryTooLong after the time limit, or when the memory is too small."""
        with self._limits():
            return self._sql(sql, values).to_arrow_table()

    def batches(self, sql: str, values: Sequence[Any] = ()) -> Iterator[pa.RecordBatch]:
        """The answer in parts of at most 20,000 rows, of which one is held at a time; the first is empty and has the columns.

        Raises as `arrow` does.
        """
        with self._limits():
            yield from _parts(self._sql(sql, values))

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The answer as a list of dicts; a statement is planned once here, twice on the way to Arrow."""
        with self._limits():
            answer = self._asked(lambda cursor: cursor.execute(sql, list(values)))
            names = [column[0] for column in answer.description]
            return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]


def warm() -> None:
    """Opens what look-ups are made in, so that the first question of a process finds it open; nothing where the store cannot answer."""
    with contextlib.suppress(errors.StoreUnavailable, errors.QueryTooLong), Question() as question:
        question.hear()
        question.days()
        if look := question.look():
            # Of no time: what counts is opened, and nothing counted.
            look.totals(Wanted(since=0, until=0))
            look.first_accesses()
            with contextlib.suppress(Damaged):
                look.open_codes()


_apart = Spare(lambda: instance.connect(TEST_MEMORY)).over


def over(tables: Mapping[str, Given], sql: str, on_all_cores: bool = False) -> pa.Table:
    """The answer of `sql` over these tables and Parquet files alone, for tests of controls that re-run on attached files.

    Raises QueryTooLong when the memory is too small, as `batches_over`.
    """
    cores = instance.on_all_cores if on_all_cores else contextlib.nullcontext
    with _apart(tables) as database, cores(database), instance.refusals():
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
    with _apart(tables) as database, instance.refusals():
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
