"""Dedupe keys in a transaction of the ledger: which are known, in PostgreSQL or in sealed files, and taking the new ones.

In this order: what has left PostgreSQL is looked for, the new keys are inserted, and at the end it is looked whether any of
them has left in between (docs/dedupe.md).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import psycopg

from lineage.entries import Part
from lineage.keyfiles import looking


class Taken(Exception):
    """A key is taken: the transaction is begun again, and looks before it inserts."""


def plan(cursor: psycopg.Cursor[Any], parts: Sequence[Part], state: str, *, looks: bool) -> dict[tuple[int, int], int]:
    """Tells which entries are new, by the state of `ledger_keys_state()`; the indexes of those that lie in earlier batches.

    Keys in PostgreSQL are asked for only if `looks` is set, or where one lies in a sealed file: else `take` meets them.
    """
    for part in parts:
        part.state, part.left = looking.find(cursor, part.source_id, part.keys, state)
        if looks or part.left:
            part.plan(part.left | _known(cursor, part), _known_conflicts(cursor, part))
        else:
            part.plan({}, {})
    return _places(cursor, [place for part in parts for place in part.older()])


def _known(cursor: psycopg.Cursor[Any], part: Part) -> dict[bytes, tuple[bytes, int, int]]:
    cursor.execute(
        "select key, content, batch, ordinal from ledger_key where source_id = %s and key = any(%s)",
        (part.source_id, part.keys),
        binary=True,
    )
    return {key: (content, batch, ordinal) for key, content, batch, ordinal in cursor.fetchall()}


def _known_conflicts(cursor: psycopg.Cursor[Any], part: Part) -> dict[tuple[bytes, bytes], tuple[int, int]]:
    cursor.execute(
        "select key, content, batch, ordinal from ledger_conflict where source_id = %s and key = any(%s)",
        (part.source_id, part.keys),
        binary=True,
    )
    return {(key, content): (batch, ordinal) for key, content, batch, ordinal in cursor.fetchall()}


def _places(cursor: psycopg.Cursor[Any], places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], int]:
    if not places:
        return {}
    cursor.execute(
        "select b.batch, b.first_index from ledger_batch b where b.batch = any(%s)", ([batch for batch, _ in places],)
    )
    firsts = dict(cursor.fetchall())
    return {(batch, ordinal): firsts[batch] + ordinal for batch, ordinal in places if batch in firsts}


_claimed = struct.Struct(">HI16s32s")


def take(cursor: psycopg.Cursor[Any], parts: Sequence[Part]) -> None:
    """Takes the keys of what is new, sorted against deadlock. Raises Taken when somebody else has one.

    They go as one value that the database cuts: a thousand of each kind one by one cost more than inserting them.
    """
    packed = [
        _claimed.pack(number, ordinal, key, content)
        for number, part in enumerate(parts, 1)
        for key, content, ordinal in part.claims("accepted")
    ]
    if packed:
        size = _claimed.size
        cursor.execute(
            "insert into ledger_key (source_id, key, content, batch, ordinal) "  # noqa: S608 - a number of ours
            "select s[p], substr(k, n + 7, 16), substr(k, n + 23, 32), b[p], "
            "(get_byte(k, n + 3) << 16) | (get_byte(k, n + 4) << 8) | get_byte(k, n + 5) "
            "from (select %s::bytea as k, %s::int[] as s, %s::bigint[] as b) as given, "
            "lateral (select n, (get_byte(k, n) << 8) | get_byte(k, n + 1) as p "
            f"from generate_series(0, %s::int, {size}) as n) as cut on conflict do nothing",
            (
                b"".join(packed),
                [part.source_id for part in parts],
                [part.number for part in parts],
                size * (len(packed) - 1),
            ),
        )
        if cursor.rowcount != len(packed):
            raise Taken
    for part in parts:
        _take_conflicts(cursor, part)


def _take_conflicts(cursor: psycopg.Cursor[Any], part: Part) -> None:
    """Each with the place of its key's first record, whose own row may leave."""
    rows = [(*claim, *part.first_of(claim[2])) for claim in part.claims("conflict")]
    if not rows:
        return
    keys, contents, ordinals, of_batches, of_ordinals = map(list, zip(*rows, strict=True))
    cursor.execute(
        "insert into ledger_conflict (source_id, key, content, batch, ordinal, of_batch, of_ordinal) "
        "select %s, k, c, %s, o, fb, fo from unnest(%s::bytea[], %s::bytea[], %s::int[], %s::bigint[], %s::int[]) "
        "as t(k, c, o, fb, fo) on conflict do nothing",
        (part.source_id, part.number, keys, contents, ordinals, of_batches, of_ordinals),
    )
    if cursor.rowcount != len(rows):
        raise Taken


def check(cursor: psycopg.Cursor[Any], parts: Sequence[Part], state: str) -> None:
    """Whether what was taken has not left between look-up and insert, by the present state. Raises Taken."""
    for part in parts:
        if part.state != state:
            fresh = part.fresh_keys()
            if looking.find(cursor, part.source_id, fresh, state)[1] != {
                k: part.left[k] for k in fresh if k in part.left
            }:
                raise Taken
