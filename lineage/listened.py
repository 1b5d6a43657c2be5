"""What was heard (`lineage.heard`) as a process keeps it: arrays of days and hours, and rows of the rest. No DuckDB here."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lineage.heard import OWN
from lineage.moments import moment

Numbers = NDArray[np.int64]
Place = tuple[str | None, str | None, str | None]
"""Environment, datasource and source."""
PLACE = ("environment", "datasource", "source")
FAR = 2**62
"""Behind all times."""
Spans = tuple[Numbers, Numbers, Numbers]
"""Places with a first and a last time of each, a place as often as may be."""


def numbers(column: pa.ChunkedArray) -> Numbers:
    """Times count in microseconds since 1970."""
    found: Numbers = pc.cast(column, pa.int64()).to_numpy()
    return found


class Places:
    """Numbers of places, in the order in which they were met."""

    def __init__(self) -> None:
        self.met: dict[tuple[Any, ...], int] = {}

    def of(self, rows: pa.Table, names: Sequence[str] = PLACE) -> Numbers:
        """For each row the number of what it has in these columns."""
        codes, said = np.zeros(rows.num_rows, np.int64), []
        for name in names:
            column = rows[name].combine_chunks()
            if not pa.types.is_dictionary(column.type):
                column = column.dictionary_encode(null_encoding="encode")
            codes = codes * max(1, len(column.dictionary)) + column.indices.to_numpy(zero_copy_only=False)
            said.append(column.dictionary.to_pylist())
        each, found = np.unique(codes, return_inverse=True)
        return np.array([self._number(int(code), said) for code in each], np.int64)[found]

    def _number(self, code: int, said: Sequence[list[Any]]) -> int:
        names = []
        for values in reversed(said):
            code, place = divmod(code, max(1, len(values)))
            names.append(values[place])
        return self.met.setdefault(tuple(reversed(names)), len(self.met))


class Days(NamedTuple):
    """Of a place, in the segment of this number, the records of one day, or of one hour of it: from when to when, and where."""

    place: Numbers
    day: Numbers
    first: Numbers
    last: Numbers
    first_index: Numbers
    last_index: Numbers
    busy: NDArray[np.bool_]
    segment: Numbers

    def chosen(self, which: NDArray[Any]) -> Days:
        return Days(*(column[which] for column in self))


class Ever(NamedTuple):
    """All records of a place of one kind."""

    place: Place
    kind: str
    unauthorised: bool
    first: int
    last: int
    arrived: int
    beats: bool

    def with_(self, other: Ever) -> Ever:
        spans = min(self.first, other.first), max(self.last, other.last), max(self.arrived, other.arrived)
        return Ever(*self[:3], *spans, self.beats or other.beats)


def by_source(every: Iterable[Ever]) -> dict[str, Ever]:
    """All of each source as one; its place and kind say nothing."""
    found: dict[str, Ever] = {}
    for one in every:
        source = str(one.place[2])
        known = found.get(source)
        found[source] = one if known is None else known.with_(one)
    return found


@dataclasses.dataclass(frozen=True)
class Rows:
    """What is kept of some part of the log. `told`: rows of `heard` that tell of completeness, by index."""

    days: Days
    ever: Sequence[Ever]
    told: Sequence[Mapping[str, Any]]

    @functools.cached_property
    def by_source(self) -> dict[str, Ever]:
        return by_source(self.ever)

    @functools.cached_property
    def reported(self) -> dict[str, Ever]:
        """The same without the store itself, and what names no source."""
        return by_source(one for one in self.ever if one.place[2] not in (None, OWN))

    @functools.cached_property
    def arrived(self) -> dict[str, dt.datetime]:
        """When the last record of each source came."""
        return {source: moment(one.arrived) for source, one in self.by_source.items()}


def days(rows: pa.Table, places: Places, segment: int) -> Days:
    day, first, last, index, last_index = (
        numbers(rows[name]) for name in ("day", "first_at", "last_at", "index", "last_index")
    )
    busy = rows["busy"].fill_null(False).to_numpy()
    segments = np.full(rows.num_rows, segment, np.int64)
    return Days(places.of(rows), day, first, last, index, last_index, busy, segments)


def rows(table: pa.Table, places: Places, segment: int) -> Rows:
    """Of a table with the columns of `heard.SCHEMA`."""
    what = {name: table.filter(pc.equal(table["what"], name)) for name in ("day", "ever", "told")}
    ever = what["ever"]
    said = zip(*(ever[name].to_pylist() for name in (*PLACE, "kind", "unauthorised", "beats")), strict=True)
    times = zip(*(numbers(ever[name]).tolist() for name in ("first_at", "last_at", "arrived_at")), strict=True)
    found = [
        Ever((environment, datasource, source), kind, bool(unauthorised), first, last, arrived, bool(beats))
        for (environment, datasource, source, kind, unauthorised, beats), (first, last, arrived) in zip(
            said, times, strict=True
        )
    ]
    return Rows(days(what["day"], places, segment), found, told(what["told"]))


def told(table: pa.Table) -> list[dict[str, Any]]:
    names = [*PLACE, "kind", "index", "custody", "weakens"]
    every: list[dict[str, Any]] = table.select(names).to_pylist()
    for row, first in zip(every, numbers(table["first_at"]).tolist(), strict=True):
        row["occurred_at"] = moment(first)
    return every


def together(parts: Iterable[Rows]) -> Rows:
    every = list(parts)
    if not every:
        return Rows(NO_DAYS, [], [])
    joined = Days(*(np.concatenate(columns) for columns in zip(*(part.days for part in every), strict=True)))
    ever: dict[tuple[Any, ...], Ever] = {}
    for part in every:
        for one in part.ever:
            known = ever.get(one[:3])
            ever[one[:3]] = one if known is None else known.with_(one)
    said = sorted((row for part in every for row in part.told), key=lambda row: row["index"])
    return Rows(joined, list(ever.values()), said)


_NONE: Numbers = np.empty(0, np.int64)
NO_DAYS = Days(_NONE, _NONE, _NONE, _NONE, _NONE, _NONE, np.empty(0, bool), _NONE)


class Records(NamedTuple):
    """The place and the time of each record of a few."""

    place: Numbers
    at: Numbers

    def within(self, since: int, until: int) -> Spans:
        inside = (self.at >= since) & (self.at < until)
        return self.place[inside], self.at[inside], self.at[inside]


class Tail:
    """The same of unsealed records, by index; `told` are those that may tell of completeness, for who knows it."""

    def __init__(self, events: pa.Table, places: Places) -> None:
        self.index = numbers(events["index"])
        self.at, self.arrived = numbers(events["occurred_at"]), numbers(events["received_at"])
        self.place = places.of(events)
        self.beats = pc.fill_null(pc.equal(events["custody_type"], "heartbeat"), False).to_numpy()
        flags = events["flags"].combine_chunks()
        self.unauthorised = np.zeros(events.num_rows, bool)
        marked = pc.equal(pc.list_flatten(flags), "unauthorised_assertion").to_numpy(zero_copy_only=False)
        self.unauthorised[pc.list_parent_indices(flags).to_numpy()[marked]] = True
        self.kinds = Places()
        self.kind = self.kinds.of(events, ["kind"])
        weakens = pc.fill_null(pc.list_value_length(events["weakens"]), 0).to_numpy() > 0
        custody = pc.is_in(events["custody_type"], pa.array(["gap", "silence", "finding"])).to_numpy()
        self.may_tell = self.index[weakens | custody].tolist()

    def records(self, size: int) -> Records:
        """Of those below this size."""
        upto = int(np.searchsorted(self.index, size))
        return Records(self.place[:upto], self.at[:upto])

    def ever(self, size: int, places: Sequence[Place]) -> list[Ever]:
        upto = int(np.searchsorted(self.index, size))
        kinds = [kind for (kind,) in self.kinds.met]
        codes = (self.place[:upto] * len(kinds) + self.kind[:upto]) * 2 + self.unauthorised[:upto]
        found = []
        for code in np.unique(codes).tolist():
            of = np.flatnonzero(codes == code)
            times = int(self.at[of].min()), int(self.at[of].max()), int(self.arrived[of].max())
            place, kind = divmod(code // 2, len(kinds))
            found.append(Ever(places[place], kinds[kind], bool(code % 2), *times, bool(self.beats[of].any())))
        return found
