"""What is done with one table: who, when and with which columns out of codes; ways and keys of cards, or of what sources reported.

As `places.relation` asks it in SQL over the log.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts import Indexes, tables
from lineage.extracts.beginnings import BY_INDEX
from lineage.extracts.blocks import RELATION, TOUCHED
from lineage.extracts.cards import NO_TIME
from lineage.extracts.coding import Coding
from lineage.extracts.filed import Filed
from lineage.extracts.looking import Lookup, Unable, Wanted
from lineage.extracts.meanings import OTHERWISE
from lineage.extracts.numbering import Numbers, dense
from lineage.extracts.postings import among
from lineage.extracts.terms import REAL
from lineage.queries import candidates, tallies
from lineage.queries.ask import Window
from lineage.queries.tallies import Acts

PEOPLE_MOST, KEYS_MOST = 100, 10
CARDS_MOST = 1_000
"""Of so many records accesses are read of cards."""
DATASOURCE = TOUCHED.index("datasource")
KINDS = {"touch_columns": pa.list_(pa.string())}
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
        self.question, self.look, self.datasource, self.relations = question, look, datasource, relations
        self.coding = Coding(look, question.snapshot.logins)
        terms = tables.touching(datasource, relations)
        self.rows = self.coding.rows(lambda layer: layer.postings[BY_INDEX].each(terms), wanted)

    @functools.cached_property
    def touched(self) -> pa.Table:
        """Each access: which record it is of (`at`), its way and key."""
        indexes = self.rows.indexes
        found = self._accesses(indexes, ("access", "key"))
        told = found["index"].to_numpy()
        at = np.minimum(np.searchsorted(indexes, told), max(len(indexes) - 1, 0))
        return found.append_column("at", pa.array(at)).combine_chunks()

    def _accesses(self, indexes: Indexes, names: Sequence[str]) -> pa.Table:
        """The accesses of these records to the table, by index, with these columns. Raises Unable."""
        if len(indexes) <= CARDS_MOST:
            return self._of_cards(indexes, names)
        found = self.question.arrow(
            f"select index, {', '.join(names)} from raw_touches where index between ? and ? "  # noqa: S608 - our own names
            f"and datasource = ? and relation in ({', '.join('?' * len(self.relations))}) order by index",
            [int(indexes[0]), int(indexes[-1]), self.datasource, *self.relations],
        )
        return found.filter(pa.array(among(found["index"].to_numpy(), indexes)))

    def _of_cards(self, indexes: Indexes, names: Sequence[str]) -> pa.Table:
        """The accesses of these records with these columns. Raises Unable."""
        place, contents = self.look.columns.index("index") if self.look.columns else 0, self.look.contents(indexes)
        if len(contents) < len(indexes):
            raise Unable
        told = [
            (row[place], touch)
            for row, touches in contents
            for touch in touches
            if touch[DATASOURCE] == self.datasource and touch[RELATION] in self.relations
        ]
        columns = {name: [touch[TOUCHED.index(name)] for _, touch in told] for name in names}
        return pa.table(
            {
                "index": pa.array([index for index, _ in told], pa.int64()),
                **{name: pa.array(values, KINDS.get(name, pa.string())) for name, values in columns.items()},
            }
        )

    @functools.cached_property
    def at(self) -> Column:
        return np.asarray(self.touched["at"].to_numpy())

    @functools.cached_property
    def access(self) -> Column:
        return np.array(self.touched["access"].to_pylist(), object)

    @functools.cached_property
    def is_read(self) -> Column:
        return np.asarray(self.access == "read", bool)

    @functools.cached_property
    def times(self) -> Column:
        return self.rows.times[self.at]

    @functools.cached_property
    def acts(self) -> Acts:
        return Acts(self.rows)

    def told(self) -> dict[str, Any]:
        is_written = np.isin(self.access, WRITTEN)
        return {
            "relation": self._head(), "columns": self.columns(), "readers": self._people(self.is_read),
            "writers": self._people(is_written), "hours": self._hours(), "logins": self._logins(), "busiest": self._busiest(),
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
        is_apart = self._apart()
        counts = _counted(self._accesses(self.rows.indexes[is_apart], ("access", "touch_columns")))
        meanings, rest = self.coding.meanings, self.rows.indexes[~is_apart]
        for layer in self.look.layers:
            there = layer.directory(rest[~among(rest, layer.hidden)]).indexes
            if not len(there):
                continue
            if isinstance(layer.of, Filed):
                numbers, some = layer.of.codes.picked(layer.of.cards.positions(there)), layer.of.codes.picks
            else:
                coded = layer.coded(there, meanings)
                numbers, some = coded.picks, coded.of_picks
            for name, (reads, writes) in some.counted(self.relations, *np.unique(numbers, return_counts=True)).items():
                known = counts.setdefault(name, [0, 0])
                known[0] += reads
                known[1] += writes
        return [{"column": name, "reads": counts[name][0], "writes": counts[name][1]} for name in sorted(counts)]

    def _apart(self) -> Column:
        """Which records picks do not tell of: that touched the table more than once, or neither read nor wrote it."""
        rows, held = self.rows, self.coding.meanings.ways.held
        otherwise = [relation in self.relations and bool(ways & OTHERWISE) for relation, ways in held.values]
        found = held.having(np.array(otherwise, bool))[rows.shapes] if len(rows.shapes) else np.zeros(0, bool)
        for layer in self.look.layers:
            several = layer.of.repeats
            numbers = [number for number, name in enumerate(several.names) if name in self.relations]
            indexes = np.unique(several.indexes[np.isin(several.tables, numbers)])
            found = found | among(rows.indexes, indexes[~among(indexes, layer.hidden)])
        return found

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


def _counted(touched: pa.Table) -> dict[str, list[int]]:
    """By column how many of these accesses read it, and wrote it."""
    found: dict[str, list[int]] = {}
    for access, names in zip(touched["access"].to_pylist(), touched["touch_columns"].to_pylist(), strict=True):
        for name in {*(names or ())} - {None}:
            counts = found.setdefault(name, [0, 0])
            counts[0] += access == "read"
            counts[1] += access in WRITTEN
    return found


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
