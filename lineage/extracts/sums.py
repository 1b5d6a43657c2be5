"""Sums of an extract: how many accesses each hour had, where, by whom and how, so that counts over months read no records.

A cell is an hour, an actor (who as records tell it, with the place) and a manner. A statement that several records tell of (one
*call*) is counted in the hour that has all of them; one that has records in several hours or places is *spread* and is told
record by record. Of records earlier than the extract nothing is counted here: who asks looks at those that are told anew.
Beside the sums lies each counted record by itself (`singles`), for hours that a window cuts.
"""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
import pyarrow as pa
import zstandard
from numpy.typing import NDArray

from lineage import acts, durable, snapshots
from lineage.extracts import Cursor, Indexes, Making, postings, singles
from lineage.extracts.blocks import Place
from lineage.extracts.cards import NO_TIME
from lineage.extracts.numbering import Numbers, numbered
from lineage.extracts.postings import Damaged, Postings, hash_sql, mapped

FILE, CALLS = "sums.bin", "calls.post"
FILES = (FILE, CALLS, singles.FILE)
VERSION = "4"
"""Raise it with every change of what is written."""
NO_HOUR = -(1 << 31)
"""Of records without a time."""
CELL_KINDS, HOUR_KINDS = ("i4", "u4", "u4", "u4"), ("i8", "i8", "i4", "u4", "u4", "u4")
BATCH = 20_000
NO_HASHES = np.empty(0, np.uint64)
FOOT = struct.Struct("<16sQQQ")
MAGIC = b"touchstone sums2"

ACTOR = {
    "environment": "environment", "datasource": "datasource", "told_id": "told_id", "told_name": "told_name", "told_type": "told_type",
    "is_told": "told_by is not null", "db_user": "db_user", "has_agent": "agent_id is not null", "agent_name": "agent_name",
    "is_alone": "on_behalf_of is null",
}  # fmt: skip
MANNER = {
    "verdict": "verdict", "is_access": f"coalesce({acts.ACCESSES}, false)", "is_change": "kind = 'change'",
    "is_refused": f"coalesce({acts.REFUSED}, false)",
}  # fmt: skip
TOLD = {
    "call": "correlation_id", "is_statement": f"coalesce({acts.STATEMENT}, false)",
    "is_write": f"coalesce({acts.WRITING}, false) and correlation_id is not null",
}  # fmt: skip
HOUR = f"coalesce(epoch_us(date_trunc('hour', occurred_at)) // 3600000000, {NO_HOUR})"
COUNTED = f"environment <> '{snapshots.OWN}' and (coalesce({acts.ACCESSES}, false) or kind = 'session')"
"""Which records are counted at all."""


def _columns(*named: dict[str, str]) -> str:
    return ", ".join(f"{sql} as {name}" for some in named for name, sql in some.items())


EACH = (
    f"select index, epoch_us(occurred_at) as moment, {HOUR} as hour, {_columns(ACTOR, MANNER, TOLD)} "  # noqa: S608 - our own columns
    f"from {{records}} where {COUNTED}"
)
"""What is counted of each record of a relation with the columns of `resolved`."""
READ = f"""
select index, moment, hour, {", ".join((*ACTOR, *MANNER))}, is_statement and call is null as is_single,
       is_statement and call is not null as is_statement, is_write from each
"""  # noqa: S608 - our own columns, as below
ONE = "environment, datasource, hour"
CALLED = """
create or replace temp table calls as
    select call, min(hour) as hour, min(environment) as environment, min(datasource) as datasource, min(index) as first, count(*) as n,
           bool_or(is_statement) as is_statement, bool_or(is_write) as is_write,
           min(hour) = max(hour) and min(environment) = max(environment) and min(datasource) is not distinct from max(datasource)
           and count(datasource) in (0, count(*)) as is_one
    from each where call is not null and (is_statement or is_write) group by call
"""
LINKED = """
select e.index, c.first, c.is_one from each e join calls c using (call) where c.n > 1 and (e.is_statement or e.is_write) order by e.index
"""
HOURS = f"""
select hour, environment, datasource, sum(statements) as statements, sum(writes) as writes, max(last_index) as last_index,
       max(last_at) as last_at
from (select {ONE}, count(*) filter (is_statement and call is null) as statements, 0 as writes, max(index) as last_index,
             max(moment) as last_at from each group by {ONE}
      union all select {ONE}, count(*) filter (is_statement), count(*) filter (is_write), null, null from calls where is_one group by {ONE})
group by {ONE} order by hour
"""  # noqa: S608
SPREAD = """
select call, moment, environment, datasource, is_statement, is_write from each semi join (from calls where not is_one) c using (call)
where is_statement or is_write
"""
OF_CALLS = f"kind = 'change' or (kind = 'query' and not {acts.TWICE})"
POSTED = (
    f"select {hash_sql('call', 'correlation_id')} as term, index from made "  # noqa: S608 - our own columns
    f"where correlation_id is not null and ({OF_CALLS})"
)
"""All that tell of a call: what is counted here (`each`), and what `codes` count beside that."""
CROSSING = f"""
select distinct call from each semi join given_crossing g on g.term = {hash_sql("call", "call")}
where call is not null and (is_statement or is_write)
"""  # noqa: S608


class Spread(NamedTuple):
    """One record of a call that has records in several hours or places; time in microseconds."""

    call: str
    at: int | None
    environment: str | None
    datasource: str | None
    is_statement: bool
    is_write: bool


Actor = tuple[Any, ...]
"""The values of `ACTOR`."""


class Way(NamedTuple):
    """How a single record counts: as a statement by itself, or as one of a call that is one, or a write."""

    manner: int
    is_single: bool
    is_statement: bool
    is_write: bool


class Said(NamedTuple):
    """What the numbers of a file stand for. `crossing`: calls of which other extracts have records too, or might have."""

    actors: list[Actor]
    manners: list[Actor]
    ways: list[Way]
    places: list[Place]
    spread: list[Spread]
    crossing: list[str]


class Cells(NamedTuple):
    """In order of hours: of each cell its hour, actor, manner and how many."""

    hours: NDArray[Any]
    actors: NDArray[Any]
    manners: NDArray[Any]
    counts: NDArray[Any]


class Hours(NamedTuple):
    """In order of hours: of each hour of a place the calls that it has all of, its greatest index and time."""

    last_index: NDArray[Any]
    last_at: NDArray[Any]
    hours: NDArray[Any]
    places: NDArray[Any]
    statements: NDArray[Any]
    writes: NDArray[Any]


Numbered = TypeVar("Numbered", Cells, Hours)


TOLD_KINDS = ("i8", "i8", "i8", "i8", "i8", "?", "?", "?")


class Told(NamedTuple):
    """Counted records, one by one: actors and manners as numbers, times in microseconds or `NO_TIME`."""

    indexes: Indexes
    times: Indexes
    hours: Indexes
    actors: NDArray[Any]
    manners: NDArray[Any]
    is_single: NDArray[Any]
    is_statement: NDArray[Any]
    is_write: NDArray[Any]


def of(cursor: Cursor, records: str) -> None:
    """Makes the temporary view `each` of these records."""
    cursor.execute(f"create or replace temp view each as {EACH.format(records=records)}")


def told(columns: Mapping[str, pa.Array], actors: Numbers, manners: Numbers) -> Told:
    """What `READ` says of some records."""
    whole = columns["index"], columns["moment"].fill_null(NO_TIME), columns["hour"]
    how = columns["is_single"], columns["is_statement"], columns["is_write"]
    return Told(
        *(np.asarray(column, np.int64) for column in whole),
        *(numbered([columns[name] for name in some], number) for some, number in ((ACTOR, actors), (MANNER, manners))),
        *(np.asarray(column.fill_null(False), bool) for column in how),
    )


def write(making: Making) -> None:
    """The sums of an extract that is made anew."""
    of(making.cursor, "made")
    hashes, indexes = _pairs(making.cursor)
    postings.write(making.folder / CALLS, hashes, indexes)
    met = [Postings(folder / CALLS).among(np.unique(hashes)) for folder in making.earlier]
    making.cursor.register("given_crossing", pa.table({"term": np.unique(np.concatenate([NO_HASHES, *met]))}))
    _write(making, {call for (call,) in making.cursor.execute(CROSSING).fetchall()})


def merge(making: Making) -> None:
    """The sums of an extract that is merged of others, made of its records."""
    postings.merged(making.folder / CALLS, [part / CALLS for part in making.parts], making.dropped)
    _write(making, {call for part in making.parts for call in Sums(part).said.crossing})


def _pairs(cursor: Cursor) -> tuple[postings.Hashes, Indexes]:
    found = cursor.execute(POSTED).fetchnumpy()
    return np.asarray(found["term"], np.uint64), np.asarray(found["index"], np.int64)


def _write(making: Making, crossing: set[str]) -> None:
    cursor, numbers = making.cursor, (Numbers(), Numbers(), Numbers())
    of(cursor, f"(from made where index >= {making.first} and index < {making.following})")
    cursor.execute(CALLED)
    each = _Each(cursor, *numbers[:2])
    durable.write_from(making.folder / singles.FILE, 0, singles.content(each.read()))
    hours = _hours(cursor, numbers[2])
    spread = [Spread(*row) for row in cursor.execute(SPREAD).fetchall()]
    cursor.execute("drop table temp.calls")
    actors, manners, places = (list(each.of) for each in numbers)
    said = Said(actors, manners, [Way(*way) for way in each.ways.of], places, spread, sorted(crossing))
    durable.write_from(making.folder / FILE, 0, _content(each.cells(), hours, said))


class _Each:
    """Reads each counted record once, for its cell and by itself."""

    def __init__(self, cursor: Cursor, actors: Numbers, manners: Numbers) -> None:
        self.cursor, self.numbers, self.ways = cursor, (actors, manners), Numbers()
        self.found = [Cells(*(np.empty(0, np.int64) for _ in Cells._fields))]
        linked = cursor.execute(LINKED).fetchnumpy()
        self.linked, self.first, self.is_one = (np.asarray(linked[name]) for name in ("index", "first", "is_one"))

    def read(self) -> Iterator[singles.Singles]:
        """Those with a time, by index in each part."""
        for columns in batches(self.cursor, READ):
            found = told(columns, *self.numbers)
            if len(found.indexes):
                self.found.append(_added(found.hours, found.actors, found.manners, np.ones(len(found.hours), np.int64)))
                yield self._single(found)

    def _single(self, found: Told) -> singles.Singles:
        calls, is_one = found.indexes.copy(), np.ones(len(found.indexes), bool)
        if len(self.linked):
            places = np.minimum(np.searchsorted(self.linked, found.indexes), len(self.linked) - 1)
            has = self.linked[places] == found.indexes
            calls[has], is_one[has] = self.first[places[has]], self.is_one[places[has]]
        flags = found.is_single, found.is_statement & is_one, found.is_write & is_one
        ways = numbered([pa.array(column) for column in (found.manners, *flags)], self.ways)
        some = singles.Singles(found.indexes, found.times, found.actors, ways, calls)
        timed = np.flatnonzero(found.times != NO_TIME)
        return singles.chosen(some, timed[np.argsort(found.indexes[timed])])

    def cells(self) -> Cells:
        hours, actors, manners, counts = (np.concatenate(columns) for columns in zip(*self.found, strict=True))
        every = _added(hours, actors, manners, counts)
        return Cells(*(column.astype(kind) for column, kind in zip(every, CELL_KINDS, strict=True)))


def _added(hours: NDArray[Any], actors: NDArray[Any], manners: NDArray[Any], counts: NDArray[Any]) -> Cells:
    """Each cell once, in order of hours."""
    order = np.lexsort((manners, actors, hours))
    hours, actors, manners = hours[order], actors[order], manners[order]
    begins = np.ones(len(order), bool)
    begins[1:] = (hours[1:] != hours[:-1]) | (actors[1:] != actors[:-1]) | (manners[1:] != manners[:-1])
    starts = np.flatnonzero(begins)
    total = np.add.reduceat(counts[order], starts) if len(starts) else counts
    return Cells(hours[starts], actors[starts], manners[starts], total)


def _hours(cursor: Cursor, places: Numbers) -> Hours:
    parts = []
    for columns in batches(cursor, HOURS):
        where = zip(columns["environment"].to_pylist(), columns["datasource"].to_pylist(), strict=True)
        parts.append([
            columns["last_index"].fill_null(-1), columns["last_at"].fill_null(NO_TIME), columns["hour"],
            [places(one) for one in where], columns["statements"].cast(pa.int64()), columns["writes"].cast(pa.int64()),
        ])  # fmt: skip
    return Hours(*_together(parts, HOUR_KINDS))


def _together(parts: Sequence[Sequence[Any]], kinds: Sequence[str]) -> list[NDArray[Any]]:
    """The columns of all parts, of these types."""
    return [
        np.concatenate([np.empty(0, kind), *(np.asarray(part[number]).astype(kind) for part in parts)])
        for number, kind in enumerate(kinds)
    ]


def batches(cursor: Cursor, sql: str) -> Iterator[dict[str, Any]]:
    for batch in cursor.sql(sql).to_arrow_reader(BATCH):
        yield {name: batch.column(name) for name in batch.schema.names}


def _content(cells: Cells, hours: Hours, said: Said) -> Iterator[bytes]:
    """The bytes of a file: columns of 8 bytes a value first, so that each lies where it can be read in place."""
    for column in (*hours, *cells):
        yield column.astype(column.dtype.newbyteorder("<")).tobytes()
    words = zstandard.ZstdCompressor(level=3).compress(msgspec.msgpack.encode(said))
    yield words
    yield FOOT.pack(MAGIC, len(cells.hours), len(hours.hours), len(words))


SAID = msgspec.msgpack.Decoder(Said)


class Sums:
    """One file, mapped. Raises FileNotFoundError and Damaged."""

    def __init__(self, folder: Path) -> None:
        view = mapped(folder / FILE)
        size = len(view)
        if size < FOOT.size:
            raise Damaged(f"{FILE} is cut short.")
        magic, cells, hours, words = FOOT.unpack_from(view, size - FOOT.size)
        if magic != MAGIC or hours * 32 + cells * 16 + words + FOOT.size != size:
            raise Damaged(f"{FILE} is not a file of sums.")
        at, columns = 0, []
        for kind, count in [(kind, hours) for kind in HOUR_KINDS] + [(kind, cells) for kind in CELL_KINDS]:
            columns.append(np.frombuffer(view, np.dtype(kind).newbyteorder("<"), count, at))
            at += count * np.dtype(kind).itemsize
        self.hours, self.cells = Hours(*columns[: len(HOUR_KINDS)]), Cells(*columns[len(HOUR_KINDS) :])
        try:
            self.said = SAID.decode(zstandard.decompress(view[at : at + words]))
        except (msgspec.DecodeError, zstandard.ZstdError) as error:
            raise Damaged(f"{FILE} is not a file of sums.") from error
        self.calls, self.singles = Postings(folder / CALLS), singles.File(folder)


def between(some: Numbered, first: int, following: int) -> Numbered:
    """Those from one hour to before another."""
    ends = slice(*np.searchsorted(some.hours, [first, following]).tolist())
    return type(some)(*(column[ends] for column in some))


class Named(NamedTuple):
    """Of actors, each as a number of `Numbers`, -1 for none: who it was at some time."""

    environment: NDArray[Any]
    datasource: NDArray[Any]
    who: NDArray[Any]
    kind: NDArray[Any]
    agent: NDArray[Any]
    is_alone: NDArray[Any]
    is_unknown: NDArray[Any]


class Counted(NamedTuple):
    """Rows of counts: what `Named` says, the hour, the manner, and how many."""

    named: Named
    hour: NDArray[Any]
    manner: NDArray[Any]
    n: NDArray[Any]


class Totals(NamedTuple):
    """`rows` are of the numbers of `numbers` by name; `manners` are those that a row's manner stands for."""

    rows: Sequence[Counted]
    numbers: Mapping[str, Numbers]
    manners: list[Actor]
    statements: int
    writes: int
    last_index: int | None
    last_at: dt.datetime | None
