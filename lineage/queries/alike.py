"""Searches that ask only for what all records of a group have (`lineage.extracts.groups`): told by numbers, as SQL asks it of records."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
import numpy as np
from numpy.typing import NDArray

from lineage import search
from lineage.extracts import persons
from lineage.extracts.coding import Coding
from lineage.extracts.groups import Alike
from lineage.queries.ask import left_out

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
    """A search, with the kinds of records that it leaves out; `is_other`: and operations of no kind."""

    root: search.Node | None
    kinds: tuple[str, ...]
    is_other: bool

    def of(self, coding: Coding, alike: Alike) -> Mask:
        """Which of these match."""
        is_kept = [one.kind not in self.kinds and not (self.is_other and one.op == "other") for one in coding.manners]
        kept: Mask = np.array(is_kept, bool)[alike.manners] if len(alike.manners) else np.zeros(0, bool)
        return kept if self.root is None else kept & _matching(self.root, coding, alike)


def read(q: str) -> Asked | None:
    """None where it asks for something else too. Records must be marked as listed."""
    query = search.parse(q)
    asked = list(search.terms(query.root))
    if any(term.name not in FIELDS or not (term.value or term.prefix) for term in asked):
        return None
    return Asked(query.root, left_out(query)[0], not asked)


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
