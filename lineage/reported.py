"""The views `raw_events` and `raw_touches`: what sources reported, in sealed files and in the tail. No DuckDB here.

They are the same for every question as long as the sealed files are, so they are made once and lie in a schema; the tail
and the variables `log_size` and `sealed_to` are each question's own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from lineage.snapshots import Snapshot

NAMES = ("events", "touches")


def enter(schema: str) -> str:
    """SQL after which this schema is the present one, with these views beside it."""
    return f"set search_path = '{schema}' || coalesce(',' || getvariable('reported'), '');"


Day = tuple[int, int, int]
"""Days since 1970, and from which index to before which some of its records lie."""
APART = 1_000_000
"""Of each such part of the log it is known on its own where the records of a day lie."""


class Cursor(Protocol):
    """What is used of a DuckDB cursor; `lineage.engine` has them."""

    def execute(self, query: str, /) -> Any: ...
    def register(self, name: str, table: object, /) -> Any: ...
    def cursor(self) -> Any: ...


@dataclasses.dataclass(eq=False)
class Views:
    """The schema in which the views of these folders lie, and how many questions use it."""

    schema: str
    of: tuple[str, tuple[str, ...]]
    users: int = 0
    days: list[Day] | None = None


class Reported:
    """The views of the sealed files that were asked for last. `sealed` gives the SQL of a file of some segments."""

    def __init__(self, database: Cursor, sealed: Callable[[Sequence[str], str], str]) -> None:
        self.database, self.sealed = database, sealed
        self.lock = threading.Lock()
        self.newest: Views | None = None
        self.made = 0

    def take(self, cursor: Cursor, snap: Snapshot, size: int) -> Views:
        """The views for this cursor, of a log of `size` records: made where nobody has, and in its search path."""
        for name in NAMES:
            cursor.register(f"tail_{name}", getattr(snap, name))
        cursor.execute(f"set variable log_size = {int(size)}; set variable sealed_to = {int(snap.sealed_to)}")
        of = (snap.store, snap.folders)
        with self.lock:
            found = self.newest
            if found is None or found.of != of:
                self.made += 1
                found = Views(f"reported_{self.made}", of)
                self._make(cursor, found)
                old, self.newest = self.newest, found
                if old is not None and not old.users:
                    self._drop(old)
            found.users += 1
        cursor.execute(f"set variable reported = '{found.schema}'; set search_path = '{found.schema}'")
        return found

    def known_days(self, snap: Snapshot) -> list[Day] | None:
        """As `days`, where somebody asked for them already."""
        with self.lock:
            found = self.newest
            return found.days if found is not None and found.of == (snap.store, snap.folders) else None

    def days(self, cursor: Cursor, views: Views, snap: Snapshot) -> list[Day]:
        """Where the records of each day lie in those sealed files that have `heard` beside them: there, and nowhere else."""
        if views.days is None:
            folders = [one.folder for one in snap.segments if one.has_heard]
            rows = []
            if folders:
                rows = cursor.execute(
                    f"select day, min(index), max(last_index) + 1 from {self.sealed(folders, 'heard')} "  # noqa: S608
                    f"where what = 'day' group by day, index // {APART}"
                ).fetchall()
            views.days = [(int(day), int(first), int(following)) for day, first, following in rows]
        return views.days

    def give_back(self, views: Views) -> None:
        with self.lock:
            views.users -= 1
            if not views.users and views is not self.newest:
                self._drop(views)

    def _make(self, cursor: Cursor, views: Views) -> None:
        cursor.execute(f"create schema {views.schema}")
        for name in NAMES:
            sealed = ""
            if views.of[1]:
                sealed = (
                    f"select * from {self.sealed(views.of[1], name)} where index < getvariable('log_size') union all "  # noqa: S608
                )
            cursor.execute(
                f"create view {views.schema}.raw_{name} as {sealed}select * from tail_{name} "  # noqa: S608 - our own names
                "where index >= getvariable('sealed_to') and index < getvariable('log_size')"
            )

    def _drop(self, views: Views) -> None:
        with contextlib.closing(self.database.cursor()) as own:
            own.execute(f"drop schema if exists {views.schema} cascade")
