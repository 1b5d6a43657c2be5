"""What a process keeps of `heard` (`lineage.heard`): read once of each segment, but for the hours of busy days.

Forgotten with an erasure. What has none, the newest records and those of a segment that a question sees a part of, is made for each.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from lineage import heard
from lineage.snapshots import Segment, Snapshot

Sealed = Callable[[Sequence[str], str], str]
"""Gives the SQL of a file of some segments."""
SCHEMA = pa.schema([*heard.SCHEMA, ("folder", pa.dictionary(pa.int32(), pa.string()))])
FOLDER = "split_part(filename, '/', -2)"
REPEATED = ("what", "environment", "datasource", "source", "kind")


class Cursor(Protocol):
    """What is used of a DuckDB cursor; `lineage.engine` has them."""

    def execute(self, query: str, /) -> Any: ...
    def sql(self, query: str, /) -> Any: ...
    def register(self, name: str, table: object, /) -> Any: ...


class Heard(NamedTuple):
    """Where to look closer than at whole days, by the `folder` of a row of `heard`."""

    sealed: Sealed
    rest: str

    def records(self, folders: Collection[str | None]) -> str:
        """SQL of the records of these segments; None: of those that lie in none as a whole."""
        named = [folder for folder in folders if folder]
        parts = [f"select * from {self.sealed(named, 'events')}"] if named else []  # noqa: S608 - our own files
        return f"({' union all '.join([*parts, *([self.rest] if None in folders else [])])})"

    def hours(self, folders: Collection[str]) -> str:
        """SQL of the hours of busy days in these segments."""
        return f"(select *, {FOLDER} as folder from {self.sealed(list(folders), 'heard')} where what = 'hour')"  # noqa: S608


class Listening:
    """`heard` of the sealed segments that were asked of last, as one table, and of what was unsealed then."""

    def __init__(self, sealed: Sealed) -> None:
        self.sealed = sealed
        self.lock = threading.Lock()
        self.of: tuple[Any, ...] = ()
        self.forget()

    def forget(self) -> None:
        self.table, self.folders = _table(SCHEMA.empty_table()), frozenset[str]()
        self.newest: tuple[tuple[Any, ...], pa.Table] = ((), heard.SCHEMA.empty_table())

    @property
    def remembers(self) -> bool:
        return bool(self.folders or self.newest[0])

    def now(self, *of: object) -> None:
        """Store and last erasure, as they stand: of no other state anything is kept."""
        with self.lock:
            if self.of != of:
                self.of = of
                self.forget()

    def hear(self, cursor: Cursor, snap: Snapshot, size: int) -> Heard:
        """Makes the view `heard` of the first `size` records; its column `folder` is null where they lie in no segment as a whole."""
        whole = [one for one in snap.segments if one.following <= size]
        cursor.register("heard_sealed", self._sealed(cursor, snap, whole))
        parts = [f"select * from tail_events where index >= {snap.sealed_to} and index < {size}"]  # noqa: S608
        for one in snap.segments[len(whole) : len(whole) + 1]:
            parts.append(f"select * from {self.sealed([one.folder], 'events')} where index < {size}")  # noqa: S608
        rest = " union all ".join(parts)
        cursor.register("heard_rest", self._rest(cursor, snap, size, rest if len(parts) > 1 else ""))
        cursor.execute(
            "create temp view heard as select * replace (folder::varchar as folder) from heard_sealed "
            "union all select *, null as folder from heard_rest"
        )
        return Heard(self.sealed, rest)

    def _rest(self, cursor: Cursor, snap: Snapshot, size: int, records: str) -> pa.Table:
        """Of what lies in no segment as a whole; without `records`, in the tail alone."""
        state = (snap.store, snap.erased_at, snap.sealed_to, size)
        with self.lock:
            if not records and self.newest[0] == state:
                return self.newest[1]
        if not records:
            cursor.register("heard_tail", snap.events.select(heard.READ))
            records = f"from heard_tail where index >= {snap.sealed_to} and index < {size}"
        made: pa.Table = cursor.sql(heard.at_once(f"({records})")).to_arrow_table()
        with self.lock:
            if self.of == state[:2] and size == snap.size:
                self.newest = state, made
        return made

    def _sealed(self, cursor: Cursor, snap: Snapshot, segments: Sequence[Segment]) -> pa.Table:
        with self.lock:
            table, known = self.table, self.folders
        folders = frozenset(one.folder for one in segments)
        if known - folders:
            table = table.filter(pc.is_in(table["folder"].cast(pa.string()), pa.array(folders, pa.string())))
        if folders - known:
            fresh = _read(cursor, self.sealed, [one for one in segments if one.folder not in known])
            table = pa.concat_tables([table, *fresh]).unify_dictionaries().combine_chunks()
        with self.lock:
            # A question as of an older size, or of a state before an erasure, leaves nothing behind.
            if self.of == (snap.store, snap.erased_at) and len(segments) == len(snap.segments):
                self.table, self.folders = table, folders
        return table


def _read(cursor: Cursor, sealed: Sealed, segments: Sequence[Segment]) -> Iterator[pa.Table]:
    if stored := [one.folder for one in segments if one.has_heard]:
        sql = f"select *, {FOLDER} as folder from {sealed(stored, 'heard')} where what <> 'hour'"  # noqa: S608
        yield _table(cursor.sql(sql).to_arrow_table())
    for one in segments:
        if not one.has_heard:
            made = heard.made_of(sealed([one.folder], "events"))
            sql = f"select * replace (false as busy), '{one.folder}' as folder from ({made}) where what <> 'hour'"  # noqa: S608
            yield _table(cursor.sql(sql).to_arrow_table())


def _table(rows: pa.Table) -> pa.Table:
    """With each text that comes again and again kept once."""
    rows = rows.select(SCHEMA.names).cast(SCHEMA)
    for name in REPEATED:
        rows = rows.set_column(rows.schema.get_field_index(name), name, rows[name].dictionary_encode())
    return rows
