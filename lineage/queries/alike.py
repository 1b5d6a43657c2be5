"""Searches that ask only for what all records of a group have (`lineage.extracts.groups`): told by numbers, as SQL asks it of records."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from lineage import search
from lineage.engine import Question
from lineage.extracts import Indexes, persons, tables
from lineage.extracts.beginnings import BY_INDEX
from lineage.extracts.coding import Coding
from lineage.extracts.grouping import Grouping, Only, Some
from lineage.extracts.groups import Alike
from lineage.extracts.looking import Lookup, Seen, Unable, Wanted
from lineage.extracts.meanings import Manner
from lineage.extracts.postings import Hashes
from lineage.moments import microseconds
from lineage.queries import sought, walking
from lineage.queries.ask import left_out
from lineage.search.fields import span

SPAN = 1 << 18
Mask = NDArray[np.bool_]
Words = Callable[[Coding], list[Iterable[str | None]]]
"""For each number by what words it is found, of which None is none."""


def _one(values: Iterable[str | None]) -> list[Iterable[str | None]]:
    return [(value,) for value in values]


FIELDS: dict[str, tuple[str, Words]] = {
    "op": ("manners", lambda coding: _one(one.op for one in coding.manners)),
    "verdict": ("manners", lambda coding: _one(one.verdict or "unknown" for one in coding.manners)),
    "datasource": ("places", lambda coding: _one(place[1] for place in coding.places)),
    "db_user": ("actors", lambda coding: _one(one.db_user for one in coding.actors)),
    "for": ("actors", lambda coding: [persons.words((one.on_behalf_of,)) for one in coding.actors]),
    "type": ("who", lambda coding: _one(one.type or "unknown" for one in coding.people)),
    "attribution": ("who", lambda coding: _one(one.attribution or "none" for one in coding.people)),
    "actor": ("who", lambda coding: [persons.words((one.id, one.name, one.email)) for one in coding.people]),
}  # fmt: skip
"""By what a search may ask: of which column of `Alike`, and what its numbers stand for."""


class Asked(msgspec.Struct, frozen=True):
    """A search, with the kinds of records that it leaves out; `is_other`: and operations of no kind.

    Each of `relations` must name the table; times are in microseconds, `until` is exclusive.
    """

    parts: tuple[search.Node, ...]
    kinds: tuple[str, ...]
    is_other: bool
    relations: tuple[search.Term, ...] = ()
    since: int | None = None
    until: int | None = None

    def of(self, coding: Coding, alike: Alike) -> Mask:
        """Which of these match."""
        kept = coding.told((self.kinds, self.is_other), alike.manners, lambda: map(self._is_kept, coding.manners))
        for part in self.parts:
            kept = kept & _matching(part, coding, alike)
        return kept

    def _is_kept(self, one: Manner) -> bool:
        return one.kind not in self.kinds and not (self.is_other and one.op == "other")

    def wanted(self, of: Wanted) -> Wanted:
        """Scope and window, narrowed to the times."""
        since = [at for at in (of.since, self.since) if at is not None]
        until = [at for at in (of.until, self.until) if at is not None]
        return msgspec.structs.replace(of, since=max(since, default=None), until=min(until, default=None))

    def names(self, relation: str) -> bool:
        """Whether the table is meant."""
        words = (relation, relation.partition(".")[2] or relation)
        return all(_is(words, persons.folded(term.value), term.prefix) for term in self.relations)


def read(q: str, by_table: bool = False, now: dt.datetime | None = None) -> Asked | None:
    """None where it asks for something else too; by table a search may name some. Records must be marked as listed.

    Relative times count from `now`, by default the clock.
    """
    query, now = search.parse(q), now or dt.datetime.now(dt.UTC)
    root = query.root
    parts = root.parts if isinstance(root, search.And) else (root,) if root is not None else ()
    apart: dict[str, list[search.Term]] = {"since": [], "until": [], **({"relation": []} if by_table else {})}
    rest: list[search.Node] = []
    for part in parts:
        if isinstance(part, search.Term) and part.name in apart:
            apart[part.name].append(part)
        elif all(term.name in FIELDS and (term.value or term.prefix) for term in search.terms(part)):
            rest.append(part)
        else:
            return None
    since = [microseconds(span(term.value, now)[0]) for term in apart["since"]]
    until = [microseconds(span(term.value, now)[1]) for term in apart["until"]]
    return Asked(
        tuple(rest), left_out(query)[0], not search.names(query), tuple(apart.get("relation", ())),
        max(since, default=None), min(until, default=None),
    )  # fmt: skip


def _matching(node: search.Node, coding: Coding, alike: Alike) -> Mask:
    if isinstance(node, search.Not):
        return ~_matching(node.part, coding, alike)
    if isinstance(node, (search.And, search.Or)):
        every = [_matching(part, coding, alike) for part in node.parts]
        joined: Mask = (np.logical_or if isinstance(node, search.Or) else np.logical_and).reduce(every)
        return joined
    column, words = FIELDS[node.name]
    wanted = persons.folded(node.value)
    return coding.told(node, getattr(alike, column), lambda: (_is(told, wanted, node.prefix) for told in words(coding)))


def _is(told: Iterable[str | None], wanted: str, is_prefix: bool) -> bool:
    found = [persons.folded(word) for word in told if word is not None]
    return any(word.startswith(wanted) if is_prefix else word == wanted for word in found)


def grouping(question: Question, look: Lookup, asked: Asked, wanted: Wanted, only: Only | None) -> Grouping:
    """Of the records that match, beside others that `Asked.of` tells apart. Where `only` says nothing, of those whom it names."""
    coding = Coding(look, question.snapshot.logins)
    only = only if only is not None else of_persons(question, look, asked)
    return Grouping(look, coding, question.snapshot.identities, asked.wanted(wanted), only)


def of_persons(question: Question, look: Lookup, asked: Asked) -> OfPersons | None:
    """Of those one of whom each matching record must name; None where it names none, or everybody without a name."""
    for part in asked.parts:
        either = part.parts if isinstance(part, search.Or) else (part,)
        named = [one for one in either if isinstance(one, search.Term) and one.name == "actor"]
        if len(named) == len(either):
            with contextlib.suppress(Unable):
                terms = {term.hash for one in named for term in sought.of_person(look, question.snapshot, one)}
                return OfPersons(np.array(sorted(terms), np.uint64))
    return None


class OfPersons(NamedTuple):
    """Records with one of these terms."""

    terms: Hashes

    def found(self, layer: Seen) -> Indexes:
        return layer.postings[BY_INDEX].find_all(self.terms)

    def shapes(self) -> Mask | None:
        return None


class OfTables:
    """Records that name each of these tables; by touch those of which one access is to what all of them name. Raises Unable."""

    def __init__(self, look: Lookup, relations: Sequence[search.Term], by_touch: bool) -> None:
        self.look, self.relations, self.by_touch = look, relations, by_touch
        if not all(term.value.isascii() for term in relations):
            # Other letters may be folded in two ways.
            raise Unable
        self.known: Mask | None = None

    def is_meant(self, names: Sequence[str | None], relations: Sequence[search.Term]) -> Mask:
        """Which of these are names of all of these tables."""
        wanted = [(persons.folded(term.value), term.prefix) for term in relations]

        def holds(name: str | None) -> bool:
            words = (name, name.partition(".")[2] or name) if name is not None else ()
            return all(_is(words, value, prefix) for value, prefix in wanted)

        return np.array([holds(name) for name in names], bool)

    def found(self, layer: Seen) -> Indexes:
        first, missing = self.relations[0], tables.NAMED if self.by_touch else tables.TOUCHED
        value = persons.folded(first.value)
        every = layer.of.tables
        names = [name for name in every.named if name.startswith(value)] if first.prefix else [value]
        terms = {term for name in names for one in every.of(name) for term, _ in one.terms(missing)}
        return layer.postings[BY_INDEX].find_all(np.array(sorted(terms), np.uint64))

    def shapes(self) -> Mask:
        meanings = self.look.meanings
        held = (meanings.tables if self.by_touch else meanings.relations).held
        if self.known is None or len(self.known) < len(held.ends) - 1:
            asked = [self.relations] if self.by_touch else [[term] for term in self.relations]
            every = [held.having(self.is_meant(held.values, some)) for some in asked]
            self.known = np.logical_and.reduce(every)
        return self.known


def first(
    grouping: Grouping, matching: Callable[[Alike], Mask], ranges: Sequence[walking.Range], most: int,
    times: Callable[[Some], int] | None = None,
) -> list[Some]:  # fmt: skip
    """The newest matching records, in parts: at least as many as count for `most` together, or all. By themselves each counts once."""
    found, count = list[Some](), 0
    for start, end in walking.apart(ranges):
        size = SPAN if grouping.only is None else max(end - start, SPAN)
        for begin in range(end - size, start - size, -size):
            for some in grouping.between(max(begin, start), begin + size):
                found.append(some.chosen(matching(some.alike)))
                count += len(found[-1].indexes) if times is None else times(found[-1])
            if count >= most:
                return found
    return found
