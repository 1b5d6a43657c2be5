"""Printed pages: the same bytes every time, hostile values as plain text, caps with their banner, and a closed fetcher."""

from __future__ import annotations

import datetime as dt
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pikepdf
import pyarrow as pa
import pytest

from lineage import errors
from reports import charts, document, evidence, outcomes, render, spreadsheets, unshown
from reports.evidence import Evidence
from tests.reports import made
from tests.reports.made import access, change, decision, write
from tests.reports.made import made as evidence_of

pytestmark = pytest.mark.slow
EVIL = '<script>alert(1)</script>\u202egnp.exe "quoted" & 中文 \U0001f600 \x07' + "W" * 400
TEXTS = (
    "who_id",
    "who_name",
    "who_email",
    "db_user",
    "command",
    "ticket",
    "purpose",
    "statement",
    "client_app",
    "datasource",
)


def heading(**more: Any) -> document.Heading:
    line = {"name": "population.parquet", "description": "Every access", "bytes": 1234, "rows": 3, "sha256": "ab" * 32}
    fields = {
        "number": "PA-0007", "status": "final", "reasons": [], "issued_at": made.END, "requested_by": "audit@example.test",
        "origin": "touchstone.test/log", "fingerprint": "cd" * 32, "manifest_sha256": "ef" * 32, "attachments": [line],
    }  # fmt: skip
    return document.Heading(**(fields | more))


def page(found: Evidence, **more: Any) -> str:
    return document.html(heading(**more), document.told(found, outcomes.evaluate(found)))


def printed(html: str, out: Path, *attachments: render.Attached) -> str:
    render.pdf(html, attachments, made.END, out)
    return subprocess.run(["pdftotext", "-layout", out, "-"], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def some(tmp_path: Path) -> Evidence:
    population = [access(1), write(2, ticket="OPS-1"), write(3), change(4, "t2")]
    return evidence_of(tmp_path / "inputs", population, decisions=[decision(1, "OPS-1")])


def test_two_renderings_are_the_same_bytes_in_another_zone_and_folder(
    some: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attached = render.Attached(
        str(some.folder / "population.parquet"), "population.parquet", "d", "application/x", "Data"
    )
    html = page(some)
    render.pdf(html, [attached], made.END, tmp_path / "one.pdf")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    (tmp_path / "elsewhere").mkdir()
    render.pdf(html, [attached], made.END, tmp_path / "elsewhere" / "two.pdf")
    assert (tmp_path / "one.pdf").read_bytes() == (tmp_path / "elsewhere" / "two.pdf").read_bytes()


def test_the_file_says_pdf_a_3a_is_tagged_embeds_its_fonts_and_lists_attachments_once(
    some: Evidence, tmp_path: Path
) -> None:
    out = tmp_path / "out.pdf"
    attached = render.Attached(
        str(some.folder / "population.parquet"), "population.parquet", "d", "application/x", "Data"
    )
    printed(page(some), out, attached)
    with pikepdf.open(out) as found:
        assert found.open_metadata().pdfa_status == "3A"
        assert found.Root.MarkInfo.Marked
        assert str(found.Root.Lang) == "en-GB"
        (file,) = found.Root.AF
        assert (str(file.AFRelationship), str(file.EF.F.Subtype)) == ("/Data", "/application/x")
        assert not found.is_encrypted
        assert found.Root.get("/OpenAction") is None
    fonts = subprocess.run(["pdffonts", out], capture_output=True, text=True, check=True).stdout.splitlines()[2:]
    assert fonts
    assert all("Plex" in line and " yes yes yes " in line for line in fonts)
    assert (
        "Deviations: privileged acts"
        in subprocess.run(["pdftotext", out, "-"], capture_output=True, text=True, check=True).stdout
    )


def test_hostile_values_are_printed_as_plain_text_in_every_place(tmp_path: Path) -> None:
    hostile = dict.fromkeys((*TEXTS, "on_behalf_of", "agent_name", "agent_id", "client_ip", "outcome"), EVIL)
    found = evidence_of(
        tmp_path / "inputs",
        [write(1, **hostile, relations=[EVIL] * 9)],
        sources=[made.source(EVIL, datasource=EVIL, missing=2)],
        coverage=[{"source": EVIL, "state": "gap", "detail": EVIL}],
    )
    html = page(found, status="blocked", reasons=[EVIL], requested_by=EVIL)
    assert "<script" not in html
    assert html.count("&lt;script&gt;") > 10
    text = printed(html, tmp_path / "out.pdf")
    assert "\u202e" not in text
    assert "[U+202E]" in text
    assert "[U+4E2D]" in text
    assert re.search(r"… \(\d+\s+characters\)", text)


def test_a_value_never_widens_the_page(tmp_path: Path) -> None:
    found = evidence_of(tmp_path / "inputs", [write(1, who_name="W" * 900, ticket="W" * 500)], coverage=[])
    printed(page(found, reasons=["W" * 900], status="draft"), tmp_path / "out.pdf")
    boxes = subprocess.run(
        ["pdftotext", "-bbox", tmp_path / "out.pdf", "-"], capture_output=True, text=True, check=True
    ).stdout
    rights = [float(x) for x in re.findall(r'xMax="([\d.]+)"', boxes)]
    assert max(rights) < 595.3 - 40


def test_only_so_many_rows_are_printed_and_a_banner_says_where_the_rest_is(tmp_path: Path) -> None:
    found = evidence_of(tmp_path / "inputs", [write(n) for n in range(1200)])
    html = page(found)
    assert f"The first {document.ITEMS_MOST} of 1,200 privileged acts are printed" in html
    assert f"The first {document.DEVIATIONS_MOST} of 1,200 privileged acts with deviations are printed" in html
    assert html.count('class="entry"') == document.ITEMS_MOST
    assert "<strong>1,200</strong><span>items tested</span>" in html


def test_an_empty_period_is_a_result_and_no_source_is_said(tmp_path: Path) -> None:
    html = page(evidence_of(tmp_path / "quiet", [access(1)]))
    assert "<strong>Did not occur</strong>" in html
    assert "zero is the result" in html
    nothing = page(evidence_of(tmp_path / "nothing", [], sources=[], coverage=[], hearing=[], roles=[]))
    assert "<strong>Could not be tested</strong>" in nothing
    assert "No source is connected in this scope." in nothing


def test_what_the_evidence_cannot_show_is_counted(tmp_path: Path) -> None:
    asked = [(key, words) for key, words in unshown.UNKNOWN if key != "superuser"]
    unknown = {key: number for number, (key, _) in enumerate(asked, 1000)}
    html = page(evidence_of(tmp_path / "inputs", [access(1, datasource="unseen")], unknown=unknown))
    for number, (key, words) in enumerate(asked, 1000):
        items = "0" if key in unshown.CONDITIONS else "not told"
        assert (
            f'<td class="n">{number:,}</td><td class="n">{items}</td><td>{words.capitalize()[:1]}{words[1:]}</td>'
            in html
        )
    assert "Roles and owners of <strong>unseen</strong> were never recorded" in html


def test_large_counts_stay_on_one_line_and_databases_without_roles_share_one(tmp_path: Path) -> None:
    names = ["orders", "unseen"]
    html = page(
        evidence_of(tmp_path / "inputs", [access(n, datasource=name) for n, name in enumerate(names, 1)], roles=[])
    )
    assert "Roles and owners of <strong>orders</strong>, <strong>unseen</strong> were never recorded" in html
    large, count = re.subn(r'(<td class="n">|<div><strong>)\d+(?=</td>|</strong>)', r"\g<1>9,876,543", html)
    assert printed(large, tmp_path / "large.pdf").count("9,876,543") == count > 20


@pytest.mark.parametrize(
    "outside",
    ["http://127.0.0.1:9/x.png", "file:///etc/passwd", "file://{static}/../config/settings.py", "ftp://127.0.0.1/x"],
)
def test_the_renderer_fetches_nothing_from_outside_its_folder(outside: str, tmp_path: Path) -> None:
    url = outside.format(static=render.STATIC)
    with pytest.raises(errors.ReportFailed):
        render.pdf(f"<html><body><img src='{url}'></body></html>", [], made.END, tmp_path / "out.pdf")


def test_a_child_that_takes_too_long_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "TIME_LIMIT_SECONDS", 1)
    rows = "".join(f"<tr><td>{n}</td></tr>" for n in range(20_000))
    with pytest.raises(errors.ReportFailed):
        render.pdf(
            f"<html><body><table><thead></thead>{rows}</table></body></html>", [], made.END, tmp_path / "out.pdf"
        )
    assert not (tmp_path / "out.pdf").exists()


def test_a_child_that_takes_too_much_memory_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "MEMORY_LIMIT_BYTES", 64 * 1024**2)
    with pytest.raises(errors.ReportFailed):
        render.pdf("<html><body>x</body></html>", [], made.END, tmp_path / "out.pdf")


def test_spreadsheet_cells_that_could_be_formulas_are_guarded(tmp_path: Path) -> None:
    row = {"who": "=cmd|' /C calc'!A0", "rows": -1, "at": made.END, "none": None, "list": ["@a", "b"], "indexes": [1]}
    evidence.write_table(pa.Table.from_pylist([row]), tmp_path / "items.parquet")
    text = b"".join(spreadsheets.parts(tmp_path / "items.parquet")).decode()
    assert text.splitlines()[1] == "'=cmd|' /C calc'!A0,'-1,2026-11-20T12:00:00+00:00,,'@a; b"


@pytest.mark.parametrize(
    ("seconds", "step"), [(300, 5), (3600, 60), (86_400, 3600), (30 * 86_400, 86_400), (365 * 86_400, 7 * 86_400)]
)
def test_a_chart_has_at_most_62_bars_that_count_every_act(seconds: int, step: int) -> None:
    until = made.START + dt.timedelta(seconds=seconds)
    times = [made.START + dt.timedelta(seconds=seconds * n / 1000) for n in range(1000)]
    items = pa.table({"occurred_at": pa.array(times, charts.MOMENT), "deviates": [n % 3 == 0 for n in range(1000)]})
    bars = charts.buckets([items.slice(0, 400), items.slice(400)], made.START, until)
    assert charts.step_seconds(made.START, until) == step
    assert len(bars) <= charts.BARS_MOST
    assert [sum(bar[1] for bar in bars), sum(bar[2] for bar in bars)] == [666, 334]
    assert charts.timeline(bars) == charts.timeline(bars)


def test_the_fonts_come_with_their_licence() -> None:
    assert "SIL Open Font License" in (render.FONTS / "OFL.txt").read_text()
    assert {os.path.splitext(name)[1] for name in os.listdir(render.FONTS)} == {".woff2", ".txt"}
