"""The checks of a PDF report: its signature, its attachments, and its tests run again over the attached tables."""

from __future__ import annotations

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from lineage import archive, notes
from lineage.archive import Stored
from lineage.errors import PackInvalid, PackUnreadable, TouchstoneError
from lineage.verify import attached, cover, draws, pdf, reruns, trust
from lineage.verify.attached import MANIFEST, Report
from lineage.verify.evidence import Evidence
from lineage.verify.reruns import Table
from lineage.verify.verdicts import Check, Finding, Verdict, run

CHECKPOINT, SAMPLE = "checkpoint.txt", "sample.json"
ALONE = "The PDF carries a pack and no list of attachments: nothing but the pack and the signature is judged."
NAMED_MOST = 8
UNJUDGED = {(16, "fail"), (16, "missing"), (17, "fail")}
OPERATED, DEVIATED, NOT_OCCURRED, NOT_TESTED = (
    "operated without deviation", "deviations noted", "did not occur", "could not be tested",
)  # fmt: skip
GRAVEST = (NOT_TESTED, DEVIATED, OPERATED, NOT_OCCURRED)
HEADERS = ("event_id", "kind", "class", "sequence", "occurred_at", "received_at")
"""What a leaf says in clear of its record, by the columns of the population."""
TOLD = ("op", "command", "environment", "datasource", "database", "verdict")
"""What a record says of itself in its disclosed action group, by the columns of the population; nothing of it is joined."""

Judge = Callable[[bytes | Stored], tuple[list[Check], Evidence | None]]


def verify(data: bytes, policy: notes.Policy | None, judge: Judge, zipped: Stored | None = None) -> Verdict:
    """The verdict on a PDF, with the ZIP beside it; `judge` gives the checks of the pack inside. PackUnreadable: it is no report."""
    carried, beside = pdf.carried(data), attached.beside(zipped)
    carried = replace(carried, files={**beside, **carried.files})
    has_pack = pdf.ATTACHMENT in carried.files
    if not has_pack and MANIFEST not in carried.files:
        raise PackUnreadable(f"The PDF carries no attachment named {pdf.ATTACHMENT}.")
    checks, pack = _pack(carried, judge) if has_pack else ([], None)
    report = Report(carried, pack, beside)
    if not has_pack:
        checks += _without_pack(report, policy)
    checks.append(run(15, "pdf", lambda: pdf.signature(data, policy)))
    for number, name, check in CHECKS:
        checks.append(run(number, name, lambda check=check: _listed(report, check)))  # type: ignore[misc]
        if number == 17 and {(each.number, each.state) for each in checks} & UNJUDGED:
            # The attachments are not those that were handed out, or not all here: what they answer is not judged.
            break
    return Verdict.of(checks)


def _pack(carried: pdf.Carried, judge: Judge) -> tuple[list[Check], Evidence | None]:
    inside = carried.files[pdf.ATTACHMENT]
    try:
        if inside is None:
            raise PackUnreadable("it cannot be read.")
        return judge(inside)
    except PackUnreadable as error:
        return [Check(1, "archive", "fail", f"The attachment {pdf.ATTACHMENT} is damaged: {error.message}")], None


def _without_pack(report: Report, policy: notes.Policy | None) -> list[Check]:
    """A report that tested nothing has no pack; its checkpoint is judged by itself."""

    def note() -> bytes:
        return report.file(CHECKPOINT)

    def last() -> int:
        return notes.parse_checkpoint(notes.read_note(note()).text).size - 1

    return [
        run(9, "signature", lambda: trust.signature(policy, [note()])),
        run(10, "witnesses", lambda: trust.witnesses(policy, [note()], last())),
    ]


def _listed(report: Report, check: Callable[[Report], Finding]) -> Finding:
    if MANIFEST not in report.carried.files and set(report.carried.files) == {pdf.ATTACHMENT}:
        return "note", ALONE
    try:
        return check(report)
    except reruns.Stopped as error:
        return "missing", error.message
    except (TouchstoneError, MemoryError):
        raise
    except Exception as error:
        # What a forged attachment holds may be of any type, and fails anywhere. So does who has no memory left.
        pdf.expect_memory(error)
        raise PackInvalid("An attachment holds what does not follow its form.") from error


def _attachments(report: Report) -> Finding:
    listed, files = {line["name"]: line for line in report.manifest["files"]}, report.carried.files
    away = {name for name, line in listed.items() if line.get("place") == "archive" and name not in files}
    damaged = sorted(name for name, data in files.items() if data is None)
    hashes = {name: archive.described(data)[1] for name, data in files.items() if data is not None}
    faults = {
        "cannot be read": damaged,
        "not in the list": sorted(set(files) - set(listed) - {MANIFEST}),
        "in the list and not in the file": sorted(set(listed) - set(files) - away),
        "changed in the ZIP": sorted(name for name, data in report.beside.items() if _differs(data, listed.get(name))),
        "changed": sorted(
            name for name, each in hashes.items() if name in listed and listed[name].get("sha256") != each
        ),
    }
    told = [f"{words}: {_names(names)}" for words, names in faults.items() if names]
    if told:
        raise PackInvalid(f"The attachments are not those of {MANIFEST}. {'; '.join(told)}.")
    if away:
        return (
            "missing",
            f"{len(away)} files of the list lie in the ZIP beside the report: give it with --archive. {_names(sorted(away))}.",
        )
    status = str(report.manifest.get("status"))[:40]
    return (
        "pass",
        f"{len(listed)} attachments with the SHA-256 that {MANIFEST} names, and no other. It says of itself: {status}.",
    )


def _differs(data: Stored, line: Mapping[str, Any] | None) -> bool:
    return line is not None and line.get("sha256") != data.sha256()


def _names(names: list[str]) -> str:
    more = len(names) - NAMED_MOST
    return ", ".join(name[:80] for name in names[:NAMED_MOST]) + (f" and {more} more" if more > 0 else "")


def _cover(report: Report) -> Finding:
    own, printed = hashlib.sha256(report.file(MANIFEST)).hexdigest(), cover.LISTED.findall(report.carried.cover)
    if not printed:
        return "missing", f"No hash of {MANIFEST} could be read on the cover. Compare it by eye: {own}."
    if printed != [own]:
        raise PackInvalid(f"The cover prints another SHA-256 of {MANIFEST} ({printed[0]}) than it has ({own}).")
    return "pass", f"The cover prints the SHA-256 of {MANIFEST}: {own}."


def _checkpoint(report: Report) -> Finding:
    told = report.file(CHECKPOINT)
    point = notes.parse_checkpoint(notes.read_note(told).text)
    if point.size != report.manifest.get("as_of"):
        raise PackInvalid(f"{CHECKPOINT} is of {point.size} records, {MANIFEST} of {report.manifest.get('as_of')}.")
    if report.pack is None:
        if pdf.ATTACHMENT in report.carried.files:
            return "missing", "The pack could not be judged, so its checkpoint was not compared."
        return (
            "pass",
            f"The report rests on the checkpoint of {point.size} records; it tested nothing and carries no pack.",
        )
    content = report.pack.content
    texts = [notes.read_note(each).text for each in (content.checkpoint, content.earlier) if each is not None]
    if notes.read_note(told).text not in texts:
        raise PackInvalid(f"{CHECKPOINT} is neither the pack's checkpoint nor one that the pack continues.")
    return (
        "pass",
        f"The report rests on the checkpoint of {point.size} records, which is the pack's or one that it continues.",
    )


def _tables(report: Report) -> Finding:
    lacking = reruns.lacking()
    if lacking:
        return "missing", f"Not re-run: install {lacking}."
    derived = [name for name in report.carried.files if name.endswith(".sql") and _is_table(report, name)]
    for name in derived:
        stem = name.removesuffix(".sql")
        if stem not in report.tables:
            raise PackInvalid(f"{name} is attached without {stem}.parquet.")
        found = reruns.difference(report.tables[stem], report.answer(name, "table"))
        if found:
            raise PackInvalid(f"{stem}.parquet is not what {name} makes of the attached tables: {found}.")
    if not derived:
        return "note", "The report carries no derived table."
    return "pass", f"Made again from the attached tables, row for row the same: {_names(derived)}."


def _is_table(report: Report, name: str) -> bool:
    return reruns.head(name, report.text(name))[0] == "table"


def _tests(report: Report) -> Finding:
    lacking = reruns.lacking()
    if lacking:
        return "missing", f"Not re-run: install {lacking}."
    told, counted = [], []
    for one in report.manifest["tests"]:
        counted.append(_run_again(report, one))
        told.append(f"{one['id']} {counted[-1]['deviating']} of {counted[-1]['tested']} deviate")
    _totals(report, counted)
    return (
        "pass",
        f"Run again over the attached tables, answers, counts and conclusions are the same: {', '.join(told)}.",
    )


def _run_again(report: Report, one: dict[str, Any]) -> dict[str, int]:
    """Runs one test; its counts. PackInvalid names what differs."""
    stem = one["id"].replace("-", "_")
    name, held = f"{stem}.sql", report.tables.get(f"{stem}.items")
    if held is None or hashlib.sha256(report.file(name)).hexdigest() != one.get("sha256"):
        raise PackInvalid(f"{name} is not the test that {MANIFEST} names, or its answer is not attached.")
    found = reruns.difference(held, report.answer(name, "test"))
    if found:
        raise PackInvalid(f"{stem}.items.parquet is not what {name} answers over the attached tables: {found}.")
    counts = reruns.counts(held)
    wrong = [key for key, count in counts.items() if one["counts"].get(key, count) != count]
    if wrong or not set(counts) & set(one["counts"]):
        raise PackInvalid(f"{MANIFEST} counts otherwise for {one['id']}: {', '.join(wrong) or 'nothing'}.")
    if one["conclusion"] not in _possible(report, counts):
        raise PackInvalid(f"{one['id']}: “{str(one['conclusion'])[:60]}” does not follow from {counts}.")
    return counts


def _possible(report: Report, counts: dict[str, int]) -> set[str]:
    """The conclusions that counts allow. Whether enough was received to test anything is said by completeness.json."""
    if counts["tested"] == 0:
        return {NOT_OCCURRED, NOT_TESTED}
    return {DEVIATED if counts["deviating"] else OPERATED, NOT_TESTED}


def _totals(report: Report, counted: list[dict[str, int]]) -> None:
    """PackInvalid unless the report's own counts and conclusion are those of its tests and population."""
    said, kinds = report.manifest["counts"], Counter[str]()
    for part in report.tables["population"].each("kind"):
        kinds.update(part["kind"].to_pylist())
    sums = {key: sum(each[key] for each in counted) for key in counted[0] if key != "actors"}
    sums |= {"population": kinds.total(), "statements": kinds["query"], "row_changes": kinds["change"]}
    wrong = [key for key, count in sums.items() if said.get(key, count) != count]
    if wrong or "population" not in said:
        raise PackInvalid(f"{MANIFEST} counts otherwise over all: {', '.join(wrong) or 'population'}.")
    conclusions = [one["conclusion"] for one in report.manifest["tests"]]
    gravest = min(conclusions, key=GRAVEST.index)
    if report.manifest.get("conclusion") != gravest:
        raise PackInvalid(f"{MANIFEST} concludes otherwise than its tests: {gravest}.")


def _records(report: Report) -> Finding:
    lacking = reruns.lacking()
    if lacking:
        return "missing", f"Not compared: install {lacking}."
    population = report.tables.get("population")
    if population is None or not {"index", *HEADERS, *TOLD} <= set(population.names):
        raise PackInvalid("population.parquet is lacking, or has not the columns of a record.")
    number = reruns.different(population, "index")
    if number is None:
        raise PackInvalid("population.parquet holds a record twice.")
    point = notes.parse_checkpoint(notes.read_note(report.file(CHECKPOINT)).text)
    for part in population.each("index"):
        beyond = [index for index in part["index"].to_pylist() if not 0 <= index < point.size]
        if beyond:
            raise PackInvalid(f"Record {beyond[0]} of population.parquet is not below the report's checkpoint.")
    return "pass", _presence(_shared(report.pack, population) if report.pack else 0, number)


def _shared(pack: Evidence, population: Table) -> int:
    """How many records of the population are in the pack. PackInvalid names the first of which the two say otherwise."""
    shared, faults = 0, dict[int, TouchstoneError]()
    for part in population.each("index", *HEADERS, *TOLD):
        known = [place for place, index in enumerate(part["index"].to_pylist()) if index in pack.records]
        shared += len(known)
        for row in part.take(known).to_pylist() if known else ():
            try:
                _same_record(row["index"], row, pack)
            except TouchstoneError as error:
                faults[row["index"]] = error
    if faults:
        raise faults[min(faults)]
    return shared


def _presence(shared: int, all_of_them: int) -> str:
    same = "with the same id, kind, class, times, operation, database and verdict"
    said = f"{shared} of {all_of_them} records of the population are in the pack, {same}"
    rest = all_of_them - shared
    return f"{said}. Of the other {rest} nothing is shown here: ask for a pack of them." if rest else f"{said}."


def _same_record(index: int, row: dict[str, Any], pack: Evidence) -> None:
    """PackInvalid: the population says otherwise of a record than its leaf and what is disclosed of it."""
    leaf, action = pack.records[index], pack.fields(index, "action")
    said = {column: getattr(leaf, "class_" if column == "class" else column) for column in HEADERS}
    said |= {column: action.get(column) for column in TOLD}
    if row["verdict"] == "unknown":
        # Nor is a verdict a fact that its source was not allowed to assert.
        said["verdict"] = None
    for column, word in said.items():
        held = row[column]
        moment = f"{held.isoformat(timespec='microseconds')[:26]}Z" if hasattr(held, "isoformat") else held
        if word is not None and moment != word:
            raise PackInvalid(f"population.parquet says otherwise of record {index} than the signed log: {column}.")


def _samples(report: Report) -> Finding:
    lacking = reruns.lacking()
    if lacking:
        return "missing", f"Not drawn again: install {lacking}."
    drawn = 0
    beside = {str(each.get("test")): each for each in _sample_file(report)}
    for one in report.manifest["tests"]:
        told, held = one.get("sample"), report.tables.get(f"{one['id'].replace('-', '_')}.items")
        if not isinstance(told, dict) or held is None or told.get("test") != one["id"]:
            raise PackInvalid(f"{MANIFEST} names no sample of {one['id']}.")
        found = draws.differing(told, functools.partial(_population, f"{one['id']}'s answer", held))
        if found or any(beside.get(one["id"], {}).get(name) != value for name, value in told.items()):
            raise PackInvalid(f"The sample of {one['id']} is not as drawn again: {found or SAMPLE}.")
        drawn += int(told["size"])
    return (
        "pass",
        f"Drawn again from the tests' answers, the same {drawn} items. Nobody picked them unless somebody knew the nonce.",
    )


def _population(name: str, answer: Table) -> Iterator[str]:
    """The items of a test that were tested, in the order in which they are drawn from."""
    if not {"item", "occurred_at", "tested"} <= set(answer.names):
        raise KeyError
    for part in reruns.answer(name, draws.ORDERED, {"answer": answer}):
        yield from part["item"].to_pylist()


def _sample_file(report: Report) -> list[dict[str, Any]]:
    try:
        return [dict(each) for each in json.loads(report.text(SAMPLE))["samples"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PackInvalid(f"{SAMPLE} does not follow its form.") from error


CHECKS: tuple[tuple[int, str, Callable[[Report], Finding]], ...] = (
    (16, "attachments", _attachments),
    (17, "cover", _cover),
    (18, "checkpoint", _checkpoint),
    (19, "tables", _tables),
    (20, "tests", _tests),
    (21, "records", _records),
    (22, "samples", _samples),
)
