"""What an identity's conduct is asked of, out of codes: as `conduct` takes it of records in SQL.

Codes tell all of it but how many rows a statement met, which is read of the records that are measured, and the run of an agent, which
a process keeps (`lineage.extracts.named`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lineage.access import Viewer
from lineage.engine import Question
from lineage.events import shifted
from lineage.extracts import Indexes, coding
from lineage.extracts.beginnings import BY_INDEX
from lineage.extracts.cards import NO_TIME
from lineage.extracts.codified import CALLED, CHANGE, QUERY
from lineage.extracts.coding import Coding
from lineage.extracts.filed import Filed
from lineage.extracts.looking import Lookup, Unable, Wanted, person
from lineage.extracts.numbering import dense
from lineage.extracts.postings import among
from lineage.extracts.terms import ACCESS, NOT_DONE, REAL
from lineage.moments import microseconds
from lineage.queries import candidates, tallies
from lineage.queries.ask import Window

JUDGED = dt.timedelta(days=7)
BASE = dt.timedelta(days=90)
CARDS_MOST = 1_000
"""So many records are read of their cards for how many rows they met."""
Numbered = NDArray[Any]


class Measured(NamedTuple):
    """From when the base reaches, from when acts are judged, and until when."""

    began: dt.datetime
    start: dt.datetime
    end: dt.datetime


def measured(window: Window, last_at: dt.datetime) -> Measured:
    """Without a beginning the seven days up to the last act are judged."""
    end = window.until or shifted(last_at, dt.timedelta(microseconds=1))
    start = window.since or shifted(end, -JUDGED)
    return Measured(shifted(start, -BASE), start, end)


def looked_at(window: Window) -> Window:
    """The window, with the time before it that its acts are held against."""
    since = shifted(window.since, -BASE) if window.since else None
    return Window(since, window.until, window.environment)


class Taken(NamedTuple):
    """The table `deeds` of `conduct`, and what was done to which table in the window (`used` there)."""

    deeds: pa.Table
    used: list[dict[str, Any]]


def taken(question: Question, viewer: Viewer, identity: str, window: Window) -> Taken | None:
    """None where only records can tell."""
    wanted = candidates.wanted(viewer, looked_at(window), REAL)
    if wanted is None:
        return None
    return candidates.told(question, lambda look: _Doings(question, look, identity, window, wanted).told())


class _Doings:
    def __init__(self, question: Question, look: Lookup, identity: str, window: Window, wanted: Wanted) -> None:
        self.question, self.look, self.window = question, look, window
        self.coding = Coding(look, question.snapshot.logins)
        terms = person(identity, question.snapshot.logins_about(identity), look.datasources())
        hashes = np.array([term.hash for term in terms if term.spans != ()], np.uint64)
        rows = self.coding.rows(lambda layer: layer.postings[BY_INDEX].each(hashes), wanted)
        is_own, who = tallies.told_of(rows.who, lambda number: self.coding.people[number].id == identity)
        is_deed, manner = tallies.told_of(rows.manners, lambda number: self.coding.manners[number].kind != "decision")
        self.rows = rows.chosen(np.array(is_own, bool)[who] & np.array(is_deed, bool)[manner])
        self.acts = coding.acts(self.rows)
        self.is_access = (self.rows.marks & ACCESS) != 0

    def told(self) -> Taken:
        rows, actors, manners = self.rows, self.coding.actors, self.coding.manners
        times, places = rows.times, self.coding.places
        of_actors = {
            name: _texts(rows.actors, tallies.member_of(actors, name))
            for name in ("agent_name", "on_behalf_of", "db_user")
        }
        deeds = pa.table(
            {
                "index": rows.indexes,
                "act": self.acts,
                "kind": _texts(rows.manners, lambda number: manners[number].kind),
                "occurred_at": pa.array(times, mask=times == NO_TIME).cast(pa.timestamp("us", "UTC")),
                "datasource": _texts(rows.places, lambda number: places[number][1]),
                "verdict": _texts(rows.manners, lambda number: manners[number].verdict),
                **of_actors,
                "agent_run": self._runs(),
                "relations": self._relations(),
                "rows": self._met(),
                "is_access": self.is_access,
                "is_alone": rows.sessions == 0,
            }
        )
        return Taken(deeds, self._used())

    def _relations(self) -> pa.Array:
        held = self.coding.meanings.relations.held
        numbers, at = held.spread(self.rows.shapes)
        ends = np.concatenate([[0], np.cumsum(np.bincount(at, minlength=len(self.rows.shapes)))])
        return pa.ListArray.from_arrays(
            pa.array(ends, pa.int32()), pa.array(held.values, pa.string()).take(pa.array(numbers))
        )

    def _runs(self) -> pa.Array:
        found: Numbered = np.full(len(self.rows.indexes), None, object)
        for layer in self.look.layers:
            there = layer.directory(self.rows.indexes[~among(self.rows.indexes, layer.hidden)]).indexes
            if isinstance(layer.of, Filed):
                some, names = layer.of.runs.of(there)
            elif len(there):
                place, told = layer.of.columns.index("agent_run"), layer.read(there)
                some, names = there, [told[index][0][place] for index in there.tolist()]
            else:
                continue
            found[np.searchsorted(self.rows.indexes, some)] = names
        return pa.array(found.tolist(), pa.string())

    def _met(self) -> pa.Array:
        """How many rows each access met, as far as it is measured."""
        times, indexes = self.rows.times, self.rows.indexes
        since = self.window.since
        inside = times[(times != NO_TIME) & (times >= (microseconds(since) if since else NO_TIME))]
        met: Numbered = np.full(len(indexes), -1)
        if len(inside):
            last_at = tallies.time_of(int(inside.max()))
            assert last_at is not None
            span = measured(self.window, last_at)
            is_asked = (times >= microseconds(span.began)) & (times < microseconds(span.end)) & self.is_access
            places = np.flatnonzero(is_asked)
            if (times[places] < microseconds(span.start)).any():
                met[places] = self._rows_of(indexes[places])
        return pa.array(met, mask=met < 0)

    def _rows_of(self, indexes: Indexes) -> Numbered:
        """How many rows these records met; less than none where they do not say."""
        names = ("rows_returned", "rows_affected")
        if len(indexes) <= CARDS_MOST:
            told = self.question.records(indexes, ["index", *names])
            if told is None:
                raise Unable
            numbers = [max((row[name] for name in names if row[name] is not None), default=-1) for row in told.values()]
            return np.array(numbers, np.int64)
        with self.question.named(indexes) as those:
            found = self.question.arrow(
                f"select index, coalesce(greatest({', '.join(names)}), -1) as rows from raw_events where {those} order by index"  # noqa: S608
            )
        if len(found) != len(indexes):
            raise Unable
        return np.asarray(found["rows"].to_numpy(), np.int64)

    def _used(self) -> list[dict[str, Any]]:
        """Of each table and operation in the window how many acts, and the last record."""
        rows, held, places = self.rows, self.coding.meanings.ops.held, self.coding.places
        since = self.window.since
        is_here = (rows.marks & NOT_DONE) == 0
        if since is not None:
            is_here &= rows.times >= microseconds(since)
        is_here &= np.array([place[1] is not None for place in places], bool)[rows.places]
        some = np.flatnonzero(is_here)
        ops, at = held.spread(rows.shapes[some])
        at = some[at]
        bits = rows.bits[at]
        # Of which call other records are is not told.
        if ((bits & CALLED != 0) & (bits & (QUERY | CHANGE) == 0)).any():
            raise Unable
        databases, of_place = _numbered([place[1] for place in places])
        groups, group = dense(of_place[rows.places[at]] * len(held.values) + ops)
        counts = tallies.distinct(group, self.acts[at], len(groups), len(self.acts))
        last = np.zeros(len(groups), np.int64)
        np.maximum.at(last, group, rows.indexes[at])
        found = [
            {"datasource": databases[number // len(held.values)], "relation": held.values[number % len(held.values)][0],
             "op": held.values[number % len(held.values)][1], "count": count, "index": index}
            for number, count, index in zip(groups.tolist(), counts.tolist(), last.tolist(), strict=True)
        ]  # fmt: skip
        known = [row for row in found if row["relation"] is not None]
        return sorted(known, key=lambda row: (row["datasource"], row["relation"], row["op"] is None, row["op"] or ""))


def _numbered(names: Sequence[str | None]) -> tuple[list[str | None], Numbered]:
    """Each name once, and the number of each that is given."""
    known = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return list(known), np.array([known[name] for name in names], np.int64)


def _texts(numbers: Numbered, of: Any) -> pa.Array:
    """What these numbers stand for."""
    told, again = tallies.told_of(numbers, of)
    return pa.array(told, pa.string()).take(pa.array(again, pa.int64()))
