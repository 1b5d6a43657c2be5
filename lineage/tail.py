"""The part of the log that is not sealed yet, as one process keeps it between questions: projected once, held by index."""

from __future__ import annotations

from typing import Any, NamedTuple

import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from lineage import projections

READ_MOST = 2_000
"""Records that are held as rows and Python objects at one time."""
PARTS_MOST = 64
NOTHING = projections.EVENTS.empty_table(), projections.TOUCHES.empty_table()
ROWS = (
    "select b.first_index + j.ordinal, j.leaf, j.actor, j.action, j.statement, j.change "
    "from ledger_batch b join ledger_journal j on j.slot = b.slot and j.batch = b.batch "
    "where b.first_index >= (select max(first_index) from ledger_batch where first_index <= %(first)s) and b.first_index < %(end)s "
    "and b.first_index + j.ordinal >= %(first)s and b.first_index + j.ordinal < %(end)s order by b.first_index, j.ordinal"
)


class Part(NamedTuple):
    """Records up to `next_index`, which follow those of the part before."""

    next_index: int
    events: pa.Table
    touches: pa.Table


class Tail:
    """What is projected of the unsealed records, up to `next_index`. Not for two threads at once."""

    def __init__(self) -> None:
        self.next_index = 0
        self.parts: list[Part] = []

    def forget(self) -> None:
        """Drops every value that is remembered."""
        self.next_index, self.parts = 0, []

    def look(self, cursor: psycopg.Cursor[Any], sealed_to: int, size: int) -> None:
        """Brings it up to date, for a log of `size` records: drops what is sealed, projects what is new since the last look."""
        self.parts = [part for part in self.parts if part.next_index > sealed_to]
        self.next_index = max(self.next_index, sealed_to)
        while self.next_index < size:
            end = min(size, self.next_index + READ_MOST)
            cursor.execute(ROWS, {"first": self.next_index, "end": end}, binary=True)
            events, touches = projections.tables((row[0], row[1], row[2:]) for row in cursor)
            self.parts.append(Part(end, events, touches))
            self.next_index = end
        if len(self.parts) > PARTS_MOST:
            self.parts = [Part(self.next_index, *(_unsealed(table, sealed_to) for table in self.tables()))]

    def tables(self) -> tuple[pa.Table, pa.Table]:
        """All of it; at its beginning there may be records that are sealed meanwhile."""
        events = [projections.EVENTS.empty_table(), *(part.events for part in self.parts)]
        touches = [projections.TOUCHES.empty_table(), *(part.touches for part in self.parts)]
        return pa.concat_tables(events), pa.concat_tables(touches)


def _unsealed(table: pa.Table, sealed_to: int) -> pa.Table:
    return table.filter(pc.field("index") >= sealed_to).combine_chunks()
