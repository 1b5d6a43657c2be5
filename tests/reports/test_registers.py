"""The registers that tests of control read, from a real store: tags, logins and rights with their spans, and what gateways let run."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import msgspec
from django.core.management import call_command

from lineage import queries, tagging
from lineage.access import Viewer
from lineage.models import Identity, Source, Tag
from lineage.queries import registers
from lineage.queries.facts import FIRST, LAST
from tests.reports.test_issuing import AUDITOR, DAY, NEXT, STRANGER, Shop, shop

__all__ = ["shop"]
SIGRID = Viewer("sigrid@example.test", "security")
NOW = dt.datetime.now(dt.UTC)
AHEAD = NOW + dt.timedelta(days=1)


def test_a_column_has_its_classes_from_the_record_that_gave_them_until_the_next(shop: Shop, tmp_path: Path) -> None:
    place = ("orders", "public.customers")
    file = tmp_path / "tags.csv"
    file.write_text("datasource,relation,column,classes\norders,public.customers,email,email\n")
    call_command("reference", "import", "tags", str(file), "--as-of", "2026-11-01T00:00:00Z")
    call_command("reference", "import", "tags", str(file), "--as-of", "2026-11-02T00:00:00Z")
    tagging.establish(SIGRID, *place, "email", "email contact", "it is both")
    tagging.establish(SIGRID, *place, "name", "none", "a name of a shop")
    Tag.objects.create(datasource="orders", relation="public.cards", column="pan", classes=["card"], by="old")
    rows = queries.classified(AUDITOR, DAY, AHEAD)["tags"].to_pylist()
    told = [(row["column"], row["classes"], row["assumed"], row["to_at"] == LAST) for row in rows]
    assert told == [
        ("pan", ["card"], False, True), ("email", ["email"], True, False), ("email", ["email"], False, False),
        ("email", ["contact", "email"], False, True),
    ]  # fmt: skip
    assert [rows[n]["to_at"] == rows[n + 1]["from_at"] for n in (1, 2)] == [True, True]
    assert (rows[1]["from_at"], rows[3]["by"]) == (FIRST, SIGRID.email)
    assert queries.classified(AUDITOR, DAY, NEXT, ["elsewhere"])["tags"].num_rows == 0
    assert queries.classified(STRANGER, DAY, AHEAD)["tags"].num_rows == 0
    size = queries.integrity(AUDITOR)["size"]
    tagging.establish(SIGRID, *place, "email", "none", "no more")
    again = queries.classified(AUDITOR, DAY, AHEAD, as_of=size)["tags"].to_pylist()
    assert [(row["column"], row["to_at"]) for row in again] == [(row["column"], row["to_at"]) for row in rows]


def test_logins_are_whose_they_were_in_the_period_with_who_answers_for_them(shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "identities.csv"
    file.write_text("datasource,db_user,id,name,email,type,owner\norders,bot,report-bot,Bot,,agent,dana@shop.example\n")
    call_command("reference", "import", "identities", str(file), "--as-of", "2026-10-01T00:00:00Z")
    Identity.objects.create(datasource="orders", db_user="old", person_id="x", name="X", as_of="2026-01-01T00:00Z")
    Identity.objects.create(datasource="orders", db_user="old", person_id="", name="", as_of="2026-02-01T00:00Z")
    rows = queries.registered(AUDITOR, DAY, NEXT)["identities"].to_pylist()
    assert [(row["db_user"], row["person"], row["owner"]) for row in rows] == [
        ("bot", "report-bot", "dana@shop.example"),
        ("dana", "dana@shop.example", None),
    ]
    assert queries.registered(STRANGER, DAY, NEXT)["identities"].num_rows == 0
    assert [row["owner"] for row in queries.logins(AUDITOR, db_user="bot")] == ["dana@shop.example"]


def state(index: int, hour: int, *grants: tuple[str, str]) -> dict[str, Any]:
    rights = [{"grantee": who, "privilege": what, "schema": "public", "relation": "customers"} for who, what in grants]
    body = {"roles": [{"name": "dana", "login": True}, {"name": "bot", "login": True}], "grants": rights}
    return {
        "index": index, "datasource": "orders", "occurred_at": DAY + dt.timedelta(hours=hour),
        "state": msgspec.json.encode(body),
    }  # fmt: skip


def test_a_right_lasts_while_the_catalogs_say_the_same_of_it() -> None:
    states = [
        state(1, -1, ("dana", "SELECT")),
        state(2, 1, ("dana", "SELECT"), ("bot", "SELECT")),
        state(3, 2, ("dana", "SELECT"), ("PUBLIC", "UPDATE")),
    ]
    rows = registers._right_spans(states, [("orders", "public.customers")], DAY)
    told = [(row["login"], row["rights"], row["index"], row["assumed"]) for row in rows]
    assert told == [
        ("bot", ["SELECT"], 2, False), ("bot", ["UPDATE"], 3, False),
        ("dana", ["SELECT"], 1, False), ("dana", ["SELECT", "UPDATE"], 3, False),
    ]  # fmt: skip
    assert rows[2]["to_at"] == rows[3]["from_at"] == DAY + dt.timedelta(hours=2)
    (late, *_) = registers._right_spans(states[1:], [("orders", "public.customers")], DAY)
    assert (late["from_at"], late["assumed"]) == (FIRST, True)


def test_rights_are_those_on_classified_tables_in_scope_cut_to_the_period(shop: Shop) -> None:
    Tag.objects.create(datasource="orders", relation="public.customers", column="email", classes=["email"], by="old")
    Tag.objects.update(at=DAY)
    grant = {"grantee": "dana", "privilege": "SELECT", "schema": "public", "relation": "customers"}
    for hour in (-3, 2):
        shop.send(
            shop.state, 3600 * hour, kind="state",
            state={"roles": [{"name": "dana", "login": True}], "grants": [grant]},
        )  # fmt: skip
    rows = queries.rights_held(AUDITOR, DAY, NEXT, environment="prod")["rights"].to_pylist()
    nine, noon = (DAY + dt.timedelta(hours=hour) for hour in (9, 12))
    assert [(row["login"], row["rights"], row["from_at"], row["to_at"], row["assumed"]) for row in rows] == [
        ("dana", ["SELECT"], DAY, nine, True), ("dana", ["SELECT"], noon, NEXT, False),
        ("root", ["everything"], nine, noon, False),
    ]  # fmt: skip
    assert queries.rights_held(STRANGER, DAY, NEXT)["rights"].num_rows == 0


def test_what_a_gateway_let_run_stands_beside_what_was_asked_for(shop: Shop) -> None:
    gate = Source.objects.create(name="gate", format="gateway", environment="prod", datasource="orders")
    shop.send(
        gate, 30, kind="query", op="delete", verdict="pending", actor={"id": "dana@shop.example"}, correlation_id="g1",
        approval={"request_id": "R-1", "state": "requested"}, statement={"text": "delete from cards where id = 1", "state": "whole"},
    )  # fmt: skip
    for second, text in ((40, "delete from cards where id = 1"), (50, "delete from cards where id = 2")):
        shop.send(
            gate, second, kind="query", op="delete", verdict="approved", actor={"id": "dana@shop.example"},
            correlation_id=f"g{second}", approval={"request_id": "R-1", "state": "approved"},
            statement={"text": text, "state": "whole"},
        )  # fmt: skip
    rows = queries.released(AUDITOR, DAY, NEXT)["released"].to_pylist()
    assert [(row["same_text"], row["asked_by"]) for row in rows] == [
        (True, "dana@shop.example"),
        (False, "dana@shop.example"),
    ]
    assert all("= 1" not in (row["statement"] or "") for row in rows)
    assert queries.released(STRANGER, DAY, NEXT)["released"].num_rows == 0
