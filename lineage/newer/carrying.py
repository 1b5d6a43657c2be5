"""What a process keeps of the records that no extract has: of the newest extracts, carried on to each newer size of the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from lineage import projections
from lineage.extracts import Extract, Indexes, reading
from lineage.joining import Cursor
from lineage.newer import chunks, saying
from lineage.newer.chunks import Reported
from lineage.newer.records import MOST, Records, Stand
from lineage.snapshots import Snapshot

STANDS_MOST = 16
"""So many sizes are remembered: a list that is paged through is of the size that it began with."""
STEP = 5_000
"""So many records are joined here at a time; more at once are made by the statements."""
Reporting = Callable[[], Cursor]
"""Gives a cursor with `raw_events` and `raw_touches`."""


class Carrying:
    """Not for two threads at once. All goes with an erasure."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.of: tuple[Any, ...] = ()
        self.roles: tuple[pa.Table, frozenset[Any]] | None = None
        self.records: Records | None = None
        self.stands: dict[int, Stand] = {}

    def take(
        self, reporting: Reporting, snap: Snapshot, every: Sequence[Extract], told_to: int, carry_on: bool
    ) -> Stand | None:
        """What is newer than these extracts as of this size; None where that is not kept here, which SQL tells then.

        It was made before, or is with `carry_on`, where no proxy reports. Raises FileNotFoundError and `postings.Damaged`.
        """
        of = (snap.store, snap.erased_at, tuple(one.folder for one in every), self._roles(snap))
        if of == self.of and told_to in self.stands:
            return self.stands[told_to]
        if not carry_on or not every[-1].following <= told_to <= every[-1].following + MOST:
            return None
        known = self.records.size if of == self.of and self.records is not None else every[-1].following
        if not 0 <= told_to - known <= STEP:
            return None
        if self.records is None or of != self.of:
            self.of, self.stands = of, {}
            self.records = Records(reading.state(every), of[-1])
        records = self.records
        try:
            stand = self._carried_on(records, reporting, snap, told_to)
        except BaseException as error:
            # What was done by half is of no use.
            self.of, self.records, self.stands = (), None, {}
            if isinstance(error, saying.Proxied):
                return None
            raise
        if self.records is records:
            # Else it was forgotten meanwhile.
            self.stands = dict([*self.stands.items(), (told_to, stand)][-STANDS_MOST:])
        return stand

    def _roles(self, snap: Snapshot) -> frozenset[Any]:
        if self.roles is None or self.roles[0] is not snap.context_roles:
            self.roles = snap.context_roles, frozenset(tuple(row.values()) for row in snap.context_roles.to_pylist())
        return self.roles[1]

    def _carried_on(self, records: Records, reporting: Reporting, snap: Snapshot, told_to: int) -> Stand:
        def read(indexes: Indexes) -> Reported:
            return _sealed(reporting(), indexes)

        sealed = min(snap.sealed_to, told_to)
        if records.size < sealed:
            first = records.size
            records.extend(_between(reporting(), first, sealed), sealed, read)
        return records.extend(chunks.between(snap.events, snap.touches, records.size, told_to), told_to, read)


def _between(cursor: Cursor, first: int, following: int) -> Reported:
    return _asked(cursor, f"index >= {first} and index < {following}")


def _sealed(cursor: Cursor, indexes: Indexes) -> Reported:
    cursor.register("given_sought", pa.table({"index": indexes}))
    return _asked(cursor, f"index between {indexes[0]} and {indexes[-1]} and index in (from given_sought)")


def _asked(cursor: Cursor, condition: str) -> Reported:
    """These records and their touches, out of sealed files."""
    events, touches = (
        cursor.sql(f"select {', '.join(schema.names)} from {name} where {condition} order by index")  # noqa: S608 - our own names and numbers
        .to_arrow_table()
        .cast(schema)
        for name, schema in (("raw_events", projections.EVENTS), ("raw_touches", projections.TOUCHES))
    )
    return events, touches
