"""Codes: of each record of an extract, as numbers, who it was, how, what of which tables, and of which session and transaction.

In the order of the cards, so that of the records that some term finds everything that is counted is told without a card or a
row of Parquet. What a number of an actor, a manner or a shape stands for is kept as text once (`meanings`), which columns were
named as numbers (`picks`); sessions, transactions and details are hashes, the same in every file. `codified` says what of a record.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import zstandard
from numpy.typing import NDArray

from lineage import durable
from lineage.extracts import Indexes, Making, picks
from lineage.extracts.cards import Cards
from lineage.extracts.codified import ACTOR, Told, told
from lineage.extracts.columns import cut, wide
from lineage.extracts.meanings import MEANT, Meanings
from lineage.extracts.numbering import distinct
from lineage.extracts.persons import Person
from lineage.extracts.picks import Picks
from lineage.extracts.postings import Damaged, Hashes, Postings, among, mapped
from lineage.extracts.sums import CALLS
from lineage.extracts.terms import CARDS

FILE = "codes.bin"
VERSION = "3"
"""Raise it with every change of what is written."""
FOOT = struct.Struct("<16sQ")
MAGIC = b"touchstone code3"

Numbers = NDArray[Any]
NO_HASHES = np.empty(0, np.uint64)


class Coded(NamedTuple):
    """What is `Told` of some records: numbers of `Meanings` for actors, manners and shapes, and of `of_picks`; `calls` where known."""

    numbers: Sequence[Numbers]
    picks: Numbers
    of_picks: Picks
    sessions: Hashes
    transactions: Hashes
    details: Hashes
    calls: Hashes


class Whole(NamedTuple):
    """What a file holds. A unit is a session, a transaction and a detail together, by their numbers or hash."""

    actors: Numbers
    manners: Numbers
    shapes: Numbers
    picks: Numbers
    units: Numbers
    unit_sessions: Numbers
    unit_details: Numbers
    lengths: Numbers
    members: Numbers
    tables: Numbers
    columns: Numbers
    transactions: Hashes
    sessions: Hashes
    lasts: Indexes
    details: Hashes
    crossing: Hashes


class Said(msgspec.Struct, array_like=True):
    """What the end of a file says: type, length and width of each column, and of how many bytes the texts are."""

    columns: list[tuple[str, int, int]]
    words: int


def known(told: Told, meanings: Meanings) -> Coded:
    """The same as numbers of these meanings."""
    numbers = [
        meanings.numbered(name, texts)[own]
        for name, own, texts in zip(MEANT, told.numbers[:3], told.texts[:3], strict=True)
    ]
    return Coded(
        numbers, told.numbers[3], picks.made(told.texts[3]), told.sessions, told.transactions, told.details, told.calls
    )


def write(making: Making) -> None:
    """Of an extract that is made anew, whose cards and calls are written."""
    indexes, all_ = told(making.cursor)
    calls = np.unique(all_.calls[all_.calls != 0])
    met = [Postings(folder / CALLS).among(calls) for folder in making.earlier]
    crossing = np.unique(np.concatenate([NO_HASHES, *met]))
    of_units, units = distinct([all_.sessions, all_.transactions, all_.details])
    lasts = _lasts(all_.sessions, indexes)
    of_picks, (again,) = picks.together([picks.made(all_.texts[3])])
    numbers = [*all_.numbers[:3], again[all_.numbers[3]], units]
    whole = _whole(numbers, of_units, of_picks, lasts, crossing)
    said = (*all_.texts[:3], of_picks.relations, of_picks.columns)
    durable.write_from(making.folder / FILE, 0, _content(whole, said))


def merge(making: Making) -> None:
    """Of an extract that is merged of others, whose cards are."""
    files = [Codes(part) for part in making.parts]
    made = Cards(making.folder / CARDS)
    first = np.cumsum([0, *(len(file.whole.transactions) for file in files)])
    columns = [np.concatenate(some) for some in zip(*(file.by_unit() for file in files), strict=True)]
    of_units, renumbered = distinct(columns)
    of_picks, of_each = picks.together([file.picks for file in files])
    texts: tuple[dict[str, int], ...] = ({}, {}, {})
    numbers = [np.zeros(made.count, np.uint32) for _ in range(RECORD)]
    for number, (part, file, gone) in enumerate(zip(making.parts, files, making.dropped, strict=True)):
        cards = Cards(part / CARDS)
        places = np.flatnonzero(~among(cards.indexes(0, cards.count), gone))
        target = made.positions(cards.indexes(0, cards.count)[places])
        again = [
            np.array([known.setdefault(text, len(known)) for text in some], np.uint32)
            for some, known in zip(file.texts()[:3], texts, strict=True)
        ]
        for column, own, new in zip(
            numbers, file.whole, (*again, of_each[number], renumbered[first[number] :]), strict=False
        ):
            column[target] = new[wide(own, places)]
    sessions = np.concatenate([file.whole.sessions for file in files])
    lasts = _lasts(sessions, np.concatenate([file.whole.lasts for file in files]))
    crossing = np.unique(np.concatenate([file.whole.crossing for file in files]))
    whole = _whole(numbers, of_units, of_picks, lasts, crossing)
    said = (*(list(known) for known in texts), of_picks.relations, of_picks.columns)
    durable.write_from(making.folder / FILE, 0, _content(whole, said))


def _lasts(sessions: Hashes, indexes: Indexes) -> tuple[Hashes, Indexes]:
    """Each session once, with the greatest index."""
    order = np.lexsort((indexes, sessions))
    sessions, indexes = sessions[order], indexes[order]
    is_last = np.ones(len(sessions), bool)
    is_last[:-1] = sessions[1:] != sessions[:-1]
    return sessions[is_last], indexes[is_last]


def _whole(
    numbers: Sequence[Numbers],
    of_units: Sequence[Hashes],
    of_picks: Picks,
    lasts: tuple[Hashes, Indexes],
    crossing: Hashes,
) -> Whole:
    sessions, transactions, details = of_units
    known = np.unique(details)
    actors, manners, shapes, picks_, units = numbers
    return Whole(
        actors, manners, shapes, picks_, units, np.searchsorted(lasts[0], sessions), np.searchsorted(known, details),
        *of_picks.written(), transactions, lasts[0], lasts[1], known, crossing,
    )  # fmt: skip


RECORD, NARROW = 5, 11
"""So many columns, the first, have a number for each record; and so many are numbers in as few bytes as they need."""


def _content(whole: Whole, texts: Sequence[Sequence[str]]) -> Iterator[bytes]:
    told = []
    for number, column in enumerate(whole):
        column = cut(column) if number < NARROW else column.astype(column.dtype.newbyteorder("<"))
        told.append((column.dtype.str, len(column), column.shape[1] if number < NARROW else 1))
        yield (data := column.tobytes())
        yield bytes(-len(data) % 8)
    words = zstandard.ZstdCompressor(level=6).compress(msgspec.msgpack.encode(texts))
    yield words
    yield (end := msgspec.msgpack.encode(Said(told, len(words))))
    yield FOOT.pack(MAGIC, len(end))


class Codes:
    """One file, mapped, and the calls beside it. Raises FileNotFoundError and Damaged. Nothing that it returns refers to the file.

    Of each text that it has a process keeps but its number of `Meanings`, which are shared by all files.
    """

    def __init__(self, folder: Path) -> None:
        self.view = mapped(folder / FILE)
        self.calls = Postings(folder / CALLS)
        try:
            magic, length = FOOT.unpack_from(self.view, len(self.view) - FOOT.size)
            end = len(self.view) - FOOT.size - length
            said = msgspec.msgpack.decode(self.view[end : end + length], type=Said)
            at, columns = 0, []
            for number, (kind, count, width) in enumerate(said.columns):
                column = np.frombuffer(self.view, kind, count * width, at)
                columns.append(column.reshape(-1, width) if number < NARROW else column)
                at += column.nbytes + -column.nbytes % 8
            self.whole = Whole(*columns)
        except (struct.error, ValueError, TypeError, msgspec.DecodeError) as error:
            raise Damaged(f"{FILE} is not a file of codes.") from error
        if magic != MAGIC or at + said.words != end:
            raise Damaged(f"{FILE} is not a file of codes.")
        self.words = slice(at, end)
        self.known: tuple[Meanings, Sequence[Numbers]] | None = None

    def texts(self) -> tuple[list[str], ...]:
        """What its actors, manners and shapes say; the tables and columns of its picks."""
        try:
            words = zstandard.decompress(self.view[self.words])
            return msgspec.msgpack.decode(words, type=tuple[list[str], list[str], list[str], list[str], list[str]])
        except (msgspec.DecodeError, zstandard.ZstdError) as error:
            raise Damaged(f"{FILE} is not a file of codes.") from error

    def meant(self, meanings: Meanings) -> Sequence[Numbers]:
        """For each text of an actor, a manner or a shape its number there."""
        if self.known is None or self.known[0] is not meanings:
            numbers = [meanings.numbered(name, some) for name, some in zip(MEANT, self.texts()[:3], strict=True)]
            self.known = meanings, numbers
        return self.known[1]

    @functools.cached_property
    def picks(self) -> Picks:
        whole, texts = self.whole, self.texts()
        return picks.read((whole.lengths, whole.members, whole.tables, whole.columns), texts[3], texts[4])

    def persons(self) -> set[Person]:
        """Whom the records here name."""
        places = [ACTOR.index(name) for name in Person._fields]
        told = (msgspec.json.decode(text, type=list[str | None]) for text in self.texts()[0])
        return {Person(*(each[place] for place in places)) for each in told}

    def read(self, meanings: Meanings) -> None:
        """All that is kept of it, at once."""
        _ = self.meant(meanings), self.picks.holders, self.told_together

    def by_unit(self) -> tuple[Hashes, Hashes, Hashes]:
        """Session, transaction and detail of each unit."""
        whole = self.whole
        return self._of_units(np.arange(len(whole.transactions)))

    def _of_units(self, units: Numbers) -> tuple[Hashes, Hashes, Hashes]:
        whole = self.whole
        return (
            whole.sessions[wide(whole.unit_sessions, units)], whole.transactions[units],
            whole.details[wide(whole.unit_details, units)],
        )  # fmt: skip

    def coded(self, places: NDArray[np.intp], meanings: Meanings) -> Coded:
        """Of the records at these places of the cards; which call they are of is not told."""
        whole = self.whole
        calls = np.zeros(len(places), np.uint64)
        units = self._of_units(wide(whole.units, places))
        return Coded(self.numbers(places, meanings), wide(whole.picks, places), self.picks, *units, calls)

    def sessions(self, places: NDArray[np.intp]) -> Hashes:
        """Of which each is; 0 for none."""
        return self.whole.sessions[wide(self.whole.unit_sessions, wide(self.whole.units, places))]

    def numbers(self, places: NDArray[np.intp] | slice, meanings: Meanings) -> list[Numbers]:
        """Their actors, manners and shapes alone."""
        return [again[wide(own, places)] for own, again in zip(self.whole[:3], self.meant(meanings), strict=True)]

    def picked(self, places: NDArray[np.intp]) -> Numbers:
        """The picks of the records at these places of the cards."""
        return wide(self.whole.picks, places)

    @functools.cached_property
    def told_together(self) -> tuple[Hashes, Indexes]:
        """Of the calls that several records here tell of, each record, in order of indexes, with its call."""
        return _by_index(*self.calls.pairs(self.calls.several()))

    def several(self, crossing: Hashes) -> list[tuple[Hashes, Indexes]]:
        """The same with that of these calls, which other files tell of."""
        own = [self.told_together] if len(self.told_together[1]) else []
        return [*own, _by_index(*self.calls.pairs(crossing))] if len(crossing) else own

    def lasts(self, sessions: Hashes) -> Indexes:
        """The greatest index that some record here of each of these sessions has; -1 where none is of it."""
        whole = self.whole
        if not len(whole.sessions):
            return np.full(len(sessions), -1)
        places = np.minimum(np.searchsorted(whole.sessions, sessions), len(whole.sessions) - 1)
        return np.where(whole.sessions[places] == sessions, whole.lasts[places], -1)


def _by_index(hashes: Hashes, indexes: Indexes) -> tuple[Hashes, Indexes]:
    order = np.argsort(indexes)
    return hashes[order], indexes[order]
