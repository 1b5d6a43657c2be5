"""What a process keeps open of extracts: for the newest state that was asked for, what they hold and what is newer, once.

As `lineage.joining`, which answers where there are no extracts, or where too much is newer; the answers are the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
from collections.abc import Sequence
from typing import Any

from django.conf import settings

from lineage import errors, facts, joining, joins, proxied, reported, resolving, snapshots
from lineage.extracts import Extract, fresh, looking, newcomers, postings, reading, seeing, summing, sums
from lineage.joining import Cursor, Made
from lineage.snapshots import Snapshot


@dataclasses.dataclass(eq=False)
class Opened(Made):
    """The same of extracts. Of what the store itself said since, `own` has what lies below `own_to`. `told`: what it is made of."""

    own_to: int = 0
    told: tuple[Sequence[Extract], fresh.Fresh] | None = None


NEAR = 100_000
"""So many records may lie between what is extracted and what is asked of: those are joined, and held in memory."""
WORTH = 10_000
"""What is newer than the extracts is made of what was kept from so many records on: fewer are joined anew in less time."""
NOTHING = "of_nothing"
TABLES = ("identities", "conflicted")


class Opening:
    """The newest state of a process. `joins` are those of the same process."""

    def __init__(self, database: Cursor, joins_: joining.Joins) -> None:
        self.database, self.joins = database, joins_
        self.making, self.lock = threading.Lock(), threading.Lock()
        self.newest: Opened | None = None
        self.made = 0
        self.proxied: tuple[Any, ...] = ()
        self.has_nothing = False
        self.seeing = seeing.Seeing()
        self.summing = summing.Summing()
        self.coming = newcomers.Coming()

    def find(self, snap: Snapshot, size: int) -> Opened | None:
        """What was opened for a question of this size before; None where nobody has yet, or extracts cannot answer."""
        every = _there(snap, size)
        return self._found(_state(snap, size, every), snap) if every else None

    def _found(self, state: tuple[Any, ...], snap: Snapshot) -> Opened | None:
        with self.lock:
            found = self.newest
            if found is None or not found.holds(state, (snap.identities, snap.conflicted)):
                return None
            found.users += 1
            return found

    def take(self, cursor: Cursor, snap: Snapshot, size: int, keep: bool) -> Opened | None:
        """Opens what answers a question of this size; None where extracts cannot. Raises QueryTooLong."""
        every = _there(snap, size)
        if not every:
            return None
        state, reference = _state(snap, size, every), (snap.identities, snap.conflicted)
        told_to = state[-1]
        if not self.making.acquire(timeout=settings.QUERY_SECONDS):
            raise errors.QueryTooLong
        try:
            if (found := self._found(state, snap)) is not None:
                return found
            if self._cannot(state) or len(reading.there(every)) < len(every):
                return None
            self.made += 1
            opened = Opened(f"opened_{self.made}", state, reference, users=1, own_to=told_to)
            try:
                self._make(cursor, opened, snap, every, told_to)
            except fresh.Proxied:
                self.proxied = state
                return None
            except (postings.Damaged, FileNotFoundError):
                # The keeper makes them anew.
                return None
            if keep:
                self._replace(opened)
            return opened
        finally:
            self.making.release()

    def enter(self, cursor: Cursor, opened: Opened, size: int) -> None:
        """Makes these the views of a question of this size. What the store itself said last joins with nothing.

        It lies in the tail: what is sealed counts as told (`Snapshot.reported_to`).
        """
        with self.lock:
            if opened.own_to < size:
                self._nothing(cursor)
                cursor.execute(f"set variable own_from = {opened.own_to}; {reported.enter(NOTHING)}")
                cursor.execute(f"insert into {opened.name}.own from resolved")
                opened.own_to = size
        cursor.execute(reported.enter(opened.name))

    def look(self, asked: seeing.Asked, opened: Opened) -> looking.Lookup | None:
        """Look-ups in what is open, for one question; None where a file is not what was written."""
        look = self.seeing.look(asked, opened.name, *opened.told) if opened.told else None
        if look is not None:
            look.sums = functools.partial(self._totals, asked, opened)
            look.firsts = functools.partial(self._first_accesses, asked, opened)
        return look

    def _totals(self, asked: seeing.Asked, opened: Opened, wanted: looking.Wanted) -> sums.Totals | None:
        """What was counted, out of sums; None where there are none, where they cannot tell, or where a file is damaged."""
        if opened.told is None or opened.told[1].size < opened.told[0][-1].following:
            return None
        with asked.limits(), contextlib.suppress(looking.Unable, postings.Damaged):
            summed = self.summing.take(asked.cursor, opened.name, *opened.told, asked.snap.identities)
            return summed.totals(wanted) if summed is not None else None
        return None

    def _first_accesses(self, asked: seeing.Asked, opened: Opened, wanted: looking.Wanted) -> int | None:
        """As `_totals`."""
        if opened.told is None or opened.told[1].size < opened.told[0][-1].following:
            return None
        with asked.limits():
            known = self.coming.take(asked.cursor, opened.name, *opened.told, asked.snap.identities)
            return known.count(wanted) if known is not None else None

    def _nothing(self, cursor: Cursor) -> None:
        """The joins of a log that tells nothing."""
        if not self.has_nothing:
            cursor.register("no_facts", facts.SCHEMA.empty_table())
            cursor.register("no_roles", snapshots.ROLES.empty_table())
            cursor.execute(f"""
                drop schema if exists {NOTHING} cascade; create schema {NOTHING}; {reported.enter(NOTHING)}
                create table facts as from no_facts; create table context_roles as from no_roles;
                create view own_records as
                    select * from tail_events where index >= getvariable('own_from') and index < getvariable('log_size');
                {joins.tables(True, True)} {proxied.NO_SESSIONS} {resolving.resolved(False, records="own_records")}
            """)  # noqa: S608 - our own words
            self.has_nothing = True

    def _cannot(self, state: tuple[Any, ...]) -> bool:
        """Whether a proxy was found among the newer facts already, of which this state has no fewer."""
        return bool(self.proxied) and self.proxied[:3] == state[:3] and self.proxied[3] <= state[3]

    def _before(self, state: tuple[Any, ...], every: Sequence[Extract]) -> Opened | None:
        """What was opened of these extracts when less was told, not to be dropped until it is given back."""
        with self.lock:
            found = self.newest
            if found is None or found.told is None or found.state[:3] != state[:3]:
                return None
            if not every[-1].following + WORTH <= found.told[1].size < state[3]:
                return None
            found.users += 1
            return found

    def _make(self, cursor: Cursor, opened: Opened, snap: Snapshot, every: Sequence[Extract], told_to: int) -> None:
        before = self._before(opened.state, every)
        try:
            cursor.execute(f"create schema {opened.name}; {reported.enter(opened.name)}")
            for name, table in zip(TABLES, opened.reference, strict=True):
                cursor.register(f"given_{name}", table)
                cursor.execute(f"create table {name} as select * from given_{name}")  # noqa: S608 - our own names
            known = before.told[1] if before is not None and before.told is not None else None
            told = newer(cursor, f"newer_{opened.name}", self.joins, snap, every, told_to, known)
            opened.told = every, told
            cursor.execute(reported.enter(opened.name))
            reading.stored(cursor, every, told.stale)
            below = f" where index < {told_to}" if told_to < every[-1].following else ""
            cursor.execute(f"""
                create table own as from {told.relation} limit 0;
                create view resolved as select * from stored{below} union all from {told.relation}
                    union all select * from own where index < getvariable('log_size');
            """)  # noqa: S608 - our own names
            cursor.execute(joins.REPORTED + resolving.ACTIVITY)
        except BaseException:
            self._drop(opened)
            raise
        finally:
            if before is not None:
                self.give_back(before)

    def give_back(self, opened: Opened) -> None:
        with self.lock:
            opened.users -= 1
            unused = opened.users == 0 and opened is not self.newest
        if unused:
            self._drop(opened)

    def forget(self) -> None:
        """As `joining.Joins.forget`."""
        self._replace(None)
        self.seeing.forget()
        self.summing.forget()
        self.coming.forget()

    def _replace(self, fresh: Opened | None) -> None:
        with self.lock:
            old, self.newest = self.newest, fresh
            unused = old is not None and old.users == 0
        if old is not None and unused:
            self._drop(old)

    def _drop(self, opened: Opened) -> None:
        with contextlib.closing(self.database.cursor()) as own:
            own.execute(f"drop schema if exists {opened.name} cascade; {fresh.drop(f'newer_{opened.name}')}")


def newer(
    cursor: Cursor, name: str, joins_: joining.Joins, snap: Snapshot, every: Sequence[Extract], size: int,
    before: fresh.Fresh | None = None,
) -> fresh.Fresh:  # fmt: skip
    """What the log of this size says that these extracts do not, in a new schema, of what was made `before` of less of it.

    Raises as `fresh.make`.
    """
    with joins_.making:
        joins_.bring(cursor, snap, max(size, every[-1].following if every else 0))
    cursor.execute("drop view temp.facts")
    cursor.register("given_context_roles", snap.context_roles)
    if before is not None:
        return fresh.extended(cursor, name, reading.state(every), before, size)
    return fresh.make(cursor, name, reading.state(every), size)


def _there(snap: Snapshot, size: int) -> Sequence[Extract]:
    """Those that answer a question of this size; none where a folder has gone."""
    every = nearest(snap.extracts, size)
    return every if all(reading.folder(one.folder).exists() for one in every) else ()


def _state(snap: Snapshot, size: int, every: Sequence[Extract]) -> tuple[Any, ...]:
    """What is opened is the same as long as this is; how far sources told stands last."""
    told_to = min(size, snap.reported_to(size) + 1)
    return snap.store, snap.erased_at, tuple(one.folder for one in every), told_to


def nearest(every: Sequence[Extract], size: int) -> Sequence[Extract]:
    """The extracts, from the first on, that tell of the log nearest to this size; none where all are far from it."""
    if not every:
        return ()
    count = min(range(len(every)), key=lambda number: abs(every[number].following - size)) + 1
    return every[:count] if abs(every[count - 1].following - size) <= NEAR else ()
