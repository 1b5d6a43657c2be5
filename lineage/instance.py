"""An instance of DuckDB as questions use it, and what its refusals say."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb  # noqa: TID251 - with `lineage.engine` the one place
import pyarrow as pa
from django.conf import settings

from lineage import errors

MEMORY = "640MB"
CORES = os.cpu_count() or 2
THREADS = max(1, CORES // 2)
"""The others are left to who asks at the same time."""


def connect(memory: str = MEMORY) -> duckdb.DuckDBPyConnection:
    database = duckdb.connect(":memory:")
    for statement in (
        f"set memory_limit = '{memory}'",
        f"set threads = {THREADS}",
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


@contextlib.contextmanager
def on_all_cores(cursor: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Within it what is asked of this cursor's instance runs on all cores."""
    cursor.execute(f"set threads = {CORES}")
    try:
        yield
    finally:
        cursor.execute(f"set threads = {THREADS}")


def sealed(folders: Sequence[str], name: str) -> str:
    """The SQL of one file of these segments."""
    root = Path(settings.DATA_DIR) / "segments"
    files = ", ".join(f"'{root / folder / name}.parquet'" for folder in folders)
    return f"read_parquet([{files}])"


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """What stops a question while it is asked or its answer is read is told as QueryTooLong."""
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
