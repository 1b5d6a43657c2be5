"""Rows as files: what stands in one cell of CSV, one line of JSON, one column of Parquet. Pure."""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, Protocol

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from lineage import ocsf

FORMULA = ("=", "+", "-", "@", "\t", "\r")
Row = Mapping[str, Any]


def cell(value: Any) -> str:
    """One CSV cell; text that a spreadsheet would run as a formula gets a leading apostrophe (OWASP)."""
    if value is None:
        return ""
    if isinstance(value, (list, dict)):
        value = msgspec.json.encode(value).decode()
    text = value.isoformat() if isinstance(value, dt.datetime) else str(value)
    return f"'{text}" if text.startswith(FORMULA) else text


def flat(row: Row) -> dict[str, Any]:
    """Lists and objects as their JSON text."""
    return {k: msgspec.json.encode(v).decode() if isinstance(v, (dict, list)) else v for k, v in row.items()}


def as_csv(rows: Sequence[Row]) -> bytes:
    """All rows at once; the columns are those that any of them has."""
    buffer = io.StringIO()
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.writer(buffer)
    writer.writerow(columns)
    writer.writerows([cell(row.get(name)) for name in columns] for row in rows)
    return buffer.getvalue().encode()


class Writer(Protocol):
    """Takes rows piece by piece and writes them to a file; `end` writes what is still due."""

    def write(self, rows: Sequence[Row]) -> None: ...
    def end(self) -> None: ...


class Csv:
    """One line of names, one line a row, UTF-8, quoted as RFC 4180 has it."""

    def __init__(self, file: IO[bytes], schema: pa.Schema) -> None:
        self.file, self.names = file, schema.names
        self._lines([self.names])

    def write(self, rows: Sequence[Row]) -> None:
        self._lines([cell(row.get(name)) for name in self.names] for row in rows)

    def _lines(self, lines: Any) -> None:
        buffer = io.StringIO()
        csv.writer(buffer).writerows(lines)
        self.file.write(buffer.getvalue().encode("utf-8", "replace"))

    def end(self) -> None:
        """Nothing is due."""


class Lines:
    """One JSON object a line."""

    def __init__(self, file: IO[bytes], schema: pa.Schema) -> None:
        self.file = file

    def write(self, rows: Sequence[Row]) -> None:
        self.file.write(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))

    def end(self) -> None:
        """Nothing is due."""


class Ocsf(Lines):
    """One OCSF event a line; of records alone."""

    def write(self, rows: Sequence[Row]) -> None:
        super().write([ocsf.event(row) for row in rows])


class Json:
    """One array of objects, each on a line of its own."""

    def __init__(self, file: IO[bytes], schema: pa.Schema) -> None:
        self.file, self.begun = file, False

    def write(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self.file.write((b",\n" if self.begun else b"[\n") + msgspec.json.encode(row))
            self.begun = True

    def end(self) -> None:
        self.file.write(b"\n]\n" if self.begun else b"[]\n")


class Parquet:
    """Columns with their types; lists and objects as JSON text."""

    def __init__(self, file: IO[bytes], schema: pa.Schema) -> None:
        self.schema = schema
        self.writer = pq.ParquetWriter(file, schema, compression="zstd")

    def write(self, rows: Sequence[Row]) -> None:
        self.writer.write_table(pa.Table.from_pylist([flat(row) for row in rows], schema=self.schema))

    def end(self) -> None:
        self.writer.close()


FORMS: dict[str, Callable[[IO[bytes], pa.Schema], Writer]] = {
    "csv": Csv,
    "json": Json,
    "ndjson": Lines,
    "parquet": Parquet,
    "ocsf": Ocsf,
}
"""How rows can be written; the name is also the file's ending."""


def forms(by: str) -> list[str]:
    """The forms that rows of this kind can have: OCSF tells of events."""
    return [name for name in FORMS if name != "ocsf" or by == "event"]
