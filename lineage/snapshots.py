"""What one question is asked of, and how far of it there is anything to join. No DuckDB here."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from lineage import facts, heard, projections
from lineage.extracts import Extract

OWN = "touchstone"
JOINED = ("session", "query", "change")
"""Kinds of records that joins are made of, whoever wrote them."""
ERASED_AT = "select max(published_at) from ledger_erasure"


def _rows(table: str, key: str = "id") -> str:
    """SQL of a text that is another one whenever a row of the table came, went, or was changed."""
    return f"(select concat(count(*), ' ', bit_xor(hashint8extended({key}, xmin::text::bigint))) from {table})"  # noqa: S608


STATE = f"""
select size, ({ERASED_AT}), (select string_agg(folder || ' ' || xmin, ' ' order by first_index) from ledger_segment),
       (select string_agg(folder, ' ' order by first_index) from ledger_extract),
       concat_ws('/', {_rows("lineage_identity")}, {_rows("lineage_source")}, (select count(*) from ledger_conflict)),
       concat_ws('/', {_rows("lineage_tag")}, {_rows("lineage_declaredcatalog", "database_id")}, {_rows("lineage_gatewaydatabase")})
from ledger_head"""  # noqa: S608 - our own words
"""One row that is the same as long as there is nothing new to read."""
SEGMENTS = """
select folder, first_index, next_index, files -> 'facts' ->> 'projection', files -> 'heard' ->> 'projection'
from ledger_segment order by first_index"""
EXTRACTS = "select folder, first_index, next_index, basis, files::text from ledger_extract order by first_index"
ROLES = pa.schema([(name, pa.string()) for name in ("environment", "datasource", "db_user")])
FAR = dt.datetime(9999, 1, 1, tzinfo=dt.UTC)


class State(NamedTuple):
    """What there was when somebody looked: of which store, how much, and what says whether the rest has changed."""

    store: str
    size: int
    erased_at: dt.datetime | None
    segments: str | None
    extracts: str | None
    reference: str
    tags: str


class Segment(NamedTuple):
    """A folder of sealed files, and whether it holds facts and `heard` of the present version."""

    folder: str
    first: int
    following: int
    has_facts: bool
    has_heard: bool


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """What one question is asked of: log size, sealed files, and the tail as Arrow; of one store, since its last erasure."""

    store: str
    erased_at: dt.datetime | None
    size: int
    segments: tuple[Segment, ...]
    events: pa.Table
    touches: pa.Table
    identities: pa.Table
    context_roles: pa.Table
    conflicted: pa.Table
    tagged: pa.Table
    extracts: tuple[Extract, ...] = ()
    """Those that can be used, one after the other from the first record on."""

    @functools.cached_property
    def logins(self) -> dict[object, list[dict[str, Any]]]:
        """The rows of `identities` by login."""
        found: dict[object, list[dict[str, Any]]] = {}
        for row in self.identities.to_pylist():
            found.setdefault(row["db_user"], []).append(row)
        return found

    @functools.cached_property
    def people(self) -> dict[tuple[str, str], list[dict[str, Any]]]:
        """The same by database and login."""
        found: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for rows in self.logins.values():
            for row in rows:
                found.setdefault((row["datasource"], row["db_user"]), []).append(row)
        return found

    @functools.cached_property
    def _theirs(self) -> dict[str, set[str]]:
        """The names of logins by whose they were."""
        found: dict[str, set[str]] = {}
        for rows in self.logins.values():
            for row in rows:
                found.setdefault(row["person_id"], set()).add(row["db_user"])
        return found

    def logins_about(self, who: str | None) -> list[dict[str, Any]]:
        """Each row of `identities` about a login that was theirs once, or has their name, among them."""
        names = {*self._theirs.get(who, ()), who} if who is not None else ()
        return [row for name in names for row in self.logins.get(name, ())]

    @property
    def sealed_to(self) -> int:
        return self.segments[-1].following if self.segments else 0

    @property
    def folders(self) -> tuple[str, ...]:
        return tuple(one.folder for one in self.segments)

    @property
    def with_facts(self) -> tuple[str, ...]:
        """The folders that hold facts of the present version."""
        return tuple(one.folder for one in self.segments if one.has_facts)

    def reported_to(self, size: int) -> int:
        """The index of the last record below `size` that a source reported; what the store itself says joins with nothing."""
        return self._reported_to_all if size == self.size else self._reported_to(size)

    @functools.cached_property
    def _reported_to_all(self) -> int:
        return self._reported_to(self.size)

    def _reported_to(self, size: int) -> int:
        if size <= self.sealed_to:
            return size
        index, kind = self.events["index"], self.events["kind"]
        told = pc.or_(pc.not_equal(self.events["source"], OWN), pc.is_in(kind, pa.array(JOINED)))
        newest: int | None = pc.max(pc.filter(index, pc.and_(told, pc.less(index, size)))).as_py()
        return self.sealed_to if newest is None else newest


def state(cursor: psycopg.Cursor[Any], store: str) -> State:
    """How the store is now; one statement, so of one moment."""
    # Asked before each question: it is planned once for a connection.
    cursor.execute(STATE, prepare=True)
    size, *rest = cursor.fetchone() or (0, None, None, None, "", "")
    return State(store, size, *rest)


def segments(cursor: psycopg.Cursor[Any]) -> tuple[Segment, ...]:
    cursor.execute(SEGMENTS)
    return tuple(
        Segment(folder, first, following, of_facts == facts.VERSION, of_heard == heard.VERSION)
        for folder, first, following, of_facts, of_heard in cursor.fetchall()
    )


def reference(cursor: psycopg.Cursor[Any]) -> tuple[pa.Table, pa.Table, pa.Table]:
    cursor.execute(
        "select * from (select datasource, db_user, person_id, name, nullif(email, ''), type, as_of, "
        "coalesce(lead(as_of) over (partition by datasource, db_user order by as_of), %s) from lineage_identity) m "
        "where person_id <> ''",
        (FAR,),
    )
    names = ["datasource", "db_user", "person_id", "name", "email", "type"]
    schema = pa.schema([(n, pa.string()) for n in names] + [("from_at", projections.TIME), ("to_at", projections.TIME)])
    identities = _table(cursor.fetchall(), schema)
    # Of revoked sources too: what was proved while the source was heard stays proved.
    cursor.execute("select distinct environment, datasource, unnest(context_roles) from lineage_source")
    roles = _table(cursor.fetchall(), ROLES)
    cursor.execute(
        "select distinct b.first_index + c.of_ordinal from ledger_conflict c join ledger_batch b on b.batch = c.of_batch"
    )
    return identities, roles, _table(cursor.fetchall(), pa.schema([("index", pa.int64())]))


def _table(rows: Sequence[Sequence[Any]], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema)
