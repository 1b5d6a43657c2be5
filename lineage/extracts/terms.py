"""Which terms a record is found by, and what a card holds: SQL over the records of an extract and their touches.

`made` and `made_touches` are the relations that it is asked of (`lineage.extracts.Making`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import zstandard

from lineage import acts, durable, rowgroups
from lineage.extracts import Cursor, Indexes, Making, beginnings, cards, packing, postings, stacks, tables, writings
from lineage.extracts.beginnings import BEGUN, BY_INDEX
from lineage.extracts.blocks import TOUCHED, Layout
from lineage.extracts.cards import Card
from lineage.extracts.postings import Hashes, hash_sql, text_sql

CARDS, BY_TIME, SHAPES = "cards.bin", "rows.post", "shapes.json.zst"
FILES = (CARDS, BY_INDEX, BY_TIME, BEGUN, SHAPES, tables.FILE, writings.FILE)
VERSION = "7"
"""Raise it with every change of what is written."""
BATCH = 5_000
APART = "\x1e"

ACTED = "kind in ('session', 'query', 'change')"
ACCESS, REAL, DONE, NOT_DONE, DECISION, ACT, LISTED = (1 << n for n in range(7))
MARKS = {
    ACCESS: acts.ACCESSES, REAL: acts.REAL, DONE: acts.DONE, NOT_DONE: acts.NOT_DONE, DECISION: "kind = 'decision'", ACT: ACTED,
    LISTED: f"kind <> 'custody' and {acts.LISTED}",
}  # fmt: skip
"""What is asked of many records at a time; a condition that is null does not hold."""
MARKED = " + ".join(f"case when {condition} then {mark} else 0 end" for mark, condition in MARKS.items())

FIXED = "list_sort(list_distinct(list_transform(pairs, lambda p: split_part(p, '=', 1))))"
ONE_FIXED = "case when len(pairs) = 1 then split_part(pairs[1], '=', 1)"
SHAPE = f"coalesce({ONE_FIXED} else array_to_string({FIXED}, '{APART}') end, '')"
"""The columns that a touch's conditions fix: mostly there is one."""
STATES = (
    "kind = 'state' and state is not null and not list_contains(flags, 'unauthorised_assertion') "
    "and coalesce(json_extract_string(state, '$.mode'), 'snapshot') = 'snapshot'"
)
"""Complete snapshots of a database's catalogs."""
HERE = "datasource is not null and relation is not null"

BEGINNINGS = f"""
select {text_sql("begin", "datasource")} as term, {{first}} as index from acted group by environment, datasource, session
union all select {text_sql("begin told", "told_id")}, {{first}} from acted where told_id is not null
group by environment, datasource, told_id, session
union all select {text_sql("begin login", "datasource", "db_user")}, {{first}} from acted where told_id is null and db_user is not null
group by environment, datasource, db_user, session
""".format(first="arg_min(index, (occurred_at, index))")  # noqa: S608 - our own columns, as below
"""The first record of each session here, for its database, and for each who acted in it."""
ACTORS = f"""
with acted as (select * from made where session is not null and {ACTED}), {tables.OF_TABLES},
named as materialized ({BEGINNINGS} union all
{tables.TERMS} union all
select {text_sql("told", "told_id")} as term, index from made where told_id is not null
union all select {text_sql("login", "datasource", "db_user")}, index from made where told_id is null and db_user is not null
union all select {text_sql("run", "agent_run")}, index from made where agent_run is not null
union all select {text_sql("behalf", "on_behalf_of")}, index from made where on_behalf_of is not null
union all select {text_sql("keyed", "datasource", "relation")}, index
from made_touches where {HERE} and access = 'changed' and len(key_columns) > 0)
select hash as term, index
from named join (select term, md5_number_lower(term) as hash from (select distinct term from named)) using (term)
"""  # noqa: S608 - our own columns
"""Few of these terms differ: each is hashed once."""
ROWS = f"""
with touched as (
    select t.index, t.datasource, t.relation, t.key, t.access, t.pairs, t.key_columns, m.transaction_id, {acts.NOT_DONE} as refused
    from made_touches t join made m using (index) where t.datasource is not null and t.relation is not null)
select {hash_sql("session", "session")} as term, index from made where session is not null
union all select {hash_sql("leave", "asked")}, index
from (select index, unnest([ticket, approval_request]) as asked from made where kind = 'decision') where asked is not null
union all select {hash_sql("cited", "asked")}, index
from (select index, unnest(list_distinct([ticket, approval_request])) as asked from made where kind <> 'decision') where asked is not null
union all select {hash_sql("acted", "datasource", "transaction_id")}, index
from made where datasource is not null and transaction_id is not null
union all select {hash_sql("state", "datasource")}, index from made where {STATES}
union all select {hash_sql("row", "datasource", "relation", "access", "key")}, index
from touched where key is not null and access in ('changed', 'read')
union all select {hash_sql("keyless", "datasource", "relation")}, index from touched where access = 'changed' and key is null
union all select {writings.term_sql("datasource", "relation", "transaction_id")}, index
from touched where access = 'changed' and transaction_id is not null
union all select {hash_sql("pair", "datasource", "relation", "access", "pair")}, index
from (select index, datasource, relation, access, unnest(pairs) as pair from touched where access in ('read', 'wrote'))
union all select {hash_sql("shape", "datasource", "relation", "access", SHAPE)}, index
from touched where access in ('read', 'wrote')
union all select {hash_sql("refused", "datasource", "relation", "met")}, index
from (select index, datasource, relation, unnest(list_append(pairs, key)) as met from touched where refused) where met is not null
"""  # noqa: S608 - our own columns
SESSIONS = f"""
with acted as (select * from made where session is not null and {ACTED})
select {hash_sql("session", "session")} as term, index from made semi join ({BEGINNINGS}) b using (index)
"""  # noqa: S608 - our own columns
SHAPED = f"select distinct datasource, relation, {SHAPE} as shape from made_touches where {HERE} and access in ('read', 'wrote')"  # noqa: S608
TIMES = ("occurred_at", "received_at")
CONTENT = f"""
select m.* replace ({", ".join(f"epoch_us({name}) as {name}" for name in TIMES)}), t.touches, {MARKED} as marks
from made m left join (
    select index, list(struct_pack({", ".join(f"{name} := {name}" for name in TOUCHED)})) as touches from made_touches group by index
) t using (index) order by m.index
"""  # noqa: S608 - our own columns

MARKS_OF = f"select {MARKED} as marks from made order by index"  # noqa: S608 - as above
TOUCHES_OF = f"select index, {', '.join(TOUCHED)} from made_touches"  # noqa: S608

DIRECTORY = f"""
select index, epoch_us(occurred_at) as at, environment, datasource, {MARKED} as marks from made order by index
"""  # noqa: S608 - our own columns
ASKED = {BY_INDEX: ACTORS, BY_TIME: ROWS, BEGUN: SESSIONS}

Shapes = set[tuple[str, str, str]]
"""Database, relation, and the columns that conditions of some touch of it fix, joined."""


def write(making: Making) -> None:
    """The companions of an extract that is made anew."""
    folder = making.folder
    _write_cards(making)
    made = cards.Cards(folder / CARDS)
    for name, sql in ASKED.items():
        hashes, indexes = pairs(making.cursor, sql)
        postings.write(folder / name, hashes, indexes, made.directory(indexes).times if name == BY_TIME else None)
    _write_shapes(folder, shapes(making.cursor))
    tables.write(folder, tables.names(making.cursor))
    writings.write(folder, making.cursor)


def merge(making: Making) -> None:
    """The companions of an extract that is merged of others."""
    folder, parts = making.folder, making.parts
    stacks.merged(folder / CARDS, [part / CARDS for part in parts], making.dropped)
    made = cards.Cards(folder / CARDS)
    postings.merged(
        folder / BY_TIME, [part / BY_TIME for part in parts], making.dropped, lambda some: made.directory(some).times
    )
    again = beginnings.again(parts, making.dropped, made, postings.Postings(folder / BY_TIME))
    for name in (BY_INDEX, BEGUN):
        more = folder / f"{name}.more"
        postings.write(more, *again[name])
        postings.merged(folder / name, [*(part / name for part in parts), more], [*making.dropped, None])
        durable.remove(more)
    _write_shapes(folder, set().union(*map(read_shapes, parts)))
    tables.merge(folder, parts)
    writings.merge(folder, parts, making.dropped)


def _write_cards(making: Making) -> None:
    """The same as of what `told` gives, without an object for each record."""
    files = [path for path in (making.overrides, making.records) if path is not None]
    names = pq.read_schema(making.records).names
    marks = making.cursor.sql(MARKS_OF).to_arrow_table()["marks"].to_numpy()
    touches = making.cursor.sql(TOUCHES_OF).to_arrow_table()
    parts = (part.select(names) for path in files for part in rowgroups.groups(path))
    places = cards.Places()
    blocks = packing.packed(Layout(names), places, parts, touches, marks)
    cards.write_packed(making.folder / CARDS, names, places, blocks)


def told(answer: Any) -> Iterator[Card]:
    """The cards of what `CONTENT` answers."""
    index, at = answer.columns.index("index"), answer.columns.index("occurred_at")
    for batch in answer.to_arrow_reader(BATCH):
        columns = {name: batch.column(name).to_pylist() for name in batch.schema.names}
        touches, marks = columns.pop("touches"), columns.pop("marks")
        places = zip(columns["environment"], columns["datasource"], strict=True)
        for row, touched, mark, place in zip(zip(*columns.values(), strict=True), touches, marks, places, strict=True):
            content = list(row), [list(touch.values()) for touch in touched or ()]
            yield Card(row[index], row[at], place, mark, content)


def pairs(cursor: Cursor, sql: str) -> tuple[Hashes, Indexes]:
    """Terms and records of one of the questions above."""
    found = cursor.sql(sql).to_arrow_table()
    return found["term"].to_numpy(), found["index"].to_numpy()


def shapes(cursor: Cursor) -> Shapes:
    return set(cursor.execute(SHAPED).fetchall())


def _write_shapes(folder: Path, every: Shapes) -> None:
    durable.write_from(folder / SHAPES, 0, iter([zstandard.compress(msgspec.json.encode(sorted(every)), 9)]))


def read_shapes(folder: Path) -> list[tuple[str, str, str]]:
    """By database and relation. Raises Damaged."""
    try:
        return msgspec.json.decode(
            zstandard.decompress((folder / SHAPES).read_bytes()), type=list[tuple[str, str, str]]
        )
    except (ValueError, zstandard.ZstdError, msgspec.DecodeError) as error:
        raise postings.Damaged(f"{SHAPES} is not what was written.") from error
