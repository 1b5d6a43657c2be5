"""COPY … TO STDOUT on its way to the client: rows found in a stream cut anywhere, masked by column, written back.

What is not masked keeps its bytes. Text and CSV as PostgreSQL writes them (in an encoding that extends ASCII), and binary.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from enforcement.gateway.messages import ProtocolViolation
from lineage.statements import CopyDetails

LONGEST_ROW_BYTES = 256 * 1024 * 1024
"""Rows are masked whole; a longer one ends the COPY."""
_SIGNATURE = b"PGCOPY\n\xff\r\n\0"
_ESCAPES = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_WRITTEN = {value: b"\\" + letter for letter, value in _ESCAPES.items()}
_ESCAPED = re.compile(rb"\\(.)", re.S)


class CopyBroken(ProtocolViolation):
    """The database's COPY stream ends within a row, or is not what its format says."""


class RowPlan(Protocol):
    """What masks rows: `masking.Plan`."""

    @property
    def is_plain(self) -> bool: ...
    @property
    def places(self) -> tuple[int, ...]: ...
    @property
    def counts(self) -> dict[str, int]: ...
    @property
    def columns(self) -> tuple[str, ...]: ...
    def may_change(self, data: bytes) -> bool: ...
    def row(self, values: Sequence[bytes | None]) -> list[bytes | None]: ...


class CopyMasker:
    """Masks one COPY stream. `planner` gives the plan for rows of so many columns; None: everything goes on as it is."""

    def __init__(self, details: CopyDetails, planner: Callable[[int], RowPlan] | None) -> None:
        self._planner = planner
        self._plan: RowPlan | None = None
        self._buffer = b""
        self._format: _Text | _Csv | _Binary = _FORMATS.get(details.format, _Text)(details)

    @property
    def counts(self) -> dict[str, int]:
        """Masked values by class, so far."""
        return self._plan.counts if self._plan else {}

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that are masked in every row."""
        return self._plan.columns if self._plan else ()

    def may_change(self, data: bytes) -> bool:
        """Whether `feed` could change any of the rows of which `data` is the messages, whole rows; False: need not be fed."""
        if self._planner is None:
            return False
        if self._plan is None or self._buffer:
            return True
        return not self._plan.is_plain and (self._format.hides(data) or self._plan.may_change(data))

    def feed(self, data: bytes) -> bytes:
        """The masked form of the rows that end in `data`; the rest is kept until more comes."""
        if self._planner is None:
            return data
        self._buffer += data
        parts, at = [], 0
        for start, end in self._format.rows(self._buffer):
            parts.append(self._row(self._buffer[start:end]))
            at = end
        self._buffer = self._buffer[at:]
        if len(self._buffer) > LONGEST_ROW_BYTES:
            raise CopyBroken("A row of the COPY is longer than can be masked.")
        return b"".join(parts)

    def finish(self) -> bytes:
        """Nothing: all rows have been given. Raises `CopyBroken` where the stream ended within one."""
        if self._buffer:
            raise CopyBroken("The COPY ended within a row.")
        return b""

    def _row(self, raw: bytes) -> bytes:
        fields = self._format.fields(raw)
        if fields is None:
            return raw
        if self._plan is None:
            assert self._planner is not None
            self._plan = self._planner(len(fields))
        values: list[bytes | None] = [None] * len(fields)
        places = self._plan.places
        for place in places:
            values[place] = self._format.value(fields[place])
        shown, is_same = self._plan.row(values), True
        for place in places:
            if shown[place] is not values[place] and shown[place] != values[place]:
                fields[place], is_same = self._format.written(shown[place], fields[place]), False
        return raw if is_same else self._format.joined(fields)


def _split(line: bytes, delimiter: bytes, field: re.Pattern[bytes]) -> list[bytes]:
    """The fields of a row, each as the pattern takes it up to a delimiter or the end. Raises CopyBroken."""
    at, found = 0, []
    while True:
        match = field.match(line, at)
        if match is None or (match.end() < len(line) and line[match.end() : match.end() + 1] != delimiter):
            raise CopyBroken("A row of the COPY cannot be read.")
        found.append(match[0])
        at = match.end() + 1
        if match.end() == len(line):
            return found


class _Text:
    """The text format: one line a row, backslashes before what is special."""

    def __init__(self, details: CopyDetails) -> None:
        self.delimiter = (details.delimiter or "\t").encode()
        self.null = (details.null if details.null is not None else "\\N").encode()
        self.is_header = details.header
        self._split = re.compile(rb"(?:[^\\" + re.escape(self.delimiter) + rb"]|\\.)*+", re.S)
        self._special = re.compile(rb"[\b\f\n\r\t\v\\" + re.escape(self.delimiter) + rb"]")

    def hides(self, data: bytes) -> bool:
        """Whether a value may be written in other bytes than its own, or a row may go on behind `data`."""
        return b"\\" in data or not data.endswith(b"\n")

    def rows(self, data: bytes) -> Iterator[tuple[int, int]]:
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            yield start, end + 1
            start = end + 1

    def fields(self, raw: bytes) -> list[bytes] | None:
        if self.is_header:
            self.is_header = False
            return None
        if raw in (b"\\.\n", b"\\.\r\n"):
            return None
        line = raw[:-1]
        if b"\\" + self.delimiter not in line:
            return line.split(self.delimiter)
        return _split(line, self.delimiter, self._split)

    def value(self, field: bytes) -> bytes | None:
        if field == self.null:
            return None
        return _ESCAPED.sub(lambda m: _ESCAPES.get(m[1], m[1]), field) if b"\\" in field else field

    def written(self, value: bytes | None, _: bytes) -> bytes:
        if value is None:
            return self.null
        return self._special.sub(lambda m: _WRITTEN.get(m[0]) or b"\\" + m[0], value)

    def joined(self, fields: list[bytes]) -> bytes:
        return self.delimiter.join(fields) + b"\n"


class _Csv:
    """CSV: quotes around what is special, and the escape character before a quote within."""

    def __init__(self, details: CopyDetails) -> None:
        self.delimiter = (details.delimiter or ",").encode()
        self.quote = (details.quote or '"').encode()
        self.escape = (details.escape or details.quote or '"').encode()
        self.null = (details.null or "").encode()
        self.is_header = details.header
        quote, escape, delimiter = re.escape(self.quote), re.escape(self.escape), re.escape(self.delimiter)
        self._field = re.compile(
            quote + rb"(?:" + escape + rb"[" + quote + escape + rb"]|[^" + quote + rb"])*+" + quote
            + rb"|[^" + quote + delimiter + rb"\r\n]*+", re.S
        )  # fmt: skip
        self._row = re.compile(
            rb"(?:[^\n" + quote + rb"]++|" + quote + rb"(?:" + escape + rb"[" + quote + escape + rb"]|[^" + quote + rb"])*+"
            + quote + rb")*+\n", re.S
        )  # fmt: skip
        self._escaped = re.compile(escape + rb"([" + quote + escape + rb"])", re.S)

    def hides(self, data: bytes) -> bool:
        """The same: only quoted values are written otherwise, or go on in another line."""
        return self.quote in data or not data.endswith(b"\n")

    def rows(self, data: bytes) -> Iterator[tuple[int, int]]:
        """A line ends a row where no quote is open; within quotes an escape hides a quote or an escape behind it."""
        start = 0
        while match := self._row.match(data, start):
            yield start, match.end()
            start = match.end()

    def fields(self, raw: bytes) -> list[bytes] | None:
        if self.is_header:
            self.is_header = False
            return None
        return _split(raw[:-1], self.delimiter, self._field)

    def value(self, field: bytes) -> bytes | None:
        if field[:1] == self.quote and len(field) > 1:
            return self._escaped.sub(rb"\1", field[1:-1])
        return None if field == self.null else field

    def written(self, value: bytes | None, before: bytes) -> bytes:
        if value is None:
            return self.null
        special = (self.delimiter, self.quote, b"\n", b"\r")
        if before[:1] != self.quote and value != self.null and not any(mark in value for mark in special):
            return value
        inner = value.replace(self.escape, self.escape * 2) if self.escape != self.quote else value
        return self.quote + inner.replace(self.quote, self.escape + self.quote) + self.quote

    def joined(self, fields: list[bytes]) -> bytes:
        return self.delimiter.join(fields) + b"\n"


class _Binary:
    """The binary format: a header, rows of counted fields, and -1 at the end."""

    def __init__(self, _: CopyDetails) -> None:
        self.has_begun = False

    def rows(self, data: bytes) -> Iterator[tuple[int, int]]:
        start = 0
        if not self.has_begun:
            head = len(_SIGNATURE) + 8
            if len(data) < head:
                return
            if not data.startswith(_SIGNATURE):
                raise CopyBroken("The binary COPY does not begin as one.")
            start = head + struct.unpack_from("!I", data, head - 4)[0]
            if len(data) < start:
                return
            self.has_begun = True
            yield 0, start
        while (end := self._row_end(data, start)) is not None:
            yield start, end
            start = end

    def hides(self, _: bytes) -> bool:
        """Values are their own bytes, and each message is a row."""
        return False

    def _row_end(self, data: bytes, at: int) -> int | None:
        if len(data) < at + 2:
            return None
        count = struct.unpack_from("!h", data, at)[0]
        at += 2
        for _ in range(max(count, 0)):
            if len(data) < at + 4:
                return None
            at += 4 + max(struct.unpack_from("!i", data, at)[0], 0)
        return at if at <= len(data) else None

    def fields(self, raw: bytes) -> list[bytes] | None:
        if raw.startswith(_SIGNATURE) or raw == b"\xff\xff":
            return None
        at, found = 2, []
        while at < len(raw):
            end = at + 4 + max(struct.unpack_from("!i", raw, at)[0], 0)
            found.append(raw[at:end])
            at = end
        return found

    def value(self, field: bytes) -> bytes | None:
        return None if field[:4] == b"\xff\xff\xff\xff" else field[4:]

    def written(self, value: bytes | None, _: bytes) -> bytes:
        return b"\xff\xff\xff\xff" if value is None else struct.pack("!i", len(value)) + value

    def joined(self, fields: list[bytes]) -> bytes:
        return struct.pack("!h", len(fields)) + b"".join(fields)


_FORMATS: dict[str, type[_Text] | type[_Csv] | type[_Binary]] = {"text": _Text, "csv": _Csv, "binary": _Binary}
