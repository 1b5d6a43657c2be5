"""What is heard of sources: heartbeats, and what they say about clocks."""

from __future__ import annotations

import datetime as dt

from django.utils import timezone

from lineage import ledger
from lineage.events import Custody, Event, format_time
from lineage.models import Source, SourceHealth

SKEW_SECONDS = 30


def beat(source: Source, *, last_sequence: int | None, position: str, reported_at: dt.datetime | None) -> None:
    """Notes a heartbeat; the first of each minute becomes a custody record, and a wrong clock another."""
    now = timezone.now()
    minute = int(now.timestamp()) // 60
    known, _ = SourceHealth.objects.get_or_create(source=source)
    fresh = known.logged_minute != minute
    known.heartbeat_at, known.reported_at = now, reported_at
    known.last_sequence, known.last_position = last_sequence, position
    known.logged_minute = minute
    known.save()
    if not fresh:
        return
    _record(source, "heartbeat", f"last sequence {last_sequence}", now, last_sequence)
    if reported_at and abs((now - reported_at).total_seconds()) > SKEW_SECONDS:
        _record(source, "clock_skew", f"its clock differs by {(reported_at - now).total_seconds():.0f} s", now, None)


def _record(source: Source, kind: str, detail: str, now: dt.datetime, count: int | None) -> None:
    ledger.record(
        Event(
            kind="custody",
            occurred_at=format_time(now),
            environment=source.environment,
            datasource=source.datasource or None,
            custody=Custody(type=kind, subject=source.name, detail=detail, count=count),  # type: ignore[arg-type]
        )
    )
