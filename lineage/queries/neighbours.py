"""Which sessions lie before and after one: of the same identity, and of the same database. By look-ups alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineage.access import Viewer
from lineage.extracts import Indexes, beginnings, naming
from lineage.extracts.beginnings import BY_INDEX
from lineage.extracts.layers import Term
from lineage.extracts.looking import ALWAYS, Login, Lookup, Seen, Wanted, by_index, person
from lineage.extracts.postings import among
from lineage.extracts.terms import ACT, BY_TIME
from lineage.moments import microseconds
from lineage.queries.ask import Window
from lineage.queries.candidates import wanted


@dataclasses.dataclass(frozen=True)
class _Begins:
    """Sessions by their hash, when they began, whether they are of the identity and of the database, and one record of each."""

    sessions: NDArray[np.uint64]
    times: Indexes
    own: NDArray[np.bool_]
    same: NDArray[np.bool_]
    records: Indexes


READ_MOST = 500
"""Of more sessions of one extract the acts are not read one by one."""
Some = tuple[int, int, bool, bool, int]
"""Of one beginning: session, time, of the identity, of the database, record."""


def around(look: Lookup, viewer: Viewer, logins: Sequence[Login], head: Mapping[str, Any]) -> dict[str, Any] | None:
    """As `course.session` says; None for viewers of some time, to whom a session may begin later than it did."""
    asked = wanted(viewer, Window(), ACT)
    if asked is None or viewer.from_at or viewer.until_at:
        return None
    begins = _together(look, asked, logins, head["who_id"], head["datasource"])
    if begins is None:
        return None
    place = microseconds(head["started_at"]), head["session"]
    asked_for = {
        f"{name}_{owner}": (kept, is_next)
        for name, is_next in (("previous", False), ("next", True))
        for owner, kept in (("own", begins.own), ("same", begins.same))
    }
    # Mostly the nearest of each is it: all are read together.
    look.contents(np.concatenate([_at_nearest(begins, *_left(begins, each, place))[1] for each in asked_for.values()]))
    return {name: _nearest(look, begins, each, place) for name, each in asked_for.items()}


def _together(look: Lookup, asked: Wanted, logins: Sequence[Login], who: str | None, datasource: str) -> _Begins | None:
    # The first is the database's, the others the identity's: a login by that name in each database, of which there mostly is none.
    terms = [by_index("begin", datasource)]
    if who is not None:
        terms += person(who, logins, look.datasources(), "begin ")
    hashes = np.array([term.hash for term in terms], np.uint64)
    parts: list[tuple[Any, ...]] = []
    for layer in look.layers:
        posted = layer.postings[BY_INDEX]
        found = [(terms[number], posted.at(begin, end)) for number, begin, end in posted.spans(hashes)]
        if not found:
            continue
        (sessions, times, places, is_own, records), doubtful = _begun(look, layer, asked, found, terms[0])
        here = [number for number, place in enumerate(layer.places) if place[1] == datasource]
        parts.append((sessions, times, is_own, np.isin(places, here), records))
        if len(doubtful) > READ_MOST:
            return None
        if doubtful:
            parts.append(_columns(_read(look, layer, asked, doubtful, _Whose(who, logins, datasource))))
    return _grouped(*(np.concatenate(column) for column in zip(*(parts or [_columns([])]), strict=True)))


def _columns(some: Sequence[Some]) -> tuple[Any, ...]:
    columns = list(zip(*some, strict=True)) or [()] * 5
    kinds = (np.uint64, np.int64, np.bool_, np.bool_, np.int64)
    return tuple(np.array(column, kind) for column, kind in zip(columns, kinds, strict=True))


def _grouped(*columns: Any) -> _Begins:
    """Of each session the earliest beginning."""
    order = np.lexsort((columns[1], columns[0]))
    sessions, times, own, same, records = (column[order] for column in columns)
    first = np.flatnonzero(np.concatenate(([True], sessions[1:] != sessions[:-1]))[: len(sessions)])
    if not len(first):
        return _Begins(sessions, times, own, same, records)
    own, same = (np.logical_or.reduceat(column, first) for column in (own, same))
    return _Begins(sessions[first], times[first], own, same, records[first])


def _begun(
    look: Lookup, layer: Seen, asked: Wanted, some: Sequence[tuple[Term, Indexes]], of_database: Term
) -> tuple[list[NDArray[Any]], set[int]]:
    """Session, time, place, whether it has one of the identity's terms, and record of these beginnings by their term.

    And sessions of which it cannot be told from them.
    """
    found = np.concatenate([records for _, records in some])
    sessions, there = layer.of.begun.of(found), layer.directory(found)
    doubt = among(found, layer.hidden) | (found >= look.size)
    at, is_own = 0, np.ones(len(found), bool)
    for term, records in some:
        here = slice(at, at := at + len(records))
        is_own[here] = term is not of_database
        if term.spans is not None and term.spans != ALWAYS:
            # A session may go on when a login becomes somebody's, or is no longer.
            is_cut = any(end < naming.FAR for _, end in term.spans)
            doubt[here] |= ~term.holds(there.times[here]) | is_cut
    sure = ~doubt & asked.mask(layer, look.size)(there)
    told = (sessions, there.times, there.places, is_own, found)
    return [column[sure] for column in told], set(sessions[doubt].tolist())


@dataclasses.dataclass(frozen=True)
class _Whose:
    who: str | None
    logins: Sequence[Login]
    datasource: str

    def owns(self, one: beginnings.Acted) -> bool:
        return (
            self.who is not None
            and naming.who(one.told_id, one.datasource, one.db_user, one.at, self.logins) == self.who
        )


def _read(look: Lookup, layer: Seen, asked: Wanted, sessions: set[int], whose: _Whose) -> list[Some]:
    """The same of all acts of these sessions in the layer."""
    found: list[Some] = []
    for session in sessions:
        indexes = layer.postings[BY_TIME].find(session)
        indexes = np.sort(indexes[~among(indexes, layer.hidden) & (indexes < look.size)])
        contents = layer.contents(indexes)
        for one in beginnings.acted(look.columns, [contents[index] for index in indexes.tolist()], session):
            is_own, is_same = whose.owns(one), one.datasource == whose.datasource
            if (is_own or is_same) and asked.at((one.environment, one.datasource)) and one.at is not None:
                found.append((session, one.at, is_own, is_same, one.record))
    return found


Side = tuple[NDArray[np.bool_], bool]
"""Which beginnings are asked for, and whether the next ones or the previous."""


def _left(begins: _Begins, asked: Side, place: tuple[int, str]) -> Side:
    """Those that are not on the other side."""
    kept, is_next = asked
    return kept & ((begins.times >= place[0]) if is_next else (begins.times <= place[0])), is_next


def _at_nearest(begins: _Begins, left: NDArray[np.bool_], is_next: bool) -> tuple[int, Indexes]:
    """When the nearest of these began, and one record of each that began then."""
    times = begins.times[left]
    if not len(times):
        return 0, begins.records[:0]
    moment = int(times.min() if is_next else times.max())
    return moment, begins.records[left & (begins.times == moment)]


def _nearest(look: Lookup, begins: _Begins, asked: Side, place: tuple[int, str]) -> str | None:
    """The session that began last before this place, or first after it, in order by time and name."""
    at, name = place
    times = begins.times
    left, is_next = _left(begins, asked, place)
    best: Callable[..., str] = min if is_next else max
    while left.any():
        moment, records = _at_nearest(begins, left, is_next)
        column = look.columns.index("session")
        named = [row[column] for row, _ in look.contents(records)]
        beyond = [one for one in named if moment != at or (one > name if is_next else one < name)]
        if beyond:
            return best(beyond)
        left &= times != moment
    return None
