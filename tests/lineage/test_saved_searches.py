"""Saved searches: kept, shared, changed, deleted and taken back by their owner alone; and a quarter's twelve questions."""

from __future__ import annotations

import datetime as dt
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from lineage import errors, queries, saved, search
from lineage.access import Viewer
from lineage.engine import Question
from lineage.erasures import selection
from lineage.models import SavedSearch
from lineage.search import questions
from tests import story

NOW = dt.datetime.now(dt.UTC)
ALL = Viewer("alice@audit.example", "auditor")
FORM = {
    "name": "Agents at night",
    "q": "type:agent",
    "by": "touch",
    "since": "24h",
    "until": "",
    "environment": "production",
}


def signed_in(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def configured() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "select convert_from(actor, 'utf8') from ledger_journal where position('configuration'::bytea in actor) > 0"
        )
        return [row[0] for row in cursor.fetchall() if "saved search" in row[0]]


def page(client: Client, path: str, status: int = 200) -> str:
    answer = client.get(path)
    assert answer.status_code == status, (path, answer.status_code)
    return unescape(str(answer.content.decode()))


def test_a_search_is_kept_run_changed_deleted_and_taken_back(store: str) -> None:
    story.tell(NOW)
    alice = signed_in(story.person())
    assert "No search is saved yet" in page(alice, "/search/saved/")
    assert alice.post("/search/saved/add/", FORM).status_code == 302
    (kept,) = saved.listing(ALL)
    html = page(alice, "/search/saved/")
    address = "/search?q=type%3Aagent&by=touch&since=24h&environment=production"
    assert address in html, "the time range stays relative"
    assert "type:agent" in page(alice, address)
    changed = FORM | {"name": "Agents", "q": "type:agent op:export", "since": "7d"}
    assert alice.post(f"/search/saved/{kept.pk}/", changed).status_code == 302
    assert [(one.name, one.q, one.since) for one in saved.listing(ALL)] == [("Agents", "type:agent op:export", "7d")]
    answer = alice.post(f"/search/saved/{kept.pk}/remove/")
    assert saved.listing(ALL) == []
    html = page(alice, answer.headers["Location"])
    assert "“Agents” was deleted" in html
    assert f'action="/search/saved/{kept.pk}/restore/"' in html
    alice.post(f"/search/saved/{kept.pk}/restore/")
    assert [one.name for one in saved.listing(ALL)] == ["Agents"]
    assert configured() == [], "what one keeps for oneself is nobody's business"


def test_what_others_see_is_a_record_and_only_those_see_it_who_see_as_much(store: str) -> None:
    alice = signed_in(story.person())
    bob, sue = signed_in(story.person("bob@audit.example")), signed_in(story.person("sue@audit.example", "security"))
    narrow = signed_in(story.person("eve@other.example", datasources=["other-db"]))
    alice.post("/search/saved/add/", FORM | {"shared": "1"})
    (kept,) = saved.listing(ALL)
    assert "Agents at night" in page(bob, "/search/saved/")
    for other in (sue, narrow):
        assert "Agents at night" not in page(other, "/search/saved/")
        assert other.get(f"/search/saved/{kept.pk}/").status_code == 404
        assert other.post(f"/search/saved/{kept.pk}/remove/").status_code == 404
    for path, form in ((f"{kept.pk}/", FORM | {"q": "op:*"}), (f"{kept.pk}/remove/", {}), (f"{kept.pk}/restore/", {})):
        assert bob.post(f"/search/saved/{path}", form).status_code in (403, 404), path
    assert saved.listing(ALL) == [kept]
    refused = [line for line in configured() if "bob@audit.example" in line]
    assert len(refused) == 3
    assert all('"refused"' in line for line in refused)
    alice.post(f"/search/saved/{kept.pk}/", FORM | {"q": "type:agent op:export", "shared": "1"})
    alice.post(f"/search/saved/{kept.pk}/", FORM)
    assert "Agents at night" not in page(bob, "/search/saved/")
    said = [line for line in configured() if "alice@audit.example" in line]
    assert ["added" in said[0], "q type:agent → type:agent op:export" in said[1], "removed" in said[2]] == [True] * 3
    assert len(said) == 3


@pytest.mark.parametrize(
    "wrong",
    [{"name": ""}, {"name": "x" * 101}, {"name": "a\nb"}, {"q": "actr:dana"}, {"by": "thing"}, {"since": "noon"}],
)
def test_what_cannot_be_kept_is_refused_and_nothing_is(store: str, wrong: dict[str, str]) -> None:
    alice = signed_in(story.person())
    assert alice.post("/search/saved/add/", FORM | wrong).status_code == 400
    assert SavedSearch.objects.count() == 0


def test_a_fault_in_the_form_keeps_what_was_written(store: str) -> None:
    kept = saved.save(ALL, FORM, False)
    answer = signed_in(story.person()).post(f"/search/saved/{kept.pk}/", FORM | {"name": "Mine", "q": "actr:x"})
    assert answer.status_code == 400
    assert b'value="actr:x"' in answer.content
    assert saved.one(ALL, kept.pk).q == "type:agent"


def test_an_erasure_reaches_saved_searches(store: str) -> None:
    kept = saved.save(ALL, FORM | {"q": "before.email:dana@shop.example"}, False)
    other = saved.save(ALL, FORM, False)
    shared = saved.save(ALL, FORM | {"q": "before.email:dana@shop.example"}, True)
    with Question() as question:
        named = selection._own(question, ["dana@shop.example"])
    assert list(named.values()) == [("actor", "statement")], "the record of a shared search tells its text"
    saved.PLACE.forget_texts(["dana@shop.example"])
    assert saved.one(ALL, shared.pk).q == "(erased)"
    assert saved.one(ALL, kept.pk).q == "(erased)"
    assert saved.one(ALL, other.pk).q == "type:agent"


def test_a_shared_search_is_shown_to_those_whose_scope_covers_its_owner_s(store: str) -> None:
    kept = saved.save(Viewer("narrow@audit.example", "auditor", environments=("staging",)), FORM, True)
    wide, narrow = (
        Viewer("w@audit.example", "auditor"),
        Viewer("n@audit.example", "auditor", environments=("production",)),
    )
    late = Viewer("l@audit.example", "auditor", until_at=NOW)
    assert [len(saved.listing(viewer)) for viewer in (wide, narrow, late)] == [1, 0, 0]
    with pytest.raises(errors.NotFound):
        saved.one(narrow, kept.pk)


def test_the_twelve_questions_are_counted_by_quarter_as_the_search_counts_them(store: str) -> None:
    story.tell(NOW)
    alice = signed_in(story.person())
    this = questions.quarter_of(NOW)
    html = page(alice, f"/search/quarter/?quarter={this.name}")
    assert len(questions.QUESTIONS) == 12
    counts, _, coverage = queries.tallied(
        ALL,
        {q.id: q.q for q in questions.QUESTIONS},
        [(this.start, this.end), (this.moved(-1).start, this.start)],
        None,
    )
    assert coverage
    assert counts["refused"][0] == 1
    told = (Path(__file__).parents[2] / "docs/search.md").read_text()
    for one in questions.QUESTIONS:
        search.parse(one.q)
        assert f"| {one.title} | `{one.q}` |" in told
        assert one.q in html
        window = queries.Window(this.start, this.end)
        assert queries.events(ALL, one.q, window).total.value == counts[one.id][0], one.id
    links = re.findall(r'href="(/search\?q=verdict%3Ablocked&since=[^"]+)"', html)
    assert "1 record" in page(alice, links[0])
    assert "Write a quarter such as 2026-Q4" in page(alice, "/search/quarter/?quarter=spring", 400)
    sheet = page(alice, f"/search/quarter/?quarter={this.name}&format=csv").splitlines()
    assert sheet[0].startswith(f"question,search,as_of_log_size,{this.name},{this.moved(-1).name}")
    assert len(sheet) == 13
    stranger = signed_in(story.person("sam@other.example", datasources=["other-db"]))
    assert "0 of 12 questions found" in page(stranger, f"/search/quarter/?quarter={this.name}")


def test_a_quarter_begins_and_ends_where_the_calendar_says() -> None:
    quarter = questions.quarter("2026-Q4")
    assert (quarter.start, quarter.end) == (
        dt.datetime(2026, 10, 1, tzinfo=dt.UTC),
        dt.datetime(2027, 1, 1, tzinfo=dt.UTC),
    )
    assert [quarter.moved(by).name for by in (-1, -4, 1)] == ["2026-Q3", "2025-Q4", "2027-Q1"]
    assert questions.quarter_of(dt.datetime(2026, 3, 31, 23, tzinfo=dt.UTC)).name == "2026-Q1"
