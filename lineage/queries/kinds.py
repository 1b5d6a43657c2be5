"""How many of each kind a search finds that groups can tell: as `counts.kinds_counted` asks it in SQL over the log."""

from __future__ import annotations

import numpy as np

from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts import Indexes
from lineage.extracts.coding import Coding
from lineage.extracts.grouping import Grouping
from lineage.extracts.looking import Lookup, Seen, Wanted
from lineage.extracts.meanings import MET
from lineage.extracts.numbering import Numbers
from lineage.extracts.terms import ACT, LISTED, REAL
from lineage.queries import alike, candidates, matches
from lineage.queries.ask import COUNT_MOST, Total, Window


def counted(question: Question, viewer: Viewer, q: str, window: Window) -> dict[str, Total] | None:
    """Each exact up to 10,000; None where only records can tell."""
    asked, wanted = alike.read(q), candidates.wanted(viewer, window, LISTED)
    if asked is None or wanted is None:
        return None
    return candidates.told(question, lambda look: _Kinds(question, look, asked, wanted).counted())


class _Kinds:
    def __init__(self, question: Question, look: Lookup, asked: alike.Asked, wanted: Wanted) -> None:
        self.look = look
        self.asked, self.coding = asked, Coding(look, question.snapshot.logins)
        self.grouping = Grouping(look, self.coding, question.snapshot.identities, asked.wanted(wanted))
        # What numbers stand for is known from here on.
        self.parts = self.grouping.parts
        self.people = np.zeros(len(self.coding.people), bool)
        self.events = self.touches = 0
        names, databases = Numbers(), Numbers()
        every, places = self.coding.meanings.ways.held.values, self.coding.places
        of_ways = np.array([names(relation) for relation, _ in every], np.int64)
        is_met = np.array([way & MET != 0 for _, way in every], bool)
        of_places = np.array([databases(place[1]) for place in places], np.int64)
        self.tables = np.zeros((len(databases.of), len(names.of)), bool)
        is_deed = np.array([one.kind != "decision" for one in self.coding.manners], bool)
        for some, told, kept in self.parts:
            if not len(kept):
                continue
            kept = kept & asked.of(self.coding, told)
            self.events += int(some.extent.counts[kept].sum())
            self.people[told.who[kept & is_deed[told.manners]]] = True
            met = kept[some.of] & is_met[some.ways]
            self.touches += int(some.met.counts[met].sum())
            met &= ((told.marks & REAL) != 0)[some.of]
            self.tables[of_places[told.places[some.of[met]]], of_ways[some.ways[met]]] = True

    def counted(self) -> dict[str, Total]:
        if self.touches <= COUNT_MOST:
            self.touches += self._more()
        ids = {self.coding.people[number].id for number in np.flatnonzero(self.people).tolist()} - {None}
        sessions, is_whole = self._sessions()
        counts = {
            "event": self.events, "session": sessions, "identity": len(ids), "touch": self.touches,
            "relation": int(self.tables.sum()),
        }  # fmt: skip
        told = {by: Total(min(count, COUNT_MOST), count <= COUNT_MOST) for by, count in counts.items()}
        return told if is_whole else told | {"session": Total(min(sessions, COUNT_MOST), False)}

    def _more(self) -> int:
        """How many more accesses there are than groups tell, of records that touched a table several times."""
        several = Grouping(self.look, self.coding, self.grouping.identities, self.grouping.wanted, _Several())
        found = 0
        for some in several.between(0, self.look.size):
            told = matches.touches(some.chosen(self.asked.of(self.coding, some.alike)), self.coding, None)
            found += int(told.times.sum()) - len(told.times)
        return found

    def _sessions(self) -> tuple[int, bool]:
        """Of how many sessions the newest matching records are, and whether these are all."""
        found, looked = np.empty(0, np.uint64), 0
        for some, sessions in self.grouping.newest(ACT):
            of = sessions[self.asked.of(self.coding, some)]
            found, looked = np.union1d(found, of[of != 0]), looked + len(of)
            if len(found) > COUNT_MOST or looked > 10 * COUNT_MOST:
                return len(found), len(found) > COUNT_MOST
        return len(found), True


class _Several:
    """The records that touched a table more than once."""

    def found(self, layer: Seen) -> Indexes:
        return np.unique(layer.of.repeats.indexes)

    def shapes(self) -> None:
        return None
