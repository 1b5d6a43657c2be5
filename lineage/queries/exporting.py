"""The rows of a whole list, in its order and as of one log size, in pieces: what is exported is what the pages of the list show."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from lineage.access import Viewer
from lineage.engine import Question
from lineage.queries import paging
from lineage.queries.ask import EVENT_COLUMNS, Coverage, Total, Window, searched, shown
from lineage.queries.covering import coverage
from lineage.queries.people import identity_rows, session_rows
from lineage.queries.places import relation_rows
from lineage.queries.records import TOUCH_COLUMNS

PIECE = 5_000
GROUPED: Mapping[str, tuple[Callable[..., tuple[str, list[Any]]], str]] = {
    "session": (session_rows, "-last_index"),
    "identity": (identity_rows, "-last_index"),
    "relation": (relation_rows, "-last_index, datasource, relation"),
}


class Whole:
    """The rows that a search finds, up to `most` of them, by pieces that are each asked within the time limit.

    `size` is the log size; `total` counts all that match; `span` is the least and the greatest index told of.
    Raises QueryInvalid, AccessDenied and QueryTooLong when it is made.
    """

    def __init__(
        self, viewer: Viewer, q: str, window: Window, by: str, now: dt.datetime, as_of: int | None, most: int
    ) -> None:
        self.viewer, self.by = viewer, by
        self.relation, self.select = ("touches", TOUCH_COLUMNS) if by == "touch" else ("activity", EVENT_COLUMNS)
        self.condition, self.values = searched(viewer, q, window, "touch" if by == "touch" else "event", now)
        with Question(as_of=as_of) as question:
            self.size = question.size
            self.rows = self._grouped(question, q, window, now, most) if by in GROUPED else None
            self.indexes = [] if by in GROUPED else self._indexes(question, most)
            found = self.rows.num_rows if self.rows is not None else len(self.indexes)
            self.count = min(found, most)
            self.total = Total(self.count, True) if found <= most else self._total(question)
            self.coverage: list[Coverage] = coverage(question, viewer, window)
            self.schema = self._schema(question)
        told = self.rows.column("last_index").to_pylist()[: self.count] if self.rows is not None else self.indexes
        self.span: tuple[int | None, int | None] = (min(told), max(told)) if told else (None, None)

    def _grouped(self, question: Question, q: str, window: Window, now: dt.datetime, most: int) -> pa.Table:
        rows_of, order = GROUPED[self.by]
        self.inner, self.given = rows_of(self.viewer, q, window, now)
        return question.arrow(f"select * from ({self.inner}) order by {order} limit {most + 1}", self.given)  # noqa: S608

    def _indexes(self, question: Question, most: int) -> list[int]:
        sql = f"select index from {self.relation} where {self.condition} order by index desc limit {most + 1}"  # noqa: S608
        found: list[int] = question.arrow(sql, self.values).column("index").to_pylist()
        return found

    def _total(self, question: Question) -> Total:
        source, values = (f"({self.inner})", self.given) if self.by in GROUPED else (self.relation, self.values)
        condition = "true" if self.by in GROUPED else self.condition
        return Total(question.rows(f"select count(*) as n from {source} where {condition}", values)[0]["n"], True)  # noqa: S608

    def _schema(self, question: Question) -> pa.Schema:
        """Names and types of the rows; lists and what was JSON are text (JSON) in a table of columns."""
        if self.rows is not None:
            found = self.rows.schema
        else:
            more = "" if self.by == "touch" else ", policy, masked"
            found = question.arrow(f"select {self.select}{more} from {self.relation} where index = -1").schema  # noqa: S608
        return pa.schema([pa.field(f.name, _flat(f.type)) for f in found if f.name != "redacted"])

    def pieces(self) -> Iterator[list[dict[str, Any]]]:
        """The rows in order, as the pages give them to this viewer."""
        if self.rows is not None:
            for start in range(0, self.count, PIECE):
                yield self.rows.slice(start, min(PIECE, self.count - start)).to_pylist()
            return
        start = 0
        while start < self.count:
            end = min(start + PIECE, self.count)
            # The accesses of one record stay together: their order is known among themselves alone.
            while end < len(self.indexes) and self.indexes[end] == self.indexes[end - 1]:
                end += 1
            yield self._piece(self.indexes[start:end])[: self.count - start]
            start = end

    def _piece(self, indexes: list[int]) -> list[dict[str, Any]]:
        with Question(as_of=self.size) as question:
            if self.by == "touch":
                rows = question.rows(
                    f"select {self.select} from touches where {self.condition} and index between ? and ? "  # noqa: S608
                    f"order by {paging.order('touches')}",
                    [*self.values, indexes[-1], indexes[0]],
                )
            else:
                listed = ", ".join(str(int(index)) for index in indexes)
                sql = (
                    f"select {self.select}, policy, masked from activity where index in ({listed}) order by index desc"  # noqa: S608
                )
                rows = question.rows(sql)
        return [shown(row, self.viewer) for row in rows]


def _flat(kind: pa.DataType) -> pa.DataType:
    return pa.string() if pa.types.is_nested(kind) else kind
