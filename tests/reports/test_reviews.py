"""Sign-off: named persons in their order, nobody who is a subject, held until signed, each act sealed in the file and in the log."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pikepdf
import pytest
from django.conf import settings
from django.core.management import call_command
from django.template.loader import render_to_string
from django.test import Client

from lineage import errors, queries
from lineage.access import Viewer, viewer_of
from lineage.findings import judging
from lineage.models import Identity, User
from reports import document, outcomes, render, review_plans, reviews, signing, standing, tasks
from reports.models import Report, Status
from reports.review_models import Act, SignOff, SignOffPlan
from reports.review_plans import Step
from tests import story
from tests.reports import made
from tests.reports.test_issuing import Shop, file_of, issued, shop

pytestmark = pytest.mark.slow
__all__ = ["shop"]
NOW = made.END + dt.timedelta(hours=1)
ROOT = Viewer(email="root@command-line", role="admin")
PIA, OLAF, SID, ANNA, EVE = (f"{name}@shop.example" for name in ("pia", "olaf", "sid", "anna", "eve"))
STEPS = (Step("preparer", PIA, 1), Step("owner", EVE, 2, OLAF), Step("approver", ANNA, 3, SID))
HOW = {
    "by": "openid",
    "issuer": "https://idp.example",
    "subject": "248-289",
    "methods": "pwd, otp",
    "at": NOW.isoformat(),
}


def seats() -> dict[str, Viewer]:
    return {email: viewer_of(story.person(email, "compliance")) for email in (PIA, OLAF, SID, ANNA, EVE)}


def plan(steps: tuple[Step, ...] = STEPS, kind: str = "privileged-access", if_empty: bool = False) -> None:
    review_plans.establish(ROOT, kind, None, steps, if_empty=if_empty, reason="SOC 2 asks for a reviewer")


def recorded(*types: str) -> list[tuple[str, str]]:
    """(who, what) of the decisions of these types, oldest first."""
    decided = [e["decision"] for e in queries.events(ROOT, "kind:decision", limit=200).items]
    return [(d["decided_by"], d.get("transition", "")) for d in reversed(decided) if d["type"] in types]


def final(folder: Path, conclusion: str = outcomes.DEVIATED, **more: Any) -> Report:
    """A report as it stands when its tests were run, with frozen inputs, before it is printed."""
    report = Report.objects.create(
        kind="privileged-access", period_from=made.START, period_to=made.END, environment="prod", created_by=ANNA,
        status=Status.FINAL, issued_at=made.END, **more,
    )  # fmt: skip
    here = folder / "reports" / report.number
    made.made(
        here,
        [
            made.write(1, "dana@shop.example", on_behalf_of="lea@shop.example"),
            made.access(2, approval='{"approvers":["Abe@shop.example"]}'),
        ],
        decisions=[made.decision(3, "OPS-1")],
    )
    report.path = str((here / f"{report.file_stem}.pdf").relative_to(folder))
    reviews.begin(report, here, conclusion)
    return report


def awaiting(folder: Path) -> Report:
    """The same, printed (its last page alone), certified and kept."""
    report = final(folder)
    page = render_to_string("pdf/_signoff.html", document.drawn({"sign_offs": reviews.printed(report), "last": 7}))
    path = folder / report.path
    render.pdf(f"<html lang=en><title>t</title><body>{page}</body></html>", [], made.END, path)
    path.write_bytes(signing.sign(path.read_bytes()))
    report.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps({"status": report.status, "pdf": {"file": path.name}}))
    report.save()
    return report


def sign(viewer: Viewer, report: Report, words: str = "I looked at each deviation.") -> SignOff:
    seen = Report.objects.get(pk=report.pk).sha256
    return reviews.sign(viewer, report.pk, words, seen, HOW, NOW)


def test_a_report_is_held_until_each_person_has_signed_in_turn_and_every_signature_verifies(
    shop: Shop, tmp_path: Path
) -> None:
    people = seats()
    plan()
    report = issued(environment="prod")
    assert report.status == Status.AWAITING
    assert not standing.may_be_delivered(report)
    assert recorded("report_issued")[-1][1] == "awaiting"
    issued_file, first = file_of(report), report.sha256
    client = Client()
    client.force_login(User.objects.get(email=PIA))
    assert "1 report waits for your signature" in client.get("/reports/sign-off/").content.decode()
    assert f"{report.number}: sign-off as preparer" in client.get("/").content.decode()
    page = client.get(f"/reports/{report.pk}/").content.decode()
    assert "Sign as preparer" in page
    assert "not eve@shop.example: a subject of what is reported" in page
    words = "=1+1 <script>alert(1)</script> \u202eshalom, I looked at each deviation"
    answer = client.post(f"/reports/{report.pk}/sign-off", {"do": "sign", "words": words, "seen": first})
    assert answer.status_code == 302
    page = client.get(f"/reports/{report.pk}/").content.decode()
    assert "<script>alert" not in page
    assert "Sign as" not in page
    again = client.post(f"/reports/{report.pk}/sign-off", {"do": "sign", "words": "again", "seen": first})
    assert (again.status_code, SignOff.objects.filter(act=Act.SIGNED).count()) == (409, 1)
    report.refresh_from_db()
    assert report.status == Status.AWAITING
    for email in (EVE, ANNA):
        with pytest.raises(errors.SignOffRefused):
            sign(people[email], report)
    sign(people[OLAF], report)
    sign(people[ANNA], report, "Approved for the quarter.")
    report.refresh_from_db()
    assert report.status == Status.FINAL
    assert standing.may_be_delivered(report)
    body = file_of(report).read_bytes()
    assert signing.check(body) == signing.Verdict(True, True, True, signing.fingerprint(), 4)
    assert hashlib.sha256(body).hexdigest() == report.sha256
    assert body.startswith(issued_file.read_bytes()), "a final file is added to, never changed"
    assert [
        hashlib.sha256((settings.DATA_DIR / step.file).read_bytes()).hexdigest() for step in report.sign_offs.all()
    ] == [step.sha256 for step in report.sign_offs.all()]
    listed = client.get("/api/v1/sign-offs?q=actor:pia@shop.example").json()["items"]
    assert [(one["report"], one["by"], one["seen_sha256"]) for one in listed] == [(report.number, PIA, first)]
    assert client.get("/api/v1/sign-offs?format=csv").status_code == 200
    told = recorded("sign_off")
    assert told == [
        (PIA, "signed as preparer, step 1 of 3"),
        (PIA, "refused"),
        (EVE, "refused"),
        (ANNA, "refused"),
        (OLAF, "signed as control owner, step 2 of 3"),
        (ANNA, "signed as approver, step 3 of 3"),
        ("touchstone", "signed by all: final"),
    ]
    _expect_file(report, tmp_path)


def _expect_file(report: Report, tmp_path: Path) -> None:
    """What the finished file says and is: words, PDF/A-3a, fields; and what the verifier and the JSON say of it."""
    path = file_of(report)
    shown = subprocess.run(["pdftotext", "-layout", path, "-"], capture_output=True, text=True, check=True).stdout
    text = " ".join(shown.split())
    assert "<script>alert(1)</script> [U+202E]shalom" in text
    assert "Approver: signed by anna@shop.example" in text
    assert "Signed in by OpenID Connect, issuer https://idp.example, subject 248-289; methods that" in text
    assert "The person holds no key of their own." in text
    fonts = subprocess.run(["pdffonts", path], capture_output=True, text=True, check=True).stdout.splitlines()[2:]
    assert all(line.split()[-5] == "yes" for line in fonts), "every font is embedded"
    with pikepdf.open(path) as opened, opened.open_metadata() as meta:
        assert (meta["pdfaid:part"], meta["pdfaid:conformance"]) == ("3", "A")
        assert "/Version" not in opened.Root
        fields = {str(field.T): field for field in opened.Root.AcroForm.Fields}
        assert set(fields) == {"Sign-off 1", "Sign-off 2", "Sign-off 3", "Touchstone"}
        assert all(
            "/V" in field and int(field.F) & 4 and "/AP" in field
            for name, field in fields.items()
            if name != "Touchstone"
        )
        assert {field.P.objgen for name, field in fields.items() if name != "Touchstone"} == {opened.pages[-1].objgen}
    policy = tmp_path / "policy"
    with policy.open("w") as file:
        call_command("policy", stdout=file)
    command = [sys.executable, "-m", "lineage.verify", str(path), "--policy", str(policy)]
    checked = subprocess.run(command, cwd=settings.BASE_DIR, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "It holds 3 of the 3 sign-offs" in checked.stdout
    summary = json.loads(path.with_suffix(".json").read_bytes())
    assert (summary["status"], summary["pdf"]["sha256"]) == ("final", report.sha256)
    assert [(one["by"], one["act"]) for one in summary["sign_off"]] == [
        (PIA, "signed"),
        (OLAF, "signed"),
        (ANNA, "signed"),
    ]


def test_a_late_step_is_escalated_once_told_to_receivers_and_open_to_the_second_person(
    store: str, tmp_path: Path
) -> None:
    people = seats()
    plan((Step("preparer", PIA, 1), Step("approver", ANNA, 3, SID)))
    report = awaiting(tmp_path)
    (tmp_path / report.path).with_suffix(".zip").write_bytes(b"PK large")
    sign(people[PIA], report)
    with pytest.raises(errors.SignOffRefused, match="turn of anna"):
        sign(people[SID], report)
    assert reviews.escalate(made.END + dt.timedelta(days=2)) == 0
    late = made.END + dt.timedelta(days=3)
    assert [reviews.escalate(late), reviews.escalate(late)] == [1, 0]
    judging.judge(dt.datetime.now(dt.UTC) + dt.timedelta(minutes=10))
    (found,) = (one for one in queries.findings(ROOT).items if one["rule"] == "sign-off-late")
    assert f"approver anna@shop.example did not sign {report.number}" in found["sentence"]
    client = Client()
    client.force_login(User.objects.get(email=SID))
    assert "1 report waits for your signature" in client.get("/reports/sign-off/").content.decode()
    seen = Report.objects.get(pk=report.pk).sha256
    reviews.sign(people[SID], report.pk, "In Anna's place.", seen, {}, late + dt.timedelta(hours=1))
    report.refresh_from_db()
    assert report.status == Status.FINAL
    signed = (tmp_path / report.path).read_bytes()
    assert client.get(f"/reports/{report.pk}/file.zip").getvalue() == b"PK large"
    assert json.loads(client.get(f"/reports/{report.pk}/file.json").getvalue())["status"] == "final"
    assert signing.check(signed, with_changes=True) == signing.Verdict(True, True, True, signing.fingerprint(), 3)
    assert signing.check(signed[: -len(signed) // 3], with_changes=True).intact is False
    assert recorded("sign_off")[2:] == [
        ("touchstone", "escalated"),
        (SID, "signed as approver, step 2 of 2, late"),
        ("touchstone", "signed by all: final"),
    ]
    assert not [e for e in queries.overview(ROOT)["coverage"] if e.state != "complete"], (
        "a late sign-off is no gap in the records"
    )


def test_what_may_not_be_signed_is_refused_recorded_and_leaves_everything_as_it_was(store: str, tmp_path: Path) -> None:
    people = seats()
    auditor = viewer_of(story.person("audit@a.example", "auditor"))
    stranger = viewer_of(story.person("x@other.test", "compliance", environments=["elsewhere"]))
    plan()
    report = awaiting(tmp_path)
    before = (tmp_path / report.path).read_bytes()
    pia = people[PIA]
    for who, words, seen, error in (
        (auditor, "ok", report.sha256, errors.AccessDenied),
        (stranger, "ok", report.sha256, errors.NotFound),
        (people[ANNA], "ok", report.sha256, errors.SignOffRefused),
        (pia, "", report.sha256, errors.SignOffRefused),
        (pia, "x" * 301, report.sha256, errors.SignOffRefused),
        (pia, "a\0b", report.sha256, errors.SignOffRefused),
        (pia, "ok", "0" * 64, errors.SignOffRefused),
    ):
        with pytest.raises(error):
            reviews.sign(who, report.pk, words, seen, HOW, NOW)
    assert recorded("sign_off") == [(ANNA, "refused"), *[(PIA, "refused")] * 4]
    Identity.objects.create(
        datasource="orders",
        db_user="pia",
        person_id="lea@shop.example",
        name="Pia",
        email=PIA.upper(),
        as_of=made.START,
    )
    with pytest.raises(errors.SignOffRefused, match="acted, were acted for"):
        sign(pia, report)
    Identity.objects.all().delete()
    broken = bytearray(before)
    broken[len(before) // 3] ^= 1
    (tmp_path / report.path).write_bytes(bytes(broken))
    with pytest.raises(errors.ReportFailed, match="changed after it was signed"):
        sign(pia, report)
    assert not SignOff.objects.exclude(act=Act.WAITING).exists()
    assert Report.objects.get().sha256 == report.sha256
    client = Client(headers={"authorization": f"Bearer {_token(PIA)}"})
    answer = client.post(f"/reports/{report.pk}/sign-off", {"do": "sign", "words": "ok", "seen": report.sha256})
    assert answer.status_code == 403, "a token is no person who is there"


def _token(email: str) -> str:
    from lineage import access
    from lineage.models import ApiToken

    ApiToken.objects.create(user=User.objects.get(email=email), token_hash=access.token_hash("t"))
    return "t"


def test_a_report_that_is_sent_back_is_signed_by_nobody_more(store: str, tmp_path: Path) -> None:
    people = seats()
    plan()
    report = awaiting(tmp_path)
    reviews.refuse(people[PIA], report.pk, "The window is wrong.", report.sha256, HOW, NOW)
    report.refresh_from_db()
    assert (report.status, report.reasons) == (Status.REFUSED, [f"Sent back by {PIA} (preparer): The window is wrong."])
    with pytest.raises(errors.SignOffRefused):
        sign(people[OLAF], report)
    assert recorded("sign_off") == [(PIA, "sent back as preparer"), (OLAF, "refused")]
    assert not standing.may_be_delivered(report)
    tasks.tick(0)
    assert not reviews.waiting(ROOT).exists()


def test_another_person_is_named_on_record_and_never_a_subject_or_somebody_of_another_step(
    store: str, tmp_path: Path
) -> None:
    seats()
    dana, rob = story.person("dana@shop.example", "security"), story.person("rob@shop.example", "security")
    far = story.person("far@shop.example", "security", environments=["elsewhere"])
    plan()
    report = awaiting(tmp_path)
    for email in (dana.email, ANNA, far.email, "nobody@shop.example"):
        with pytest.raises(errors.SignOffRefused):
            reviews.name_another(ROOT, report.pk, email, "on leave")
    with pytest.raises(errors.QueryInvalid):
        reviews.name_another(ROOT, report.pk, rob.email, " ")
    with pytest.raises(errors.AccessDenied):
        reviews.name_another(viewer_of(rob), report.pk, rob.email, "me")
    assert [step.person for step in report.sign_offs.all()] == [PIA, EVE, ANNA]
    client = Client()
    client.force_login(User.objects.get(email=ANNA))
    form = {"do": "name", "person": rob.email, "reason": "Pia is on leave"}
    assert client.post(f"/reports/{report.pk}/sign-off", form).status_code == 302
    told = [what for _, what in recorded("configuration")]
    assert told.count("refused") == 6
    assert told[-1] == f"changed: preparer {PIA} → {rob.email}"
    sign(viewer_of(rob), report)


def test_a_report_in_which_nothing_occurred_is_approved_by_the_plan_and_one_that_could_not_be_tested_is_not(
    store: str, tmp_path: Path
) -> None:
    seats()
    plan(if_empty=True)
    empty = final(tmp_path, outcomes.NOT_OCCURRED, sha256="ab" * 32)
    reviews.announce(empty)
    assert (empty.status, {step.act for step in empty.sign_offs.all()}) == (Status.FINAL, {Act.EMPTY})
    assert recorded("sign_off") == [("touchstone", "approved because empty")]
    assert reviews.printed(empty)[0]["is_empty"]
    assert final(tmp_path, outcomes.NOT_TESTED).status == Status.AWAITING
    draft = Report(kind="privileged-access", status=Status.DRAFT, period_from=made.START, period_to=made.END)
    draft.save()
    assert reviews.begin(draft, tmp_path, outcomes.DEVIATED) == []
    assert {step.barred[0] for step in SignOff.objects.filter(position=2)} == {EVE}


def test_what_is_asked_for_is_set_on_the_page_by_few_and_each_change_is_a_record(
    store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    seats()
    story.person("audit@a.example", "auditor")
    for steps in (
        (Step("approver", ANNA, 1), Step("preparer", PIA, 1)),
        (Step("preparer", PIA, 1), Step("approver", PIA, 2)),
        (Step("preparer", PIA, 1, ANNA), Step("approver", ANNA, 2)),
        (Step("preparer", "audit@a.example", 1),),
        (Step("preparer", PIA, 400),),
        (Step("boss", PIA, 1),),
        (Step("preparer", "", 1, PIA),),
    ):
        with pytest.raises(errors.SignOffRefused):
            plan(steps)
    with pytest.raises(errors.QueryInvalid):
        plan(kind="no such kind")
    narrow = Viewer(email=ANNA, role="compliance", environments=("prod",))
    with pytest.raises(errors.AccessDenied):
        review_plans.establish(narrow, "approvals", None, STEPS, if_empty=False, reason="why")
    assert not SignOffPlan.objects.exists()
    client = Client()
    client.force_login(User.objects.get(email=ANNA))
    form = {"about": "kind approvals", "preparer-person": PIA, "preparer-days": "2", "approver-person": OLAF, "approver-days": "5",
            "approver-second": SID, "if_empty": "on", "reason": "the auditor asks"}  # fmt: skip
    assert client.post("/reports/sign-off/plan", form).status_code == 302
    page = client.get("/reports/sign-off/").content.decode()
    assert "approver olaf@shop.example within 5 days, then sid@shop.example too" in page
    assert client.post("/reports/sign-off/plan", form | {"preparer-days": "soon"}).status_code == 400
    assert client.post("/reports/sign-off/plan", {"about": "schedule 7", "reason": "x"}).status_code == 404
    assert client.post("/reports/sign-off/plan", {"about": "kind approvals", "reason": "no more"}).status_code == 302
    assert not SignOffPlan.objects.exists()
    told = [what for _, what in recorded("configuration")]
    assert told.count("refused") == 9
    assert told[-2].startswith("added: steps preparer pia@shop.example within 2 days, approver olaf")
    assert told[-1].startswith("removed: steps preparer")
    call_command("signoff", "set", "agents", "--step", f"approver:{ANNA}:5:{SID}", "--reason", "the auditor asks")
    call_command("signoff", "list")
    assert f"agents: approver {ANNA} within 5 days, then {SID} too" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        call_command("signoff", "set", "agents", "--step", f"approver:{ANNA}", "--reason", "x")
    client.force_login(User.objects.get(email="audit@a.example"))
    assert "What is asked for" not in client.get("/reports/sign-off/").content.decode()
    assert client.post("/reports/sign-off/plan", form).status_code == 403
