"""Imported tickets: what an act's ticket is worth, and files that are refused whole."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest
from django.core.management import call_command

from lineage import citations
from lineage.models import Ticket
from tests.lineage.test_custody_pages import decisions

HEAD = "id,title,requester,assignee,approver,status,opened_at,closed_at,url\n"
DAY = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


def load(path: Path, text: str, as_of: str) -> None:
    path.write_text(text)
    call_command("reference", "import", "tickets", str(path), as_of=as_of)


def version(as_of: int, seen_at: int, opened: int, closed: int | None = None) -> citations.Version:
    def day(number: int) -> dt.datetime:
        return DAY + dt.timedelta(days=number)

    return citations.Version(
        day(as_of), day(seen_at), "t", "", "", "", "", day(opened), None if closed is None else day(closed), ""
    )


@pytest.mark.parametrize(
    ("versions", "first", "last", "state"),
    [
        ([], 1, 1, "asserted"),
        ([version(5, 5, 2)], 1, 1, "early"),
        ([version(5, 5, 2)], 2, 3, "matched"),
        ([version(5, 5, 2)], 1, 3, "early"),
        ([version(5, 5, 2)], 5, 5, "matched"),
        ([version(5, 5, 2)], 6, 6, "presumed"),
        ([version(5, 8, 2)], 6, 6, "matched"),
        ([version(5, 5, 2, 4)], 3, 3, "matched"),
        ([version(5, 5, 2, 4)], 4, 4, "closed"),
        ([version(5, 5, 2, 4)], 3, 6, "closed"),
        ([version(5, 5, 2), version(9, 9, 2, 7)], 6, 6, "matched"),
        ([version(5, 5, 2), version(9, 9, 2, 7)], 8, 8, "closed"),
        ([version(5, 5, 2, 4), version(9, 9, 2)], 7, 7, "reopened"),
        ([version(5, 5, 2, 4), version(9, 9, 2)], 4, 4, "closed"),
        ([version(5, 5, 3), version(9, 9, 1)], 2, 2, "early"),
    ],
)
def test_an_act_is_held_against_the_first_import_that_speaks_for_its_time(
    versions: list[citations.Version], first: int, last: int, state: str
) -> None:
    told = citations.judge("OPS-1", versions, DAY + dt.timedelta(days=first), DAY + dt.timedelta(days=last))
    assert told.state == state
    assert told.word in {word for word, _ in citations.STATES.values()}


@pytest.mark.parametrize(
    "text",
    [
        "javascript:alert(1)", "https://", "//tracker.example/1", "data:text/html,x", "https://user@tracker.example/",
        "https://tracker.example/\u202egpj", "https://tracker.example/a b", "https://tracker.example/\n", "ftp://tracker.example/",
        "https:\\\\tracker.example", "https://[::1", "https://tracker.example:99999999/", " https://tracker.example/",
    ],
)  # fmt: skip
def test_only_a_plain_web_address_may_stand_behind_a_link(text: str) -> None:
    assert not citations.is_address(text)
    assert citations.is_address("https://tracker.example/browse/OPS-42?x=1#y")
    assert citations.is_address("http://10.0.0.7:8080/1")


ROW = {"id": "OPS-42", "opened_at": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("id,title\nOPS-42,Refund\n", "Line 2: every row needs id and opened_at"),
        (f"{HEAD}OPS-1,,,,,,2026-01-01T00:00:00Z,,\nOPS-2,\"a\nb\",,,,,yesterday,,\n", "Line 4: opened_at or closed_at cannot be"),
        ("id,opened_at,priority\nOPS-42,2026-01-01T00:00:00Z,high\n", "the column priority is not known"),
        ("id,opened_at\nOPS-42,2026-01-01T00:00:00Z,more\n", "the column without a name is not known"),
        ("id,id,opened_at\nOPS-1,OPS-2,2026-01-01T00:00:00Z\n", "stands twice"),
        ("id,opened_at\n\"OPS-42,2026-01-01T00:00:00Z\n", "it is no CSV"),
        ("id,opened_at,closed_at\nOPS-42,2026-01-02T00:00:00Z,2026-01-01T00:00:00Z\n", "closed_at is before opened_at"),
        ("id,opened_at\nOPS-42,2026-11-02T00:00:00Z\n", "after the time that --as-of says"),
        ("id,opened_at,url\nOPS-42,2026-01-01T00:00:00Z,javascript:alert(1)\n", "begins with https://"),
        (f"id,opened_at,title\nOPS-42,2026-01-01T00:00:00Z,{'x' * 401}\n", "title has more than 400 characters"),
        ("id,opened_at\n\u202eOPS-42,2026-01-01T00:00:00Z\n", "in up to 200 characters of one line"),
        ("id,opened_at\n OPS-42,2026-01-01T00:00:00Z\n", "without blanks around it"),
        (f"{HEAD}OPS-1,a,,,,,2026-01-01T00:00:00Z,,\nOPS-1,b,,,,,2026-01-01T00:00:00Z,,\n", "each ticket once in a file"),
        ("[" + json.dumps(ROW) + ", {\"id\": \"OPS-43\"}]", "Item 2: every row needs"),
        (json.dumps([ROW | {"title": "a\0b"}]), "NUL"),
        (json.dumps([ROW | {"title": 7}]), "cannot be read"),
    ],
)  # fmt: skip
def test_a_wrong_file_of_tickets_is_refused_whole(
    shared_store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, says: str
) -> None:
    with pytest.raises(SystemExit):
        load(tmp_path / ("bad.json" if text.startswith("[") else "bad.csv"), text, "2026-02-01T00:00:00Z")
    told = capsys.readouterr().err
    assert says in told
    assert told.startswith("settings-invalid")
    assert not Ticket.objects.exists()
    assert decisions("reference tickets") + decisions("ticket ") == []
