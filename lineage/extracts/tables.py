"""Which records are of a table: terms by index, of records that name it and of what they touched of it, and the tables' names.

A list of records counts each once, one of accesses as often as the record touched the table. So a record stands under the bits
of that number: mostly under the first alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from lineage import durable
from lineage.extracts import Cursor, postings
from lineage.extracts.postings import Hashes, hashes_of, text_sql

FILE = "tables.json"
BOTH, TOUCHED, NAMED = "both", "touched", "named"
"""How a record is of a table: it names and touched it, or but one of both."""
BITS = 24

OF_TABLES = f"""
touched_tables as (select index, relation, count(*) as times from made_touches where relation is not null group by all),
named_tables as (select distinct index, unnest(relations) as relation from made),
tables as (
    select index, made.datasource, relation, coalesce(times, 1) as times,
           case when times is null then '{NAMED}' when named is null then '{TOUCHED}' else '{BOTH}' end as how
    from touched_tables full join (select *, true as named from named_tables where relation is not null) using (index, relation)
    join made using (index))
"""  # noqa: S608 - our own words
TERMS = f"""
select {text_sql("table", "how", "datasource", "relation", "bit")} as term, index
from (select *, unnest(list_filter(range({BITS}), lambda bit: (times >> bit) & 1 = 1)) as bit from tables)
"""  # noqa: S608 - our own columns
NAMES = f"with {OF_TABLES} select datasource, relation, lower(relation), how, bit_or(times) from tables group by all"  # noqa: S608


class Table(NamedTuple):
    """A table as some records have it; `folded`: its name as a search compares it, `bits`: of how often it was touched."""

    datasource: str | None
    relation: str
    folded: str
    how: str
    bits: int

    def terms(self, missing: str) -> Iterator[tuple[int, int]]:
        """The hash of each term of its records, and how many accesses one stands for; none where they are of it in that way."""
        for bit in range(BITS):
            if self.how != missing and self.bits >> bit & 1:
                yield postings.hash_of("table", self.how, self.datasource, self.relation, bit), 1 << bit


def touching(datasource: str | None, relations: Sequence[str]) -> Hashes:
    """The terms, ascending, of all records that touched one of these tables."""
    every = (
        ("table", how, datasource, relation, bit)
        for how in (BOTH, TOUCHED)
        for relation in relations
        for bit in range(BITS)
    )
    return np.sort(hashes_of(every))


class Tables:
    """The tables of one extract, or of what is newer than all, by name."""

    def __init__(self, every: Iterable[Table]) -> None:
        self.named: dict[str, list[Table]] = {}
        for one in every:
            for name in {one.folded, one.folded.partition(".")[2] or one.folded}:
                self.named.setdefault(name, []).append(one)

    def all(self) -> set[Table]:
        return {one for some in self.named.values() for one in some}

    def of(self, name: str) -> list[Table]:
        """Those with this folded name, with or without its schema."""
        return self.named.get(name, [])


def names(cursor: Cursor) -> list[Table]:
    return [Table(*row) for row in cursor.execute(NAMES).fetchall()]


def write(folder: Path, every: Iterable[Table]) -> None:
    ordered = sorted(every, key=lambda one: (one.datasource or "", *one[1:]))
    durable.write_from(folder / FILE, 0, iter([msgspec.json.encode(ordered)]))


def merge(folder: Path, parts: Iterable[Path]) -> None:
    """The names of all parts."""
    write(folder, together(one for part in parts for one in read(part)))


def together(every: Iterable[Table]) -> Iterator[Table]:
    """Each table once, with the bits of all records that are of it."""
    bits: dict[tuple[str | None, str, str, str], int] = {}
    for one in every:
        bits[one[:4]] = bits.get(one[:4], 0) | one.bits
    return (Table(*key, bits=some) for key, some in bits.items())


def read(folder: Path) -> list[Table]:
    """Raises Damaged."""
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=list[Table])
    except (ValueError, msgspec.DecodeError) as error:
        raise postings.Damaged(f"{FILE} is not what was written.") from error
