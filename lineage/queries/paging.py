"""Pages of a list by keyset, forwards and backwards, all as of the log size that the first page was made at.

A cursor is a place between two rows; with `~` before it, it asks for the page that ends there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np

from lineage.engine import Question
from lineage.queries import candidates, walking
from lineage.queries.ask import COUNT_MOST, Place, Total, make_cursor, read_cursor
from lineage.queries.walking import Range

BACK = "~"
Boundary = tuple[Place, Annotated[int, msgspec.Meta(ge=0, le=10**6)]]
"""After so many rows of the record with this index."""

ORDERS = {
    "activity": ("index desc",),
    "touches": (
        "index desc", "relation asc nulls last", "key asc nulls last", "touch_op asc nulls last", "access asc nulls last",
        "provenance asc nulls last", "columns asc nulls last",
    ),
}  # fmt: skip
"""The order of records and accesses, newest first; whole, so that a page ends where the next begins."""
Cut = tuple[list[dict[str, Any]], str | None, str | None]
"""The rows of a page, and the cursors of the next and the previous one."""

Page = tuple[list[dict[str, Any]], str | None, str | None, Total]
"""The same with the rows as they are shown, and how many there are in all."""


def asked(cursor: str | None, form: Any) -> tuple[int | None, Any, bool]:
    """(log size the paging began with, place, whether the page before it is meant). Raises QueryInvalid."""
    is_back = bool(cursor) and str(cursor).startswith(BACK)
    size, place = read_cursor(cursor.removeprefix(BACK) if cursor else None, form)
    return size, place, is_back


def order(relation: str) -> str:
    """The `order by` of records or accesses."""
    return ", ".join(ORDERS[relation])


class Listed:
    """A list of records or accesses (`relation`) that match a condition, and lie in the ranges of `lineage.queries.walking`."""

    def __init__(
        self, question: Question, relation: str, condition: str, values: Sequence[Any], ranges: Sequence[Range]
    ) -> None:
        self.question, self.relation, self.condition, self.values = question, relation, condition, values
        self.ranges = ranges
        self.newest: list[int] | None = None

    def among(self, few: str) -> Listed:
        """The same list, asked of the records that this condition names."""
        return Listed(self.question, self.relation, f"{few} and {self.condition}", self.values, self.ranges)

    def newest_of(self, most: int) -> list[int]:
        """The first so many, by index."""
        return self._walk(self.ranges, most)

    def total(self) -> Total:
        """Counted up to 10,000; beyond that not exact."""
        count = len(self._newest(0))
        return Total(min(count, COUNT_MOST), count <= COUNT_MOST)

    def page(self, columns: str, place: Any, is_back: bool, count: int) -> Cut:
        """One page, with these columns; `place` is a `Boundary`, or None for the first page."""
        if place is None:
            return self._ahead(columns, self._newest(count)[: count + 1], None, count)
        index, before = place
        if not is_back and before <= COUNT_MOST:
            found = self._walk(walking.below(self.ranges, index + 1), before + count + 1)[before:]
            return self._ahead(columns, found, (index, before), count)
        here = [index] * self._of(index)
        if not is_back:
            found = here[before:] + self._walk(walking.below(self.ranges, index), count + 1)
            return self._ahead(columns, found[: count + 1], (index, before), count)
        found = here[:before]
        found = (found + self._walk(walking.above(self.ranges, index), count + 1 - len(found), is_up=True))[: count + 1]
        following = make_cursor(self.question.size, [index, before])
        shown = found[:count][::-1]
        if not shown or len(found) <= count:
            return self._rows(columns, shown, 0), following, None
        first = shown[0]
        start = (min(before, len(here)) if first == index else self._of(first)) - shown.count(first)
        return self._rows(columns, shown, start), following, BACK + make_cursor(self.question.size, [first, start])

    def _ahead(self, columns: str, found: list[int], place: tuple[int, int] | None, count: int) -> Cut:
        """The page of the first `count` of these, which begins at this place."""
        index, before = place or (None, 0)
        shown, following = found[:count], None
        if len(found) > count:
            last = shown[-1]
            again = shown.count(last) + (before if last == index else 0)
            following = make_cursor(self.question.size, [last, again])
        rows = self._rows(columns, shown, before if shown[:1] == [index] else 0)
        return rows, following, BACK + make_cursor(self.question.size, [index, before]) if place else None

    def _newest(self, count: int) -> list[int]:
        """Those of a first page of `count` are among those that are counted: one walk is enough for both."""
        if self.newest is None:
            self.newest = self._walk(self.ranges, max(count, COUNT_MOST) + 1)
        return self.newest

    def _walk(self, ranges: Sequence[Range], most: int, is_up: bool = False) -> list[int]:
        rows = walking.rows(self.question, "index", self.relation, self.condition, self.values, ranges, most, is_up)
        return [row["index"] for row in rows]

    def _of(self, index: int) -> int:
        """How many rows the record has."""
        sql = f"select count(*) as n from {self.relation} where {self.condition} and index = ?"  # noqa: S608
        return int(self.question.rows(sql, [*self.values, index])[0]["n"])

    def _rows(self, columns: str, indexes: list[int], before: int) -> list[dict[str, Any]]:
        """The rows of these indexes, newest first; of the first record those behind its first `before`."""
        if columns == "index" or not indexes:
            return [{"index": index} for index in indexes]
        some = np.unique(np.array(indexes, np.int64))
        # As literals: they are pushed into the scans, so that only these rows are joined and widened.
        few = f"index in ({', '.join(map(str, some.tolist()))}) and {self.condition}"
        with candidates.narrowed(self.question, lambda _: some):
            found = self.question.rows(
                f"select {columns} from {self.relation} where {few} "  # noqa: S608
                f"order by {order(self.relation)} limit {before + len(indexes)}",
                self.values,
            )
        return found[before:]


def keyset(
    question: Question, inner: str, values: Sequence[Any], names: Sequence[str], place: Any, is_back: bool, count: int
) -> tuple[list[dict[str, Any]], str | None, str | None, Total]:
    """One page of grouped rows, the greatest `last_index` first, with the cursors around it and how many there are in all.

    `names` are further columns that make the order whole; `place` holds the values of one row, which is on neither side; None for
    the first page. Records are grouped once for both, page and total.
    """
    keys = ["-last_index", *names]
    beyond = f"({', '.join(keys)}) {'<' if is_back else '>'} ({', '.join('?' * len(keys))})" if place else "true"
    ordered = ", ".join(f"{key} desc" if is_back else key for key in keys)
    found = question.rows(
        f"with grouped as materialized ({inner}), "  # noqa: S608 - our own columns
        f"counted as (select count(*) as of_all from (select 1 from grouped limit {COUNT_MOST + 1})), "
        f"page as (select * from grouped where {beyond} order by {ordered} limit {count + 1}) "
        f"select * from counted left join page on true order by {ordered}",
        [*values, *(place or [])],
    )
    total = found[0]["of_all"]
    rows = [row for row in found if row["last_index"] is not None]
    for row in rows:
        del row["of_all"]
    return *cut(question, rows, names, place, is_back, count), Total(min(total, COUNT_MOST), total <= COUNT_MOST)


def cut(
    question: Question, rows: list[dict[str, Any]], names: Sequence[str], place: Any, is_back: bool, count: int
) -> Cut:
    """The page of `count + 1` grouped rows, in the order that they were read in, and the cursors around it."""
    more, rows = len(rows) > count, rows[:count]
    if is_back:
        rows.reverse()

    def at(row: dict[str, Any]) -> str:
        return make_cursor(question.size, [-row["last_index"], *(row[name] for name in names)])

    following = at(rows[-1]) if rows and (more or is_back) else None
    previous = BACK + at(rows[0]) if rows and (more if is_back else place) else None
    return rows, following, previous
