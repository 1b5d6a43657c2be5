"""Parquet files read and written in parts, so that the memory that it takes does not grow with them."""

from __future__ import annotations

import bisect
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

ROWS_MOST, BYTES_MOST = 20_000, 64 << 20
"""Of one row group; whichever comes first."""
BATCH_ROWS = 2_000
STATED = ("index", "occurred_at", "received_at", "fact", "what", "day")
"""Columns of which a file's footer states the least and the greatest value: nothing that an erasure takes, since processes
remember footers."""

WRITTEN = {
    "index": "DELTA_BINARY_PACKED", "attribution_index": "DELTA_BINARY_PACKED",
    "occurred_at": "DELTA_BINARY_PACKED", "received_at": "DELTA_BINARY_PACKED",
    "event_id": "DELTA_BYTE_ARRAY", "source_event_id": "DELTA_BYTE_ARRAY", "salt": "DELTA_LENGTH_BYTE_ARRAY",
}  # fmt: skip
"""Columns of which hardly a value comes twice: as differences, without a dictionary (docs/decisions/016-differences-in-columns.md)."""


LARGE_RECORDS, LARGE_LEVEL = 800_000, 6
"""The files of so many records are written anew twice more at most: they are compressed harder."""
RANDOM = ("leaf", "fingerprint")
"""Mostly hexadecimal digits of hashes: no smaller at a higher level."""


def _written(schema: pa.Schema, is_large: bool = False) -> dict[str, Any]:
    """How the writer is to write these columns, and of which it is to state the least and the greatest value."""
    paths = [path for field in schema if field.name not in WRITTEN for path in _paths(field)]
    levels = {path: LARGE_LEVEL for path in paths if path not in RANDOM}
    return {
        "compression": "zstd",
        "compression_level": levels if is_large and levels else None,
        "write_statistics": [name for name in STATED if name in schema.names] or False,
        "use_dictionary": paths,
        "column_encoding": {name: WRITTEN[name] for name in schema.names if name in WRITTEN} or None,
    }


def _paths(field: pa.Field, above: str = "") -> list[str]:
    """What Parquet calls the columns that hold this field."""
    here, kind = f"{above}{field.name}", field.type
    if pa.types.is_struct(kind):
        return [path for part in kind for path in _paths(part, f"{here}.")]
    if pa.types.is_list(kind):
        return _paths(kind.value_field.with_name("element"), f"{here}.list.")
    return [here]


def batches(path: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows in their order, a few thousand at a time; the file stays open until the end, also when it is unlinked."""
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(BATCH_ROWS, columns=columns)


def groups(path: Path) -> Iterator[pa.Table]:
    """The rows in their order, a row group at a time; texts that come more than once as dictionaries."""
    schema = pq.read_schema(path)
    words = [each for field in schema if field.name not in WRITTEN for each in _paths(field)]
    with pq.ParquetFile(path, read_dictionary=words) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, use_threads=False)


def holding(path: Path, indexes: Sequence[int]) -> Iterator[pa.Table]:
    """The rows of these ascending indexes, in their order, a row group at a time: only those groups are read that may hold one."""
    with pq.ParquetFile(path) as file:
        place = file.schema_arrow.get_field_index("index")
        for group in range(file.num_row_groups):
            stated = file.metadata.row_group(group).column(place).statistics
            within = indexes
            if stated is not None and stated.has_min_max:
                within = indexes[bisect.bisect_left(indexes, stated.min) : bisect.bisect_right(indexes, stated.max)]
            if len(within):
                table = file.read_row_group(group)
                yield table.filter(pc.is_in(table["index"], pa.array(within, pa.int64())))


class Rows:
    """The rows of a file, or of several one behind the other, whose `index` only grows, range after range."""

    def __init__(self, *paths: Path) -> None:
        self.schema: pa.Schema = pq.read_schema(paths[0])
        self._batches = (batch for path in paths for batch in batches(path))
        self._held: pa.RecordBatch | None = None

    def reach(self) -> int | None:
        """Up to before which index `below` needs to read nothing more; None at the end."""
        while self._held is None or not self._held.num_rows:
            self._held = next(self._batches, None)
            if self._held is None:
                return None
        return int(self._held["index"][-1].as_py()) + 1

    def below(self, end: int) -> pa.Table:
        """Those not given yet with a smaller index."""
        parts = []
        while True:
            held = self._held if self._held is not None else next(self._batches, None)
            if held is None:
                break
            inside = int(np.searchsorted(held["index"].to_numpy(), end))
            parts.append(held.slice(0, inside))
            self._held = held.slice(inside) if inside < held.num_rows else None
            if self._held is not None:
                break
        return pa.Table.from_batches(parts, self.schema)


class Writer:
    """One zstd Parquet file, durable when the block ends; of a segment of so many records, where that is known."""

    def __init__(self, path: Path, schema: pa.Schema, records: int = 0) -> None:
        self.schema, self.rows = schema, 0
        self._file = path.open("wb")
        self._writer = pq.ParquetWriter(self._file, schema, **_written(schema, records >= LARGE_RECORDS))
        self._held: list[pa.Table] = []
        self._rows = self._bytes = 0

    def add(self, part: pa.RecordBatch | pa.Table) -> None:
        """Adds rows behind the others."""
        table = part if isinstance(part, pa.Table) else pa.Table.from_batches([part])
        self._held.append(table if table.schema.equals(self.schema) else table.cast(self.schema))
        self._rows, self._bytes = self._rows + table.num_rows, self._bytes + table.nbytes
        if self._rows >= ROWS_MOST or self._bytes >= BYTES_MOST:
            self._write()

    def _write(self) -> None:
        table = pa.concat_tables(self._held)
        self.rows, self._held = self.rows + table.num_rows, []
        self._rows = self._bytes = 0
        if table.num_rows:
            self._writer.write_table(table, row_group_size=table.num_rows)

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if error is not None:
                return
            if self._held:
                self._write()
            self._writer.close()
            self._file.flush()
            os.fsync(self._file.fileno())
