"""Searches for records or accesses that name a table, or a session, run or transaction, found by look-ups: without a walk through the log.

Only what terms, places and marks tell exactly is looked up; a search with any other condition is asked of the log. The rows
that are shown are asked the whole condition all the same.
"""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from lineage import search, snapshots
from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts import Indexes, persons, terms
from lineage.extracts.beginnings import BY_INDEX
from lineage.extracts.blocks import RELATION, TOUCHED
from lineage.extracts.layers import Term
from lineage.extracts.looking import Lookup, Unable, Wanted, by_index, by_time
from lineage.extracts.postings import NOTHING
from lineage.extracts.tables import Table, Tables
from lineage.queries import candidates, paging, walking, worded
from lineage.queries.ask import Window, left_out
from lineage.queries.walking import Range

ORDERED = ("relation", "key", "touch_op", "access", "provenance", "columns")
"""In what order the accesses of one record are (`paging.ORDERS`)."""
ALL = "true"
"""The condition that every record meets."""
CARDS_MOST, NAMED_MOST = 2_000, 20_000
"""So many records are read one by one, and so many are joined with a statement; more are asked for from the first one on."""


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
        """Scope and window, narrowed to records of the places, marked so. Raises Unable."""
        places = [place for layer in look.layers for place in layer.places]
        return msgspec.structs.replace(
            scope,
            marked=scope.marked | (terms.LISTED if self.is_listed else 0),
            environments=_among((place[0] for place in places), self.environment, scope.environments),
            datasources=_among((place[1] for place in places), self.datasource, scope.datasources),
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
    told = named(q)
    if told is None or not told[0]["relation"] or (by == "event" and len(told[0]["relation"]) > 1):
        return None
    return Sought(**told[0])


def named(q: str, *others: str) -> tuple[dict[str, Any], list[search.Term]] | None:
    """What such a search asks for, by the members of `Sought`, and its terms of these other fields; None as `read` says it."""
    query = search.parse(q)
    parts = query.root.parts if isinstance(query.root, search.And) else (query.root,)
    texts: dict[str, list[str]] = {"relation": [], "environment": [], "datasource": []}
    rest: list[search.Term] = []
    for part in parts:
        if not isinstance(part, search.Term) or not part.value.isascii() or not part.value:
            return None
        if part.name in others:
            rest.append(part)
        elif part.name in texts and not part.prefix:
            texts[part.name].append(part.value.lower())
        else:
            return None
    kinds, _ = left_out(query)
    return {
        **{name: tuple(values) for name, values in texts.items()},
        "is_listed": "custody" in kinds,
    }, rest


class Listed(paging.Listed):
    """The same list by look-ups. What it finds is asked the condition when it is shown: two terms may have one hash."""

    def __init__(self, of: paging.Listed, look: Lookup, sought: Sought, wanted: Wanted) -> None:
        super().__init__(of.question, of.relation, of.condition, of.values, of.ranges)
        self.look, self.sought, self.wanted = look, sought, wanted

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
        if columns == "index" or not indexes:
            return super()._rows(columns, indexes, before)
        found = self._touches(columns.split(", "), np.unique(indexes))[before : before + len(indexes)]
        if len(found) < len(indexes):
            raise Unable
        return found

    def is_meant(self, datasource: str | None, touch: Sequence[Any]) -> bool:
        """Whether it is an access to one of the tables."""
        return (datasource, touch[RELATION]) in self.known

    @functools.cached_property
    def known(self) -> set[tuple[str | None, str]]:
        return {one[:2] for layer in self.look.layers for one in self.sought.tables(layer.of.tables)}

    def _touches(self, names: Sequence[str], some: Indexes) -> list[dict[str, Any]]:
        """These columns of the accesses of these records to the tables that are asked for, in the order of the list. Raises Unable.

        What is asked of records marks, times and places told already.
        """
        of_touch = {
            name: TOUCHED.index("touch_columns" if name == "columns" else name) for name in (*ORDERED, "key_columns")
        }
        records = self.question.records(
            some, ["index", "datasource", *(name for name in names if name not in of_touch)]
        )
        if records is None:
            raise Unable
        place, found = self.look.columns.index("index"), list[tuple[list[Any], dict[str, Any]]]()
        for row, touches in self.look.contents(some):
            record = records[row[place]]
            for touch in touches:
                if self.is_meant(record["datasource"], touch):
                    told = {name: touch[of_touch[name]] if name in of_touch else record[name] for name in names}
                    order = [(touch[of_touch[name]] is None, touch[of_touch[name]]) for name in ORDERED]
                    found.append(([-record["index"], *order], told))
        return [told for _, told in sorted(found, key=operator.itemgetter(0))]


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
        by_table = listed(of_all, look, viewer, q, window)
        return np.array(by_table.newest_of(most), np.int64) if by_table is not None else None

    told = candidates.told(question, tell)
    # These may be more than match; who asks has the whole condition.
    return told if told is not None else named_by(question, viewer, q, window)


Snapshot = snapshots.Snapshot
Own = Callable[[Lookup], list[Term]]
"""Gives the terms of what is asked for."""

POINTING: Mapping[str, Callable[[Lookup, Snapshot, search.Term], list[Term]]] = {
    "session": lambda look, _, asked: [by_time("session", each) for each in _spelled(look, asked.value)],
    "run": lambda look, _, asked: [by_index("run", asked.value)],
    "transaction": lambda look, _, asked: [
        by_time("acted", place, asked.value) for place in look.datasources() if place
    ],
}
"""Fields of which a value is compared as it stands, and by which records with it are found."""


def _spelled(look: Lookup, name: str) -> list[str]:
    """A session's key, or what stands behind the first ~ of it, which is a database's name."""
    return [name, *{f"{place.partition('~')[0]}~{name}" for place in look.datasources() if place}]


def of_person(look: Lookup, snap: Snapshot, asked: search.Term) -> list[Term]:
    """Of those whose id, name, address or login it may be, imported ones too. Raises Unable for a name that stands for no name."""
    wanted, is_prefix = persons.folded(asked.value), asked.prefix
    if NAMELESS.startswith(wanted) if is_prefix else wanted == NAMELESS:
        raise Unable
    told = look.persons(asked.value, is_prefix)
    logins = {
        (place, one.db_user) for one in told if one.told_id is None and one.db_user for place in look.datasources()
    }
    for row in snap.identities.to_pylist():
        words = persons.words(row[name] for name in ("person_id", "name", "email"))
        if any(word.startswith(wanted) if is_prefix else word == wanted for word in words):
            logins.add((row["datasource"], row["db_user"]))
    ids = {one.told_id for one in told if one.told_id is not None}
    return [*(by_index("told", each) for each in ids), *(by_index("login", *each) for each in logins)]


NAMELESS = "unknown"
"""The name of whom records give none."""


def pointed(question: Question, q: str) -> Own | None:
    """By what the records of a search are found that names a person, a session, a run or transactions; None for others."""
    root, snap = search.parse(q).root, question.snapshot
    parts = root.parts if isinstance(root, search.And) else (root,)
    # A transaction without a database has no term.
    is_placed = any(isinstance(one, search.Term) and one.name == "datasource" and not one.prefix for one in parts)
    fields = set(POINTING) if is_placed else set(POINTING) - {"transaction"}
    those: dict[str, list[search.Term]] = {}
    for part in parts:
        either = part.parts if isinstance(part, search.Or) else (part,)
        named = [one for one in either if isinstance(one, search.Term) and one.name in fields and not one.prefix]
        if named and len(named) == len(either):
            return lambda look: [term for one in named for term in POINTING[one.name](look, snap, one)]
        for name in ("actor", "relation"):
            of = [one for one in either if isinstance(one, search.Term) and one.name == name and one.value]
            if len(of) == len(either) and not (name == "relation" and any(one.prefix for one in of)):
                those.setdefault(name, of)
    # Whom it names tells less than what they were part of, and more than tables do.
    if "actor" in those:
        return lambda look: [term for one in those["actor"] for term in of_person(look, snap, one)]
    if "relation" in those:
        places = [one for one in parts if isinstance(one, search.Term) and one.name == "datasource" and not one.prefix]
        return lambda look: [term for one in those["relation"] for term in _of_table(look, one, places)]
    return None


def _of_table(look: Lookup, asked: search.Term, places: Sequence[search.Term]) -> list[Term]:
    """Of the tables of this name, in these databases where some are named."""
    if not asked.value.isascii():
        raise Unable
    wanted = {persons.folded(place.value) for place in places}
    tables = {one for layer in look.layers for one in layer.of.tables.of(asked.value.lower())}
    here = [one for one in tables if not wanted or persons.folded(one.datasource or "") in wanted]
    return [Term(BY_INDEX, term) for term in sorted({term for one in here for term, _ in one.terms("")})]


def found(question: Question, viewer: Viewer, window: Window, own: Own) -> Indexes | None:
    """The records in scope and window that have one of these terms, beside some that a hash brings; None where they are many."""
    asked = candidates.wanted(viewer, window)

    def tell(look: Lookup) -> Indexes | None:
        by_kind: dict[str, list[Term]] = {}
        for term in own(look) if asked is not None else ():
            by_kind.setdefault(term.kind, []).append(term)
        some = [look.newest(terms, asked, NAMED_MOST + 1) for terms in by_kind.values()] if asked is not None else None
        return np.concatenate([NOTHING, *some]) if some is not None and sum(map(len, some)) <= NAMED_MOST else None

    return candidates.told(question, tell)


def named_by(question: Question, viewer: Viewer, q: str, window: Window) -> Indexes | None:
    """The records that a search may find by whom or what it names, else by words in statements; None where they are many."""
    own = pointed(question, q)
    some = found(question, viewer, window, own) if own is not None else None
    return some if some is not None else worded.found(question, viewer, q, window, NAMED_MOST)


def few(question: Question, viewer: Viewer, window: Window, own: Own | None) -> contextlib.AbstractContextManager[str]:
    """Within it a question is asked of these records alone, with this condition more; of all where they are many, or not looked up."""
    return _only(question, found(question, viewer, window, own) if own is not None else None)


def _only(question: Question, some: Indexes | None) -> contextlib.AbstractContextManager[str]:
    return among(question, some) if some is not None else contextlib.nullcontext(ALL)


def searched(question: Question, viewer: Viewer, q: str, window: Window) -> contextlib.AbstractContextManager[str]:
    """As `few`: the records that a search may find by what it names."""
    return _only(question, named_by(question, viewer, q, window))


def matching(
    question: Question, viewer: Viewer, q: str, window: Window, by: str
) -> contextlib.AbstractContextManager[str]:
    """The same of the records, or by touch the accesses, that a search may find."""
    some = newest(question, viewer, q, window, by, NAMED_MOST + 1) if q else None
    is_few = some is not None and len(some) <= NAMED_MOST
    return among(question, some) if some is not None and is_few else contextlib.nullcontext(ALL)


@contextlib.contextmanager
def among(question: Question, indexes: Indexes) -> Iterator[str]:
    """Within it a question is asked of few more records than these, with this condition more."""
    some = np.unique(indexes)
    if not len(some):
        yield "false"
    elif len(some) > NAMED_MOST:
        yield f"index >= {some[0]}"
    else:
        with contextlib.ExitStack() as stack:
            if len(some) <= CARDS_MOST:
                stack.enter_context(candidates.narrowed(question, lambda _: some))
            yield stack.enter_context(question.named(some))
