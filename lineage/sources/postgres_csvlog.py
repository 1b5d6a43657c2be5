"""PostgreSQL csvlog -> events: 26 columns from PostgreSQL 14, 24 in 13, 23 before (documentation, section 20.8.4)."""

from __future__ import annotations

import csv
import datetime as dt
from collections.abc import Iterator
from typing import Any

from lineage import events
from lineage.events import Event, Quarantined, Skipped
from lineage.sources import feed, postgres_log, postgres_time
from lineage.sources.feed import Item
from lineage.sources.postgres_log import LogRecord

COLUMNS_AT_LEAST = 23
COLUMNS_TO_MESSAGE = 14


def parse(body: bytes, **options: Any) -> Iterator[Event | Quarantined | Skipped]:
    """One output for each record of a csvlog file or feed. Options: `feed`, `timezone`. Never raises."""
    zone = postgres_time.zone(options.get("timezone"))
    for item in feed.text_items(body) if options.get("feed") else records(body):
        yield event(item, zone) if isinstance(item, Item) else item


def records(body: bytes) -> Iterator[Item]:
    """The records of a file: a newline ends one when its quotes are balanced. The last may be cut off."""
    index = 0
    held: list[bytes] = []
    odd = 0
    for line in body.split(b"\n"):
        held.append(line)
        odd ^= line.count(b'"') & 1
        if odd:
            continue
        raw = b"\n".join(held) if len(held) > 1 else line
        held.clear()
        if raw.strip():
            yield Item(index, raw)
            index += 1
    if held:
        yield Item(index, b"\n".join(held))


def event(item: Item, zone: dt.tzinfo | None) -> Event | Quarantined | Skipped:
    """The one output of one csvlog record."""
    text, flags = events.clean_text(item.raw)
    cut = text.count('"') & 1
    try:
        rows = list(csv.reader((text,)))
    except csv.Error:
        return item.quarantined("not-csv", "the record is not one CSV record")
    fields = rows[0] if rows else []
    if len(fields) < COLUMNS_AT_LEAST:
        if len(fields) < COLUMNS_TO_MESSAGE:
            return item.quarantined("columns", f"{len(fields)} columns; a csvlog record has 23, 24 or 26")
        cut = 1
        fields += [""] * (COLUMNS_AT_LEAST - len(fields))
    if cut:
        flags = (*flags, "truncated")
    return postgres_log.interpret(record(fields, flags), item, zone)


def record(fields: list[str], flags: tuple[str, ...]) -> LogRecord:
    host, port = address(fields[4])
    return LogRecord(
        time=fields[0],
        user=fields[1],
        database=fields[2],
        host=host,
        port=port,
        session_id=fields[5],
        line_num=fields[6],
        command_tag=fields[7],
        session_start=fields[8],
        vxid=fields[9],
        txid=fields[10],
        severity=fields[11],
        sqlstate=fields[12],
        message=fields[13],
        detail=fields[14],
        context=fields[18],
        query=fields[19],
        application=fields[22],
        backend_type=fields[23] if len(fields) > 23 else "",
        flags=flags,
    )


def address(text: str) -> tuple[str, int | None]:
    """Host and port of `127.0.0.1:34164`, `::1:34164` or `[local]`."""
    host, colon, port = text.rpartition(":")
    if colon and port.isascii() and port.isdigit() and len(port) < 6:
        return host, int(port)
    return text, None
