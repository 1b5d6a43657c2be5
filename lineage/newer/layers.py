"""Some of the newest records as look-ups see them: postings, directory and tables in memory. Pure; made once, never changed."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from lineage.extracts import Indexes, postings, repeats, tables, writings
from lineage.extracts.beginnings import BEGUN, BY_INDEX, Begun
from lineage.extracts.blocks import Place
from lineage.extracts.cards import NO_TIME, Directory
from lineage.extracts.codified import One
from lineage.extracts.persons import Person, Persons
from lineage.extracts.postings import Hashes, Postings, among, hash_of
from lineage.extracts.repeats import Repeats
from lineage.extracts.tables import Table, Tables
from lineage.extracts.terms import BY_TIME
from lineage.extracts.writings import Writings
from lineage.newer import finding, telling
from lineage.newer.finding import Found

Group = tuple[str | None, ...]
Pairs = tuple[Hashes, Indexes]


class Entry(NamedTuple):
    """One record: when, where, its marks, whose beginning it may be, and its transaction where it wrote."""

    at: int
    place: Place
    marks: int
    begins: list[Group]
    ran: int


class Named(NamedTuple):
    """Tables, shapes and persons that some record of a layer has, or had before it was told anew."""

    tables: frozenset[Table]
    shapes: frozenset[tuple[str, str, str]]
    persons: frozenset[Person]


class Layer:
    """As `looking.Held`, of these records by index; `actors` and `rows` are terms by index and by time, without beginnings."""

    def __init__(self, entries: Mapping[int, Entry], actors: Pairs, rows: Pairs, named: Named) -> None:
        self.columns = telling.COLUMNS
        self.entries = dict(sorted(entries.items()))
        self.actors, self.rows, self.named = actors, rows, named
        every = self.entries.values()
        numbers: dict[Place, int] = {}
        of = [numbers.setdefault(one.place, len(numbers)) for one in every]
        self.places = list(numbers)
        columns = list(self.entries), [one.at for one in every], of, [one.marks for one in every]
        self.all = Directory(*(np.array(column, np.int64) for column in columns))
        begins = list(_beginnings(self.entries))
        begun = _pairs((finding.begin(group), index) for group, index in begins)
        self.postings = {
            BY_INDEX: _postings([actors, begun]),
            BY_TIME: Postings(content=postings.content(*rows, self.directory(rows[1]).times)),
            BEGUN: _postings([_pairs((hash_of("session", group[1]), index) for group, index in begins)]),
        }
        self.begun = Begun(self.postings[BEGUN])
        self.writings = _writings(self.entries)
        self.tables = Tables(tables.together(named.tables))
        self.shapes: dict[tuple[str, str], set[str]] = {}
        for datasource, relation, shape in named.shapes:
            self.shapes.setdefault((datasource, relation), set()).add(shape)
        self.said: dict[int, One] = {}
        """As of `looking.Held`."""

    @functools.cached_property
    def persons(self) -> Persons:
        return Persons(self.named.persons)

    @functools.cached_property
    def repeats(self) -> Repeats:
        return repeats.made(self.tables, self.postings[BY_INDEX])

    def directory(self, indexes: Indexes) -> Directory:
        if not len(self.all.indexes):
            return self.all
        found = np.minimum(np.searchsorted(self.all.indexes, indexes), len(self.all.indexes) - 1)
        return self.all.chosen(found[self.all.indexes[found] == indexes])

    def between(self, start: int, end: int) -> Directory:
        return self.all.between(start, end)

    def under(self, newer: Layer) -> Layer:
        """One layer of this one and a newer one, which has some of its records anew."""
        actors, rows = (
            tuple(np.concatenate(columns) for columns in zip(_without(old, newer.all.indexes), new, strict=True))
            for old, new in ((self.actors, newer.actors), (self.rows, newer.rows))
        )
        named = Named(*(frozenset[Any](own | new) for own, new in zip(self.named, newer.named, strict=True)))
        found = Layer(self.entries | newer.entries, (actors[0], actors[1]), (rows[0], rows[1]), named)
        found.said = {index: one for index, one in self.said.items() if index not in newer.entries} | newer.said
        return found


def made(every: Mapping[int, tuple[int | None, Place, Found]]) -> Layer:
    """A layer of these records: time, place and what each is found by."""
    entries = {
        index: Entry(NO_TIME if at is None else at, place, found.marks, found.begins, found.ran)
        for index, (at, place, found) in every.items()
    }
    actors = _pairs((term, index) for index, (_, _, found) in every.items() for term in found.actors)
    rows = _pairs((term, index) for index, (_, _, found) in every.items() for term in found.rows)
    tables = frozenset(table for _, _, found in every.values() for table in found.tables)
    shapes = frozenset(shape for _, _, found in every.values() for shape in found.shapes)
    persons = frozenset(found.person for _, _, found in every.values())
    return Layer(entries, actors, rows, Named(tables, shapes, persons))


def _pairs(some: Iterable[tuple[int, int]]) -> Pairs:
    told = list(some)
    return np.array([term for term, _ in told], np.uint64), np.array([index for _, index in told], np.int64)


def _without(pairs: Pairs, lost: Indexes) -> Pairs:
    kept = ~among(pairs[1], lost)
    return pairs[0][kept], pairs[1][kept]


def _postings(parts: Iterable[Pairs]) -> Postings:
    hashes, indexes = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return Postings(content=postings.content(hashes, indexes))


def _writings(entries: Mapping[int, Entry]) -> Writings:
    wrote = [(index, one.ran) for index, one in entries.items() if one.ran != writings.ALONE]
    least = wrote[0][0] if wrote else 0
    offsets = np.array([index - least for index, _ in wrote], np.int64)
    return Writings(offsets, np.array([ran for _, ran in wrote], np.uint64), least)


def _beginnings(entries: Mapping[int, Entry]) -> Iterable[tuple[Group, int]]:
    """Of each session, for its database and each who acted in it, the first record here."""
    first: dict[Group, tuple[int, int]] = {}
    for index, one in entries.items():
        for group in one.begins:
            if group not in first or (one.at, index) < first[group]:
                first[group] = one.at, index
    return ((group, index) for group, (_, index) in first.items())
