"""A few records in the place of all: `activity` and `touches` of one cursor, as views over what look-ups have read."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lineage import resolving
from lineage.extracts import Cursor, Indexes, naming
from lineage.extracts.chosen import Chosen, Row
from lineage.extracts.filed import Filed
from lineage.extracts.looking import Lookup
from lineage.extracts.postings import Damaged, among
from lineage.snapshots import Snapshot

VIEWS = ("activity", "touches")


def begin(cursor: Cursor, look: Lookup, indexes: Indexes, snap: Snapshot) -> None:
    """From here on there are only these records, until `end`."""
    contents = look.contents(indexes)
    logins = logins_of(look, snap, [row[0] for row in contents])
    tables = naming.tables(look.columns, contents, logins, _conflicted(snap, indexes))
    for name, table in zip(VIEWS, tables, strict=True):
        cursor.register(f"few_{name}", table)
        cursor.execute(
            f"create or replace temp view {name} as select n.*, {resolving.TAGS_OF} as tags from few_{name} n"  # noqa: S608
        )


def end(cursor: Cursor) -> None:
    for name in VIEWS:
        cursor.execute(f"drop view if exists temp.{name}; drop view if exists temp.few_{name}")


def records(look: Lookup, indexes: Indexes, snap: Snapshot, columns: Sequence[str]) -> dict[int, dict[str, Any]] | None:
    """These columns of `activity` (without tags) by index, as DuckDB gives rows; None where not all can be read."""
    asked = np.unique(indexes)
    with contextlib.suppress(Damaged):
        found = read(look, asked, Chosen(columns, snap.people, _conflicted(snap, asked)))
        if len(found) == len(asked):
            return {index: found[index] for index in asked.tolist()}
    return None


def read(look: Lookup, indexes: Indexes, chosen: Chosen) -> dict[int, Row]:
    """The same of those of these records that are there. Raises Damaged."""
    known = {index: look.read[index] for index in indexes.tolist() if index in look.read}
    found = dict(zip(known, chosen.whole(look.columns, known.values()), strict=True)) if known else {}
    missing = indexes[indexes < look.size]
    for layer in look.layers:
        missing = np.array([index for index in missing.tolist() if index not in found], np.int64) if found else missing
        if not len(missing):
            break
        here = missing[~among(missing, layer.hidden)]
        if isinstance(layer.of, Filed):
            found |= layer.of.read(here, chosen.of_block)
        elif told := layer.read(here):
            found |= zip(told, chosen.whole(layer.of.columns, told.values()), strict=True)
    return found


def _conflicted(snap: Snapshot, indexes: Indexes) -> set[int]:
    """Which of these records have a conflict."""
    if not snap.conflicted.num_rows:
        return set()
    among = pc.is_in(snap.conflicted["index"], pa.array(indexes, pa.int64()))
    return set(snap.conflicted.filter(among)["index"].to_pylist())


def logins_of(look: Lookup, snap: Snapshot, rows: Sequence[list[object]]) -> list[dict[str, object]]:
    """Whose logins those of these records are."""
    user = look.columns.index("db_user") if rows else 0
    return [login for name in {row[user] for row in rows} for login in snap.logins.get(name, ())]
