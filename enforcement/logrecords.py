"""PostgreSQL log files cut into records, and which records matter. Pure.

A splitter is fed bytes and yields whole records with the file offset behind each; it keeps the unfinished rest.
csvlog is cut as CSV (a statement may hold line ends), jsonlog by line, stderr by the declared `log_line_prefix`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import msgspec

RECORD_LIMIT_BYTES = 4 << 20
CSV_COLUMNS = (23, 24, 26)
CSV_TIME = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} ")


class Record(NamedTuple):
    """`raw` without its last line end; `end` is the offset in the file behind it; `length` exceeds raw when cut."""

    raw: bytes
    end: int
    length: int


class Splitter(Protocol):
    """Cuts one file. `rest()` yields what is left when the file is known to be finished."""

    def feed(self, data: bytes) -> Iterator[Record]: ...
    def rest(self) -> Iterator[Record]: ...


class CsvSplitter:
    """Records end at a line end outside quotes. One that has not the shape of a log record ends at its first line end.

    The latter happens when the server died in the middle of a line: without it one torn quote would turn all
    later records inside out. A statement cannot cause it, because quotes inside a field are doubled.
    """

    def __init__(self, offset: int) -> None:
        self._start = offset
        self._buffer = bytearray()
        self._scanned = 0
        self._quotes = 0
        self._dropped = 0

    def feed(self, data: bytes) -> Iterator[Record]:
        self._buffer += data
        begin = 0
        while True:
            newline = self._buffer.find(b"\n", self._scanned)
            if newline < 0:
                break
            self._quotes += self._buffer.count(b'"', self._scanned, newline)
            self._scanned = newline + 1
            if self._quotes % 2:
                continue
            end = self._record_end(begin)
            yield self._record(begin, end)
            begin = self._scanned = end
            self._start += self._dropped
            self._quotes = self._dropped = 0
        del self._buffer[:begin]
        self._start += begin
        self._scanned -= begin
        self._shorten()

    def rest(self) -> Iterator[Record]:
        while self._buffer:
            newline = self._buffer.find(b"\n") + 1 or len(self._buffer)
            yield self._record(0, newline)
            del self._buffer[:newline]
            self._start += newline + self._dropped
            self._dropped = self._scanned = self._quotes = 0

    def _record_end(self, begin: int) -> int:
        whole = bytes(self._buffer[begin : self._scanned])
        first_line = whole.find(b"\n") + 1
        if self._dropped or first_line == len(whole) or csv_fields(whole) is not None:
            return self._scanned
        return begin + first_line

    def _record(self, begin: int, end: int) -> Record:
        raw = bytes(self._buffer[begin:end]).rstrip(b"\r\n")
        return Record(raw[:RECORD_LIMIT_BYTES], self._start + self._dropped + end, len(raw) + self._dropped)

    def _shorten(self) -> None:
        # A statement of a gigabyte must not fill the memory: keep its head, and count the rest up to the record's end.
        extra = len(self._buffer) - 2 * RECORD_LIMIT_BYTES
        if extra > 0:
            self._quotes += self._buffer.count(b'"', self._scanned)
            del self._buffer[RECORD_LIMIT_BYTES : RECORD_LIMIT_BYTES + extra]
            self._dropped += extra
            self._scanned = len(self._buffer)


class LineSplitter:
    """jsonlog: one record a line."""

    def __init__(self, offset: int) -> None:
        self._start = offset
        self._buffer = bytearray()
        self._dropped = 0

    def feed(self, data: bytes) -> Iterator[Record]:
        self._buffer += data
        *lines, tail = self._buffer.split(b"\n")
        for line in lines:
            self._start += len(line) + 1 + self._dropped
            yield Record(bytes(line[:RECORD_LIMIT_BYTES]).rstrip(b"\r"), self._start, len(line) + self._dropped)
            self._dropped = 0
        self._buffer = bytearray(tail)
        extra = len(self._buffer) - 2 * RECORD_LIMIT_BYTES
        if extra > 0:
            del self._buffer[RECORD_LIMIT_BYTES : RECORD_LIMIT_BYTES + extra]
            self._dropped += extra

    def rest(self) -> Iterator[Record]:
        if self._buffer:
            yield from self.feed(b"\n")
            self._start -= 1


class StderrSplitter:
    """An entry is a line with the prefix and a severity, and what follows up to the next: continuation lines (tab) and
    DETAIL, HINT, QUERY, CONTEXT, LOCATION, STATEMENT lines. It is whole when the next one begins, or by `rest`.
    """

    def __init__(self, offset: int, line_prefix: str) -> None:
        self._lines = LineSplitter(offset)
        self._first_line = re.compile(
            prefix_pattern(line_prefix) + rb"(?:LOG|ERROR|FATAL|PANIC|WARNING|NOTICE|INFO|DEBUG\d?):  "
        )
        self._entry: list[Record] = []

    def feed(self, data: bytes) -> Iterator[Record]:
        for line in self._lines.feed(data):
            yield from self._add(line)

    def rest(self) -> Iterator[Record]:
        for line in self._lines.rest():
            yield from self._add(line)
        yield from self.settle()

    def settle(self) -> Iterator[Record]:
        """The entry at hand, when nothing was written for a while: nothing more will belong to it."""
        if self._entry:
            raw = b"\n".join(line.raw for line in self._entry)
            length = sum(line.length + 1 for line in self._entry) - 1
            yield Record(raw[:RECORD_LIMIT_BYTES], self._entry[-1].end, length)
            self._entry = []

    def _add(self, line: Record) -> Iterator[Record]:
        if self._first_line.match(line.raw):
            yield from self.settle()
        self._entry.append(line)


PREFIX_FIELDS = {
    "t": rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [^ :\[\]]+",
    "m": rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [^ :\[\]]+",
    "n": rb"\d+\.\d{3}",
    "s": rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [^ :\[\]]+",
    "p": rb"\d+", "P": rb"\d*", "l": rb"\d+", "x": rb"\d+", "Q": rb"-?\d+", "c": rb"[0-9a-f]+\.[0-9a-f]+",
    "v": rb"[^ ]*", "e": rb"[0-9A-Z]{5}", "q": rb"",
}  # fmt: skip


def prefix_pattern(line_prefix: str) -> bytes:
    """A regular expression for `log_line_prefix`: text fields such as %a and %u match lazily, the rest strictly."""
    pattern, optional = b"", False
    for literal, width, field in re.findall(r"([^%]+)|%(-?\d*)([a-zA-Z%])", line_prefix):
        if field == "q":
            pattern, optional = pattern + b"(?:", True
        elif literal or field == "%":
            pattern += re.escape(literal.encode() or b"%")
        else:
            padding = b" *" if width else b""
            pattern += padding + PREFIX_FIELDS.get(field, rb"[^\t]*?") + padding
    return b"^" + pattern + (b")?" if optional else b"")


def csv_fields(raw: bytes) -> list[str] | None:
    """The fields of one csvlog record, or None when it has not the shape of one."""
    try:
        fields = next(csv.reader(io.StringIO(raw.decode("utf-8", "replace"), newline=""), strict=True), [])
    except csv.Error:
        return None
    return fields if len(fields) in CSV_COLUMNS and CSV_TIME.match(fields[0]) else None


csv.field_size_limit(8 << 20)

INTERESTING = re.compile(
    r"AUDIT:|connection (?:received|authorized|authenticated)|replication connection authorized|disconnection:"
    r"|duration: |statement: |execute |database system (?:is|was)|received .*shutdown|terminated by signal"
    r'|all server processes terminated|parameter ".*" (?:changed|removed)|server process .* (?:exited|was terminated)'
    r"|starting PostgreSQL|shutting down|redo (?:starts|done)|touchstone-canary"
)
SEVERE = frozenset({"ERROR", "FATAL", "PANIC"})


def is_interesting(log_format: str, raw: bytes) -> bool:
    """Whether a record is sent. What cannot be read is sent too: the store quarantines it and says so."""
    if log_format == "csvlog":
        fields = csv_fields(raw)
        return fields is None or _matters(fields[11], fields[12], fields[13])
    if log_format == "jsonlog":
        try:
            record = msgspec.json.decode(raw, type=JsonRecord)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return True
        return _matters(record.error_severity, record.state_code, record.message)
    text = raw[:2048].decode("utf-8", "replace")
    return INTERESTING.search(text) is not None or re.search(r"(?:ERROR|FATAL|PANIC):  ", text) is not None


def whole_again(log_format: str, head: bytes) -> bytes:
    """A record that was cut for its size, closed so that it can be read: the field in which it was cut is shorter."""
    if log_format == "stderr":
        return head
    for cut in range(16):
        part = head[: len(head) - cut]
        if log_format == "jsonlog" and is_json(part + b'"}'):
            return part + b'"}'
        if log_format == "csvlog" and not part.endswith((b'"', b"\\")):
            columns = len(next(csv.reader(io.StringIO(part.decode("utf-8", "replace") + '"', newline="")), []))
            return part + b'"' + b"," * (CSV_COLUMNS[-1] - columns)
    return head


def is_json(text: bytes) -> bool:
    """Whether this is one JSON value."""
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


class JsonRecord(msgspec.Struct, frozen=True):
    """What the choice needs of a jsonlog record."""

    error_severity: str = ""
    state_code: str = ""
    message: str = ""


def _matters(severity: str, state_code: str, message: str) -> bool:
    # The state code too: severities are written in the server's language.
    failed = severity in SEVERE or state_code[:2] not in ("", "00", "01", "02")
    return failed or INTERESTING.search(message[:256]) is not None
