"""The list of identities out of groups: as `people.identities` asks it in SQL over the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts import coding
from lineage.extracts.cards import NO_TIME
from lineage.extracts.codified import CALLED, CHANGE, REFUSED, STATEMENT, WRITE
from lineage.extracts.coding import Rows
from lineage.extracts.grouping import Part
from lineage.extracts.groups import LATE, Alike
from lineage.extracts.looking import Lookup, Wanted
from lineage.extracts.meanings import NAMED
from lineage.extracts.numbering import Numbers, dense
from lineage.extracts.terms import LISTED
from lineage.queries import alike, candidates, paging, tallies
from lineage.queries.ask import COUNT_MOST, Total, Window
from lineage.queries.heads import STRENGTHS

Column = NDArray[Any]
COUNTED = {"accesses": STATEMENT, "writes": WRITE | CALLED, "rows_changed": CHANGE, "refused": REFUSED}
"""What each count asks of records; of the first two a call counts once."""
ONCE = ("accesses", "writes")


def page(
    question: Question, viewer: Viewer, q: str, window: Window, place: Any, is_back: bool, count: int
) -> paging.Page | None:
    """One page as `paging.keyset` gives it, with all columns; None where only records can tell."""
    asked, wanted = alike.read(q, by_table=True), candidates.wanted(viewer, window, LISTED)
    if asked is None or wanted is None:
        return None
    return candidates.told(question, lambda look: _Everyone(question, look, asked, wanted).page(place, is_back, count))


class _Everyone:
    def __init__(self, question: Question, look: Lookup, asked: alike.Asked, wanted: Wanted) -> None:
        self.question, self.asked = question, asked
        only = alike.OfTables(look, asked.relations, False) if asked.relations else None
        self.grouping = alike.grouping(question, look, asked, wanted, only)
        self.coding = self.grouping.coding
        # What numbers stand for is known from here on.
        self.parts = self.grouping.parts
        ids = Numbers()
        self.of_who = np.array([ids(one.id) for one in self.coding.people], np.int64)
        self.nobody, self.names = ids(None), list(ids.of)
        self.bits = np.array([one.bits for one in self.coding.manners], np.int64)
        self.is_deed = np.array([one.kind != "decision" for one in self.coding.manners], bool)
        self.found = [(part, np.flatnonzero(part.kept & self.matching(part.alike))) for part in self.parts]
        self.lasts = np.full(len(self.names), -1)
        for part, at in self.found:
            np.maximum.at(self.lasts, self.of_who[part.alike.who[at]], part.groups.extent.lasts[at])

    def matching(self, some: Alike) -> NDArray[np.bool_]:
        if not len(some.who):
            return np.zeros(0, bool)
        is_one = self.is_deed[some.manners] & (self.of_who[some.who] != self.nobody)
        kept: NDArray[np.bool_] = self.asked.of(self.coding, some) & is_one
        return kept

    def page(self, place: Any, is_back: bool, count: int) -> paging.Page:
        # No record is of two.
        met = np.flatnonzero(self.lasts >= 0)
        keys = -self.lasts[met]
        some = met[(keys < place[0] if is_back else keys > place[0]) if place else slice(None)]
        order = np.argsort(-self.lasts[some])
        ordered = some[order[::-1] if is_back else order][: count + 1].tolist()
        rows = [{"id": self.names[one], "last_index": int(self.lasts[one])} for one in ordered]
        shown, following, previous = paging.cut(self.question, rows, (), place, is_back, count)
        numbers = dict(zip((row["id"] for row in rows), ordered, strict=True))
        whole = Total(min(len(met), COUNT_MOST), len(met) <= COUNT_MOST)
        return _Rows(self, [numbers[row["id"]] for row in shown]).rows(), following, previous, whole


class _Rows:
    """What these did."""

    def __init__(self, of: _Everyone, chosen: Sequence[int]) -> None:
        self.of, self.chosen = of, chosen
        self.slots = np.full(len(of.names), -1)
        self.slots[np.array(chosen, np.int64)] = np.arange(len(chosen))
        self.counts = {name: np.zeros(len(chosen), np.int64) for name in COUNTED}
        self.since, self.until = np.full(len(chosen), LATE), np.full(len(chosen), NO_TIME)
        self.seen: list[dict[tuple[int, int], int]] = [{} for _ in chosen]
        """Of each the pairs of who and actor, with the least index."""
        relations = Numbers()
        every = of.coding.meanings.ways.held.values
        self.of_ways = np.array([relations(relation) for relation, _ in every], np.int64)
        self.is_named = np.array([way & NAMED != 0 for _, way in every], bool)
        self.relations = np.zeros((len(chosen), len(relations.of)), bool)
        for part, at in of.found:
            self._add(part, at)
        self._once(of.grouping.shared)

    def _add(self, part: Part, at: Column) -> None:
        slots = self.slots[self.of.of_who[part.alike.who[at]]]
        at, slots = at[slots >= 0], slots[slots >= 0]
        extent, bits = part.groups.extent, self.of.bits[part.alike.manners[at]]
        for name, wanted in COUNTED.items():
            done = (bits & wanted) == wanted
            np.add.at(self.counts[name], slots[done], extent.counts[at[done]])
        np.minimum.at(self.since, slots, extent.since[at])
        np.maximum.at(self.until, slots, extent.until[at])
        self._see(part, at, slots)
        of_group = np.full(len(part.kept), -1)
        of_group[at] = slots
        below = of_group[part.groups.of]
        named = (below >= 0) & self.is_named[part.groups.ways] if len(below) else np.zeros(0, bool)
        self.relations[below[named], self.of_ways[part.groups.ways[named]]] = True

    def _see(self, part: Part, at: Column, slots: Column) -> None:
        count = len(self.of.coding.actors)
        pairs, again = dense(part.alike.who[at].astype(np.int64) * count + part.alike.actors[at])
        first, of_slot = np.full(len(pairs), LATE), np.zeros(len(pairs), np.int64)
        np.minimum.at(first, again, part.groups.extent.firsts[at])
        of_slot[again] = slots
        for pair, index, slot in zip(pairs.tolist(), first.tolist(), of_slot.tolist(), strict=True):
            seen, key = self.seen[slot], divmod(pair, count)
            seen[key] = min(index, seen.get(key, LATE))

    def _once(self, shared: Rows) -> None:
        """Each call is counted once, however many records tell of it."""
        of = self.of
        alike = Alike(shared.who, shared.actors, shared.places, shared.manners, shared.marks)
        rows = shared.chosen(of.matching(alike))
        slots = self.slots[of.of_who[rows.who]] if len(rows.who) else np.zeros(0, np.int64)
        calls = coding.acts(rows)
        for name in ONCE:
            done = (slots >= 0) & ((rows.bits & COUNTED[name]) == COUNTED[name])
            np.subtract.at(self.counts[name], slots[done], 1)
            each = np.unique(slots[done] * max(len(calls), 1) + calls[done])
            np.add.at(self.counts[name], each // max(len(calls), 1), 1)

    def rows(self) -> list[dict[str, Any]]:
        named = self.relations.sum(axis=1)
        return [self._row(slot, number, int(named[slot])) for slot, number in enumerate(self.chosen)]

    def _row(self, slot: int, number: int, relations: int) -> dict[str, Any]:
        seen = sorted(self.seen[slot].items(), key=lambda one: one[1])
        people = [self.of.coding.people[who] for (who, _), _ in seen]
        actors = [self.of.coding.actors[actor] for (_, actor), _ in seen]
        strongest = sorted(people, key=lambda one: -STRENGTHS.get(one.attribution or "", 0))
        since, until = int(self.since[slot]), int(self.until[slot])
        return {
            "id": self.of.names[number], "name": tallies.any_of(one.name for one in strongest),
            "type": tallies.any_of(one.type for one in strongest), "email": tallies.any_of(one.email for one in people),
            "logins": tallies.listed(one.db_user for one in actors),
            "first_at": None if since == LATE else tallies.time_of(since), "last_at": tallies.time_of(until),
            **{name: int(count[slot]) for name, count in self.counts.items()}, "relations": relations,
            "worked_for": tallies.listed(one.on_behalf_of for one in actors),
            "agents": tallies.listed(one.agent_name for one in actors),
            "attributions": tallies.listed(one.attribution for one in people), "last_index": int(self.of.lasts[number]),
        }  # fmt: skip
