"""What the keeper remembers between its looks: read before, written with what it appends, in one transaction."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
from django.db import connection

from lineage.health.numbers import Missing, Numbers

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Remembered(msgspec.Struct):
    """Of one source."""

    numbers: Numbers = msgspec.field(default_factory=Numbers)
    told_to: dt.datetime | None = None
    heard_at: dt.datetime | None = None
    state_index: int | None = None
    baseline: int | None = None


class Condition(msgspec.Struct, frozen=True):
    """What lasts: its rule, what it is about, since when, and how it is told."""

    rule: str
    object: str
    began_at: dt.datetime
    detail: str


class Memory(msgspec.Struct):
    """Everything: by source id, by (source id, rule, object), and by (environment, datasource, what of it is checked apart)."""

    index_to: int = 0
    sources: dict[int, Remembered] = {}
    conditions: dict[tuple[int, str, str], Condition] = {}
    checked: dict[tuple[str, str, str], tuple[dt.datetime, dt.datetime]] = {}

    def of(self, source_id: int) -> Remembered:
        return self.sources.setdefault(source_id, Remembered())


class Feed(msgspec.Struct, frozen=True):
    """A source with what was last heard from it."""

    id: int
    name: str
    format: str
    environment: str
    datasource: str
    heartbeat_at: dt.datetime | None = None
    reported_at: dt.datetime | None = None
    usual_seconds: float | None = None
    pending: int | None = None
    waiting_since: dt.datetime | None = None
    reader: str | None = None
    reader_since: dt.datetime | None = None
    last_sequence: int | None = None


def _rows(sql: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def feeds() -> list[Feed]:
    """The sources whose token is good."""
    return [
        Feed(*row)
        for row in _rows(
            "select s.id, s.name, s.format, s.environment, s.datasource, h.heartbeat_at, h.reported_at, h.usual_seconds, h.pending, "
            "h.waiting_since, h.reader, h.reader_since, h.last_sequence from lineage_source s "
            "left join lineage_sourcehealth h on h.source_id = s.id "
            "where s.name <> 'touchstone' and s.revoked_at is null order by s.id"
        )
    ]


def read() -> Memory:
    """What is remembered now."""
    memory = Memory(index_to=int(_rows("select index_to from coverage_progress where id = 1")[0][0]))
    columns = "source_id, high, told_to, heard_at, state_index, baseline"
    for source, high, told_to, heard_at, state, base in _rows(f"select {columns} from coverage_source"):  # noqa: S608
        memory.sources[source] = Remembered(Numbers(high), told_to, heard_at, state, base)
    pieces = "source_id, first, last, gap_first, gap_last, noticed_at, reported"
    for source, *piece in _rows(f"select {pieces} from coverage_missing order by source_id, first"):  # noqa: S608
        memory.of(source).numbers.missing.append(Missing(*piece))
    for source, *lasting in _rows("select source_id, rule, object, began_at, detail from coverage_condition"):
        condition = Condition(*lasting)
        memory.conditions[source, condition.rule, condition.object] = condition
    for *place, told_to, settled_to in _rows(
        "select environment, datasource, about, told_to, settled_to from coverage_checked"
    ):
        memory.checked[place[0], place[1], place[2]] = (told_to, settled_to)
    return memory


def write(memory: Memory, index_from: int) -> bool:
    """Replaces what is remembered; False when another keeper has been here since `index_from` was read.

    Call inside a transaction.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "update coverage_progress set index_to = %s where id = 1 and index_to = %s", [memory.index_to, index_from]
        )
        if cursor.rowcount != 1:
            return False
        for table in ("coverage_source", "coverage_missing", "coverage_condition", "coverage_checked"):
            cursor.execute(f"delete from {table}")  # noqa: S608 - fixed names
        cursor.executemany(
            "insert into coverage_source values (%s, %s, %s, %s, %s, %s)",
            [
                (id_, s.numbers.high, s.told_to, s.heard_at, s.state_index, s.baseline)
                for id_, s in memory.sources.items()
            ],
        )
        cursor.executemany(
            "insert into coverage_missing values (%s, %s, %s, %s, %s, %s, %s)",
            [(id_, *msgspec.structs.astuple(gap)) for id_, s in memory.sources.items() for gap in s.numbers.missing],
        )
        cursor.executemany(
            "insert into coverage_condition values (%s, %s, %s, %s, %s)",
            [(key[0], *msgspec.structs.astuple(lasting)) for key, lasting in memory.conditions.items()],
        )
        cursor.executemany(
            "insert into coverage_checked (environment, datasource, about, told_to, settled_to) values (%s, %s, %s, %s, %s)",
            [(*place, *window) for place, window in memory.checked.items()],
        )
        return True
