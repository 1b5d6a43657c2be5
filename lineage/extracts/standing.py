"""What the sums of all extracts do not say as of one state: records that are told anew, newer ones, and calls told in several parts.

Of a call that is told in several parts the sums of each part may have counted it: what they did is taken back, and all of its
records are listed, so that a question counts it once, if one of them lies in its window.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lineage.extracts import RECORDS, Cursor, Extract, Indexes, reading, sums
from lineage.extracts.blocks import Place
from lineage.extracts.cards import NO_TIME
from lineage.extracts.fresh import Fresh
from lineage.extracts.numbering import Numbers
from lineage.extracts.postings import Hashes, among, hash_sql, hashes_of
from lineage.extracts.sums import Actor, Spread, Sums, Told

CALLED = f"select *, {hash_sql('call', 'call')} as term from ({{read}})"  # noqa: S608 - our own columns
HELD = CALLED.format(read=sums.READ.replace("from each", ", call from each"))


class Held(NamedTuple):
    """Counted records as arrays, with the calls of which they tell (None: of none) and the hashes of these."""

    told: Told
    calls: NDArray[Any]
    terms: Hashes


class Listed(NamedTuple):
    """Records of calls that the files do not count: call and place as numbers, time, and what the record tells."""

    calls: NDArray[Any]
    times: Indexes
    places: NDArray[Any]
    is_statement: NDArray[Any]
    is_write: NDArray[Any]


class Back(NamedTuple):
    """Of an hour of a place how many statements and writes to take back, as numbers below zero."""

    hours: NDArray[Any]
    places: NDArray[Any]
    statements: NDArray[Any]
    writes: NDArray[Any]


class Standing(NamedTuple):
    """For each file, `hidden`: records told anew; `apart`: those of calls that are listed. `earlier`: what files say of the hidden
    ones; `newer`: what is said of them now, and newer records. `gone`: records that count in files and now no more, and their times."""

    hidden: Sequence[Indexes]
    apart: Sequence[Indexes]
    earlier: Told
    newer: Told
    actors: list[Actor]
    manners: list[Actor]
    places: list[Place]
    back: Back
    listed: Listed
    gone: tuple[Indexes, Indexes]


def found(
    cursor: Cursor, every: Sequence[Extract], files: Sequence[Sums], hidden: Sequence[Indexes], told: Fresh
) -> Standing:
    """As of the state that `told` tells of; `hidden` are for each extract the indexes that are told anew. The cursor has `resolved`."""
    own = [some[(some >= one.first) & (some < one.following)] for one, some in zip(every, hidden, strict=True)]
    reader = _Reader(cursor)
    earlier = _together([reader.read(_records(one), some) for one, some in zip(every, own, strict=True)])
    again = np.setdiff1d(reading.together(own), told.stale)
    newer = _together([reader.read("resolved", again), reader.rows(told.relation)])
    several = _several(files, earlier, newer)
    listing = _Listing(reader)
    listing.add(newer)
    apart = [listing.of_file(*each, several) for each in zip(every, files, own, strict=True)]
    there = among(earlier.told.indexes, np.sort(newer.told.indexes))
    gone = earlier.told.indexes[~there], earlier.told.times[~there]
    actors, manners = (list(each.of) for each in reader.numbers)
    return Standing(
        own, apart, earlier.told, newer.told, actors, manners, list(listing.places.of), listing.back(), listing.listed(), gone
    )  # fmt: skip


def _several(files: Sequence[Sums], earlier: Held, newer: Held) -> set[str]:
    """The calls that are told in several parts, or may be."""
    several = {call for file in files for call in file.said.crossing}
    several |= {call for call in earlier.calls.tolist() if call is not None}
    called = {
        term: call for term, call in zip(newer.terms.tolist(), newer.calls.tolist(), strict=True) if call is not None
    }
    wanted = np.array(sorted(called), np.uint64)
    return several | {called[term] for file in files for term in file.calls.among(wanted).tolist()}


class _Reader:
    """Reads counted records; actors and manners have the same numbers in all that it reads."""

    def __init__(self, cursor: Cursor) -> None:
        self.cursor, self.numbers = cursor, (Numbers(), Numbers())

    def read(self, relation: str, indexes: Indexes) -> Held:
        """Those of a relation that have one of these indexes."""
        if not len(indexes):
            return _together([])
        near = f"select * from {relation} where index between {indexes[0]} and {indexes[-1]}"  # noqa: S608 - our own names, as below
        if len(indexes) <= reading.FEW:
            return self.rows(f"({near} and index in ({', '.join(map(str, indexes.tolist()))}))")
        self.cursor.register("given_counted", pa.table({"index": indexes}))
        return self.rows(f"(from ({near}) semi join given_counted using (index))")

    def rows(self, relation: str) -> Held:
        sums.of(self.cursor, relation)
        return _together([
            Held(
                sums.told(columns, *self.numbers),
                np.array(columns["call"].to_pylist(), object),
                np.asarray(columns["term"], np.uint64),
            )
            for columns in sums.batches(self.cursor, HELD)
        ])  # fmt: skip


def _together(parts: Sequence[Held]) -> Held:
    columns = zip(sums.TOLD_KINDS, *(one.told for one in parts), strict=True)
    told = Told(*(np.concatenate([np.empty(0, kind), *some]) for kind, *some in columns))
    calls = np.concatenate([np.empty(0, object), *(one.calls for one in parts)])
    return Held(told, calls, np.concatenate([sums.NO_HASHES, *(one.terms for one in parts)]))


class _Listing:
    """Lists the records of calls that files do not count, and what files counted of such a call."""

    def __init__(self, reader: _Reader) -> None:
        self.reader, self.calls, self.places = reader, Numbers(), Numbers()
        self.rows: list[tuple[int, int, int, bool, bool]] = []
        self.taken: dict[tuple[int, int], list[int]] = {}

    def add(self, held: Held, kept: NDArray[Any] | None = None) -> None:
        """Those of some call, or of them those that are kept."""
        told, actors = held.told, list(self.reader.numbers[0].of)
        is_called = told.is_statement | told.is_write
        for place in np.flatnonzero(is_called if kept is None else is_called & kept).tolist():
            actor = actors[told.actors[place]]
            self.rows.append((
                self.calls(held.calls[place]), int(told.times[place]), self.places((actor[0], actor[1])),
                bool(told.is_statement[place]), bool(told.is_write[place]),
            ))  # fmt: skip

    def of_file(self, one: Extract, file: Sums, own: Indexes, several: set[str]) -> Indexes:
        """The records of such calls in a file."""
        terms = hashes_of(("call", call) for call in sorted(several))
        indexes = file.calls.find_all(terms) if len(terms) else reading.NONE
        held = self.reader.read(_records(one), indexes[(indexes >= one.first) & (indexes < one.following)])
        is_called = held.told.is_statement | held.told.is_write
        is_told = is_called & np.array([call in several for call in held.calls.tolist()], bool)
        self._take_back(held, np.flatnonzero(is_told))
        self.add(held, is_told & ~among(held.told.indexes, own))
        for row in file.said.spread:
            if row.call not in several:
                self._spread(row)
        return np.sort(held.told.indexes[is_told])

    def _spread(self, row: Spread) -> None:
        at = NO_TIME if row.at is None else row.at
        place = self.places((row.environment, row.datasource))
        self.rows.append((self.calls(row.call), at, place, row.is_statement, row.is_write))

    def _take_back(self, held: Held, places: NDArray[Any]) -> None:
        """What the file says of these calls: one that lies in one hour and place counts there."""
        told, actors = held.told, list(self.reader.numbers[0].of)
        by_call: dict[Any, list[tuple[int, int, bool, bool]]] = {}
        for at in places.tolist():
            actor = actors[told.actors[at]]
            row = int(told.hours[at]), self.places((actor[0], actor[1])), told.is_statement[at], told.is_write[at]
            by_call.setdefault(held.calls[at], []).append(row)
        for rows in by_call.values():
            if len(cells := {row[:2] for row in rows}) == 1:
                taken = self.taken.setdefault(cells.pop(), [0, 0])
                for number in (0, 1):
                    taken[number] -= any(row[2 + number] for row in rows)

    def back(self) -> Back:
        rows = [(*cell, *taken) for cell, taken in self.taken.items()]
        return Back(*np.array(rows, np.int64).reshape(-1, len(Back._fields)).T)

    def listed(self) -> Listed:
        rows = np.array(self.rows, np.int64).reshape(-1, len(Listed._fields)).T
        return Listed(rows[0], rows[1], rows[2], rows[3] != 0, rows[4] != 0)


def _records(one: Extract) -> str:
    return f"read_parquet('{reading.folder(one.folder) / RECORDS}')"
