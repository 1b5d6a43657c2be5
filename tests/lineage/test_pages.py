"""Pages: each answers its question from real records, for whom it may, and stays harmless and plain whatever a source sends."""

from __future__ import annotations

import datetime as dt
import re
from html import unescape
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote

import pytest
from django.db import connection
from django.test import Client
from hypothesis import given, strategies

from lineage import highlighting, words
from lineage.views import people, watch
from tests import story

pytestmark = pytest.mark.slow

NOW = dt.datetime.now(dt.UTC)
PAGES = (
    "/", "/search", "/search?q=relation:customers", "/search?q=relation:customers&by=touch", "/search?q=dana&by=session",
    "/search?q=op:read&by=identity", "/sessions/", "/sessions/orders-prod~s-omar@shop.example/", "/identities/",
    "/identities/dana@shop.example/", "/identities/report-bot/", "/tables/", "/tables/orders-prod/public.payments/",
    "/tables/orders-prod/public.payments/rows/9001/", "/tables/orders-prod/public.customers/rows/4711/", "/databases/",
    "/findings/", "/approvals/", "/integrity/", "/events/0/", "/connect/",
)  # fmt: skip


class Markup(HTMLParser):
    """What a browser would run or style: scripts, styles, handlers; and where links lead."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.risky: list[str] = []
        self.links: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "script" and not given.get("src") and given.get("type") != "application/json":
            self.risky.append("inline script")
        self.risky += [f"{tag} {name}" for name in given if name.startswith("on") or name in ("style", "srcdoc")]
        if tag in ("style", "iframe", "object", "embed", "base"):
            self.risky.append(tag)
        if tag == "a":
            self.links.append(given.get("href") or "")


def signed_in(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def told(store: str) -> dict[str, int]:
    return story.tell(NOW)


@pytest.fixture
def auditor(store: str) -> Client:
    return signed_in(story.person())


def page(client: Client, path: str, status: int = 200, **headers: str) -> str:
    answer = client.get(path, headers=headers)
    assert answer.status_code == status, (path, answer.status_code, answer.content[:900])
    return str(answer.content.decode())


def plain(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", html))


def reads_recorded() -> int:
    with connection.cursor() as cursor:
        cursor.execute("select count(*) from ledger_journal where position('evidence_read'::bytea in actor) > 0")
        return int(cursor.fetchone()[0])


def test_every_page_answers_from_the_story_and_holds_nothing_that_runs(told: dict[str, int], auditor: Client) -> None:
    for path in PAGES:
        html = page(auditor, path)
        assert html.count("<h1>") == 1, path
        assert Markup(html).risky == [], path


def test_every_page_answers_when_nothing_was_ever_recorded(auditor: Client) -> None:
    for path in (
        "/",
        "/search?q=x",
        "/sessions/",
        "/identities/",
        "/tables/",
        "/databases/",
        "/findings/",
        "/approvals/",
        "/integrity/",
    ):
        html = page(auditor, path)
        assert "No source reports" in html or path == "/integrity/", path
    assert "Nothing has been recorded here yet" in page(auditor, "/")


def test_the_row_page_says_who_why_from_which_statement_and_by_whose_leave(
    told: dict[str, int], auditor: Client
) -> None:
    text = plain(page(auditor, "/tables/orders-prod/public.payments/rows/9001/"))
    assert re.search(r"Changed 1 time by 1 person, last by Omar Haddad \d+ (min|h) ago", text)
    assert "approved in time by lea@shop.example" in text
    assert "400.00" in text
    assert "SET amount = 40.00" in text
    assert "2 unchanged fields" in text


def test_the_row_page_counts_reads_by_key_apart_from_reads_that_could_have_seen_it(
    told: dict[str, int], auditor: Client
) -> None:
    text = plain(page(auditor, "/tables/orders-prod/public.customers/rows/4711/"))
    assert "read by key 1 time; 1 wider read could have seen it." in text


def test_an_agent_is_always_shown_with_the_person_it_worked_for(told: dict[str, int], auditor: Client) -> None:
    text = plain(page(auditor, "/identities/report-bot/"))
    assert "It worked for dana@shop.example." in text
    assert "report-bot for dana@shop.example" in plain(page(auditor, "/findings/"))


def test_an_agent_without_a_person_is_said_to_work_for_nobody(store: str, auditor: Client) -> None:
    story.send(story.source(), story.query("x", NOW, story.BOT, "SELECT 1 FROM public.orders", "read"))
    assert "report-bot for nobody" in plain(page(auditor, "/search?q=type:agent"))
    assert "It worked for nobody that is known." in plain(page(auditor, "/identities/report-bot/"))


def test_every_link_keeps_the_window_and_environment(told: dict[str, int], auditor: Client) -> None:
    for path in PAGES:
        html = page(auditor, f"{path}{'&' if '?' in path else '?'}since=7d&environment=production")
        own = [
            a
            for a in Markup(html).links
            if a.startswith("/") and not re.match("/(reports|api|checkpoint|log|accounts)", a)
        ]
        assert own
        assert [a for a in own if "since=7d" not in a or "environment=production" not in a] == [], path


def test_the_environment_narrows_what_is_shown(told: dict[str, int], auditor: Client) -> None:
    assert "Omar Haddad" in page(auditor, "/search?q=op:update&environment=production")
    assert "Omar Haddad" not in page(auditor, "/search?q=op:update&environment=simulated")


def test_made_up_data_is_labelled_where_it_shows_and_only_there(told: dict[str, int], auditor: Client) -> None:
    banner = 'class="simulated"'
    for path in ("/", "/search?q=op:read", "/?environment=simulated", "/tables/", "/identities/dana@shop.example/"):
        assert banner in page(auditor, path), path
    for path in ("/?environment=production", "/tables/orders-prod/public.payments/", "/approvals/"):
        assert banner not in page(auditor, path), path


def test_markup_in_every_field_of_a_record_is_shown_as_text(store: str, auditor: Client) -> None:
    indexes = story.hostile(NOW)
    bad = quote(story.HOSTILE, safe="")
    paths = ["/", "/search?q=kind:query", "/search?q=%22%3Cscript%3E%22", "/search?q=kind:change&by=touch", "/sessions/",
             "/identities/", "/tables/", "/databases/", "/findings/", "/approvals/", "/integrity/", f"/identities/{bad}/",
             f"/sessions/db{bad}~{bad}/", *(f"/events/{i}/" for i in indexes)]  # fmt: skip
    for path in paths:
        html = page(auditor, path)
        assert "<script>alert" not in html, path
        assert Markup(html).risky == [], path


def test_markup_in_the_address_is_shown_as_text(told: dict[str, int], auditor: Client) -> None:
    bad = quote(story.HOSTILE, safe="")
    for path in (f"/?environment={bad}", f"/search?q=op:read&by={bad}", f"/search?q=op:read&x={bad}"):
        assert Markup(page(auditor, path)).risky == [], path
    for path in (f"/search?q={bad}", f"/?since={bad}", f"/sessions/?limit={bad}", f"/search?q=op:read&cursor={bad}"):
        assert "<script>alert" not in page(auditor, path, 400), path


def test_a_thousand_records_make_one_page(store: str, auditor: Client) -> None:
    to = story.source()
    story.send(to, *(story.query(f"q{n}", NOW, story.API, "SELECT id FROM public.orders", "read") for n in range(1001)))
    html = page(auditor, "/search?q=kind:query&limit=1000")
    assert html.count("/events/") == 1000
    older = next(a for a in Markup(html).links if "cursor=" in a)
    assert page(auditor, f"/search{older}").count("/events/") == 1


def test_long_values_and_statements_are_folded_not_lost(store: str, auditor: Client) -> None:
    sql = "SELECT '" + "x" * 20_000 + "'\n" * 40
    story.send(
        story.source(),
        story.query("long", NOW, story.DANA, sql, "read"),
        story.change(
            "wide", NOW, story.DANA, "notes", "1", "update", before={"body": "a" * 9_000}, after={"body": "b" * 9_000}
        ),
    )
    html = page(auditor, "/events/0/")
    assert "x" * 20_000 in html
    assert "Whole statement (41 lines" in html
    assert "b" * 9_000 in page(auditor, "/tables/orders-prod/public.notes/rows/1/")


def test_names_that_no_address_can_hold_are_shown_without_a_link(store: str, auditor: Client) -> None:
    odd = {**story.DANA, "id": "line\nbreak"}
    story.send(
        story.source(datasource="a/b"),
        story.change("c", NOW, odd, "t", "k\nk", "insert", after={"id": "k\nk"}),
        story.query("q", NOW, odd, "SELECT 1 FROM public.t", "read"),
    )
    for path in (
        "/",
        "/search?q=kind:change",
        "/search?q=kind:change&by=touch",
        "/tables/",
        "/identities/",
        "/sessions/",
        "/events/0/",
    ):
        page(auditor, path)


def test_unknown_values_say_why_they_are_unknown(store: str, auditor: Client) -> None:
    item = story.change("c", NOW, story.DANA, "notes", "1", "update", after={"body": "new"})
    item["after"].append({"column": "photo", "state": "unchanged"})
    story.send(story.source(), item)
    text = plain(page(auditor, "/tables/orders-prod/public.notes/rows/1/"))
    assert "REPLICA IDENTITY" in text
    assert "unchanged (the database did not send it again)" in text


def test_an_operator_sees_shapes_and_no_values(told: dict[str, int]) -> None:
    operator = signed_in(story.person("bob@ops.example", "operator"))
    html = page(operator, "/tables/orders-prod/public.payments/rows/9001/") + page(
        operator, f"/events/{told['fixed']}/"
    )
    assert "400.00" not in html
    assert "40.00" not in html
    assert "hidden from your role" in html
    assert "withheld from your role" in html


def test_a_stranger_finds_nothing_of_another_team(told: dict[str, int]) -> None:
    stranger = signed_in(story.person("charlie@other.example", "auditor", datasources=["warehouse"]))
    for path in ("/", "/search?q=op:update", "/sessions/", "/identities/", "/tables/", "/findings/"):
        html = page(stranger, path)
        assert "Omar" not in html, path
        assert "payments" not in html, path
    for path in (
        "/tables/orders-prod/public.payments/rows/9001/",
        "/identities/omar@shop.example/",
        f"/events/{told['fix']}/",
    ):
        page(stranger, path, 404)


def test_pages_lead_strangers_to_the_sign_in_and_back(told: dict[str, int]) -> None:
    client = Client()
    answer = client.get("/tables/orders-prod/public.payments/?since=7d")
    assert answer.status_code == 302
    story.person("dora@audit.example")
    form = {
        "username": "dora@audit.example",
        "password": story.PASSWORD,
        "next": "/tables/orders-prod/public.payments/?since=7d",
    }
    assert client.post("/accounts/login/", form).headers["Location"] == form["next"]
    assert "Auditor" in page(client, "/")
    assert client.get("/accounts/logout/").status_code == 405
    client.post("/accounts/logout/")
    assert client.get("/").status_code == 302


def test_the_sign_in_refuses_a_wrong_password_and_never_leads_elsewhere(store: str) -> None:
    story.person()
    client = Client()
    refused = client.post("/accounts/login/", {"username": "alice@audit.example", "password": "wrong"})
    assert refused.status_code == 401
    assert "Address and password do not go together" in refused.content.decode()
    assert client.get("/").status_code == 302
    form = {"username": "alice@audit.example", "password": story.PASSWORD, "next": "https://elsewhere.example/"}
    assert client.post("/accounts/login/", form).headers["Location"] == "/"


def test_a_form_without_its_token_is_refused_with_a_page_that_says_what_to_do(store: str) -> None:
    answer = Client(enforce_csrf_checks=True).post("/accounts/login/", {"username": "a", "password": "b"})
    assert answer.status_code == 403
    assert "Nothing was changed: reload the page" in answer.content.decode()


def test_errors_are_pages_with_an_id_and_advice(told: dict[str, int], auditor: Client) -> None:
    for path, status, advice in (
        ("/nowhere", 404, "Check the address"),
        ("/events/99999999/", 404, "in your scope"),
        ("/?since=yesterday-ish", 400, "Write 24h, 7d"),
        ("/search?q=relatoin:x", 400, "the nearest is relation"),
    ):
        html = page(auditor, path, status)
        assert advice in html, path
        assert Markup(html).risky == []
    assert re.search(r"id <code>[0-9a-f]{12}</code>", page(auditor, "/nowhere", 404))


def test_a_search_that_cannot_be_understood_keeps_its_text(store: str, auditor: Client) -> None:
    assert 'value="relatoin:x"' in page(auditor, "/search?q=relatoin:x", 400)


def test_a_failing_database_answers_503_as_a_page(told: dict[str, int], auditor: Client) -> None:
    with connection.cursor() as cursor:
        cursor.execute("alter table ledger_head rename to ledger_head_gone")
    try:
        html = page(auditor, "/", 503)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("alter table ledger_head_gone rename to ledger_head")
    assert "What was accepted into the log before is kept." in html


def test_pages_of_evidence_are_kept_by_no_cache_and_run_under_a_strict_policy(
    told: dict[str, int], auditor: Client
) -> None:
    answer = auditor.get("/search?q=op:update")
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_each_page_of_evidence_is_recorded_and_a_minute_of_watching_is_one_record(
    told: dict[str, int], auditor: Client
) -> None:
    html = page(auditor, "/")
    assert reads_recorded() == 1
    token = re.search(r'data-watch="([^"]+)"', html)
    assert token
    live = page(auditor, "/overview/live/", X_Watch=token[1])
    assert token[1] in live
    assert reads_recorded() == 1
    page(auditor, "/overview/live/?environment=production", X_Watch=token[1])
    assert reads_recorded() == 2


def test_watching_longer_than_a_minute_or_with_anothers_token_is_recorded_anew(
    told: dict[str, int], auditor: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = re.search(r'data-watch="([^"]+)"', page(auditor, "/"))
    assert token
    other = signed_in(story.person("dora@audit.example"))
    page(other, "/overview/live/", X_Watch=token[1])
    assert reads_recorded() == 2
    monkeypatch.setattr(watch, "WATCH_SECONDS", -1)
    page(auditor, "/overview/live/", X_Watch=token[1])
    assert reads_recorded() == 3


def test_the_seal_says_how_far_the_signed_log_reaches(told: dict[str, int], auditor: Client) -> None:
    assert "In the signed log to record 155 ·" in plain(page(auditor, "/integrity/seal/"))


def test_the_integrity_page_says_that_nobody_outside_holds_a_checkpoint(told: dict[str, int], auditor: Client) -> None:
    assert "Nobody outside holds a checkpoint yet." in page(auditor, "/integrity/")


def test_what_needs_a_look_shows_what_was_made_up_only_where_nothing_else_is_shown(
    told: dict[str, int], auditor: Client
) -> None:
    made_up = story.Source.objects.get(name="simulator")
    story.send(made_up, story.query("no", NOW, story.API, "SELECT 1 FROM public.secrets", "read", verdict="blocked"))
    looks = page(auditor, "/").split("Needs a look")[1].split("What is silent")[0]
    assert "public.salaries" in looks
    assert "public.secrets" not in looks
    assert "public.secrets" in page(auditor, "/?environment=simulated").split("Needs a look")[1]


def test_what_was_refused_on_a_row_is_not_listed_among_its_changes(told: dict[str, int], auditor: Client) -> None:
    desk = story.Source.objects.get(name="desk")
    story.send(
        desk,
        story.query(
            "no", NOW, story.API, "SELECT iban FROM public.payments WHERE id = 9001", "read", verdict="blocked"
        ),
    )
    changed, rest = (
        page(auditor, "/tables/orders-prod/public.payments/rows/9001/")
        .split("<aside>")[1:][-1]
        .split("Read by its key", 1)
    )
    assert "orders-api" not in changed
    assert "orders-api" in rest


def test_the_table_page_tells_rights_that_are_used_from_those_that_are_not(
    told: dict[str, int], auditor: Client
) -> None:
    rights = [
        {"grantee": name, "privilege": right, "schema": "public", "relation": "customers", "grantor": "owner"}
        for name, right in (("dana", "SELECT"), ("dana", "UPDATE"), ("former", "DELETE"))
    ]
    item = {
        "kind": "state",
        "source_event_id": "st",
        "occurred_at": story.format_time(NOW),
        "state": {"mode": "snapshot", "grants": rights},
    }
    story.send(story.Source.objects.get(name="desk"), item)
    text = plain(page(auditor, "/tables/orders-prod/public.customers/"))
    assert "dana SELECT, UPDATE owner seen here" in re.sub(
        r"\s+", " ", re.sub("<[^>]+>", " ", page(auditor, "/tables/orders-prod/public.customers/"))
    )
    assert "not seen here under this name" in text


def test_the_overview_sums_are_those_of_the_search(told: dict[str, int], auditor: Client) -> None:
    assert "of 123 accesses" in page(auditor, "/")
    assert plain(page(auditor, "/search?q=kind:query")).count("123 records so far") == 2


def test_a_facet_narrows_the_search_by_its_value(told: dict[str, int], auditor: Client) -> None:
    html = page(auditor, "/search?q=kind:query")
    narrower = next(a for a in Markup(html).links if "Omar" in a)
    assert "1 record so far" in page(auditor, f"/search{narrower}")


def test_the_row_as_it_was_after_a_chosen_change_is_shown(store: str, auditor: Client) -> None:
    first, _ = story.send(
        story.source(),
        story.change("c1", NOW - dt.timedelta(hours=2), story.DANA, "notes", "1", "insert", after={"id": "1", "body": "first words"}),
        story.change("c2", NOW, story.DANA, "notes", "1", "update", before={"id": "1", "body": "first words"},
                     after={"id": "1", "body": "later words"}),
    )  # fmt: skip
    address = "/tables/orders-prod/public.notes/rows/1/"
    assert as_it_was(page(auditor, address)).endswith("later words")
    assert as_it_was(page(auditor, f"{address}?at={first}")).endswith("first words")


def as_it_was(html: str) -> str:
    card = html.split('class="card as-it-was"')[1].split("</table>")[0]
    return plain(card.split("<table")[1]).strip()


def test_a_statement_is_coloured_and_its_text_unchanged() -> None:
    sql = "SELECT 'it''s <b>', $1, 42 FROM \"Order\" -- <i>note</i>\n WHERE body = $tag$ select $tag$"
    html = highlighting.sql_html(sql)
    assert '<span class="sql-keyword">SELECT</span>' in html
    assert '<span class="sql-string">&#x27;it&#x27;&#x27;s &lt;b&gt;&#x27;</span>' in html
    assert '<span class="sql-string">$tag$ select $tag$</span>' in html
    assert unescape(re.sub(r"</?span[^>]*>", "", html)) == sql


@given(strategies.text(alphabet="'\"$/*-aE1 \n\\<&;", max_size=60))
def test_no_text_is_lost_or_left_unescaped_by_colouring(sql: str) -> None:
    html = highlighting.sql_html(sql)
    bare = re.sub(r'</?span(?: class="sql-\w+")?>', "", html)
    assert "<" not in bare
    assert unescape(bare) == sql


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s ago"),
        (59, "59 s ago"),
        (61, "1 min ago"),
        (7_199, "1 h ago"),
        (90_000, "25 h ago"),
        (200_000, "2 d ago"),
        (-90, "in 1 min"),
    ],
)
def test_how_long_ago_is_said_in_the_largest_fitting_unit(seconds: int, said: str) -> None:
    assert words.ago(NOW - dt.timedelta(seconds=seconds), NOW) == said


def test_of_many_tables_an_identity_s_page_shows_those_that_it_used_most_often(
    told: dict[str, int], auditor: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = page(auditor, "/identities/dana@shop.example/")
    monkeypatch.setattr(people, "TABLES_SHOWN", 1)
    part = page(auditor, "/identities/dana@shop.example/")
    assert "that it used most often, of" in part
    assert "that it used most often, of" not in whole
    assert 0 < part.count('<th scope="row">') < whole.count('<th scope="row">')
    assert any("by=tables" in link for link in Markup(part).links)


def test_everything_an_identity_did_is_exported_within_the_page_s_window(told: dict[str, int], auditor: Client) -> None:
    html = page(auditor, "/identities/dana@shop.example/?since=7d&environment=production")
    export = next(a for a in Markup(html).links if "format=csv" in a)
    answer = auditor.get(export)
    assert answer.headers["Content-Type"].startswith("text/csv")
    lines = b"".join(answer) if answer.streaming else answer.content
    assert lines.count(b"salaries") >= 1
    assert b"shop-simulated" not in lines
