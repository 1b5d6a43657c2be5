"""What the texts of codes mean: actors, manners and shapes, each with a number for all files that a process has open. Pure.

A text is read once, whatever file has it first. They are as many as there are people with their agents and logins, and kinds of
statements by the tables that they name; not as records.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from lineage.extracts import naming
from lineage.extracts.numbering import Numbers, dense
from lineage.moments import microseconds

MEANT = ("actors", "manners", "shapes")
Column = NDArray[Any]
NONE: Column = np.empty(0, np.int64)


NAMED, READ, WROTE, MET, OTHERWISE = (1 << n for n in range(5))
CHANGED = 5
"""How a table was met: named, read, written, touched, and in another way; from this bit on how many of its rows were changed."""
WAYS = {"read": MET | READ, "wrote": MET | WROTE, "changed": MET | WROTE}


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
    op: str | None


class Who(NamedTuple):
    """Who it was, as `activity` says it."""

    id: str | None
    name: str | None
    email: str | None
    type: str | None
    attribution: str | None


ACTORS = msgspec.json.Decoder(list[str | None])
MANNERS = msgspec.json.Decoder(tuple[int, str, str | None, bool, str | None])
SHAPES = msgspec.json.Decoder(tuple[list[str | None] | None, list[str]])
TOUCH = msgspec.json.Decoder(tuple[str | None, str | None, str | None, int])


class Held(NamedTuple):
    """What is known of shapes: the numbers of the values of each, one behind the other, and where those of each begin and end.

    `ranks` are of each number the place of its value in the order of `values`, what is not known last.
    """

    numbers: Column
    ends: Column
    values: list[Any]
    ranks: Column

    def spread(self, shapes: Column) -> tuple[Column, Column]:
        """Of records with these shapes: all numbers, and which record has each."""
        begins = self.ends[shapes]
        counts = self.ends[shapes + 1] - begins
        last = np.cumsum(counts)
        places = np.repeat(begins - (last - counts), counts) + np.arange(last[-1] if len(last) else 0)
        return self.numbers[places], np.repeat(np.arange(len(shapes)), counts)

    def having(self, is_meant: Column) -> Column:
        """Of each shape whether one of its values is meant; `is_meant`: of each value."""
        sums = np.concatenate([[0], np.cumsum(is_meant[self.numbers])])[self.ends]
        return np.asarray(np.diff(sums) > 0)

    def named(self, shapes: Column) -> list[Any]:
        """The values that any of these shapes has."""
        return [self.values[number] for number in dense(self.spread(dense(shapes)[0])[0])[0].tolist()]


class Several:
    """Of each shape several values, each once; a value has its number once."""

    def __init__(self) -> None:
        self.of = Numbers()
        self.numbers, self.ends = array("q"), array("q", [0])
        self.held = Held(NONE, np.zeros(1, np.int64), [], NONE)

    def add(self, values: Iterable[Any]) -> None:
        self.numbers.extend(map(self.of, dict.fromkeys(values)))
        self.ends.append(len(self.numbers))

    def hold(self) -> None:
        """Makes arrays of what was added since."""
        if len(self.held.ends) < len(self.ends):
            values = list(self.of.of)
            order = sorted(range(len(values)), key=[_order(value) for value in values].__getitem__)
            ranks = np.empty(len(values), np.int64)
            ranks[order] = np.arange(len(values))
            self.held = Held(np.array(self.numbers), np.array(self.ends), values, ranks)


def _order(value: Any) -> list[tuple[bool, Any]]:
    return [(one is None, one or "") for one in (value if isinstance(value, tuple) else (value,))]


class Meanings:
    """Each list only grows: what a question has seen of it stays. `named` is who each actor is without imported logins.

    `who` and `bits` are arrays of that, and of the bits of manners.

    Of shapes: the tables that a record names, those that it touched, what it did there, and how each table was met (`ways`).
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.actors: list[Actor] = []
        self.manners: list[Manner] = []
        self.relations, self.tables, self.ops, self.ways = Several(), Several(), Several(), Several()
        self.named: list[int] = []
        self.who, self.bits = NONE, NONE
        self.of_who = Numbers()
        self.people: list[Who] = []
        self.texts: dict[str, Numbers] = {name: Numbers() for name in MEANT}
        self.told: dict[str, Callable[[str], None]] = {
            "actors": self._actor, "manners": self._manner, "shapes": self._shape,
        }  # fmt: skip

    def numbered(self, kind: str, texts: Sequence[str]) -> NDArray[np.int64]:
        """The numbers of these."""
        known, told = self.texts[kind], self.told[kind]
        with self.lock:
            for text in texts:
                if text not in known.of:
                    told(text)
                    known(text)
            self._hold()
            return np.fromiter((known.of[text] for text in texts), np.int64, len(texts))

    def _hold(self) -> None:
        """Makes arrays of what was added since."""
        for several in (self.relations, self.tables, self.ops, self.ways):
            several.hold()
        if len(self.who) < len(self.named):
            self.who = np.array(self.named, np.int64)
        if len(self.bits) < len(self.manners):
            self.bits = np.array([one.bits for one in self.manners], np.int64)

    def person(self, who: Who) -> int:
        """The number of one of `people`, who is one from now on."""
        with self.lock:
            return self._person(who)

    def _person(self, who: Who) -> int:
        number = self.of_who(who)
        if number == len(self.people):
            self.people.append(who)
        return number

    def _actor(self, text: str) -> None:
        actor = Actor(*ACTORS.decode(text))
        self.named.append(self._person(named(actor)))
        self.actors.append(actor)

    def _manner(self, text: str) -> None:
        self.manners.append(Manner(*MANNERS.decode(text)))

    def _shape(self, text: str) -> None:
        relations, told = SHAPES.decode(text)
        touches = [TOUCH.decode(each) for each in told]
        self.relations.add(relations or [])
        self.tables.add(relation for relation, *_ in touches)
        self.ops.add((relation, op) for relation, op, *_ in touches)
        self.ways.add(_ways(relations or (), touches))


def _ways(
    relations: Iterable[str | None], touches: Iterable[tuple[str | None, str | None, str | None, int]]
) -> Iterable[tuple[str, int]]:
    """Each table that such a record names or touches, with how it did."""
    found = {relation: NAMED for relation in relations if relation is not None}
    for relation, _, access, changed in touches:
        if relation is not None:
            found[relation] = found.get(relation, 0) | WAYS.get(access or "", MET | OTHERWISE)
            found[relation] += changed << CHANGED
    return found.items()


def named(actor: Actor, login: Mapping[str, Any] | None = None) -> Who:
    """Through this login's row, or without one."""
    row = actor._asdict() | {"occurred_at": None, "datasource": None}
    people = {}
    if login is not None:
        row |= {"occurred_at": microseconds(login["from_at"]), "datasource": login["datasource"]}
        people = {(login["datasource"], login["db_user"]): [login]}
    return Who(*naming.named_as(row, people))
