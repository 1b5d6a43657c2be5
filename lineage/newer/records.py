"""The records that no extract has as they are now: those behind the extracts, and earlier ones that newer facts changed.

Carried on from one size of the log to the next: only what is told since then is read and joined (docs/joining.md, By keys). It is
`lineage.extracts.fresh` once more, for a process that keeps what it made.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pyarrow as pa

from lineage.extracts import Indexes, keys
from lineage.extracts.blocks import TOUCHED, Content, Place
from lineage.extracts.fresh import State
from lineage.extracts.postings import NOTHING
from lineage.newer import finding, layers, saying, telling
from lineage.newer.behind import Behind, Roles, Told
from lineage.newer.chunks import Chunks, Reported, Touches
from lineage.newer.finding import Found
from lineage.newer.layers import Layer
from lineage.newer.saying import Claim, Emission, Fact, Keys, Line, Nested, Row

MOST = 20_000
"""Of more records nothing is kept here: DuckDB makes them anew in less."""
Read = Callable[[Indexes], Reported]
"""Records, ascending, out of sealed files."""


@dataclasses.dataclass(frozen=True)
class Stand:
    """What is newer as of one size; it stays as it is when more is told."""

    size: int
    stale: Indexes
    """Stored records, ascending, that are told anew."""
    layers: Sequence[tuple[Layer, Indexes]]
    """With the records of each that a later one has."""
    of: Records

    def read(self, layer: Layer, indexes: Indexes) -> dict[int, Content]:
        """What those of these records hold that this layer has."""
        return self.of.contents([index for index in indexes.tolist() if index in layer.entries], self.size)

    def statements(self) -> pa.Table:
        """Index and statement of all that is kept: no join changes them."""
        return self.of.chunks.columns("index", "statement")


class Records:
    """Of one process and one list of extracts, up to `size`. Not for two threads at once, but for what a `Stand` reads."""

    def __init__(self, state: State, roles: Roles) -> None:
        """Raises FileNotFoundError and `postings.Damaged`."""
        self.posted = keys.Posted(state.keys)
        self.first = self.size = state.extracted_to
        self.roles = roles
        self.told, self.chunks = Told(), Chunks()
        self.asked: set[int] = set()
        self.fetched = self.stale = NOTHING
        self.looked: list[Keys] = []
        self.carriers: dict[int, set[int]] = {}
        self.layers: list[Layer] = []

    def extend(self, reported: Reported, size: int, read: Read) -> Stand:
        """As of a larger size, with the records from `self.size` on. Raises Proxied; what it left then is of no use."""
        fresh = self.chunks.add(reported)
        said = [(fact, row["index"]) for row in fresh for fact in saying.facts_of(row)]
        self._close_over({key for row in fresh for key in saying.reported(row).all()}, read)
        self._close_over({key for fact, _ in said for key in saying.keys_of(fact).all()}, read)
        turned = [fact for fact, _ in said if isinstance(fact, Claim) or self.told.first(fact) is None]
        for fact, index in said:
            self.told.add(fact, index)
        changed = self._changed(turned)
        self.size = size
        fresh += self._again(changed, read)
        affected = {index for key in changed for index in self.carriers.get(key, ())}
        fresh += self.chunks.rows(sorted(affected.difference(row["index"] for row in fresh)))
        self._enter(fresh)
        return Stand(size, self.stale, self._hidden(), self)

    def contents(self, indexes: Sequence[int], size: int) -> dict[int, Content]:
        """What these records hold as of this size."""
        behind, touches = Behind(self.told, self.roles, size), self.chunks.touches(indexes)
        return {
            row["index"]: (
                telling.content(row, behind),
                [[touch[name] for name in TOUCHED] for touch in touches.get(row["index"], ())],
            )
            for row in self.chunks.rows(indexes)
        }

    def _close_over(self, wanted: set[int], read: Read) -> None:
        """Gathers the facts of these keys, and of the keys that those lead to, of stored records; others are known."""
        while wanted := wanted - self.asked:
            self.asked |= wanted
            met = self.posted.met(np.array(sorted(wanted), np.uint64))
            indexes = np.setdiff1d(self.posted.telling(met, self.first), self.fetched)
            if len(indexes):
                self.fetched = np.union1d(self.fetched, indexes)
                for row in Chunks().add(read(indexes)):
                    self.looked.append(saying.led_to(row))
                    for fact in saying.facts_of(row):
                        self.told.add(fact, row["index"])
            # What is told of a session leads nowhere: its records tell of much else.
            leading = (one for one in self.looked if not self.asked.isdisjoint((one.tx, one.vid, one.call)))
            wanted = {key for one in leading for key in one.all()}

    def _changed(self, turned: Sequence[Fact]) -> set[int]:
        """The keys of which these facts tell what was not told, as `keys.CHANGED`."""
        of = [(fact, saying.keys_of(fact)) for fact in turned]
        calls = {one.call for fact, one in of if isinstance(fact, Nested)}
        emitted = [saying.keys_of(fact) for call in calls for _, fact in self.told.of(Emission, call, 1 << 62)]
        every = [*(one for _, one in of), *emitted]
        sessions = [one.session for fact, one in of if not isinstance(fact, Line)]
        # What has only a virtual id is told of the transaction that a line names for it.
        lines = [fact for one in every if one.vid is not None for _, fact in self.told.of(Line, one.vid, 1 << 62)]
        named = [saying.keys_of(line).tx for line in lines]
        found = {*(one.tx for one in every), *(one.vid for one in every), *sessions, *named}
        return {key for key in found if key is not None}

    def _again(self, changed: set[int], read: Read) -> list[Row]:
        """The stored records of which something else is told now, with the facts of their keys."""
        met = self.posted.met(np.array(sorted(changed), np.uint64))
        stale = np.setdiff1d(self.posted.carrying(met, self.first), self.stale)
        if not len(stale):
            return []
        self.stale = np.union1d(self.stale, stale)
        again = self.chunks.add(read(stale))
        self._close_over({key for row in again for key in saying.reported(row).all()}, read)
        return again

    def _enter(self, some: Iterable[Row]) -> None:
        """Makes what these records are found by, as of now, a layer."""
        every = list(some)
        behind, touches = Behind(self.told, self.roles, self.size), self.chunks.touches([row["index"] for row in every])
        entries: dict[int, tuple[int | None, Place, Found]] = {}
        for row in every:
            index, joined = row["index"], telling.joined(row, behind)
            found = finding.found({**row, **joined.changed}, touches.get(index, _NONE))
            entries[index] = row["occurred_at"], (row["environment"], row["datasource"]), found
            for key in saying.carried(row, joined.transaction_id, joined.session_id).all():
                self.carriers.setdefault(key, set()).add(index)
        if entries:
            self.layers = [*self.layers, layers.made(entries)]
        # Each record is put together anew only as often as what it lies in doubles.
        while len(self.layers) > 1 and len(self.layers[-2].entries) <= len(self.layers[-1].entries):
            *rest, older, newer = self.layers
            self.layers = [*rest, older.under(newer)]

    def _hidden(self) -> list[tuple[Layer, Indexes]]:
        found, later = list[tuple[Layer, Indexes]](), set[int]()
        for layer in reversed(self.layers):
            found.append((layer, np.array(sorted(later & layer.entries.keys()), np.int64)))
            later |= layer.entries.keys()
        return found[::-1]


_NONE: Touches = []
