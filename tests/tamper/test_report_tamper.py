"""A PDF report changed in every attachment, in many places of the file, and by an insider who repairs what gave it away."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pikepdf
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from lineage import notes
from lineage.verify import attached, pdf, report, verify
from lineage.verify.checks import pack as judge
from lineage.verify.verdicts import Verdict, run
from reports import policies, signing
from tests.reports.test_issuing import Shop, file_of, issued, shop  # noqa: F401

pytestmark = pytest.mark.slow
Made = tuple[bytes, notes.Policy, str]
BASE = Path(__file__).resolve().parents[2]
CACHE: list[tuple[Made, bytes]] = []


@pytest.fixture
def made(request: pytest.FixtureRequest, tmp_path: Path, settings: Any) -> Made:
    """One report of the shop's day, made once, with the policy of day one; the key that signed it is there for insiders."""
    if not CACHE:
        request.getfixturevalue("shop")
        data = file_of(issued(environment="prod")).read_bytes()
        CACHE.append(((data, notes.parse_policy(policies.text()), policies.text()), signing.key_path().read_bytes()))
    settings.DATA_DIR = str(tmp_path)
    signing.key_path().parent.mkdir(exist_ok=True)
    signing.key_path().write_bytes(CACHE[0][1])
    return CACHE[0][0]


@functools.cache
def files_of(data: bytes) -> dict[str, bytes]:
    return {name: body for name, body in pdf.carried(data).files.items() if body is not None}


def told(verdict: Verdict) -> dict[str, tuple[str, str]]:
    return {check.name: (check.state, check.sentence) for check in verdict.checks}


def with_file(data: bytes, name: str, body: bytes | None) -> bytes:
    """The PDF with another file of this name, or without it."""
    with pikepdf.open(io.BytesIO(data)) as document:
        del document.attachments[name]
        if body is not None:
            document.attachments[name] = body
        # So that it can be signed again: the old signature's place goes.
        if "/AcroForm" in document.Root:
            del document.Root.AcroForm
        for page in document.pages:
            if "/Annots" in page:
                del page.Annots
        out = io.BytesIO()
        document.save(out)
        return out.getvalue()


def flipped(body: bytes) -> bytes:
    at = len(body) // 2
    return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]


def test_the_untouched_report_is_valid_and_its_tests_are_run_again(made: Made) -> None:
    data, policy, _ = made
    verdict = verify(data, policy)
    found = told(verdict)
    assert (verdict.exit, [check.number for check in verdict.checks]) == (0, list(range(1, 23))), verdict
    assert {found[name][0] for _, name, _ in report.CHECKS} == {"pass"}
    assert "acts.sql" in found["tables"][1]
    assert "privileged-access 3 of 4 deviate" in found["tests"][1]
    assert "5 of 10 records of the population are in the pack" in found["records"][1]
    again = verify(signing.sign(with_file(data, "acts.sql", files_of(data)["acts.sql"])), policy)
    assert told(again)["attachments"][0] == "pass"


def test_a_changed_lacking_or_added_attachment_is_refused_by_its_name_though_it_is_signed_again(made: Made) -> None:
    data, policy, _ = made
    for name, body in files_of(data).items():
        for other in (flipped(body), None):
            verdict = verify(with_file(data, name, other), policy)
            sentences = [check.sentence for check in verdict.checks if check.state == "fail"]
            assert verdict.exit == 1, name
            assert any(name in sentence for sentence in sentences), (name, sentences)
            assert "tests" not in told(verdict)
    verdict = verify(signing.sign(with_file(data, "roles.parquet", files_of(data)["owners.parquet"])), policy)
    assert told(verdict)["attachments"][1].endswith("changed: roles.parquet.")
    with pikepdf.open(io.BytesIO(data)) as document:
        document.attachments["letter.txt"] = b"trust me"
        out = io.BytesIO()
        document.save(out)
    assert "not in the list: letter.txt" in told(verify(out.getvalue(), policy))["attachments"][1]


def test_no_byte_of_the_file_can_be_another(made: Made) -> None:
    data, policy, _ = made
    gap = data.index(b"/Contents <") + 11
    # Most of the file, and of the signature's own container the part in front that it does not cover itself.
    for at in [*range(7, len(data), len(data) // 12), *range(gap, gap + 100, 12)]:
        verdict = verify(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :], policy)
        assert verdict.exit in (1, 3), at
        assert "PDF" in verdict.sentence or told(verdict)["pdf"][0] == "fail", at


def forged(data: bytes, policy: notes.Policy, changes: Mapping[str, bytes]) -> dict[str, tuple[str, str]]:
    """The checks of the attachments after an insider changed them, and repaired the list and the cover."""
    files = files_of(data) | changes
    manifest = json.loads(files["manifest.json"])
    for line in manifest["files"]:
        line["sha256"] = hashlib.sha256(files[line["name"]]).hexdigest()
    for one in manifest["tests"]:
        one["sha256"] = hashlib.sha256(files[f"{one['id'].replace('-', '_')}.sql"]).hexdigest()
    manifest |= json.loads(changes.get("counts", b"{}"))
    files["manifest.json"] = json.dumps(manifest).encode()
    files.pop("counts", None)
    cover = f"manifest.json){hashlib.sha256(files['manifest.json']).hexdigest()}"
    evidence = judge(files[pdf.ATTACHMENT], policy, (), None)[1]
    whole = attached.Report(pdf.Carried(files, cover), evidence)
    checks = [run(number, name, lambda check=check: check(whole)) for number, name, check in report.CHECKS]  # type: ignore[misc]
    return {check.name: (check.state, check.sentence) for check in checks}


def parquet(table: pa.Table) -> bytes:
    out = pa.BufferOutputStream()
    pq.write_table(table, out)
    return out.getvalue().to_pybytes()


def replaced(data: bytes, name: str, change: Callable[[pa.Table], pa.Table]) -> dict[str, bytes]:
    return {name: parquet(change(pq.read_table(pa.BufferReader(files_of(data)[name]))))}


def without_last(table: pa.Table) -> pa.Table:
    return table.slice(0, table.num_rows - 1)


def as_reads(table: pa.Table) -> pa.Table:
    at = table.column_names.index("class")
    return table.set_column(at, "class", pa.array(["read"] * table.num_rows))


def allowed(table: pa.Table) -> pa.Table:
    at = table.column_names.index("verdict")
    return table.set_column(
        at, "verdict", pc.if_else(pc.equal(table["verdict"], "blocked"), "allowed", table["verdict"])
    )


def test_an_insider_who_repairs_list_and_cover_is_given_away_by_the_tables_the_tests_or_the_log(made: Made) -> None:
    data, policy, _ = made
    files, items = files_of(data), "privileged_access.items.parquet"
    assert {state for state, _ in forged(data, policy, {}).values()} == {"pass"}

    def faults(changes: Mapping[str, bytes]) -> dict[str, str]:
        return {name: said for name, (state, said) in forged(data, policy, changes).items() if state == "fail"}

    assert "privileged_access.items.parquet is not what" in faults(replaced(data, items, without_last))["tests"]
    assert "acts.parquet is not what acts.sql makes" in faults(replaced(data, "acts.parquet", without_last))["tables"]
    for name, change, column in (("population.parquet", as_reads, "class"), ("population.parquet", allowed, "verdict")):
        assert faults(replaced(data, name, change))["records"].endswith(f"than the signed log: {column}.")
    other = files["privileged_access.sql"] + b";\nselect 1;"
    assert "is not one SELECT" in faults({"privileged_access.sql": other})["tests"]
    head = files["privileged_access.sql"].partition(b"-- ///\n")
    reader = b"".join(head[:2]) + b"select * from read_text('/etc/passwd')"
    assert "file system operations are disabled" in faults({"privileged_access.sql": reader})["tests"]
    counts = json.loads(files["manifest.json"])
    counts["tests"][0]["counts"]["deviating"] = 0
    told_counts = json.dumps({"tests": counts["tests"]}).encode()
    assert "counts otherwise for privileged-access: deviating" in faults({"counts": told_counts})["tests"]
    counts = json.loads(files["manifest.json"])
    counts["tests"][0]["sample"]["picks"][0]["item"] = "another"
    assert "drawn again: picks" in faults({"counts": json.dumps({"tests": counts["tests"]}).encode()})["samples"]
    mild = json.dumps({"conclusion": "operated without deviation"}).encode()
    assert "concludes otherwise than its tests: deviations noted" in faults({"counts": mild})["tests"]
    assert faults({"counts": b'{"as_of": 3}'})["checkpoint"].endswith("manifest.json of 3.")


def test_without_duckdb_the_tests_are_said_to_be_not_run_again(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    data, policy, _ = made
    monkeypatch.setitem(sys.modules, "duckdb", None)
    verdict = verify(data, policy)
    assert (verdict.exit, told(verdict)["tests"]) == (2, ("missing", "Not re-run: install duckdb."))


def test_the_command_says_the_same(made: Made, tmp_path: Path) -> None:
    data, policy, text = made
    (tmp_path / "r.pdf").write_bytes(data)
    (tmp_path / "policy").write_text(text)
    command = [
        sys.executable,
        "-m",
        "lineage.verify",
        str(tmp_path / "r.pdf"),
        "--policy",
        str(tmp_path / "policy"),
        "--json",
    ]
    done = subprocess.run(command, cwd=BASE, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout) == verify(data, policy).as_dict()
    assert done.returncode == 0


def test_files_in_the_zip_beside_the_report_are_checked_as_those_in_it(made: Made) -> None:
    data, _, _ = made
    files = files_of(data)
    manifest = json.loads(files["manifest.json"])
    for line in manifest["files"]:
        line["place"] = "archive" if line["name"] == "population.parquet" else "pdf"
    small = with_file(with_file(data, "population.parquet", None), "manifest.json", json.dumps(manifest).encode())

    def beside(body: bytes, how: int = zipfile.ZIP_STORED) -> tuple[int, tuple[str, str]]:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", how) as archive:
            archive.writestr("population.parquet", body)
        verdict = verify(small, None, archive=out.getvalue())
        return verdict.exit, told(verdict).get("attachments", ("", ""))

    assert told(verify(small, None))["attachments"][0] == "missing"
    assert "--archive. population.parquet" in told(verify(small, None))["attachments"][1]
    assert beside(files["population.parquet"])[1][0] == "pass"
    assert "changed in the ZIP: population.parquet" in beside(flipped(files["population.parquet"]))[1][1]
    assert beside(files["population.parquet"], zipfile.ZIP_DEFLATED)[0] == 3
