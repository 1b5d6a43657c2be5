"""What is done with one table: who it was, when and how out of codes, columns and keys of what sources reported, which joins with nothing.

As `places.relation` asks it in SQL over the log.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts import tables
from lineage.extracts.beginnings import BY_INDEX
from lineage.extracts.cards import NO_TIME
from lineage.extracts.coding import Coding, Rows
from lineage.extracts.looking import Lookup, Wanted
from lineage.extracts.numbering import Numbers, dense
from lineage.extracts.terms import REAL
from lineage.queries import candidates, tallies
from lineage.queries.ask import Window
from lineage.queries.tallies import Acts

PEOPLE_MOST, KEYS_MOST = 100, 10
HOUR = 3_600_000_000
WRITTEN = ("wrote", "changed")
Column = NDArray[Any]
Found = list[dict[str, Any]]


def told(
    question: Question, viewer: Viewer, datasource: str, relations: Sequence[str], window: Window
) -> dict[str, Any] | None:
    """`relation` (touches, first_at, last_at, environment), `columns`, `readers`, `writers`, `hours`, `logins`, `busiest`.

    None where only records can tell.
    """
    wanted = candidates.wanted(viewer, window, REAL)
    if wanted is None:
        return None
    return candidates.told(question, lambda look: _Usage(question, look, wanted, datasource, relations).told())


def columns(question: Question, viewer: Viewer, datasource: str, relations: Sequence[str]) -> list[str] | None:
    """The names of the columns alone, at any time."""
    wanted = candidates.wanted(viewer, Window(), REAL)
    if wanted is None:
        return None

    def tell(look: Lookup) -> list[str]:
        return [one["column"] for one in _Usage(question, look, wanted, datasource, relations).columns()]

    return candidates.told(question, tell)


class _Usage:
    def __init__(
        self, question: Question, look: Lookup, wanted: Wanted, datasource: str, relations: Sequence[str]
    ) -> None:
        self.coding = Coding(look, question.snapshot.logins)
        self.rows = rows = self._rows(wanted, datasource, relations)
        first, last = (int(rows.indexes[0]), int(rows.indexes[-1])) if len(rows.indexes) else (0, -1)
        touched = question.arrow(
            "select index, access, touch_columns as columns, key from raw_touches where index between ? and ? "  # noqa: S608 - `?` alone
            f"and datasource = ? and relation in ({', '.join('?' * len(relations))}) order by index",
            [first, last, datasource, *relations],
        )
        indexes = touched["index"].to_numpy()
        at = np.minimum(np.searchsorted(rows.indexes, indexes), max(len(rows.indexes) - 1, 0))
        kept = rows.indexes[at] == indexes if len(rows.indexes) else np.zeros(0, bool)
        self.at, self.touched = at[kept], touched.filter(pa.array(kept)).combine_chunks()
        """Which record each access is of."""
        self.access = np.array(self.touched["access"].to_pylist(), object)
        self.is_read, self.is_written = self.access == "read", np.isin(self.access, WRITTEN)
        self.times = rows.times[self.at]

    def _rows(self, wanted: Wanted, datasource: str, relations: Sequence[str]) -> Rows:
        terms = tables.touching(datasource, relations)
        return self.coding.rows(lambda layer: layer.postings[BY_INDEX].each(terms), wanted)

    @functools.cached_property
    def acts(self) -> Acts:
        return Acts(self.rows)

    def told(self) -> dict[str, Any]:
        return {
            "relation": self._head(), "columns": self.columns(), "readers": self._people(self.is_read),
            "writers": self._people(self.is_written), "hours": self._hours(), "logins": self._logins(), "busiest": self._busiest(),
        }  # fmt: skip

    def _head(self) -> dict[str, Any]:
        environments = [place[0] for place in self.coding.places]
        known = self.times[self.times != NO_TIME]
        return {
            "touches": len(self.at),
            "first_at": tallies.time_of(int(known.min())) if len(known) else None,
            "last_at": tallies.time_of(int(known.max())) if len(known) else None,
            "environment": tallies.any_of(environments[place] for place in self.rows.places[self.at[:1]].tolist()),
        }

    def columns(self) -> Found:
        lists = self.touched["columns"].combine_chunks()
        names, numbers = numbered(pc.list_flatten(lists))
        of = pc.list_parent_indices(lists).to_numpy()
        reads, writes = (
            np.bincount(numbers, some[of], len(names)).astype(int) for some in (self.is_read, self.is_written)
        )
        return [
            {"column": names[number], "reads": int(reads[number]), "writes": int(writes[number])}
            for number in _in_order(names)
        ]

    def _people(self, which: Column) -> Found:
        rows, coding = self.rows, self.coding
        at, ids = np.unique(self.at[which]), Numbers()
        people, who = dense(rows.who[at])
        groups = np.array([ids(coding.people[number].id) for number in people.tolist()], np.int64)[who]
        tally, names = self.acts.tally(groups, at), list(ids.of)
        order = np.argsort(groups, kind="stable")
        starts, who, actors = tallies.starts_of(groups[order]), rows.who[at[order]], rows.actors[at[order]]
        beside = {
            "who_name": tallies.firsts_in(starts, who, lambda number: coding.people[number].name),
            "who_type": tallies.firsts_in(starts, who, lambda number: coding.people[number].type),
            "on_behalf_of": tallies.firsts_in(starts, actors, lambda number: coding.actors[number].on_behalf_of),
            "count": tally.times.tolist(),
            "last_at": tallies.moments_of(tally.last_at),
        }
        told = [names[group] for group in tally.groups.tolist()]
        chosen = sorted(range(len(told)), key=lambda n: (-beside["count"][n], told[n] is None, told[n] or ""))
        return [
            {"who_id": told[number]} | {name: each[number] for name, each in beside.items()}
            for number in chosen[:PEOPLE_MOST]
        ]

    def _hours(self) -> Found:
        names, access = numbered(self.touched["access"].combine_chunks())
        # What is not known comes last.
        hour = np.where(self.times == NO_TIME, (1 << 62) // HOUR, self.times // HOUR)
        width = max(len(names), 1)
        ranks = np.argsort(_in_order(names)) if names else np.zeros(0, np.int64)
        found, counts = np.unique(hour * width + ranks[access], return_counts=True)
        ordered = [names[number] for number in _in_order(names)]
        began = [
            None if number == (1 << 62) // HOUR else tallies.time_of(number * HOUR)
            for number in (found // width).tolist()
        ]
        return [
            {"hour": at, "access": ordered[rank], "count": count}
            for at, rank, count in zip(began, (found % width).tolist(), counts.tolist(), strict=True)
        ]

    def _logins(self) -> Found:
        actors, of = dense(self.rows.actors[self.at])
        ids = Numbers()
        groups = np.array([ids(self.coding.actors[number].db_user) for number in actors.tolist()], np.int64)[of]
        names, last = list(ids.of), _lasts(groups, self.times, len(ids.of))
        reads, every = (np.bincount(groups, some, len(names)) for some in (self.is_read, np.ones(len(groups))))
        return [
            {"login": names[n], "reads": int(reads[n]), "others": int(every[n] - reads[n]), "last_at": last[n]}
            for n in _in_order(names)
            if names[n] is not None
        ]

    def _busiest(self) -> Found:
        keys = self.touched["key"].combine_chunks()
        is_known = keys.is_valid().to_numpy(zero_copy_only=False)
        names, numbers = numbered(keys.drop_null())
        counts = np.bincount(numbers, minlength=len(names))
        last = _lasts(numbers, self.times[is_known], len(names))
        least = np.sort(counts)[-KEYS_MOST:][:1]
        chosen = sorted(np.flatnonzero(counts >= least).tolist(), key=lambda n: (-counts[n], names[n])) if names else []
        return [{"key": names[n], "count": int(counts[n]), "last_at": last[n]} for n in chosen[:KEYS_MOST]]


def numbered(column: Any) -> tuple[list[str], Column]:
    """The values of a column, each once, and which each is."""
    words = column.dictionary_encode()
    return words.dictionary.to_pylist(), words.indices.to_numpy(zero_copy_only=False).astype(np.int64)


def _in_order(names: Sequence[str | None]) -> list[int]:
    return sorted(range(len(names)), key=lambda number: (names[number] is None, names[number] or ""))


def _lasts(groups: Column, times: Column, count: int) -> list[Any]:
    """The last time of each group."""
    last = np.full(count, NO_TIME)
    np.maximum.at(last, groups, times)
    return tallies.moments_of(last)
