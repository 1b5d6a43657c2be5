"""What records name as their ticket is held against what is imported: on every page, with history, within a reader's scope."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from lineage import access, checkpoints, queries, tickets
from lineage.findings import judging
from lineage.models import Source, Ticket
from tests import story
from tests.lineage import desk
from tests.lineage.test_custody_pages import decisions, page, signed_in
from tests.lineage.test_pages import NOW, Markup, plain

AUDITOR = access.Viewer("a@example.org", "auditor")
HOSTILE = {
    "title": '<script>alert(1)</script> =HYPERLINK("x") \u202e',
    "requester": "<img src=x onerror=alert(2)>",
    "assignee": "'\"><b>",
    "approver": "{{ viewer }}",
    "status": "</td>🙂",
    "url": "https://tracker.example/OPS-42?a=<b>\"'&",
}


def at(minutes: float) -> str:
    """A time before the story's end."""
    return (NOW - dt.timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")


def load(folder: Path, rows: list[dict[str, Any]], minutes: float) -> None:
    path = folder / "tickets.json"
    path.write_text(json.dumps(rows))
    call_command("reference", "import", "tickets", str(path), as_of=at(minutes))


@pytest.fixture(scope="module")
def told(shared_store: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """The story, acts under four more tickets, and two imports; OPS-45 is in none of them."""
    names = story.tell(NOW)
    feed, folder = Source.objects.get(name="desk"), tmp_path_factory.mktemp("tickets")
    for ticket, minutes in (("OPS-43", 25), ("OPS-44", 24), ("OPS-45", 23), ("OPS-46", 2)):
        sql = "SELECT id FROM public.customers WHERE id = 4711"
        act = story.query(
            f"t-{ticket}", NOW - dt.timedelta(minutes=minutes), story.OMAR, sql, "read", ticket=ticket,
            db_session_id=f"s-{ticket}",
        )  # fmt: skip
        names[ticket] = story.send(feed, act)[0]
    checkpoints.checkpoint()
    first = [
        {"id": "OPS-42", "opened_at": at(60), **HOSTILE},
        {"id": "OPS-43", "opened_at": at(80), "closed_at": at(30), "title": "Old refund", "status": "done"},
    ]
    load(folder, first, 20)
    load(folder, [*first, {"id": "OPS-44", "opened_at": at(11), "title": "Written afterwards"},
                  {"id": "OPS-46", "opened_at": at(50), "requester": "omar@shop.example"}], 10)  # fmt: skip
    return names


@pytest.fixture(scope="module")
def auditor(told: dict[str, int]) -> Client:
    return signed_in("auditor")


@pytest.mark.parametrize(
    ("name", "word", "says"),
    [
        ("fix", "matched", "in the tracker"),
        ("fixed", "matched", "asked for by <img"),
        ("OPS-43", "closed before", "“Old refund”, done. The ticket was closed before that."),
        ("OPS-44", "opened later", "“Written afterwards”"),
        ("OPS-45", "asserted", "no ticket of this id is imported"),
        (
            "OPS-46",
            "matched so far",
            "a ticket without title, asked for by omar@shop.example. It was open in the last import",
        ),
    ],
)
def test_a_record_says_whether_its_ticket_is_matched(
    told: dict[str, int], auditor: Client, name: str, word: str, says: str
) -> None:
    html = page(auditor, f"/events/{told[name]}/")
    assert Markup(html).risky == []
    shown = plain(html).replace("&lt;", "<").replace("&gt;", ">")
    assert f"{word} " in shown
    assert says in shown


def test_pages_of_sessions_findings_rows_approvals_and_lists_say_it_too(told: dict[str, int], auditor: Client) -> None:
    for path, says in (
        ("/sessions/orders-prod~s-omar@shop.example/", "OPS-42 matched"),
        ("/sessions/orders-prod~s-OPS-43/", "OPS-43 closed before “Old refund”"),
        ("/tables/orders-prod/public.payments/rows/9001/", "Ticket OPS-42 matched"),
        ("/search?q=ticket:OPS-44", "OPS-44 opened later"),
        ("/search?q=ticket:OPS-45", "OPS-45 asserted"),
        ("/identities/omar@shop.example/", "OPS-46 matched so far"),
        ("/touched/?identity=omar@shop.example", "OPS-43 closed before"),
        ("/overview/first/", "OPS-42 matched"),
    ):
        html = page(auditor, path)
        assert says in plain(html), path
        assert Markup(html).risky == [], path
    html = page(auditor, "/approvals/")
    assert [f"{name} {word}" in plain(html) for name, word in (("OPS-42", "matched"), ("OPS-43", "closed before"))] == [
        True,
        True,
    ]


def test_the_lineage_of_a_ticket_shows_the_imported_one_as_text_and_links_only_to_the_web(
    told: dict[str, int], auditor: Client
) -> None:
    html = page(auditor, "/lineage/ticket/OPS-42/")
    found = Markup(html)
    assert found.risky == []
    assert HOSTILE["url"] in found.links
    assert "&lt;script&gt;alert(1)&lt;/script&gt; =HYPERLINK" in html
    assert "{{ viewer }}" in html
    assert "a reason, no approval" in plain(html)
    assert "the same until" in plain(html)
    assert plain(page(auditor, "/lineage/ticket/OPS-45/")).count("no ticket of this id is imported") == 1
    assert "Old refund" in page(auditor, f"/lineage/record/{told['OPS-43']}/")


def test_a_ticket_is_no_approval_and_changes_neither_findings_nor_exports(
    told: dict[str, int], auditor: Client
) -> None:
    states = {row["ticket"]: row["state"] for row in queries.approvals(AUDITOR).items}
    assert {name: states[name] for name in ("OPS-42", "OPS-43", "OPS-44")} == {
        "OPS-42": "good", "OPS-43": "missing", "OPS-44": "missing",
    }  # fmt: skip
    for form in ("json", "csv"):
        body = auditor.get(f"/api/v1/events?q=ticket:OPS-42&format={form}").content.decode()
        assert "OPS-42" in body
        assert "HYPERLINK" not in body
        assert "matched" not in body
    assert queries.events(AUDITOR, "ticket:OPS-42").total.value == 3


def test_each_import_is_a_record_with_the_hash_and_each_change_one_with_old_and_new_value(told: dict[str, int]) -> None:
    assert [text.split(" as of")[0] for text in decisions("reference tickets")[-2:]] == ["imported 4", "imported 2"]
    admin = access.Viewer("t@example.org", "admin")
    imports = [e for e in queries.events(admin, "kind:decision source:touchstone", limit=1000).items
               if (e["decision"] or {}).get("subject") == "reference tickets"]  # fmt: skip
    assert all(str(e["purpose"]).startswith("sha256=") for e in imports)
    assert len(decisions("ticket OPS-42")) == 1
    assert "title Old refund" in decisions("ticket OPS-43")[0]


def test_an_import_today_does_not_rewrite_yesterday(
    told: dict[str, int], auditor: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reopened = {"id": "OPS-43", "opened_at": at(80), "title": "Refund, opened again"}
    with pytest.raises(SystemExit):
        load(tmp_path, [reopened], 15)
    assert "Import files in the order of their times" in capsys.readouterr().err
    assert Ticket.objects.filter(ticket_id="OPS-43").count() == 1
    load(tmp_path, [reopened], 1)
    html = plain(page(auditor, f"/events/{told['OPS-43']}/"))
    assert "closed before “Old refund”" in html
    both = plain(page(auditor, "/lineage/ticket/OPS-43/"))
    assert both.index("Refund, opened again") < both.index("Old refund")
    assert any("title Old refund → Refund, opened again" in text for text in decisions("ticket OPS-43"))
    load(tmp_path, [reopened], 0.5)
    assert len(decisions("ticket OPS-43")) == 2
    with pytest.raises(SystemExit):
        load(tmp_path, [reopened], -60)
    assert "a time to come" in capsys.readouterr().err


def test_nothing_of_a_ticket_is_told_outside_the_scope_of_the_records_that_name_it(told: dict[str, int]) -> None:
    stranger = signed_in("auditor", datasources=["elsewhere"])
    for path in ("/lineage/ticket/OPS-43/", f"/lineage/record/{told['OPS-43']}/", f"/events/{told['OPS-43']}/"):
        assert "old refund" not in page(stranger, path, 404).lower()
    for path in ("/approvals/", "/search?q=ticket:OPS-43", "/search?q=kind:decision+source:touchstone"):
        assert "old refund" not in page(stranger, path).lower()
    assert queries.tickets(access.Viewer("m@example.org", "member"), ["OPS-43"]) == {}
    assert queries.tickets(access.Viewer("w@example.org", "witness"), ["OPS-43"]) == {}
    ended = access.Viewer("e@example.org", "auditor", until_at=NOW - dt.timedelta(minutes=21))
    assert [one.title for one in queries.tickets(ended, ["OPS-43"])["OPS-43"]] == ["Old refund"]


def test_an_erasure_reaches_the_cells_of_tickets(told: dict[str, int], tmp_path: Path) -> None:
    load(tmp_path, [
        {"id": "OPS-70", "opened_at": at(60), "title": "Call Miriam Weiss back", "status": "open", "url": "https://x.example/Miriam+Weiss"},
        {"id": "Miriam Weiss", "opened_at": at(60)},
    ], 5)  # fmt: skip
    tickets.forget_texts(["Miriam Weiss"])
    kept = Ticket.objects.get(ticket_id="OPS-70")
    assert (kept.title, kept.status, kept.url) == ("(erased)", "open", "")
    assert not Ticket.objects.filter(ticket_id="Miriam Weiss").exists()
    assert tickets.PLACE.tables == (Ticket._meta.db_table,)


def test_a_decision_about_a_ticket_is_no_act_under_it(told: dict[str, int], auditor: Client) -> None:
    html = plain(page(auditor, f"/events/{told['approval']}/"))
    assert "WhyOPS-42" in html
    assert "matched" not in html
    assert "matched" not in plain(page(auditor, "/search?q=kind:decision+ticket:OPS-42"))


def test_findings_and_held_statements_say_it_and_a_member_is_told_nothing_of_tickets(
    told: dict[str, int], auditor: Client
) -> None:
    act = story.query(
        "t-delete", NOW - dt.timedelta(minutes=22), story.OMAR, "DELETE FROM public.orders", "delete", ticket="OPS-43",
        db_session_id="s-delete", rows={"affected": 30},
    )  # fmt: skip
    story.send(Source.objects.get(name="desk"), act)
    judging.judge(NOW + dt.timedelta(minutes=1))
    numbers = [row["number"] for row in queries.findings(AUDITOR).items if row["ticket"] == "OPS-43"]
    assert "OPS-43 closed before “Old refund”, done." in plain(page(auditor, f"/findings/{numbers[0]}/"))
    desk.source()
    desk.exchange(held=[desk.hold()])
    assert "Ticket OPS-42 matched so far" in plain(page(auditor, "/approvals/live/"))
    html = page(auditor, "/approvals/held/req-1/")
    assert (Markup(html).risky, "OPS-42 matched so far" in plain(html)) == ([], True)
    member = Client()
    member.force_login(story.person("dana@shop.example", "member"))
    for path in ("/approvals/", "/approvals/held/req-1/"):
        html = plain(page(member, path))
        assert "OPS-42" in html
        assert "matched" not in html
        assert "asserted" not in html
        assert "alert(1)" not in html
