"""What follows an issued report: a blocked one that two people let stand, supplements of what came late, and what replaces what."""

from __future__ import annotations

import io
import json
import subprocess
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from lineage import checkpoints, errors, queries
from lineage.access import Viewer
from lineage.models import User
from reports import issuing, overrides, requests, succession, supplements, tasks
from reports.evidence import Request
from reports.models import Override, Report, Status
from tests.reports.test_issuing import AUDITOR, DAY, NEXT, OPERATOR, STRANGER, Shop, file_of, issued, shop

__all__ = ["shop"]
pytestmark = pytest.mark.slow
CARLA = Viewer(email="carla@example.test", role="compliance")
ADAM = Viewer(email="adam@example.test", role="admin")
ELSEWHERE = Viewer(email="zoe@other.test", role="compliance", environments=("test",))
REASON = "The two records were sent by hand and are kept in the vault as V-12."


def text_of(report: Report) -> str:
    told = subprocess.run(["pdftotext", "-layout", file_of(report), "-"], capture_output=True, text=True, check=True)
    return " ".join(told.stdout.split())


def is_on_every_page(words: str, report: Report) -> bool:
    told = subprocess.run(["pdftotext", "-layout", file_of(report), "-"], capture_output=True, text=True, check=True)
    return all(words in " ".join(page.split()) for page in told.stdout.split("\f")[:-1])


def summary(report: Report) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file_of(report).with_suffix(".json").read_bytes())
    return found


def again(report_id: int) -> Report:
    checkpoints.checkpoint()
    claimed = issuing.claim(report_id)
    assert claimed is not None
    return issuing.issue(claimed)


def token(viewer: Viewer) -> str:
    told = io.StringIO()
    call_command("user", "add", viewer.email, "--role", viewer.role, "--token", stdout=told)
    return told.getvalue().strip()


def recorded(subject: str) -> list[str]:
    found = [e["decision"] for e in queries.events(ADAM, "kind:decision").items]
    return [d["transition"].split(":")[0] for d in reversed(found) if d.get("subject") == subject]


def test_two_named_people_let_a_blocked_report_stand_and_its_cover_says_who_and_why(shop: Shop) -> None:
    shop.numbers["log"] += 2
    shop.statement("select 1 from customers", 11, "read")
    blocked = issued(environment="prod")
    before = file_of(blocked).read_bytes()
    assert blocked.status == Status.BLOCKED
    assert is_on_every_page("Blocked: the evidence does not reconcile", blocked)
    for viewer, code in ((AUDITOR, "access-denied"), (OPERATOR, "access-denied"), (ELSEWHERE, "not-found")):
        with pytest.raises(errors.TouchstoneError) as refused:
            overrides.ask(viewer, blocked.pk, REASON)
        assert refused.value.code == code
    assert recorded(f"override of report {blocked.pk}") == ["refused"] * 3
    with pytest.raises(errors.QueryInvalid):
        overrides.ask(CARLA, blocked.pk, "  ")
    with pytest.raises(errors.NotFound):
        overrides.grant(ADAM, blocked.pk)
    overrides.ask(CARLA, blocked.pk, REASON)
    Report.objects.filter(pk=blocked.pk).update(created_by=ADAM.email)
    for viewer in (CARLA, ADAM):
        with pytest.raises(errors.AccessDenied):
            overrides.grant(viewer, blocked.pk)
    assert Report.objects.get(pk=blocked.pk).status == Status.BLOCKED
    Report.objects.filter(pk=blocked.pk).update(created_by=AUDITOR.email)
    client = Client()
    client.force_login(User.objects.create(email=ADAM.email, role="admin"))
    assert "Grant the override" in client.get(f"/reports/{blocked.pk}/").content.decode()
    assert client.post(f"/reports/{blocked.pk}/override", {"grant": "1"}).status_code == 302
    assert recorded("override of report PA-0001") == ["added", "changed"]
    stands = again(blocked.pk)
    assert (stands.status, stands.number) == (Status.FINAL, "PA-0001")
    assert stands.reasons[0] == "2 numbered records of source log are missing."
    sentence = f"by {ADAM.email}, asked for by {CARLA.email}: {REASON}"
    assert stands.reasons[1].endswith(sentence)
    assert is_on_every_page("Final, by override: the evidence does not reconcile", stands)
    assert sentence in text_of(stands)
    assert summary(stands)["override"]["granted_by"] == ADAM.email
    assert file_of(blocked).read_bytes() == before
    assert file_of(blocked) != file_of(stands)
    assert recorded(f"PA-0001 sha256:{blocked.sha256}") == ["blocked"]
    assert recorded(f"PA-0001 sha256:{stands.sha256}") == ["final"]


def test_an_override_holds_for_what_it_was_asked_for_alone(shop: Shop) -> None:
    report = requests.ask(AUDITOR, Request("privileged-access", DAY, NEXT))
    Report.objects.filter(pk=report.pk).update(status=Status.BLOCKED, reasons=["2 are missing."])
    overrides.ask(CARLA, report.pk, REASON)
    assert overrides.granted(report, ["2 are missing."]) is None
    overrides.grant(ADAM, report.pk)
    assert overrides.granted(report, ["2 are missing."]) is not None
    assert overrides.granted(report, ["2 are missing.", "3 more are missing."]) is None
    report.refresh_from_db()
    assert report.status == Status.QUEUED


def test_an_override_by_api_token_and_command_names_its_people(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = requests.ask(AUDITOR, Request("privileged-access", DAY, NEXT))
    Report.objects.filter(pk=report.pk).update(status=Status.BLOCKED, reasons=["2 are missing."])
    tokens = {viewer.email: token(viewer) for viewer in (CARLA, ADAM)}
    body = json.dumps({"act": "ask", "reason": REASON})
    path, client = f"/api/v1/reports/{report.pk}/override", Client()
    assert client.post(path, body, content_type="application/json").status_code == 401
    header = {"Authorization": f"Bearer {tokens[CARLA.email]}"}
    assert client.post(path, "{", content_type="application/json", headers=header).json()["code"] == "body-unreadable"
    told = client.post(path, body, content_type="application/json", headers=header).json()
    assert (told["status"], told["override"]["asked_by"]) == ("blocked", CARLA.email)
    with pytest.raises(SystemExit):
        call_command("override", "grant", str(report.pk))
    assert Override.objects.get().granted_at is None
    monkeypatch.setenv("TOUCHSTONE_TOKEN", tokens[ADAM.email])
    call_command("override", "grant", str(report.pk))
    call_command("override", "list")
    assert f"granted by {ADAM.email}\tasked by {CARLA.email}\t{REASON}" in capsys.readouterr().out


def test_what_came_late_goes_to_a_numbered_supplement_and_the_final_file_never_changes(shop: Shop) -> None:
    final = issued(environment="prod")
    before = file_of(final).read_bytes()
    assert supplements.queue_late() == []
    with pytest.raises(errors.QueryInvalid, match="Nothing of this period came since PA-0001"):
        supplements.ask(AUDITOR, final.pk)
    shop.statement("drop table customers", 9, "ddl", ticket="OPS-9")
    shop.statement("select 1 from elsewhere", 86_400 * 3, "read")
    with pytest.raises(errors.NotFound):
        supplements.ask(STRANGER, final.pk)
    tasks.late(0)
    queued = Report.objects.get(status=Status.QUEUED).pk
    assert supplements.queue_late() == []
    with pytest.raises(errors.QueryInvalid, match="is being made"):
        supplements.ask(AUDITOR, final.pk)
    made = again(queued)
    assert (made.number, made.status, made.created_by) == ("PA-0001 supplement 1", Status.FINAL, AUDITOR.email)
    assert file_of(made).name.endswith("PA-0001-supplement-1.pdf")
    told = summary(made)["supplement"]
    assert (told["amends"], told["amends_sha256"], told["late_accesses"]) == ("PA-0001", final.sha256, 1)
    assert [(t["before"]["deviating"], t["now"]["deviating"]) for t in told["tests"]] == [(3, 4)]
    assert [record["op"] for record in told["records"]] == ["ddl"]
    printed = text_of(made)
    assert f"It amends PA-0001 (SHA-256 {final.sha256})" in printed.replace("- ", "")
    assert "late.parquet" in printed
    assert file_of(final).read_bytes() == before
    assert supplements.queue_late() == []
    client = Client()
    client.force_login(User.objects.get(email=AUDITOR.email))
    assert f'Amended by</dt><dd><a href="/reports/{made.pk}/">PA-0001 supplement 1' in client.get(
        f"/reports/{final.pk}/"
    ).content.decode().replace("\n", "")
    assert "It amends PA-0001, which stays as it was issued." in client.get(f"/reports/{made.pk}/").content.decode()
    shop.statement("drop table orders", 10, "ddl")
    assert client.post(f"/reports/{final.pk}/supplement").status_code == 302
    second = Report.objects.latest("pk")
    assert (second.number, second.amends) == ("PA-0001 supplement 2", final)


def test_a_final_report_replaces_the_draft_before_it_and_a_draft_replaces_no_final_one(store: str) -> None:
    def report(status: Status, **more: Any) -> Report:
        fields = {"kind": "approvals", "period_from": DAY, "period_to": NEXT, "created_by": "a@example.test"}
        made = Report.objects.create(**fields | {"status": status, "path": "x", "sha256": "ab", "as_of": 7} | more)
        made.supersedes = succession.replaced_by(made)
        made.save()
        return made

    draft = report(Status.DRAFT, draft_only=True)
    assert report(Status.FINAL, environment="test").supersedes is None
    blocked = report(Status.BLOCKED)
    final = report(Status.FINAL)
    assert [one.supersedes for one in (draft, blocked, final)] == [None, draft, blocked]
    assert report(Status.DRAFT, draft_only=True).supersedes is None
    assert report(Status.FINAL).supersedes == final
    assert report(Status.FINAL, amends=final, supplement=1).supersedes is None
    assert succession.replaced_by(final) == blocked
    assert succession.lines(final) == [
        {"words": "Replaces", "number": blocked.number, "status": "blocked", "sha256": "ab", "as_of": 7}
    ]
    assert [one.pk for one in succession.around(draft)["after"]] == [blocked.pk]
