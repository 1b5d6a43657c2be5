"""What each source could tell of in a period, since when it is heard, and the times in which it was not (docs/reports.md)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import pyarrow as pa

from lineage.access import Viewer
from lineage.coverage import CAPTURES, LOGS
from lineage.engine import Question
from lineage.moments import moment
from lineage.queries import covering, extent
from lineage.queries.ask import OWN, Span, Window

OUTAGES_MOST = 500
BY_KIND = {"query": "statements", "change": "changes", "decision": "decisions", "state": "states"}
BY_FORMAT = {
    **dict.fromkeys(LOGS, ("statements",)),
    **dict.fromkeys(CAPTURES, ("changes",)),
    "debezium": ("changes",),
    "pgstate": ("states",),
    # What a gateway holds back is decided in the store itself.
    "gateway": ("statements", "decisions"),
}
"""What sources of these formats tell of. Of the others it is what they told: they can tell of anything."""
TIME = pa.timestamp("us", tz="UTC")
SPANS = pa.schema([("number", pa.int64()), ("source", pa.string()), ("from_at", TIME), ("to_at", TIME)])


def hearing(
    question: Question, viewer: Viewer, window: Window, datasources: list[str] | None = None
) -> list[dict[str, Any]]:
    """One entry for each source in scope that was there in the period.

    `tells` of statements, changes, decisions, states; `from_at` since when it is heard (its making, or an older record of
    it); `beats` whether it ever sent a heartbeat, without which quiet is not silence; `outages` with `state`, `from_at`,
    `to_at` (None: not over), `cause`, `lasting` (false: a moment, or numbers without a time) and, where it was silent,
    how many records of that time `arrived` later. The period of `window` has both ends.
    """
    assert window.since is not None
    assert window.until is not None
    told = _told(question, viewer)
    spans, now = covering.told(question, viewer), dt.datetime.now(dt.UTC)
    found = []
    for source in covering.source_rows(viewer, told):
        if window.environment and source["environment"] != window.environment:
            continue
        if datasources and source["datasource"] and source["datasource"] not in datasources:
            continue
        name = source["name"]
        own = told.get(name, Own())
        heard_from = min(source["created_at"], own.from_at or source["created_at"])
        if heard_from >= window.until:
            continue
        found.append(
            {
                **{key: source[key] for key in ("name", "format", "environment", "datasource", "revoked_at")},
                "tells": _tells(source, own.kinds),
                "from_at": heard_from,
                "beats": source["heartbeat_at"] is not None,
                "outages": _outages(source, own.arrived_at, spans, window, now)[:OUTAGES_MOST],
            }
        )
    _count_late(question, found, window)
    return found


class Own(msgspec.Struct):
    """What the log holds of one source: the kinds of record, the time of the oldest, and when the newest came."""

    kinds: set[str] = msgspec.field(default_factory=set)
    from_at: dt.datetime | None = None
    arrived_at: dt.datetime | None = None


def _told(question: Question, viewer: Viewer) -> dict[str, Own]:
    found: dict[str, Own] = {}
    for one in question.hear().ever:
        environment, datasource, source = one.place
        if one.unauthorised or source in (None, OWN) or not extent.among(viewer, environment, datasource):
            continue
        own = found.setdefault(str(source), Own())
        own.kinds.add(one.kind)
        first, arrived = moment(one.first), moment(one.arrived)
        own.from_at = min(own.from_at or first, first)
        own.arrived_at = max(own.arrived_at or arrived, arrived)
    return found


def _tells(source: Mapping[str, Any], kinds: Iterable[str]) -> list[str]:
    by_format = BY_FORMAT.get(source["format"])
    if by_format is not None:
        return list(by_format)
    vouched = {"decisions"} if "approval" in source["asserts"] else set()
    return sorted({BY_KIND[kind] for kind in kinds if kind in BY_KIND} | vouched)


def _outages(
    source: Mapping[str, Any],
    arrived_at: dt.datetime | None,
    told: Iterable[covering.Told],
    window: Window,
    now: dt.datetime,
) -> list[dict[str, Any]]:
    """Each time in the period in which this source was not heard or told less, oldest first."""
    since, until = window.since, window.until
    assert until is not None
    found = []
    for one in told:
        span = covering.concerning(source, one)
        if span is not None and covering.overlaps(span, since, until):
            # A gap in the numbers is noticed at a time; which times its items are of is not known.
            by_number = not one.rule and one.about.isdigit()
            found.append(_outage(span, span.to_at != span.from_at and not by_number))
    is_told = any(one["state"] == "silent" and one["to_at"] is None for one in found)
    for span in covering.present(source, min(until, now), now, arrived_at):
        if span.state != "unknown" and not (span.state == "silent" and is_told):
            found.append(_outage(span, span.state == "silent"))
    return sorted(found, key=lambda one: one["from_at"])


def _outage(span: Span, lasting: bool) -> dict[str, Any]:
    return {
        "state": span.state, "from_at": span.from_at, "to_at": span.to_at, "cause": span.detail, "lasting": lasting,
        "arrived": None,
    }  # fmt: skip


def _count_late(question: Question, found: list[dict[str, Any]], window: Window) -> None:
    """Notes at each silence how many records of that time came afterwards: a collector may read on from where it stopped."""
    silent = [(one, outage) for one in found for outage in one["outages"] if outage["state"] == "silent"]
    if not silent:
        return
    rows = [
        {
            "number": number,
            "source": one["name"],
            "from_at": outage["from_at"],
            "to_at": outage["to_at"] or window.until,
        }
        for number, (one, outage) in enumerate(silent)
    ]
    question.cursor.register("asked_spans", pa.Table.from_pylist(rows, schema=SPANS))
    for row in question.rows(
        "select s.number, count(e.index) as n from asked_spans s left join raw_events e on e.source = s.source "
        "and e.kind <> 'custody' and e.occurred_at > s.from_at and e.occurred_at < s.to_at group by s.number"
    ):
        silent[row["number"]][1]["arrived"] = row["n"]
