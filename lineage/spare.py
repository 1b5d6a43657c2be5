"""A DuckDB that is kept for the next use: to make one costs as much as to answer a small question."""

from __future__ import annotations

import contextlib
import itertools
import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa
from django.conf import settings

if TYPE_CHECKING:
    import duckdb  # noqa: TID251 - what it is handed

Given: TypeAlias = pa.Table | Path | Sequence[Path]


_made: weakref.WeakSet[Spare] = weakref.WeakSet()


def release() -> None:
    """Gives back the memory that those keep which are idle in this process: after a large answer hundreds of MiB."""
    for each in _made:
        _, database = each.idle.pop(os.getpid(), (None, None))
        if database is not None:
            database.close()
    pa.default_memory_pool().release_unused()


class Spare:
    """At most one that is idle in each process. Each use has a catalog of its own and one to itself, in one thread."""

    def __init__(self, make: Callable[[], duckdb.DuckDBPyConnection]) -> None:
        self.make = make
        # That of another process was there when this one was forked: neither to be used nor to be closed here.
        self.idle: dict[int, tuple[Path, duckdb.DuckDBPyConnection]] = {}
        self.numbers = itertools.count()
        _made.add(self)

    @contextlib.contextmanager
    def over(self, tables: Mapping[str, Given]) -> Iterator[duckdb.DuckDBPyConnection]:
        """A catalog of its own over these tables and Parquet files alone. What it held in memory goes with it."""
        with self.taken() as database:
            for name, table in tables.items():
                if isinstance(table, pa.Table):
                    database.register(name, table)
                else:
                    # As one list: each scan of a union keeps its share of the memory to itself.
                    paths = [str(path).replace("'", "''") for path in ([table] if isinstance(table, Path) else table)]
                    files = ", ".join(f"'{path}'" for path in paths)
                    database.execute(f"create view {name} as select * from read_parquet([{files}])")  # noqa: S608
            yield database

    @contextlib.contextmanager
    def taken(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor in an empty catalog, which goes at the end with all that is in it; after an error all goes."""
        process, place = os.getpid(), Path(settings.DATA_DIR)
        was, database = self.idle.pop(process, (None, None))
        if database is None or was != place:
            # What is spilled lies below this store's folder.
            database = self.make()
            # It reads files of any kind, whose footers may hold values: they are not remembered.
            database.execute("set parquet_metadata_cache = false")
        name = f"apart_{next(self.numbers)}"
        with contextlib.ExitStack() as failed:
            failed.callback(database.close)
            with contextlib.closing(database.cursor()) as cursor:
                cursor.execute(f"attach ':memory:' as {name}; use {name}")
                yield cursor
            database.execute(f"detach {name}")
            if self.idle.setdefault(process, (place, database))[1] is database:
                failed.pop_all()
