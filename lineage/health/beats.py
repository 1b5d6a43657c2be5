"""Heartbeats: what a source says of itself every few seconds."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from django.utils import timezone

from lineage import ledger
from lineage.events import Custody, Event, format_time
from lineage.models import Source, SourceHealth

READS = frozenset({"", "connected"})


def beat(
    source: Source,
    *,
    last_sequence: int | None,
    position: str,
    reported_at: dt.datetime | None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Notes a heartbeat; the first of each minute becomes a custody record. `detail` is what the collector says of itself."""
    now, said = timezone.now(), detail or {}
    minute = int(now.timestamp()) // 60
    known, _ = SourceHealth.objects.get_or_create(source=source)
    fresh = known.logged_minute != minute
    known.usual_seconds = _usual(known, now)
    _note_backlog(known, last_sequence, said.get("spooled"), now)
    _note_reader(known, str(said.get("reader") or "")[:200], now)
    known.heartbeat_at, known.reported_at = now, reported_at
    known.last_sequence, known.last_position = last_sequence, position
    known.logged_minute = minute
    known.save()
    if fresh:
        custody = Custody(
            type="heartbeat", subject=source.name, detail=f"last sequence {last_sequence}", count=last_sequence
        )
        ledger.record(
            Event(
                kind="custody",
                occurred_at=format_time(now),
                environment=source.environment,
                datasource=source.datasource or None,
                custody=custody,
            )
        )


def _usual(known: SourceHealth, now: dt.datetime) -> float | None:
    """The usual time between heartbeats. A silence counts little, so that it does not become usual."""
    if known.heartbeat_at is None:
        return None
    passed, usual = (now - known.heartbeat_at).total_seconds(), known.usual_seconds
    return passed if usual is None else usual + 0.2 * (min(passed, 4 * usual) - usual)


def _note_backlog(known: SourceHealth, last_sequence: int | None, spooled: object, now: dt.datetime) -> None:
    known.pending = max(0, spooled - last_sequence) if isinstance(spooled, int) and last_sequence is not None else None
    if not known.pending or last_sequence != known.last_sequence:
        known.waiting_since = None
    elif known.waiting_since is None:
        known.waiting_since = now


def _note_reader(known: SourceHealth, reader: str, now: dt.datetime) -> None:
    text = "" if reader in READS else reader.replace("\0", "\u2400")
    if not text:
        known.reader_since = None
    elif not known.reader:
        known.reader_since = now
    known.reader = text
