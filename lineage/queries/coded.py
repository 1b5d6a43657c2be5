"""Lists of records that match what groups tell, newest first: by codes, without a walk through the log in SQL."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Sequence

import numpy as np

from lineage.access import Viewer
from lineage.extracts.grouping import Grouping
from lineage.extracts.looking import Lookup, Unable
from lineage.extracts.postings import NOTHING
from lineage.extracts.terms import LISTED
from lineage.queries import alike, candidates, paging
from lineage.queries.ask import Window
from lineage.queries.walking import Range


class Listed(paging.Listed):
    """The same list: codes tell exactly which match."""

    def __init__(self, of: paging.Listed, grouping: Grouping, asked: alike.Asked) -> None:
        super().__init__(of.question, of.relation, of.condition, of.values, of.ranges)
        self.grouping, self.matching = grouping, functools.partial(asked.of, grouping.coding)

    def _walk(self, ranges: Sequence[Range], most: int, is_up: bool = False) -> list[int]:
        if is_up:
            raise Unable
        parts = alike.first(self.grouping, self.matching, ranges, most)
        found = np.sort(np.concatenate([NOTHING, *(part.indexes for part in parts)]))
        newest: list[int] = found[::-1][:most].tolist()
        return newest


def listed(
    of: paging.Listed, look: Lookup, viewer: Viewer, q: str, window: Window, now: dt.datetime | None = None
) -> Listed | None:
    """None where the search asks for more, or for accesses. Relative times count from `now`, by default the clock."""
    asked, wanted = alike.read(q, now=now), candidates.wanted(viewer, window, LISTED)
    if of.relation != "activity" or asked is None or wanted is None or not look.layers:
        return None
    return Listed(of, alike.grouping(of.question, look, asked, wanted, None), asked)
