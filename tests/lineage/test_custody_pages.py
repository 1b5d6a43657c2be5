"""Below Integrity: quarantined items read again exactly once, checks on request, checkpoints, gaps and packs by form."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from django.db import connections
from django.test import Client

from lineage import access, checkpoints, errors, ingest, packs, quarantine, queries, rechecks, steward, tree
from lineage.models import Source, User
from tests import story
from tests.lineage.test_pages import NOW, Markup, plain

pytestmark = pytest.mark.slow

SECRET = "hunter2-<script>alert(1)</script>\u202e\x00"


def signed_in(role: str, **scope: Any) -> Client:
    client = Client()
    client.force_login(story.person(f"{role}@{'-'.join(scope) or 'all'}.example", role, **scope))
    return client


def page(client: Client, path: str, status: int = 200) -> str:
    answer = client.get(path)
    assert answer.status_code == status, (path, answer.status_code, answer.content[:500])
    return str(answer.content.decode())


def decisions(subject: str) -> list[str]:
    viewer = access.Viewer("t@example.org", "admin")
    found = queries.events(viewer, "kind:decision source:touchstone", limit=1000).items
    return [f"{d['decision'].get('transition')} by {d['decision']['decided_by']}" for d in found
            if str(d["decision"].get("subject", "")).startswith(subject)]  # fmt: skip


@pytest.fixture
def kept(store: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """The number of an item that an older parser, which knew no native events, left in quarantine."""
    desk = story.source()
    item = story.query("q-late", NOW, story.DANA, f"SELECT '{SECRET[:7]}' FROM public.customers", "read")
    with monkeypatch.context() as older:
        older.setattr(
            "lineage.sources.parse",
            lambda name, body, **_: iter(
                [ingest.Quarantined(position="3", body=body, code="event-invalid", reason="old parser")]
            ),
        )
        ingest.accept(desk, json.dumps(item).encode())
        ingest.accept(desk, b'{"kind": "' + SECRET.encode() + b'"}')
    return 1


def test_an_item_is_shown_as_text_to_those_who_may_see_values_and_by_size_to_others(kept: int) -> None:
    html = page(signed_in("auditor"), "/integrity/quarantine/2/")
    assert Markup(html).risky == []
    assert "<script>alert" not in html
    assert "\\u202e\\x00" in html
    operator = signed_in("operator")
    for path in ("/integrity/quarantine/", "/integrity/quarantine/2/", "/integrity/"):
        assert "hunter2" not in page(operator, path)
    assert "event-invalid" in page(operator, "/integrity/quarantine/2/")
    assert operator.get("/integrity/quarantine/2/bytes").status_code == 403
    whole = signed_in("security").get("/integrity/quarantine/2/bytes")
    assert SECRET.encode() in whole.content
    assert whole["Content-Type"] == "application/octet-stream"


def test_an_item_read_again_enters_the_log_once_with_its_origin_and_stays(kept: int) -> None:
    operator = signed_in("operator")
    assert "2 items could not be read" in page(operator, "/integrity/quarantine/")
    answers = [operator.post(f"/integrity/quarantine/{kept}/retry/").status_code for _ in range(2)]
    assert answers == [302, 409]
    viewer = access.Viewer("a@example.org", "auditor")
    (found,) = queries.events(viewer, "flag:from_quarantine").items
    whole = queries.event(viewer, found["index"])
    assert whole["groups"]["statement"]["origin"]["position"] == f"quarantine:{kept}"
    assert found["who_id"] == "dana@shop.example"
    item = queries.quarantined_item(viewer, kept)
    assert (item["retried"], item["first_index"]) == ("accepted", found["index"])
    assert item["body"]
    assert f"record {found['index']}" in plain(page(operator, f"/integrity/quarantine/{kept}/")).replace("  ", " ")
    assert decisions(f"quarantined item {kept}") == ["event-invalid → accepted by operator@all.example"]
    # The source, restarted, sends the same once more: the log knows it.
    again = ingest.accept(Source.objects.get(name="desk"), item["body"])
    assert again.count("duplicate") == 1


def test_two_workers_at_once_read_an_item_again_only_once(kept: int, store: str) -> None:
    viewer, told = access.Viewer("s@example.org", "security"), list[str]()

    def work() -> None:
        try:
            told.append(quarantine.retry(viewer, kept).status)
        except errors.AlreadyDone as error:
            told.append(error.code)
        finally:
            connections.close_all()

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(told) == ["accepted", "already-done"]
    assert queries.events(viewer, "flag:from_quarantine").total.value == 1


def test_what_still_cannot_be_read_stays_and_who_may_not_retry_changes_nothing(kept: int) -> None:
    operator = signed_in("operator")
    answer = operator.post("/integrity/quarantine/2/retry/")
    assert answer.status_code == 422
    assert "It still cannot be read" in answer.content.decode()
    assert "Nothing was stored" in answer.content.decode()
    assert signed_in("auditor").post(f"/integrity/quarantine/{kept}/retry/").status_code == 403
    assert "403 access-denied by auditor@all.example" in decisions("/integrity/quarantine/")
    viewer = access.Viewer("a@example.org", "auditor")
    assert queries.events(viewer, "flag:from_quarantine").total.value == 0
    assert queries.quarantined_item(viewer, kept)["retried"] is None


def test_another_teams_items_are_not_there(kept: int) -> None:
    stranger = signed_in("security", datasources=["warehouse"])
    html = page(stranger, "/integrity/quarantine/") + page(stranger, "/integrity/") + page(stranger, "/integrity/gaps/")
    assert "desk" not in html
    assert "old parser" not in html
    assert "Nothing in your scope waits" in html
    for path in (
        "/integrity/quarantine/1/",
        "/integrity/quarantine/1/bytes",
        "/integrity/quarantine/99999999999999999999/",
    ):
        page(stranger, path, 404)
    assert stranger.post("/integrity/quarantine/1/retry/").status_code == 404


def test_a_check_on_request_names_its_numbers_and_a_damaged_log_fails_it(store: str) -> None:
    story.tell(NOW)
    auditor = signed_in("auditor")
    assert any(each.work is rechecks.run_due and each.apart for each in steward.rounds())
    place = auditor.post("/integrity/checks/")["Location"]
    assert auditor.post("/integrity/checks/")["Location"] == place
    assert "waits for its turn" in page(auditor, place)
    rechecks.run_due()
    size = rechecks.one(1).size
    text = plain(page(auditor, place))
    assert f"{size} records lead to the signed root, and to all 1 checkpoint up to it" in text
    assert "found everything as it was signed" in plain(page(auditor, "/integrity/"))
    assert decisions("integrity check 1")[0] == f"held: {size} records, 1 checkpoints by touchstone"
    hashes = tree.hashes().path
    spoilt = bytearray(hashes.read_bytes())
    spoilt[40] ^= 1
    hashes.write_bytes(spoilt)
    auditor.post("/integrity/checks/")
    rechecks.run_due()
    assert rechecks.one(2).state == "failed"
    assert "does not hold what the records" in page(auditor, "/integrity/checks/2/")
    assert "fsck-failed" in page(auditor, "/integrity/")


def test_a_check_can_be_ended_by_whoever_asked_and_not_by_another_reader(store: str) -> None:
    story.tell(NOW)
    auditor, other = signed_in("auditor"), signed_in("compliance")
    auditor.post("/integrity/checks/")
    assert other.post("/integrity/checks/1/cancel/").status_code == 403
    assert rechecks.one(1).state == "waiting"
    assert auditor.post("/integrity/checks/1/cancel/").status_code == 302
    rechecks.run_due()
    assert rechecks.one(1).state == "cancelled"
    assert auditor.post("/integrity/checks/1/cancel/").status_code == 409
    assert "It says nothing about the log" in page(auditor, "/integrity/checks/1/")


def test_a_checkpoint_has_a_page_with_its_note_and_its_neighbours(store: str) -> None:
    story.tell(NOW)
    story.person("dora@audit.example")
    story.send(Source.objects.get(name="desk"), story.query("z", NOW, story.DANA, "SELECT 1", "read"))
    first, second = tree.published()[0], checkpoints.checkpoint()
    auditor = signed_in("auditor")
    assert f"/integrity/checkpoints/{second}/" in page(auditor, "/integrity/checkpoints/")
    html = page(auditor, f"/integrity/checkpoints/{second}/")
    assert queries.checkpoint(access.Viewer("a@b.example", "auditor"), second)["note"].splitlines()[2] in html
    assert f"from={first}&amp;to={second}" in html
    page(auditor, "/integrity/checkpoints/3/", 404)
    older = page(auditor, "/integrity/checkpoints/?limit=1")
    assert "1 of 2 shown" in older


def test_a_pack_is_counted_made_without_what_is_withheld_and_recorded(store: str) -> None:
    story.tell(NOW)
    auditor = signed_in("auditor")
    assert "3 records match." in plain(page(auditor, "/integrity/pack/?q=ticket:OPS-42"))
    answer = auditor.post("/integrity/pack/", {"q": "ticket:OPS-42", "withhold": ["change", "nonsense"]})
    assert answer["Content-Type"] == "application/zip"
    members = packs.archive.read(answer.content)
    assert b"400.00" not in b"".join(members.values())
    assert any("without change" in told for told in decisions("pack"))
    for asked, status in (("", 400), ("nobody:x", 400), ("ticket:NONE", 404)):
        refused = auditor.post("/integrity/pack/", {"q": asked})
        assert refused.status_code == status, asked
        assert Markup(refused.content.decode()).risky == []
    stranger = signed_in("auditor", datasources=["warehouse"])
    assert stranger.post("/integrity/pack/", {"q": "ticket:OPS-42"}).status_code == 404


def test_the_policy_is_downloaded_as_the_command_prints_it(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    from django.core.management import call_command

    answer = signed_in("auditor").get("/reports/policy")
    call_command("policy")
    assert answer.content.decode() == capsys.readouterr().out
    assert User.objects.count() == 1
    assert Client().get("/reports/policy").status_code == 302
