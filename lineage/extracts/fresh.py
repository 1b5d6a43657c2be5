"""What stored records no longer say as of another size, and those records as they are then: one way for keeper and questions.

Extracts hold what the log of size P says of the records below E. As of a size S only what is joined by a key of which the
facts between P and S tell something new can differ. The facts of these keys are read of the records that told them, found by
postings; the records that carry them are resolved anew, with all from E on. Nothing here goes by the size of the log
(docs/joining.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from lineage import facts, joins, proxied, reported, resolving
from lineage.extracts import Cursor, Indexes, keys
from lineage.extracts.postings import NOTHING, Hashes

FAR, PIECES = 500_000, 6
"""Records so far apart are read apart, in at most so many pieces and one."""


class State(NamedTuple):
    """What is stored: what the log of the size `as_of` says of the records below `extracted_to`; the `keys` of all extracts."""

    as_of: int
    extracted_to: int
    keys: Sequence[Path]


class Fresh(NamedTuple):
    """What the log of `size` says: stored rows not to be used (ascending), and the table of those that stand in their place
    and of those not stored yet.

    `keys` is the table (key, index) of the postings of these rows: `keys.write` takes it as the view `made_keys`.
    """

    stale: Indexes
    relation: str
    keys: str
    size: int


class Proxied(Exception):
    """A proxy names sessions of the server; what it told twice is counted over whole sessions, not by keys."""


def make(
    cursor: Cursor, name: str, state: State, size: int, told: str = "facts_of_all", roles: str = "given_context_roles"
) -> Fresh:
    """Makes, in the new schema `name`, what the log of `size` says that `state` does not, as tables of the schema.

    The cursor has `raw_events` with at least the records below `size`; in `told` at least the facts of the records from
    the least of E and S to the greatest of P and S; in `roles` whose messages count. It has no temporary view `facts`.
    Raises `Proxied`, and FileNotFoundError and `postings.Damaged` where an extract is not what it was.
    """
    return _made(_Making(cursor, name, state, size, roles), told)


def nothing(cursor: Cursor, name: str, records: Path, size: int) -> Fresh:
    """The same where extracts say all that the log of `size` does: tables without rows, as `records` of one of them has them.

    To join nothing took most of what it cost to ask 100,000 records something. Raises FileNotFoundError.
    """
    if not records.exists():
        raise FileNotFoundError(records)
    cursor.execute(f"""
        create schema {name}; create table {name}.fresh as select * from read_parquet('{records}') limit 0;
        create table {name}.fresh_keys (key ubigint, index bigint);
    """)  # noqa: S608 - our own file
    return Fresh(NOTHING, f"{name}.fresh", f"{name}.fresh_keys", size)


def extended(
    cursor: Cursor, name: str, state: State, before: Fresh, size: int,
    told: str = "facts_of_all", roles: str = "given_context_roles",
) -> Fresh:  # fmt: skip
    """The same as `make` gives, of what it gave of a smaller size: only what is told since then is joined.

    What `before` names is copied from, and still needed by who uses it. The cursor has what `make` asks for; in `told` are at
    least the facts of the records from `before.size` on. Raises as `make` does.
    """
    held = cursor.execute(f"select key, index from {before.keys}").fetchnumpy()  # noqa: S608 - our own name, as below
    reached = State(before.size, before.size, state.keys)
    making = _Making(cursor, f"{name}_since", reached, size, roles)
    making.posted = keys.Posted(
        state.keys, [keys.Held(np.asarray(held["key"], np.uint64), np.asarray(held["index"], np.int64))]
    )
    since = _made(making, told)
    cursor.register("fetched", pa.table({"index": since.stale}))
    cursor.execute(f"""
        create schema {name};
        create table {name}.fresh as
            select * from {before.relation} where index not in (from fetched) union all from {since.relation};
        create table {name}.fresh_keys as from {before.keys} union all from {since.keys};
        {reported.enter(name)} drop schema {name}_since cascade; drop view temp.fetched;
    """)  # noqa: S608
    stale = np.union1d(before.stale, since.stale[since.stale < state.extracted_to])
    return Fresh(stale, f"{name}.fresh", f"{name}.fresh_keys", size)


def drop(name: str) -> str:
    """SQL that drops what was made in this schema, and what is left where making it was stopped."""
    left = ("", "_joined", "_since", "_since_joined")
    return "".join(f"drop schema if exists {name}{each} cascade;" for each in left)


def _made(making: _Making, told: str) -> Fresh:
    state, size = making.state, making.size
    making.begin(told)
    making.close_over(making.asked(f"raw_events where index >= {state.extracted_to} and index < {size}"))
    stale = making.posted.carrying(making.changed(), making.low)
    making.choose(stale)
    if len(stale):
        making.close_over(making.asked("again"))
    made = making.resolve(stale)
    making.end()
    return made


class _Making:
    """The schemas and temporary tables of one `make`; `told` gathers all facts of the keys that matter."""

    def __init__(self, cursor: Cursor, name: str, state: State, size: int, roles: str) -> None:
        self.cursor, self.name, self.state, self.size, self.roles = cursor, name, state, size, roles
        self.low = min(state.extracted_to, size)
        self.posted = keys.Posted(state.keys)
        self.asked_for = self.met = np.empty(0, np.uint64)
        self.fetched = NOTHING
        self.looked = np.empty((4, 0), np.uint64)

    def begin(self, told: str) -> None:
        high = max(self.state.as_of, self.size)
        self.cursor.execute(f"create schema {self.name}")
        range_ = f"(select * from {told} where index >= {self.low} and index < {high})"  # noqa: S608 - our own names and numbers
        proxies = self.cursor.execute(f"select 1 from {range_} where fact = 'proxy' limit 1").fetchall()  # noqa: S608
        if proxies:
            raise Proxied
        self.cursor.execute(f"create table {self.name}.told as {keys.OF_FACTS.format(facts=range_)}")

    def asked(self, records: str) -> Hashes:
        """The keys of these records, and of all facts so far."""
        return self._keys(
            f"select {keys.EACH} as key from ({keys.REPORTED.format(records=records)}) "  # noqa: S608 - our own names
            f"union all select unnest([tx_key, vid_key, session_key, call_key]) from {self.name}.told"
        )

    def close_over(self, wanted: Hashes) -> None:
        """Gathers the facts of these keys, and of the keys that those lead to."""
        found: list[Indexes] = []
        while len(wanted := np.setdiff1d(wanted, self.asked_for)):
            self.asked_for = np.union1d(self.asked_for, wanted)
            met = self.posted.met(wanted)
            self.met = np.union1d(self.met, met)
            indexes = np.setdiff1d(self.posted.telling(met, self.low), self.fetched)
            if len(indexes):
                self.fetched = np.union1d(self.fetched, indexes)
                self._look(indexes)
                found.append(indexes)
            wanted = self._led_to()
        if found:
            self._tell(np.concatenate(found))

    def _look(self, indexes: Indexes) -> None:
        """Reads the keys of these records; the records themselves when all are known, once out of the files."""
        query = keys.LED_TO.format(records=f"({self._read('*', indexes)})")
        looked = np.stack(list(self.cursor.execute(query).fetchnumpy().values()))
        self.looked = np.concatenate([self.looked, looked], axis=1)

    def _led_to(self) -> Hashes:
        """Where what was asked for leads. What is told of a session leads nowhere: its records tell of much else."""
        asked = np.isin(self.looked[:-1], self.asked_for).any(axis=0)
        return np.setdiff1d(self.looked[:, asked], keys.NONE)

    def _tell(self, indexes: Indexes) -> None:
        """Adds all facts of these records. Some may be of keys that were not asked for: they are as old as the others."""
        self.cursor.execute(f"create or replace temp table tellers as {self._read(facts.COLUMNS, np.sort(indexes))}")
        found = keys.OF_FACTS.format(facts=f"({facts.made_of('tellers')})")
        self.cursor.execute(f"insert into {self.name}.told by name {found}")

    def _keys(self, query: str) -> Hashes:
        # Planned once so, and not again on the way to Arrow.
        found = self.cursor.execute(f"select distinct key from ({query}) where key is not null").fetchnumpy()  # noqa: S608
        return np.asarray(found["key"], np.uint64)

    def changed(self) -> Hashes:
        """The keys of which something may be said that was not, or the other way round."""
        first, following = sorted((self.state.as_of, self.size))
        self.cursor.execute(
            f"create or replace temp table turned as {keys.turned(f'{self.name}.told', first, following)}"
        )
        # All of them were asked for; of most no stored record has heard.
        return np.intersect1d(self._keys(keys.CHANGED.format(told=f"{self.name}.told")), self.met)

    def _read(self, columns: str, indexes: Indexes) -> str:
        """SQL of these records. What lies far apart is read apart: between its ends every index is looked at."""
        self.cursor.register("fetched", pa.table({"index": indexes}))
        gaps = np.flatnonzero(np.diff(indexes) > FAR)
        cuts = np.sort(gaps[np.argsort(np.diff(indexes)[gaps])[-PIECES:]]) + 1
        pieces = np.split(indexes, cuts)
        return " union all ".join(
            f"select {columns} from raw_events where index between {piece[0]} and {piece[-1]} and index in (from fetched)"  # noqa: S608
            for piece in pieces
        )

    def choose(self, stale: Indexes) -> None:
        """The records to resolve: the stale ones, read once, and those that are not stored."""
        rest = f"select * from raw_events where index >= {self.state.extracted_to} and index < {self.size}"  # noqa: S608
        if len(stale):
            self.cursor.execute(f"create or replace temp table again as {self._read('*', stale)}")
            rest = f"from again union all {rest}"
        self.cursor.execute(f"create view {self.name}.records as {rest}")

    def resolve(self, stale: Indexes) -> Fresh:
        """Joins the facts so far as of the size, in a schema of their own, and makes the tables of it."""
        name, told = self.name, f"{self.name}.told"
        self.cursor.execute(f"""
            create schema {name}_joined; {reported.enter(f"{name}_joined")}
            create view facts as select * from {told} where index < {self.size};
            create view context_roles as from {self.roles};
        """)  # noqa: S608 - our own names and numbers
        gateways, claims, _ = self.cursor.execute(joins.PRESENT).fetchone() or (True, True, True)
        self.cursor.execute(joins.tables(gateways, claims))
        self.cursor.execute(proxied.NO_SESSIONS + resolving.resolved(False, records=f"{name}.records"))
        self.cursor.execute(f"create table {name}.fresh as from resolved")
        known = f"(select * from {told} where index >= {self.state.extracted_to} and index < {self.size})"  # noqa: S608
        self.cursor.execute(f"create table {name}.fresh_keys as {keys.of_rows(known, f'{name}.records')}")
        return Fresh(stale, f"{name}.fresh", f"{name}.fresh_keys", self.size)

    def end(self) -> None:
        """Leaves only what was made."""
        name = self.name
        self.cursor.execute(f"""
            {reported.enter(name)} drop schema {name}_joined cascade;
            drop view {name}.records; drop table {name}.told;
        """)
        for table in ("again", "tellers", "turned"):
            self.cursor.execute(f"drop table if exists temp.{table}")
        self.cursor.execute("drop view if exists temp.fetched")
