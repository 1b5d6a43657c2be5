"""A report from a real store: its counts are the store's, its file is signed, its issue is in the log, and scope holds."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import pikepdf
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.conf import settings
from django.core import mail
from django.core.management import call_command
from django.test import Client

from lineage import checkpoints, engine, errors, events, health, ingest, ledger, queries, segments
from lineage.access import Viewer
from lineage.events import Event
from lineage.models import Identity, Source, SourceHealth, Tag, User
from lineage.notes import parse_policy
from lineage.verify import verify
from reports import (
    archives,
    calendar,
    controls,
    deliveries,
    evidence,
    frozen,
    issuing,
    periods,
    policies,
    recipients,
    requests,
    schedules,
    signing,
    standing,
    tasks,
)
from reports.evidence import Request
from reports.models import Report, Status

pytestmark = pytest.mark.slow
DAY = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)
NEXT = DAY + dt.timedelta(days=1)
AUDITOR = Viewer(email="audit@example.test", role="auditor")
OPERATOR = Viewer(email="ops@example.test", role="operator")
STRANGER = Viewer(email="x@other.test", role="auditor", datasources=("elsewhere",))


class Shop:
    """A log, a change capture, a state collector and a change desk of one database, heard until after the period."""

    def __init__(self) -> None:
        make = Source.objects.create
        self.log = make(name="log", format="postgres-csvlog", environment="prod", datasource="orders")
        self.wal = make(name="wal", format="pgoutput", environment="prod", datasource="orders")
        self.state = make(name="state", format="pgstate", environment="prod", datasource="orders")
        self.desk = make(name="desk", format="events", environment="prod", asserts=["actor", "approval"])
        Identity.objects.create(
            datasource="orders", db_user="dana", person_id="dana@shop.example", name="Dana", email="dana@shop.example",
            type="human", as_of="2026-01-01T00:00Z",
        )  # fmt: skip
        self.numbers: dict[str, int] = {}

    def send(self, source: Source, second: int = 0, **fields: Any) -> int:
        number = self.numbers[source.name] = self.numbers.get(source.name, 0) + 1
        at = events.format_time(DAY + dt.timedelta(hours=10, seconds=second))
        base = {"source_event_id": f"{source.name}{number}", "occurred_at": at, "sequence": number}
        entry = ingest.admit(source, msgspec.convert(base | fields, Event))
        assert isinstance(entry, ledger.Entry)
        return ledger.append(source.pk, [entry])[0].index

    def statement(
        self, text: str, second: int, op: str, user: str = "dana", xid: str | None = None, **more: Any
    ) -> int:
        return self.send(
            self.log, second, kind="query", op=op, verdict=more.pop("verdict", "allowed"),
            actor={"db_user": user}, db_session_id=f"s-{user}", correlation_id=f"c{second}",
            transaction={"vid": f"3/{second}", **({"id": xid} if xid else {})}, client={"ip": "10.0.0.7"},
            statement={"text": text, "state": "whole"}, resources=[{"schema": "public", "relation": "customers"}], **more,
        )  # fmt: skip

    def change(self, xid: str, second: int, key: str) -> int:
        image = [{"column": "id", "value": key}]
        return self.send(
            self.wal, second, kind="change", op="update", verdict="allowed", key=image, before=image, after=image,
            transaction={"id": xid, "outcome": "committed"}, resources=[{"schema": "public", "relation": "customers"}],
        )  # fmt: skip

    def approve(self, ticket: str, by: str, hour: int) -> int:
        at = events.format_time(DAY + dt.timedelta(hours=hour))
        return self.send(
            self.desk, kind="decision", ticket=ticket, decision={"type": "approval", "decided_by": by},
            approval={"state": "approved", "approvers": [by], "requested_by": "dana@shop.example", "decided_at": at},
        )  # fmt: skip

    def heard(self, at: dt.datetime) -> None:
        for source in (self.log, self.wal, self.state, self.desk):
            health.beat(source, last_sequence=self.numbers.get(source.name, 0), position="", reported_at=at)
        SourceHealth.objects.update(heartbeat_at=at)


@pytest.fixture
def shop(store: str) -> Shop:
    return opened()


def opened() -> Shop:
    """The shop's day, told to the present store."""
    shop = Shop()
    shop.send(
        shop.state, -3600, kind="state",
        state={"roles": [{"name": "root", "login": True, "superuser": True}, {"name": "dana", "login": True}]},
    )  # fmt: skip
    shop.approve("OPS-1", "eve@shop.example", 9)
    shop.approve("OPS-2", "dana@shop.example", 9)
    shop.statement("select * from customers where id = 1", 1, "read")
    shop.statement(
        "update customers set email = 'secret@x' where id = 1",
        2,
        "update",
        xid="70",
        ticket="OPS-1",
        rows={"affected": 1},
    )
    shop.change("70", 3, "1")
    shop.statement(
        "update customers set email = 'secret@x'", 4, "update", xid="71", ticket="OPS-2", rows={"affected": 3}
    )
    for number in range(3):
        shop.change("71", 5, str(number))
    shop.statement("alter table customers add column note text", 6, "ddl")
    shop.statement("select * from customers", 7, "read", user="root")
    shop.statement("delete from customers", 8, "delete", verdict="blocked", error={"code": "42501"})
    shop.heard(NEXT + dt.timedelta(minutes=1))
    checkpoints.checkpoint()
    return shop


def issued(viewer: Viewer = AUDITOR, kind: str = "privileged-access", **more: Any) -> Report:
    User.objects.get_or_create(
        email=viewer.email, defaults={"role": viewer.role, "datasources": list(viewer.datasources)}
    )
    report = requests.ask(viewer, Request(kind, DAY, NEXT, **more))
    checkpoints.checkpoint()
    claimed = issuing.claim(report.pk)
    assert claimed is not None
    return issuing.issue(claimed)


def stand_of(tmp_path: Path) -> tuple[Status, list[str]]:
    """Where a report of the day would stand, without printing it."""
    checkpoints.checkpoint()
    asked = Request("privileged-access", DAY, NEXT, "prod")
    return standing.state(evidence.collect(AUDITOR, asked, tmp_path / "inputs"))


def file_of(report: Report) -> Path:
    return Path(settings.DATA_DIR) / report.path


@pytest.mark.parametrize("kind", controls.KINDS)
def test_each_kind_is_issued_signed_and_its_tests_run_again_from_the_file(shop: Shop, kind: str) -> None:
    Tag.objects.create(datasource="orders", relation="public.customers", column="email", classes=["email"], by="eve")
    Tag.objects.update(at=DAY)
    control = "" if controls.KINDS[kind].tests else "soc2/CC8.1"
    report = issued(kind=kind, environment="prod", control=control)
    assert report.status == Status.FINAL
    signed = file_of(report).read_bytes()
    assert signing.check(signed).whole_file
    with pikepdf.open(io.BytesIO(signed)) as document:
        attached = {name: bytes(document.attachments[name].get_file().read_bytes()) for name in document.attachments}
    for told in json.loads(file_of(report).with_suffix(".json").read_bytes())["tests"]:
        test = controls.tests()[told["id"]]
        tables = {name: pq.read_table(io.BytesIO(attached[f"{name}.parquet"])) for name in test.tables}
        again = engine.over(tables, attached[f"{test.stem}.sql"].decode())
        assert again.equals(pq.read_table(io.BytesIO(attached[f"{test.stem}.items.parquet"])))
        assert told["counts"]["items"] == again.num_rows
        assert told["counts"]["deviating"] == sum(map(bool, again["deviations"].to_pylist()))
    verdict = verify(signed, parse_policy(policies.text()))
    assert verdict.exit == 0, verdict


@pytest.mark.parametrize("sealed", [False, True])
def test_a_report_counts_what_the_store_counts_and_its_issue_is_in_the_log(shop: Shop, sealed: bool) -> None:
    if sealed:
        segments.seal()
    report = issued(environment="prod")
    table = pa.Table.from_batches(list(queries.population(AUDITOR, DAY, NEXT, environment="prod", as_of=report.as_of)))
    assert (report.status, report.reasons) == (Status.FINAL, [])
    assert report.counts["population"] == table.num_rows == 10
    # It holds no values, and statements in their redacted form.
    assert not {"diff", "error_message", "redacted"} & set(table.column_names)
    assert "update customers set email = ? where id = ?" in table["statement"].to_pylist()
    assert "secret@x" not in str(table.to_pylist())
    assert report.counts["row_changes"] == 4
    assert report.counts["items"] == 5
    assert report.counts["excluded"] == 1
    summary = json.loads(file_of(report).with_suffix(".json").read_bytes())
    found = {tuple(act["deviations"]): act["who_name"] for act in summary["tests"][0]["deviations"]}
    assert found == {("self-approved",): "Dana", ("no ticket",): "Dana", ("person not known", "no ticket"): "root"}
    text = subprocess.run(
        ["pdftotext", "-layout", file_of(report), "-"], capture_output=True, text=True, check=True
    ).stdout
    assert (
        "4 privileged acts were tested, all of them; 3 deviate. 1 more was refused, failed, or only waited for a decision."
        in " ".join(text.split())
    )
    assert "10 accesses: 6 statement records and 4 captured row changes." in text
    assert "secret@x" not in text
    decided = [e["decision"] for e in queries.events(AUDITOR, "kind:decision").items]
    recorded = [(d["subject"], d["transition"]) for d in decided if d["type"] == "report_issued"]
    assert recorded == [(f"{report.number} sha256:{report.sha256}", "final")]


def test_the_file_is_certified_its_attachments_are_the_manifests_and_its_pack_verifies(
    report: Report, tmp_path: Path
) -> None:
    signed = file_of(report).read_bytes()
    verdict = signing.check(signed)
    assert (verdict.intact, verdict.trusted, verdict.whole_file) == (True, True, True)
    told = subprocess.run(["pdfsig", file_of(report)], capture_output=True, text=True, check=False).stdout
    assert "Signature is Valid" in told
    assert "Total document signed" in told
    with pikepdf.open(io.BytesIO(signed)) as document:
        attached = {name: bytes(document.attachments[name].get_file().read_bytes()) for name in document.attachments}
    manifest = json.loads(attached["manifest.json"])
    names = {line["name"] for line in manifest["files"]}
    assert names | {"manifest.json"} == set(attached)
    assert {"population.parquet", "privileged_access.sql", "evidence.touchstone.zip", "checkpoint.txt"} <= names
    assert zipfile.is_zipfile(io.BytesIO(attached["evidence.touchstone.zip"]))
    for line in manifest["files"]:
        assert line["sha256"] == evidence.sha256(issuing.folder_of(report) / line["name"])
    assert all(b"secret@x" not in body for body in attached.values())
    tests = controls.tests_of(report.kind)
    tables = {
        name: pq.read_table(io.BytesIO(attached[f"{name}.parquet"])) for name in (*frozen.names_of(tests), "acts")
    }
    assert engine.over(tables, attached["acts.sql"].decode()).equals(tables["acts"])
    again = engine.over(tables, attached["privileged_access.sql"].decode())
    assert again.num_rows == report.counts["items"]
    assert sum(map(bool, again["deviations"].to_pylist())) == report.counts["deviating"]
    policy, pack = tmp_path / "policy", tmp_path / "evidence.touchstone.zip"
    with policy.open("w") as file:
        call_command("policy", stdout=file)
    assert signing.fingerprint() in policy.read_text()
    pack.write_bytes(attached["evidence.touchstone.zip"])
    for file in (pack, Path(settings.DATA_DIR) / report.path):
        command = [sys.executable, "-m", "lineage.verify", str(file), "--policy", str(policy)]
        checked = subprocess.run(command, cwd=settings.BASE_DIR, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_retry_renders_the_frozen_inputs_to_the_same_unsigned_bytes(shop: Shop) -> None:
    report = issued(environment="prod")
    first = report.unsigned_sha256
    shop.statement("drop table customers", 9, "ddl")
    checkpoints.checkpoint()
    Report.objects.filter(pk=report.pk).update(status=Status.QUEUED)
    again = issuing.claim(report.pk)
    assert again is not None
    assert issuing.issue(again).unsigned_sha256 == first


def test_an_open_period_or_an_unheard_source_gives_a_draft_that_says_why(shop: Shop, tmp_path: Path) -> None:
    shop.heard(NEXT - dt.timedelta(hours=3))
    Source.objects.create(name="mute", format="events", environment="prod")
    Source.objects.filter(name="mute").update(created_at=DAY)
    Source.objects.filter(name="log").update(created_at=DAY)
    status, reasons = stand_of(tmp_path)
    assert status == Status.DRAFT
    assert [r for r in reasons if "mute" in r and "no heartbeat" in r]
    assert [r for r in reasons if "log was last heard at 2026-11-20 21:00:00" in r]


def test_missing_numbers_block_a_report(shop: Shop, tmp_path: Path) -> None:
    shop.numbers["log"] += 2
    shop.statement("select 1 from customers", 11, "read")
    assert stand_of(tmp_path) == (Status.BLOCKED, ["2 numbered records of source log are missing."])


def test_operators_get_no_report_and_a_stranger_finds_none_of_ours(shop: Shop) -> None:
    report = requests.ask(AUDITOR, Request("privileged-access", DAY, NEXT))
    with pytest.raises(errors.AccessDenied):
        requests.ask(OPERATOR, Request("privileged-access", DAY, NEXT))
    with pytest.raises(errors.AccessDenied):
        requests.ask(STRANGER, Request("privileged-access", DAY, NEXT, datasources=("orders",)))
    assert list(Report.objects.all()) == [report]
    for viewer in (OPERATOR, STRANGER):
        with pytest.raises(errors.NotFound):
            requests.one(viewer, report.pk)
    assert requests.one(AUDITOR, report.pk) == report


def test_a_stranger_who_asks_for_everything_gets_their_own_scope_only(shop: Shop, tmp_path: Path) -> None:
    report = requests.ask(STRANGER, Request("privileged-access", DAY, NEXT))
    assert report.datasources == ["elsewhere"]
    checkpoints.checkpoint()
    found = evidence.collect(STRANGER, issuing.request_of(report), tmp_path / "inputs")
    tests = controls.tests_of(report.kind)
    counted = {name: pq.read_metadata(path).num_rows for name, path in found.tables.items()}
    assert counted == dict.fromkeys(frozen.names_of(tests), 0)


def test_files_too_large_for_the_pdf_are_in_a_zip_beside_it_under_the_same_manifest(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "EMBEDDED_MOST_BYTES", 20_000)
    report = issued(environment="prod")
    with pikepdf.open(file_of(report)) as document:
        inside = {name: bytes(document.attachments[name].get_file().read_bytes()) for name in document.attachments}
    with zipfile.ZipFile(file_of(report).with_suffix(".zip")) as archive:
        beside = {name: archive.read(name) for name in archive.namelist()}
    lines = json.loads(inside["manifest.json"])["files"]
    assert {line["name"] for line in lines} | {"manifest.json"} == set(beside)
    assert {line["name"] for line in lines if line["place"] == "pdf"} | {"manifest.json"} == set(inside)
    assert sum(line["bytes"] for line in lines if line["place"] == "pdf") <= 20_000
    assert all(hashlib.sha256(beside[line["name"]]).hexdigest() == line["sha256"] for line in lines)
    assert {name: beside[name] for name in inside} == inside
    summary = json.loads(file_of(report).with_suffix(".json").read_bytes())
    assert summary["archive"]["sha256"] == evidence.sha256(file_of(report).with_suffix(".zip"))
    client = Client()
    client.force_login(User.objects.get(email=AUDITOR.email))
    handed = client.get(f"/reports/{report.pk}/file.zip")
    assert b"".join(handed.streaming_content) == file_of(report).with_suffix(".zip").read_bytes()  # type: ignore[attr-defined]
    rows = b"".join(client.get(f"/reports/{report.pk}/privileged-access.csv").streaming_content).splitlines()  # type: ignore[attr-defined]
    assert len(rows) == 1 + report.counts["items"]
    assert client.get(f"/reports/{report.pk}/agent-acts.csv").status_code == 404


def test_a_form_queues_a_report_that_a_worker_makes_and_pages_hand_out(shop: Shop) -> None:
    user = User.objects.create(email=AUDITOR.email, role="auditor")
    client = Client()
    client.force_login(user)
    form = {"kind": "privileged-access", "from": "2026-11-20", "to": "2026-11-21", "environment": "prod"}
    answer = client.post("/reports/ask", form)
    report = Report.objects.get()
    assert (answer.status_code, report.status) == (302, Status.QUEUED)
    assert "It is being made" in client.get(f"/reports/{report.pk}/").content.decode()
    Report.objects.update(status=Status.RUNNING, phase="printing", started_at=DAY)
    assert ": printing (collecting" in client.get(f"/reports/{report.pk}/").content.decode()
    Report.objects.update(status=Status.QUEUED)
    checkpoints.checkpoint()
    tasks.make(report.pk)
    report.refresh_from_db()
    assert report.status == Status.FINAL
    page = client.get(f"/reports/{report.pk}/").content.decode()
    assert "Privileged access: deviations noted" in page
    assert "self-approved" in page
    assert report.number in client.get("/reports/").content.decode()
    listed = client.get("/api/v1/reports").json()
    assert [(one["number"], one["sha256"]) for one in listed["items"]] == [(report.number, report.sha256)]
    handed = client.get(f"/reports/{report.pk}/file.pdf")
    assert b"".join(handed.streaming_content) == file_of(report).read_bytes()  # type: ignore[attr-defined]
    read = [e["decision"].get("subject") for e in queries.events(AUDITOR, "kind:decision").items]
    assert f"/reports/{report.pk}/file.pdf" in read
    client.force_login(User.objects.create(email=STRANGER.email, role="auditor", datasources=["elsewhere"]))
    assert client.get(f"/reports/{report.pk}/file.pdf").status_code == 404
    assert report.number not in client.get("/reports/").content.decode()
    assert client.get("/api/v1/reports").json()["items"] == []


def test_a_scheduled_report_waits_for_sources_is_then_made_and_sent_as_it_was_issued(shop: Shop) -> None:
    user = User.objects.create(email="carla@example.test", role="compliance")
    who = Viewer(email=user.email, role="compliance")
    start = periods.start_of(periods.rhythm("daily"), dt.datetime.now(dt.UTC))
    Source.objects.update(created_at=start - dt.timedelta(days=2))
    shop.heard(start - dt.timedelta(hours=2))
    plan = schedules.add(
        who, "daily", "privileged-access", "daily", scope=("prod", ()), now=start - dt.timedelta(hours=1)
    )
    recipient = recipients.add(who, plan.pk, user.email, attaches=True)
    (report_id,) = schedules.queue_due(start + dt.timedelta(minutes=1))
    checkpoints.checkpoint()
    tasks.make(report_id)
    report = Report.objects.get(pk=report_id)
    assert report.status == Status.QUEUED
    assert report.reasons[0].startswith("Waiting: Source")
    assert deliveries.prepare() == 0
    shop.heard(start + dt.timedelta(seconds=1))
    checkpoints.checkpoint()
    tasks.make(report_id)
    report.refresh_from_db()
    assert (report.status, report.period_from, report.period_to) == (Status.FINAL, start - dt.timedelta(days=1), start)
    assert deliveries.prepare() == 1
    assert deliveries.deliver_one(recipient.pk)
    ((name, body, _),) = mail.outbox[0].attachments
    assert (name, hashlib.sha256(body).hexdigest()) == (f"{report.file_stem}.pdf", report.sha256)
    assert report.sha256 in mail.outbox[0].body
    assert calendar.of(plan, dt.datetime.now(dt.UTC), 9)[-1].state == "done"


def test_the_command_writes_pdf_and_json_and_lists_them(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    call_command(
        "report",
        "privileged-access",
        "--from",
        "2026-11-20",
        "--to",
        "2026-11-21",
        "--out",
        str(out),
        "--environment",
        "prod",
    )
    call_command("report", "list")
    told = capsys.readouterr().out
    (pdf,) = out.glob("*.pdf")
    assert pdf.with_suffix(".json").exists()
    assert f"PA-0001 final sha256:{evidence.sha256(pdf)}" in told
    assert "PA-0001 privileged-access 2026-11-20T00:00:00 2026-11-21T00:00:00 final" in told
