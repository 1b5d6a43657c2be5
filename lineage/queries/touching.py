"""The lists of one row's life: by SQL over the whole log, or by look-ups over the few records that can tell of it.

Each condition stands here twice, once for either; a test compares both over every record and many keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np

from lineage.access import Viewer
from lineage.acts import DONE, NOT_DONE, REAL, UNDONE
from lineage.engine import Question
from lineage.extracts import Indexes
from lineage.extracts.blocks import TOUCHED
from lineage.extracts.looking import Lookup
from lineage.queries import candidates, tallies
from lineage.queries.ask import Window, fetch, scoped

ROW_MOST = 500

# A condition on part of the key with the same value may still have met the row; with another it cannot.
ANOTHER_KEY = (
    "coalesce(list_bool_or(list_transform(pairs, lambda p: list_contains(?::varchar[], split_part(p, '=', 1)) "
    "and not list_contains(?::varchar[], p))), false)"
)
ACT = "coalesce('call ' || nullif(correlation_id, ''), 'event ' || event_id)"
Events = list[dict[str, Any]]


class Wider(NamedTuple):
    """Reads that may have met the row: the newest; of how many records, up to 500; and how many acts these are, if they are all."""

    events: Events
    records: int
    acts: int


class OneRow(msgspec.Struct, frozen=True):
    """One row: its table under each spelling, its key, the columns of the key and its pairs, where these are known."""

    datasource: str
    relations: list[str]
    key: str
    columns: list[str]
    pairs: list[str]


class Life(Protocol):
    """Lists of events, the newest 500 each; `conditioned` says whether such a touch named a column's value."""

    def changed(self, key: str, before: int | None = None) -> Events: ...
    def read(self) -> Events: ...
    def could_have_read(self, most: int) -> Wider: ...
    def uncertain(self) -> Events: ...
    def refused(self) -> Events: ...
    def keys_of(self, events: Events) -> dict[int, list[str]]:
        """The keys of which changes among these tell."""


def life(question: Question, viewer: Viewer, window: Window, one: OneRow, wider: int | None = None) -> Life:
    """With `wider` no more than so many of `could_have_read` will be asked for."""
    found = candidates.told(question, lambda look: _LookedUp(question, look, viewer, window, one, wider))
    return found or _Asked(question, viewer, window, one)


class _Asked:
    """By SQL. Only where no key is known a value alone tells: 4711 may be another column's."""

    def __init__(self, question: Question, viewer: Viewer, window: Window, one: OneRow) -> None:
        scope, values = scoped(viewer, window)
        self.question, self.viewer = question, viewer
        self.here = f"datasource = ? and list_contains(?, relation) and {scope} and {REAL}"
        self.values = [one.datasource, one.relations, *values]
        columns, pairs = one.columns, one.pairs
        self.exact = "list_has_all(pairs, ?)" if pairs else "false" if columns else "coalesce(key = ?, false)"
        self.exact_values: list[Any] = [pairs] if pairs else [] if columns else [one.key]
        self.other_values = [columns if pairs else [], pairs]

    def _ask(self, condition: str, more: Sequence[Any]) -> Events:
        return self._whole(self._found(condition, more))

    def _found(self, condition: str, more: Sequence[Any]) -> Events:
        return self.question.rows(
            f"select index, occurred_at, bool_or(len(pairs) > 0) as conditioned, any_value({ACT}) as act "  # noqa: S608
            f"from touches where {self.here} and {condition} "
            f"group by index, occurred_at order by occurred_at desc, index desc limit {ROW_MOST}",
            [*self.values, *more],
        )

    def _whole(self, found: Events) -> Events:
        rows = fetch(self.question, self.viewer, found)
        return [row | {"conditioned": one["conditioned"]} for row, one in zip(rows, found, strict=True)]

    def changed(self, key: str, before: int | None = None) -> Events:
        earlier, more = (" and index < ?", [before]) if before is not None else ("", [])
        return self._ask(f"access = 'changed' and key = ?{earlier}", [key, *more])

    def read(self) -> Events:
        return self._ask(f"access = 'read' and {DONE} and {self.exact}", self.exact_values)

    def could_have_read(self, most: int) -> Wider:
        found = self._found(
            f"access = 'read' and {DONE} and not {self.exact} and not {ANOTHER_KEY}",
            [*self.exact_values, *self.other_values],
        )
        return Wider(self._whole(found[:most]), len(found), len({one["act"] for one in found}))

    def uncertain(self) -> Events:
        captured = f"select transaction_id from touches where {self.here} and access = 'changed' and transaction_id is not null"  # noqa: S608
        return self._ask(
            f"((access = 'wrote' and {DONE} and outcome <> 'rolled_back' and not {ANOTHER_KEY} "
            f"and (transaction_id is null or transaction_id not in ({captured}))) or (access = 'changed' and key is null))",
            [*self.other_values, *self.values],
        )

    def refused(self) -> Events:
        return self._ask(f"{NOT_DONE} and {self.exact}", self.exact_values)

    def keys_of(self, events: Events) -> dict[int, list[str]]:
        keys: dict[int, list[str]] = {}
        if events:
            indexes = ", ".join(str(int(event["index"])) for event in events)
            for one in self.question.rows(
                f"select index, key from touches where index in ({indexes}) and access = 'changed' and key is not null"  # noqa: S608
            ):
                keys.setdefault(one["index"], []).append(one["key"])
        return keys


Act = tuple[str | None, ...]
"""By its correlation id, or without one by its event."""


class _Met(NamedTuple):
    """A record with the touch by which it may tell of the row."""

    record: int
    at: int | None
    is_done: bool
    is_refused: bool
    act: Act
    access: str
    key: str | None
    pairs: list[str]


RECORD = ("index", "occurred_at", "verdict", "datasource", "correlation_id", "event_id")
TOUCH = ("relation", "access", "key", "pairs")
LEAST = -(1 << 63)


class _LookedUp:
    """The same of what look-ups find: that is within scope and window, and told of once. Raises Unable and Damaged when made."""

    def __init__(
        self, question: Question, look: Lookup, viewer: Viewer, window: Window, one: OneRow, wider: int | None = None
    ) -> None:
        self.question, self.viewer, self.one = question, viewer, one
        row = candidates.Row(look, viewer, window, one.datasource, one.relations, ROW_MOST)
        found = row.found(one.key, one.columns, one.pairs, ROW_MOST if wider is None else wider)
        self.has_more = row.has_more
        self.met: list[_Met] = []
        self.keys: dict[int, list[str]] = {}
        self._meet(look, found)
        self.counted: tuple[int, int] | None = None
        """How many records may have read the row, and of how many acts they tell, where not all of them are read."""
        if len(row.unread) and not row.has_more:
            unread = np.setdiff1d(row.unread, found)
            could = np.union1d(unread, [index for index, _, _ in self._found(self._may_have_read)]).astype(np.int64)
            acts = tallies.acts_of(look, could)
            if acts is None:
                self._meet(look, unread)
            else:
                self.counted = min(len(could), ROW_MOST), acts
        self.accounted = row.accounted_of(met.record for met in self.met if met.access == "wrote")

    def _meet(self, look: Lookup, found: Indexes) -> None:
        """Notes how these records met the table."""
        one, contents = self.one, look.contents(found)
        places = [look.columns.index(name) for name in RECORD] if contents else []
        members = [TOUCHED.index(name) for name in TOUCH]
        for record, touches in contents:
            index, at, verdict, datasource, call, event_id = (record[place] for place in places)
            is_done, is_refused = verdict is not None and verdict not in UNDONE, verdict in UNDONE
            for relation, access, key, pairs in ([touch[member] for member in members] for touch in touches):
                if access == "changed" and key is not None:
                    self.keys.setdefault(index, []).append(key)
                if datasource == one.datasource and relation in one.relations:
                    act = (call,) if call else (None, event_id)
                    self.met.append(_Met(index, at, is_done, is_refused, act, access, key, pairs))

    def _list(self, holds: Callable[[_Met], bool]) -> Events:
        return self._whole(self._found(holds))

    def _found(self, holds: Callable[[_Met], bool]) -> list[tuple[int, bool, Act]]:
        """The newest records of which this holds of some touch: index, whether such a touch names a value, act."""
        found: dict[tuple[int, int], tuple[bool, Act]] = {}
        for met in filter(holds, self.met):
            place = LEAST if met.at is None else met.at, met.record
            found[place] = bool(met.pairs) or (place in found and found[place][0]), met.act
        return [(place[1], *found[place]) for place in sorted(found, reverse=True)[:ROW_MOST]]

    def _whole(self, found: Sequence[tuple[int, bool, Act]]) -> Events:
        rows = fetch(self.question, self.viewer, [{"index": index} for index, _, _ in found])
        return [row | {"conditioned": conditioned} for row, (_, conditioned, _) in zip(rows, found, strict=True)]

    def _is_exact(self, met: _Met) -> bool:
        if self.one.pairs:
            return set(self.one.pairs) <= set(met.pairs)
        return not self.one.columns and met.key == self.one.key

    def _is_of_another(self, met: _Met) -> bool:
        """Whether a condition gives a column of the key another value."""
        own = self.one.pairs
        return bool(own) and any(pair not in own and pair.partition("=")[0] in self.one.columns for pair in met.pairs)

    def changed(self, key: str, before: int | None = None) -> Events:
        return self._list(
            lambda met: met.access == "changed" and met.key == key and (before is None or met.record < before)
        )

    def read(self) -> Events:
        return self._list(lambda met: met.access == "read" and met.is_done and self._is_exact(met))

    def could_have_read(self, most: int) -> Wider:
        found = self._found(self._may_have_read)
        records = ROW_MOST if self.has_more else len(found)
        records, acts = self.counted or (records, len({act for _, _, act in found}))
        return Wider(self._whole(found[:most]), records, acts)

    def _may_have_read(self, met: _Met) -> bool:
        return met.access == "read" and met.is_done and not self._is_exact(met) and not self._is_of_another(met)

    def uncertain(self) -> Events:
        return self._list(lambda met: self._is_unaccounted(met) or (met.access == "changed" and met.key is None))

    def _is_unaccounted(self, met: _Met) -> bool:
        """Whether it wrote and may have met the row, without an image that tells of its transaction."""
        return (
            met.access == "wrote" and met.is_done and not self._is_of_another(met) and met.record not in self.accounted
        )  # fmt: skip

    def refused(self) -> Events:
        return self._list(lambda met: met.is_refused and self._is_exact(met))

    def keys_of(self, events: Events) -> dict[int, list[str]]:
        return {event["index"]: self.keys.get(event["index"], []) for event in events}
