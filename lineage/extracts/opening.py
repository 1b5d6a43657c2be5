"""What a process keeps open of extracts: for the newest state that was asked for, what they hold and what is newer, once.

As `lineage.joining`, which answers where there are no extracts, or where too much is newer; the answers are the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from django.conf import settings

from lineage import errors, facts, joining, joins, proxied, reported, resolving, snapshots
from lineage.extracts import (
    RECORDS,
    Extract,
    Indexes,
    fresh,
    looking,
    newcomers,
    postings,
    reading,
    seeing,
    summing,
    sums,
    texts,
)
from lineage.joining import Cursor, Made
from lineage.newer import carrying
from lineage.newer.records import Stand
from lineage.snapshots import Snapshot


@dataclasses.dataclass(eq=False, kw_only=True)
class Opened(Made):
    """The same of extracts `every`. Of what the store itself said since, `own` has what lies below `own_to`.

    `stand` is what is newer, for look-ups; `told` are tables of it, made where SQL is asked, of those of `before`.
    """

    snap: Snapshot
    every: Sequence[Extract]
    own_to: int
    stand: Stand | None = None
    told: fresh.Fresh | None = None
    before: Opened | None = None
    silent: dict[int, bool] = dataclasses.field(default_factory=dict)
    """By the size of a question: whether what the store itself said last has nothing that anybody looks up."""


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
        self.of: tuple[Any, ...] = ()
        self.proxied: tuple[Any, ...] = ()
        self.has_nothing = False
        self.newer = carrying.Carrying()
        self.seeing = seeing.Seeing()
        self.summing = summing.Summing()
        self.coming = newcomers.Coming()

    @property
    def remembers(self) -> bool:
        return self.newest is not None or self.newer.records is not None

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

    def take(self, reporting: carrying.Reporting, snap: Snapshot, size: int, keep: bool) -> Opened | None:
        """Opens what answers a question of this size; None where extracts cannot. Raises QueryTooLong."""
        every = _there(snap, size)
        if not every:
            return None
        state, reference = _state(snap, size, every), (snap.identities, snap.conflicted)
        with self._making():
            if (found := self._found(state, snap)) is not None:
                return found
            if self._cannot(state) or len(reading.there(every)) < len(every):
                return None
            self.made += 1
            opened = Opened(f"opened_{self.made}", state, reference, users=1, snap=snap, every=every, own_to=state[-1])
            try:
                opened.stand = self.newer.take(reporting, snap, every, state[-1], keep)
                if opened.stand is None:
                    self._make(reporting(), opened)
                else:
                    opened.before = self._before(opened)
            except fresh.Proxied:
                self.proxied = state
                return None
            except (postings.Damaged, FileNotFoundError):
                # The keeper makes them anew.
                return None
            if keep:
                self._replace(opened)
            self._leave_nothing_of(snap)
            return opened

    @contextlib.contextmanager
    def _making(self) -> Iterator[None]:
        """One makes, the others wait for it. Raises QueryTooLong."""
        if not self.making.acquire(timeout=settings.QUERY_SECONDS):
            raise errors.QueryTooLong
        try:
            yield
        finally:
            self.making.release()

    def tables(self, cursor: Cursor, opened: Opened) -> fresh.Fresh | None:
        """What is newer, as tables, made where nobody has; None where a file has gone. The cursor has `raw_events`."""
        if opened.told is None:
            with self._making(), contextlib.suppress(fresh.Proxied, postings.Damaged, FileNotFoundError):
                if opened.told is None:
                    self._make(cursor, opened)
            self._leave_nothing_of(opened.snap)
        return opened.told

    def enter(self, cursor: Cursor, opened: Opened, size: int) -> bool:
        """Makes these the views of a question of this size; not where a file has gone. What the store itself said last joins with nothing.

        It lies in the tail: what is sealed counts as told (`Snapshot.reported_to`).
        """
        if self.tables(cursor, opened) is None:
            return False
        with self.lock:
            if opened.own_to < size:
                self._nothing(cursor)
                cursor.execute(f"set variable own_from = {opened.own_to}; {reported.enter(NOTHING)}")
                cursor.execute(f"insert into {opened.name}.own from resolved")
                opened.own_to = size
        cursor.execute(reported.enter(opened.name))
        return True

    def look(self, asked: seeing.Asked, opened: Opened) -> looking.Lookup | None:
        """Look-ups in what is open, for one question; None where a file is not what was written."""
        asked, told = asked._replace(told_to=opened.state[-1]), opened.stand or opened.told
        if asked.size not in opened.silent:
            opened.silent[asked.size] = seeing.is_silent(asked)
        asked = asked._replace(is_silent=opened.silent[asked.size])
        if not asked.is_silent:
            # What the store itself said last is asked of a table.
            told = told if self.tables(asked.cursor(), opened) is not None else None
        look = self.seeing.look(asked, opened.name, opened.every, told) if told is not None else None
        if look is not None:
            look.sums = functools.partial(self._totals, asked, opened)
            look.firsts = functools.partial(self._first_accesses, asked, opened)
            look.texts = functools.partial(_of_words, asked)
        self._leave_nothing_of(opened.snap)
        return look

    def _totals(self, asked: seeing.Asked, opened: Opened, wanted: looking.Wanted) -> sums.Totals | None:
        """What was counted, out of sums; None where there are none, where they cannot tell, or where a file is damaged."""
        if opened.state[-1] < opened.every[-1].following:
            return None
        with asked.limits(), contextlib.suppress(looking.Unable, postings.Damaged):
            if (told := self._told(asked, opened)) is None:
                return None
            summed = self.summing.take(asked.cursor, opened.name, opened.every, told, asked.snap.identities)
            self._leave_nothing_of(opened.snap)
            return summed.totals(wanted) if summed is not None else None
        return None

    def _first_accesses(self, asked: seeing.Asked, opened: Opened) -> newcomers.Newcomers | None:
        """As `_totals`."""
        if opened.state[-1] < opened.every[-1].following:
            return None
        with asked.limits():
            if (told := self._told(asked, opened)) is None:
                return None
            known = self.coming.take(asked.cursor, opened.name, opened.every, told, asked.snap.identities)
            self._leave_nothing_of(opened.snap)
            return known

    def _told(self, asked: seeing.Asked, opened: Opened) -> fresh.Fresh | None:
        return opened.told if opened.told is not None else self.tables(asked.cursor(), opened)

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

    def _before(self, opened: Opened) -> Opened | None:
        """Whose tables of these extracts are of less of the log, not to be dropped until it is given back."""
        with self.lock:
            found = self.newest
            if found is not None and found.told is None:
                found = found.before
            if found is None or found.told is None or found.state[:3] != opened.state[:3]:
                return None
            if not opened.every[-1].following + WORTH <= found.told.size < opened.state[3]:
                return None
            found.users += 1
            return found

    def _make(self, cursor: Cursor, opened: Opened) -> None:
        snap, every, told_to = opened.snap, opened.every, opened.state[-1]
        before = opened.before or self._before(opened)
        opened.before = None
        try:
            cursor.execute(f"create schema {opened.name}; {reported.enter(opened.name)}")
            for name, table in zip(TABLES, opened.reference, strict=True):
                cursor.register(f"given_{name}", table)
                cursor.execute(f"create table {name} as select * from given_{name}")  # noqa: S608 - our own names
            known = before.told if before is not None else None
            told = newer(cursor, f"newer_{opened.name}", self.joins, snap, every, told_to, known)
            cursor.execute(reported.enter(opened.name))
            reading.stored(cursor, every, told.stale)
            below = f" where index < {told_to}" if told_to < every[-1].following else ""
            cursor.execute(f"""
                create table own as from {told.relation} limit 0;
                create view resolved as select * from stored{below} union all from {told.relation}
                    union all select * from own where index < getvariable('log_size');
            """)  # noqa: S608 - our own names
            cursor.execute(joins.REPORTED + resolving.ACTIVITY)
            opened.told = told
        except BaseException:
            self._drop_tables(opened)
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

    def now(self, *of: object) -> None:
        """As `listening.Listening.now`."""
        if self.of != of:
            self.of = of
            self.forget()

    def _leave_nothing_of(self, snap: Snapshot) -> None:
        """A question of a state before an erasure leaves nothing behind: what it brought here since is forgotten again."""
        if self.of and (snap.store, snap.erased_at) != self.of:
            self.forget()
            self.joins.forget()

    def forget(self) -> None:
        """As `joining.Joins.forget`."""
        self._replace(None)
        self.newer.forget()
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
        before, opened.before = opened.before, None
        if before is not None:
            self.give_back(before)
        if opened.told is not None:
            self._drop_tables(opened)

    def _drop_tables(self, opened: Opened) -> None:
        with contextlib.closing(self.database.cursor()) as own:
            own.execute(f"drop schema if exists {opened.name} cascade; {fresh.drop(f'newer_{opened.name}')}")


def _of_words(asked: seeing.Asked, *of: Any) -> Indexes:
    with asked.limits():
        return texts.newest(lambda: asked.bare().cursor, *of)


def newer(
    cursor: Cursor, name: str, joins_: joining.Joins, snap: Snapshot, every: Sequence[Extract], size: int,
    before: fresh.Fresh | None = None,
) -> fresh.Fresh:  # fmt: skip
    """What the log of this size says that these extracts do not, in a new schema, of what was made `before` of less of it.

    Raises as `fresh.make`.
    """
    if every and size == every[-1].following:
        return fresh.nothing(cursor, name, reading.folder(every[-1].folder) / RECORDS, size)
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
