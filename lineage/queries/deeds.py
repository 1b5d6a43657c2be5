"""What one identity did in a window, out of codes: as `people.identity` asks it in SQL over the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts.beginnings import BY_INDEX
from lineage.extracts.cards import NO_TIME
from lineage.extracts.codified import MINE
from lineage.extracts.coding import Coding, Rows
from lineage.extracts.looking import Lookup, Wanted, by_index, person
from lineage.extracts.numbering import Numbers
from lineage.extracts.terms import ACCESS
from lineage.moments import moment
from lineage.queries import candidates, stretches, tallies
from lineage.queries.ask import Window
from lineage.queries.tallies import Acts, Numbered

DAY = 86_400_000_000
WEEK = 7 * DAY
MONDAY = 3 * DAY
"""From a Monday to the first of January 1970."""
NO_WEEK = 1 << 30
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
        rows = self.coding.rows(lambda layer: layer.postings[BY_INDEX].each(hashes), wanted)
        is_own, who = tallies.told_of(rows.who, lambda number: self.coding.people[number].id == identity)
        self.mine = rows.chosen(((rows.bits & MINE) != 0) & np.array(is_own, bool)[who])
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
        relations = coding.meanings.relations.held.named(rows.shapes)
        done = tallies.done(self.acts, np.zeros(len(rows.indexes), np.int64), 1)
        counts = {name: each[0] for name, each in done.items()}
        first_at, last_at = tallies.spans(rows)
        return {
            "id": self.identity, "name": best["name"], "type": best["type"], "email": tallies.any_of(one.email for one in people),
            "logins": tallies.listed(one.db_user for one in actors), "first_at": first_at, "last_at": last_at,
            "accesses": counts.pop("statements"), **counts,
            "relations": len({*relations} - {None}),
            "worked_for": tallies.listed(one.on_behalf_of for one in actors),
            "agents": tallies.listed(one.agent_name for one in actors),
            "attributions": tallies.listed(one.attribution for one in people), "last_index": int(rows.indexes[-1]),
        }  # fmt: skip

    def _tables(self) -> list[dict[str, Any]]:
        places, several = self.coding.places, self.coding.meanings.ops.held
        names = sorted({place[1] for place in places}, key=lambda name: (name is None, name))
        numbers = {name: number for number, name in enumerate(names)}
        of_place = np.array([numbers[place[1]] for place in places], np.int64)
        values, at = several.spread(self.mine.shapes)
        ops, ranks = several.values, several.ranks
        # The groups ascend as the rows that are shown.
        tally = self.acts.tally(ranks[values] * len(names) + of_place[self.mine.places[at]], at)
        by_rank = np.argsort(ranks)[tally.groups // len(names)].tolist()
        found = zip(
            by_rank, (tally.groups % len(names)).tolist(), tally.times.tolist(), tallies.moments_of(tally.first_at),
            tallies.moments_of(tally.last_at), strict=True,
        )  # fmt: skip
        return [
            {
                "datasource": names[place], "relation": ops[op][0], "op": ops[op][1], "count": count,
                "first_at": first_at, "last_at": last_at,
            }
            for op, place, count, first_at, last_at in found
        ]  # fmt: skip

    def _weeks(self) -> list[dict[str, Any]]:
        several, times = self.coding.meanings.tables.held, self.mine.times
        values, at = several.spread(self.mine.shapes)
        relations, ranks = several.values, several.ranks
        # What is not known comes last.
        week = np.where(times == NO_TIME, NO_WEEK, (times + MONDAY) // WEEK)[at]
        tally = self.acts.tally(week * len(relations) + ranks[values], at)
        weeks, by_rank = tally.groups // max(len(relations), 1), np.argsort(ranks)
        begins = {
            number: None if number == NO_WEEK else moment(number * WEEK - MONDAY)
            for number in np.unique(weeks).tolist()
        }
        found = zip(
            weeks.tolist(), by_rank[tally.groups % max(len(relations), 1)].tolist(), tally.times.tolist(), strict=True
        )
        return [{"relation": relations[number], "week": begins[week], "count": count} for week, number, count in found]

    def _worked_for(self) -> list[dict[str, Any]]:
        actors = self.coding.actors
        return _people(
            self.coding, self.mine, *tallies.told_of(self.mine.actors, lambda number: actors[number].on_behalf_of)
        )

    def _worked_through(self) -> list[dict[str, Any]]:
        term, coding = by_index("behalf", self.identity), self.coding
        rows = coding.rows(lambda layer: [layer.postings[term.kind].find(term.hash)], self.wanted)
        people, actors = coding.people, coding.actors
        # Actor and person together.
        count = max(len(people), 1)

        def through(pair: int) -> str | None:
            actor, who = actors[pair // count], people[pair % count].id
            is_meant = who not in (None, self.identity) and actor.on_behalf_of == self.identity
            return (actor.agent_name if actor.agent_name is not None else who) if is_meant else None

        return _people(coding, rows, *tallies.told_of(rows.actors * count + rows.who, through))

    def _recent(self) -> list[dict[str, int]]:
        newest = self.mine.indexes[(self.mine.marks & ACCESS) != 0][::-1][:RECENT]
        return [{"index": index} for index in newest.tolist()]


def _people(coding: Coding, rows: Rows, told: Sequence[str | None], of: Numbered) -> list[dict[str, Any]]:
    """How often each of the names that are told has to do with records (`of`: which is each one's); None is none."""
    known = Numbers()
    # None is the first.
    named = [known(name) for name in (None, *told)][1:]
    number = np.array(named, np.int64)[of]
    if not number.any():
        return []
    rows, number = rows.chosen(number > 0), number[number > 0]
    tally = Acts(rows).tally(number, np.arange(len(number)))
    order = np.argsort(number, kind="stable")
    who = tallies.firsts_in(tallies.starts_of(number[order]), rows.who[order], lambda each: coding.people[each].id)
    names = list(known.of)
    found = [
        {"name": names[group], "count": count, "first_at": first_at, "last_at": last_at, "who_id": who_id}
        for group, count, first_at, last_at, who_id in zip(
            tally.groups.tolist(), tally.times.tolist(), tallies.moments_of(tally.first_at),
            tallies.moments_of(tally.last_at), who, strict=True,
        )
    ]  # fmt: skip
    return sorted(found, key=lambda row: (-row["count"], row["name"]))
