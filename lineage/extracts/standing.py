"""What the sums of all extracts do not say as of one state: records that are told anew, newer ones, and calls told in several parts.

Of a call that is told in several parts the sums of each part may have counted it: what they did is taken back, and all of its
records are listed, so that a question counts it once, if one of them lies in its window.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from lineage.extracts import RECORDS, Cursor, Extract, Indexes, reading, sums
from lineage.extracts.blocks import Place
from lineage.extracts.fresh import Fresh
from lineage.extracts.postings import Hashes, among, hash_sql, hashes_of
from lineage.extracts.sums import ACTOR, MANNER, Actor, Spread, Sums

HELD = f"select index, moment, hour, {', '.join((*ACTOR, *MANNER))}, call, is_statement, is_write, {hash_sql('call', 'call')} from each"  # noqa: S608
ACTORS, MANNERS = slice(3, 3 + len(ACTOR)), slice(3 + len(ACTOR), 3 + len(ACTOR) + len(MANNER))


class Held(NamedTuple):
    """One record that is counted; `n` is 1, or -1 where what a file says of it is taken back."""

    record: int
    at: int | None
    hour: int
    actor: Actor
    manner: Actor
    call: str | None
    is_statement: bool
    is_write: bool
    term: int
    n: int

    @property
    def place(self) -> Place:
        return self.actor[0], self.actor[1]

    def spread(self) -> Spread:
        return Spread(self.call or "", self.at, *self.place, self.is_statement, self.is_write)


class Standing(NamedTuple):
    """`changed`: records to be added and taken back; `calls`: of an hour of a place how many statements and writes to take back;
    `listed`: records of calls that the files do not count; `gone`: records that count in files and now no more, with their times."""

    files: Sequence[Sums]
    changed: Sequence[Held]
    calls: dict[tuple[int, Place], tuple[int, int]]
    listed: Sequence[Spread]
    gone: dict[int, int | None]


def found(
    cursor: Cursor, every: Sequence[Extract], files: Sequence[Sums], hidden: Sequence[Indexes], told: Fresh
) -> Standing:
    """As of the state that `told` tells of; `hidden` are for each extract the indexes that are told anew. The cursor has `resolved`."""
    own = [some[(some >= one.first) & (some < one.following)] for one, some in zip(every, hidden, strict=True)]
    earlier = [row for one, some in zip(every, own, strict=True) for row in _read(cursor, _records(one), some, -1)]
    again = np.setdiff1d(reading.together(own), told.stale)
    newer = [*_read(cursor, "resolved", again), *_rows(cursor, told.relation)]
    several = _several(files, earlier, newer)
    calls: dict[tuple[int, Place], tuple[int, int]] = {}
    listed = [row.spread() for row in newer if row.call is not None and (row.is_statement or row.is_write)]
    terms = hashes_of(("call", call) for call in sorted(several))
    for one, file, some in zip(every, files, own, strict=True):
        rows = [row for row in _called(cursor, one, file, terms) if row.call in several]
        _take_back(calls, rows)
        is_hidden = among(np.array([row.record for row in rows], np.int64), some)
        listed += [row.spread() for row, lost in zip(rows, is_hidden.tolist(), strict=True) if not lost]
        listed += [row for row in file.said.spread if row.call not in several]
    there = {row.record for row in newer}
    gone = {row.record: row.at for row in earlier if row.record not in there}
    return Standing(files, [*earlier, *newer], calls, listed, gone)


def _several(files: Sequence[Sums], earlier: Sequence[Held], newer: Sequence[Held]) -> set[str]:
    """The calls that are told in several parts, or may be."""
    several = {call for file in files for call in file.said.crossing}
    several |= {row.call for row in earlier if row.call is not None}
    called = {row.term: row.call for row in newer if row.call is not None}
    wanted = np.array(sorted(called), np.uint64)
    return several | {called[term] for file in files for term in file.calls.among(wanted).tolist()}


def _called(cursor: Cursor, one: Extract, file: Sums, terms: Hashes) -> list[Held]:
    """The records of the calls with these hashes as the file counts them."""
    indexes = file.calls.find_all(terms) if len(terms) else reading.NONE
    inside = indexes[(indexes >= one.first) & (indexes < one.following)]
    return [row for row in _read(cursor, _records(one), inside) if row.is_statement or row.is_write]


def _take_back(calls: dict[tuple[int, Place], tuple[int, int]], rows: Iterable[Held]) -> None:
    """What the file says of these calls: one that lies in one hour and place counts there."""
    by_call: dict[str | None, list[Held]] = {}
    for row in rows:
        by_call.setdefault(row.call, []).append(row)
    for told in by_call.values():
        cells = {(row.hour, row.place) for row in told}
        if len(cells) == 1:
            (cell,) = cells
            statements, writes = calls.get(cell, (0, 0))
            calls[cell] = (
                statements - any(row.is_statement for row in told),
                writes - any(row.is_write for row in told),
            )


def _records(one: Extract) -> str:
    return f"read_parquet('{reading.folder(one.folder) / RECORDS}')"


def _read(cursor: Cursor, relation: str, indexes: Indexes, n: int = 1) -> list[Held]:
    if not len(indexes):
        return []
    near = f"select * from {relation} where index between {indexes[0]} and {indexes[-1]}"  # noqa: S608 - our own names, as below
    if len(indexes) <= reading.FEW:
        return _rows(cursor, f"({near} and index in ({', '.join(map(str, indexes.tolist()))}))", n)
    cursor.register("given_counted", pa.table({"index": indexes}))
    return _rows(cursor, f"(from ({near}) semi join given_counted using (index))", n)


def _rows(cursor: Cursor, relation: str, n: int = 1) -> list[Held]:
    sums.of(cursor, relation)
    rows: list[tuple[Any, ...]] = cursor.execute(HELD).fetchall()
    return [Held._make((*row[:3], row[ACTORS], row[MANNERS], *row[MANNERS.stop :], n)) for row in rows]
