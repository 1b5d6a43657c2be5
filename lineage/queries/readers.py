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
from lineage.extracts.coding import Coding
from lineage.extracts.looking import Lookup, Wanted
from lineage.extracts.numbering import Numbers, dense
from lineage.extracts.picks import READ, READ_BY_NAME, WROTE, WROTE_BY_NAME
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
        terms = tables.touching(datasource, relations)
        met = coding.rows(lambda layer: layer.postings[BY_INDEX].each(terms), wanted)
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
        people, who = dense(met.who[at])
        ids = Numbers()
        of_who = np.array([ids(coding.people[number].id) for number in people.tolist()], np.int64)
        groups = (values >> 1) * max(len(ids.of), 1) + of_who[who]
        tally = Acts(met).tally(groups, at)
        names, times = list(ids.of), tally.times.tolist()
        told = [(bool(group // len(names)), names[group % len(names)]) for group in tally.groups.tolist()]
        chosen = sorted(range(len(told)), key=lambda number: (-times[number], _order(told[number][1])))[:MOST]
        beside, last_at = self._beside(groups, values, at), tallies.moments_of(tally.last_at)
        return [
            {
                "reading": told[number][0], "who_id": told[number][1], "count": times[number], "last_at": last_at[number],
                **{name: each[number] for name, each in beside.items()},
            }
            for number in chosen
        ]  # fmt: skip

    def _beside(self, groups: NDArray[Any], values: NDArray[Any], at: NDArray[Any]) -> dict[str, list[Any]]:
        """What each group says of itself besides, those of all one behind the other; the first record that says it."""
        coding, order = self.coding, np.argsort(groups, kind="stable")
        starts = tallies.starts_of(groups[order])
        who, actors = self.met.who[at[order]], self.met.actors[at[order]]
        by_star = np.logical_and.reduceat(values[order] & 1, starts).tolist() if len(starts) else []
        return {
            "who_name": tallies.firsts_in(starts, who, lambda number: coding.people[number].name),
            "who_type": tallies.firsts_in(starts, who, lambda number: coding.people[number].type),
            "on_behalf_of": tallies.firsts_in(starts, actors, lambda number: coding.actors[number].on_behalf_of),
            "by_star": by_star,
        }  # fmt: skip


def _order(name: str | None) -> tuple[bool, str]:
    return name is None, name or ""
