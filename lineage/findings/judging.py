"""The steward's round that judges new records by the rules, and keeps each finding once, as a record and as a row.

Records, rows, what is to be told, and how far everything was judged are committed together, of many findings the first
ones before the rest: a killed steward finds nothing twice and forgets nothing. A log line or row change is judged once it
has settled, since a gateway's record that names its person may be on its way; what came within `REACH` is judged again,
and what does not hold any more is said to be explained.
"""

from __future__ import annotations

import datetime as dt
import time
from typing import Any, NamedTuple

import psycopg
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from lineage import engine, ledger, segments
from lineage.engine import Question
from lineage.events import Custody, Event, format_time
from lineage.finding_models import Finding, FindingProgress
from lineage.findings import ruling, telling
from lineage.findings.evaluation import OWN_TOO, Row, evaluate, say
from lineage.findings.rules import OWN, Ruleset
from lineage.snapshots import Snapshot

REACH = dt.timedelta(minutes=15)
CONTEXT = REACH + dt.timedelta(hours=1)
SETTLE = dt.timedelta(seconds=2)
CHUNK = 20_000
AT_ONCE = 5 * CHUNK
"""So many new records are judged by one look at most: what is not in extracts is joined for each look."""
KEPT_AT_ONCE = 200
"""So many findings are written in one transaction, in which the log's head is held."""
AGAIN_SECONDS = 30.0
EXTRACT_SECONDS = 60.0
"""So long after the last extract the next is waited for while much is not in extracts."""
FIRST_HAND = ("gateway", "events")
SETTLED = f"(received_at <= ? or source_format in {FIRST_HAND})"
REAL = (
    f"(environment <> '{OWN}' or decision_type in ('review', 'break_glass') or {OWN_TOO}) "
    "and coalesce(custody_subject, '') not like 'finding %'"
)


class Judging:
    """Called each second or so: judges what is new, and now and then once more what came within `REACH`.

    After a look it rests three times as long, so that what came within `REACH` is not judged again and again by a whole core;
    not while much waits, and nine times as long where a look joins much that is not in extracts. What extracts will reach
    soon is left until then: it is joined for them.
    """

    def __init__(self) -> None:
        self.not_before = self.again_at = 0.0
        self.quiet_at = -1
        self.is_new = True
        self.extracted_to, self.extracted_at = -1, 0.0

    def __call__(self) -> None:
        began = time.monotonic()
        again = self.is_new and began >= self.again_at
        if began < self.not_before:
            return
        reached = _reached()
        if (reached.size == self.quiet_at and not again) or self._is_for_extracts(reached, began):
            return
        try:
            self.quiet_at = judge(quiet_at=self.quiet_at, again=again)
        finally:
            # What was judged again and took too long does not keep what is new waiting.
            took = time.monotonic() - began
            self.not_before = began + _pace(_reached()) * took
            self.is_new = not again
            if again:
                self.again_at = began + max(AGAIN_SECONDS, 10 * took)

    def _is_for_extracts(self, reached: Reached, now: float) -> bool:
        """Whether the next extract is on its way, and has what the next look would join."""
        if reached.extracted_to != self.extracted_to:
            self.extracted_to, self.extracted_at = reached.extracted_to, now
        is_near = 0 <= reached.judged_to - reached.extracted_to <= AT_ONCE
        return reached.unextracted > AT_ONCE and is_near and now < self.extracted_at + EXTRACT_SECONDS


class Reached(NamedTuple):
    """Up to which record there is a log, and how far it is sealed, extracted and judged."""

    size: int
    sealed_to: int
    extracted_to: int
    judged_to: int

    @property
    def unextracted(self) -> int:
        return self.sealed_to - self.extracted_to


def _reached() -> Reached:
    with connection.cursor() as cursor:
        cursor.execute(
            "select size, ledger_sealed_to(), coalesce((select max(next_index) from ledger_extract), 0), "
            "coalesce((select max(judged_to) from lineage_findingprogress), 0) from ledger_head"
        )
        return Reached(*cursor.fetchone())


def _pace(reached: Reached) -> int:
    """From the beginning of a look to that of the next, in times of what it took."""
    is_much = reached.size - reached.judged_to > CHUNK
    if is_much and reached.judged_to < reached.extracted_to:
        return 1
    return 10 if reached.unextracted > AT_ONCE else 1 if is_much else 4


def judge(now: dt.datetime | None = None, quiet_at: int = -1, again: bool = True) -> int:
    """Judges what is due. Returns the log size up to which nothing waits, else -1.

    `quiet_at`: what an earlier call returned; without a record since that could be found, nothing new is asked.
    `again`: what came within `REACH` (of the newest 200,000 records) is judged once more.
    """
    moment = now or timezone.now()
    progress, _ = FindingProgress.objects.get_or_create(pk=1)
    rules = ruling.current()
    snap = engine.snapshot(unsealed_most=4 * settings.SEAL_EVENTS)
    if snap.size < progress.judged_to:
        # So much waits to be sealed that what lies behind it waits too.
        return -1
    with Question(snap, joined=False, seconds=segments.patient_seconds()) as question:
        size = question.size
        fresh = question.rows(
            f"select 1 from raw_events where index >= ? and {REAL} limit 1",  # noqa: S608 - our own words
            [max(progress.judged_to, quiet_at)],
        )
        seen = _seen(question, progress.judged_to, moment)
    if not fresh and not again and (quiet_at >= 0 or progress.judged_to == size):
        FindingProgress.objects.filter(pk=1, judged_to=progress.judged_to).update(judged_to=size)
        return size
    since = max(size if seen["again"] is None else seen["again"], size - 10 * CHUNK)
    low = min(progress.judged_to, since) if again else progress.judged_to
    high, as_of = _judgeable(snap, progress.judged_to, size)
    context = max(low - CHUNK, min(low, low if seen["context"] is None else seen["context"]))
    unsettled = high if seen["unsettled"] is None else min(seen["unsettled"], high)
    with Question(snap, as_of=as_of, seconds=segments.patient_seconds()) as question:
        rows = _found(question, rules, (context, low, high), moment)
        lasting = _lasting(question, rules, low)
    found = [*rows, *lasting[0]]
    if not _keep_most(rules, found, progress.judged_to, moment):
        return -1
    keep(rules, found, (low, high), lasting[1], (progress.judged_to, unsettled), moment)
    return size if unsettled == size else -1


def _seen(question: Question, judged_to: int, moment: dt.datetime) -> Row:
    """The first records to judge `again`, that are `unsettled`, and that are `context`; of those that a look can reach."""
    return question.rows(
        f"select min(index) filter (received_at >= ?) as again, min(index) filter (index >= ? and not {SETTLED}) as unsettled, "  # noqa: S608
        "min(index) filter (received_at >= ?) as context from raw_events "
        "where index >= ? and index < ? and (received_at >= ? or index >= ?)",
        [
            moment - REACH,
            judged_to,
            moment - SETTLE,
            moment - CONTEXT,
            # However much came in the time, what follows goes no further back.
            min(judged_to, question.size - 10 * CHUNK) - CHUNK,
            judged_to + AT_ONCE,
            moment - CONTEXT,
            judged_to,
        ],
    )[0]


def _judgeable(snap: Snapshot, judged_to: int, size: int) -> tuple[int, int]:
    """To before which record one look judges, and of a log of which size.

    What is in extracts is judged as they tell of it: nothing is joined. While much waits, what is not waits until it is, too.
    """
    extracted_to = snap.extracts[-1].following if snap.extracts else 0
    high = min(size, judged_to + AT_ONCE)
    if judged_to < extracted_to and size - judged_to > CHUNK:
        return min(high, extracted_to), extracted_to
    return high, high


def _keep_most(rules: Ruleset, rows: list[Row], judged_to: int, now: dt.datetime) -> bool:
    """Of many findings, all but the last that `keep` takes at once; whether no other keeper came between."""
    oldest = rows[::-1]
    for start in range(0, len(oldest) - KEPT_AT_ONCE, KEPT_AT_ONCE):
        with transaction.atomic():
            if not FindingProgress.objects.filter(pk=1, judged_to=judged_to).update(judged_to=judged_to):
                return False
            _add(rules, oldest[start : start + KEPT_AT_ONCE][::-1], now)
    return True


def _found(question: Question, rules: Ruleset, places: tuple[int, int, int], now: dt.datetime) -> list[Row]:
    """`places`: from which record on rules look back, from which on and before which one is judged."""
    context, low, high = places
    judged = f"index >= ? and {SETTLED}", [low, now - SETTLE]
    return evaluate(question, rules, ("index >= ? and index < ?", [max(0, context), high]), judged)


def _lasting(question: Question, rules: Ruleset, low: int) -> tuple[list[Row], list[Finding]]:
    """Of what lasts and lies before the reach: what still holds, and all of it."""
    codes = [rule.id for rule in rules.on if rule.lasting]
    open_ = list(Finding.objects.filter(rule__in=codes, state="open", first_index__lt=low))
    if not open_:
        return [], []
    indexes = ", ".join(str(index) for finding in open_ for index in finding.members)
    return evaluate(question, rules, (f"index in ({indexes})", []), ("true", [])), open_


def keep(
    rules: Ruleset,
    rows: list[Row],
    reach: tuple[int, int],
    lasting: list[Finding],
    progress: tuple[int, int],
    now: dt.datetime,
) -> int:
    """Writes what is new, and ends what is explained; all of it or nothing. Returns how many findings are new.

    `reach` is from which record to before which one was judged.
    Nothing is written when another keeper has been here since `progress[0]` was read.
    """
    with transaction.atomic():
        if not FindingProgress.objects.filter(pk=1, judged_to=progress[0]).update(judged_to=max(progress)):
            return 0
        count = _add(rules, rows, now)
        _explain(rules, {(row["rule"], row["about"]) for row in rows}, reach, lasting, now)
        return count


def _add(rules: Ruleset, rows: list[Row], now: dt.datetime) -> int:
    """Writes those that are not kept yet; how many."""
    known = {(f.rule, f.about): f for f in Finding.objects.filter(about__in=[row["about"] for row in rows])}
    fresh = [row for row in reversed(rows) if (row["rule"], row["about"]) not in known]
    _grow(rows, known)
    if fresh:
        numbers = _numbers(len(fresh))
        told = [say(dict(row), rules) for row in fresh]
        # From here on everybody who appends waits until this is committed.
        placed = ledger.record_all([_record(n, row, rules, now) for n, row in zip(numbers, fresh, strict=True)])
        made = [
            _kept(number, row, rules, place.index, now)
            for number, row, place in zip(numbers, told, placed, strict=True)
        ]
        _write(made)
        telling.prepare(list(zip(made, told, strict=True)), rules, now)
    return len(fresh)


def _write(made: list[Finding]) -> None:
    """Copied: there may be hundreds of thousands in a day, and an insert takes most of what it costs to keep one."""
    columns = [field.attname for field in Finding._meta.concrete_fields]
    connection.ensure_connection()
    with (
        psycopg.Cursor(connection.connection) as cursor,
        cursor.copy(f"copy lineage_finding ({', '.join(columns)}) from stdin") as copy,
    ):
        for finding in made:
            copy.write_row([getattr(finding, name) for name in columns])


def _numbers(count: int) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "select nextval(pg_get_serial_sequence('lineage_finding', 'id')) from generate_series(1, %s)", [count]
        )
        return [row[0] for row in cursor.fetchall()]


def _record(number: int, row: Row, rules: Ruleset, now: dt.datetime) -> Event:
    """It names rule and records, and nobody: who did what stands in those records, and is erased with them."""
    rule = rules.rule(row["rule"])
    return event(
        row["environment"], row["datasource"], now, number,
        detail=f"{rule.title} ({rule.id}, {rule.severity}): record {row['index']}", count=row["records"],
        first=str(row["index"]), last=str(row["last_index"]), transition="begins",
    )  # fmt: skip


def event(environment: str, datasource: str | None, now: dt.datetime, number: int, **more: Any) -> Event:
    """A record about a kept finding."""
    return Event(
        kind="custody", occurred_at=format_time(now), environment=environment, datasource=datasource,
        custody=Custody(type=more.pop("type", "finding"), subject=f"finding {number}", **more),
    )  # fmt: skip


def _kept(number: int, row: Row, rules: Ruleset, record: int, now: dt.datetime) -> Finding:
    return Finding(
        id=number, rule=row["rule"], about=row["about"], severity=row["severity"], environment=row["environment"],
        datasource=row["datasource"], occurred_at=row["occurred_at"], first_index=row["index"], last_index=row["last_index"],
        members=row["members"], records=row["records"], rows=row["rows"], digest=rules.digest, found_at=now, record=record,
    )  # fmt: skip


def _grow(rows: list[Row], known: dict[tuple[str, str], Finding]) -> None:
    """What goes on has more records than before."""
    for row in rows:
        finding = known.get((row["rule"], row["about"]))
        if finding and row["last_index"] > finding.last_index:
            members = sorted({*finding.members, *row["members"]})
            # What was looked at again may have been counted before; what came later was not.
            before = finding.records if row["index"] > finding.last_index else 0
            more = max(finding.records, before + row["records"], len(members))
            Finding.objects.filter(pk=finding.pk).update(
                last_index=row["last_index"], members=members[:50], records=more, rows=_most(finding.rows, row["rows"])
            )


def _most(*counts: int | None) -> int | None:
    return max((count for count in counts if count is not None), default=None)


def _explain(
    rules: Ruleset, holds: set[tuple[str, str]], reach: tuple[int, int], lasting: list[Finding], now: dt.datetime
) -> None:
    """Open findings within the reach (or lasting ones) that the same rules do not find any more.

    One that a look found in records behind the reach of this one still stands.
    """
    within = Finding.objects.filter(state="open", first_index__gte=reach[0], digest=rules.digest)
    seen = [f for f in [*within, *lasting] if f.last_index < reach[1]]
    over = [f for f in seen if (f.rule, f.about) not in holds and f.rule not in rules.off]
    if over:
        ledger.record_all(
            [
                event(
                    f.environment,
                    f.datasource,
                    now,
                    f.pk,
                    detail="explained by what was recorded since",
                    transition="ends",
                )
                for f in over
            ]
        )
        Finding.objects.filter(pk__in=[f.pk for f in over]).update(state="explained", triaged_at=now)
