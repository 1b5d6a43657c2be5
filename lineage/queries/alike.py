"""Searches that ask only for what all records of a group have (`lineage.extracts.groups`): told by numbers, as SQL asks it of records."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from lineage import search
from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts import Indexes, persons
from lineage.extracts.coding import Coding
from lineage.extracts.grouping import Grouping
from lineage.extracts.groups import Alike
from lineage.extracts.looking import Lookup, Wanted
from lineage.extracts.postings import NOTHING
from lineage.extracts.terms import LISTED
from lineage.moments import microseconds
from lineage.queries import candidates, walking
from lineage.queries.ask import Window, left_out
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
        is_kept = [one.kind not in self.kinds and not (self.is_other and one.op == "other") for one in coding.manners]
        kept: Mask = np.array(is_kept, bool)[alike.manners] if len(alike.manners) else np.zeros(0, bool)
        for part in self.parts:
            kept = kept & _matching(part, coding, alike)
        return kept

    def wanted(self, of: Wanted) -> Wanted:
        """Scope and window, narrowed to the times."""
        since = [at for at in (of.since, self.since) if at is not None]
        until = [at for at in (of.until, self.until) if at is not None]
        return msgspec.structs.replace(of, since=max(since, default=None), until=min(until, default=None))

    def names(self, relation: str) -> bool:
        """Whether the table is meant."""
        words = (relation, relation.partition(".")[2] or relation)
        return all(_is(words, persons.folded(term.value), term.prefix) for term in self.relations)


def read(q: str, by_table: bool = False) -> Asked | None:
    """None where it asks for something else too; by table a search may name some. Records must be marked as listed."""
    query, now = search.parse(q), dt.datetime.now(dt.UTC)
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
    is_meant = [_is(told, wanted, node.prefix) for told in words(coding)]
    numbers = getattr(alike, column)
    return np.array(is_meant, bool)[numbers] if len(numbers) else np.zeros(0, bool)


def _is(told: Iterable[str | None], wanted: str, is_prefix: bool) -> bool:
    found = [persons.folded(word) for word in told if word is not None]
    return any(word.startswith(wanted) if is_prefix else word == wanted for word in found)


def newest(question: Question, viewer: Viewer, q: str, window: Window, by_touch: bool, most: int) -> Indexes | None:
    """The newest `most` records that match, by touch of those that touched a table; None where only records can tell."""
    asked, wanted = read(q), candidates.wanted(viewer, window, LISTED)
    if asked is None or wanted is None:
        return None
    ranges = walking.ranges(question, viewer, window)

    def tell(look: Lookup) -> Indexes | None:
        coding = Coding(look, question.snapshot.logins)
        grouping = Grouping(look, coding, question.snapshot.identities, asked.wanted(wanted))
        return first(grouping, asked, ranges, by_touch, most) if look.layers else None

    return candidates.told(question, tell)


def first(grouping: Grouping, asked: Asked, ranges: Sequence[walking.Range], by_touch: bool, most: int) -> Indexes:
    """The same of these groups' records in these ranges."""
    found, count = [NOTHING], 0
    for some in _matched(grouping, asked, ranges, by_touch):
        found.append(some)
        count += len(some)
        if count >= most:
            break
    return np.sort(np.concatenate(found))[::-1][:most]


def _matched(grouping: Grouping, asked: Asked, ranges: Sequence[walking.Range], by_touch: bool) -> Iterator[Indexes]:
    """In parts, of which none has a record that is newer than one of the part before."""
    coding = grouping.coding
    for start, end in walking.apart(ranges):
        for begin in range(end - SPAN, start - SPAN, -SPAN):
            found = [NOTHING]
            for indexes, alike, shapes in grouping.between(max(begin, start), begin + SPAN):
                kept = asked.of(coding, alike)
                if by_touch:
                    kept = kept & (np.diff(coding.meanings.tables.held.ends) > 0)[shapes]
                found.append(indexes[kept])
            yield np.concatenate(found)
