"""The rows of a whole list, in its order and as of one log size, in pieces: what is exported is what the pages of the list show."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from lineage import errors
from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts.looking import Lookup
from lineage.extracts.postings import NOTHING
from lineage.queries import candidates, coded, paging, sought, walking
from lineage.queries.ask import SHOWN, Coverage, Total, Window, fetch, searched, shown
from lineage.queries.covering import coverage
from lineage.queries.people import identity_rows, session_rows
from lineage.queries.places import relation_rows
from lineage.queries.records import TOUCH_COLUMNS

FIRST, PIECE = 200, 5_000
"""So many rows the first piece has, which is sent at once, and each of the others."""
GROUPED: Mapping[str, tuple[Callable[..., tuple[str, list[Any]]], str]] = {
    "session": (session_rows, "-last_index"),
    "identity": (identity_rows, "-last_index"),
    "relation": (relation_rows, "-last_index, datasource, relation"),
}


class Whole:
    """The rows that a search finds, up to `most` of them, by pieces that are each asked within the time limit.

    `size` is the log size; `count` how many rows there will be; `span` is the least and the greatest index told of.
    Raises QueryInvalid, AccessDenied and QueryTooLong when it is made.
    """

    def __init__(
        self, viewer: Viewer, q: str, window: Window, by: str, now: dt.datetime, as_of: int | None, most: int
    ) -> None:
        self.viewer, self.by = viewer, by
        self.relation, self.select = ("touches", TOUCH_COLUMNS) if by == "touch" else ("activity", ", ".join(SHOWN))
        self.condition, self.values = searched(viewer, q, window, "touch" if by == "touch" else "event", now)
        with Question(as_of=as_of) as question:
            self.size = question.size
            self.rows = self._grouped(question, q, window, now, most) if by in GROUPED else None
            self.indexes = [] if by in GROUPED else self._indexes(question, q, window, now, most + 1)
            found = self.rows.num_rows if self.rows is not None else len(self.indexes)
            self.count, self.has_more = min(found, most), found > most
            self.coverage: list[Coverage] = coverage(question, viewer, window)
            self.schema = self._schema(question)
        told = self.rows.column("last_index").to_pylist()[: self.count] if self.rows is not None else self.indexes
        self.span: tuple[int | None, int | None] = (min(told), max(told)) if told else (None, None)

    def _grouped(self, question: Question, q: str, window: Window, now: dt.datetime, most: int) -> pa.Table:
        rows_of, order = GROUPED[self.by]
        self.inner, self.given = rows_of(self.viewer, q, window, now)
        return question.arrow(f"select * from ({self.inner}) order by {order} limit {most + 1}", self.given)  # noqa: S608

    def _indexes(self, question: Question, q: str, window: Window, now: dt.datetime, most: int) -> list[int]:
        """The newest so many: by codes where they tell which match, else the log is walked from its end."""
        some = walking.ranges(question, self.viewer, window)
        of_all = paging.Listed(question, self.relation, self.condition, self.values, some)

        def tell(look: Lookup) -> list[int] | None:
            listed = coded.listed(of_all, look, self.viewer, q, window, now)
            return listed.newest_of(most) if listed is not None else None

        told = candidates.told(question, tell)
        if told is None:
            with sought.searched(question, self.viewer, q, window) as few:
                told = of_all.among(few).newest_of(most)
        return told

    @functools.cached_property
    def total(self) -> Total:
        """All that match. Of more than there are rows it is counted when it is asked for; not exact where that takes too long."""
        if not self.has_more:
            return Total(self.count, True)
        source, values = (f"({self.inner})", self.given) if self.by in GROUPED else (self.relation, self.values)
        condition = "true" if self.by in GROUPED else self.condition
        try:
            with Question(as_of=self.size) as question:
                told = question.rows(f"select count(*) as n from {source} where {condition}", values)  # noqa: S608
        except errors.QueryTooLong:
            return Total(self.count, False)
        return Total(told[0]["n"], True)

    def _schema(self, question: Question) -> pa.Schema:
        """Names and types of the rows; lists and what was JSON are text (JSON) in a table of columns."""
        if self.rows is not None:
            found = self.rows.schema
        else:
            with candidates.narrowed(question, lambda _: NOTHING):
                found = question.arrow(f"select {self.select} from {self.relation} where index = -1").schema  # noqa: S608
        return pa.schema([pa.field(f.name, _flat(f.type)) for f in found if f.name != "redacted"])

    def pieces(self) -> Iterator[list[dict[str, Any]]]:
        """The rows in order, as the pages give them to this viewer; the first few of them soon."""
        start = 0
        while start < self.count:
            end = min(start + min(PIECE, PIECE if start else FIRST), self.count)
            if self.rows is not None:
                yield self.rows.slice(start, end - start).to_pylist()
            else:
                # The accesses of one record stay together: their order is known among themselves alone.
                while end < len(self.indexes) and self.indexes[end] == self.indexes[end - 1]:
                    end += 1
                yield self._piece(self.indexes[start:end])[: self.count - start]
            start = end

    def _piece(self, indexes: list[int]) -> list[dict[str, Any]]:
        with Question(as_of=self.size) as question:
            if self.by != "touch" and len(indexes) <= sought.CARDS_MOST:
                question.look()
                return fetch(question, self.viewer, [{"index": index} for index in indexes])
            condition, values = (self.condition, self.values) if self.by == "touch" else (sought.ALL, [])
            with sought.among(question, np.array(indexes, np.int64)) as few:
                rows = question.rows(
                    f"select {self.select} from {self.relation} where {few} and {condition} "  # noqa: S608
                    f"order by {paging.order(self.relation)}",
                    values,
                )
        return [shown(row, self.viewer) for row in rows]


def _flat(kind: pa.DataType) -> pa.DataType:
    return pa.string() if pa.types.is_nested(kind) else kind
