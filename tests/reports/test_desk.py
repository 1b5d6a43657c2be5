"""Pages where a reader works with evidence: what they bring is checked and not kept; each check is on record."""

from __future__ import annotations

import datetime as dt
import html
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from lineage import access, queries
from lineage.models import ApiToken, User
from reports import builder, checking, policies
from reports.models import Report
from tests.reports.test_issuing import AUDITOR, STRANGER, file_of

pytestmark = pytest.mark.slow
VERIFY = "/reports/verify/"


def seated(email: str, **scope: object) -> Client:
    user, _ = User.objects.get_or_create(email=email, defaults={"role": "auditor", **scope})
    client = Client()
    client.force_login(user)
    return client


def upload(body: bytes, name: str = "report.pdf") -> io.BytesIO:
    file = io.BytesIO(body)
    file.name = name
    return file


def recorded(subject: str) -> list[str]:
    told = queries.events(AUDITOR, "kind:decision").items
    return [e["decision"]["transition"] for e in told if str(e["decision"].get("subject", "")).startswith(subject)]


def test_a_file_that_is_brought_is_checked_line_by_line_recorded_and_not_kept(report: Report) -> None:
    auditor, data = seated(AUDITOR.email), file_of(report).read_bytes()
    form = auditor.get(VERIFY).content.decode()
    assert "drop it here" in form
    page = auditor.post(VERIFY, {"file": upload(data)}).content.decode()
    assert "Valid: every check of this file holds" in page
    assert "Run again over the attached tables" in page
    assert report.number in page
    assert "cannot vouch for itself" in page
    assert recorded(f"verify sha256:{report.sha256}") == ["0"]
    changed = data[:400] + bytes([data[400] ^ 1]) + data[401:]
    hostile = "<script>alert(1)</script>\u202e.pdf"
    page = auditor.post(VERIFY, {"file": upload(changed, hostile), "policy": upload(b"quorum none\n")}).content.decode()
    assert "the policy that you brought" in page
    assert "No report that you may see was issued here with these bytes." in page
    assert "<script>alert" not in page
    pack = auditor.post(VERIFY, {"file": upload(b"no evidence at all")}).content.decode()
    assert "This file cannot be read as evidence" in pack
    # Whose scope does not hold the report is told of its checks, and not that it was issued here.
    stranger = seated(STRANGER.email, datasources=["elsewhere"])
    assert report.number not in stranger.post(VERIFY, {"file": upload(data)}).content.decode()
    assert not list(settings.BASE_DIR.glob("check-*"))


def test_what_cannot_be_checked_here_is_refused_with_what_to_do(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    auditor = seated(AUDITOR.email)
    before = len(recorded("verify"))
    large = auditor.generic("POST", VERIFY, b"x", CONTENT_LENGTH=str(checking.BYTES_MOST * 2))
    assert (large.status_code, "Check it on your own machine" in large.content.decode()) == (413, True)
    for form, words in (
        ({}, "Choose the file"),
        ({"file": upload(b"%PDF-"), "policy": upload(b"\xff\xfe")}, "not text in UTF-8"),
    ):
        answer = auditor.post(VERIFY, form)
        assert (answer.status_code, words in answer.content.decode()) == (400, True), words
    assert len(recorded("verify")) == before
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get(email=AUDITOR.email))
    assert strict.post(VERIFY, {"file": upload(b"%PDF-")}).status_code == 403
    assert Client().get(VERIFY).status_code == 302
    monkeypatch.setattr(checking, "MEMORY_MOST_BYTES", 64 * 1024**2)
    stopped = auditor.post(VERIFY, {"file": upload(file_of(report).read_bytes())})
    assert (stopped.status_code, "says nothing of the file" in stopped.content.decode()) == (422, True)
    assert recorded("verify") == ["check-stopped"]
    assert policies.text()


def test_each_number_of_the_page_comes_again_by_the_command_that_stands_beside_it(
    report: Report, tmp_path: Path
) -> None:
    auditor = seated(AUDITOR.email)
    page = html.unescape(auditor.get(f"/reports/{report.pk}/").content.decode())
    shutil.copy(file_of(report), tmp_path)
    (detach,) = re.findall(r"<code>(pdfdetach .*?)</code>", page)
    subprocess.run(shlex.split(detach), cwd=tmp_path, check=True)
    again = re.findall(
        r'<td class="n">(\d+)(?:</td><td>[^<]*</td><td>)?<details class="reperform">.*?<code>(.*?)</code>',
        page,
        re.DOTALL,
    )
    assert len(again) == 1 + 4 + 2 * 5
    # One program for all of them: each command alone takes half a second to begin.
    programs = [command.split("<<'END'\n")[1].removesuffix("END") for _, command in again]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(programs)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.stdout.split() == [number for number, _ in again]
    assert done.stdout.split()[:5] == ["10", "5", "4", "1", "3"]
    links = re.findall(r'<a href="(/search\?[^"]*)">The records, live', page)
    shown = auditor.get(links[-1]).content.decode()
    assert "3 records" in shown
    assert "10 records" in auditor.get(links[0]).content.decode()


def test_a_preview_says_what_the_report_will_say_and_keeps_nothing_but_that_it_was_asked_for(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    auditor, new = seated(AUDITOR.email), "/reports/new/"
    asked = {"kind": "privileged-access", "from": "2026-11-20", "to": "2026-11-21", "environment": "prod"}
    assert "nothing is issued" in auditor.get(new).content.decode()
    page = " ".join(auditor.get(new, asked).content.decode().split())
    assert "Privileged access: deviations noted, as of now" in page
    assert "would be final" in page
    assert (
        f"{report.counts['population']} accesses in the period; 4 items would be tested, all of them; 3 deviate" in page
    )
    narrowed = " ".join(auditor.get(new, asked | {"q": "actor:root", "draft": "on"}).content.decode().split())
    assert "1 access in the period; 1 item would be tested, all of them; 1 deviates" in narrowed
    assert "would be draft" in narrowed
    bad = auditor.get(new, asked | {"from": "<script>"})
    assert (bad.status_code, "2026-11-21T14:30" in bad.content.decode()) == (400, True)
    assert "<script>" not in bad.content.decode().replace("<script src", "")
    assert auditor.get(new, asked | {"to": "x"}, headers={"HX-Request": "true"}).status_code == 200
    monkeypatch.setattr(builder, "ACCESSES_MOST", 9)
    assert auditor.get(new, asked).status_code == 503
    assert Report.objects.count() == 1
    read = queries.events(AUDITOR, "kind:decision").items
    assert [e for e in read if e["decision"].get("subject") == new and "actor%3Aroot" in str(e.get("purpose"))]
    stranger = seated(STRANGER.email, datasources=["elsewhere"])
    assert stranger.get(new, asked | {"datasources": "orders"}).status_code == 403
    assert "3 deviate" not in stranger.get(new, asked).content.decode()
    operator = Client()
    operator.force_login(User.objects.create(email="op@shop.example", role="operator"))
    assert operator.get(new).status_code == 403


def test_a_program_asks_for_a_report_with_its_token_and_a_session_does_not(report: Report) -> None:
    seated(AUDITOR.email)
    ends = dt.datetime.now(dt.UTC) + dt.timedelta(days=9)
    owner, token = User.objects.get(email=AUDITOR.email), "a-token-of-mine"
    ApiToken.objects.create(user=owner, name="nightly", token_hash=access.token_hash(token), expires_at=ends)
    body = {"kind": "privileged-access", "from": "2026-11-20", "to": "2026-11-21", "environment": "prod", "draft": True}

    def ask(body: dict[str, object], client: Client | None = None, **headers: str) -> Any:
        return (client or Client()).post("/api/v1/reports", json.dumps(body), "application/json", headers=headers)

    bearer = {"Authorization": f"Bearer {token}"}
    answer = ask(body, **bearer)
    made = Report.objects.latest("pk")
    assert (answer.status_code, answer.json()) == (202, {"id": made.pk, "number": made.number, "status": "queued"})
    assert (made.environment, made.draft_only, made.created_by) == ("prod", True, AUDITOR.email)
    for wrong, code in (({"kind": "nope"}, 400), ({"from": "x"}, 400), ({"more": 1}, 400)):
        assert ask(body | wrong, **bearer).status_code == code
    assert ask(body, seated(AUDITOR.email)).status_code == 401
    assert Report.objects.count() == 2
