"""What one question is asked of, and how far of it there is anything to join. No DuckDB here."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from lineage import projections

OWN = "touchstone"
JOINED = ("session", "query", "change")
"""Kinds of records that joins are made of, whoever wrote them."""
ERASED_AT = "select max(published_at) from ledger_erasure"
SIZE = f"select size, ({ERASED_AT}) from ledger_head"  # noqa: S608 - our own words
SEGMENTS = (
    "select folder, next_index, files -> 'facts' ->> 'projection', files -> 'heard' ->> 'projection' "
    "from ledger_segment order by first_index"
)
FAR = dt.datetime(9999, 1, 1, tzinfo=dt.UTC)


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """What one question is asked of: log size, sealed files, and the tail as Arrow; of one store, since its last erasure.

    `with_facts` are the folders that hold facts of the present version; `with_heard`, with their next index, those that hold
    `heard` of it.
    """

    store: str
    erased_at: dt.datetime | None
    size: int
    sealed_to: int
    folders: tuple[str, ...]
    with_facts: tuple[str, ...]
    with_heard: tuple[tuple[str, int], ...]
    events: pa.Table
    touches: pa.Table
    identities: pa.Table
    context_roles: pa.Table
    conflicted: pa.Table
    tagged: pa.Table

    def reported_to(self, size: int) -> int:
        """The index of the last record below `size` that a source reported; what the store itself says joins with nothing."""
        if size <= self.sealed_to:
            return size
        index, kind = self.events["index"], self.events["kind"]
        told = pc.or_(pc.not_equal(self.events["source"], OWN), pc.is_in(kind, pa.array(JOINED)))
        newest: int | None = pc.max(pc.filter(index, pc.and_(told, pc.less(index, size)))).as_py()
        return self.sealed_to if newest is None else newest


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
    roles = _table(cursor.fetchall(), pa.schema([(n, pa.string()) for n in ("environment", "datasource", "db_user")]))
    cursor.execute(
        "select distinct b.first_index + c.of_ordinal from ledger_conflict c join ledger_batch b on b.batch = c.of_batch"
    )
    return identities, roles, _table(cursor.fetchall(), pa.schema([("index", pa.int64())]))


def _table(rows: Sequence[Sequence[Any]], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema)
