"""Who came to a table for the first time, and when, over all extracts and what is newer: kept by a process for the newest state."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lineage.extracts import Cursor, Extract, Indexes, firsts, naming, reading
from lineage.extracts.beginnings import BY_INDEX
from lineage.extracts.blocks import Place
from lineage.extracts.firsts import NEVER, File, First, Pairs, Said
from lineage.extracts.fresh import Fresh
from lineage.extracts.looking import Unable, Wanted
from lineage.extracts.numbering import Numbers
from lineage.extracts.postings import Damaged, Postings, among, hash_of
from lineage.extracts.tables import touching
from lineage.moments import microseconds
from lineage.snapshots import FAR

Logins = Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]
"""Whose a login of a database is, and when."""
END = microseconds(FAR)
OTHERS_MOST = 20_000
"""So many records are read besides of those of whom the first two are told anew."""


class Newcomers(NamedTuple):
    """For each person, place and table when the first access was, and its record; `tables` are numbers of person, database and
    table together, as `_numbers` makes them of these names.
    """

    places: list[Place]
    names: tuple[list[Any], list[Any], list[Any]]
    place: NDArray[Any]
    tables: NDArray[Any]
    first_at: NDArray[Any]
    indexes: NDArray[Any]
    everywhere: NDArray[Any]
    """When each table was first seen by each person, whatever the place; ascending."""

    def count(self, wanted: Wanted) -> int:
        """How many first accesses lie in this window; before its begin everything is known."""
        if wanted.environments is None and wanted.datasources is None:
            ends = (0 if one is None else one for one in (wanted.since, wanted.until))
            first, following = np.searchsorted(self.everywhere, list(ends)).tolist()
            last = len(self.everywhere) if wanted.until is None else following
            return max(0, last - (0 if wanted.since is None else first))
        return len(self._found(wanted)[0])

    def newest(self, wanted: Wanted, before: int | None, most: int) -> list[First]:
        """At least so many of them, or all, the greatest index first; of records up to `before`, where that is given."""
        tables, at, indexes = self._found(wanted)
        kept = np.flatnonzero(indexes <= before) if before is not None else np.arange(len(indexes))
        order = kept[np.argsort(-indexes[kept], kind="stable")]
        if len(order) > most:
            # All of one record together.
            order = order[indexes[order] >= indexes[order[most - 1]]]
        people, datasources, relations = self.names
        found = []
        for number, moment, index in zip(*(column[order].tolist() for column in (tables, at, indexes)), strict=True):
            pair, relation = divmod(number, len(relations))
            who, database = divmod(pair, len(datasources))
            found.append(First(people[who], datasources[database], relations[relation], moment, index))
        return found

    def _found(self, wanted: Wanted) -> tuple[NDArray[Any], ...]:
        """Number, time and record of each first access in the window."""
        allowed = np.array([wanted.at(place) for place in self.places], bool)
        kept = allowed[self.place] if len(allowed) else np.empty(0, bool)
        if wanted.until is not None:
            kept &= self.first_at < wanted.until
        tables, at, indexes = _first_of_each(self.tables[kept], self.first_at[kept], self.indexes[kept])
        since = at >= wanted.since if wanted.since is not None else slice(None)
        return tables[since], at[since], indexes[since]


class Coming:
    """Of one process: the newest state's. All goes with an erasure."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        self.files: dict[str, File] = {}
        self.retold: tuple[list[str], Indexes, File] | None = None
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
                    made = found(cursor(), every, list(self.files.values()), hidden, told, logins, self._retold)
                except (Unable, Damaged, FileNotFoundError):
                    made = None
                self.newest = state, identities, made
            return self.newest[2]

    def _retold(self, cursor: Cursor, every: Sequence[Extract], asked: Indexes) -> File:
        """Of these records as the latest extract has them, read once for the same extracts."""
        folders = [one.folder for one in every]
        if self.retold is None or self.retold[0] != folders or not np.array_equal(self.retold[1], asked):
            some = _listed(asked)
            records = f"(select * from resolved where index in ({some}))"  # noqa: S608 - numbers, as below
            touches = f"(select * from raw_touches where index < {every[-1].following} and index in ({some}))"  # noqa: S608
            self.retold = folders, asked, firsts.made(cursor, records, touches) if len(asked) else firsts.none()
        return self.retold[2]


Retold = Callable[[Cursor, Sequence[Extract], Indexes], File]


def _first_of_each(keys: NDArray[Any], at: NDArray[Any], indexes: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Each key once with its first time and record."""
    order = np.lexsort((indexes, at, keys))
    keys, at, indexes = keys[order], at[order], indexes[order]
    is_first = np.ones(len(keys), bool)
    is_first[1:] = keys[1:] != keys[:-1]
    return keys[is_first], at[is_first], indexes[is_first]


def found(
    cursor: Cursor, every: Sequence[Extract], files: Sequence[File], hidden: Sequence[Indexes], told: Fresh, logins: Logins,
    retold: Retold,
) -> Newcomers:  # fmt: skip
    """As of the state that `told` tells of; the cursor has `resolved`. Raises Unable where only records can tell."""
    own = [some[(some >= one.first) & (some < one.following)] for one, some in zip(every, hidden, strict=True)]
    parts = [(*_left(pairs, some), pairs, said) for (pairs, said), some in zip(files, own, strict=True)]
    asked = np.setdiff1d(reading.together([*own, *_others(every, files, own)]), told.stale)
    for pairs, said in (retold(cursor, every, asked), _newer(cursor, every, told)):
        parts.append((pairs.first_at, pairs.first, pairs, said))
    if any(said.is_timeless for *_, said in parts):
        raise Unable
    places, people, relations = Numbers(), Numbers(), Numbers()
    columns = [_numbered(*part, logins, (places, people, relations)) for part in parts]
    place, who, relation, at, indexes = (
        np.concatenate([np.empty(0, np.int64), *some]) for some in zip(*columns, strict=True)
    )
    datasources = Numbers()
    of_place = np.array([datasources(datasource) for _, datasource in places.of], np.int64)
    database = of_place[place] if len(place) else place
    names = list(people.of), list(datasources.of), list(relations.of)
    tables = (who * max(len(names[1]), 1) + database) * max(len(names[2]), 1) + relation
    # A place has one database: of each table at each place the first.
    order = np.lexsort((indexes, at, place, tables))
    tables, place, at, indexes = tables[order], place[order], at[order], indexes[order]
    kept = np.ones(len(tables), bool)
    kept[1:] = (tables[1:] != tables[:-1]) | (place[1:] != place[:-1])
    tables, place, at, indexes = tables[kept], place[kept], at[kept], indexes[kept]
    return Newcomers(
        list(places.of), names, place, tables, at, indexes, np.sort(_first_of_each(tables, at, indexes)[1])
    )


def _lost(pairs: Pairs, hidden: Indexes) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Of which the first is told anew, and the second."""
    first, second = (among(np.asarray(some, np.int64), hidden) for some in (pairs.first, pairs.second))
    return first, second


def _left(pairs: Pairs, hidden: Indexes) -> tuple[NDArray[Any], NDArray[Any]]:
    """Time and record of the first that is not hidden; `NEVER` where neither of the two is left: `_others` has the rest."""
    first, second = _lost(pairs, hidden)
    at = np.where(second, NEVER, pairs.second_at)
    return np.where(first, at, pairs.first_at), np.where(first, pairs.second, pairs.first)


def _others(every: Sequence[Extract], files: Sequence[File], own: Sequence[Indexes]) -> Iterator[Indexes]:
    """All further records of those of whom the first two are told anew. Raises Unable where they are many."""
    for one, (pairs, said), hidden in zip(every, files, own, strict=True):
        first, second = _lost(pairs, hidden)
        lost = np.flatnonzero(first & second & (pairs.counts > 2))
        if not len(lost):
            continue
        if pairs.counts[lost].sum() > OTHERS_MOST:
            raise Unable
        posted = Postings(reading.folder(one.folder) / BY_INDEX)
        for pair in lost.tolist():
            (_, datasource), (told, login) = said.places[pairs.places[pair]], said.actors[pairs.actors[pair]]
            who = hash_of("told", told) if told is not None else hash_of("login", datasource, login)
            theirs = posted.find_all(touching(datasource, [said.relations[pairs.relations[pair]]]))
            theirs = theirs[among(theirs, np.sort(posted.find(who)))]
            yield theirs[~among(theirs, hidden)]


def _newer(cursor: Cursor, every: Sequence[Extract], told: Fresh) -> File:
    """Of the records that newer facts changed, and of those behind the extracts."""
    following = every[-1].following
    touches = f"select * from raw_touches where index >= {following}"  # noqa: S608 - our own names and numbers, as below
    if len(told.stale):
        touches += (
            f" union all select * from raw_touches where index < {following} and index in ({_listed(told.stale)})"  # noqa: S608
        )
    return firsts.made(cursor, f"(select * from {told.relation})", f"({touches})")  # noqa: S608


def _listed(indexes: Indexes) -> str:
    return ", ".join(map(str, indexes.tolist()))


def _numbered(
    at: NDArray[Any], indexes: NDArray[Any], pairs: Pairs, said: Said, logins: Logins,
    numbers: tuple[Numbers, Numbers, Numbers],
) -> list[NDArray[Any]]:  # fmt: skip
    """Place, person, relation, time and record of each pair that is left."""
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
        return [np.empty(0, np.int64)] * 5
    return [place[pairs.places][left], persons[left], relation[pairs.relations][left], at[left], indexes[left]]


def _whose(rows: Sequence[Mapping[str, Any]], at: int, otherwise: int, people: Numbers) -> int:
    """Whose a login is from this time on. Raises Unable where it changes hands later: then what came next is not known."""
    for row in rows:
        start, end = microseconds(row["from_at"]), microseconds(row["to_at"])
        if at < start or at < end < END:
            raise Unable
        if start <= at:
            otherwise = people(row["person_id"])
    return otherwise
