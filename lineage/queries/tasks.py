"""What was decided and done under some tickets, out of codes: as `review.TOLD` asks it in SQL over the records that cite them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts import cites
from lineage.extracts.coding import Coding, Rows
from lineage.extracts.looking import Lookup, Unable, Wanted
from lineage.extracts.postings import hashes_of
from lineage.queries import candidates, cited, sought, tallies
from lineage.queries.ask import Window
from lineage.queries.cited import Citing, Told
from lineage.queries.tallies import Numbered

DECIDED = ("approval", "decided_by", "who_id", "decision_type", "occurred_at", "index", "flags")
DID = ("query", "change")


def told(question: Question, viewer: Viewer, window: Window, names: Sequence[str]) -> dict[str, dict[str, Any]] | None:
    """The rows by ticket, where a record in scope cites it; None where only records can tell."""
    wanted = candidates.wanted(viewer, window)
    if wanted is None or not names:
        return None
    return candidates.told(question, lambda look: _Tasks(question, look, viewer, window, wanted, names).told())


class _Tasks(Citing):
    def __init__(
        self, question: Question, look: Lookup, viewer: Viewer, window: Window, wanted: Wanted, names: Sequence[str]
    ) -> None:
        super().__init__(question, look, viewer, window, wanted)
        self.names = sorted(set(names))
        hashes = hashes_of(("cited", name) for name in self.names)
        order = np.argsort(hashes)
        hashes = hashes[order]
        parts = [self.newer(), *(self.filed(layer, file) for layer, file in self.files)]
        some: Told = cited.together([part.that(np.isin(part.hashes, hashes)) for part in parts])
        some = some.that(np.argsort(some.indexes, kind="stable"))
        self.cites, self.groups = some, order[np.searchsorted(hashes, some.hashes)]

    def told(self) -> dict[str, dict[str, Any]]:
        coding = Coding(self.look, self.question.snapshot.logins)
        each = np.unique(self.cites.indexes)
        found = coding.rows(lambda _: [each], Wanted())
        if len(found.indexes) < len(each):
            raise Unable
        rows = found.chosen(np.searchsorted(found.indexes, self.cites.indexes))
        accesses = tallies.done(tallies.Acts(rows), self.groups, len(self.names))["statements"]
        changed, decided = self._changed(coding, rows), self._decided()
        here = np.bincount(self.groups[self.cites.here], minlength=len(self.names)) > 0
        return {
            name: self._row(coding, rows.chosen(self.groups == number), name, decided[number])
            | {"accesses": accesses[number], "rows_changed": changed[number]}
            for number, name in enumerate(self.names)
            if here[number]
        }

    def _row(self, coding: Coding, rows: Rows, name: str, decided: list[dict[str, Any]] | None) -> dict[str, Any]:
        """Without how often, of the rows of one ticket."""
        kinds = np.array([manner.kind for manner in coding.manners])[rows.manners]
        did = rows.chosen(np.isin(kinds, DID))
        places = [coding.places[number] for number in rows.places[kinds != "decision"].tolist()]
        people = [coding.people[number].id for number in np.unique(did.who).tolist()]
        behalf = [coding.actors[number].on_behalf_of for number in np.unique(did.actors).tolist()]
        return {
            "ticket": name, "datasource": tallies.any_of(place[1] for place in places),
            "environment": tallies.any_of(coding.places[number][0] for number in rows.places.tolist()), "decisions": decided,
            "accesses": 0, "rows_changed": 0, "first_access_at": tallies.spans(did)[0],
            "first_index": int(did.indexes[0]) if len(did.indexes) else None, "people": tallies.listed(people),
            "behalf": tallies.listed(behalf), "last_index": int(rows.indexes[-1]),
        }  # fmt: skip

    def _changed(self, coding: Coding, rows: Rows) -> list[int]:
        """How many rows were captured; or more, if statements that a gateway let run under the request say so."""
        is_change = np.array([manner.kind == "change" for manner in coding.manners], bool)[rows.manners]
        captured: Numbered = np.bincount(self.groups[is_change], minlength=len(self.names))
        asks = self.cites.bits & cites.ASKS != 0
        records = self._records(self.cites.indexes[asks], ["rows_affected"])
        affected = [records[index]["rows_affected"] or 0 for index in self.cites.indexes[asks].tolist()]
        said = np.zeros(len(self.names), np.int64)
        np.add.at(said, self.groups[asks], np.array(affected, np.int64))
        changed: list[int] = np.maximum(captured, said).tolist()
        return changed

    def _decided(self) -> list[list[dict[str, Any]] | None]:
        """The decisions on each ticket, by index; None where there are none."""
        decides = self.cites.bits & cites.DECIDES != 0
        records = self._records(self.cites.indexes[decides], DECIDED)
        found: list[list[dict[str, Any]] | None] = [None] * len(self.names)
        for index, number in zip(self.cites.indexes[decides].tolist(), self.groups[decides].tolist(), strict=True):
            one = dict(records[index])
            if "unauthorised_assertion" not in (one.pop("flags") or ()):
                found[number] = [*(found[number] or ()), one | {"type": one.pop("decision_type")}]
        return found

    def _records(self, indexes: Numbered, columns: Sequence[str]) -> dict[int, dict[str, Any]]:
        """Raises Unable where they are many, or cannot be read."""
        if not len(indexes):
            return {}
        records = self.question.records(indexes, columns) if len(indexes) <= sought.CARDS_MOST else None
        if records is None:
            raise Unable
        return records
