"""Times and texts as they are printed: bounded, on one line, and a dash for what is not known."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

DASH = "–"
VALUE_CHARACTERS = 120


def moment(value: dt.datetime | str | None) -> str:
    """A time as `2026-11-21 04:49:32` (UTC), or a dash."""
    if value is None:
        return DASH
    at = dt.datetime.fromisoformat(value) if isinstance(value, str) else value
    return f"{at.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S}"


def short(value: Any, most: int = VALUE_CHARACTERS) -> str:
    """Text of at most `most` characters on one line; what was cut is said with its length."""
    text = " ".join(str(value).split()) if value not in (None, "") else DASH
    return text if len(text) <= most else f"{text[:most]} … ({len(text):,} characters)"


def listed(values: Sequence[Any] | None, most: int = 4) -> str:
    """The first few of a list, and how many more."""
    shown = [short(v, 60) for v in (values or ())[:most]]
    more = len(values or ()) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more > 0 else "") if shown else DASH


def counted(count: int, one: str, many: str) -> str:
    """ "1 item", "1,200 items"."""
    return f"{count:,} {one if count == 1 else many}"


def were_tested(count: int, deviating: int, one: str, many: str) -> str:
    """How many were tested and deviate, as a sentence."""
    whole = "was tested" if count == 1 else "were tested, all of them"
    return f"{counted(count, one, many)} {whole}; {counted(deviating, 'deviates', 'deviate')}."
