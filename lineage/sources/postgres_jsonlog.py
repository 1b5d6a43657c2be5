"""PostgreSQL jsonlog (15 and later) -> events (documentation, section 20.8.5)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import msgspec

from lineage.events import Event, Origin, Quarantined, Skipped
from lineage.sources import feed, postgres_log, postgres_time
from lineage.sources.feed import Item, JsonRefused
from lineage.sources.postgres_log import LogRecord


def parse(body: bytes, **options: Any) -> Iterator[Event | Quarantined | Skipped]:
    """One output for each object of a jsonlog file or feed. Options: `feed`, `timezone`. Never raises."""
    zone = postgres_time.zone(options.get("timezone"))
    for item in feed.object_items(body, bool(options.get("feed")), lenient=True):
        yield event(item, zone) if isinstance(item, Item) else item


def event(item: Item, zone: dt.tzinfo | None) -> Event | Quarantined | Skipped:
    """The one output of one jsonlog object. A key that comes twice is flagged; the last one is read."""
    try:
        members, sha256, flags = feed.json_item(item.raw)
    except JsonRefused as refusal:
        return item.quarantined(refusal.code, refusal.reason)
    if not isinstance(members, dict):
        return item.quarantined("not-an-object", "a jsonlog record is a JSON object")
    if b"\\u0000" in item.raw:
        members = {k: v.replace("\0", "\u2400") if isinstance(v, str) else v for k, v in members.items()}
        flags = (*flags, "nul_removed")
    if not (members.get("timestamp") and members.get("error_severity")):
        return item.quarantined("not-a-log-record", "a jsonlog record has timestamp and error_severity")
    output = postgres_log.interpret(record(members, flags), item, zone)
    if isinstance(output, Event):
        return msgspec.structs.replace(output, origin=Origin(sha256=sha256, position=item.position))
    return output


def record(members: dict[str, Any], flags: tuple[str, ...]) -> LogRecord:
    def text(name: str) -> str:
        value = members.get(name)
        if isinstance(value, str):
            return value
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""

    port = members.get("remote_port")
    return LogRecord(
        time=text("timestamp"),
        user=text("user"),
        database=text("dbname"),
        host=text("remote_host"),
        port=port if isinstance(port, int) and 0 <= port < 65536 else None,
        session_id=text("session_id"),
        line_num=text("line_num"),
        command_tag=text("ps"),
        session_start=text("session_start"),
        vxid=text("vxid"),
        txid=text("txid"),
        severity=text("error_severity"),
        sqlstate=text("state_code"),
        message=text("message"),
        detail=text("detail"),
        context=text("context"),
        query=text("statement"),
        application=text("application_name"),
        backend_type=text("backend_type"),
        flags=flags,
    )
