"""Who came to a table for the first time, and when, over all extracts and what is newer: kept by a process for the newest state."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lineage.extracts import Cursor, Extract, Indexes, firsts, naming, reading
from lineage.extracts.blocks import Place
from lineage.extracts.firsts import NEVER, Pairs, Said
from lineage.extracts.fresh import Fresh
from lineage.extracts.looking import Unable, Wanted
from lineage.extracts.numbering import Numbers
from lineage.extracts.postings import Damaged, among
from lineage.moments import microseconds
from lineage.snapshots import FAR

File = tuple[Pairs, Said]
Logins = Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]
"""Whose a login of a database is, and when."""
END = microseconds(FAR)


class Newcomers(NamedTuple):
    """For each person, place and table when the first access was; `tables` are numbers of person, database and table together."""

    places: list[Place]
    place: NDArray[Any]
    tables: NDArray[Any]
    first_at: NDArray[Any]
    everywhere: NDArray[Any]
    """When each table was first seen by each person, whatever the place; ascending."""

    def count(self, wanted: Wanted) -> int:
        """How many first accesses lie in this window; before its begin everything is known."""
        if wanted.environments is None and wanted.datasources is None:
            ends = (0 if one is None else one for one in (wanted.since, wanted.until))
            first, following = np.searchsorted(self.everywhere, list(ends)).tolist()
            last = len(self.everywhere) if wanted.until is None else following
            return max(0, last - (0 if wanted.since is None else first))
        allowed = np.array([wanted.at(place) for place in self.places], bool)
        kept = allowed[self.place]
        if wanted.until is not None:
            kept &= self.first_at < wanted.until
        tables, first_at = _first_of_each(self.tables[kept], self.first_at[kept])
        return len(tables) if wanted.since is None else int((first_at >= wanted.since).sum())


class Coming:
    """Of one process: the newest state's. All goes with an erasure."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        self.files: dict[str, File] = {}
        self.newest: tuple[str, pa.Table, Newcomers | None] | None = None

    def take(
        self, cursor: Callable[[], Cursor], state: str, every: Sequence[Extract], told: Fresh, identities: pa.Table
    ) -> Newcomers | None:
        """For a question whose state has this name; None where only records can tell, or a file is damaged."""
        with self.lock:
            if self.newest is None or self.newest[0] != state or self.newest[1] is not identities:
                logins = naming.by_login(identities.to_pylist())
                hidden = [reading.together([told.stale, later]) for later in reading.dropped(every)]
                try:
                    self.files = {
                        one.folder: self.files.get(one.folder) or firsts.read(reading.folder(one.folder))
                        for one in every
                    }
                    made = found(cursor(), every, list(self.files.values()), hidden, told, logins)
                except (Unable, Damaged, FileNotFoundError):
                    made = None
                self.newest = state, identities, made
            return self.newest[2]


def _first_of_each(keys: NDArray[Any], at: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Each key once with its least time. They are in the order of `found` already, but for places of one database."""
    begins = np.concatenate(([True], keys[1:] != keys[:-1])) if len(keys) else np.zeros(0, bool)
    starts = np.flatnonzero(begins)
    return keys[starts], np.minimum.reduceat(at, starts) if len(starts) else at[:0]


def found(
    cursor: Cursor,
    every: Sequence[Extract],
    files: Sequence[File],
    hidden: Sequence[Indexes],
    told: Fresh,
    logins: Logins,
) -> Newcomers:
    """As of the state that `told` tells of; the cursor has `resolved`. Raises Unable where only records can tell."""
    own = [some[(some >= one.first) & (some < one.following)] for one, some in zip(every, hidden, strict=True)]
    parts = [(_left(pairs, some), pairs, said) for (pairs, said), some in zip(files, own, strict=True)]
    newer = _newer(cursor, every, own, told)
    parts.append((newer[0].first_at, *newer))
    if any(said.is_timeless for _, _, said in parts):
        raise Unable
    places, people, relations = Numbers(), Numbers(), Numbers()
    columns = [_numbered(*part, logins, (places, people, relations)) for part in parts]
    place, who, relation, at = (np.concatenate([np.empty(0, np.int64), *some]) for some in zip(*columns, strict=True))
    datasources = Numbers()
    of_place = np.array([datasources(datasource) for _, datasource in places.of], np.int64)
    database = of_place[place] if len(place) else place
    tables = (who * max(len(datasources.of), 1) + database) * max(len(relations.of), 1) + relation
    order = np.lexsort((at, place, tables))
    tables, place, at = tables[order], place[order], at[order]
    kept = np.ones(len(tables), bool)
    kept[1:] = (tables[1:] != tables[:-1]) | (place[1:] != place[:-1])
    place, tables, at = place[kept], tables[kept], at[kept]
    return Newcomers(list(places.of), place, tables, at, np.sort(_first_of_each(tables, at)[1]))


def _left(pairs: Pairs, hidden: Indexes) -> NDArray[Any]:
    """The first times of what is not hidden; `NEVER` where nothing is left. Raises Unable where that is not known."""
    lost = [among(np.asarray(some, np.int64), hidden) for some in (pairs.first, pairs.second)]
    if (lost[0] & lost[1] & (pairs.counts > 2)).any():
        raise Unable
    second = np.where(lost[1], NEVER, pairs.second_at)
    return np.where(lost[0], second, pairs.first_at)


def _newer(cursor: Cursor, every: Sequence[Extract], own: Sequence[Indexes], told: Fresh) -> File:
    """Of the records that are told anew, and of those behind the extracts."""
    following = every[-1].following
    again = np.union1d(reading.together(own), told.stale)
    overridden = np.setdiff1d(again, told.stale)
    records, touches = f"select * from {told.relation}", f"select * from raw_touches where index >= {following}"  # noqa: S608 - our own names and numbers, as below
    if len(overridden):
        records += f" union all by name select * from resolved where index in ({_listed(overridden)})"  # noqa: S608
    if len(again):
        touches += f" union all select * from raw_touches where index < {following} and index in ({_listed(again)})"  # noqa: S608
    return firsts.made(cursor, f"({records})", f"({touches})")


def _listed(indexes: Indexes) -> str:
    return ", ".join(map(str, indexes.tolist()))


def _numbered(
    at: NDArray[Any], pairs: Pairs, said: Said, logins: Logins, numbers: tuple[Numbers, Numbers, Numbers]
) -> list[NDArray[Any]]:
    """Place, person, relation and time of each pair that is left."""
    places, people, relations = numbers
    changing = {user for _, user in logins}
    who = np.array([people(told if told is not None else login) for told, login in said.actors], np.int64)
    place = np.array([places(one) for one in said.places], np.int64)
    relation = np.array([relations(one) for one in said.relations], np.int64)
    persons = who[pairs.actors] if len(who) else np.empty(0, np.int64)
    is_mapped = np.array([told is None and login in changing for told, login in said.actors], bool)
    for pair in np.flatnonzero(is_mapped[pairs.actors] & (at < NEVER)).tolist() if is_mapped.any() else ():
        rows = logins.get((said.places[pairs.places[pair]][1] or "", said.actors[pairs.actors[pair]][1] or ""), ())
        persons[pair] = _whose(rows, int(at[pair]), persons[pair], people)
    left = at < NEVER
    if not len(at):
        return [np.empty(0, np.int64)] * 4
    return [place[pairs.places][left], persons[left], relation[pairs.relations][left], at[left]]


def _whose(rows: Sequence[Mapping[str, Any]], at: int, otherwise: int, people: Numbers) -> int:
    """Whose a login is from this time on. Raises Unable where it changes hands later: then what came next is not known."""
    for row in rows:
        start, end = microseconds(row["from_at"]), microseconds(row["to_at"])
        if at < start or at < end < END:
            raise Unable
        if start <= at:
            otherwise = people(row["person_id"])
    return otherwise
