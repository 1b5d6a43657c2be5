"""Times as whole microseconds since 1970, as files and arrays have them. Pure."""

from __future__ import annotations

import datetime as dt

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def microseconds(at: object) -> int:
    """Raises TypeError for what is no moment."""
    if not isinstance(at, dt.datetime):
        raise TypeError("A moment was expected.")
    return (at - EPOCH) // dt.timedelta(microseconds=1)


def moment(at: int) -> dt.datetime:
    return EPOCH + dt.timedelta(0, 0, at)
