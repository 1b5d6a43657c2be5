"""One identity or agent run: everything it touched, as pages and files, and the script that would take its changes back."""

from __future__ import annotations

import datetime as dt
import io
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, strategies

from lineage import undo
from lineage.events import Value
from tests import story
from tests.lineage.test_pages import Markup, page, plain, reads_recorded, signed_in

NOW = dt.datetime.now(dt.UTC)
RUN = {
    "on_behalf_of": {"id": "dana@shop.example"},
    "agent": {"id": "report-bot", "name": "report-bot", "run_id": "r/9 ü"},
}


def run_of_the_bot() -> None:
    """A run that reads one customer, changes another, deletes a note, empties a table, and is refused once."""
    desk = story.source()
    made, bot = {"transaction": {"id": "70", "outcome": "committed"}}, story.BOT
    story.send(
        desk,
        story.query("r1", NOW, bot, "SELECT name FROM public.customers WHERE id = 4711", "read", rows={"returned": 1}, **RUN),
        story.query("r2", NOW, bot, "UPDATE public.customers SET name = 'B' WHERE id = 4712", "update", **made, **RUN),
        story.change("r3", NOW, bot, "customers", "4712", "update", before={"id": "4712", "name": "A"},
                     after={"id": "4712", "name": "B"}, **made, **RUN),
        story.change("r4", NOW, bot, "notes", "5", "delete", before={"id": "5", "body": story.HOSTILE}, **made, **RUN),
        story.query("r5", NOW, bot, "TRUNCATE public.drafts", "truncate", **RUN),
        story.query("r6", NOW, bot, "SELECT * FROM public.salaries", "read", verdict="blocked", **RUN),
        story.change("o1", NOW, story.OMAR, "customers", "4711", "update", before={"id": "4711", "name": "C"},
                     after={"id": "4711", "name": "D"}, transaction={"id": "71"}),
    )  # fmt: skip


@pytest.mark.slow
def test_a_run_shows_who_ran_it_for_whom_and_all_that_it_touched(store: str) -> None:
    run_of_the_bot()
    auditor = signed_in(story.person())
    html = page(auditor, "/runs/r%2F9%20%C3%BC/")
    assert "Run r/9 ü of report-bot for dana@shop.example: 4 statements, 2 rows changed, 1 refused" in plain(html)
    assert Markup(html).risky == []
    rows = plain(page(auditor, "/runs/r%2F9%20%C3%BC/?by=rows"))
    assert "4711" in rows
    assert "4712" in rows
    assert "public.drafts" in plain(page(auditor, "/touched/?identity=report-bot&by=tables"))
    assert "public.drafts" not in plain(page(auditor, "/touched/?identity=omar@shop.example&by=tables"))
    assert "Nothing here" in page(auditor, "/touched/?identity=nobody")
    page(auditor, "/runs/another/", 404)
    page(auditor, "/touched/", 400)


@pytest.mark.slow
def test_what_a_run_touched_leaves_as_a_file_that_holds_no_formula(store: str) -> None:
    run_of_the_bot()
    auditor = signed_in(story.person())
    asked = "/api/v1/touched?run=r/9%20%C3%BC&by=rows"
    items = auditor.get(asked).json()["items"]
    assert {(row["relation"], row["key"]) for row in items} == {
        ("public.customers", "4711"), ("public.customers", "4712"), ("public.notes", "5"),
    }  # fmt: skip
    paged = auditor.get(f"{asked}&limit=2").json()
    rest = auditor.get(f"{asked}&limit=2&cursor={paged['next']}").json()
    assert [row["key"] for row in (*paged["items"], *rest["items"])] == [row["key"] for row in items]
    table = pq.read_table(io.BytesIO(auditor.get(f"{asked}&format=parquet").content))
    assert table.num_rows == 3
    assert auditor.get(f"{asked}&format=csv").content.count(b"\n") == 4
    assert auditor.get("/api/v1/touched?by=rows").status_code == 400


@pytest.mark.slow
def test_the_undo_page_shows_the_script_and_says_what_stays(store: str) -> None:
    run_of_the_bot()
    auditor = signed_in(story.person())
    before = reads_recorded()
    html = page(auditor, "/undo/?run=r%2F9%20%C3%BC")
    text = plain(html)
    assert "2 of 2 captured row changes by run r/9 ü can be taken back" in text
    assert "TRUNCATE on public.drafts: no row image was captured for it" in text
    assert Markup(html).risky == []
    script = auditor.get("/undo/script.sql?run=r%2F9%20%C3%BC").content.decode()
    assert 'update "public"."customers" set "name" = \'A\' where "id" = \'4712\'' in script
    assert 'insert into "public"."notes" ("id", "body")' in script
    assert "4711" not in script
    assert reads_recorded() == before + 2


@pytest.mark.slow
def test_an_undo_script_is_for_those_who_see_values_and_hold_the_database_in_scope(store: str) -> None:
    run_of_the_bot()
    operator = signed_in(story.person("op@shop.example", "operator"))
    stranger = signed_in(story.person("eve@other.example", datasources=["other-prod"]))
    page(operator, "/undo/?run=r%2F9%20%C3%BC", 403)
    for path in ("/undo/?run=r%2F9%20%C3%BC", "/undo/script.sql?identity=report-bot", "/runs/r%2F9%20%C3%BC/"):
        page(stranger, path, 404)
    assert "report-bot" not in plain(page(stranger, "/touched/?identity=x"))
    assert stranger.get("/api/v1/touched?identity=report-bot").json()["items"] == []
    assert "salaries" not in page(stranger, "/touched/?identity=report-bot&by=tables")


# The plan


def values(**columns: str | None) -> tuple[Value, ...]:
    return tuple(
        Value(column=name, state="null") if text is None else Value(column=name, type="text", value=text)
        for name, text in columns.items()
    )


def change(index: int, op: str = "update", key: str = "1", **more: Any) -> undo.Change:
    images = {"before": values(id=key, v="a"), "after": values(id=key, v="b")}
    images |= {"insert": {"before": ()}, "delete": {"after": ()}}.get(op, {})
    given = {"key": values(id=key), "transaction": "7", **images, **more}
    return undo.Change(index=index, at=NOW, who="dana", op=op, schema="public", relation="t", **given)


def test_where_one_change_of_a_row_stays_all_earlier_ones_of_that_row_stay() -> None:
    cut = (*values(id="1"), Value(column="v", state="truncated", value="aa"))
    plan = undo.plan([change(1, "insert"), change(2), change(3, before=cut), change(4), change(5, key="2")], {})
    assert [step.change.index for step in plan.steps] == [5, 4]
    assert [(left.change.index, left.because) for left in plan.left] == [(3, None), (2, 3), (1, 2)]
    assert plan.left[0].reason == "the value of v before it is kept only in part"


def test_a_row_that_changed_its_key_is_followed() -> None:
    renamed = change(2, key="2", before=values(id="1", v="a"), after=values(id="2", v="a"), old_key=values(id="1"))
    later = {("public.t", "2"): [undo.Later(9, "omar")]}
    plan = undo.plan([change(1), renamed], later)
    assert plan.steps == []
    assert [undo.told(left) for left in plan.left] == [
        "record 2, update of public.t row 2: omar changed the same row later (record 9)",
        "record 1, update of public.t row 1: a later change of the same row stays (record 2)",
    ]


def test_what_was_erased_or_damaged_or_truncated_is_named_and_left() -> None:
    plan = undo.plan(
        [change(1, key="1", is_erased=True), change(2, key="2", flags=("nul_removed",)), change(3, key="3", before=())],
        {},
    )
    assert plan.steps == []
    assert len({left.reason for left in plan.left}) == 3
    emptied = undo.plan([change(1), change(3, "truncate")], {})
    assert [left.change.index for left in emptied.left] == [3, 1]
    assert "there is nothing to run" in undo.script(emptied, [])


@given(strategies.text())
def test_no_text_of_a_record_leaves_its_quotes_or_its_comment(text: str) -> None:
    text = text.replace("\0", "")
    assert undo.comment(text).count("\n") == 1
    assert "\r" not in undo.comment(text)
    quoted = undo.literal(text)
    inner = quoted.removeprefix("E")[1:-1]
    assert "'" not in inner.replace("''", "")
    assert quoted.startswith("E") or "\\" not in inner
    assert quoted.isprintable()
    named = undo.name(text)
    assert '"' not in named.removeprefix("U&")[1:-1].replace('""', "")
    assert named.isprintable()
