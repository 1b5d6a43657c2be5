"""Looks records up: which have a term, and what they hold, over all extracts and what is newer than they are.

No DuckDB and no database here: `lineage.engine` says which extracts there are, and what is newer.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lineage.extracts import (
    Cursor,
    Indexes,
    codes,
    codified,
    layers,
    listing,
    persons,
    postings,
    repeats,
    tables,
    terms,
    writings,
)
from lineage.extracts.began import Began
from lineage.extracts.beginnings import BEGUN, BY_INDEX, Begun
from lineage.extracts.blocks import Content, Place
from lineage.extracts.cards import NO_TIME, Directory
from lineage.extracts.codes import Coded
from lineage.extracts.filed import Filed
from lineage.extracts.firsts import Firsts
from lineage.extracts.layers import Layer, Mask, Term
from lineage.extracts.listing import Range
from lineage.extracts.meanings import Meanings
from lineage.extracts.persons import Person, Persons
from lineage.extracts.picks import Ways
from lineage.extracts.postings import Hashes, Postings
from lineage.extracts.sums import Totals
from lineage.extracts.tables import Table, Tables
from lineage.extracts.terms import BY_TIME
from lineage.extracts.writings import Writings
from lineage.moments import microseconds
from lineage.newer.layers import Layer as Newer

Shapes = dict[tuple[str, str], set[str]]
"""For a database and a relation the columns that accesses fix, joined."""


class Held:
    """The same of records that are in no extract, by what is looked up; what they hold is asked for when it is needed.

    `rows` and `touches` are SQL of their rows as of `resolved` and `raw_touches`.
    """

    def __init__(self, cursor: Cursor, rows: str, touches: str) -> None:
        self.rows, self.touches = rows, touches
        self._made(cursor, "")
        self.columns = list(cursor.sql("from made limit 0").columns)
        self.places, self.all = _directory(cursor)
        self.postings = {
            BY_INDEX: Postings(content=postings.content(*terms.pairs(cursor, terms.ACTORS))),
            BY_TIME: Postings(content=self._by_time(*terms.pairs(cursor, terms.ROWS))),
            BEGUN: Postings(content=postings.content(*terms.pairs(cursor, terms.SESSIONS))),
        }
        self.begun = Begun(self.postings[BEGUN])
        self.shapes = _by_table(terms.shapes(cursor))
        self.tables = Tables(tables.names(cursor))
        self.repeats = repeats.made(self.tables, self.postings[BY_INDEX])
        self.writings = writings.held(cursor)
        self.persons = Persons(Person(*row) for row in cursor.execute(persons.SQL).fetchall())
        self.said: dict[int, codified.One] = {}
        """What codes say of those of these records that somebody counted."""

    def _made(self, cursor: Cursor, condition: str) -> None:
        for name, sql in (("made", self.rows), ("made_touches", self.touches)):
            cursor.execute(f"create or replace temp view {name} as select * from ({sql}){condition}")  # noqa: S608

    def _by_time(self, hashes: Hashes, indexes: Indexes) -> bytes:
        return postings.content(hashes, indexes, self.directory(indexes).times)

    def directory(self, indexes: Indexes) -> Directory:
        if not len(self.all.indexes):
            return self.all
        found = np.minimum(np.searchsorted(self.all.indexes, indexes), len(self.all.indexes) - 1)
        return self.all.chosen(found[self.all.indexes[found] == indexes])

    def between(self, start: int, end: int) -> Directory:
        return self.all.between(start, end)

    def read(self, cursor: Cursor, indexes: Indexes) -> dict[int, Content]:
        """What those of these records hold that are here."""
        some = self.directory(np.sort(indexes)).indexes
        if not len(some):
            return {}
        self._made(cursor, f" where index in ({', '.join(map(str, some.tolist()))})")
        return {card.record: card.content for card in terms.told(cursor.sql(terms.CONTENT))}


def _directory(cursor: Cursor) -> tuple[list[Place], Directory]:
    found = cursor.sql(terms.DIRECTORY).to_arrow_table()
    numbers: dict[Place, int] = {}
    places = zip(found["environment"].to_pylist(), found["datasource"].to_pylist(), strict=True)
    columns = (
        found["index"],
        found["at"].fill_null(NO_TIME),
        [numbers.setdefault(place, len(numbers)) for place in places],
        found["marks"],
    )
    return list(numbers), Directory(*(np.asarray(column, np.int64) for column in columns))


def _by_table(shapes: terms.Shapes) -> Shapes:
    found: Shapes = {}
    for datasource, relation, shape in shapes:
        found.setdefault((datasource, relation), set()).add(shape)
    return found


Read = Callable[[Indexes], dict[int, Content]]


@dataclasses.dataclass(frozen=True)
class Seen:
    """A layer as one question sees it: without the records that another has anew."""

    of: Filed | Held | Newer
    hidden: Indexes
    read: Read
    statements: Callable[[], pa.Table] | None = None
    """Index and statement of records that are neither in files nor in a table, beside others."""

    @property
    def places(self) -> list[Place]:
        return self.of.places

    @property
    def postings(self) -> Mapping[str, Postings]:
        return self.of.postings

    @property
    def writings(self) -> Writings:
        return self.of.writings

    def directory(self, indexes: Indexes) -> Directory:
        return self.of.directory(indexes)

    def between(self, start: int, end: int) -> Directory:
        """Of all that lie from one index to before another."""
        return self.of.between(start, end)

    def contents(self, indexes: Indexes) -> dict[int, Content]:
        return self.read(indexes[~postings.among(indexes, self.hidden)])

    def coded(self, indexes: Indexes, meanings: Meanings) -> Coded:
        """Of these records, which ascend and are all here."""
        if isinstance(self.of, Filed):
            return self.of.coded(indexes, meanings)
        said, asked = self.of.said, indexes.tolist()
        missing = np.array([index for index in asked if index not in said], np.int64)
        if len(missing):
            told = self.read(missing)
            every = codified.each(self.of.columns, (told[index] for index in missing.tolist()))
            said.update(zip(missing.tolist(), every, strict=True))
        return codes.known(codified.together([said[index] for index in asked]), meanings)

    def numbers(self, indexes: Indexes, meanings: Meanings) -> Sequence[NDArray[Any]]:
        """Actors, manners and shapes alone."""
        return (
            self.of.numbers(indexes, meanings) if isinstance(self.of, Filed) else self.coded(indexes, meanings).numbers
        )

    def meeting(self, indexes: Indexes, ways: Ways) -> Indexes:
        """Those of these records, which are all here, whose pick may have a way."""
        return self.of.meeting(indexes, ways) if isinstance(self.of, Filed) else indexes

    @property
    def crossing(self) -> Hashes:
        return self.of.codes.whole.crossing if isinstance(self.of, Filed) else codes.NO_HASHES

    def several(self, crossing: Hashes) -> Sequence[tuple[Hashes, Indexes]]:
        """Calls that several records tell of, as far as they are not told with the codes; with all of `crossing`."""
        return self.of.codes.several(crossing) if isinstance(self.of, Filed) else ()

    def lasts(self, sessions: Hashes) -> Indexes:
        """As `Codes.lasts`."""
        if isinstance(self.of, Filed):
            return self.of.codes.lasts(sessions)
        posted = self.postings[BY_TIME]
        last = {session: int(posted.find(session).max()) for session in posted.among(np.sort(sessions)).tolist()}
        return np.array([last.get(session, -1) for session in sessions.tolist()], np.int64)


class Wanted(msgspec.Struct, frozen=True):
    """What is asked of many records: marks that they have and have not, times (microseconds), and places."""

    marked: int = 0
    unmarked: int = 0
    since: int | None = None
    until: int | None = None
    environments: frozenset[str] | None = None
    datasources: frozenset[str] | None = None

    def at(self, place: Place) -> bool:
        return (self.environments is None or place[0] in self.environments) and (
            self.datasources is None or place[1] in self.datasources
        )

    def mask(self, layer: Layer | Began, size: int) -> Mask:
        """The same as a condition on the directory of one layer, below a log size."""
        is_anywhere = self.environments is None and self.datasources is None
        allowed = np.array([] if is_anywhere else [self.at(place) for place in layer.places], bool)

        def holds(there: Directory) -> NDArray[np.bool_]:
            kept: NDArray[np.bool_] = (there.indexes < size) & (
                (there.marks & (self.marked | self.unmarked)) == self.marked
            )
            if not allowed.all():
                kept &= allowed[there.places]
            if self.since is not None:
                kept &= there.times >= self.since
            if self.until is not None:
                kept &= (there.times < self.until) & (there.times != NO_TIME)
            return kept

        return holds


Keys = dict[str, tuple[int, list[dict[str, Any]]]]
"""By database the keys that the snapshot with this index tells of, which was looked at last: kept between questions."""


class Unable(Exception):
    """Look-ups cannot tell, or not sooner than the whole log."""


class Lookup:
    """All layers, as of a log size, for one question: what it reads is kept as long."""

    def __init__(
        self, seen: Sequence[Seen], size: int, meanings: Meanings, keys: Keys | None = None, began: Began | None = None
    ) -> None:
        self.layers, self.began = [layer for layer in seen if layer.places], began
        self.size, self.meanings, self.keys = size, meanings, {} if keys is None else keys
        self.sums: Callable[[Wanted], Totals | None] | None = None
        self.firsts: Callable[[], Firsts | None] | None = None
        self.texts: Callable[..., Indexes] | None = None
        self.read: dict[int, Content] = {}

    def open_codes(self) -> None:
        """Reads what the texts of all codes mean, and makes groups, as the first that counts by them would."""
        for layer in self.layers:
            if isinstance(layer.of, Filed):
                layer.of.codes.read(self.meanings)
                layer.of.groups(self.meanings)
                _ = layer.of.tickets, layer.of.runs, layer.of.repeats

    def newest(self, some: Sequence[Term], wanted: Wanted, most: int, upto: int | None = None) -> Indexes:
        """As `layers.newest`. Raises Unable, as the others do, where a file is damaged."""
        return layers.newest(self.layers, some, lambda layer: wanted.mask(layer, self.size), most, upto)

    def last_of_each(self, some: Sequence[Term], wanted: Wanted) -> Indexes:
        """As `layers.last_of_each`."""
        return layers.last_of_each(self.layers, some, lambda layer: wanted.mask(layer, self.size))

    def of_tables(
        self,
        chosen: Callable[[Tables], Iterable[Table]],
        wanted: Wanted,
        some: Sequence[Range],
        most: int,
        by_touch: bool,
    ) -> Indexes:
        """The newest records in these ranges that name one of these tables; by touch those that touched one, as often as they did."""
        missing = tables.NAMED if by_touch else tables.TOUCHED
        asked = [
            (
                layer,
                wanted.mask(layer, self.size),
                [term for one in chosen(layer.of.tables) for term in one.terms(missing)],
            )
            for layer in self.layers
        ]
        return listing.newest(asked, some, most, is_once=not by_touch)

    def captured(self, datasource: str, relations: Iterable[str], ran: Hashes, wanted: Wanted) -> NDArray[np.bool_]:
        """For each of these transactions (`ran`) whether some change of the table tells of it."""
        asked = [writings.terms_of(datasource, relation, ran) for relation in relations]
        told = layers.some(self.layers, BY_TIME, np.concatenate(asked), lambda layer: wanted.mask(layer, self.size))
        found = np.zeros(len(ran), bool)
        for of_table in asked if len(told) else ():
            found |= np.isin(of_table, told)
        return found

    def ran(self, indexes: Indexes) -> Hashes:
        """As `layers.ran`."""
        return layers.ran(self.layers, indexes)

    def contents(self, indexes: Indexes) -> list[Content]:
        """What these records hold, by index."""
        asked = np.unique(indexes)
        missing = np.array(
            [index for index in asked.tolist() if index not in self.read and index < self.size], np.int64
        )
        for layer in self.layers:
            if not len(missing):
                break
            if found := layer.contents(missing):
                self.read |= found
                missing = np.array([index for index in missing.tolist() if index not in found], np.int64)
        return [self.read[index] for index in asked.tolist() if index in self.read]

    def totals(self, wanted: Wanted) -> Totals | None:
        """What was counted in a window, out of sums instead of records; None where only records can tell."""
        return self.sums(wanted) if self.sums is not None else None

    def first_accesses(self) -> Firsts | None:
        """First accesses to tables; None where only records can tell."""
        return self.firsts() if self.firsts is not None else None

    def of_words(self, words: Sequence[str], wanted: Wanted, some: Iterable[Range], most: int) -> Indexes:
        """The newest records whose statement has all of these, as `texts.newest`. Raises Unable."""
        if self.texts is None:
            raise Unable
        return self.texts(self.layers, lambda layer: wanted.mask(layer, self.size), words, some, most)

    @property
    def columns(self) -> list[str]:
        return self.layers[0].of.columns if self.layers else []

    def persons(self, value: str, is_prefix: bool) -> set[Person]:
        """Whom a search for this may mean, as records tell of them."""
        return {one for layer in self.layers for one in layer.of.persons.of(value, is_prefix)}

    def datasources(self) -> set[str | None]:
        return {place[1] for layer in self.layers for place in layer.places}

    def shapes(self, datasource: str, relations: Iterable[str]) -> set[tuple[str, str]]:
        """Relation and shape of touches of these tables."""
        return {
            (relation, shape)
            for layer in self.layers
            for relation in relations
            for shape in layer.of.shapes.get((datasource, relation), ())
        }


def by_time(kind: str, *parts: object) -> Term:
    return Term(BY_TIME, postings.hash_of(kind, *parts))


def by_index(kind: str, *parts: object) -> Term:
    return Term(BY_INDEX, postings.hash_of(kind, *parts))


Login = Mapping[str, str | dt.datetime | None]
"""Whose login is whose, from when until when: a row of `Snapshot.identities`."""


def person(who: str, logins: Sequence[Login], datasources: Iterable[str | None], before: str = "") -> list[Term]:
    """The terms of records whose `who_id` this is: told, or through a login that was theirs at the time, or has that name.

    `before` stands before the kinds of terms.
    """
    found = [by_index(f"{before}told", who)]
    by_login: dict[tuple[Any, Any], list[Login]] = {}
    for row in logins:
        by_login.setdefault((row["datasource"], row["db_user"]), []).append(row)
    named = {key for key, periods in by_login.items() if any(row["person_id"] == who for row in periods)}
    for datasource, login in named | {(datasource, who) for datasource in datasources}:
        periods = by_login.get((datasource, login), [])
        spans = [_span(row) for row in periods if row["person_id"] == who]
        if login == who:
            spans += _between([_span(row) for row in periods])
        found.append(Term(BY_INDEX, postings.hash_of(f"{before}login", datasource, login), tuple(spans)))
    return found


ALWAYS = ((NO_TIME, -NO_TIME - 1),)
"""At all times."""


def _span(row: Login) -> tuple[int, int]:
    return microseconds(row["from_at"]), microseconds(row["to_at"])


def _between(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The times that no span has."""
    found, end = [], NO_TIME
    for start, following in sorted(spans):
        if start > end:
            found.append((end, start))
        end = max(end, following)
    return [*found, (end, -NO_TIME - 1)]
