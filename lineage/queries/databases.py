"""The records of each database counted out of groups: as `places.datasources` asks it in SQL over the log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts.cards import NO_TIME
from lineage.extracts.codified import APPROVED, GAP, IMAGED, OWN
from lineage.extracts.coding import Coding
from lineage.extracts.grouping import Grouping, Part
from lineage.extracts.groups import LATE
from lineage.extracts.looking import Lookup, Unable, Wanted
from lineage.extracts.numbering import Numbers
from lineage.extracts.terms import ACCESS
from lineage.moments import microseconds
from lineage.queries import candidates, tallies
from lineage.queries.ask import Window

Column = NDArray[Any]
PERSON, STATEMENTS, READS, BEFORE_AFTER, CHANGES, APPROVALS, GRANTS = (1 << n for n in range(7))
ANSWERS = {
    "person": PERSON, "statements": STATEMENTS, "reads": READS, "before_after": BEFORE_AFTER, "changes": CHANGES,
    "approvals": APPROVALS, "grants": GRANTS,
}  # fmt: skip
"""What some record of a database may show that it can answer."""
NEEDED = (
    "kind",
    "environment",
    "datasource",
    "occurred_at",
    "custody_type",
    "db_user",
    "actor_id",
    "actor_type",
    "on_behalf_of",
    "approval",
)
COUNTED = ("events", "attributed", "attributable", "gaps")


def rows(question: Question, viewer: Viewer) -> list[dict[str, Any]] | None:
    """By database, in order of names; None where only records can tell."""
    wanted = candidates.wanted(viewer, Window())
    if wanted is None:
        return None
    return candidates.told(question, lambda look: _Databases(question, look, wanted).rows())


class _Databases:
    def __init__(self, question: Question, look: Lookup, wanted: Wanted) -> None:
        self.question, self.look, self.wanted = question, look, wanted
        self.coding = Coding(look, question.snapshot.logins)
        self.grouping = Grouping(look, self.coding, question.snapshot.identities, wanted)
        # What numbers stand for is known from here on.
        self.parts = self.grouping.parts
        self.names = Numbers()
        self.of_places = np.array([self.names(place[1]) for place in self.coding.places], np.int64)
        coding = self.coding
        self.bits = np.array([one.bits for one in coding.manners], np.int64)
        self.shown = np.array([_shown(one.bits, one.kind, one.op) for one in coding.manners], np.int64)
        self.is_act = np.array([one.kind in ("query", "change") for one in coding.manners], bool)
        self.is_human = np.array([one.type == "human" for one in coding.people], bool)
        self.is_for = np.array([one.on_behalf_of is not None for one in coding.actors], bool)
        self.is_known = np.array([one.attribution != "none" for one in coding.people], bool)
        self.count = len(self.names.of)
        self.counts = {name: np.zeros(self.count, np.int64) for name in COUNTED}
        self.answers, self.until = np.zeros(self.count, np.int64), np.full(self.count, NO_TIME)
        self.first, self.place = np.full(self.count, LATE), np.zeros(self.count, np.int64)

    def rows(self) -> list[dict[str, Any]]:
        for part in self.parts:
            self._add(part)
        places = self.coding.places
        found = {
            name: {
                "datasource": name, "environment": places[self.place[number]][0], "events": int(self.counts["events"][number]),
                **{f"can_{answer}": bool(self.answers[number] & bit) for answer, bit in ANSWERS.items()},
                **{of: int(self.counts[of][number]) for of in ("attributed", "attributable")},
                "last_at": tallies.time_of(int(self.until[number])), "gaps": int(self.counts["gaps"][number]),
            }
            for name, number in self.names.of.items()
            if name is not None and self.first[number] != LATE
        }  # fmt: skip
        for own in _own(self.question, self.look, self.wanted):
            name = own["datasource"]
            row = found.setdefault(name, _nothing(name, own["environment"]))
            row["gaps"] += own["custody_type"] == "gap"
            row["last_at"] = max((at for at in (row["last_at"], own["occurred_at"]) if at), default=None)
            is_human = own["actor_id"] is not None and own["actor_type"] == "human"
            row["can_person"] |= is_human or own["on_behalf_of"] is not None
            row["can_approvals"] |= own["approval"] is not None
        return [found[name] for name in sorted(found)]

    def _add(self, part: Part) -> None:
        alike, extent = part.alike, part.groups.extent
        at = np.flatnonzero(part.kept & ((self.bits[alike.manners] & OWN) == 0)) if len(part.kept) else part.kept
        manners, who, places, counts = (
            column[at] for column in (alike.manners, alike.who, alike.places, extent.counts)
        )
        names = self.of_places[places]
        human = self.is_human[who] | self.is_for[alike.actors[at]]
        np.bitwise_or.at(self.answers, names, self.shown[manners] | np.where(human, PERSON, 0))
        is_act = self.is_act[manners]
        kept = {
            "events": (alike.marks[at] & ACCESS) != 0, "attributable": is_act, "attributed": is_act & self.is_known[who],
            "gaps": (self.bits[manners] & GAP) != 0,
        }  # fmt: skip
        for name, some in kept.items():
            np.add.at(self.counts[name], names[some], counts[some])
        np.maximum.at(self.until, names, extent.until[at])
        tallies.keep_first(self.first, self.place, names, extent.firsts[at], places)


def _shown(bits: int, kind: str, op: str | None) -> int:
    """What records of a manner show, but for whom they name."""
    told = {
        STATEMENTS: kind == "query", READS: op == "read", BEFORE_AFTER: bits & IMAGED, CHANGES: kind == "change",
        APPROVALS: bits & APPROVED, GRANTS: kind == "state",
    }  # fmt: skip
    return sum(bit for bit, holds in told.items() if holds)


def _nothing(name: str, environment: str) -> dict[str, Any]:
    return {
        "datasource": name, "environment": environment, "events": 0, **{f"can_{answer}": False for answer in ANSWERS},
        "attributed": 0, "attributable": 0, "last_at": None, "gaps": 0,
    }  # fmt: skip


def _own(question: Question, look: Lookup, wanted: Wanted) -> Iterator[dict[str, Any]]:
    """What the store itself said last of databases, where no look-up sees it. Raises Unable where that may join with something."""
    snap, following = question.snapshot, question.snapshot.reported_to(question.size) + 1
    if any(len(layer.between(following, question.size).indexes) for layer in look.layers):
        return
    index, kind = snap.events["index"], snap.events["kind"]
    is_last = pc.and_(pc.greater_equal(index, following), pc.less(index, question.size))
    is_meant = pc.and_(pc.is_valid(snap.events["datasource"]), pc.not_equal(kind, "decision"))
    for row in snap.events.select(NEEDED).filter(pc.and_(is_last, is_meant)).to_pylist():
        at = microseconds(row["occurred_at"]) if row["occurred_at"] else NO_TIME
        is_seen = wanted.at((row["environment"], row["datasource"])) and not (
            wanted.since is not None and at < wanted.since
        )
        if row["kind"] != "custody" or row["db_user"] is not None:
            raise Unable
        if is_seen and not (wanted.until is not None and (at >= wanted.until or at == NO_TIME)):
            yield row
