"""Which sessions lie before and after one: of the same identity, and of the same database. By look-ups alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineage.access import Viewer
from lineage.extracts import Indexes, beginnings, naming, narrowing
from lineage.extracts.began import Began, together
from lineage.extracts.chosen import Chosen
from lineage.extracts.filed import Filed
from lineage.extracts.layers import Term
from lineage.extracts.looking import ALWAYS, Login, Lookup, Seen, Wanted, by_index, person
from lineage.extracts.postings import NOTHING, among
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


APART = 1 << 44
"""Between the records of one file and the next, where one array has all."""
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
    names = _Names(look)
    # Mostly the nearest of each is it: all are read together.
    names.of(np.concatenate([_at_nearest(begins, *_left(begins, each, place))[1] for each in asked_for.values()]))
    return {name: _nearest(names, begins, each, place) for name, each in asked_for.items()}


class _Names:
    """The sessions of records, each read once."""

    def __init__(self, look: Lookup) -> None:
        self.look, self.chosen = look, Chosen(("index", "session"), {}, ())
        self.known: dict[int, str] = {}

    def of(self, indexes: Indexes) -> list[str]:
        """Of these records, each once."""
        asked = set(indexes.tolist())
        if missing := sorted(asked - self.known.keys()):
            found = narrowing.read(self.look, np.array(missing, np.int64), self.chosen)
            self.known |= {index: row["session"] for index, row in found.items()}
        return [self.known[index] for index in asked]


def _together(look: Lookup, asked: Wanted, logins: Sequence[Login], who: str | None, datasource: str) -> _Begins | None:
    # The first is the database's, the others the identity's: a login by that name in each database, of which there mostly is none.
    terms = [by_index("begin", datasource)]
    if who is not None:
        terms += person(who, logins, look.datasources(), "begin ")
    files = [layer for layer in look.layers if isinstance(layer.of, Filed)]
    rest = [layer for layer in look.layers if not isinstance(layer.of, Filed)]
    parts, whose = list[tuple[Any, ...]](), _Whose(who, logins, datasource)
    for layers, began in ((files, look.began), (rest, None)):
        told, doubtful = _begun(look, layers, began or Began([layer.of for layer in layers]), asked, terms, datasource)
        parts.append(told)
        for layer, sessions in zip(layers, doubtful, strict=True):
            if len(sessions) > READ_MOST:
                return None
            if sessions:
                parts.append(_columns(_read(look, layer, asked, sessions, whose)))
    return _grouped(*(np.concatenate(column) for column in zip(*parts, strict=True)))


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
    look: Lookup, layers: Sequence[Seen], began: Began, asked: Wanted, terms: Sequence[Term], datasource: str | None
) -> tuple[tuple[Any, ...], list[set[int]]]:
    """The columns of `Some` of the beginnings with these terms, of which the first is the database's.

    And of each layer the sessions of which it cannot be told from them.
    """
    some = began.of([term.hash for term in terms])
    files, sessions, there = together(some)
    hidden = [NOTHING, *(layer.hidden + number * APART for number, layer in enumerate(layers))]
    doubt = among(there.indexes + files * APART, np.concatenate(hidden)) | (there.indexes >= look.size)
    at, is_own = 0, np.ones(len(files), bool)
    for number, (term, found) in enumerate(zip(terms, some, strict=True)):
        here = slice(at, at := at + len(found.files))
        is_own[here] = number > 0
        if term.spans is not None and term.spans != ALWAYS:
            # A session may go on when a login becomes somebody's, or is no longer.
            is_cut = any(end < naming.FAR for _, end in term.spans)
            doubt[here] |= ~term.holds(there.times[here]) | is_cut
    sure = ~doubt & asked.mask(began, look.size)(there)
    is_same = np.array([place[1] == datasource for place in began.places], bool)[there.places]
    told = tuple(column[sure] for column in (sessions, there.times, is_own, is_same, there.indexes))
    return told, [set(sessions[doubt & (files == number)].tolist()) for number in range(len(layers))]


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


def _nearest(names: _Names, begins: _Begins, asked: Side, place: tuple[int, str]) -> str | None:
    """The session that began last before this place, or first after it, in order by time and name."""
    at, name = place
    times = begins.times
    left, is_next = _left(begins, asked, place)
    best: Callable[..., str] = min if is_next else max
    while left.any():
        moment, records = _at_nearest(begins, left, is_next)
        beyond = [one for one in names.of(records) if moment != at or (one > name if is_next else one < name)]
        if beyond:
            return best(beyond)
        left &= times != moment
    return None
