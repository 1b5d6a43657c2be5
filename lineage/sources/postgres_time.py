"""PostgreSQL log times -> the model's times. The zone is an abbreviation, and most abbreviations are ambiguous."""

from __future__ import annotations

import datetime as dt
import functools
import re
import zoneinfo

from lineage.events import Quality, format_time

_LOG_TIME = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d{1,6})?)(?: ([A-Za-z]{1,6}|[+-]\d\d(?::?\d\d)?))?")
_UTC = frozenset({"UTC", "GMT", "Z"})


@functools.lru_cache(maxsize=32)
def zone(name: str | None) -> dt.tzinfo | None:
    """The zone of an IANA name; None when there is no such zone (times are then assumed to be UTC, and say so)."""
    if not name:
        return None
    try:
        return zoneinfo.ZoneInfo(name)
    except (ValueError, KeyError, OSError):
        return None


def log_time(text: str, declared: dt.tzinfo | None) -> tuple[str, Quality] | None:
    """Time and quality of `2026-11-21 01:49:32.009 UTC`; None when the text is not a log time.

    UTC, GMT and numeric offsets are exact. Any other abbreviation needs the declared zone, and must be a name that
    zone uses at that time; else the quality is `assumed_zone`.
    """
    match = _LOG_TIME.fullmatch(text)
    if match is None:
        return None
    date, clock, abbreviation = match.groups()
    try:
        moment = dt.datetime.fromisoformat(f"{date}T{clock}")
        if abbreviation in _UTC:
            return f"{date}T{clock}{'000000'[len(clock) - 9 :] if len(clock) > 8 else '.000000'}Z", "source"
        if abbreviation is not None and abbreviation[0] in "+-":
            return format_time(dt.datetime.fromisoformat(f"{date}T{clock}{_offset(abbreviation)}")), "source"
        return _in_declared_zone(moment, abbreviation, declared)
    except (ValueError, OverflowError):
        return None


def _offset(text: str) -> str:
    return f"{text}:00" if len(text) == 3 else text if ":" in text else f"{text[:3]}:{text[3:]}"


def _in_declared_zone(moment: dt.datetime, abbreviation: str | None, declared: dt.tzinfo | None) -> tuple[str, Quality]:
    if declared is None:
        return format_time(moment.replace(tzinfo=dt.UTC)), "assumed_zone"
    readings = [moment.replace(tzinfo=declared, fold=fold) for fold in (0, 1)]
    for reading in readings:
        if reading.tzname() == abbreviation:
            return format_time(reading), "source"
    return format_time(readings[0]), "assumed_zone"


def epoch_time(text: str) -> tuple[str, Quality] | None:
    """Time of a `%n` escape: seconds since 1970 with milliseconds."""
    try:
        return format_time(dt.datetime.fromtimestamp(float(text), dt.UTC)), "source"
    except (ValueError, OverflowError, OSError):
        return None
