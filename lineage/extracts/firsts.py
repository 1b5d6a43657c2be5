"""First accesses: for each actor and table the first two that an extract has, so that none of those between is read.

Of two, since the first may be told anew. Who an actor is by imported logins is asked when first accesses are counted.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
import pyarrow.compute as pc
import zstandard
from numpy.typing import NDArray

from lineage import acts, durable, snapshots
from lineage.extracts import Cursor, Making
from lineage.extracts.blocks import Place
from lineage.extracts.numbering import met
from lineage.extracts.postings import Damaged, mapped

FILE = "firsts.bin"
VERSION = "2"
"""Raise it with every change of what is written."""
FOOT = struct.Struct("<16sQQ")
MAGIC = b"touchstone first"
NEVER = (1 << 63) - 1
KINDS = ("i8", "i8", "i8", "i8", "i8", "u4", "u4", "u4")

TOUCHING = f"{acts.REAL} and coalesce(op, '') <> 'snapshot'"
"""What counts as an access to a table, of the columns of `activity`."""
EACH = f"""
select distinct m.environment, m.datasource, t.relation, m.told_id, case when m.told_id is null then m.db_user end as login,
       epoch_us(m.occurred_at) as moment, m.index
from (select index, relation from {{touches}}) t
join (select * from {{records}} where environment <> '{snapshots.OWN}' and {TOUCHING}) m using (index)
where t.relation is not null and coalesce(m.told_id, m.db_user) is not null
"""  # noqa: S608 - our own columns, as below
NAMED = ("environment", "datasource"), ("relation",), ("told_id", "login")
PAIRS = f"""
select * exclude (moments, indexes), coalesce(moments[1], {NEVER}) as first_at, coalesce(moments[2], {NEVER}) as second_at,
       coalesce(indexes[1], -1) as first, coalesce(indexes[2], -1) as second
from (
    select environment, datasource, relation, told_id, login, min(moment, 2) as moments, arg_min(index, (moment, index), 2) as indexes,
           count(*) as counts, count(*) > count(moment) as is_timeless
    from ({{each}}) each group by environment, datasource, relation, told_id, login)
"""  # noqa: S608


class Said(msgspec.Struct, frozen=True, array_like=True):
    """What the numbers of a file stand for; actors as (told_id, login). `is_timeless`: some record has no time."""

    places: list[Place]
    relations: list[str]
    actors: list[tuple[str | None, str | None]]
    is_timeless: bool


class Pairs(NamedTuple):
    """Of each actor and table the times and indexes of the first two records (`NEVER` and -1 where there is none), how many there
    are, and place, relation and actor as numbers."""

    first_at: NDArray[Any]
    second_at: NDArray[Any]
    first: NDArray[Any]
    second: NDArray[Any]
    counts: NDArray[Any]
    places: NDArray[Any]
    relations: NDArray[Any]
    actors: NDArray[Any]


class First(NamedTuple):
    """Somebody's first access to a table: when, and which record tells of it."""

    who_id: str
    datasource: str | None
    relation: str
    at: int
    record: int


class Firsts(Protocol):
    """As `newcomers.Newcomers`; `wanted` is a `looking.Wanted`."""

    def count(self, wanted: Any) -> int: ...
    def newest(self, wanted: Any, before: int | None, most: int) -> Sequence[First]: ...


File = tuple[Pairs, Said]


def write(making: Making) -> None:
    """Of an extract that is made anew, or merged of others."""
    records = f"(from made where index >= {making.first} and index < {making.following})"
    touches = f"(from made_touches where index >= {making.first} and index < {making.following})"
    pairs, said = made(making.cursor, records, touches)
    durable.write_from(making.folder / FILE, 0, _content(pairs, said))


def made(cursor: Cursor, records: str, touches: str) -> tuple[Pairs, Said]:
    """Of the records and touches of two relations with the columns of `resolved` and `raw_touches`."""
    found = cursor.sql(PAIRS.format(each=EACH.format(records=records, touches=touches))).to_arrow_table()
    named = [met([found[name].combine_chunks() for name in names]) for names in NAMED]
    columns = [*(found[name].to_numpy() for name in Pairs._fields[:5]), *(numbers for numbers, _ in named)]
    places, relations, actors = (rows for _, rows in named)
    arrays = (column.astype(kind) for column, kind in zip(columns, KINDS, strict=True))
    is_timeless = bool(pc.any(found["is_timeless"]).as_py())
    return Pairs(*arrays), Said(places, [relation for (relation,) in relations], actors, is_timeless)


def none() -> File:
    """Of no records."""
    return Pairs(*(np.array([], kind) for kind in KINDS)), Said([], [], [], False)


def _content(pairs: Pairs, said: Said) -> Iterator[bytes]:
    compress = zstandard.ZstdCompressor(level=3).compress
    columns = compress(b"".join(column.astype(column.dtype.newbyteorder("<")).tobytes() for column in pairs))
    yield columns
    words = compress(msgspec.msgpack.encode(said))
    yield words
    yield FOOT.pack(MAGIC, len(columns), len(words))


SAID = msgspec.msgpack.Decoder(Said)


def read(folder: Path) -> tuple[Pairs, Said]:
    """What a file says. Raises FileNotFoundError and Damaged."""
    view = bytes(mapped(folder / FILE))
    try:
        magic, columns, words = FOOT.unpack(view[-FOOT.size :])
        if magic != MAGIC or columns + words + FOOT.size != len(view):
            raise Damaged(f"{FILE} is not a file of first accesses.")
        content = zstandard.decompress(view[:columns])
        said = SAID.decode(zstandard.decompress(view[columns : columns + words]))
    except (struct.error, msgspec.DecodeError, zstandard.ZstdError) as error:
        raise Damaged(f"{FILE} is not a file of first accesses.") from error
    return Pairs(*_split(content)), said


def _split(content: bytes) -> Sequence[NDArray[Any]]:
    widths = [np.dtype(kind).itemsize for kind in KINDS]
    count, at, found = len(content) // sum(widths), 0, []
    for kind, width in zip(KINDS, widths, strict=True):
        found.append(np.frombuffer(content, np.dtype(kind).newbyteorder("<"), count, at))
        at += count * width
    return found
