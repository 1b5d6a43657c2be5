"""The inputs of one report, collected once as of one log size and frozen in a folder.

A retry renders from the frozen files and never asks again. Row values and statement literals stay out: they are in the
signed log, and a file that is mailed should hold no more than its test needs.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import itertools
import os
import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from django.conf import settings

from lineage import engine, errors, outside, queries, words
from lineage.access import Viewer
from lineage.events import Group
from reports import controls, frozen, meanwhile, parts

COVER_SECONDS = 30
BY_CLASS = "select datasource, kind, class, count(*) as n from population group by all order by all"
ITEMS_MOST = 1_000_000
"""So many accesses one report holds where a test looks at all of its acts at once: of many more that takes too much memory."""
ITEMS_MOST_IN_PARTS = 2_500_000
"""So many where each act is looked at by itself: to check many more takes too much memory (docs/decisions/042)."""
WITHHELD: tuple[Group, ...] = ("statement", "change")


@dataclasses.dataclass(frozen=True)
class Request:
    """What the report is about; half-open period, empty scope means everything that the viewer may see."""

    kind: str
    since: dt.datetime
    until: dt.datetime
    environment: str = ""
    datasources: tuple[str, ...] = ()
    q: str = ""
    draft_only: bool = False
    engagement: str = ""
    nonce: str = ""
    sample: str = ""
    control: str = ""
    framework: str = ""

    @property
    def tests(self) -> list[controls.Test]:
        """The tests that it is about."""
        return controls.asked(self.kind, self.control)


@dataclasses.dataclass(frozen=True)
class Evidence:
    """Frozen inputs: Parquet files by name of table, completeness counts, the checkpoint that covers all, and who outside held what."""

    folder: Path
    request: Request
    tables: dict[str, Path]
    completeness: dict[str, Any]
    as_of: int
    checkpoint: str
    collected_at: dt.datetime
    collected_by: str
    outside: str = words.NOTHING_OUTSIDE


def collect(viewer: Viewer, request: Request, folder: Path) -> Evidence:
    """Asks the store and freezes the answers in `folder`. Raises StoreUnavailable while no checkpoint covers the log."""
    evidence = gather(viewer, request, folder, _covering(viewer))
    _freeze(evidence)
    return evidence


def gather(viewer: Viewer, request: Request, folder: Path, under: tuple[int, str], most: int | None = None) -> Evidence:
    """What the store answers as of the size `under`, with the note over it; the tables lie in `folder`, and nothing is frozen.

    Of more accesses than `settings.REPORT_WHOLE` only those are taken that its tests can be about (docs/reports.md, Population).
    Raises QueryTooLong for a period of more than `most`, or where more belong to the report than it can hold (`items_most`).
    """
    size, checkpoint = under
    ask = (request.since, request.until)
    scope: dict[str, Any] = {
        "datasources": list(request.datasources) or None,
        "environment": request.environment or None,
        "as_of": size,
    }
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    tables = {frozen.POPULATION: folder / f"{frozen.POPULATION}.parquet"}
    with meanwhile.asked(lambda: queries.accesses(viewer, *ask, q=request.q, **scope)) as counting:
        given = frozen.asked(viewer, request.tests, *ask, **scope)
    counted = counting.result()
    for name, table in given.items():
        tables[name] = folder / f"{name}.parquet"
        write_table(table, tables[name])
    members = narrowing(request.tests, sum(each["n"] for each in counted), most)
    coming = queries.population(viewer, *ask, q=request.q, members=members, given=given, **scope)
    # Which accesses are meant is asked before the first of them comes, and takes most of the memory.
    first = next(coming)
    with meanwhile.asked(lambda: queries.completeness(viewer, *ask, **scope)) as completing:
        write_batches(itertools.chain([first], coming), tables[frozen.POPULATION], items_most(request.tests))
    try:
        completeness = completing.result()
    except errors.QueryTooLong:
        # Now it has the memory to itself.
        completeness = queries.completeness(viewer, *ask, **scope)
    completeness = msgspec.to_builtins(completeness)
    completeness |= {"accesses": counted, "narrowed": members is not None}
    matched = completeness["reconciliation"]
    # Sums come as decimals, which JSON knows as texts.
    completeness["reconciliation"] = {k: v if k == "mismatches" else int(v or 0) for k, v in matched.items()}
    return Evidence(
        folder,
        request,
        tables,
        completeness,
        size,
        checkpoint,
        dt.datetime.now(dt.UTC),
        viewer.email,
        outside.sentence(size),
    )


def items_most(tests: Sequence[controls.Test]) -> int:
    """How many accesses a report of these tests holds at most."""
    together = [test for test in tests if parts.ACTS in test.tables and test.id not in parts.BY_ACT]
    return ITEMS_MOST if together else ITEMS_MOST_IN_PARTS


def narrowing(tests: Sequence[controls.Test], accesses: int, most: int | None = None) -> list[tuple[str, ...]] | None:
    """What accesses must be to be frozen, in the words of the tests; None: all of a period are.

    Raises QueryTooLong for more than `most` accesses, and where a test needs all of more than `ITEMS_MOST`.
    """
    if most is not None and accesses > most:
        raise errors.QueryTooLong(f"The period holds more than {most:,} accesses. Choose a shorter one for this.")
    if accesses <= settings.REPORT_WHOLE:
        return None
    needing = [test.title for test in tests if test.members is None]
    if needing and accesses > ITEMS_MOST:
        raise errors.QueryTooLong(
            f"The period holds {accesses:,} accesses, of which {needing[0]} needs all, and one report holds at most "
            f"{ITEMS_MOST:,}. Choose a shorter period, or fewer databases."
        )
    return None if needing else [test.members for test in tests if test.members]


def _covering(viewer: Viewer) -> tuple[int, str]:
    """Size and note of the newest checkpoint once it covers every record that is in the log now."""
    wanted = queries.integrity(viewer)["size"]
    for _ in range(COVER_SECONDS * 2):
        found = queries.integrity(viewer)["checkpoints"]
        if found and found[0]["size"] >= wanted:
            note = found[0]["note"]
            return int(found[0]["size"]), note if isinstance(note, str) else bytes(note).decode()
        time.sleep(0.5)
    raise errors.StoreUnavailable("No checkpoint covers the newest records yet. Is the keeper running? Try again.")


def _freeze(evidence: Evidence) -> None:
    """Writes what was asked beside the tables, `inputs.json` last and by rename: a folder without it was never finished."""
    (evidence.folder / "checkpoint.txt").write_text(evidence.checkpoint)
    inputs = {
        "request": dataclasses.asdict(evidence.request),
        "completeness": evidence.completeness,
        "as_of": evidence.as_of,
        "collected_at": evidence.collected_at,
        "collected_by": evidence.collected_by,
        "outside": evidence.outside,
    }
    draft = evidence.folder / f".inputs.{os.getpid()}"
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(inputs)))
    draft.rename(evidence.folder / "inputs.json")


def freeze_again(found: Evidence, request: Request, folder: Path) -> Evidence:
    """The same inputs under another request, in another folder; the tables byte for byte."""
    tables = {name: folder / path.name for name, path in found.tables.items()}
    again = dataclasses.replace(found, folder=folder, request=request, tables=tables)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, path in found.tables.items():
        shutil.copyfile(path, tables[name])
    _freeze(again)
    return again


def load(folder: Path) -> Evidence | None:
    """What `collect` froze in `folder`, or None when it never finished."""
    if not (folder / "inputs.json").exists():
        return None
    inputs = msgspec.json.decode((folder / "inputs.json").read_bytes())
    request = msgspec.convert(inputs["request"], Request)
    return Evidence(
        folder,
        request,
        {name: folder / f"{name}.parquet" for name in frozen.names_of(request.tests)},
        inputs["completeness"],
        inputs["as_of"],
        (folder / "checkpoint.txt").read_text(),
        dt.datetime.fromisoformat(inputs["collected_at"]),
        inputs["collected_by"],
        inputs["outside"],
    )


def accesses(found: Evidence) -> list[dict[str, Any]]:
    """How many accesses the period has (`n`), by `datasource`, `kind` and `class`; inputs of older reports hold them all."""
    counted: list[dict[str, Any]] = (
        found.completeness.get("accesses") or engine.over(found.tables, BY_CLASS).to_pylist()
    )
    return counted


def write_table(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd")


def write_batches(rows: Iterable[pa.Table | pa.RecordBatch], path: Path, most: int | None = None) -> None:
    """Writes the rows as they come: a population of half a million is never held whole. Raises QueryTooLong beyond `most` rows."""
    coming = iter(rows)
    first = next(coming)
    written = 0
    with pq.ParquetWriter(path, first.schema, compression="zstd") as file, meanwhile.behind(file.write) as write:
        for part in coming:
            written += part.num_rows
            if most is not None and written > most:
                raise errors.QueryTooLong(
                    f"More than {most:,} accesses of the period belong to this report. Choose a shorter period, or fewer databases."
                )
            write(part)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
