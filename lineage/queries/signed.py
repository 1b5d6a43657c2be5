"""The log's own checkpoints in a period: whether each is signed, extends the one before, and is held by somebody outside."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
from django.db import connection

from lineage import errors, keys, merkle, notes, tree
from lineage.access import Viewer

TIME, TEXT, NUMBER = pa.timestamp("us", tz="UTC"), pa.string(), pa.int64()
CHECKPOINTS = pa.schema(
    [
        ("size", NUMBER),
        ("signed_at", TIME),
        ("in_hour", NUMBER),
        ("root", TEXT),
        ("note", TEXT),
        ("previous_size", NUMBER),
        ("previous_root", TEXT),
        ("proof", pa.list_(TEXT)),
        ("signature_holds", pa.bool_()),
        ("extends", pa.bool_()),
        ("held_by", pa.list_(TEXT)),
        ("held_at", TIME),
    ]
)
"""`proof`: the consistency path (RFC 6962 section 2.1.2) from `previous_size`, hashes in hex; `extends` is null for the first of all."""
SIGNED = """
with last as (
    select distinct on (date_trunc('hour', at at time zone 'UTC')) size, at,
           count(*) over (partition by date_trunc('hour', at at time zone 'UTC')) as n
    from ledger_checkpoint where at >= %s and at < %s and size <= %s
    order by date_trunc('hour', at at time zone 'UTC'), size desc)
select c.size, c.at, l.n, c.root, c.note from last l join ledger_checkpoint c on c.size = l.size order by c.size"""
BEFORE = "select size, root from ledger_checkpoint where at < %s and size <= %s order by size desc limit 1"
OUTSIDE = """
select holder, size, at from (
    select 'witness ' || witness as holder, size, at from ledger_cosignature
    union all select 'timestamp ' || authority, size, at from ledger_timestamp
    union all select holder, size, at from ledger_handed) o order by size desc, at desc"""


def checkpoint_chain(
    viewer: Viewer,
    since: dt.datetime,
    until: dt.datetime,
    datasources: list[str] | None = None,
    environment: str | None = None,
    as_of: int | None = None,
) -> dict[str, pa.Table]:
    """Arrow table `checkpoints`: the last checkpoint of each hour in which one was signed. They name nobody, whatever the scope.

    Each is checked here against the hashes that are stored; with `proof` whoever holds the table checks it again.
    """
    most = as_of if as_of is not None else 2**62
    with connection.cursor() as cursor:
        cursor.execute(SIGNED, [since, until, most])
        signed = [(size, at, n, bytes(root), note) for size, at, n, root, note in cursor.fetchall()]
        cursor.execute(BEFORE, [since, most])
        before = cursor.fetchone()
        cursor.execute(OUTSIDE)
        outside = list(cursor.fetchall())
    previous = (before[0], bytes(before[1])) if before else None
    rows = list(_checked(signed, previous))
    _held(rows, outside)
    return {"checkpoints": pa.Table.from_pylist(rows, schema=CHECKPOINTS)}


def _checked(
    signed: Iterable[tuple[int, dt.datetime, int, bytes, str]], previous: tuple[int, bytes] | None
) -> Iterator[dict[str, Any]]:
    trusted, nodes = keys.vkeys("checkpoint"), tree.Nodes()
    for size, at, count, root, note in signed:
        extends, proof = _extends(previous, (size, root), nodes)
        yield {
            "size": size, "signed_at": at, "in_hour": count, "root": root.hex(), "note": note,
            "previous_size": previous[0] if previous else None, "previous_root": previous[1].hex() if previous else None,
            "proof": proof, "signature_holds": _is_signed(note, trusted, size, root), "extends": extends,
            "held_by": [], "held_at": None,
        }  # fmt: skip
        previous = (size, root)


def _extends(
    previous: tuple[int, bytes] | None, now: tuple[int, bytes], nodes: tree.Nodes
) -> tuple[bool | None, list[str]]:
    if previous is None:
        return None, []
    try:
        proof = merkle.consistency_path(previous[0], now[0], nodes)
        merkle.verify_consistency(*previous, *now, proof)
    except (errors.ProofInvalid, errors.LedgerBroken):
        return False, []
    return True, [each.hex() for each in proof]


def _is_signed(note: str, trusted: list[str], size: int, root: bytes) -> bool:
    try:
        told = notes.parse_checkpoint(notes.verify(note, trusted).text)
    except errors.TouchstoneError:
        return False
    return (told.size, told.root) == (size, root)


def _held(rows: list[dict[str, Any]], outside: list[tuple[str, int, dt.datetime]]) -> None:
    """Who outside holds each checkpoint or a later one, and since when somebody does. `outside` is by size, the largest first."""
    holders: dict[str, None] = {}
    first: dt.datetime | None = None
    waiting = iter(outside)
    ahead = next(waiting, None)
    for row in reversed(rows):
        while ahead is not None and ahead[1] >= row["size"]:
            holders[ahead[0]] = None
            first = ahead[2] if first is None else min(first, ahead[2])
            ahead = next(waiting, None)
        row["held_by"], row["held_at"] = sorted(holders), first
