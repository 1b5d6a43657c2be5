"""What is not among the records: gaps of the sources, and items that could not be read and lie in quarantine."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db import connection

from lineage import errors
from lineage.access import Viewer
from lineage.engine import Question
from lineage.queries.ask import OWN, Coverage, Window, limited, make_cursor, read_cursor
from lineage.queries.covering import coverage

ITEMS = """
select q.id, q.received_at, q.position, q.sequence, length(q.body) as bytes, encode(q.body_hash, 'hex') as body_hash,
    q.code, q.reason, s.name as source, s.format, s.environment, s.datasource, s.revoked_at,
    r.status as retried, r.records, r.first_index, r.by as retried_by, r.at as retried_at
from ledger_quarantine q join lineage_source s on s.id = q.source_id left join ledger_retry r on r.quarantine_id = q.id
where s.name <> %s and """


def _within(viewer: Viewer) -> tuple[str, list[Any]]:
    """The condition on quarantined items: their source's scope, and for a viewer of a time when they were received.

    A source that may report on any database is in the scope of those alone who see all of them.
    """
    conditions, values = ["true" if viewer.reads_records else "false"], list[Any]()
    for column, allowed in (("s.datasource", viewer.datasources), ("s.environment", viewer.environments)):
        if allowed:
            conditions.append(f"{column} = any(%s)")
            values.append(list(allowed))
    for operator, bound in ((">=", viewer.from_at), ("<", viewer.until_at)):
        if bound:
            conditions.append(f"q.received_at {operator} %s")
            values.append(bound)
    return " and ".join(conditions), values


def _rows(sql: str, values: list[Any]) -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def quarantined(
    viewer: Viewer, source: str = "", waiting: bool = False, limit: int | None = None, cursor: str | None = None
) -> dict[str, Any]:
    """Quarantined items, newest first, without their bytes: `items`, `next`, `total`, and `sources` with their counts.

    With `waiting` only those that no retry brought into the log.
    """
    scope, values = _within(viewer)
    count, (_, last) = limited(limit), read_cursor(cursor)
    grouped = _rows(
        f"select source, count(*) as count, count(*) filter (where retried is null) as waiting "  # noqa: S608
        f"from ({ITEMS}{scope}) i group by source order by source",
        [OWN, *values],
    )
    condition = scope
    asked = [OWN, *values]
    if source:
        condition, asked = f"{condition} and s.name = %s", [*asked, source]
    if waiting:
        condition += " and r.status is null"
    counted = _rows(f"select count(*) as n from ({ITEMS}{condition}) i", asked)[0]["n"]  # noqa: S608
    place = [last if last is not None else 2**62]
    items = _rows(f"{ITEMS}{condition} and q.id < %s order by q.id desc limit {count + 1}", [*asked, *place])
    following = make_cursor(0, items[count - 1]["id"]) if len(items) > count else None
    return {"items": items[:count], "next": following, "total": counted, "sources": grouped}


def quarantined_item(viewer: Viewer, number: int) -> dict[str, Any]:
    """One quarantined item; `body` is its bytes for those who may see values, else None. Raises NotFound."""
    scope, values = _within(viewer)
    found = _rows(f"{ITEMS}{scope} and q.id = %s", [OWN, *values, number]) if number < 2**63 else []
    if not found:
        raise errors.NotFound
    item = found[0] | {"body": None}
    if viewer.sees_values:
        (row,) = _rows("select body from ledger_quarantine where id = %s", [number])
        item["body"] = bytes(row["body"])
    return item


def gaps(viewer: Viewer, window: Window = Window()) -> dict[str, Any]:
    """Every time in which a source was not complete, the newest first, and the completeness of all: `spans`, `coverage`."""
    with Question() as question:
        covered = coverage(question, viewer, window)
        return {"spans": _spans(covered), "coverage": covered, "as_of": question.size}


def _spans(covered: list[Coverage]) -> list[dict[str, Any]]:
    now = dt.datetime.now(dt.UTC)
    spans = [
        {
            "source": one.source, "datasource": one.datasource, "environment": one.environment, "state": span.state,
            "from_at": span.from_at, "to_at": span.to_at, "detail": span.detail, "lasts": span.to_at is None,
            "seconds": ((span.to_at or now) - span.from_at).total_seconds(),
        }
        for one in covered
        for span in one.spans
    ]  # fmt: skip
    return sorted(spans, key=lambda span: span["from_at"], reverse=True)


def checkpoints(viewer: Viewer, limit: int | None = None, cursor: str | None = None) -> dict[str, Any]:
    """Signed checkpoints, newest first, with how many outside cosigned and timestamped each. They name nobody."""
    count, (_, last) = limited(limit), read_cursor(cursor)
    found = _rows(
        "select c.size, encode(c.root, 'hex') as root, c.at, "  # noqa: S608 - a number
        "(select count(*) from ledger_cosignature s where s.size = c.size) as cosigned, "
        "(select count(*) from ledger_timestamp t where t.size = c.size) as stamped "
        f"from ledger_checkpoint c where c.size < %s order by c.size desc limit {count + 1}",
        [last if last is not None else 2**62],
    )
    total = _rows("select count(*) as n from ledger_checkpoint", [])[0]["n"]
    following = make_cursor(0, found[count - 1]["size"]) if len(found) > count else None
    return {"items": found[:count], "next": following, "total": total}


def checkpoint(viewer: Viewer, size: int) -> dict[str, Any]:
    """One checkpoint with note, cosignature lines, timestamps and its neighbours. Raises NotFound."""
    found = _rows(
        "select size, encode(root, 'hex') as root, note, at, "
        "(select max(size) from ledger_checkpoint p where p.size < c.size) as before, "
        "(select min(size) from ledger_checkpoint f where f.size > c.size) as after "
        "from ledger_checkpoint c where size = %s",
        [min(size, 2**62)],
    )
    if not found:
        raise errors.NotFound(f"No checkpoint of {size:,} records is signed. The list names those that are.")
    return found[0] | {
        "cosignatures": _rows("select witness, line, at from ledger_cosignature where size = %s order by witness", [size]),
        "timestamps": _rows(
            "select authority, stated_at, at from ledger_timestamp where size = %s order by authority", [size]
        ),
    }  # fmt: skip
