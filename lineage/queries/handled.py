"""The rows or tables that somebody touched: who it was, when and how often out of codes, keys and ways of what sources reported.

As `subjects.touched` asks it in SQL over the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts.beginnings import BY_INDEX
from lineage.extracts.coding import Coding, Rows
from lineage.extracts.layers import Term
from lineage.extracts.looking import Lookup, Unable, Wanted
from lineage.extracts.numbering import Numbers
from lineage.extracts.terms import REAL
from lineage.queries import candidates, paging, tallies
from lineage.queries.ask import COUNT_MOST, Total, Window
from lineage.queries.tallies import Acts
from lineage.queries.usage import numbered

NAMES = ("place", "name", "row")
"""What makes the order of a page whole: database, table and key, empty where there is none."""
INDEXES_MOST = 2_000
"""So many records are named in a statement."""
Column = NDArray[Any]


def page(
    question: Question,
    viewer: Viewer,
    subject: Subject,
    by_row: bool,
    window: Window,
    place: Any,
    is_back: bool,
    count: int,
) -> paging.Page | None:
    """As `paging.keyset` gives it; None where only records can tell."""
    wanted = candidates.wanted(viewer, window, REAL)
    if wanted is None:
        return None
    return candidates.told(
        question, lambda look: _Handled(question, look, subject, wanted, by_row).page(place, is_back, count)
    )


class Subject(Protocol):
    """Whose records: those with one of these terms, and of an identity those that are theirs at the time."""

    @property
    def identity(self) -> str | None: ...
    def terms(self, question: Question, look: Lookup) -> list[Term]: ...


class _Handled:
    def __init__(self, question: Question, look: Lookup, subject: Subject, wanted: Wanted, by_row: bool) -> None:
        self.question, self.coding, self.by_row = question, Coding(look, question.snapshot.logins), by_row
        self.rows = self._rows(subject.terms(question, look), subject.identity, wanted)
        touched = self._touched()
        places = np.minimum(
            np.searchsorted(self.rows.indexes, touched["index"].to_numpy()), max(len(self.rows.indexes) - 1, 0)
        )
        here = self.rows.indexes[places] == touched["index"].to_numpy() if len(self.rows.indexes) else places < 0
        self.at, self.touched = places[here], touched.filter(pa.array(here)).combine_chunks()
        """Which record each access is of."""
        self.databases = [place[1] for place in self.coding.places]
        self.keys, key = [""], np.zeros(len(self.at), np.int64)
        if by_row:
            self.keys, key = numbered(self.touched["key"].combine_chunks())
        self.names, name = numbered(self.touched["relation"].combine_chunks())
        known = Numbers()
        of_place = np.array([known(place) for place in self.databases], np.int64)
        database = of_place[self.rows.places[self.at]] if len(self.at) else name
        each = (database * len(self.names) + name) * len(self.keys) + key
        self.first, self.group = np.unique(each, return_index=True, return_inverse=True)[1:]
        """Of each group an access, and of each access its group."""
        self.name, self.key = name, key
        self.lasts = np.full(len(self.first), -1)
        np.maximum.at(self.lasts, self.group, self.rows.indexes[self.at])

    def _rows(self, terms: Sequence[Term], who: str | None, wanted: Wanted) -> Rows:
        hashes = np.array([term.hash for term in terms if term.spans != ()], np.uint64)
        rows = self.coding.rows(lambda layer: layer.postings[BY_INDEX].each(hashes), wanted)
        is_deed = np.array([one.kind != "decision" for one in self.coding.manners], bool)
        kept = is_deed[rows.manners] if len(rows.manners) else np.zeros(0, bool)
        if who is not None:
            is_own, of = tallies.told_of(rows.who, lambda number: self.coding.people[number].id == who)
            kept = kept & np.array(is_own, bool)[of]
        return rows.chosen(kept)

    def _touched(self) -> pa.Table:
        indexes, keyed = self.rows.indexes, " and key is not null" if self.by_row else ""
        if len(indexes) > INDEXES_MOST:
            self.question.cursor.register("their_records", pa.table({"index": indexes}))
            those = "raw_touches semi join their_records using (index) where true"
        else:
            those = f"raw_touches where index in ({', '.join(map(str, indexes.tolist() or [-1]))})"
        return self.question.arrow(
            f"select index, relation, key, access, touch_op from {those} and relation is not null{keyed}"  # noqa: S608 - numbers
        )

    def page(self, place: Any, is_back: bool, count: int) -> paging.Page:
        keys = sorted((self._order(group) for group in self._beyond(place, is_back, count)), reverse=is_back)
        keys = [key for key in keys if not place or (key[:4] < tuple(place) if is_back else key[:4] > tuple(place))]
        rows = [
            dict(zip(("last_index", *NAMES, "group"), (-key[0], *key[1:]), strict=True)) for key in keys[: count + 1]
        ]
        shown, following, previous = paging.cut(self.question, rows, NAMES, place, is_back, count)
        whole = Total(min(len(self.lasts), COUNT_MOST), len(self.lasts) <= COUNT_MOST)
        return self._told([row["group"] for row in shown]), following, previous, whole

    def _beyond(self, place: Any, is_back: bool, count: int) -> list[int]:
        """The groups that may be on the page, those that are at its place among them."""
        lasts, met = self.lasts, np.arange(len(self.lasts))
        if place:
            met = met[lasts >= -place[0]] if is_back else met[lasts <= -place[0]]
        several = int((lasts == -place[0]).sum()) if place else 0
        some = np.sort(lasts[met]) if is_back else np.sort(lasts[met])[::-1]
        if len(some) > count + several:
            bound = some[count + several]
            met = met[lasts[met] <= bound] if is_back else met[lasts[met] >= bound]
        return met.tolist()

    def _order(self, group: int) -> tuple[int, str, str, str, int]:
        database, name, key = self._named(group)
        return -int(self.lasts[group]), database or "", name, key, group

    def _named(self, group: int) -> tuple[str | None, str, str]:
        at = self.first[group]
        database = self.databases[self.rows.places[self.at[at]]]
        return database, str(self.names[self.name[at]]), str(self.keys[self.key[at]])

    def _told(self, chosen: Sequence[int]) -> list[dict[str, Any]]:
        slots = np.full(len(self.lasts), -1)
        slots[np.array(chosen, np.int64)] = np.arange(len(chosen))
        of = slots[self.group]
        here = np.flatnonzero(of >= 0)
        of, at = of[here], self.at[here]
        pairs = np.unique(of * max(len(self.rows.indexes), 1) + at)
        tally = Acts(self.rows).tally(pairs // max(len(self.rows.indexes), 1), pairs % max(len(self.rows.indexes), 1))
        first, last = tallies.moments_of(tally.first_at), tallies.moments_of(tally.last_at)
        environments = [place[0] for place in self.coding.places]
        told: list[dict[str, set[str]]] = [{name: set() for name in ("touch_op", "access", "key")} for _ in chosen]
        columns = self.touched.select(["touch_op", "access", "key"]).take(pa.array(here)).to_pydict()
        for name, values in columns.items():
            for slot, value in zip(of.tolist(), values, strict=True):
                if value is not None:
                    told[slot][name].add(value)
        least = np.full(len(chosen), len(self.rows.indexes))
        np.minimum.at(least, of, at)
        columns_of, found = self._key_columns(chosen) if self.by_row else {}, list[dict[str, Any]]()
        for slot, group in enumerate(chosen):
            database, name, key = self._named(group)
            own = told[slot]
            found.append(
                {
                    "datasource": database, "relation": name,
                    **({"key": key, "key_columns": columns_of[group]} if self.by_row else {"rows": len(own["key"])}),
                    "environment": environments[self.rows.places[least[slot]]], "ops": sorted(own["touch_op"]),
                    "access": sorted(own["access"]), "times": int(tally.times[slot]), "first_at": first[slot], "last_at": last[slot],
                    "last_index": int(self.lasts[group]),
                }
            )  # fmt: skip
        return found

    def _key_columns(self, chosen: Sequence[int]) -> dict[int, list[str]]:
        """Of each row as its newest record says them. Raises Unable where that says none."""
        listed = ", ".join(str(int(self.lasts[group])) for group in chosen) or "-1"
        rows = self.question.rows(
            f"select index, relation, key, key_columns from raw_touches where index in ({listed}) and key_columns is not null"  # noqa: S608
        )
        told = {(row["index"], row["relation"], row["key"]): row["key_columns"] for row in rows}
        asked = {group: (int(self.lasts[group]), *self._named(group)[1:]) for group in chosen}
        if not told.keys() >= set(asked.values()):
            raise Unable
        return {group: told[named] for group, named in asked.items()}
