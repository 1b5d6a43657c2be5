"""A segment written anew without what an erasure takes, in parts: memory does not grow with the segment."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lineage import derivation, projections, segments
from lineage.keyfiles import making
from lineage.rowgroups import Rows, Writer

STEP = 5_000
"""So many records are looked at at a time."""
DERIVED = {"events": projections.EVENTS, "touches": projections.TOUCHES}
Taken = Mapping[int, Collection[str]]


def rewrite(first: int, following: int, folder: str, files: dict[str, Any], taken: Taken) -> tuple[str, dict[str, Any]]:
    """A new folder with the same records without salt and value of the groups in `taken`; its name and its files.

    The leaves are copied byte for byte. What is derived of these records is derived again from what is left; of all
    records where another version made it. Their keys lose the content hashes. Nobody reads the new folder before the
    manifest names it.
    """
    place, name = segments.storage(), segments.new_name()
    draft = place.draft(name)
    try:
        shutil.copyfile(place.path(folder, "leaves"), draft / "leaves.parquet")
        segments.sync(draft / "leaves.parquet")
        _write(place.root / folder, draft, range(first, following), taken, derivation.is_current(files))
        derivation.write_facts(draft / "facts.parquet", [draft / "events.parquet"])
        derivation.write_heard(draft / "heard.parquet", draft / "events.parquet")
        tables = {**files, "facts": {}, "heard": {}}.keys() - {"keys"}
        written = {table: segments.described(draft / f"{table}.parquet") for table in sorted(tables)}
        if "keys" in files:
            written["keys"] = making.added(draft / segments.KEYS, making.erased(place.path(folder, "keys"), taken))
        derivation.say_versions(written)
        place.keep(name)
    except BaseException:
        place.discard(name)
        raise
    return name, written


def derive(old: Path, draft: Path, indexes: range, look: Callable[[], None]) -> None:
    """What is derived of the segment in the folder `old`, made again and durably in `draft`; `look` is called before each part."""
    stored = {table: Rows(old / f"{table}.parquet") for table in ("leaves", "disclosures")}
    with contextlib.ExitStack() as files:
        new = {
            table: files.enter_context(Writer(draft / f"{table}.parquet", schema, len(indexes)))
            for table, schema in DERIVED.items()
        }
        for start in range(indexes.start, indexes.stop, STEP):
            look()
            part = {table: rows.below(min(start + STEP, indexes.stop)) for table, rows in stored.items()}
            for table, fresh in _derived(part["leaves"], part["disclosures"], None).items():
                new[table].add(fresh)


def _write(old: Path, draft: Path, indexes: range, taken: Taken, current: bool) -> None:
    """The files but for the leaves; `current`: what was derived of the other records stays as it is."""
    schemas = {"disclosures": segments.DISCLOSURES, **DERIVED}
    stored = {table: Rows(old / f"{table}.parquet") for table in ("leaves", *schemas)}
    with contextlib.ExitStack() as open_files:
        new = {
            table: open_files.enter_context(Writer(draft / f"{table}.parquet", schema, len(indexes)))
            for table, schema in schemas.items()
        }
        for start in range(indexes.start, indexes.stop, STEP):
            end = min(start + STEP, indexes.stop)
            here = {index: taken[index] for index in range(start, end) if index in taken}
            part = {table: rows.below(end) for table, rows in stored.items()}
            left = _without(part["disclosures"], here) if here else part["disclosures"]
            new["disclosures"].add(left)
            if current and not here:
                fresh = {table: part[table] for table in DERIVED}
            else:
                fresh = _derived(part["leaves"], left, here if current else None)
                if current:
                    fresh = {table: _exchanged(part[table], rows, here) for table, rows in fresh.items()}
            for table, rows in fresh.items():
                new[table].add(rows)


def _without(disclosed: pa.Table, taken: Taken) -> pa.Table:
    """The same rows, without salt and value of the groups that are taken."""
    pairs = zip(disclosed["index"].to_pylist(), disclosed["group"].to_pylist(), strict=True)
    gone = pa.array([group in taken.get(index, ()) for index, group in pairs], pa.bool_())
    for name in ("salt", "value"):
        left = pc.if_else(gone, pa.scalar(None, pa.binary()), disclosed[name])
        place = disclosed.schema.get_field_index(name)
        disclosed = disclosed.set_column(place, segments.DISCLOSURES.field(name), left)
    return disclosed


def _derived(leaves: pa.Table, disclosed: pa.Table, only: Collection[int] | None) -> dict[str, pa.Table]:
    """The projections of these leaves (of all of them when `only` is None)."""
    if only is not None:
        chosen = pa.array(sorted(only), pa.int64())
        leaves = leaves.filter(pc.is_in(leaves["index"], chosen))
        disclosed = disclosed.filter(pc.is_in(disclosed["index"], chosen))
    groups: dict[int, list[bytes | None]] = {}
    for row in disclosed.to_pylist():
        groups.setdefault(row["index"], []).append(row["value"])
    events, touches = projections.tables(
        (r["index"], r["leaf"], groups.get(r["index"], ())) for r in leaves.to_pylist()
    )
    return {"events": events, "touches": touches}


def _exchanged(stored: pa.Table, fresh: pa.Table, taken: Collection[int]) -> pa.Table:
    """The stored rows with those of the records in `taken` exchanged, by index."""
    stored = stored.cast(fresh.schema)
    kept = stored.filter(pc.invert(pc.is_in(stored["index"], pa.array(sorted(taken), pa.int64()))))
    together = pa.concat_tables([kept, fresh])
    return together.take(pc.sort_indices(together, sort_keys=[("index", "ascending")]))
