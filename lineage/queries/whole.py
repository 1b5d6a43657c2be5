"""Questions about the log itself: its integrity, and how complete a period is."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.db import connection

from lineage import outside, words
from lineage.access import Viewer
from lineage.engine import Question
from lineage.queries import hearing, reconciling, taken
from lineage.queries.ask import OWN, Window, scoped
from lineage.queries.covering import accounted, coverage, source_rows

LATE_SECONDS = 30
LAG = "epoch_ms(received_at) - epoch_ms(occurred_at)"


def integrity(viewer: Viewer) -> dict[str, Any]:
    """Where the log stands: size, newest checkpoint, lag, state ok, late or broken, segments, quarantine, what is held outside."""
    with connection.cursor() as cursor:

        def rows(sql: str) -> list[dict[str, Any]]:
            cursor.execute(sql)
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

        size = rows("select size from ledger_head")[0]["size"]
        checkpoints = rows(
            "select size, encode(root, 'hex') as root, note, at from ledger_checkpoint order by size desc limit 20"
        )
        waiting = rows(
            "select min(committed_at) as at from ledger_batch "
            "where first_index + n > (select coalesce(max(size), 0) from ledger_checkpoint) and first_index >= (select max(first_index) "
            "from ledger_batch where first_index <= (select coalesce(max(size), 0) from ledger_checkpoint))"
        )[0]["at"]
        segments = rows(
            "select first_index, next_index, folder, files, created_at from ledger_segment order by first_index desc limit 50"
        )
        reached = rows(
            "select ledger_sealed_to() as sealed_to, (select coalesce(max(next_index), 0) from ledger_extract) as extracted_to, "
            "(select coalesce(max(judged_to), 0) from lineage_findingprogress) as judged_to"
        )[0]
        quarantined = rows("select count(*) as n from ledger_quarantine")[0]["n"]
        conflicts = rows("select count(*) as n from ledger_conflict")[0]["n"]
        put_off = rows("select coalesce(sum(put_off), 0)::bigint as n from lineage_sourcehealth")[0]["n"]
    now = dt.datetime.now(dt.UTC)
    lag = (now - waiting).total_seconds() if waiting else 0.0
    newest = checkpoints[0] if checkpoints else None
    holdings = outside.held().holdings
    held = [each._asdict() for each in holdings]
    standing = alarms(viewer)
    broken = any(each["code"] not in outside.LATE for each in standing)
    state = "broken" if broken else "late" if lag > LATE_SECONDS else "ok"
    return {
        "size": size, "checkpoint_size": newest["size"] if newest else 0, "checkpoint_at": newest["at"] if newest else None,
        "lag_seconds": lag, "state": state, "alarms": standing, "origin": settings.ORIGIN, "checkpoints": checkpoints,
        "root": newest["root"] if newest else None, "segments": segments, **reached,
        "quarantined": quarantined, "conflicts": conflicts, "put_off": put_off, "sources": source_rows(viewer),
        "outside": held, "witnesses": [each for each in held if each["kind"] == "witness"],
        "held": words.held_outside(holdings, size, most=1),
    }  # fmt: skip


def alarms(viewer: Viewer) -> list[dict[str, Any]]:
    """The alarms that stand, newest first: id, code, message, at. They name no row and no person: every viewer sees them."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select id, code, message, at from ledger_alarm where cleared_at is null order by at desc, id desc"
        )
        return [dict(zip(("id", "code", "message", "at"), row, strict=True)) for row in cursor.fetchall()]


def completeness(
    viewer: Viewer,
    since: dt.datetime,
    until: dt.datetime,
    environment: str | None = None,
    datasources: list[str] | None = None,
    as_of: int | None = None,
) -> dict[str, Any]:
    """Counts that say how complete a period is, per source and across sources; computed, not asserted."""
    window = Window(since, until, environment)
    condition, values = scoped(viewer, window)
    if datasources:
        condition, values = f"{condition} and list_contains(?, datasource)", [*values, datasources]
    with Question(as_of=as_of) as question:
        heard = hearing.hearing(question, viewer, window, datasources)
        period = taken.of(question, condition, values)
        told = reconciling.by_source(question, period)
        return {
            "as_of": question.size,
            "sources": _sources(question, viewer, window, datasources),
            "coverage": coverage(question, viewer, window),
            "hearing": heard,
            "reconciliation": reconciling.transactions(question, period, reconciling.captured(heard)),
            "gateway": reconciling.gateway(question, period),
            "canaries": reconciling.canaries(question, period),
            "commitments": reconciling.committed(question, period, told),
            **reconciling.fields(told),
            "unknown": reconciling.unknown(told),
            "settings": settings.MAINTENANCE_HOURS,
        }


# Items are numbered as they are sent, which is not quite the order of their times: a number that the period's span
# holds is only missing when no record of any time has it.
MISSING = """
select s.source, s.last - s.first + 1 - count(distinct e.sequence) as n
from (select source, min(sequence) as first, max(sequence) as last from raw_events
      where occurred_at >= ? and occurred_at < ? group by source) s
join raw_events e on e.source = s.source and e.sequence between s.first and s.last group by s.source, s.first, s.last
"""


def _sources(question: Question, viewer: Viewer, window: Window, datasources: list[str] | None) -> list[dict[str, Any]]:
    condition, values = scoped(viewer, window)
    counted = {
        r["source"]: r
        for r in question.rows(
            f"""select source, count(*) filter (kind <> 'custody') as events, min(sequence) as first_sequence,
            max(sequence) as last_sequence,
            count(*) filter (custody_type = 'canary') as canaries, count(*) filter (custody_type in ('gap', 'silence')) as gaps,
            count(*) filter (list_contains(flags, 'duplicate_conflict')) as conflicts,
            count(*) filter (list_contains(flags, 'clock_skew') or custody_type = 'clock_skew') as clock_skew,
            max(occurred_at) as last_at, max({LAG}) as lag_ms_most,
            median({LAG})::bigint as lag_ms_half, quantile_cont({LAG}, 0.95)::bigint as lag_ms_95
            from activity where {condition} group by source""",  # noqa: S608
            values,
        )
    }
    # What the store itself noticed about a source stands under the source's name.
    noticed = {
        r["subject"]: r
        for r in question.rows(
            f"""select custody_subject as subject, count(*) filter (custody_type = 'heartbeat') as heartbeats,
            count(*) filter (custody_type in ('gap', 'silence')) as gaps, count(*) filter (custody_type = 'clock_skew') as clock_skew
            from activity where source = '{OWN}' and kind = 'custody' and occurred_at >= ? and occurred_at < ?
            and json_extract_string(custody, '$.transition') is distinct from 'ends' group by 1""",  # noqa: S608
            [window.since, window.until],
        )
    }
    missing = _missing(question, viewer, window, counted)
    empty = dict.fromkeys(("events", "missing", "canaries", "gaps", "conflicts", "clock_skew"), 0)
    found = []
    for source in source_rows(viewer, counted):
        if window.environment and source["environment"] != window.environment:
            continue
        if datasources and source["datasource"] and source["datasource"] not in datasources:
            continue
        found.append(
            {**empty, "first_sequence": None, "last_sequence": None, **source}
            | {k: v for k, v in counted.get(source["name"], {}).items() if k != "source"}
            | {"watermark_at": source["heartbeat_at"]}
            | {"missing": missing.get(source["name"], 0)}
        )
        own = noticed.get(source["name"], {})
        found[-1]["heartbeats"] = own.get("heartbeats", 0)
        for name in ("gaps", "clock_skew"):
            found[-1][name] += own.get(name, 0)
        if found[-1]["missing"]:
            found[-1]["missing"] = max(0, found[-1]["missing"] - accounted(source["id"], found[-1]))
    return found


def _missing(
    question: Question, viewer: Viewer, window: Window, counted: Mapping[str, Mapping[str, Any]]
) -> dict[str, int]:
    """How many numbers each source left out; nothing is asked where it is seen that none numbers its records."""
    is_numbered = any(row["first_sequence"] is not None for row in counted.values())
    if not (is_numbered or viewer.is_narrowed or window.environment):
        return {}
    return {row["source"]: row["n"] for row in question.rows(MISSING, [window.since, window.until])}
