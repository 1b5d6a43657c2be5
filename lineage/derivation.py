"""What a segment keeps that was derived of its records: facts (docs/joining.md), who was heard when, and which version made it.

Of many records facts are made and brought together in shares, so that memory does not grow with the segment: DuckDB does not
sort and group five million of them within its limit, though it may spill.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from lineage import engine, facts, heard, projections, rowgroups

OF_EVENTS = ("facts", "heard")
IN_ORDER = " order by what, day, index"
FACTS_MOST = 1_000_000
"""So many facts are brought together at a time, or of so many rows of events or facts."""
FEW = 50_000
"""Up to so many rows the facts of `few` cost no more than those of many."""


def write_facts(path: Path, events: Sequence[Path] = (), told: Sequence[Path] = ()) -> None:
    """Writes, durably, what these files of events and of facts say that others are joined with, each content once."""
    tables = {name: files for name, files in (("events", events), ("told", told)) if files}
    parts = {"events": f"from ({_made(tables)})", "told": "from told"}
    with rowgroups.Writer(path, facts.SCHEMA) as file:
        for share in _shares(tables):
            for part in engine.batches_over(
                tables, facts.together([f"{parts[name]} where {share}" for name in tables])
            ):
                file.add(part)


def facts_agree(events: Path, stored: Path) -> bool:
    """Whether the facts in one file are those of the events in the other."""
    tables = {"events": [events], "told": [stored]}
    made = f"from ({_made(tables)})"
    return all(
        engine.agree(tables, facts.agree(f"{made} where {share}", f"from told where {share}"))
        for share in _shares(tables)
    )


def _made(tables: Mapping[str, Sequence[Path]]) -> str:
    return facts.made_of("events", few=_rows(tables) <= FEW)


def _rows(tables: Mapping[str, Sequence[Path]]) -> int:
    return sum(pq.read_metadata(path).num_rows for files in tables.values() for path in files)


def _shares(tables: Mapping[str, Sequence[Path]]) -> Iterator[str]:
    """Conditions of which each fact meets one, and none is met by many more than `FACTS_MOST`; neighbours stay neighbours."""
    if _rows(tables) <= FACTS_MOST:
        yield "true"
        return
    counts = {
        "events": facts.counted("events"),
        "told": "select fact, datasource, count(*) as times from told group by fact, datasource",
    }
    every = " union all ".join(counts[name] for name in tables)
    asked = (
        f"select fact, coalesce(datasource, '') as datasource, sum(times)::bigint as times from ({every}) "  # noqa: S608
        "group by all order by all"
    )
    for fact, told in itertools.groupby(engine.over(tables, asked).to_pylist(), lambda one: one["fact"]):
        yield from (
            f"fact = '{fact}' and {share}" for share in _spans([(one["datasource"], one["times"]) for one in told])
        )


def _spans(told: Sequence[tuple[str, int]]) -> Iterator[str]:
    """Neighbouring datasources together, as long as they are few facts; one of many by itself, in parts."""
    first, total = 0, 0
    for number, (_, times) in enumerate(told):
        if total and total + times > FACTS_MOST:
            yield from _within(told[first][0], told[number - 1][0], total)
            first, total = number, 0
        total += times
    yield from _within(told[first][0], told[-1][0], total)


def _within(first: str, last: str, times: int) -> Iterator[str]:
    low, high = (name.replace("'", "''") for name in (first, last))
    parts = -(-times // FACTS_MOST)
    for number in range(parts):
        span = f"coalesce(datasource, '') between '{low}' and '{high}'"
        # The same for equal contents.
        yield f"{span} and hash(xid, db_session_id, vid, call) % {parts} = {number}" if parts > 1 else span


def write_heard(path: Path, events: Path) -> None:
    """Writes, durably, which sources these records were heard of, and when (docs/coverage.md)."""
    with rowgroups.Writer(path, heard.SCHEMA) as file:
        for part in engine.batches_over({"events": events}, heard.made_of("events") + IN_ORDER):
            file.add(part)


def write_sealed(folder: Path) -> None:
    """Both of the same, of what one seal takes: so few records need no shares, and planning them apart would cost as much again."""
    asked = (facts.made_of("events", few=True), heard.made_of("events") + IN_ORDER)
    parts = engine.each_over({"events": folder / "events.parquet"}, asked)
    for (name, schema), rows in zip((("facts", facts.SCHEMA), ("heard", heard.SCHEMA)), parts, strict=True):
        with rowgroups.Writer(folder / f"{name}.parquet", schema) as file:
            for part in rows:
                file.add(part)


def has_facts(files: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the segment has facts of the present version."""
    return files.get("facts", {}).get("projection") == facts.VERSION


def has_heard(files: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the segment has who was heard, of the present version."""
    return files.get("heard", {}).get("projection") == heard.VERSION


def is_current(files: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether `events` and `touches` are of the present version."""
    return all(files[name].get("projection") == projections.VERSION for name in ("events", "touches"))


def outdated(files: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The files that an older version derived, or that are made of such, or that there were not yet."""
    if not is_current(files):
        return {"events", "touches", *OF_EVENTS}
    return {name for name, is_told in (("facts", has_facts), ("heard", has_heard)) if not is_told(files)}


def write_of_events(folder: Path, names: Collection[str]) -> None:
    """Makes those of these files that are made of `events`, of the one that lies in the same folder."""
    if "facts" in names:
        write_facts(folder / "facts.parquet", [folder / "events.parquet"])
    if "heard" in names:
        write_heard(folder / "heard.parquet", folder / "events.parquet")


def say_versions(files: dict[str, dict[str, Any]]) -> None:
    """Which code made what is derived: of another version it is not compared, and of facts and `heard` not used."""
    for name in ("events", "touches"):
        files[name]["projection"] = projections.VERSION
    files["facts"]["projection"] = facts.VERSION
    files["heard"]["projection"] = heard.VERSION
