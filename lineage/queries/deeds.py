"""What one identity did in a window, out of codes: as `people.identity` asks it in SQL over the log."""

from __future__ import annotations

from typing import Any

import numpy as np

from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts import Indexes
from lineage.extracts.beginnings import BY_INDEX
from lineage.extracts.cards import NO_TIME
from lineage.extracts.codes import MINE
from lineage.extracts.coding import Coding, Rows
from lineage.extracts.looking import Lookup, Wanted, by_index, person
from lineage.extracts.postings import Hashes, Postings
from lineage.extracts.terms import ACCESS
from lineage.moments import moment
from lineage.queries import candidates, stretches, tallies
from lineage.queries.ask import Window
from lineage.queries.tallies import Acts

DAY = 86_400_000_000
WEEK = 7 * DAY
MONDAY = 3 * DAY
"""From a Monday to the first of January 1970."""
RECENT = 50


def summary(question: Question, viewer: Viewer, identity: str, window: Window) -> dict[str, Any] | None:
    """Its parts but coverage and roles, with `recent` as indexes; None where only records can tell. Empty where nothing was done."""
    wanted = candidates.wanted(viewer, window)
    if wanted is None:
        return None
    return candidates.told(question, lambda look: _Deeds(question, look, identity, wanted).summary())


class _Deeds:
    def __init__(self, question: Question, look: Lookup, identity: str, wanted: Wanted) -> None:
        snap = question.snapshot
        self.look, self.identity, self.wanted = look, identity, wanted
        self.coding = Coding(look, snap.logins)
        terms = [term for term in person(identity, snap.identities.to_pylist(), look.datasources()) if term.spans != ()]
        hashes = np.array([term.hash for term in terms], np.uint64)
        rows = self.coding.rows(lambda layer: _found(layer.postings[BY_INDEX], hashes), wanted)
        is_own = np.array([one.id == identity for one in self.coding.people], bool)
        self.mine = rows.chosen(((rows.bits & MINE) != 0) & is_own[rows.who]) if len(rows.who) else rows
        self.acts = Acts(self.mine)

    def summary(self) -> dict[str, Any]:
        if not len(self.mine.indexes):
            return {}
        return {
            "identity": self._head(), "tables": self._tables(), "weeks": self._weeks(),
            "sessions": stretches.sessions(self.coding, self.mine, self.wanted),
            "worked_for": self._worked_for(), "worked_through": self._worked_through(), "recent": self._recent(),
        }  # fmt: skip

    def _head(self) -> dict[str, Any]:
        rows, coding = self.mine, self.coding
        actors = [coding.actors[number] for number in tallies.firsts_of(rows.actors, rows.indexes)]
        people = [coding.people[number] for number in tallies.firsts_of(rows.who, rows.indexes)]
        best = tallies.strongest(coding, rows)
        shapes = np.unique(rows.shapes).tolist()
        counts = tallies.done(self.acts)
        first_at, last_at = tallies.spans(rows)
        return {
            "id": self.identity, "name": best["name"], "type": best["type"], "email": tallies.any_of(one.email for one in people),
            "logins": tallies.listed(one.db_user for one in actors), "first_at": first_at, "last_at": last_at,
            "accesses": counts.pop("statements"), **counts,
            "relations": len({name for shape in shapes for name in coding.shapes[shape].relations} - {None}),
            "worked_for": tallies.listed(one.on_behalf_of for one in actors),
            "agents": tallies.listed(one.agent_name for one in actors),
            "attributions": tallies.listed(one.attribution for one in people), "last_index": int(rows.indexes[-1]),
        }  # fmt: skip

    def _tables(self) -> list[dict[str, Any]]:
        rows, shapes = self.mine, self.coding.shapes
        places = self.coding.places
        datasources = {name: number for number, name in enumerate(dict.fromkeys(place[1] for place in places))}
        of_place = np.array([datasources[place[1]] for place in places], np.int64)
        known: dict[tuple[str | None, str | None], int] = {}
        touched = [[known.setdefault(each, len(known)) for each in shape.ops] for shape in shapes]
        values, at = tallies.spread(touched, rows.shapes)
        tally = self.acts.tally(of_place[rows.places[at]] * max(len(known), 1) + values, at)
        names, ops = list(datasources), list(known)
        found = [
            {
                "datasource": names[group // len(ops)], "relation": ops[group % len(ops)][0], "op": ops[group % len(ops)][1],
                "count": count, "first_at": first_at, "last_at": last_at,
            }
            for group, count, first_at, last_at in zip(*tally, strict=True)
        ]  # fmt: skip
        return tallies.named(found, "relation", "op", "datasource")

    def _weeks(self) -> list[dict[str, Any]]:
        rows = self.mine
        known: dict[str | None, int] = {}
        touched = [[known.setdefault(each, len(known)) for each in shape.tables] for shape in self.coding.shapes]
        values, at = tallies.spread(touched, rows.shapes)
        week = np.where(rows.times == NO_TIME, -(1 << 30), (rows.times + MONDAY) // WEEK)[at]
        tally = self.acts.tally(week * max(len(known), 1) + values, at)
        relations = list(known)
        found = []
        for group, count in zip(tally.groups, tally.times, strict=True):
            number, relation = divmod(group, len(relations))
            begin = None if number == -(1 << 30) else moment(number * WEEK - MONDAY)
            found.append({"relation": relations[relation], "week": begin, "count": count})
        return tallies.named(found, "week", "relation")

    def _worked_for(self) -> list[dict[str, Any]]:
        return _people(self.coding, self.mine, [one.on_behalf_of for one in self.coding.actors])

    def _worked_through(self) -> list[dict[str, Any]]:
        term, coding = by_index("behalf", self.identity), self.coding
        rows = coding.rows(lambda layer: [layer.postings[term.kind].find(term.hash)], self.wanted)
        is_meant = np.array([one.id not in (None, self.identity) for one in coding.people], bool)
        is_for = np.array([one.on_behalf_of == self.identity for one in coding.actors], bool)
        if not len(rows.who):
            return []
        return _people(coding, rows.chosen(is_meant[rows.who] & is_for[rows.actors]), None)

    def _recent(self) -> list[dict[str, int]]:
        newest = self.mine.indexes[(self.mine.marks & ACCESS) != 0][::-1][:RECENT]
        return [{"index": index} for index in newest.tolist()]


def _found(posted: Postings, terms: Hashes) -> list[Indexes]:
    return [posted.at(begin, end) for _, begin, end in posted.spans(terms)]


def _people(coding: Coding, rows: Rows, names: list[str | None] | None) -> list[dict[str, Any]]:
    """How often each of these names has to do with records: by actors, or else the agent or who it was."""
    known: dict[str | None, int] = {None: 0}
    people = coding.people
    if names is not None:
        number = np.array([known.setdefault(name, len(known)) for name in names], np.int64)[rows.actors]
    else:
        agents = [one.agent_name for one in coding.actors]
        pairs, which = np.unique(rows.actors * len(people) + rows.who, return_inverse=True)
        told = [(agents[pair // len(people)], people[pair % len(people)].id) for pair in pairs.tolist()]
        through = [agent if agent is not None else who for agent, who in told]
        number = np.array([known.setdefault(name, len(known)) for name in through], np.int64)[which]
    rows, number = rows.chosen(number > 0), number[number > 0]
    tally = Acts(rows).tally(number, np.arange(len(number)))
    written = list(known)
    found = [
        {
            "name": written[group], "count": count, "first_at": first_at, "last_at": last_at,
            "who_id": tallies.any_of(people[who].id for who in tallies.firsts_of(rows.who[number == group], rows.indexes[number == group])),
        }
        for group, count, first_at, last_at in zip(*tally, strict=True)
    ]  # fmt: skip
    return sorted(found, key=lambda row: (-row["count"], row["name"]))
