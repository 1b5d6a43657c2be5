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

from lineage import concerned, errors, facts, joins
from lineage.snapshots import Snapshot

REFERENCE = ("identities", "context_roles", "conflicted")
LEAST = 20_000
"""Sealed facts from which on what is sealed is settled apart: of fewer, all is made in less time than the parts are planned in."""


class Cursor(Protocol):
    """What is used of a DuckDB cursor; `lineage.engine` has them."""

    def execute(self, query: str, /) -> Any: ...
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
class Joined(Made):
    """What `lineage.joins` made of the log as far as it was reported; with `settled`, only what the tail concerns is its own."""

    settled: Made | None = None


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
        self.settled: Made | None = None
        self.told = _Told()
        self.made = 0

    def take(self, cursor: Cursor, snap: Snapshot, size: int, keep: bool) -> Joined:
        """The joins of this state, made on `cursor` where nobody has; `keep` them for the next question. Raises QueryTooLong."""
        state = (snap.store, snap.erased_at, snap.folders, snap.sealed_to, snap.reported_to(size))
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
        """The views of facts of this question: those stored with segments, or made of their events; those of the tail; all."""
        older = [folder for folder in snap.folders if folder not in snap.with_facts]
        parts = []
        if snap.with_facts:
            parts.append(f"select * from {self.sealed(snap.with_facts, 'facts')}")  # noqa: S608 - our own files
        if older:
            parts.append(
                f"select * from ({facts.made_of(self.sealed(older, 'events') + f' where index < {size}')})"  # noqa: S608
            )
        cursor.register("facts_none", facts.SCHEMA.empty_table())
        cursor.register("facts_unsealed", self.told.bring(cursor, snap))
        sealed = " union all by name ".join(parts or ["select * from facts_none"])
        cursor.execute(f"create or replace temp view facts_sealed as select * from ({sealed}) where index < {size}")  # noqa: S608
        cursor.execute(
            f"create or replace temp view facts_told as select * from facts_unsealed where index < {size}"  # noqa: S608
        )
        cursor.execute(
            "create or replace temp view facts as select * from facts_sealed union all by name select * from facts_told"
        )

    def _make(self, cursor: Cursor, fresh: Joined, snap: Snapshot, size: int) -> None:
        try:
            self.bring(cursor, snap, size)
            cursor.execute(f"create schema {fresh.name}; set schema = '{fresh.name}'")
            for name, table in zip(REFERENCE, fresh.reference, strict=True):
                cursor.register(f"given_{name}", table)
                cursor.execute(f"create table {name} as select * from given_{name}")  # noqa: S608 - our own names
            gateways, claims, proxies = cursor.execute(joins.PRESENT).fetchone() or (True, True, True)
            fresh.settled = self._settle(cursor, snap, size)
            if fresh.settled is None:
                cursor.execute(joins.statements(gateways, claims, proxies))
            else:
                self._patch(cursor, fresh.name, fresh.settled.name)
                cursor.execute(joins.views(proxies, (f"concerned_{fresh.name}", fresh.settled.name)))
        except BaseException:
            self._drop(fresh)
            raise

    def _settle(self, cursor: Cursor, snap: Snapshot, size: int) -> Made | None:
        """The tables of all that is sealed, made where nobody has; None where they are not worth it, or not all that is sealed counts."""
        if size < snap.sealed_to or not snap.with_facts or snap.with_facts != snap.folders:
            return None
        state, reference = (snap.store, snap.erased_at, snap.folders), (snap.context_roles,)
        with self.lock:
            if self.settled is not None and self.settled.holds(state, reference):
                self.settled.users += 1
                return self.settled
        count = cursor.execute(f"select count(*) from {self.sealed(snap.with_facts, 'facts')}").fetchone()  # noqa: S608
        if count is None or count[0] < LEAST:
            return None
        settled = Made(f"settled_{self.made}", state, reference, users=1)
        try:
            cursor.execute(f"create schema {settled.name}; set schema = '{settled.name}'")
            cursor.execute("create table context_roles as select * from given_context_roles")
            cursor.execute("create or replace temp view facts as select * from facts_sealed")
            cursor.execute(joins.tables(True, True))
        except BaseException:
            self._drop_schema(settled.name)
            raise
        self._replace_settled(settled)
        return settled

    def _patch(self, cursor: Cursor, name: str, settled: str) -> None:
        """The tables that the tail concerns, made of its facts and of those sealed ones that they meet; and views of both parts."""
        cursor.execute(f"create schema concerned_{name}; set schema = 'concerned_{name}'; drop view temp.facts")
        cursor.execute("create table context_roles as select * from given_context_roles")
        cursor.execute(concerned.keys(settled))
        cursor.execute(joins.tables(True, True) + concerned.only_concerned())
        cursor.execute(f"set schema = '{name}'")
        cursor.execute(concerned.patched(settled, f"concerned_{name}"))
        cursor.execute(
            "create or replace temp view facts as select * from facts_sealed union all by name select * from facts_told"
        )

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

    def _replace_settled(self, fresh: Made | None) -> None:
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
        with self.lock:
            settled.users -= 1
            unused = settled.users == 0 and settled is not self.settled
        if unused:
            self._drop_schema(settled.name)

    def _drop_schema(self, name: str) -> None:
        with contextlib.closing(self.database.cursor()) as own:
            own.execute(f"drop schema if exists {name} cascade")
