"""Records that some term finds, over all extracts and what is newer, as numbers that mean the same for all of them.

Of a record only what `codes` says is read, and what the directory says of many. No DuckDB but for what is newer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from lineage.extracts import Indexes, naming
from lineage.extracts.blocks import Place
from lineage.extracts.cards import Directory
from lineage.extracts.codes import CALLED, NO_HASHES, QUERY, Coded
from lineage.extracts.layers import Layer
from lineage.extracts.looking import Lookup, Unable, Wanted
from lineage.extracts.numbering import Numbers
from lineage.extracts.postings import Hashes, among
from lineage.moments import microseconds

ROWS_MOST = 1 << 21
"""Of more records than so many the log is asked, whose memory is bounded."""
Numbered = NDArray[Any]
Logins = Mapping[Any, Sequence[Mapping[str, Any]]]
"""Rows of `Snapshot.identities` by login."""


class Actor(NamedTuple):
    """Who it was as records tell it."""

    told_id: str | None
    told_name: str | None
    told_email: str | None
    told_type: str | None
    told_by: str | None
    db_user: str | None
    on_behalf_of: str | None
    agent_name: str | None


class Manner(NamedTuple):
    bits: int
    kind: str
    verdict: str | None
    is_end: bool


class Touch(NamedTuple):
    relation: str | None
    op: str | None
    access: str | None
    columns: list[str] | None


class Shape(NamedTuple):
    """What a record names, and its distinct touches; of these the tables, each with and without what was done there."""

    relations: list[str | None]
    touches: list[Touch]
    ops: list[tuple[str | None, str | None]]
    tables: list[str | None]


class Who(NamedTuple):
    """Who it was, as `activity` says it."""

    id: str | None
    name: str | None
    email: str | None
    type: str | None
    attribution: str | None


class Rows(NamedTuple):
    """Records by index. Numbers are of the lists of the `Coding` that gave them; of acts equal numbers are of one call."""

    indexes: Indexes
    times: Indexes
    places: Numbered
    marks: Numbered
    actors: Numbered
    manners: Numbered
    bits: Numbered
    shapes: Numbered
    sessions: Hashes
    transactions: Hashes
    details: Hashes
    calls: Hashes
    who: Numbered

    def chosen(self, kept: NDArray[Any]) -> Rows:
        return Rows(*(column[kept] for column in self))


HASHED = ("sessions", "transactions", "details", "calls")
ACTORS = msgspec.json.Decoder(list[str | None])
MANNERS = msgspec.json.Decoder(tuple[int, str, str | None, bool])
SHAPES = msgspec.json.Decoder(tuple[list[str | None] | None, list[str]])
TOUCHES = msgspec.json.Decoder(tuple[str | None, str | None, str | None, list[str] | None])


class Coding:
    """Of one question: what numbers stand for."""

    def __init__(self, look: Lookup, logins: Logins) -> None:
        self.look, self.logins = look, logins
        self.crossing = np.unique(np.concatenate([NO_HASHES, *(layer.crossing for layer in look.layers)]))
        self.of_places = Numbers()
        self.texts = (Numbers(), Numbers(), Numbers())
        self.of_who = Numbers()
        self.actors: list[Actor] = []
        self.manners: list[Manner] = []
        self.shapes: list[Shape] = []
        self.named: list[int] = []
        self.parsed: dict[str, Any] = {}

    @property
    def places(self) -> list[Place]:
        return list(self.of_places.of)

    @property
    def people(self) -> list[Who]:
        return list(self.of_who.of)

    def rows(self, find: Callable[[Layer], Sequence[Indexes]], wanted: Wanted) -> Rows:
        """Those that are found in some layer, count there and are wanted. Raises Unable and Damaged."""
        parts: list[tuple[Layer, Directory, Coded]] = []
        for layer in self.look.layers:
            some = find(layer)
            found = some[0] if len(some) == 1 else np.unique(np.concatenate([np.empty(0, np.int64), *some]))
            if sum(map(len, some)) > ROWS_MOST:
                raise Unable
            there = layer.directory(np.sort(found[~among(found, layer.hidden)]))
            there = there.chosen(wanted.mask(layer, self.look.size)(there))
            if len(there.indexes):
                parts.append((layer, there, layer.coded(there.indexes)))
        if sum(len(there.indexes) for _, there, _ in parts) > ROWS_MOST:
            raise Unable
        newer = np.unique(np.concatenate([NO_HASHES, *(each.calls for _, _, each in parts)]))
        crossing = np.union1d(newer, self.crossing)
        rows = [self._numbered(layer, there, each, crossing) for layer, there, each in parts]
        together = Rows(*(np.concatenate(column) for column in zip(*rows, strict=True))) if rows else _nothing()
        return self._named(together.chosen(np.argsort(together.indexes)))

    def _numbered(self, layer: Layer, there: Directory, each: Coded, crossing: Hashes) -> Rows:
        place = np.array([self.of_places(one) for one in layer.places], np.int64)
        self.parsed = each.parsed
        numbers = [
            self._translated(own, texts, known, told)
            for own, texts, known, told in zip(
                each.numbers, each.texts, self.texts, (self._actor, self._manner, self._shape), strict=True
            )
        ]
        bits = np.array([one.bits for one in self.manners], np.int64)[numbers[1]]
        calls = each.calls | _calls(layer, there.indexes, crossing)
        calls[(bits & (QUERY | CALLED)) != QUERY | CALLED] = 0
        actors, manners, shapes = numbers
        return Rows(
            there.indexes, there.times, place[there.places], there.marks, actors, manners, bits, shapes, each.sessions,
            each.transactions, each.details, calls, np.zeros(len(bits), np.int64),
        )  # fmt: skip

    def _translated(self, own: Numbered, texts: Sequence[str], known: Numbers, told: Callable[[str], None]) -> Numbered:
        is_there = np.zeros(len(texts), bool)
        is_there[own] = True
        again = np.zeros(len(texts), np.int64)
        for number in np.flatnonzero(is_there).tolist():
            text = texts[number]
            if text not in known.of:
                told(text)
            again[number] = known(text)
        return again[own]

    def _actor(self, text: str) -> None:
        actor = Actor(*ACTORS.decode(text))
        self.actors.append(actor)
        self.named.append(self.of_who(self._whom(actor)))

    def _manner(self, text: str) -> None:
        self.manners.append(Manner(*MANNERS.decode(text)))

    def _shape(self, text: str) -> None:
        shape = self.parsed.get(text)
        if shape is None:
            shape = self.parsed[text] = _parsed(text)
        self.shapes.append(shape)

    def _whom(self, actor: Actor, login: Mapping[str, Any] | None = None, datasource: str | None = None) -> Who:
        """Through this login's row, or without one."""
        row = actor._asdict() | {"occurred_at": None, "datasource": datasource}
        people = {}
        if login is not None:
            row["occurred_at"] = microseconds(login["from_at"])
            people = {(login["datasource"], login["db_user"]): [login]}
        return Who(*naming.named_as(row, people))

    def _named(self, rows: Rows) -> Rows:
        who = np.array(self.named, np.int64)[rows.actors] if len(rows.indexes) else rows.who
        datasources = np.array([place[1] for place in self.places], object)
        for number in np.unique(rows.actors).tolist() if self.logins else ():
            actor = self.actors[number]
            for login in self.logins.get(actor.db_user or "", ()):
                here = np.flatnonzero(datasources == login["datasource"])
                since, until = microseconds(login["from_at"]), microseconds(login["to_at"])
                meant = (rows.actors == number) & np.isin(rows.places, here)
                meant &= (rows.times >= since) & (rows.times < until)
                if meant.any():
                    who[meant] = self.of_who(self._whom(actor, login, login["datasource"]))
        return rows._replace(who=who)


def _parsed(text: str) -> Shape:
    relations, told = SHAPES.decode(text)
    touches = [Touch(*TOUCHES.decode(each)) for each in told]
    ops, tables = ((one.relation, one.op) for one in touches), (one.relation for one in touches)
    return Shape(relations or [], touches, list(dict.fromkeys(ops)), list(dict.fromkeys(tables)))


def _nothing() -> Rows:
    empty: list[NDArray[Any]] = [NO_HASHES if name in HASHED else np.empty(0, np.int64) for name in Rows._fields]
    return Rows(*empty)


def _calls(layer: Layer, indexes: Indexes, crossing: Hashes) -> Hashes:
    """The calls of those records of which another record tells too, as far as files say it."""
    found = np.zeros(len(indexes), np.uint64)
    for hashes, records in layer.several(crossing):
        places = np.minimum(np.searchsorted(records, indexes), max(len(records) - 1, 0))
        if len(records):
            found = np.where(records[places] == indexes, hashes[places], found)
    return found


def acts(rows: Rows) -> Numbered:
    """A number for each record: the same for those of one call."""
    return _first_rows(rows.calls)


def transactions(rows: Rows) -> Numbered:
    """A number for each record: the same for those of one transaction."""
    return _first_rows(rows.transactions)


def _first_rows(hashes: Hashes) -> Numbered:
    numbers = np.arange(len(hashes))
    told = np.flatnonzero(hashes)
    _, first, again = np.unique(hashes[told], return_index=True, return_inverse=True)
    numbers[told] = told[first][again]
    return numbers
