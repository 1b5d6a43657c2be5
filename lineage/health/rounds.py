"""The keeper's look at all sources: what is missing, silent, weakened or contradicted becomes custody records, once each.

What lasts is told when it begins and when it ends. What the records say and what the keeper remembers of them are
committed together, so that a killed keeper tells nothing twice and forgets nothing.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from lineage import ledger, segments
from lineage.coverage import CAPTURES, LOGS
from lineage.engine import Question
from lineage.events import TEXT_LIMIT_BYTES, Custody, Event, cut, format_time
from lineage.health import around, crosschecks, memory, states
from lineage.health.memory import EPOCH, Condition, Feed, Memory
from lineage.health.numbers import Numbers

SKEW_SECONDS = 30
CANARY_SKEW_SECONDS = 60
LASTING = ("silence", "clock_skew")


def look(alive_since: dt.datetime, now: dt.datetime | None = None) -> int:
    """One look; how many custody records it appended.

    `alive_since`: since when this store could have heard anything; a silence before that was ours.
    """
    known, feeds, required = memory.read(), memory.feeds(), around.required()
    index_from = known.index_to
    joined = _is_joined(feeds, required)
    with Question(joined=joined, tables=joined, seconds=segments.patient_seconds()) as question:
        one = Look(known, feeds, required, question, now or timezone.now(), alive_since)
        one.everything()
        known.index_to = question.size
    with transaction.atomic():
        if not memory.write(known, index_from):
            return 0
        for event in one.told:
            ledger.record(event)
    return len(one.told)


def _is_joined(feeds: list[Feed], required: dict[tuple[str, str], around.Required]) -> bool:
    """Whether sources of a database are held against each other or a gateway: nothing else asks what records are joined with."""
    logs = {(feed.environment, feed.datasource) for feed in feeds if feed.format in LOGS}
    others = {
        (feed.environment, feed.datasource) for feed in feeds if feed.format in CAPTURES or feed.format == "pgstate"
    }
    return bool(logs & others) or any((feed.environment, feed.datasource) in required for feed in feeds)


class Look:
    """One look. `told` holds what is to be appended; `known` changes as it goes."""

    def __init__(
        self,
        known: Memory,
        feeds: list[Feed],
        required: dict[tuple[str, str], around.Required],
        question: Question,
        now: dt.datetime,
        alive_since: dt.datetime,
    ) -> None:
        self.known, self.feeds, self.required, self.question = known, feeds, required, question
        self.now, self.alive_since = now, alive_since
        self.told: list[Event] = []
        self.by_name = {feed.name: feed for feed in feeds}

    def everything(self) -> None:
        self._heard()
        self._numbers()
        clocks = self._database_clocks()
        for feed in self.feeds:
            self._lasting(feed, clocks.get(feed.name))
        snapshots = {feed.id: self._states(feed) for feed in self.feeds if feed.format == "pgstate"}
        for place in sorted({(f.environment, f.datasource) for f in self.feeds if f.datasource}):
            self._check(place, snapshots)
            if place in self.required:
                self._around(place, self.required[place])

    def _rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        return self.question.rows(sql, list(values))

    def _tell(self, feed: Feed, kind: Any, subject: str, detail: str, **more: Any) -> None:
        custody = Custody(
            type=kind, subject=subject[:512], detail=cut(detail.encode("utf-8", "replace"), TEXT_LIMIT_BYTES), **more
        )
        self.told.append(
            Event(
                kind="custody",
                occurred_at=format_time(self.now),
                environment=feed.environment,
                datasource=feed.datasource or None,
                custody=custody,
            )
        )

    def _heard(self) -> None:
        """When each source was last heard, and how far it has told by its own clock (not by what its collector says)."""
        for row in self._rows(
            "select source, max(received_at) as heard_at, max(least(occurred_at, received_at)) filter ("
            "occurred_at_quality in ('source', 'assumed_zone') and (kind <> 'custody' or custody_type = 'canary')) as told_to "
            "from raw_events where index >= ? group by source",
            self.known.index_to,
        ):
            feed = self.by_name.get(row["source"])
            if feed is not None:
                own = self.known.of(feed.id)
                own.heard_at = max(own.heard_at or EPOCH, row["heard_at"])
                own.told_to = max(own.told_to or EPOCH, row["told_to"]) if row["told_to"] else own.told_to

    # Numbers

    def _numbers(self) -> None:
        runs: dict[str, list[tuple[int, int]]] = {}
        for row in self._rows(RUNS, self.known.index_to):
            runs.setdefault(row["source"], []).append((row["first"], row["last"]))
        for feed in self.feeds:
            own = self.known.of(feed.id).numbers
            open_before = own.gaps()
            for high, first in own.take(runs.get(feed.name, ()), self.now):
                detail = f"{feed.name}: its numbers begin anew at {first:,}; they had come to {high:,}. What its spool held is unknown."
                self._tell(feed, "gap", feed.name, detail, first=str(high + 1), last=str(first))
            _forgive(feed.id, own)
            self._missing(feed, own, open_before)

    def _missing(self, feed: Feed, own: Numbers, open_before: set[tuple[int, int]]) -> None:
        overdue = self.now - dt.timedelta(seconds=settings.COVERAGE_GRACE_SECONDS)
        due = {(g.gap_first, g.gap_last) for g in own.missing if not g.reported and g.noticed_at <= overdue}
        for first, last in sorted(due):
            pieces = [g for g in own.missing if (g.gap_first, g.gap_last) == (first, last)]
            count = sum(g.last - g.first + 1 for g in pieces)
            for piece in pieces:
                piece.reported = True
            detail = f"{feed.name}: {count:,} of the items numbered {first:,} to {last:,} did not arrive."
            self._tell(
                feed, "gap", feed.name, detail, first=str(first), last=str(last), count=count, transition="begins"
            )
        for first, last in sorted(open_before - own.gaps()):
            detail = f"{feed.name}: the items {first:,} to {last:,} arrived late; nothing of them is missing."
            self._tell(feed, "gap", feed.name, detail, first=str(first), last=str(last), transition="ends")

    # What lasts

    def _database_clocks(self) -> dict[str, float]:
        """By how many seconds the clock of each database is off, by the canaries that came since the last look."""
        found = self._rows(CLOCKS, self.known.index_to)
        return {row["source"]: row["seconds"] for row in found if row["seconds"] is not None}

    def _lasting(self, feed: Feed, database_clock: float | None) -> None:
        now = {(c.rule, c.object): c for c in self._conditions(feed, database_clock)}
        before = {
            (rule, about): lasting
            for (source, rule, about), lasting in self.known.conditions.items()
            if source == feed.id and rule in LASTING
        }
        for (rule, about), lasting in now.items():
            if (rule, about) not in before:
                self.known.conditions[feed.id, rule, about] = lasting
                self._tell(
                    feed, rule, feed.name, lasting.detail, first=format_time(lasting.began_at), transition="begins"
                )
        for (rule, about), lasting in before.items():
            if (rule, about) not in now:
                del self.known.conditions[feed.id, rule, about]
                times = {"first": format_time(lasting.began_at), "last": format_time(self.now)}
                self._tell(feed, rule, feed.name, f"{lasting.detail} It is over.", transition="ends", **times)

    def _conditions(self, feed: Feed, database_clock: float | None) -> list[Condition]:
        found = [self._silence(feed), self._unread(feed), self._clock(feed), self._database_clock(feed, database_clock)]
        return [condition for condition in found if condition is not None]

    def _limit(self, feed: Feed) -> dt.timedelta:
        return dt.timedelta(seconds=max(settings.SILENCE_SECONDS, 3 * (feed.usual_seconds or 0)))

    def _silence(self, feed: Feed) -> Condition | None:
        if feed.heartbeat_at is None:
            return None  # it never promised to be heard: silence cannot be told from quiet
        heard = max(feed.heartbeat_at, self.known.of(feed.id).heard_at or EPOCH)
        before = self.known.conditions.get((feed.id, "silence", "heartbeat"))
        if before is not None and heard <= before.began_at:
            return before
        if self.now - max(heard, self.alive_since) <= self._limit(feed):
            return None
        detail = f"{feed.name} is silent since {heard:%Y-%m-%d %H:%M:%S} UTC: no heartbeat and no record."
        return Condition("silence", "heartbeat", heard, detail)

    def _unread(self, feed: Feed) -> Condition | None:
        since = feed.reader_since
        if since is None or self.now - since <= self._limit(feed):
            return None
        detail = (
            f"The collector of {feed.name} lives and does not reach its database since {since:%Y-%m-%d %H:%M:%S} UTC."
        )
        return Condition("silence", "reader", since, detail)

    def _clock(self, feed: Feed) -> Condition | None:
        if feed.reported_at is None or feed.heartbeat_at is None:
            return None
        seconds = (feed.reported_at - feed.heartbeat_at).total_seconds()
        if abs(seconds) <= SKEW_SECONDS:
            return None
        return Condition("clock_skew", "collector", self.now, f"The clock of {feed.name} differs by {seconds:.0f} s.")

    def _database_clock(self, feed: Feed, seconds: float | None) -> Condition | None:
        if seconds is None:
            return self.known.conditions.get((feed.id, "clock_skew", "database"))
        if abs(seconds) <= CANARY_SKEW_SECONDS:
            return None
        detail = (
            f"The database's clock, as {feed.name} tells it, differs by {seconds:.0f} s from the collector's beside it."
        )
        return Condition("clock_skew", "database", self.now, detail)

    # States

    def _states(self, feed: Feed) -> list[states.Snapshot]:
        """The snapshots of the last days; what they weakened is told on the way."""
        own = self.known.of(feed.id)
        kept = self.now - crosschecks.REACH
        compared = min(own.state_index or 0, own.baseline if own.baseline is not None else own.state_index or 0)
        rows = self._rows(STATES, feed.name, compared, kept)
        told = states.snapshots(rows)
        open_since = {
            (rule, about): lasting.began_at
            for (source, rule, about), lasting in self.known.conditions.items()
            if source == feed.id and rule not in LASTING
        }
        judged = states.judge(told, self.known.index_to, own.baseline, open_since)
        for weakness, at in judged.begins:
            lasting = Condition(weakness.rule, weakness.about, at.at, weakness.sentence)
            self.known.conditions[feed.id, weakness.rule, weakness.about] = lasting
            self._tell(feed, "finding", weakness.rule, weakness.sentence, first=lasting.object, transition="begins")
        for rule, about, at in judged.ends:
            lasting = self.known.conditions.pop((feed.id, rule, about), Condition(rule, about, at.at, about))
            restored = at.at - lasting.began_at <= states.DAY
            word = "it is as it was again" if restored else "this is how the database is set up now"
            self._tell(feed, "finding", rule, f"{lasting.detail} Over: {word}.", first=about, transition="ends")
        own.baseline = judged.baseline
        own.state_index = judged.newest if judged.newest is not None else own.state_index
        return told

    # One database's sources against each other

    def _check(self, place: tuple[str, str], snapshots: dict[int, list[states.Snapshot]]) -> None:
        feeds = [f for f in self.feeds if (f.environment, f.datasource) == place]
        side = self._side(place, "", [])
        side.told = [s for f in feeds for s in snapshots.get(f.id, ())]
        for finding in crosschecks.check(self.question, side):
            self._tell(feeds[0], "finding", finding.rule, finding.detail, first=finding.first, count=finding.count)
        self.known.checked[*place, ""] = (side.told_to, side.settled_to)

    def _around(self, place: tuple[str, str], wanted: around.Required) -> None:
        """Nothing is judged before every gateway of the database has told beyond it: one that is away stops only this check."""
        gateways = [f for f in self.feeds if f.id in wanted.sources]
        told = [self._told_by_gateway(f) for f in gateways]
        side = self._side(place, around.RULE, told)
        if None in told or not (side.logs or side.captures):
            return
        feed = next(f for f in self.feeds if (f.environment, f.datasource) == place)
        for finding in around.check(self.question, side, wanted):
            self._tell(feed, "finding", finding.rule, finding.detail, first=finding.first, count=finding.count)
        self.known.checked[*place, around.RULE] = (side.told_to, side.settled_to)

    def _told_by_gateway(self, feed: Feed) -> dt.datetime | None:
        """A quiet gateway has told up to its last heartbeat when nothing of what it had then is missing here."""
        own = self.known.of(feed.id)
        whole = feed.pending == 0 and (feed.last_sequence or 0) <= (own.numbers.high or 0)
        beats = [t for t in (feed.heartbeat_at, feed.reported_at) if t is not None] if whole else []
        return max(filter(None, (own.told_to, min(beats, default=None))), default=None)

    def _side(self, place: tuple[str, str], about: str, more: list[dt.datetime | None]) -> crosschecks.Side:
        """What of a database's records is due now: up to when all its logs and captures, and `more`, have told."""
        spoken = [
            f for f in self.feeds if (f.environment, f.datasource) == place and self.known.of(f.id).told_to is not None
        ]
        logs = [f for f in spoken if f.format in LOGS]
        captures = [f for f in spoken if f.format in CAPTURES]
        settled_to = self.now - dt.timedelta(seconds=settings.COVERAGE_GRACE_SECONDS)
        margin = min(crosschecks.MARGIN, self.now - settled_to)
        told = [*(self.known.of(f.id).told_to for f in (*logs, *captures)), *more]
        told_to = crosschecks.horizon(told, margin) or settled_to
        told_before, settled_before = self.known.checked.get((*place, about), (EPOCH, EPOCH))
        names = [f.name for f in logs], [f.name for f in captures]
        due = max(told_to, told_before), max(settled_to, settled_before)
        return crosschecks.Side(*place, *names, [], told_before, settled_before, *due)


RUNS = """
with came as (
    select source, sequence, index, sequence is distinct from lag(sequence) over (partition by source order by index) + 1 as breaks
    from raw_events where index >= ? and sequence is not null and not list_contains(flags, 'duplicate_conflict')),
numbered as (
    select *, count(*) filter (breaks) over (partition by source order by index rows unbounded preceding) as run from came)
select source, min(sequence) as first, max(sequence) as last from numbered group by source, run order by source, min(index)
"""
CLOCKS = r"""
select source, arg_max(epoch(occurred_at) - try_cast(emitted as double), index) as seconds from (
    select source, index, occurred_at, regexp_extract(
        case when kind = 'custody' then json_extract_string(custody, '$.detail') else statement end,
        '[0-9a-f]{16}-([0-9]{10})', 1) as emitted
    from raw_events where index >= ? and occurred_at_quality = 'source'
    and (custody_type = 'canary' or list_contains(flags, 'canary')))
where emitted <> '' group by source
"""
STATES = """
with told as (
    select index, occurred_at, received_at, database, state, json_extract_string(state, '$.mode') is distinct from 'difference' as whole
    from raw_events where kind = 'state' and state is not null and source_format = 'pgstate' and source = $1)
select * from told where index >= (
    select least(coalesce(max(index) filter (whole and index <= $2), 0), coalesce(max(index) filter (whole and received_at < $3), 0))
    from told)
order by index
"""


def _forgive(source_id: int, own: Numbers) -> None:
    """Numbers of quarantined and skipped items are accounted for."""
    for gap in list(own.missing):
        with connection.cursor() as cursor:
            cursor.execute(
                "select sequence from ledger_quarantine where source_id = %s and sequence between %s and %s union "
                "select sequence from ledger_skipped where source_id = %s and sequence between %s and %s",
                [source_id, gap.first, gap.last, source_id, gap.first, gap.last],
            )
            own.forgive([row[0] for row in cursor.fetchall()])
