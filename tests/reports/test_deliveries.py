"""Final reports reach those whom a schedule names, once each, with proof; nobody is sent what they may not see."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as configured
from django.core import mail
from django.test import override_settings

from lineage import errors, keeper, queries
from lineage.access import Viewer
from lineage.finding_models import Receiver
from lineage.findings import receivers
from lineage.models import User
from reports import deliveries, issuing, recipients, schedules
from reports.models import Delivery, Recipient, Report, Schedule
from tests import story
from tests.lineage.test_telling import OnCall, genuine, wait_for

pytestmark = pytest.mark.slow

CARLA = Viewer("carla@example.test", "compliance")
SIGRID = Viewer("sigrid@example.test", "security")
PDF = b"%PDF-1.7 the signed file"
NOW = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)


@pytest.fixture
def on_call() -> Iterator[OnCall]:
    one = OnCall()
    yield one
    one.stop()


@pytest.fixture
def plan(store: str, settings: Any, tmp_path: Path) -> Schedule:
    settings.REPORT_FOLDER, settings.PUBLIC_URL = str(tmp_path / "given"), "https://touchstone.example"
    story.person("alice@audit.example")
    story.person("walt@audit.example", environments=["warehouse"])
    story.person("olga@ops.example", "operator")
    scope = ("production", ("orders-prod",))
    return schedules.add(CARLA, "monthly", "privileged-access", "monthly", scope=scope, now=NOW)


def issued(plan: Schedule, status: str = "final", month: int = 10) -> Report:
    """A report of the schedule as issuing leaves it: its row, the file and the numbers beside it."""
    report = Report.objects.create(
        kind=plan.kind, schedule=plan, environment=plan.environment, datasources=plan.datasources, status=status,
        period_from=NOW.replace(month=month), period_to=NOW.replace(month=month + 1), created_by=plan.created_by,
        counts={"tested": 12, "deviating": 1}, sha256=hashlib.sha256(PDF).hexdigest(), issued_at=dt.datetime.now(dt.UTC),
    )  # fmt: skip
    folder = issuing.folder_of(report)
    folder.mkdir(parents=True)
    (folder / f"{report.file_stem}.pdf").write_bytes(PDF)
    (folder / f"{report.file_stem}.json").write_text(json.dumps({"conclusion": "deviations noted"}))
    report.path = str((folder / f"{report.file_stem}.pdf").relative_to(configured.DATA_DIR))
    report.save()
    return report


def receiver(name: str, kind: str, address: str, **more: Any) -> str:
    given = {"name": name, "kind": kind, "address": address, "severity": "none", "is_on": True}
    return receivers.establish(SIGRID, given | more, "for the auditors")[1]


def send() -> None:
    """All that is due now, in the order in which it was noted."""
    for number in deliveries._due():
        while deliveries.deliver_one(number):
            pass


def again() -> None:
    Delivery.objects.filter(told_at=None).update(next_at=dt.datetime.now(dt.UTC))


def exports() -> list[dict[str, Any]]:
    rows = queries.events(CARLA, "kind:custody source:touchstone").items
    return [row["custody"] for row in rows if row["custody"]["type"] == "export"]


def proofs() -> list[str]:
    return [one["detail"] for one in exports()]


def test_a_final_report_reaches_mail_webhook_and_folder_once_and_each_is_proved(
    plan: Schedule, on_call: OnCall, tmp_path: Path
) -> None:
    early = issued(plan, month=8)
    secret = receiver("tickets", "webhook", on_call.url)
    receiver("archive", "folder", "quarterly")
    recipients.add(CARLA, plan.pk, "Alice@audit.example", attaches=True)
    recipients.add(CARLA, plan.pk, "tickets", attaches=True)
    recipients.add(CARLA, plan.pk, "archive", attaches=False)
    for month, unfinished in enumerate(("draft", "blocked", "failed", "queued"), 1):
        issued(plan, unfinished, month)
    report = issued(plan)
    (issuing.folder_of(report) / f"{report.file_stem}.zip").write_bytes(b"PK large tables")
    assert deliveries.prepare() == 3
    assert deliveries.prepare() == 0, "what is noted is noted once"
    send()
    send()
    (sent,) = mail.outbox
    assert sent.to == ["alice@audit.example"]
    assert sent.subject == f"{report.number} Privileged access: deviations noted"
    assert "Open it: https://touchstone.example/reports/" in sent.body
    assert "12 of them 1 deviate" in sent.body
    assert sent.attachments == [(f"{report.file_stem}.pdf", PDF, "application/pdf")]
    ((headers, body),) = on_call.got
    assert genuine(secret, headers, body)
    ours = json.loads(body)["touchstone"]
    assert (ours["report"], ours["sha256"], ours["status"]) == (report.number, report.sha256, "final")
    given = sorted(path.name for path in (tmp_path / "given/quarterly").iterdir())
    assert given == [f"{report.file_stem}{suffix}" for suffix in (".json", ".pdf", ".zip")]
    assert "A ZIP with what is too large" in sent.body
    assert (tmp_path / "given/quarterly" / given[1]).read_bytes() == PDF
    assert sorted(proofs()) == [
        "sent to alice@audit.example: taken by the mail server", "sent to archive: written as " + given[1],
        "sent to tickets: HTTP 200",
    ]  # fmt: skip
    assert not Delivery.objects.filter(report=early).exists(), "what was issued before somebody was named is not sent"
    assert not Delivery.objects.exclude(body=None).exists()
    (subject,) = {one["subject"] for one in exports()}
    assert subject == f"report {report.number} sha256:{report.sha256}"
    assert "sending" in {each.name for each in keeper.rounds() if each.apart}


def test_a_mail_server_that_is_down_is_asked_again_and_the_report_comes_once(plan: Schedule, on_call: OnCall) -> None:
    receiver("tickets", "webhook", on_call.url)
    recipients.add(CARLA, plan.pk, "alice@audit.example", attaches=False)
    recipients.add(CARLA, plan.pk, "tickets", attaches=False)
    report = issued(plan)
    sending = deliveries.Sending()
    smtp = "django.core.mail.backends.smtp.EmailBackend"
    with override_settings(EMAIL_BACKEND=smtp, EMAIL_HOST="127.0.0.1", EMAIL_PORT=9, EMAIL_TIMEOUT=2):
        wait_for(lambda: sending() or on_call.got, "the other is sent it meanwhile")
        wait_for(lambda: Delivery.objects.filter(tries=1, told_at=None).exists(), "the mail was tried")
        one = Delivery.objects.get(recipient__email="alice@audit.example")
        assert (one.answer, deliveries.deliver_one(one.recipient_id)) == (
            "ConnectionRefusedError: the mail server did not take it", False,
        )  # fmt: skip
        again()
        assert deliveries.deliver_one(one.recipient_id) is False
    again()
    send()
    send()
    assert [sent.extra_headers["Message-ID"] for sent in mail.outbox] == [f"<{one.message_id}@touchstone>"]
    assert Delivery.objects.get(pk=one.pk).tries == 3
    assert Path(configured.DATA_DIR, report.path).exists()
    one.pk, one.report, one.told_at, one.body, one.message_id = None, issued(plan, month=9), None, "{}", "msg_old"
    one.save()
    Delivery.objects.filter(pk=one.pk).update(begun_at=NOW - deliveries.outbox.GIVE_UP)
    Path(configured.DATA_DIR, one.report.path).write_bytes(b"another file")
    again()
    send()
    assert Delivery.objects.get(pk=one.pk).answer.startswith("given up after three days: the file is not the one")
    assert proofs()[0].startswith("not sent to alice@audit.example: given up")


def test_what_amends_or_replaces_a_scheduled_report_is_sent_too_and_says_so(plan: Schedule) -> None:
    recipients.add(CARLA, plan.pk, "alice@audit.example", attaches=False)
    draft, report = issued(plan, "draft", 9), issued(plan)
    others = [issued(plan, month=month) for month in (7, 8)]
    for one, more in zip(others, ({"supersedes": draft}, {"amends": report, "supplement": 1}), strict=True):
        stem = one.file_stem
        Report.objects.filter(pk=one.pk).update(schedule=None, **more)
        one.refresh_from_db()
        folder = issuing.folder_of(one)
        folder.mkdir(parents=True, exist_ok=True)
        for suffix in (".pdf", ".json"):
            old = next(path for path in folder.parent.rglob(f"{stem}{suffix}"))
            (folder / f"{one.file_stem}{suffix}").write_bytes(old.read_bytes())
    assert deliveries.prepare() == 3
    send()
    assert [sent.subject.split(" Priv")[0] for sent in mail.outbox] == [
        report.number, others[0].number, f"{report.number} supplement 1",
    ]  # fmt: skip
    assert f"Replaces  {draft.number}" in mail.outbox[1].body
    assert f"Amends    {report.number}" in mail.outbox[2].body


def test_nobody_is_sent_what_is_outside_their_scope_when_it_is_sent(plan: Schedule) -> None:
    recipients.add(CARLA, plan.pk, "alice@audit.example", attaches=False)
    receiver("desk", "mail", "desk@shop.example", environments=["production"])
    recipients.add(CARLA, plan.pk, "desk", attaches=False)
    issued(plan)
    deliveries.prepare()
    User.objects.filter(email="alice@audit.example").update(datasources=["hr-prod"])
    Receiver.objects.filter(name="desk").update(is_on=False)
    send()
    assert mail.outbox == []
    assert proofs() == [f"not sent to alice@audit.example: {deliveries.OUT_OF_SCOPE}"]
    Receiver.objects.filter(name="desk").update(is_on=True)
    send()
    assert [sent.to for sent in mail.outbox] == [["desk@shop.example"]]
    (two,) = Recipient.objects.filter(receiver__name="desk")
    issued(plan, month=9)
    deliveries.prepare()
    recipients.end(CARLA, plan.pk, two.pk)
    User.objects.filter(email="alice@audit.example").update(datasources=[], is_active=False)
    send()
    assert len(mail.outbox) == 1
    answers = Delivery.objects.order_by("-pk").values_list("answer", flat=True)[:2]
    assert set(answers) == {recipients.ENDED, deliveries.OUT_OF_SCOPE}
    assert recipients.of(plan)[0].email == "alice@audit.example"


REFUSED = (
    (CARLA, "nobody@nowhere.example", "receiver-invalid"),
    (CARLA, "walt@audit.example", "receiver-invalid"),
    (CARLA, "olga@ops.example", "receiver-invalid"),
    (CARLA, "warehouse", "receiver-invalid"),
    (CARLA, "alice\0@audit.example", "receiver-invalid"),
    (Viewer("hana@example.test", "compliance", ("hr-prod",)), "alice@audit.example", "not-found"),
    (Viewer("alice@audit.example", "auditor"), "alice@audit.example", "access-denied"),
    (Viewer("olga@ops.example", "operator"), "olga@ops.example", "access-denied"),
)


def test_a_recipient_that_may_not_see_it_all_is_refused_in_the_same_words_and_recorded(plan: Schedule) -> None:
    receiver("warehouse", "mail", "desk@shop.example", environments=["warehouse"])
    words = set()
    for who, name, code in REFUSED:
        with pytest.raises(errors.TouchstoneError) as refused:
            recipients.add(who, plan.pk, name, attaches=False)
        assert refused.value.code == code
        words.add(refused.value.message)
    assert len(words) == 3
    assert not Recipient.objects.exists()
    recorded = queries.events(CARLA, "kind:decision source:touchstone").items[: len(REFUSED)][::-1]
    told = [(row["decision"]["decided_by"], row["decision"]["transition"], row["purpose"]) for row in recorded]
    assert told == [(who.email, "refused", code) for who, _, code in REFUSED]
    assert {row["decision"]["subject"] for row in recorded} == {f"schedule {plan.pk}"}


def test_who_is_sent_reports_is_a_record_with_old_and_new_value_and_a_folder_is_never_led_elsewhere(
    plan: Schedule, settings: Any, tmp_path: Path
) -> None:
    one = recipients.add(CARLA, plan.pk, "alice@audit.example", attaches=True)
    with pytest.raises(errors.AlreadyDone):
        recipients.add(CARLA, plan.pk, "alice@audit.example", attaches=False)
    recipients.end(CARLA, plan.pk, one.pk)
    ended, _, added, *_ = queries.events(CARLA, "kind:decision source:touchstone").items
    assert json.loads(ended["statement"]) == {
        "old": {"sent to": ["alice@audit.example with the file"]}, "new": {"sent to": []},
    }  # fmt: skip
    assert added["decision"]["subject"] == "schedule monthly"
    for address, severity in (("../outside", "none"), ("/tmp/x", "none"), ("a/b", "none"), ("plain", "low")):
        with pytest.raises(errors.ReceiverInvalid):
            receiver("archive", "folder", address, severity=severity)
    settings.REPORT_FOLDER = ""
    with pytest.raises(errors.ReceiverInvalid):
        receiver("archive", "folder", "plain")
    settings.REPORT_FOLDER = str(tmp_path / "given")
    receiver("archive", "folder", "plain")
    recipients.add(CARLA, plan.pk, "archive", attaches=False)
    report = issued(plan)
    there = tmp_path / "given/plain" / f"{report.file_stem}.pdf"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"somebody's own")
    deliveries.prepare()
    send()
    assert there.read_bytes() == b"somebody's own"
    assert Delivery.objects.get().answer == f"another file lies at {there.name}; it was left as it is"
