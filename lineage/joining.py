"""The joins that a process keeps: made of facts for the newest state that was asked for, once, and shared between questions.

What readers do adds nothing to join (docs/decisions/009). Everything here is forgotten with an erasure.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
from django.conf import settings

from lineage import concerned, errors, facts, joins, reported
from lineage.snapshots import Snapshot

REFERENCE = ("identities", "context_roles", "conflicted")
LEAST = 20_000
"""Sealed facts from which on what is sealed is settled apart: of fewer, all is made in less time than the parts are planned in."""
GROWTH = 4
"""Settled anew when the facts that came since are more than so large a part of them."""


class Cursor(Protocol):
    """What is used of a DuckDB cursor; `lineage.engine` has them."""

    def execute(self, query: str, parameters: Any = ..., /) -> Any: ...
    def sql(self, query: str, /) -> Any: ...
    def register(self, name: str, table: object, /) -> Any: ...
    def cursor(self) -> Any: ...


@dataclasses.dataclass(eq=False)
class Made:
    """Tables in a schema of their own, the state that they are of, and how many use them."""

    name: str
    state: tuple[Any, ...]
    reference: tuple[pa.Table, ...]
    users: int = 0

    def holds(self, state: tuple[Any, ...], reference: tuple[pa.Table, ...]) -> bool:
        return self.state == state and all(a.equals(b) for a, b in zip(self.reference, reference, strict=True))


@dataclasses.dataclass(eq=False)
class Settled(Made):
    """The tables of the first `size` records, of which `count` facts tell."""

    size: int = 0
    count: int = 0


@dataclasses.dataclass(eq=False)
class Joined(Made):
    """What `lineage.joins` made of the log as far as it was reported; with `settled`, only what newer facts concern is its own."""

    settled: Settled | None = None


class _Told:
    """The facts of the tail from `first` to `following`, to which only those of newer records are added."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.of: tuple[Any, ...] = ()
        self.first = self.following = 0
        self.table = facts.SCHEMA.empty_table()

    def bring(self, cursor: Cursor, snap: Snapshot) -> pa.Table:
        """The facts of the whole tail of `snap`; some may be of records that are sealed, which does no harm."""
        of = (snap.store, snap.erased_at)
        if self.of != of or not self.first <= snap.sealed_to <= self.following:
            self.forget()
            self.of, self.first, self.following = of, snap.sealed_to, snap.sealed_to
        if self.first < snap.sealed_to:
            self.table = self.table.filter(pc.field("index") >= snap.sealed_to)
            self.first = snap.sealed_to
        if self.following < snap.size:
            cursor.register("told_last", snap.events)
            fresh = cursor.sql(facts.made_of(f"told_last where index >= {self.following}")).to_arrow_table()
            fresh = fresh.cast(facts.SCHEMA)
            self.table = pa.concat_tables([self.table, fresh]).combine_chunks()
            self.following = snap.size
        return self.table


class Joins:
    """The joins of the newest state that was asked for. `sealed` gives the SQL of a file of some segments."""

    def __init__(self, database: Cursor, sealed: Callable[[Sequence[str], str], str]) -> None:
        self.database, self.sealed = database, sealed
        self.making, self.lock = threading.Lock(), threading.Lock()
        self.newest: Joined | None = None
        self.settled: Settled | None = None
        self.told = _Told()
        self.made = 0

    def take(self, cursor: Cursor, snap: Snapshot, size: int, keep: bool) -> Joined:
        """The joins of this state, made on `cursor` where nobody has; `keep` them for the next question. Raises QueryTooLong."""
        state = (snap.store, snap.erased_at, snap.sealed_to, snap.reported_to(size))
        reference = (snap.identities, snap.context_roles, snap.conflicted)
        if not self.making.acquire(timeout=settings.QUERY_SECONDS):
            raise errors.QueryTooLong
        try:
            with self.lock:
                found = self.newest if self.newest is not None and self.newest.holds(state, reference) else None
                if found is not None:
                    found.users += 1
                    return found
            self.made += 1
            fresh = Joined(f"joined_{self.made}", state, reference, users=1)
            self._make(cursor, fresh, snap, size)
            if keep:
                self._replace(fresh)
            return fresh
        finally:
            self.making.release()

    def bring(self, cursor: Cursor, snap: Snapshot, size: int) -> None:
        """The view `facts` of this question: those stored with segments, or made of their events, and those of the tail."""
        older = [folder for folder in snap.folders if folder not in snap.with_facts]
        parts = ["select * from facts_unsealed"]
        if snap.with_facts:
            parts.append(f"select * from {self.sealed(snap.with_facts, 'facts')}")  # noqa: S608 - our own files
        if older:
            parts.append(
                f"select * from ({facts.made_of(self.sealed(older, 'events') + f' where index < {size}')})"  # noqa: S608
            )
        cursor.register("facts_unsealed", self.told.bring(cursor, snap))
        every = " union all by name ".join(parts)
        cursor.execute(f"create or replace temp view facts_of_all as select * from ({every}) where index < {size}")  # noqa: S608
        cursor.execute("create or replace temp view facts as from facts_of_all")

    def _make(self, cursor: Cursor, fresh: Joined, snap: Snapshot, size: int) -> None:
        try:
            self.bring(cursor, snap, size)
            cursor.execute(f"create schema {fresh.name}; {reported.enter(fresh.name)}")
            for name, table in zip(REFERENCE, fresh.reference, strict=True):
                cursor.register(f"given_{name}", table)
                cursor.execute(f"create table {name} as select * from given_{name}")  # noqa: S608 - our own names
            gateways, claims, proxies = cursor.execute(joins.PRESENT).fetchone() or (True, True, True)
            fresh.settled = self._settle(cursor, snap, size)
            cursor.execute(reported.enter(fresh.name))
            if fresh.settled is None:
                cursor.execute(joins.statements(gateways, claims, proxies))
            else:
                self._patch(cursor, fresh.name, fresh.settled)
                cursor.execute(joins.views(proxies, (f"concerned_{fresh.name}", fresh.settled.name)))
        except BaseException:
            self._drop(fresh)
            raise

    def _settle(self, cursor: Cursor, snap: Snapshot, size: int) -> Settled | None:
        """The tables of what is settled, made where nobody has or where much came since; None where they are not worth it."""
        if not snap.folders or snap.with_facts != snap.folders:
            return None
        state, reference = (snap.store, snap.erased_at), (snap.context_roles,)
        with self.lock:
            found = self.settled
            if found is not None and found.holds(state, reference) and found.size <= size:
                found.users += 1
            else:
                found = None
        if found is not None:
            if _count(cursor, f"index >= {found.size}") <= max(LEAST, found.count / GROWTH):
                return found
            self._leave(found)
        count = _count(cursor, f"index < {snap.sealed_to}") if size >= snap.sealed_to else 0
        if count < LEAST:
            return None
        settled = Settled(f"settled_{self.made}", state, reference, 1, snap.sealed_to, count)
        try:
            cursor.execute(f"create schema {settled.name}; {reported.enter(settled.name)}")
            cursor.execute("create table context_roles as select * from given_context_roles")
            cursor.execute(
                f"create or replace temp view facts as select * from facts_of_all where index < {settled.size}"  # noqa: S608
            )
            cursor.execute(joins.tables(True, True))
            cursor.execute("create or replace temp view facts as from facts_of_all")
        except BaseException:
            self._drop_schema(settled.name)
            raise
        self._replace_settled(settled)
        return settled

    def _patch(self, cursor: Cursor, name: str, settled: Settled) -> None:
        """The tables that newer facts concern, made of these and of those settled ones that they meet; and views of both parts."""
        cursor.execute(f"create schema concerned_{name}; {reported.enter(f'concerned_{name}')} drop view temp.facts")
        cursor.execute("create table context_roles as select * from given_context_roles")
        for part, condition in (("settled", "<"), ("newer", ">=")):
            chosen = f"select * from facts_of_all where index {condition} {settled.size}"  # noqa: S608 - a number
            cursor.execute(f"create or replace temp view facts_{part} as {chosen}")
        cursor.execute(concerned.keys(settled.name))
        cursor.execute(joins.tables(True, True) + concerned.only_concerned())
        cursor.execute(reported.enter(name))
        cursor.execute(concerned.patched(settled.name, f"concerned_{name}"))
        cursor.execute("create temp view facts as from facts_of_all")

    def give_back(self, joined: Joined) -> None:
        with self.lock:
            joined.users -= 1
            unused = joined.users == 0 and joined is not self.newest
        if unused:
            self._drop(joined)

    @property
    def remembers(self) -> bool:
        return self.newest is not None or self.settled is not None or self.told.table.num_rows > 0

    def forget(self) -> None:
        """What is remembered goes, with the names and reasons that it holds; a question that uses it ends first."""
        self.told = _Told()
        self._replace(None)
        self._replace_settled(None)

    def _replace(self, fresh: Joined | None) -> None:
        with self.lock:
            old, self.newest = self.newest, fresh
            unused = old is not None and old.users == 0
        if old is not None and unused:
            self._drop(old)

    def _replace_settled(self, fresh: Settled | None) -> None:
        with self.lock:
            old, self.settled = self.settled, fresh
            unused = old is not None and old.users == 0
        if old is not None and unused:
            self._drop_schema(old.name)

    def _drop(self, joined: Joined) -> None:
        self._drop_schema(joined.name)
        settled, joined.settled = joined.settled, None
        if settled is None:
            return
        self._drop_schema(f"concerned_{joined.name}")
        self._leave(settled)

    def _leave(self, settled: Settled) -> None:
        with self.lock:
            settled.users -= 1
            unused = settled.users == 0 and settled is not self.settled
        if unused:
            self._drop_schema(settled.name)

    def _drop_schema(self, name: str) -> None:
        with contextlib.closing(self.database.cursor()) as own:
            own.execute(f"drop schema if exists {name} cascade")


def _count(cursor: Cursor, condition: str) -> int:
    (count,) = cursor.execute(f"select count(*) from facts_of_all where {condition}").fetchone() or (0,)  # noqa: S608
    return int(count)
