"""How complete the sources are in a window: from what is in the log, and for the present from what was last heard."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import psycopg
from django.conf import settings
from django.db import connection
from psycopg.rows import dict_row

from lineage.access import Viewer
from lineage.coverage import CAPTURES, LOGS
from lineage.engine import Question
from lineage.events import Custody
from lineage.queries import extent
from lineage.queries.ask import OWN, Coverage, Span, Window
from lineage.queries.extent import Extent

WORST = ("gap", "silent", "weakened", "late", "unknown")
SPANS_MOST = 20
PENDING_MOST = 10_000
WAITING = dt.timedelta(minutes=1)

SOURCES = """
select s.id, s.name, s.format, s.environment, s.datasource, s.asserts, s.created_at, s.revoked_at, h.heartbeat_at,
h.reported_at, h.last_sequence, h.last_position, h.usual_seconds, h.pending, h.waiting_since, h.reader, h.reader_since,
(select count(*) from ledger_quarantine q where q.source_id = s.id) as quarantined,
(select count(*) from ledger_conflict c where c.source_id = s.id) as conflicts
from lineage_source s left join lineage_sourcehealth h on h.source_id = s.id
where s.name <> %s order by s.environment, s.name
"""


def source_rows(viewer: Viewer, reporting: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Sources in the viewer's scope, with what was last heard of them.

    A source without a database of its own may report on any: to a viewer of some databases it is shown only when it is
    in `reporting`, the sources known to have told of one of them.
    """
    connection.ensure_connection()
    with psycopg.Cursor(connection.connection, row_factory=dict_row) as cursor:
        # Asked with most answers: it is planned once for a connection.
        rows = cursor.execute(SOURCES, [OWN], prepare=True).fetchall()
    known = set(reporting)
    return [
        r
        for r in rows
        if (not viewer.environments or r["environment"] in viewer.environments)
        and (
            not viewer.datasources
            or (r["datasource"] or None) in viewer.datasources
            or (not r["datasource"] and r["name"] in known)
        )
    ]


def accounted(source_id: int, seen: dict[str, Any]) -> int:
    """How many sequence numbers between first and last seen belong to quarantined or skipped items."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select count(*) from (select sequence from ledger_quarantine where source_id = %s and id not in "
            "(select quarantine_id from ledger_retry where status in ('accepted', 'conflict')) "
            "union select sequence from ledger_skipped where source_id = %s) s where sequence between %s and %s",
            [source_id, source_id, seen["first_sequence"], seen["last_sequence"]],
        )
        return int(cursor.fetchone()[0])


def coverage(question: Question, viewer: Viewer, window: Window) -> list[Coverage]:
    """How complete each source in scope is within the window and the viewer's own times."""
    seen = extent.extents(question, viewer, window)
    ever = question.hear().arrived
    now = dt.datetime.now(dt.UTC)
    since = max((t for t in (window.since, viewer.from_at) if t), default=None)
    until = min(t for t in (window.until, viewer.until_at, now) if t)
    spans_told = told(question, viewer)
    found = []
    for source in source_rows(viewer, seen):
        if window.environment and source["environment"] != window.environment:
            continue
        spans = [
            span for one in spans_told if (span := concerning(source, one)) is not None and overlaps(span, since, until)
        ]
        spans += present(source, until, now, ever.get(source["name"]))
        found.append(_covered(source, seen.get(source["name"]), _joined(spans)))
    return found


class Told(msgspec.Struct):
    """A span as the log tells it, before it is known which sources it concerns."""

    span: Span
    source: str
    environment: str
    datasource: str | None
    rule: str = ""
    about: str = ""


def told(question: Question, viewer: Viewer) -> list[Told]:
    """Every span that the log tells of, whichever sources it concerns."""
    spans: list[Told] = []
    lasting: dict[tuple[Any, ...], Told] = {}
    for row in extent.telling(question, viewer):
        if row["kind"] != "custody" or row["weakens"]:
            for phrase in row["weakens"]:
                span = Span("weakened", row["occurred_at"], row["occurred_at"], phrase)
                spans.append(Told(span, "", row["environment"], row["datasource"], "capture-weakened", phrase))
            continue
        custody = msgspec.json.decode(row["custody"], type=Custody)
        key = (custody.type, custody.subject, custody.first, row["environment"], row["datasource"])
        if custody.transition == "ends":
            begun = lasting.pop(key, None)
            if begun is not None:
                begun.span = msgspec.structs.replace(begun.span, to_at=row["occurred_at"])
            continue
        one = _of_custody(row, custody)
        spans.append(one)
        if custody.transition == "begins":
            if key in lasting:
                earlier = lasting[key]
                earlier.span = msgspec.structs.replace(earlier.span, to_at=row["occurred_at"])
            lasting[key] = one
    return spans


def _of_custody(row: Mapping[str, Any], custody: Custody) -> Told:
    ours, at = row["source"] == OWN, row["occurred_at"]
    rule = custody.subject or "" if custody.type == "finding" else ""
    state = {"gap": "gap", "silence": "silent"}.get(custody.type, "gap" if rule in GAPS else "weakened")
    begins = _moment(custody.first) or at
    ends = None if custody.transition == "begins" else _moment(custody.last) or at
    source = custody.subject or "" if ours and not rule else "" if ours else row["source"]
    # The source stands before the sentence, and the time in it.
    detail = (custody.detail or custody.subject or "no detail").rstrip(".").removeprefix(f"{source}: ")
    detail = detail.partition(": ")[2] or detail if custody.type == "silence" else detail
    return Told(
        Span(state, begins, ends, detail), source, row["environment"], row["datasource"], rule, custody.first or ""
    )


GAPS = frozenset({"slot-lost", "rows-not-captured", "changes-without-statement", "canary-missing"})
OF_LOGS = frozenset({"changes-without-statement", "canary-missing"})


def _moment(text: str | None) -> dt.datetime | None:
    try:
        return dt.datetime.fromisoformat(text) if text and len(text) == 27 else None
    except ValueError:
        return None


def concerning(source: Mapping[str, Any], one: Told) -> Span | None:
    """The span, when it is about this source: named by it, or by what it is about in its database."""
    if one.source:
        return one.span if one.source == source["name"] else None
    same = (one.environment, one.datasource or "") == (source["environment"], source["datasource"])
    if not same or one.rule == "replication-role" or "session_replication_role" in one.about:
        return None
    formats = LOGS if one.rule in OF_LOGS or _is_of_log(one) else CAPTURES
    return one.span if source["format"] in formats else None


def _is_of_log(told: Told) -> bool:
    return told.rule == "capture-weakened" and any(
        word in told.about for word in ("pgaudit", "log_", "logging_", "preload", "role ")
    )


def overlaps(span: Span, since: dt.datetime | None, until: dt.datetime) -> bool:
    """Whether any of the span lies in the window."""
    return span.from_at < until and (since is None or span.to_at is None or span.to_at >= since)


def present(source: Mapping[str, Any], until: dt.datetime, now: dt.datetime, arrived: dt.datetime | None) -> list[Span]:
    """What was last heard says of the end of the window: the log learns of it a little later."""
    last, revoked = source["heartbeat_at"], source["revoked_at"]
    if revoked and revoked < until:
        return [Span("silent", revoked, None, f"Its token was revoked on {revoked:%Y-%m-%d %H:%M} UTC")]
    if last is None:
        never = (
            "It sends no heartbeat, so silence cannot be told from quiet" if arrived else "Nothing was ever received"
        )
        return [Span("unknown", source["created_at"], None, never)]
    limit = dt.timedelta(seconds=max(settings.SILENCE_SECONDS, 3 * (source["usual_seconds"] or 0)))
    last = max(last, arrived or last)
    if until - last > limit:
        return [Span("silent", last, None, "No heartbeat came")]
    waiting = source["waiting_since"]
    is_stuck = waiting is not None and now - waiting > WAITING
    if until > now - limit and (is_stuck or (source["pending"] or 0) >= PENDING_MOST):
        return [Span("late", waiting or last, None, f"{source['pending']:,} records wait in its collector's queue")]
    return []


def _joined(spans: Sequence[Span]) -> list[Span]:
    """Worst first, then oldest; a silence that the log tells of already is not told twice."""
    known = {
        (span.state, span.from_at) for span in spans if span.state == "silent" and span.detail != "No heartbeat came"
    }
    kept = [s for s in spans if s.detail != "No heartbeat came" or not any(state == "silent" for state, _ in known)]
    return sorted(kept, key=lambda span: (WORST.index(span.state), span.from_at))


def _covered(source: Mapping[str, Any], seen: Extent | None, spans: list[Span]) -> Coverage:
    detail = "No gap in this window."
    if spans:
        others = len(spans) - 1
        more = f" And {others} more." if others else ""
        detail = f"{_sentence(spans[0])}{more}"
    return Coverage(
        source["name"],
        source["datasource"] or "",
        source["environment"],
        seen.from_at if seen else None,
        seen.to_at if seen else None,
        spans[0].state if spans else "complete",
        detail,
        tuple(spans[:SPANS_MOST]),
    )


def _sentence(span: Span) -> str:
    if span.state == "unknown":
        return f"{span.detail}."
    if span.to_at is None:
        when = f"since {span.from_at:%Y-%m-%d %H:%M:%S}"
    elif span.to_at == span.from_at:
        when = f"at {span.from_at:%Y-%m-%d %H:%M:%S}"
    elif span.to_at.date() == span.from_at.date():
        when = f"{span.from_at:%Y-%m-%d %H:%M}\u2013{span.to_at:%H:%M}"
    else:
        when = f"{span.from_at:%Y-%m-%d %H:%M} \u2013 {span.to_at:%Y-%m-%d %H:%M}"
    return f"{span.state.capitalize()} {when} UTC: {span.detail}."
