"""The part of a search that speaks of leaf headers only, so that a verifier can apply it again (docs/verify.md, "Headers")."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import get_args

from lineage.events import Class, Kind, format_time
from lineage.packfile import Headers
from lineage.search.fields import span
from lineage.search.terms import And, Node, Not, Or, Query, Term

YEAR_LEAST = 1000
"""Times are compared as text, which needs four digits."""
_MICROSECOND = dt.timedelta(microseconds=1)


@dataclass(frozen=True)
class HeaderPart:
    """`headers` hold for every record that the query selects, and its index lies in [first, following) where these are set.

    `whole`: the query asks for nothing else.
    """

    headers: Headers
    first: int | None
    following: int | None
    whole: bool


def header_part(query: Query, sources: Collection[str], now: dt.datetime) -> HeaderPart:
    """What a query asks of headers. `sources` are all names of sources in the log; relative times count from `now`."""
    part = query.root
    conditions = part.parts if isinstance(part, And) else () if part is None else (part,)
    asked = _Asked(sources, now)
    understood = [asked.take(each) for each in conditions]
    times = {name: format_time(at) for name, at in asked.times.items()}
    lists = {name: tuple(sorted(values)) for name, values in asked.lists.items()}
    return HeaderPart(
        Headers(
            kind=lists.get("kind", ()),
            class_=lists.get("class", ()),
            source_id=lists.get("source", ()),
            occurred_from=times.get("occurred_from"),
            occurred_until=times.get("occurred_until"),
            received_from=times.get("received_from"),
            received_until=times.get("received_until"),
        ),
        asked.first,
        asked.following,
        all(understood),
    )


class _Asked:
    """What the conditions taken so far allow, together."""

    def __init__(self, sources: Collection[str], now: dt.datetime) -> None:
        self.now = now
        self.known: Mapping[str, frozenset[str]] = {
            "kind": frozenset(get_args(Kind)),
            "class": frozenset(get_args(Class)),
            "source": frozenset(sources),
        }
        self.lists: dict[str, frozenset[str]] = {}
        self.times: dict[str, dt.datetime] = {}
        self.first: int | None = None
        self.following: int | None = None

    def take(self, node: Node) -> bool:
        """Narrows by one condition; False, and nothing is narrowed, when headers cannot say all of it."""
        if isinstance(node, Term) and node.name in _TIMES:
            return self._take_time(node)
        if isinstance(node, Term) and node.name == "index":
            return self._take_index(node)
        listed = self._listed(node)
        if listed is None:
            return False
        name, values = listed
        values &= self.lists.get(name, values)
        # An empty list would mean that every value is allowed.
        if values:
            self.lists[name] = values
        return bool(values)

    def _listed(self, node: Node) -> tuple[str, frozenset[str]] | None:
        """(field, allowed values) of a condition on one closed field; None for any other condition."""
        if isinstance(node, Not):
            inner = self._listed(node.part)
            # A record without a class meets no list of classes, but does meet the negation of one.
            return None if inner is None or inner[0] == "class" else (inner[0], self.known[inner[0]] - inner[1])
        if isinstance(node, Or):
            parts = [self._listed(part) for part in node.parts]
            names = {part[0] if part else None for part in parts}
            name = names.pop()
            return None if names or name is None else (name, frozenset().union(*(p[1] for p in parts if p)))
        if isinstance(node, And) or node.name not in self.known or not _folds(node.value, self.known[node.name]):
            return None
        return node.name, frozenset(value for value in self.known[node.name] if _matches(value, node))

    def _take_time(self, term: Term) -> bool:
        try:
            bounds = _TIMES[term.name](term, *span(term.value, self.now))
        except OverflowError:
            return False
        if any(at.year < YEAR_LEAST for at in bounds.values()):
            return False
        for name, at in bounds.items():
            known = self.times.get(name, at)
            self.times[name] = max(known, at) if name.endswith("from") else min(known, at)
        return True

    def _take_index(self, term: Term) -> bool:
        number = int(term.value)
        first = {">": number + 1, ">=": number, "": number}.get(term.compare)
        following = {"<": number, "<=": number + 1, "": number + 1}.get(term.compare)
        if first is not None:
            self.first = max(first, self.first or 0)
        if following is not None:
            self.following = following if self.following is None else min(following, self.following)
        return True


def _received(term: Term, start: dt.datetime, end: dt.datetime) -> dict[str, dt.datetime]:
    """The bounds of `received:`, as `lineage.search.fields` asks; `end` is `start` for a moment, else the next day."""
    step = _MICROSECOND if start == end else dt.timedelta(0)
    if term.compare == ">":
        return {"received_from": end + step}
    if term.compare == "<=":
        return {"received_until": end + step}
    if term.compare == "<":
        return {"received_until": start}
    return {"received_from": start} if term.compare or start == end else {"received_from": start, "received_until": end}


_TIMES: dict[str, Callable[[Term, dt.datetime, dt.datetime], dict[str, dt.datetime]]] = {
    "since": lambda term, start, end: {"occurred_from": start},
    "until": lambda term, start, end: {"occurred_until": end},
    "received": _received,
}


def _folds(value: str, known: Collection[str]) -> bool:
    """Whether upper and lower case are the same to everybody: beyond ASCII, DuckDB and Python may differ."""
    return value.isascii() and all(each.isascii() for each in known)


def _matches(value: str, term: Term) -> bool:
    wanted = term.value.lower()
    return value.lower().startswith(wanted) if term.prefix else value.lower() == wanted
