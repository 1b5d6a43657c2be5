"""The files that go with a report: frozen tables, the tests and their answers, an evidence pack, and the list of them all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lineage import engine, packs, queries
from lineage.access import Viewer
from lineage.events import GROUPS
from reports import archives, controls, evidence, frozen, items, sampling, signing
from reports.controls import Test
from reports.evidence import Evidence
from reports.models import Report
from reports.outcomes import Outcome, Result
from reports.render import Attached

MANIFEST, PACK = "manifest.json", "evidence.touchstone.zip"
PARQUET = "application/vnd.apache.parquet"
COMMON = (
    ("completeness.json", "The counts of sections 3 and 4", "application/json", "Data"),
    (
        PACK,
        f"Evidence pack: the records tested, at most {packs.RECORDS_MOST:,}, with proofs",
        "application/zip",
        "Supplement",
    ),
    ("sample.json", "The sample of each test, and what it takes to draw it again", "application/json", "Data"),
    ("exceptions.json", "What was said of the deviations before this report", "application/json", "Data"),
    ("checkpoint.txt", "The signed checkpoint that covers every record", "text/plain", "Supplement"),
    ("report-certificate.pem", "The certificate of this file's signature", "application/x-pem-file", "Supplement"),
)
Described = tuple[str, str, str, str]
"""Name, words, media type, relationship (ISO 32000-2 section 7.11.3)."""


def described(tests: Sequence[Test]) -> list[Described]:
    """What goes with a report of these tests, in the order in which it is listed."""
    found: list[Described] = [
        (f"{name}.parquet", frozen.TABLES[name].title, PARQUET, "Data") for name in frozen.names_of(tests)
    ]
    for table in controls.tables_of(tests):
        found += [
            (f"{table.id}.parquet", table.title, PARQUET, "Data"),
            (f"{table.id}.sql", f"How {table.id}.parquet was made from the tables above", "application/sql", "Source"),
        ]
    for test in tests:
        answer = f"{test.title}: the test's answer, one row for each {test.item}"
        found += [
            (f"{test.stem}.items.parquet", answer, PARQUET, "Data"),
            (f"{test.stem}.sql", f"{test.title}: the test, as it was run", "application/sql", "Source"),
        ]
    late = ("late.parquet", "The accesses that came after the report that this supplement amends", PARQUET, "Data")
    return [*found, late, *COMMON]


def _tests(result: Result) -> list[Test]:
    return [outcome.test for outcome in result.outcomes]


def write(report: Report, found: Evidence, result: Result, viewer: Viewer) -> list[dict[str, Any]]:
    """Writes what the tests made into the folder, and the manifest over all files; returns the manifest's lines."""
    folder = found.folder
    for table in controls.tables_of(_tests(result)):
        (folder / f"{table.id}.sql").write_text(table.sql, encoding="utf-8")
    for outcome in result.outcomes:
        (folder / f"{outcome.test.stem}.sql").write_text(outcome.test.sql, encoding="utf-8")
    (folder / "completeness.json").write_bytes(msgspec.json.format(msgspec.json.encode(found.completeness)))
    (folder / "report-certificate.pem").write_bytes(signing.certificate_pem())
    write_sample(folder, result)
    _pack(found, result, viewer)
    listed = [(folder / name, words) for name, words, _, _ in described(_tests(result)) if (folder / name).exists()]
    lines = archives.placed([_line(path, words) for path, words in listed])
    manifest = {
        "report": report.number,
        "kind": report.kind,
        "period": {"from": report.period_from, "to": report.period_to},
        "environment": report.environment,
        "datasources": report.datasources,
        "status": report.status,
        "as_of": found.as_of,
        "counts": result.counts,
        "conclusion": result.conclusion,
        "tests": [
            {
                "id": one.test.id,
                "sha256": one.test.sha256,
                "counts": one.counts(),
                "conclusion": one.conclusion,
                "sample": one.sample.told(),
            }
            for one in result.outcomes
        ],
        "files": lines,
    }
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest, order="sorted")))
    return lines


def write_sample(folder: Path, result: Result) -> None:
    """`sample.json`: the sample of each test, with the file that it is drawn from."""
    samples = [one.sample.told() | {"file": f"{one.test.stem}.items.parquet"} for one in result.outcomes]
    (folder / "sample.json").write_bytes(msgspec.json.format(msgspec.json.encode({"samples": samples})))


def embedded(folder: Path, result: Result, lines: Sequence[dict[str, Any]]) -> list[Attached]:
    """The files of the folder that the PDF carries, the manifest last."""
    inside = {line["name"] for line in lines if line["place"] == archives.IN_PDF} | {MANIFEST}
    listed = [*described(_tests(result)), (MANIFEST, "List of the attachments", "application/json", "Supplement")]
    return [
        Attached(str(folder / name), name, words, media, relationship)
        for name, words, media, relationship in listed
        if name in inside
    ]


def archive(folder: Path, lines: Sequence[dict[str, Any]], out: Path) -> None:
    """The ZIP of all files and the manifest beside the PDF, when some are too large to be in it."""
    if archives.goes_with(lines):
        archives.write(folder, [*(line["name"] for line in lines), MANIFEST], out)


def _pack(found: Evidence, result: Result, viewer: Viewer) -> None:
    """The evidence pack of the records tested and of the approvals that they are held against; made once."""
    path = found.folder / PACK
    tested = pack_indexes(result.outcomes, packs.RECORDS_MOST)
    indexes = tested or _newest(found, viewer)
    if path.exists() or not indexes:
        return
    draft = path.with_suffix(".draft")
    pack = packs.parts(
        viewer,
        found.request.q,
        queries.Window(found.request.since, found.request.until, found.request.environment or None),
        withhold=evidence.WITHHELD if tested else GROUPS,
        earlier=found.checkpoint,
        indexes=indexes,
    )
    with draft.open("wb") as file:
        file.writelines(pack)
    draft.rename(path)


def _newest(found: Evidence, viewer: Viewer) -> list[int]:
    """Where nothing was tested one record all the same, all of it withheld: its pack shows who outside holds the checkpoint."""
    (newest,) = engine.over(found.tables, "select max(index) as at from population")["at"].to_pylist()
    if newest is not None:
        return [newest]
    return [] if viewer.is_narrowed else [found.as_of - 1]


def pack_indexes(found: Sequence[Outcome], most: int) -> list[int]:
    """Log indexes of the pack's records, at most so many: approvals, deviating and sampled items before the others."""
    first: set[int] = set()
    rest: set[int] = set()
    for outcome in found:
        left = most
        for part in outcome.answer.parts("approval_index", "deviations", "indexes"):
            if "approval_index" in part.column_names:
                first |= set(pc.drop_null(part["approval_index"]).to_pylist())
            first |= set(pc.list_flatten(part.filter(items.deviate(part))["indexes"]).to_pylist())
            if len(first) > 2 * most:
                # No more than the lowest are taken.
                first = set(sorted(first)[:most])
            rest |= set(pc.list_flatten(part["indexes"].slice(0, left)).to_pylist())
            left -= min(left, part.num_rows)
        first |= {index for row in sampling.rows(outcome.answer, outcome.sample) for index in row["indexes"]}
    chosen = sorted(first)[:most]
    return sorted({*chosen, *sorted(rest - first)[: most - len(chosen)]})


def _line(path: Path, words: str) -> dict[str, Any]:
    rows = pq.read_metadata(path).num_rows if path.suffix == ".parquet" else None
    return {
        "name": path.name,
        "description": words,
        "bytes": path.stat().st_size,
        "rows": rows,
        "sha256": evidence.sha256(path),
    }
