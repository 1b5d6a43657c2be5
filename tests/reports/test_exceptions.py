"""What is said of deviations: by whom, on record with old and new value, printed later, and never in place of the count."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.test import Client

from lineage import errors, queries
from lineage.access import Viewer
from lineage.models import User
from reports import exceptions, forgetting, issuing, redraws
from reports.exception_models import Judgement, ReportException
from reports.models import Report
from reports.sampling import Plan
from tests.reports.test_issuing import AUDITOR, OPERATOR, STRANGER, file_of, issued

pytestmark = pytest.mark.slow
CARLA = Viewer(email="carla@example.test", role="compliance")
TEST = "privileged-access"
EVIL = "<script>x</script> =1+1 \u0634"


def told(report: Report) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads(file_of(report).with_suffix(".json").read_bytes())
    return summary


def items(report: Report) -> list[str]:
    return [one["item"] for one in told(report)["tests"][0]["deviations"]]


def configured() -> list[dict[str, Any]]:
    found = [e for e in queries.events(AUDITOR, "kind:decision").items if e["decision"]["type"] == "configuration"]
    return [e for e in reversed(found) if "PA-" in e["decision"]["subject"]]


def test_what_is_said_of_deviations_is_on_record_and_changes_no_count(report: Report) -> None:
    before = file_of(report).read_bytes()
    first, second, third = items(report)
    given = {"owner": "dana@shop.example", "cause_class": "not followed", "cause": EVIL, "due_on": "2026-12-31"}
    assert exceptions.say(CARLA, report, TEST, [first, second], given) == 2
    assert exceptions.say(CARLA, report, TEST, [first], {"response": "desk asks now", "remedied_on": "2026-12-01"}) == 1
    assert exceptions.say(CARLA, report, TEST, [first], {"response": "desk asks now"}) == 0
    exceptions.judge(CARLA, report, TEST, "no", "two people, two causes")
    exceptions.judge(CARLA, report, TEST, "yes", "the same cause after all")
    said = ReportException.objects.get(item=first)
    assert (said.owner, said.response, str(said.due_on), str(said.remedied_on)) == (
        "dana@shop.example", "desk asks now", "2026-12-31", "2026-12-01",
    )  # fmt: skip
    records = configured()
    assert [e["decision"]["transition"].split(":")[0] for e in records] == [
        "added",
        "added",
        "changed",
        "added",
        "changed",
    ]
    assert json.loads(records[2]["statement"])["old"]["response"] == ""
    assert json.loads(records[2]["statement"])["new"]["response"] == "desk asks now"
    assert json.loads(records[4]["statement"])["old"] == {
        "systematic": False,
        "reason": "two people, two causes",
    }
    assert {e["decision"]["decided_by"] for e in records} == {CARLA.email}
    report.refresh_from_db()
    assert (report.counts["deviating"], file_of(report).read_bytes()) == (3, before)

    client = Client()
    client.force_login(User.objects.create(email=CARLA.email, role="compliance"))
    page = client.get(f"/reports/{report.pk}/").content.decode()
    assert "1 of 3 without an owner" in page
    assert "The same sort of cause recurs in 2 exceptions: the control was not followed." in page
    assert "&lt;script&gt;x&lt;/script&gt; =1+1" in page
    assert "<script>x" not in page
    assert "systematic, because “the same cause after all”" in page
    answer = client.post(
        f"/reports/{report.pk}/exceptions",
        {"test": TEST, "items": [third], "owner": "root's keeper", "due_on": "2020-01-01"},
    )
    assert answer.status_code == 302
    assert ReportException.objects.get(item=third).owner == "root's keeper"
    assert (
        client.post(f"/reports/{report.pk}/judgement", {"test": TEST, "systematic": "no", "reason": "x"}).status_code
        == 302
    )
    assert Judgement.objects.get().systematic is False
    assert (
        "0 of 3 without an owner, 1 past the day when it was due"
        in client.get(f"/reports/{report.pk}/").content.decode()
    )
    listed = client.get(f"/api/v1/reports/{report.pk}/exceptions").json()["items"]
    assert [(one["test"], one.get("owner")) for one in listed] == [
        (TEST, None), (TEST, "dana@shop.example"), (TEST, "dana@shop.example"), (TEST, "root's keeper"),
    ]  # fmt: skip


def test_what_was_said_is_printed_in_the_report_that_goes_on_from_it_and_stays_as_it_was_frozen(
    report: Report, tmp_path: Path
) -> None:
    exceptions.say(CARLA, report, TEST, items(report)[:1], {"owner": "Olga Owner", "response": "tickets are asked for"})
    exceptions.judge(CARLA, report, TEST, "no", "a slip of one evening")
    again = redraws.ask(AUDITOR, report, Plan(nonce="1"))
    claimed = issuing.claim(again.pk)
    assert claimed is not None
    made = issuing.issue(claimed)
    exceptions.say(CARLA, made, TEST, items(report)[:1], {"response": "said later"})
    Report.objects.filter(pk=made.pk).update(status="queued")
    claimed = issuing.claim(made.pk)
    assert claimed is not None
    assert issuing.issue(claimed).unsigned_sha256 == made.unsigned_sha256
    assert [one.get("response") for one in told(made)["exceptions"]] == [None, "tickets are asked for"]
    printed = subprocess.run(
        ["pdftotext", "-layout", file_of(made), "-"], capture_output=True, text=True, check=True
    ).stdout
    text = " ".join(printed.split())
    assert "What was said of the deviations" in text
    assert "Olga Owner" in text
    assert "a slip of one evening" in text
    assert "said later" not in text
    assert "4 privileged acts were tested, all of them; 3 deviate." in text
    names = [line["name"] for line in json.loads((issuing.folder_of(made) / "manifest.json").read_bytes())["files"]]
    assert "exceptions.json" in names
    assert told(report)["exceptions"] == []
    policy = tmp_path / "policy"
    with policy.open("w") as file:
        call_command("policy", stdout=file)
    command = [sys.executable, "-m", "lineage.verify", str(file_of(made)), "--policy", str(policy)]
    checked = subprocess.run(command, cwd=settings.BASE_DIR, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    forgetting.PLACE.forget_texts(["Olga Owner"])
    assert ReportException.objects.get().owner == "(erased)"


def test_a_report_that_replaces_another_prints_what_was_said_of_it(report: Report) -> None:
    exceptions.say(CARLA, report, TEST, items(report)[:1], {"owner": "Olga Owner"})
    successor = issued(environment="prod")
    assert successor.supersedes == report
    assert [(one["report"], one["owner"]) for one in told(successor)["exceptions"]] == [(report.number, "Olga Owner")]
    assert exceptions.listed(successor) == []


REFUSED: list[tuple[dict[str, str], str]] = [
    ({}, "Nothing was said"),
    ({"owner": "x" * 255}, "Write the owner"),
    ({"cause": "nul\x00"}, "Write the cause"),
    ({"cause": "\u202eback"}, "Write the cause"),
    ({"due_on": "soon"}, "Write the day"),
    ({"cause_class": "bad luck"}, "The sort of cause"),
]


def test_what_cannot_be_kept_or_is_not_theirs_to_say_is_refused_on_record(report: Report) -> None:
    first = items(report)[0]
    tested = [row["item"] for row in told(report)["tests"][0]["sample"]["picks"]]
    (passing,) = set(tested) - set(items(report))
    for given, words in REFUSED:
        with pytest.raises(errors.ExceptionInvalid, match=words):
            exceptions.say(CARLA, report, TEST, [first], given)
    for chosen in ([], [passing], ["none of ours"], [first, passing], [str(n) for n in range(201)]):
        with pytest.raises(errors.ExceptionInvalid):
            exceptions.say(CARLA, report, TEST, chosen, {"owner": "x"})
    for test in ("", "approvals", "none"):
        with pytest.raises(errors.ExceptionInvalid):
            exceptions.say(CARLA, report, test, [first], {"owner": "x"})
        with pytest.raises(errors.ExceptionInvalid):
            exceptions.judge(CARLA, report, test, "no", "x")
    for systematic, reason in (("maybe", "x"), ("no", " ")):
        with pytest.raises(errors.ExceptionInvalid):
            exceptions.judge(CARLA, report, TEST, systematic, reason)
    for viewer in (AUDITOR, OPERATOR):
        with pytest.raises(errors.AccessDenied):
            exceptions.say(viewer, report, TEST, [first], {"owner": "x"})
        with pytest.raises(errors.AccessDenied):
            exceptions.judge(viewer, report, TEST, "no", "x")
    stranger = Client()
    stranger.force_login(User.objects.create(email=STRANGER.email, role="compliance", datasources=["elsewhere"]))
    for address in ("exceptions", "judgement"):
        assert (
            stranger.post(f"/reports/{report.pk}/{address}", {"test": TEST, "items": [first], "owner": "x"}).status_code
            == 404
        )
    assert stranger.get(f"/api/v1/reports/{report.pk}/exceptions").status_code == 404
    assert not ReportException.objects.exists()
    assert not Judgement.objects.exists()
    refused = [e["purpose"] for e in configured() if e["decision"]["transition"] == "refused"]
    assert (refused.count("exception-invalid"), refused.count("access-denied")) == (6 + 5 + 6 + 2, 4)
