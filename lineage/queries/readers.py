"""Who read and who wrote one column, out of codes: as `places.column` asks it in SQL over the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts import tables
from lineage.extracts.beginnings import BY_INDEX
from lineage.extracts.coding import Coding, Rows
from lineage.extracts.looking import Lookup, Wanted
from lineage.extracts.picks import READ, READ_BY_NAME, WROTE, WROTE_BY_NAME
from lineage.extracts.postings import hashes_of
from lineage.extracts.terms import REAL
from lineage.queries import candidates, tallies
from lineage.queries.ask import Window
from lineage.queries.tallies import Acts

MOST = 200


def found(
    question: Question, viewer: Viewer, datasource: str, relations: Sequence[str], column: str, window: Window
) -> list[dict[str, Any]] | None:
    """The rows that `places.column` asks for; None where only records can tell."""
    wanted = candidates.wanted(viewer, window, REAL)
    if wanted is None:
        return None
    return candidates.told(
        question, lambda look: _Readers(question, look, wanted, datasource, relations, column).rows()
    )


class _Readers:
    def __init__(
        self, question: Question, look: Lookup, wanted: Wanted, datasource: str, relations: Sequence[str], column: str
    ) -> None:
        self.coding = coding = Coding(look, question.snapshot.logins, (relations, column))
        terms = hashes_of(
            ("table", how, datasource, relation, bit)
            for how in (tables.BOTH, tables.TOUCHED)
            for relation in relations
            for bit in range(tables.BITS)
        )
        met = coding.rows(lambda layer: [layer.postings[BY_INDEX].find_all(terms)], wanted)
        is_here = np.array([place[1] == datasource for place in coding.places], bool)
        self.met = met.chosen(is_here[met.places] & (met.ways != 0)) if len(met.places) else met

    def rows(self) -> list[dict[str, Any]]:
        """Of each reading and writing identity how often, those that did it most first."""
        coding, met = self.coding, self.met
        parts = [
            (np.flatnonzero(met.ways & way), 2 * is_read, by_name)
            for is_read, way, by_name in ((False, WROTE, WROTE_BY_NAME), (True, READ, READ_BY_NAME))
        ]
        at = np.concatenate([some for some, _, _ in parts])
        # Twice whether it read, and whether it named all columns alone.
        values = np.concatenate([is_read + (met.ways[some] & by_name == 0) for some, is_read, by_name in parts])
        ids = {name: number for number, name in enumerate(dict.fromkeys(one.id for one in coding.people))}
        of_who = np.array([ids[one.id] for one in coding.people], np.int64)
        groups = (values >> 1) * max(len(ids), 1) + (of_who[met.who[at]] if len(at) else at)
        tally = Acts(met).tally(groups, at)
        names, each = list(ids), tally.groups.tolist()
        times, last_at = tally.times.tolist(), tallies.moments_of(tally.last_at)

        def order(number: int) -> tuple[int, bool, str]:
            who = names[each[number] % len(names)]
            return -times[number], who is None, who or ""

        by_group = np.argsort(groups, kind="stable")
        kept = groups[by_group], values[by_group], at[by_group]
        return [
            {
                "reading": bool(each[number] // len(names)), "who_id": names[each[number] % len(names)],
                "count": times[number], "last_at": last_at[number], **self._beside(each[number], *kept),
            }
            for number in sorted(range(len(each)), key=order)[:MOST]
        ]  # fmt: skip

    def _beside(self, group: int, groups: NDArray[Any], values: NDArray[Any], at: NDArray[Any]) -> dict[str, Any]:
        """What one group, of all in their order, says of itself; the first record that says it."""
        here = slice(*np.searchsorted(groups, [group, group + 1]).tolist())
        rows: Rows = self.met.chosen(at[here])
        people = [self.coding.people[number] for number in tallies.firsts_of(rows.who, rows.indexes)]
        actors = [self.coding.actors[number] for number in tallies.firsts_of(rows.actors, rows.indexes)]
        return {
            "who_name": tallies.any_of(one.name for one in people), "who_type": tallies.any_of(one.type for one in people),
            "on_behalf_of": tallies.any_of(one.on_behalf_of for one in actors), "by_star": bool((values[here] & 1).all()),
        }  # fmt: skip
