"""A sample drawn again: from the same frozen inputs, with a nonce only after the hash was shown, and in nobody else's scope."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import call_command
from django.test import Client

from lineage import checkpoints, errors, queries
from lineage.models import User
from reports import issuing, redraws, requests, tasks
from reports.models import Report, Status
from reports.sampling import Plan
from tests.reports import test_issuing
from tests.reports.test_issuing import AUDITOR, DAY, NEXT, OPERATOR, STRANGER, Request, Shop, file_of, issued

pytestmark = pytest.mark.slow
shop = test_issuing.shop


def told(report: Report) -> dict[str, dict[str, object]]:
    summary = json.loads(file_of(report).with_suffix(".json").read_bytes())
    return {test["id"]: test["sample"] for test in summary["tests"]}


def test_a_nonce_draws_again_from_the_same_inputs_and_never_before_the_hash_was_shown(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [
        *("report", "change-management", "--from", "2026-11-20", "--to", "2026-11-21", "--out", str(tmp_path / "out")),
        *("--environment", "prod", "--engagement", "SOC2-2026"),
    ]
    with pytest.raises(SystemExit):
        call_command(*asked, "--nonce", "4 2 6 1")
    assert "Make the report without a nonce first" in capsys.readouterr().err
    with pytest.raises(errors.SampleInvalid):
        requests.ask(AUDITOR, Request("change-management", DAY, NEXT, nonce="early"))
    assert not Report.objects.exists()

    call_command(*asked, "--sample", "2", "--draft")
    first = Report.objects.get()
    before = told(first)["direct-data-changes"]
    assert (
        f"direct-data-changes: 2 of 2 direct changes of data drawn, population sha256:{before['population_sha256']}"
        in (capsys.readouterr().out)
    )
    shop.statement("update customers set email = 'late'", 20, "update", xid="90", rows={"affected": 1})
    with pytest.raises(SystemExit):
        call_command(*(word if word != "SOC2-2026" else "another" for word in asked), "--nonce", "4 2 6 1")
    call_command(*asked, "--nonce", "4 2 6 1", "--sample", "1")
    second = Report.objects.latest("pk")
    after = told(second)["direct-data-changes"]
    assert (second.redraws, second.status, second.as_of) == (first, Status.FINAL, first.as_of)
    assert (after["nonce"], after["engagement"], after["size"]) == ("4 2 6 1", "SOC2-2026", 1)
    assert after["population_sha256"] == before["population_sha256"]
    assert after["seed"] != before["seed"]
    folders = [issuing.folder_of(report) for report in (first, second)]
    for name in ("population.parquet", "direct_data_changes.items.parquet", "checkpoint.txt"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    manifest = json.loads((folders[1] / "manifest.json").read_bytes())
    assert [test["sample"] for test in manifest["tests"]] == list(told(second).values())
    said = [
        e["purpose"] for e in queries.events(AUDITOR, "kind:decision").items if e["decision"]["type"] == "report_issued"
    ]
    assert sorted(said)[1].endswith(
        f"engagement SOC2-2026, nonce 4 2 6 1, sample drawn again from the inputs of {first.number}"
    )
    assert redraws.earlier(second) == [f"{first.number}: engagement SOC2-2026, nonce none, sample 2"]


def test_a_form_draws_again_and_nobody_outside_the_scope_can(shop: Shop) -> None:
    first = issued(environment="prod", sample="2")
    client = Client()
    client.force_login(User.objects.get(email=AUDITOR.email))
    page = client.get(f"/reports/{first.pk}/").content.decode()
    assert "Draw the samples again" in page
    assert str(told(first)["privileged-access"]["population_sha256"]) in page
    assert client.post(f"/reports/{first.pk}/redraw", {"sample": "0"}).status_code == 422
    assert client.post(f"/reports/{first.pk}/redraw", {"nonce": "a\nb"}).status_code == 422
    for viewer in (OPERATOR, STRANGER):
        other = Client()
        seat = User.objects.create(email=viewer.email, role=viewer.role, datasources=list(viewer.datasources))
        other.force_login(seat)
        assert other.post(f"/reports/{first.pk}/redraw", {"nonce": "x"}).status_code in (403, 404)
    assert Report.objects.count() == 1
    answer = client.post(f"/reports/{first.pk}/redraw", {"nonce": "<b>& 9", "engagement": "E-1"})
    second = Report.objects.latest("pk")
    assert (answer.status_code, second.redraws_id, second.sample) == (302, first.pk, "2")
    tasks.make(second.pk)
    second.refresh_from_db()
    assert (second.status, second.as_of) == (Status.FINAL, first.as_of)
    assert "&lt;b&gt;&amp; 9" in client.get(f"/reports/{second.pk}/").content.decode()
    third = redraws.ask(AUDITOR, second, Plan(nonce="10"))
    assert (third.redraws, third.engagement) == (first, "")


def test_the_records_of_what_was_drawn_are_in_the_pack(report: Report) -> None:
    with zipfile.ZipFile(issuing.folder_of(report) / "evidence.touchstone.zip") as pack:
        assert pack.testzip() is None
    sample = told(report)["privileged-access"]
    assert sample["size"] == sample["population"] == report.counts["tested"]


def test_inputs_that_are_kept_no_more_are_not_drawn_from(report: Report) -> None:
    again = redraws.ask(AUDITOR, report, Plan(nonce="1"))
    (issuing.folder_of(report) / "inputs.json").unlink()
    checkpoints.checkpoint()
    claimed = issuing.claim(again.pk)
    assert claimed is not None
    with pytest.raises(errors.SampleInvalid):
        issuing.issue(claimed)
    again.refresh_from_db()
    assert again.status == Status.FAILED
    assert "kept no more" in again.reasons[0]
    assert not (settings.DATA_DIR / "reports" / again.number).exists()
