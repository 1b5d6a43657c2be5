"""Times, bounded texts and row keys as events hold them. Pure."""

from __future__ import annotations

import datetime as dt
import hashlib
import re

from lineage.events.model import Statement, Value
from lineage.events.terms import HEAD_BYTES, STATEMENT_LIMIT_BYTES, VALUE_LIMIT_BYTES

FIRST = dt.datetime.min.replace(tzinfo=dt.UTC)
LAST = dt.datetime.max.replace(tzinfo=dt.UTC)


def format_time(moment: dt.datetime) -> str:
    """RFC 3339 UTC with exactly six fraction digits. Naive datetimes are refused with ValueError."""
    if moment.tzinfo is None:
        raise ValueError("a time without zone cannot enter an event")
    return moment.astimezone(dt.UTC).isoformat(timespec="microseconds")[:26] + "Z"


def shifted(moment: dt.datetime, by: dt.timedelta) -> dt.datetime:
    """The time so much later or earlier; the first or last that there is where it would lie beyond years 1 to 9999.

    What a source says its time is may lie anywhere in them, and what is shown around it must not fail.
    """
    try:
        return moment + by
    except OverflowError:
        return LAST if by > dt.timedelta(0) else FIRST


CANONICAL_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
_RFC3339 = re.compile(r"^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:?\d\d)$")


def parse_time(text: str) -> dt.datetime:
    """An aware UTC datetime from RFC 3339 text, cut to microseconds. ValueError says what is missing."""
    if len(text) == 27 and CANONICAL_TIME.fullmatch(text):
        return dt.datetime.fromisoformat(text)
    match = _RFC3339.match(text)
    if match is None:
        raise ValueError("write times as RFC 3339 with a zone, such as 2026-11-21T01:49:32.009748Z")
    date, clock, fraction, zone = match.groups()
    micros = (fraction or "").ljust(6, "0")[:6]
    offset = "+00:00" if zone == "Z" else zone if ":" in zone else f"{zone[:3]}:{zone[3:]}"
    try:
        return dt.datetime.fromisoformat(f"{date}T{clock}.{micros}{offset}").astimezone(dt.UTC)
    except OverflowError as error:
        raise ValueError("the time is before year 1 or after year 9999 in UTC") from error


def bounded_statement(text: str, *, redaction: str | None = None) -> Statement:
    """A `Statement` within the limit: whole up to 64 KiB of UTF-8, else its first KiB with length and hash."""
    raw = text.encode("utf-8", "surrogatepass")
    digest = hashlib.sha256(raw).hexdigest()
    if len(raw) <= STATEMENT_LIMIT_BYTES:
        return Statement(text=text, sha256=digest, length=len(raw), state="whole", redaction=redaction)  # type: ignore[arg-type]
    return Statement(
        text=cut(raw, HEAD_BYTES),
        sha256=digest,
        length=len(raw),
        state="truncated",
        redaction=redaction,  # type: ignore[arg-type]
    )


def bounded_value(column: str, value: str | None, type_name: str | None = None) -> Value:
    """A `Value` within the limit; None becomes the state null; over 16 KiB becomes its first KiB, truncated."""
    if value is None:
        return Value(column=column, type=type_name, state="null")
    raw = value.encode("utf-8", "surrogatepass")
    if len(raw) <= VALUE_LIMIT_BYTES:
        return Value(column=column, type=type_name, value=value)
    return Value(column=column, type=type_name, state="truncated", value=cut(raw, HEAD_BYTES))


def cut(raw: bytes, limit: int) -> str:
    """The longest prefix of at most `limit` bytes that ends between characters."""
    return raw[:limit].decode("utf-8", "ignore")


def clean_text(raw: bytes) -> tuple[str, tuple[str, ...]]:
    """Text from any bytes, and the flags that say what had to be replaced.

    Invalid UTF-8 becomes U+FFFD (`invalid_utf8`), NUL becomes U+2400 (`nul_removed`): PostgreSQL text holds neither.
    """
    flags = []
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("utf-8", "replace")
        flags.append("invalid_utf8")
    if "\0" in text:
        text = text.replace("\0", "\u2400")
        flags.append("nul_removed")
    return text, tuple(flags)


def key_text(values: tuple[str | None, ...] | list[str | None]) -> str:
    """One text for a row key, in key order: parts joined by commas; backslash escapes a comma or backslash.

    `("4711",)` is `4711`; `("7", "a,b")` is `7,a\\,b`. An unknown part is `?`. The same in URLs, search and pages.
    """
    return ",".join(["?" if v is None else _escaped(v) if "," in v or "\\" in v else v for v in values])


def _escaped(part: str) -> str:
    return part.replace("\\", "\\\\").replace(",", "\\,")


def split_key(text: str) -> list[str]:
    """The parts of a `key_text`."""
    parts, part, escaped = [], "", False
    for char in text:
        if escaped:
            part, escaped = part + char, False
        elif char == "\\":
            escaped = True
        elif char == ",":
            parts.append(part)
            part = ""
        else:
            part += char
    return [*parts, part]
