"""Incoming formats: one pure module each, from the bytes of a body to events.

`FORMATS` maps the format's wire name to its `parse`. Every input item yields exactly one output, in order: an `Event`,
`Quarantined` (cannot be read; kept byte for byte) or `Skipped` (well-formed, tells of no access). A body of which
nothing is readable yields one `Quarantined` with code `body-unreadable` and position `body`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from lineage.errors import FormatUnknown
from lineage.events import Event, Quarantined, Skipped
from lineage.sources import (
    debezium,
    events,
    gateway,
    hoop,
    pgoutput,
    pgstate,
    postgres_csvlog,
    postgres_jsonlog,
    postgres_stderr,
    teleport,
)

Parse = Callable[..., Iterator[Event | Quarantined | Skipped]]

FORMATS: dict[str, Parse] = {
    "events": events.parse,
    "gateway": gateway.parse,
    "postgres-csvlog": postgres_csvlog.parse,
    "postgres-jsonlog": postgres_jsonlog.parse,
    "postgres-stderr": postgres_stderr.parse,
    "pgoutput": pgoutput.parse,
    "pgstate": pgstate.parse,
    "debezium": debezium.parse,
    "teleport": teleport.parse,
    "hoop": hoop.parse,
}


def parse(format: str, body: bytes, **options: Any) -> Iterator[Event | Quarantined | Skipped]:
    """The outputs of a body in one of `FORMATS`. Options: `feed`, `line_prefix`, `timezone`, `key`, `unavailable`.

    Raises `FormatUnknown` for a name that is not built; nothing else.
    """
    if format not in FORMATS:
        raise FormatUnknown(formats=", ".join(FORMATS))
    return FORMATS[format](body, **options)
