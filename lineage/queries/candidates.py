"""Which few records a question can be about, by look-ups: it is then asked of them alone, in its own words.

What is found here may be more than the question means, never less: its conditions are in its SQL, once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from lineage.access import Viewer
from lineage.engine import Question
from lineage.events import shifted
from lineage.extracts import Indexes
from lineage.extracts.blocks import TOUCHED
from lineage.extracts.layers import Term
from lineage.extracts.looking import Lookup, Unable, Wanted, by_index, by_time
from lineage.extracts.postings import NOTHING, Damaged
from lineage.extracts.terms import APART, DONE, NOT_DONE, REAL
from lineage.extracts.writings import ALONE, UNDONE
from lineage.moments import microseconds, moment
from lineage.queries.ask import Window

RELATION, KEY, ACCESS, KEY_COLUMNS = (TOUCHED.index(name) for name in ("relation", "key", "access", "key_columns"))
ALL = 1 << 40
KEYS_MOST = 64
RECORDS_MOST = 20_000
"""Of more candidates a question is asked of the whole log."""
UNREAD_LEAST = 64
"""Of so many that no list shows it is counted what they tell of; fewer are read."""
FIRST = 2_000
"""So many statements that wrote are looked at first."""


def wanted(viewer: Viewer, window: Window, marked: int = 0, unmarked: int = 0) -> Wanted | None:
    """Scope and window; None for a viewer who reads no records."""
    if not viewer.reads_records:
        return None
    since = max((at for at in (window.since, viewer.from_at) if at), default=None)
    until = min((at for at in (window.until, viewer.until_at) if at), default=None)
    environments = frozenset(viewer.environments) or None
    if window.environment:
        own = frozenset({window.environment})
        environments = own & environments if environments else own
    return Wanted(
        marked, unmarked, microseconds(since) if since else None, microseconds(until) if until else None,
        environments, frozenset(viewer.datasources) or None,
    )  # fmt: skip


def key_columns(
    look: Lookup, viewer: Viewer, datasource: str, relations: Sequence[str], of: Callable[[Any], list[str]]
) -> list[str]:
    """As `places.key_columns`; `of` finds the relation's among the keys of a snapshot."""
    touches = KEY_COLUMNS, RELATION, ACCESS
    before = wanted(dataclasses.replace(viewer, from_at=None), Window())
    for index in look.newest([by_time("state", datasource)], before, 1) if before else ():
        if known := of(_keys(look, datasource, int(index))):
            return known
    asked = wanted(viewer, Window())
    terms = [by_index("keyed", datasource, relation) for relation in relations]
    for _, told in look.contents(look.newest(terms, asked, 1)) if asked else ():
        for columns, relation, access in (tuple(touch[n] for n in touches) for touch in told):
            if relation in relations and access == "changed" and columns:
                return list(columns)
    return []


def _keys(look: Lookup, datasource: str, index: int) -> list[dict[str, Any]]:
    """The keys that a snapshot of this database tells of, which are many."""
    known = look.keys.get(datasource)
    if known is None or known[0] != index:
        ((row, _),) = look.contents(np.array([index]))
        told = msgspec.json.decode(row[look.columns.index("state")])
        known = look.keys[datasource] = index, told.get("keys", [])
    return known[1]


def states(look: Lookup, viewer: Viewer, at: dt.datetime | None = None) -> list[dict[str, Any]]:
    """As `people.latest_states` has them now or at a time, each with its index and `state` as text."""
    until = shifted(at, dt.timedelta(microseconds=1)) if at else None
    before = wanted(dataclasses.replace(viewer, from_at=None), Window(until=until))
    terms = [by_time("state", datasource) for datasource in look.datasources()]
    found = look.last_of_each(terms, before) if before is not None else NOTHING
    indexes = found[found >= 0]
    places = (
        [look.columns.index(name) for name in ("index", "datasource", "occurred_at", "state")] if len(indexes) else []
    )
    rows = [[row[place] for place in places] for row, _ in look.contents(indexes)]
    return [
        {"index": index, "datasource": datasource, "occurred_at": moment(at), "state": state}
        for index, datasource, at, state in rows
        if at is not None
    ]


T = TypeVar("T")


def told(question: Question, tell: Callable[[Lookup], T | None]) -> T | None:
    """What look-ups tell; None where they cannot."""
    look = question.look()
    with contextlib.suppress(Unable, Damaged):
        return tell(look) if look is not None else None
    return None


@contextlib.contextmanager
def narrowed(question: Question, find: Callable[[Lookup], Indexes]) -> Iterator[None]:
    """Within it there are only the records that are found; all of them where look-ups cannot tell, or it is one among few already."""
    look = question.look() if not question.is_narrowed else None
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(Unable, Damaged):
            if look is not None:
                stack.enter_context(question.narrowed(look, find(look)))
        yield


def session(look: Lookup, viewer: Viewer, key: str) -> Indexes:
    """The records of one session in scope, beside some that a hash brings. Raises Unable."""
    asked = wanted(viewer, Window())
    found = look.newest([by_time("session", key)], asked, RECORDS_MOST + 1) if asked else NOTHING
    if len(found) > RECORDS_MOST:
        raise Unable
    return found


def decisions(look: Lookup, viewer: Viewer, cited: Iterable[str]) -> tuple[Indexes, Indexes]:
    """The decisions on these tickets and requests: all, and those in scope."""
    terms, asked = [by_time("leave", each) for each in cited], wanted(viewer, Window())
    return look.newest(terms, Wanted(), ALL), look.newest(terms, asked, ALL) if asked else NOTHING


class Row:
    """The records that tell of one row, or may have met it. `most` is how many each list shows."""

    def __init__(
        self, look: Lookup, viewer: Viewer, window: Window, datasource: str, relations: Sequence[str], most: int
    ) -> None:
        self.look, self.viewer, self.window, self.most = look, viewer, window, most
        self.datasource, self.relations = datasource, relations
        self.has_more = False
        self.unread = NOTHING
        """Further reads that may have met the row, which no list shows."""
        self.uncertain: set[int] = set()

    def found(self, key: str, columns: Sequence[str], pairs: Sequence[str], wider: int) -> Indexes:
        """Of each list of `lives.row` at least the newest; of `could_have_read` mostly no more than `wider`, the others are `unread`.

        Raises Unable.
        """
        met = pairs[:1] if pairs else [] if columns else [key]
        parts = [
            self._changed(key),
            self._exact(key, columns, pairs),
            self._loose_reads(columns, pairs, wider),
            self._writes(columns, pairs),
            self._all("keyless"),
            self._every(self._terms("refused", met), NOT_DONE),
        ]
        return np.unique(np.concatenate(parts))

    def _newest(self, terms: Sequence[Term], most: int, marked: int = 0) -> Indexes:
        asked = wanted(self.viewer, self.window, REAL | marked)
        return self.look.newest(terms, asked, most) if asked and terms else NOTHING

    def _every(self, terms: Sequence[Term], marked: int = 0) -> Indexes:
        found = self._newest(terms, RECORDS_MOST + 1, marked)
        if len(found) > RECORDS_MOST:
            raise Unable
        return found

    def _all(self, kind: str) -> Indexes:
        return self._newest([by_time(kind, self.datasource, relation) for relation in self.relations], self.most)

    def _terms(self, kind: str, values: Sequence[str], *before: str) -> list[Term]:
        return [
            by_time(kind, self.datasource, relation, *before, value) for relation in self.relations for value in values
        ]

    def _changed(self, key: str) -> Indexes:
        """Changes under the key, and under each that a row had before it got one of these."""
        keys, found = [key], [self._newest(self._terms("row", [key], "changed"), self.most)]
        for number, one in enumerate(keys):
            if len(keys) > KEYS_MOST:
                raise Unable
            if number:
                found.append(self._every(self._terms("row", [one], "changed")))
            for _, touches in self.look.contents(found[-1]):
                told = (touch[KEY] for touch in touches if touch[ACCESS] == "changed" and touch[KEY] is not None)
                keys += [name for name in dict.fromkeys(told) if name not in keys]
        return np.concatenate(found)

    def _exact(self, key: str, columns: Sequence[str], pairs: Sequence[str]) -> Indexes:
        """Reads whose conditions fix the whole key."""
        if len(pairs) > 1:
            return self._every(self._terms("pair", pairs[:1], "read"), DONE)
        terms = self._terms("pair", pairs, "read") if pairs else [] if columns else self._terms("row", [key], "read")
        return self._newest(terms, self.most, DONE)

    def _loose(self, access: str, columns: Sequence[str]) -> list[Term]:
        """Accesses whose conditions fix no column of the key."""
        return [
            by_time("shape", self.datasource, relation, access, shape)
            for relation, shape in self.look.shapes(self.datasource, self.relations)
            if not set(shape.split(APART)) & set(columns)
        ]

    def _loose_reads(self, columns: Sequence[str], pairs: Sequence[str], wider: int) -> Indexes:
        loose = self._loose("read", columns if pairs else ())
        if not columns:
            # Some of these may be reads of this very key.
            return self._every(loose, DONE)
        part = self._every(self._terms("pair", pairs, "read"), DONE) if len(pairs) > 1 else NOTHING
        found = self._newest(loose, self.most, DONE)
        # Each of these is one: their terms say so.
        self.has_more = len(found) >= self.most
        if self.has_more or len(found) - wider >= UNREAD_LEAST:
            found, self.unread = found[:wider], found[wider:]
        return np.concatenate([found, part])

    def _writes(self, columns: Sequence[str], pairs: Sequence[str]) -> Indexes:
        """Statements that wrote and may have met the row, of which no image tells: of those by key all, of the others the newest."""
        by_key = self._newest(self._terms("pair", pairs, "wrote"), ALL, DONE)
        told = by_key[~self.accounted(by_key)]
        if len(told) > RECORDS_MOST:
            raise Unable
        found = np.concatenate([told, self._loose_writes(self._loose("wrote", columns if pairs else ()))])
        self.uncertain |= set(found.tolist())
        return found

    def _loose_writes(self, terms: Sequence[Term]) -> Indexes:
        most = FIRST
        while True:
            some = self._newest(terms, most, DONE)
            kept = some[~self.accounted(some)]
            if len(some) < most or len(kept) >= self.most:
                return kept[: self.most]
            most *= 4

    def accounted_of(self, written: Iterable[int]) -> set[int]:
        """Which of these records, that wrote, are `accounted` for: of those that `found` gave as uncertain it is known."""
        asked = np.array(sorted(set(written) - self.uncertain), np.int64)
        return set(asked[self.accounted(asked)].tolist()) if len(asked) else set()

    def accounted(self, indexes: Indexes) -> NDArray[np.bool_]:
        """For each of these whether nothing that it wrote is uncertain: it was undone, or changes of the table tell of its transaction."""
        ran, asked = self.look.ran(indexes), wanted(self.viewer, self.window, REAL)
        found = np.asarray(ran == UNDONE, np.bool_)
        if asked:
            # Many statements are of one transaction.
            each, of = np.unique(ran, return_inverse=True)
            found |= self.look.captured(self.datasource, self.relations, each, asked)[of] & (ran != ALONE)
        return found
