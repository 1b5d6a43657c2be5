"""Runs the SQL that a report carries over the tables that it carries. Needs duckdb and pyarrow; nothing else here does.

The SQL comes out of a file that is not trusted yet: one SELECT alone, in a DuckDB that may open no file, no network and no
extension, with bounds on memory and time.
"""

from __future__ import annotations

import importlib.util
import os
import threading
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

from lineage.errors import PackInvalid

NEEDED = ("duckdb", "pyarrow")
SECONDS_MOST = 300
LEAST_BYTES, MOST_BYTES = 2 << 30, 8 << 30


def _memory() -> str:
    """Half of what the machine has, within bounds: what does not fit cannot go to a disk, since nothing is written here."""
    try:
        half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):
        half = LEAST_BYTES
    return f"{max(LEAST_BYTES, min(half, MOST_BYTES)) >> 20}MiB"


CLOSED: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    "temp_directory": "",
    "memory_limit": _memory(),
    "threads": "1",
    # With it DuckDB 2.0.0 forgets a limit behind an outer join to what is empty.
    "disabled_optimizers": "statistics_propagation",
}
SETTLED = "set TimeZone = 'UTC'; set lock_configuration = true"
BATCH_ROWS = 5_000
NO_MEANS = ("INTERRUPT", "Out of Memory")
"""How DuckDB begins what says nothing of the question: time or memory was not enough."""
BEGINS, ENDS = "-- /// ", "-- ///\n"


class Stopped(PackInvalid):
    """A question took too long: nothing is said by that of what it asks about."""


def lacking() -> str:
    """The packages that must be installed before anything can be run again; empty: none."""
    return " and ".join(name for name in NEEDED if importlib.util.find_spec(name) is None)


def head(name: str, sql: str) -> tuple[str, tuple[str, ...]]:
    """What a file says of itself (`test` or `table`), and the tables that it reads. PackInvalid: it has no whole head."""
    what, _, rest = sql.partition(BEGINS)[2].partition("\n")
    lines = rest.partition(ENDS)[0].splitlines(keepends=True)
    try:
        told = tomllib.loads("".join(line.removeprefix("--").removeprefix(" ") for line in lines))
        return what.strip(), tuple(map(str, told["tables"]))
    except (tomllib.TOMLDecodeError, KeyError, TypeError, RecursionError) as error:
        raise PackInvalid(f"{name} does not say which tables it reads.") from error


class Table:
    """An attached Parquet file, of which few rows are held decoded; DuckDB reads it anew each time that it looks."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    @cached_property
    def schema(self) -> Any:
        """Names and types of the columns."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        return pq.read_schema(pa.BufferReader(self.data))

    @property
    def names(self) -> list[str]:
        return list(self.schema.names)

    def each(self, *columns: str) -> Iterator[Any]:
        """The rows, some thousands at a time, with these columns (all)."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        with pq.ParquetFile(pa.BufferReader(self.data)) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=list(columns) or None):
                yield pa.Table.from_batches([batch])

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """All rows, for who reads Arrow."""
        import pyarrow as pa

        batches = (batch for part in self.each() for batch in part.to_batches())
        return pa.RecordBatchReader.from_batches(self.schema, batches).__arrow_c_stream__(requested_schema)


def read(name: str, data: bytes) -> Table:
    """A Parquet file as a table, all of it looked at. PackInvalid: it is none."""
    import pyarrow as pa

    table = Table(data)
    try:
        for _ in table.each():
            pass
    except MemoryError:
        raise
    except (pa.ArrowException, ValueError, OSError) as error:
        raise PackInvalid(f"{name} is no Parquet file that can be read.") from error
    return table


def different(table: Table, column: str) -> int | None:
    """How many rows a table has, which all have another whole number in this column; None: two have the same."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_integer(table.schema.field(column).type):
        raise PackInvalid(f"The column {column} of an attachment holds no whole numbers.")
    parts = [part[column].cast(pa.int64()) for part in table.each(column)]
    held = pa.chunked_array([chunk for part in parts for chunk in part.chunks], pa.int64())
    return len(held) if pc.count_distinct(held, mode="all").as_py() == len(held) else None


def answer(name: str, sql: str, tables: Mapping[str, Table]) -> Iterator[Any]:
    """What the SQL answers over these tables alone, in parts of which the first is empty.

    PackInvalid: it is more than one question, or fails. Stopped: it took too much.
    """
    import duckdb  # noqa: TID251 - the product asks in lineage.engine; this re-performs, apart from it
    import pyarrow as pa

    try:
        asked = duckdb.extract_statements(sql)
        if [one.type for one in asked] != [duckdb.StatementType.SELECT]:
            raise PackInvalid(f"{name} is not one SELECT and was not run.")
        with duckdb.connect(":memory:", config=CLOSED) as own:
            own.execute(SETTLED)
            for table, held in tables.items():
                own.register(table, held)
            stop = threading.Timer(SECONDS_MOST, own.interrupt)
            stop.start()
            try:
                reader = own.sql(sql).to_arrow_reader(BATCH_ROWS)
                yield pa.RecordBatch.from_pylist([], schema=reader.schema)
                yield from reader
            finally:
                stop.cancel()
    except MemoryError:
        raise
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        # What fails while an answer is read comes in DuckDB's words and as Arrow's error.
        reason = str(error).partition("\n")[0][:160]
        if reason.startswith(NO_MEANS):
            raise Stopped(
                f"{name} took too long or too much memory: not re-run. Run it on a larger machine."
            ) from error
        raise PackInvalid(f"{name} does not run on the attached tables: {reason}") from error


def difference(held: Table, again: Iterator[Any]) -> str:
    """Where a table that is held differs from the one made again; empty: nowhere. Other versions may name types otherwise."""
    import pyarrow as pa

    schema, rows, strange = held.schema, 0, False
    if held.names != next(again).schema.names:
        return "other columns"
    faults: dict[str, int] = {}
    take = _taker(held)
    for batch in again:
        old = take(batch.num_rows)
        if old.num_rows == batch.num_rows:
            try:
                same = pa.Table.from_batches([batch]).cast(schema)
            except (pa.ArrowException, ValueError):
                strange = True
            else:
                _compare(old, same, rows, faults)
        rows += batch.num_rows
    number = sum(part.num_rows for part in held.each(*held.names[:1]))
    if number != rows:
        return f"{number} rows, and {rows} when made again"
    if strange:
        return "columns of other types"
    column = next((name for name in held.names if name in faults), None)
    return f"column {column}, first in row {faults[column]}" if column is not None else ""


def _compare(old: Any, new: Any, before: int, faults: dict[str, int]) -> None:
    """Notes each column that differs, with its first row that is known to (0: none)."""
    for column in old.column_names:
        if not faults.get(column) and not new[column].equals(old[column]):
            pairs = zip(new[column].to_pylist(), old[column].to_pylist(), strict=True)
            row = next((place for place, (one, other) in enumerate(pairs, 1) if one != other), 0)
            faults[column] = before + row if row else 0


def _taker(held: Table) -> Callable[[int], Any]:
    """Takes so many of the next rows of a table; fewer where it ends."""
    import pyarrow as pa

    parts, rest = held.each(), held.schema.empty_table()

    def take(number: int) -> Any:
        nonlocal rest
        while rest.num_rows < number and (part := next(parts, None)) is not None:
            rest = pa.concat_tables([rest, part])
        taken, rest = rest.slice(0, number), rest.slice(number)
        return taken

    return take


def counts(table: Table) -> dict[str, int]:
    """The counts of a test's answer, as docs/tests-of-controls.md defines them. PackInvalid: a column is lacking."""
    names = table.names
    if {"tested", "deviations"} - set(names):
        raise PackInvalid("A test's answer has no column tested or deviations.")
    found = dict.fromkeys(("items", "tested", "excluded", "deviating", "deviations"), 0)
    actors: set[str] = set()
    who = ("who_id", "db_user") if "who_id" in names else ()
    for part in table.each("tested", "deviations", *who):
        deviations = [len(one or ()) for one in part["deviations"].to_pylist()]
        tested = sum(map(bool, part["tested"].to_pylist()))
        found["items"] += part.num_rows
        found["tested"] += tested
        found["excluded"] += part.num_rows - tested
        found["deviating"] += sum(map(bool, deviations))
        found["deviations"] += sum(deviations)
        if who:
            pairs = zip(*(part[name].to_pylist() for name in who), strict=True)
            actors |= {next((one for one in pair if one is not None), "unknown") for pair in pairs}
    return found | {"actors": len(actors)}
