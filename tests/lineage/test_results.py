"""Results of a search: pages both ways, counts by kind and value, completion, and what stays out of a stranger's sight."""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client

from lineage import errors, exports, queries, search, tagging
from lineage.access import Viewer
from lineage.engine import Question
from lineage.queries import ask, counts, exporting, paging
from tests import story

NOW = dt.datetime.now(dt.UTC)
ALL = Viewer("alice@audit.example", "auditor")
STRANGER = Viewer("sam@other.example", "auditor", datasources=("other-db",))


def place(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(
        "" if row.get(name) is None else str(row[name])
        for name in ("index", "relation", "key", "access", "session", "id", "datasource")
    )


def test_results_page_both_ways_and_are_counted_alike(store: str) -> None:
    story.tell(NOW)
    for by, listed in queries.LISTS.items():
        whole = [place(row) for row in listed(ALL, "op:*", limit=1000).items]
        assert len(whole) > 2, by
        forwards, pages, cursor = [], [], None
        size = 2 if by in ("session", "identity", "relation") else 61
        while True:
            page = listed(ALL, "op:*", limit=size, cursor=cursor)
            assert (page.previous is None) == (cursor is None), by
            pages.append([place(row) for row in page.items])
            forwards += pages[-1]
            if page.next is None:
                break
            cursor = page.next
        assert forwards == whole, by
        story.send(_desk(), story.query(f"late-{by}", NOW, story.DANA, "SELECT 1 FROM public.late", "read"))
        back = [pages[-1]]
        while page.previous is not None:
            page = listed(ALL, "op:*", limit=size, cursor=page.previous)
            back.append([place(row) for row in page.items])
            assert page.next is not None
        assert back[::-1] == pages, by
        assert queries.exact_total(ALL, "op:*", queries.Window(), by, page.as_of).value == len(whole), by
        assert queries.kinds_counted(ALL, "op:*", queries.Window(), page.as_of)[by] == queries.Total(len(whole), True)


def _desk() -> Any:
    from lineage.models import Source

    return Source.objects.get(name="desk")


@pytest.fixture
def told(store: str) -> dict[str, int]:
    return story.tell(NOW)


def test_values_by_which_results_can_be_narrowed_are_those_of_the_results(told: dict[str, int]) -> None:
    by_record = queries.search_counts(ALL, "environment:production op:*")
    assert {"name": "public.orders", "count": 61} in by_record["relation"]
    for by in ("event", "touch"):
        beside = queries.search_counts(ALL, "environment:production op:*", by=by)
        for field, rows in beside.items():
            for row in rows[:1]:
                found = queries.LISTS[by](ALL, f'environment:production op:* {field}:"{row["name"]}"').total.value
                assert found == row["count"], (by, field, row)
    assert not any(queries.search_counts(STRANGER, "op:*").values())
    assert queries.completions(ALL, "actor", "da") == [{"name": "Dana Reyes", "count": 91}]
    assert [row["name"] for row in queries.completions(ALL, "relation", "cust")] == ["public.customers"]
    assert queries.completions(STRANGER, "actor", "") == []


def signed_in(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_the_search_page_narrows_widens_corrects_and_pages(told: dict[str, int]) -> None:
    client = signed_in(story.person())

    def page(path: str, status: int = 200) -> str:
        answer = client.get(path)
        assert answer.status_code == status, (path, answer.content[:500])
        return unescape(str(answer.content.decode()))

    for by in queries.LISTS:
        html = page(f"/search?q=op:*&by={by}&limit=2")
        assert ('rel="next"' in html, 'rel="prev"' in html) == (True, False), by
        older = re.search(r'rel="next" href="(\?[^"]+)"', html)
        assert older
        assert 'rel="prev"' in page(f"/search{older[1]}"), by
    html = page("/search?q=op:insert environment:production")
    assert 'aria-label="Without op:insert"' in html
    assert "?q=environment%3Aproduction" in html
    assert 'aria-current="true" aria-label="Without insert"' in html, "a chosen facet is taken away by its link"
    html = page("/search?q=type:person", 400)
    assert "the nearest is human" in html
    assert "?q=type%3Ahuman" in html
    assert "?q=actor%3Adana+op%3Aread" in page("/search?q=actr:dana op:read", 400)
    assert "Write a time such as 24h" in page("/search?q=since:yesterday", 400)
    empty = page("/search?q=actor:nobody")
    assert "Nothing matches" in empty
    assert "Answered as of log size" in empty
    for field in search.FIELDS.values():
        assert f"<code>{search.EXAMPLES[field.label]}</code>" in unescape(page("/search")), field.label


def test_every_example_and_hint_of_a_field_can_be_asked() -> None:
    assert set(search.EXAMPLES) == {field.label for field in search.FIELDS.values()}
    for label, example in search.EXAMPLES.items():
        (term,) = search.terms(search.parse(example).root)
        assert search.FIELDS[term.name].label == label
    for name, hints in search.HINTS.items():
        for hint in hints:
            search.parse(f"{name}:{hint}")


def opened(body: bytes) -> tuple[str, bytes, dict[str, Any]]:
    archive = zipfile.ZipFile(io.BytesIO(body))
    name, manifest = archive.namelist()
    assert manifest == "manifest.json"
    assert archive.testzip() is None
    return name, archive.read(name), json.loads(archive.read(manifest))


def rows_of(name: str, body: bytes) -> list[dict[str, Any]]:
    if name.endswith(".csv"):
        return list(csv.DictReader(io.StringIO(body.decode())))
    if name.endswith(".parquet"):
        rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(body)).to_pylist()
        return rows
    return [json.loads(line) for line in body.splitlines()] if name.endswith("ndjson") else json.loads(body)


def test_an_export_holds_exactly_what_was_shown_and_its_hash_is_in_the_log(told: dict[str, int]) -> None:
    client = signed_in(story.person())
    for by, form in zip(queries.LISTS, ("csv", "json", "ndjson", "parquet", "csv"), strict=True):
        html = unescape(client.get(f"/search?q=op:* since:30d&by={by}&since=40d").content.decode())
        given = dict(
            re.findall(r'<input type="hidden" name="([a-z_]+)" value="([^"]*)">', html[html.index("data-export") :])
        )
        shown = queries.LISTS[by](ALL, "op:* since:30d", limit=1000)
        story.send(_desk(), story.query(f"later-{by}", NOW, story.DANA, "SELECT 1 FROM public.later", "read"))
        answer = client.get("/search/export", given | {"format": form})
        assert answer.status_code == 200
        assert answer["Content-Type"] == "application/zip"
        name, body, manifest = opened(b"".join(answer.streaming_content))  # type: ignore[attr-defined]
        rows = rows_of(name, body)
        assert [place(row) for row in rows] == [place(row) for row in shown.items], (by, form)
        assert manifest["file"] == {"name": name, "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        assert manifest["rows"]["count"] == len(rows)
        assert manifest["rows"]["complete"]
        assert manifest["as_of"]["size"] == int(given["as_of"])
        assert manifest["coverage"]
        assert manifest["checkpoint"]
        assert manifest["viewer"]["email"] == "alice@audit.example"
        assert manifest["query"]["q"] == "op:* since:30d"
        custody = queries.event(ALL, manifest["recorded_at_index"])["custody"]
        assert manifest["file"]["sha256"] in custody["detail"]
        assert custody["count"] == len(rows)


def test_a_total_above_the_limit_is_exact_only_when_asked(
    told: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (ask, counts, paging):
        monkeypatch.setattr(module, "COUNT_MOST", 5)
    client = signed_in(story.person())
    html = client.get("/search?q=op:*").content.decode()
    assert "More than 5 records" in html
    assert "count=exact" in html
    whole = queries.exact_total(ALL, "op:*", queries.Window(), "event").value
    assert f"{whole} records" in client.get("/search?q=op:*&count=exact").content.decode()
    for path, total in (("", {"value": 5, "exact": False}), ("&count=exact", {"value": whole, "exact": True})):
        assert client.get(f"/api/v1/events?q=op:*{path}").json()["total"] == total


def test_an_export_says_its_limit_and_keeps_to_it(told: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "ROWS_MOST", 7)
    monkeypatch.setattr(exporting, "PIECE", 3)
    for by in queries.LISTS:
        asked = exports.Asked("op:*", by, queries.Window(), "ndjson", NOW)
        name, body, manifest = opened(b"".join(exports.Export(ALL, asked).sent()))
        whole = queries.LISTS[by](ALL, "op:*", limit=1000).items
        assert [place(row) for row in rows_of(name, body)] == [place(row) for row in whole[:7]], by
        assert manifest["rows"]["total"] == {"value": len(whole), "exact": True}
        assert manifest["rows"]["complete"] == (len(whole) <= 7)


def test_an_export_whose_rows_take_too_long_to_count_says_that_there_are_more(
    told: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "ROWS_MOST", 7)
    coming = exports.Export(ALL, exports.Asked("op:*", "event", queries.Window(), "ndjson", NOW))
    rows = Question.rows

    def refused(self: Question, sql: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        if sql.startswith("select count(*) as n from"):
            raise errors.QueryTooLong
        return rows(self, sql, values)

    monkeypatch.setattr(Question, "rows", refused)
    name, body, manifest = opened(b"".join(coming.sent()))
    assert len(rows_of(name, body)) == manifest["rows"]["count"] == 7
    assert manifest["rows"]["total"] == {"value": 7, "exact": False}
    assert not manifest["rows"]["complete"]


def exports_recorded() -> int:
    return queries.events(ALL, "kind:custody environment:touchstone").total.value


def test_an_export_that_is_cancelled_or_cannot_be_recorded_is_no_file(told: dict[str, int]) -> None:
    asked = exports.Asked("op:*", "event", queries.Window(), "csv", NOW)
    before = exports_recorded()
    cancelled = exports.Export(ALL, asked).sent()
    next(cancelled)
    cancelled.close()
    assert exports_recorded() == before
    coming = exports.Export(ALL, asked).sent()
    with connection.cursor() as cursor:
        cursor.execute("alter table ledger_batch add constraint nothing_more check (n < 0) not valid")
    sent = []
    with pytest.raises(errors.EvidenceReadUnrecorded):
        sent.extend(coming)
    assert not zipfile.is_zipfile(io.BytesIO(b"".join(sent)))
    assert exports_recorded() == before


def test_cells_that_look_like_formulas_and_hostile_text_are_exported_as_text(store: str) -> None:
    story.hostile(NOW)
    desk = story.source()
    story.send(desk, story.query("f1", NOW, {"id": "=1+1", "name": "=cmd|'/c calc'!A1"}, "SELECT '\U0001f600'", "read"))
    asked = exports.Asked("op:*", "event", queries.Window(), "csv", NOW)
    _, body, _ = opened(b"".join(exports.Export(ALL, asked).sent()))
    rows = rows_of("x.csv", body)
    assert {row["who_name"] for row in rows} == {story.HOSTILE, "'=cmd|'/c calc'!A1"}
    assert "\U0001f600" in rows[0]["statement"] + rows[1]["statement"] + rows[2]["statement"]
    assert not [v for row in rows for v in row.values() if v.startswith(("=", "+", "@"))]


def test_a_stranger_exports_nothing_and_an_operator_no_values(told: dict[str, int]) -> None:
    asked = exports.Asked("op:*", "event", queries.Window(), "csv", NOW)
    _, body, manifest = opened(b"".join(exports.Export(STRANGER, asked).sent()))
    assert len(body.splitlines()) == 1
    assert manifest["rows"]["count"] == 0
    assert manifest["coverage"] == []
    operator = Viewer("op@audit.example", "operator")
    _, body, manifest = opened(b"".join(exports.Export(operator, asked).sent()))
    assert b"4711'" not in body
    assert b"400.00" not in body
    assert manifest["viewer"]["values"].startswith("withheld")
    with pytest.raises(errors.AccessDenied):
        exports.Export(operator, dataclasses.replace(asked, q="after.amount:40.00"))


def test_what_cannot_be_exported_is_refused_with_what_to_write(told: dict[str, int]) -> None:
    client = signed_in(story.person())
    for params in ("format=xls", "by=thing", "as_of=-1", "now=noon", "q=actr:x", "since=noon"):
        assert client.get(f"/search/export?{params}").status_code == 400, params
    assert Client().get("/search/export?q=op:*").status_code == 302


def test_the_command_writes_a_manifest_of_what_it_printed(
    told: dict[str, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for form in ("json", "csv"):
        call_command("ask", "actor:dana", "--format", form, "--manifest", str(tmp_path / "m.json"))
        printed = capsys.readouterr().out
        manifest = json.loads((tmp_path / "m.json").read_text())
        assert manifest["file"]["sha256"] == hashlib.sha256(printed.encode()).hexdigest()
        assert manifest["query"]["q"] == "actor:dana"
        assert not manifest["rows"]["complete"]
    with pytest.raises(SystemExit):
        call_command("ask", "actor:dana", "--manifest", str(tmp_path / "other.json"))
    assert not (tmp_path / "other.json").exists()


def test_completion_offers_fields_words_and_values_in_scope_and_values_are_a_recorded_read(
    told: dict[str, int],
) -> None:
    alice, stranger = signed_in(story.person()), signed_in(story.person("sam@other.example", datasources=["other-db"]))

    def offered(text: str, client: Client = alice) -> tuple[int, list[str]]:
        answer = client.get("/search/complete", {"text": text})
        assert answer.status_code == 200
        found = answer.json()
        return found["from"], [option["text"] for option in found["options"]]

    def reads() -> int:
        return queries.events(ALL, "kind:decision since:1h").total.value

    before = reads()
    assert offered("op:read -act") == (9, ["actor:"])
    assert offered("be") == (0, ["before."])
    assert offered("type:h") == (5, ["human"])
    assert offered("since:")[1] == ["1h", "24h", "7d", "30d"]
    assert offered("nofield:x") == (8, [])
    assert offered('text:"two wo') == (10, [])
    assert len(offered("")[1]) > 5
    assert reads() == before, "names of fields and our own words are no evidence"
    assert offered("actor:da") == (6, ['"Dana Reyes"'])
    assert offered("relation:pay") == (9, ["public.payments"])
    assert reads() == before + 2
    assert offered("actor:", stranger) == (6, [])
    assert offered("ticket:", stranger) == (7, [])
    assert Client().get("/search/complete?text=actor:").status_code == 302


def test_every_field_of_the_language_finds_a_record_that_has_it(store: str) -> None:
    desk = story.source()
    ana = {"id": "ana@shop.example", "name": "Ana Ruiz", "type": "agent", "db_user": "ana_bot", "roles": ["support_ro"]}
    story.send(
        desk,
        story.query(
            "q1", NOW, ana, "UPDATE public.customers SET email = 'new' WHERE id = 4711", "update",
            rows={"affected": 150}, duration_us=2_000_000, ticket="OPS-42", purpose="Refund for Dana",
            on_behalf_of={"id": "dana@shop.example"}, agent={"id": "a-1", "name": "helper", "run_id": "run-9"},
            transaction={"id": "742", "outcome": "rolled_back"}, policy=[{"id": "pii", "rule": "one", "effect": "mask"}],
            masked={"columns": ["phone"], "types": []}, approval={"request_id": "R1", "state": "approved"}, verdict="masked",
            error={"code": "23505", "message": "duplicate value in a unique index"}, flags=["odd_one"],
        ) | {"class": "write"},
        story.change("c1", NOW, ana, "customers", "4711", "update", before={"id": "4711", "email": "old"},
                     after={"id": "4711", "email": "new"}, transaction={"id": "743", "outcome": "committed"}),
    )  # fmt: skip
    tagging.establish(
        Viewer("sec@shop.example", "security"), "orders-prod", "public.customers", "email", "contact", "it is"
    )
    print_of_it = queries.events(ALL, "ticket:OPS-42").items[0]["fingerprint"]
    asked = (
        "kind:query class:write actor:ana type:agent role:support_ro for:dana agent:helper run:run-9 attribution:asserted_by_proxy "
        "db_user:ana_bot session:s-ana@shop.example transaction:742 outcome:rolled_back source:desk environment:production "
        "datasource:orders-prod database:shop relation:customers column:email key:4711 op:update command:UPDATE verdict:masked "
        "masked:phone approval:approved policy:pii ticket:OPS-42 purpose:refund app:psql ip:10.1.4.* error:23505 flag:odd_one "
        "tag:contact rows:>100 duration:>1s index:<2 received:>=1h since:1h until:2100-01-01 text:customers "
        f"fingerprint:{print_of_it}"
    ).split()
    images = ["before.email:old", "after.email:new"]
    named = {search.terms(search.parse(one).root)[0].name for one in [*asked, *images]}
    assert named == set(search.FIELDS)
    hour = [(NOW - dt.timedelta(hours=1), NOW + dt.timedelta(hours=1))]
    every = {one: f"{one} ticket:OPS-42" for one in asked} | {f"-{one}": f"-{one} ticket:OPS-42" for one in asked}
    counted, _, _ = queries.tallied(ALL, every | {one: one for one in images}, hour, None)
    assert {one: n for one, (n,) in counted.items() if n != (0 if one.startswith("-") else 1)} == {}
    for one in ("key:4711", "column:email", "tag:contact"):
        assert [row["index"] for row in queries.touches(ALL, f"{one} ticket:OPS-42").items] == [0], one
        assert not queries.touches(ALL, f"-{one} ticket:OPS-42").items, one
