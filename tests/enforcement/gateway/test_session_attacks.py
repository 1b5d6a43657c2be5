"""Ways to have something else run than was judged, in raw messages: each was tried, and each is answered."""

from __future__ import annotations

import psycopg
import pytest

from enforcement.gateway.entries import Began, Ended
from enforcement.gateway.session.outputs import CatalogLoaded
from tests.enforcement.gateway.running import Running, until
from tests.enforcement.gateway.stalls import Stall
from tests.enforcement.gateway.test_session_rules import APPROVE, NO_DELETE, answering, error, kinds, rows
from tests.enforcement.gateway.wire_scripts import Q, S, bind, execute, parse
from tests.enforcement.gateway.wired import load_catalog

LONG = "a" * 63
OTHERS = "create schema attic; create table attic.customers (id int primary key, name text, email text)"
MASKED = """
version = 6
[[rule]]
id = "no-addresses"
outcome = "mask"
classes = ["email"]
"""


@pytest.mark.parametrize(
    "script", [parse("select 1", f"{LONG}x") + S, bind(portal=f"{LONG}y") + S, execute(f"{LONG}y") + S]
)
def test_names_that_the_database_would_cut_to_one_end_the_session(stall: Stall, script: bytes) -> None:
    wired = stall.wired(rules=NO_DELETE)
    assert error(wired.answers(script, 1))["S"] == "FATAL"


def test_a_portal_of_a_cursors_name_is_not_judged_as_the_cursor(stall: Stall) -> None:
    wired = stall.wired(rules=MASKED)
    wired.answers(Q("begin; savepoint a; declare c cursor for select 'x'::text; rollback to a"), 1)
    script = parse("select email from customers where id = 1", "s") + bind(portal="c", name="s") + S
    wired.answers(script, 1)
    assert b"c1@shop.example" not in wired.answers(Q("fetch c"), 1)


def test_an_approval_of_execute_is_for_what_was_prepared(stall: Stall) -> None:
    wired = stall.wired(rules=APPROVE)
    held = answering(wired, "pending", "pending")
    for condition in ("id = 1", "id > 0"):
        wired.answers(Q(f"prepare p as update customers set name = 'x' where {condition}"), 1)
        wired.answers(Q("execute p"), 1)
        wired.answers(Q("deallocate p"), 1)
    assert held[0].digest != held[1].digest
    assert "where id = 1" in held[0].statement
    assert stall.run("select count(*) from customers where name = 'x'") == [(0,)]


@pytest.mark.parametrize("before", ["set search_path = attic, public", "set role pg_read_all_data"])
def test_an_approval_is_for_the_tables_and_the_role_of_then(stall: Stall, before: str) -> None:
    stall.run(OTHERS)
    wired = stall.wired(rules=APPROVE)
    held = answering(wired, "pending", "pending")
    text = Q("update customers set name = 'x' where id < 3")
    wired.answers(text, 1)
    assert "E" not in kinds(wired.answers(Q(before), 1))
    wired.answers(text, 1)
    assert len({hold.digest for hold in held}) == len(held) == 2


def test_behind_the_end_of_a_failed_transaction_nothing_runs_unapproved(stall: Stall) -> None:
    wired = stall.wired(rules=APPROVE.replace('"update"', '"read"'))
    answering(wired, "pending")
    wired.answers(Q("begin"), 1)
    wired.answers(Q("select 1/0"), 1)
    seen = wired.answers(Q("rollback; select name from customers; begin"), 1)
    assert (error(seen)["C"], rows(seen)) == ("42501", [])


def test_a_write_beside_a_command_that_stands_alone_says_who_writes(stall: Stall) -> None:
    wired = stall.wired()
    wired.answers(Q("update customers set name = 'x' where id = 1; reindex table orders"), 1)
    assert stall.run("select name from customers where id = 1") == [("x",)]
    assert [entry.transaction_id is not None for entry in wired.told(Ended) if entry.began.op == "update"] == [True]


def test_a_schema_of_the_path_that_is_made_later_is_noticed(stall: Stall) -> None:
    wired = stall.wired(rules=NO_DELETE)
    wired.answers(Q("set search_path = attic, public"), 1)
    wired.answers(Q("select 1 from customers"), 1)
    stall.run(OTHERS)
    wired.perform(wired.session.told(CatalogLoaded(load_catalog(stall.dsn))))
    wired.answers(Q("select 2 from customers"), 1)
    read = [[one.schema for one in entry.resources] for entry in wired.told(Began)][-2:]
    assert (read[0], read[1][0]) == (["public"], "attic")


def test_settings_of_the_startup_message_are_judged_as_set(gateway: Running) -> None:
    for claims, options in (({}, "-c row_security=off"), ({"agent": "bot", "purpose": "x"}, "-c role=other")):
        with pytest.raises(psycopg.OperationalError, match=r"by rule (no-blind-sessions|agents-no-other-role)"):
            gateway.connect(claims=claims, options=options)
    assert until(lambda: len(gateway.sessions()) == 2)
    gateway.connect(options="-c statement_timeout=5s -c search_path=public").close()


def test_a_setting_changed_by_updating_its_view_does_not_change_what_texts_mean(gateway: Running) -> None:
    gateway.shop.run("create table codes (n int); insert into codes values (1); grant all on codes to app")
    gateway.reload()
    for claims in ({}, {"touchstone_type": "service", "sub": "importer", "email": None}):
        with gateway.connect(claims.get("sub") or "dana@shop.example", claims=claims) as connection:
            for text in (
                "update pg_settings set setting = 'off' where name = 'standard_conforming_strings'",
                r"select '\'' ; delete from codes; -- '",
            ):
                try:
                    connection.execute(text.encode())
                except psycopg.Error:
                    continue
    assert gateway.shop.run("select count(*) from codes") == [(1,)]
