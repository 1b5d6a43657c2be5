"""Hours of each source: what came in each, and what is known to be amiss. What a test of log coverage is run over."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from django.db import connection

from lineage.access import Viewer
from lineage.engine import Question
from lineage.moments import moment
from lineage.queries.ask import OWN, Span
from lineage.queries.covering import WORST, concerning, overlaps, present, source_rows, told

HOUR = dt.timedelta(hours=1)
TIME, TEXT, NUMBER = pa.timestamp("us", tz="UTC"), pa.string(), pa.int64()
HOURS = pa.schema(
    [(name, TEXT) for name in ("source", "format", "environment", "datasource")]
    + [("from_at", TIME), ("to_at", TIME), ("first_index", NUMBER)]
    + [(name, NUMBER) for name in ("records", "heartbeats", "put_aside", "clock_skew")]
    + [("beats", pa.bool_()), ("state", TEXT), ("states", pa.list_(TEXT)), ("detail", TEXT)]
)
"""`state` is complete or the worst of `states`; `beats`: the source sends heartbeats, so its silence can be told from quiet."""
CAME = f"""
select name, hour, count(*) filter (not is_beat) as records, bool_or(not is_ours) as is_told, count(*) filter (is_beat) as heartbeats,
       min(index) as first_index, count(*) filter (is_skew) as clock_skew
from (select index, date_trunc('hour', occurred_at) as hour, coalesce(custody_type, '') = 'heartbeat' as is_beat,
             source = '{OWN}' as is_ours, case when is_ours then custody_subject else source end as name,
             list_contains(flags, 'clock_skew') or coalesce(custody_type, '') = 'clock_skew' as is_skew
      from raw_events where occurred_at >= ? and occurred_at < ?
      and case when source = '{OWN}' then custody_type in ('heartbeat', 'clock_skew') else """  # noqa: S608 - our own word
CAME_END = " end) where name is not null group by all"
ASIDE = """
select s.name, date_trunc('hour', q.received_at at time zone 'UTC') at time zone 'UTC' as hour, count(*) as n
from ledger_quarantine q join lineage_source s on s.id = q.source_id
where q.received_at >= %s and q.received_at < %s
and q.id not in (select quarantine_id from ledger_retry where status in ('accepted', 'conflict')) group by 1, 2"""


def source_hours(
    viewer: Viewer,
    since: dt.datetime,
    until: dt.datetime,
    datasources: list[str] | None = None,
    environment: str | None = None,
    as_of: int | None = None,
) -> dict[str, pa.Table]:
    """Arrow table `hours`: for each source in scope each hour of the period in which it was connected and that has passed."""
    scope, values = viewer.scope()
    now = dt.datetime.now(dt.UTC)
    with Question(as_of=as_of, joined=False) as question:
        came = {
            (row["name"], row["hour"]): row
            for row in question.rows(f"{CAME}{scope}{CAME_END}", [since, until, *values])
        }
        ever = question.hear().by_source
        spans = told(question, viewer)
    aside = _aside(since, until)
    rows: list[dict[str, Any]] = []
    for source in source_rows(viewer, {name for (name, _), row in came.items() if row["is_told"]}):
        if not _is_asked(source, datasources, environment):
            continue
        known = ever.get(source["name"])
        starts = max(since, min(source["created_at"], moment(known.first) if known else source["created_at"]))
        ends = min(until, source["revoked_at"] or until, now)
        own = [span for one in spans if (span := concerning(source, one)) is not None and overlaps(span, starts, ends)]
        own += present(source, ends, now, moment(known.arrived) if known else None) if starts < ends else []
        beats = source["heartbeat_at"] is not None or (known is not None and known.beats)
        for hour, from_at, to_at in _hours(starts, ends):
            found = came.get((source["name"], hour), {})
            rows.append(
                {name: source[name] for name in ("format", "environment")}
                | {"source": source["name"], "datasource": source["datasource"] or None, "from_at": from_at, "to_at": to_at}
                | {name: found.get(name, 0) for name in ("records", "heartbeats", "clock_skew")}
                | {"first_index": found.get("first_index"), "put_aside": aside.get((source["name"], hour), 0), "beats": beats}
                | _state(own, from_at, to_at)
            )  # fmt: skip
    return {"hours": pa.Table.from_pylist(rows, schema=HOURS)}


def _is_asked(source: Mapping[str, Any], datasources: list[str] | None, environment: str | None) -> bool:
    """A source without a database of its own tells of any."""
    in_environment = not environment or source["environment"] == environment
    return in_environment and (not datasources or not source["datasource"] or source["datasource"] in datasources)


def _aside(since: dt.datetime, until: dt.datetime) -> dict[tuple[str, dt.datetime], int]:
    with connection.cursor() as cursor:
        cursor.execute(ASIDE, [since, until])
        return {(name, hour): n for name, hour, n in cursor.fetchall()}


def _hours(starts: dt.datetime, ends: dt.datetime) -> Iterator[tuple[dt.datetime, dt.datetime, dt.datetime]]:
    """Each hour with the part of it that lies between: (hour, from, to)."""
    hour = starts.astimezone(dt.UTC).replace(minute=0, second=0, microsecond=0)
    while hour < ends:
        yield hour, max(hour, starts), min(hour + HOUR, ends)
        hour += HOUR


def _state(spans: Sequence[Span], from_at: dt.datetime, to_at: dt.datetime) -> dict[str, Any]:
    """What is told of this hour; that a source without heartbeats cannot be told silent is said by `beats`."""
    found = [span for span in spans if span.state != "unknown" and _touches(span, from_at, to_at)]
    found.sort(key=lambda span: (WORST.index(span.state), span.from_at))
    states = list(dict.fromkeys(span.state for span in found))
    details = dict.fromkeys(span.detail for span in found[:3])
    return {"state": states[0] if states else "complete", "states": states, "detail": "; ".join(details) or None}


def _touches(span: Span, from_at: dt.datetime, to_at: dt.datetime) -> bool:
    """Whether some of the span lies in the hour; a moment is a span too, an end that is the hour's beginning is not."""
    if span.from_at >= to_at:
        return False
    return span.to_at is None or span.to_at > from_at or span.from_at == span.to_at == from_at
