"""Merging extracts: neighbours become one, in parts, so that a question opens few files however long the log is.

Call under `locks.alone(locks.EXTRACT)`. What newer facts changed of a record of the range is put into its place; what they
changed of earlier records is carried on.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lineage import engine, merging, segments
from lineage.engine import Question
from lineage.extracts import OVERRIDES, RECORDS, Extract, basis, making, reading, storing
from lineage.extracts.companions import COMPANIONS
from lineage.rowgroups import Rows, Writer
from lineage.snapshots import Snapshot

LOOK_SECONDS = 1.0


def merge() -> tuple[int, int] | None:
    """Merges the neighbours that are due first; (first index, next index) of what became of them, None when none are due."""
    snap = engine.snapshot(unsealed_most=0)
    every = reading.there(reading.prefixes(storing.manifest(), basis.of(snap.context_roles)))
    ends = merging.chosen([one.size for one in every])
    if ends is None:
        return None
    parts = every[slice(*ends)]
    storing.sweep_alone()
    if not _unchanged(parts):
        return None
    try:
        storing.replace(parts, *_written(snap, parts))
    except (storing.Changed, FileNotFoundError):
        # Taken by an erasure, or by hand: what is left is looked at anew.
        return None
    return parts[0].first, parts[-1].following


def _unchanged(parts: Sequence[Extract]) -> bool:
    """Whether all files are what was made. Those that are not are left, with all behind them: they are made anew."""
    for one in parts:
        for name, stated in one.files.items():
            if segments.described(reading.folder(one.folder) / name)["sha256"] != stated["sha256"]:
                storing.leave(one.first)
                return False
    return True


def _written(snap: Snapshot, parts: Sequence[Extract]) -> tuple[str, dict[str, Any]]:
    first, following = parts[0].first, parts[-1].following
    with making.drafted() as (name, draft):
        _put_together(parts, draft, _Standing(parts))
        if COMPANIONS:
            folders = tuple(reading.folder(one.folder) for one in parts)
            dropped = tuple(reading.dropped(parts))
            with Question(snap, following, joined=False, seconds=making.SECONDS_MOST) as question:
                told = making.prepared(question, draft, first, following, parts=folders, dropped=dropped)
                for companion in COMPANIONS:
                    companion.merge(told)
    return name, making.described(name)


def _put_together(parts: Sequence[Extract], draft: Path, stands: Callable[[], None]) -> None:
    """Writes the records of all parts, each as the last one has it, and the last rows of earlier records."""
    folders = [reading.folder(one.folder) for one in parts]
    first = parts[0].first
    streams = [Rows(*(folder / RECORDS for folder in folders))]
    streams += [Rows(folder / OVERRIDES) for folder, one in zip(folders, parts, strict=True) if OVERRIDES in one.files]
    schema = streams[0].schema
    earlier = schema.append(pa.field("extract", pa.int64()))
    with contextlib.ExitStack() as files:
        records = files.enter_context(Writer(draft / RECORDS, schema, parts[-1].following - first))
        overrides: Writer | None = None
        while reached := [end for end in (one.reach() for one in streams) if end is not None]:
            stands()
            end = min(reached)
            rows = _last([one.below(end).select(schema.names) for one in streams])
            inside = rows["index"].to_numpy() >= first
            if inside.all():
                records.add(rows)
            else:
                records.add(rows.filter(pa.array(inside)))
                carried = rows.filter(pa.array(~inside))
                overrides = overrides or files.enter_context(Writer(draft / OVERRIDES, earlier))
                overrides.add(carried.append_column("extract", pa.array(np.full(carried.num_rows, first))))


def _last(tables: Sequence[pa.Table]) -> pa.Table:
    """Of several rows of one record that of the last table; by index."""
    some = [table for table in tables if table.num_rows]
    if len(some) == 1:
        return some[0]
    table = pa.concat_tables(some).combine_chunks()
    index = table["index"].to_numpy()
    places = np.lexsort((np.repeat(np.arange(len(some)), [each.num_rows for each in some]), index))
    return table.take(places[np.append(np.diff(index[places]) != 0, True)])


class _Standing:
    """Looks now and then whether these extracts still are in the manifest. Raises Changed when they are not."""

    def __init__(self, parts: Sequence[Extract]) -> None:
        self.folders = {one.folder for one in parts}
        self.looked_at = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self.looked_at < LOOK_SECONDS:
            return
        if not self.folders <= {one.folder for one in storing.manifest()}:
            raise storing.Changed
        self.looked_at = time.monotonic()
