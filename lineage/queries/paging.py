"""Pages of a list by keyset, forwards and backwards, all as of the log size that the first page was made at.

A cursor is a place between two rows; with `~` before it, it asks for the page that ends there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from lineage.engine import Question
from lineage.queries.ask import Place, make_cursor, read_cursor

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
TURNED = {"asc": "desc", "desc": "asc", "first": "last", "last": "first"}

Cut = tuple[list[dict[str, Any]], str | None, str | None]
"""The rows of a page, and the cursors of the next and the previous one."""


def asked(cursor: str | None, form: Any) -> tuple[int | None, Any, bool]:
    """(log size the paging began with, place, whether the page before it is meant). Raises QueryInvalid."""
    is_back = bool(cursor) and str(cursor).startswith(BACK)
    size, place = read_cursor(cursor.removeprefix(BACK) if cursor else None, form)
    return size, place, is_back


def order(relation: str, is_back: bool = False) -> str:
    """The `order by` of records or accesses; turned around for a page that is read from its end."""
    parts = ORDERS[relation]
    return ", ".join(" ".join(TURNED.get(word, word) for word in part.split()) if is_back else part for part in parts)


def records(
    question: Question, select: str, condition: str, values: Sequence[Any], place: Any, is_back: bool, count: int
) -> Cut:
    """One page of records or accesses; `select` is "columns from relation", `place` a `Boundary` or None for the first page."""
    relation = select.rpartition(" ")[2]
    index, before = place or (question.size, 0)

    def of(one: int) -> int:
        sql = f"select count(*) as n from {relation} where {condition} and index = ?"  # noqa: S608 - our own condition
        return int(question.rows(sql, [*values, one])[0]["n"])

    found = question.rows(
        f"select {select} where {condition} and index {'>=' if is_back else '<='} ? "
        f"order by {order(relation, is_back)} limit {count + 1} offset {max(0, of(index) - before) if is_back else before}",
        [*values, index],
    )
    more, rows = len(found) > count, found[:count]
    here = make_cursor(question.size, [index, before])
    if not is_back:
        return rows, _after(question, rows, index, before) if more else None, BACK + here if place else None
    rows.reverse()
    if not more:
        return rows, here, None
    first = rows[0]["index"]
    shown = sum(row["index"] == first for row in rows)
    start = (before if first == index else of(first)) - shown
    return rows, here, BACK + make_cursor(question.size, [first, start])


def _after(question: Question, rows: list[dict[str, Any]], index: int, before: int) -> str:
    last = rows[-1]["index"]
    shown = sum(row["index"] == last for row in rows) + (before if last == index else 0)
    return make_cursor(question.size, [last, shown])


def keyset(
    question: Question, inner: str, values: Sequence[Any], names: Sequence[str], place: Any, is_back: bool, count: int
) -> Cut:
    """One page of grouped rows, the greatest `last_index` first; `names` are further columns that make the order whole.

    `place` holds the values of one row, which is on neither side; None for the first page.
    """
    keys = ["-last_index", *names]
    beyond = f"({', '.join(keys)}) {'<' if is_back else '>'} ({', '.join('?' * len(keys))})" if place else "true"
    ordered = ", ".join(f"{key} desc" if is_back else key for key in keys)
    found = question.rows(
        f"select * from ({inner}) where {beyond} order by {ordered} limit {count + 1}",  # noqa: S608 - our own columns
        [*values, *(place or [])],
    )
    more, rows = len(found) > count, found[:count]
    if is_back:
        rows.reverse()

    def at(row: dict[str, Any]) -> str:
        return make_cursor(question.size, [-row["last_index"], *(row[name] for name in names)])

    following = at(rows[-1]) if rows and (more or is_back) else None
    previous = BACK + at(rows[0]) if rows and (more if is_back else place) else None
    return rows, following, previous
