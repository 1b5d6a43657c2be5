"""Holds: what must not be erased and must not expire (docs/erasure.md). Placed by one person, released by two."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Collection, Iterable
from typing import Any

import pyarrow as pa
from django.db import connection, transaction

from lineage import access, errors, ledger, rights, search
from lineage.access import Viewer
from lineage.engine import Question
from lineage.queries import Window
from lineage.queries.ask import OWN, scoped


@dataclasses.dataclass(frozen=True, slots=True)
class Hold:
    """One row of the registry; `query` is there while it stands."""

    id: int
    query: str | None
    first_index: int | None
    last_index: int | None
    records: int
    reason: str
    placed_by: str
    placed_at: dt.datetime
    release_by: str | None
    release_at: dt.datetime | None
    released_by: str | None
    released_at: dt.datetime | None


COLUMNS = ", ".join(field.name for field in dataclasses.fields(Hold))


def listing() -> list[Hold]:
    """All holds, newest first."""
    with connection.cursor() as cursor:
        cursor.execute(f"select {COLUMNS} from ledger_hold order by id desc")  # noqa: S608 - our own names
        return [Hold(*row) for row in cursor.fetchall()]


def in_scope(viewer: Viewer) -> list[Hold]:
    """Those that the viewer may know of: a hold reaches as far as who placed it."""
    return [hold for hold in listing() if access.sees_asked_by(viewer, hold.placed_by)]


def add(viewer: Viewer, query: str, reason: str, first: int | None = None, last: int | None = None) -> int:
    """Holds what matches now, and what will when it is looked at; or a range of indexes. Returns its number.

    Raises AccessDenied and QueryInvalid; each refusal is recorded.
    """
    with rights.asked(viewer, "hold"):
        if (not query.strip() and first is None) or (first is None) != (last is None):
            raise errors.QueryInvalid("Say what to hold: a search, or the first and last record.")
        if not reason.strip() or len(reason) > 500:
            raise errors.QueryInvalid("Give the reason of the hold, in at most 500 characters.")
        found = _matching(viewer, query, first, last)
        with transaction.atomic():
            number = int(
                rights.call(
                    "select ledger_place_hold(%s, %s, %s, %s::int8multirange, %s, %s, %s)",
                    query.strip() or None, first, last, _multirange(found), len(found), reason.strip(), viewer.email,
                )
            )  # fmt: skip
            words = f"{reason.strip()} ({len(found)} records)"
            subject = f"hold {number}"
            ledger.record_decision("hold", decided_by=viewer.email, subject=subject, transition="placed", purpose=words)
        return number


def release(viewer: Viewer, number: int) -> bool:
    """The first person asks for the release, another one gives it: True. Raises AccessDenied and NotFound."""
    with rights.asked(viewer, "hold", number), transaction.atomic():
        if number not in [hold.id for hold in in_scope(viewer)]:
            raise errors.NotFound(f"No hold {number} waits for this. `bin/manage hold list` shows what does.")
        released = bool(rights.call("select ledger_release_hold(%s, %s)", number, viewer.email))
        hold = next(hold for hold in listing() if hold.id == number)
        ledger.record_decision(
            "hold",
            decided_by=viewer.email,
            subject=f"hold {number}",
            transition="released" if released else "release requested",
            requested_by=hold.release_by,
        )
        return released


def newest() -> int:
    """The number of the newest hold, 0 before the first: a later one was not looked at."""
    return int(rights.call("select coalesce(max(id), 0) from ledger_hold"))


def check(indexes: Collection[int]) -> None:
    """Raises Held when a standing hold covers one of these records."""
    held = among(indexes)
    if held:
        names = ", ".join(str(number) for number in sorted(held))
        count = len(set().union(*held.values()))
        raise errors.Held(f"{count} of {len(indexes)} records are under hold {names}. Nothing was erased.")


def among(indexes: Collection[int]) -> dict[int, set[int]]:
    """For each standing hold that covers some of these records, which."""
    found: dict[int, set[int]] = {}
    with connection.cursor() as cursor:
        cursor.execute(
            "select h.id, i.index from ledger_hold h, unnest(%s::bigint[]) as i(index) "
            "where h.released_at is null and h.held @> i.index",
            [list(indexes)],
        )
        for number, index in cursor.fetchall():
            found.setdefault(number, set()).add(index)
    for hold in listing():
        if hold.released_at is None and hold.query and indexes:
            matched = _matched(hold.query, hold.placed_at, indexes)
            if matched:
                found.setdefault(hold.id, set()).update(matched)
    return found


def _matching(viewer: Viewer, query: str, first: int | None, last: int | None) -> list[int]:
    condition, values = scoped(viewer, Window())
    if query.strip():
        matching, more = search.to_sql(search.parse(query), "event")
        condition, values = f"{condition} and source <> '{OWN}' and ({matching})", [*values, *more]
    if first is not None:
        condition, values = f"{condition} and index between ? and ?", [*values, first, last]
    with Question() as question:
        rows = question.rows(f"select index from activity where {condition} order by index", values)  # noqa: S608
    return [row["index"] for row in rows]


def _matched(query: str, placed_at: dt.datetime, indexes: Iterable[int]) -> set[int]:
    matching, values = search.to_sql(search.parse(query), "event", placed_at)
    with Question() as question:
        question.cursor.register("asked", pa.table({"index": pa.array(sorted(indexes), pa.int64())}))
        rows = question.rows(f"select index from activity join asked using (index) where {matching}", values)  # noqa: S608
    return {row["index"] for row in rows}


def _multirange(indexes: Iterable[int]) -> str:
    """As PostgreSQL writes it: it joins neighbours itself."""
    spans: list[list[Any]] = []
    for index in indexes:
        if spans and spans[-1][1] == index:
            spans[-1][1] = index + 1
        else:
            spans.append([index, index + 1])
    return "{" + ",".join(f"[{low},{high})" for low, high in spans) + "}"
