"""The files of one extract, as look-ups read them."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from lineage.extracts import Indexes, codes, folded, groups, named, postings, repeats, tables, terms, writings
from lineage.extracts.beginnings import BEGUN, BY_INDEX, Begun
from lineage.extracts.blocks import Content, Layout, Place
from lineage.extracts.cards import Cards, Directory, Unpacked
from lineage.extracts.cites import Cites
from lineage.extracts.codes import Coded, Codes, Numbers
from lineage.extracts.folded import Folded
from lineage.extracts.groups import Alike, Groups
from lineage.extracts.meanings import Meanings
from lineage.extracts.meeting import Met
from lineage.extracts.named import Named
from lineage.extracts.persons import Persons
from lineage.extracts.picks import Ways
from lineage.extracts.postings import Hashes, Postings
from lineage.extracts.repeats import Repeats
from lineage.extracts.tables import Tables
from lineage.extracts.terms import BY_TIME, CARDS

T = TypeVar("T")
CHUNK = 1 << 18
"""So many records are grouped at a time."""


class Filed:
    """The files of one extract, mapped. Raises FileNotFoundError and Damaged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cards = Cards(folder / CARDS)
        self.columns = self.cards.columns
        self.places: list[Place] = self.cards.places
        self.postings = {name: Postings(folder / name) for name in (BY_INDEX, BY_TIME, BEGUN)}
        self.shapes = _in_order(terms.read_shapes(folder))
        self.tables = Tables(tables.read(folder))
        self.writings = writings.read(folder)
        self.grouped: tuple[Meanings, Groups] | None = None
        self.regrouped: tuple[Any, ...] | None = None
        """What `lineage.extracts.grouping` made of it last, and of what."""
        self.met: Met | None = None
        self.cites: Cites | None = None

    @functools.cached_property
    def begun(self) -> Begun:
        return Begun(self.postings[BEGUN])

    def directory(self, indexes: Indexes) -> Directory:
        return self.cards.directory(indexes)

    def between(self, start: int, end: int) -> Directory:
        return self.cards.between(start, end)

    def contents(self, indexes: Indexes) -> dict[int, Content]:
        """What those of these records hold that are here."""
        return self.read(indexes, Layout.unpacked)

    def read(self, indexes: Indexes, unpacked: Unpacked[T]) -> dict[int, T]:
        """As of cards."""
        return self.cards.read(indexes, unpacked) if self.cards.reaches(indexes) else {}

    @functools.cached_property
    def codes(self) -> Codes:
        try:
            return Codes(self.folder)
        except FileNotFoundError as error:
            raise postings.Damaged(f"{codes.FILE} is not there.") from error

    @functools.cached_property
    def folded(self) -> Folded:
        try:
            return Folded(self.folder / folded.FILE)
        except FileNotFoundError as error:
            raise postings.Damaged(f"{folded.FILE} is not there.") from error

    @functools.cached_property
    def persons(self) -> Persons:
        return Persons(self.codes.persons())

    @functools.cached_property
    def tickets(self) -> Named:
        return named.read(self.folder, "ticket")

    @functools.cached_property
    def runs(self) -> Named:
        return named.read(self.folder, "agent_run")

    @functools.cached_property
    def repeats(self) -> Repeats:
        return repeats.made(self.tables, self.postings[BY_INDEX])

    def meeting(self, indexes: Indexes, ways: Ways) -> Indexes:
        """Those of these records, which are all here, whose pick has a way."""
        found: Indexes = indexes[ways(self.codes.picks)[self.codes.picked(self.cards.positions(indexes))] != 0]
        return found

    def coded(self, indexes: Indexes, meanings: Meanings) -> Coded:
        return self.codes.coded(self.cards.positions(indexes), meanings)

    def numbers(self, indexes: Indexes, meanings: Meanings) -> Sequence[Numbers]:
        return self.codes.numbers(self.cards.positions(indexes), meanings)

    def sessions(self, indexes: Indexes) -> Hashes:
        return self.codes.sessions(self.cards.positions(indexes))

    @functools.cached_property
    def reach(self) -> tuple[int, int]:
        """The first time and the last; the first is `NO_TIME` where some record has none."""
        times = self.cards.times(slice(None))
        return int(times.min()), int(times.max())

    def spans_by(self, size: int) -> Iterator[tuple[int, int]]:
        """From which index to before which lie so many of its records after the other."""
        starts = [int(self.cards.indexes(place, place + 1)[0]) for place in range(0, self.cards.count, size)]
        return itertools.pairwise([*starts, self.cards.last + 1])

    def groups(self, meanings: Meanings) -> Groups:
        """All its records, as if no login were imported; made once."""
        if self.grouped is None or self.grouped[0] is not meanings:
            parts = [self._groups(meanings, *span) for span in self.spans_by(CHUNK)]
            self.grouped = meanings, groups.together(parts).narrow()
        return self.grouped[1]

    def _groups(self, meanings: Meanings, start: int, end: int) -> Groups:
        there = self.cards.between(start, end)
        actors, manners, shapes = self.numbers(there.indexes, meanings)
        alike = Alike(meanings.who[actors], actors, there.places, manners, there.marks)
        return groups.of_records(alike, there.indexes, there.times, shapes, meanings.ways.held)


def _in_order(shapes: Iterable[tuple[str, str, str]]) -> Mapping[tuple[str, str], Sequence[str]]:
    """The same of many that are by table, as texts alone: Python's search for garbage leaves those out."""
    return {
        table: tuple(shape[2] for shape in some) for table, some in itertools.groupby(shapes, operator.itemgetter(0, 1))
    }
