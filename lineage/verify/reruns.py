"""Runs the SQL that a report carries over the tables that it carries. Needs duckdb and pyarrow; nothing else here does.

The SQL comes out of a file that is not trusted yet: one SELECT alone, in a DuckDB that may open no file, no network and no
extension, with bounds on memory and time.
"""

from __future__ import annotations

import importlib.util
import os
import threading
import tomllib
from collections.abc import Mapping
from typing import Any

from lineage.errors import PackInvalid

NEEDED = ("duckdb", "pyarrow")
SECONDS_MOST = 300
LEAST_BYTES, MOST_BYTES = 2 << 30, 8 << 30


def _memory() -> str:
    """Half of what the machine has, within bounds: half a million accesses take nearly 2 GiB to be made acts of."""
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
    "threads": "2",
}
SETTLED = "set TimeZone = 'UTC'; set lock_configuration = true"
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


def read(name: str, data: bytes) -> Any:
    """A Parquet file as a table. PackInvalid: it is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, ValueError, OSError) as error:
        raise PackInvalid(f"{name} is no Parquet file that can be read.") from error


def answer(name: str, sql: str, tables: Mapping[str, Any]) -> Any:
    """What the SQL answers over these tables alone. PackInvalid: it is more than one question, or fails."""
    import duckdb  # noqa: TID251 - the product asks in lineage.engine; this re-performs, apart from it

    try:
        asked = duckdb.extract_statements(sql)
        if [each.type for each in asked] != [duckdb.StatementType.SELECT]:
            raise PackInvalid(f"{name} is not one SELECT and was not run.")
        with duckdb.connect(":memory:", config=CLOSED) as own:
            own.execute(SETTLED)
            for each, table in tables.items():
                own.register(each, table)
            stop = threading.Timer(SECONDS_MOST, own.interrupt)
            stop.start()
            try:
                return own.sql(sql).to_arrow_table()
            finally:
                stop.cancel()
    except (duckdb.InterruptException, duckdb.OutOfMemoryException) as error:
        raise Stopped(f"{name} took too long or too much memory: not re-run. Run it on a larger machine.") from error
    except duckdb.Error as error:
        reason = str(error).splitlines()[0][:160]
        raise PackInvalid(f"{name} does not run on the attached tables: {reason}") from error


def difference(held: Any, again: Any) -> str:
    """Where a table that is held differs from the one made again; empty: nowhere. Other versions may name types otherwise."""
    import pyarrow as pa

    if held.column_names != again.column_names:
        return "other columns"
    if held.num_rows != again.num_rows:
        return f"{held.num_rows} rows, and {again.num_rows} when made again"
    try:
        same = again.cast(held.schema)
    except (pa.ArrowException, ValueError):
        return "columns of other types"
    for column in held.column_names:
        if not same[column].equals(held[column]):
            pairs = zip(same[column].to_pylist(), held[column].to_pylist(), strict=True)
            row = next((place for place, (new, old) in enumerate(pairs, 1) if new != old), 0)
            return f"column {column}, first in row {row}"
    return ""


def counts(table: Any) -> dict[str, int]:
    """The counts of a test's answer, as docs/tests-of-controls.md defines them. PackInvalid: a column is lacking."""
    names = ("tested", "deviations")
    if set(names) - set(table.column_names):
        raise PackInvalid("A test's answer has no column tested or deviations.")
    deviations = [len(each or ()) for each in table["deviations"].to_pylist()]
    tested = sum(map(bool, table["tested"].to_pylist()))
    return {
        "items": table.num_rows,
        "tested": tested,
        "excluded": table.num_rows - tested,
        "deviating": sum(map(bool, deviations)),
        "deviations": sum(deviations),
        "actors": _actors(table),
    }


def _actors(table: Any) -> int:
    if "who_id" not in table.column_names:
        return 0
    pairs = zip(table["who_id"].to_pylist(), table["db_user"].to_pylist(), strict=True)
    return len({next((each for each in pair if each is not None), "unknown") for pair in pairs})
