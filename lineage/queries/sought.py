"""Searches for records or accesses that name a table, found by look-ups: pages and totals without a walk through the log.

Only what terms, places and marks tell exactly is looked up; a search with any other condition is asked of the log. The rows
that are shown are asked the whole condition all the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from lineage import search
from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts import Indexes, terms
from lineage.extracts.looking import Lookup, Unable, Wanted
from lineage.extracts.tables import Table, Tables
from lineage.queries import candidates, paging, walking
from lineage.queries.ask import Window, left_out
from lineage.queries.walking import Range

CARDS_MOST, NAMED_MOST = 500, 2_000
"""So many records are read one by one, and so many are named in a statement; more are asked for from the first one on."""


class Sought(msgspec.Struct, frozen=True):
    """What such a search asks for, folded as it is compared: tables by name, and places; `is_listed`: marked so."""

    relation: tuple[str, ...]
    environment: tuple[str, ...]
    datasource: tuple[str, ...]
    is_listed: bool

    def tables(self, known: Tables) -> Iterable[Table]:
        """Those of an extract's tables that have all these names."""
        first, *others = (known.of(name) for name in self.relation)
        return [one for one in first if all(one in other for other in others)]

    def names(self, relations: Iterable[str]) -> bool:
        """Whether one of these is the table."""
        return any(self.relation[0] in (name, name.partition(".")[2]) for name in map(str.lower, relations))

    def wanted(self, look: Lookup, scope: Wanted) -> Wanted:
        """Scope and window, narrowed to the places. Raises Unable."""
        environments, datasources = zip(*(place for layer in look.layers for place in layer.places), strict=True)
        return msgspec.structs.replace(
            scope,
            marked=scope.marked | (terms.LISTED if self.is_listed else 0),
            environments=_among(environments, self.environment, scope.environments),
            datasources=_among(datasources, self.datasource, scope.datasources),
        )


def _among(names: Iterable[str | None], folded: Sequence[str], scope: frozenset[str] | None) -> frozenset[str] | None:
    """The names that all these are, within the scope. Raises Unable where a name has other letters than ASCII's."""
    if not folded:
        return scope
    known = {name for name in names if name is not None}
    if not all(map(str.isascii, known)):
        raise Unable
    found = frozenset(name for name in known if {name.lower()} == set(folded))
    return found if scope is None else found & scope


def read(q: str, by: str) -> Sought | None:
    """None where the search asks for something else too, or where its words are not compared by their ASCII letters."""
    query = search.parse(q)
    parts = query.root.parts if isinstance(query.root, search.And) else (query.root,)
    asked: dict[str, list[str]] = {"relation": [], "environment": [], "datasource": []}
    for part in parts:
        if not isinstance(part, search.Term) or part.name not in asked or part.prefix or not part.value.isascii():
            return None
        asked[part.name].append(part.value.lower())
    if not asked["relation"] or (by == "event" and len(asked["relation"]) > 1):
        return None
    kinds, _ = left_out(query)
    return Sought(**{name: tuple(values) for name, values in asked.items()}, is_listed="custody" in kinds)


class Listed(paging.Listed):
    """The same list by look-ups. What it finds is asked the condition when it is shown: two terms may have one hash."""

    def __init__(self, of: paging.Listed, look: Lookup, sought: Sought, wanted: Wanted) -> None:
        super().__init__(of.question, of.relation, of.condition, of.values, of.ranges)
        self.look, self.sought, self.wanted = look, sought, wanted

    def newest_of(self, most: int) -> list[int]:
        """The first so many."""
        return self._walk(self.ranges, most)

    def _walk(self, ranges: Sequence[Range], most: int, is_up: bool = False) -> list[int]:
        if is_up:
            raise Unable
        by_touch = self.relation == "touches"
        found: list[int] = self.look.of_tables(self.sought.tables, self.wanted, ranges, most, by_touch).tolist()
        return found[:most]

    def holds(self, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Whether these records name the table; accesses were asked the whole condition."""
        return self.relation == "touches" or all(self.sought.names(row["relations"] or ()) for row in rows)

    def _rows(self, columns: str, indexes: list[int], before: int) -> list[dict[str, Any]]:
        found = super()._rows(columns, indexes, before)
        if len(found) < len(indexes):
            raise Unable
        return found


def listed(of: paging.Listed, look: Lookup, viewer: Viewer, q: str, window: Window) -> Listed | None:
    """The same list by look-ups; None where the search asks for more than these can tell."""
    sought = read(q, "touch" if of.relation == "touches" else "event")
    scope = candidates.wanted(viewer, window)
    if sought is None or scope is None or not look.layers:
        return None
    return Listed(of, look, sought, sought.wanted(look, scope))


def newest(question: Question, viewer: Viewer, q: str, window: Window, by: str, most: int) -> Indexes | None:
    """The newest `most` records or accesses that match, by index, where look-ups can tell."""

    def tell(look: Lookup) -> Indexes | None:
        relation = "touches" if by == "touch" else "activity"
        of_all = paging.Listed(question, relation, "", [], walking.ranges(question, viewer, window))
        found = listed(of_all, look, viewer, q, window)
        return np.array(found.newest_of(most), np.int64) if found is not None else None

    return candidates.told(question, tell)


@contextlib.contextmanager
def among(question: Question, indexes: Indexes) -> Iterator[str]:
    """Within it a question is asked of few more records than these, with this condition more."""
    some = np.unique(indexes)
    if not len(some):
        yield "false"
    elif len(some) > NAMED_MOST:
        yield f"index >= {some[0]}"
    else:
        with candidates.narrowed(question, lambda _: some) if len(some) <= CARDS_MOST else contextlib.nullcontext():
            yield f"index in ({', '.join(map(str, some.tolist()))})"
