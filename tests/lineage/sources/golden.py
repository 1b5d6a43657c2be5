"""What a real PostgreSQL 15 with pgAudit wrote while it ran the scripts beside it, and how the tests ask for it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import msgspec

from lineage import events, sources
from lineage.events import Event, Quarantined, Skipped

FOLDER = Path(__file__).parent / "golden"
DEFAULT = "%m [%p] %q%u@%d "
RDS = "%t:%r:%u@%d:[%p]:"
WITH_APPLICATION = "%m [%p] %q%u@%d %a "
EVERYTHING = "app=%a,user=%u,db=%d,r=%r,h=%h,b=%b,p=%5p,t=%t,n=%n,s=%s,c=%c,l=%l,v=%v,x=%x,e=%e,i=%i,Q=%Q,%%: "


def read(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def parse(format_name: str, body: bytes, **options: Any) -> list[Event | Quarantined | Skipped]:
    """All outputs; every event must survive the model's own decoder, and be without what only the store sets."""
    outputs = list(sources.parse(format_name, body, **options))
    for output in outputs:
        if isinstance(output, Event):
            assert events.decode_event(events.encode(output)) == output
            assert output.source_event_id
            assert output.class_
            assert output.origin
            assert output.origin.sha256
            assert (output.event_id, output.received_at, output.source_id, output.environment, output.source) == (
                None,
            ) * 5
    return outputs


def only_events(format_name: str, body: bytes, **options: Any) -> list[Event]:
    return [output for output in parse(format_name, body, **options) if isinstance(output, Event)]


def one(format_name: str, body: bytes, **options: Any) -> Any:
    (output,) = parse(format_name, body, **options)
    return output


def texts(found: list[Event]) -> list[str]:
    return [event.statement.text or "" for event in found if event.statement]


def with_text(found: list[Event], part: str) -> list[Event]:
    return [event for event in found if event.statement and part in (event.statement.text or "")]


def feed_of(records: list[Any], first: int = 1) -> bytes:
    """A feed body: bytes become text, or base64 where they are not UTF-8; anything else is JSON."""
    lines = []
    for sequence, record in enumerate(records, first):
        line: dict[str, Any] = {"sequence": sequence, "position": f"log:{sequence}"}
        if isinstance(record, bytes):
            try:
                line["record"] = record.decode()
            except UnicodeDecodeError:
                line["record_base64"] = base64.b64encode(record).decode()
        else:
            line["record"] = record
        lines.append(msgspec.json.encode(line))
    return b"\n".join(lines)


def csv_line(
    message: str, *, context: str = "", query: str = "", severity: str = "LOG", state: str = "00000", **more: str
) -> bytes:
    """One csvlog record of 26 columns around a message."""
    fields = [
        more.get("time", "2026-11-21 04:35:20.553 UTC"), "alice", "shop", "10065", "127.0.0.1:34164", "6b011f88.2751",
        more.get("line", "13"), more.get("tag", "SELECT"), "2026-11-21 04:35:20 UTC", "3/65", more.get("txid", "743"),
        severity, state, message, more.get("detail", ""), "", "", "", context, query, "", "", more.get("app", "psql"),
        "client backend", "", "0",
    ]  # fmt: skip
    return ",".join('"' + field.replace('"', '""') + '"' if field else "" for field in fields).encode(
        "utf-8", "surrogateescape"
    )
