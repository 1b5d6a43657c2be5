"""Masks on every way that rows take through a session, and the keys and counts that are told of them."""

from __future__ import annotations

import pytest

from enforcement.gateway.entries import Ended, Refused
from tests.enforcement.gateway.stalls import Stall
from tests.enforcement.gateway.test_session_rules import error, kinds, rows
from tests.enforcement.gateway.wire_scripts import Q, S, bind, copied, describe, execute, parse, run
from tests.enforcement.gateway.wired import split

MASK = """
version = 2
[[rule]]
id = "no-addresses"
title = "E-mail addresses are masked"
outcome = "mask"
classes = ["email"]
"""
ADDRESS = b"c1@shop.example"
SELECT = "select id, email from customers where id = 1"


@pytest.mark.parametrize(
    ("scripts", "readies"),
    [
        ([Q(SELECT)], 1),
        ([run(SELECT) + S], 1),
        ([run(SELECT, described=False) + S], 1),
        ([parse(SELECT) + bind((), results=(1,)) + describe() + execute() + S], 1),
        ([parse(SELECT, "s") + S, bind((), "", "s") + execute() + S], 1),
        ([Q("begin; declare c cursor for " + SELECT), Q("fetch all from c")], 1),
        ([Q("prepare p as " + SELECT), Q("execute p")], 1),
        ([Q("prepare q as " + SELECT), bind((), "", "q") + describe() + execute() + S], 1),
        ([Q("prepare r as " + SELECT), bind((), "", "r") + execute() + S], 1),
        ([Q("update customers set name = 'x' where id = 1 returning email")], 1),
        ([Q(f"copy ({SELECT}) to stdout")], 1),
        ([run(f"copy ({SELECT}) to stdout (format binary)") + S], 1),
    ],
)
def test_a_protected_value_is_masked_on_every_way(stall: Stall, scripts: list[bytes], readies: int) -> None:
    wired = stall.wired(rules=MASK)
    seen = b"".join(wired.answers(script, readies) for script in scripts)
    assert wired.closed is None, wired.session.fault
    assert ADDRESS not in seen
    assert "E" not in kinds(seen)
    assert sum(wired.told(Ended)[-1].masked.values()) == 1
    assert stall.run("select email from customers where id = 1") == [(ADDRESS.decode(),)]


def test_an_error_does_not_tell_a_protected_value(stall: Stall) -> None:
    wired = stall.wired(rules=MASK)
    for script in (
        Q("select email::int from customers where id = 1"),
        run("select email::int from customers where id = 1") + S,
    ):
        seen = wired.answers(script, 1)
        assert error(seen)["C"] == "22P02"
        assert ADDRESS not in seen
    assert ADDRESS.decode() not in wired.told(Ended)[-1].error_message


def test_an_error_at_the_end_of_a_pipeline_undoes_it_and_is_told_so(stall: Stall) -> None:
    wired = stall.wired(rules=MASK)
    seen = wired.answers(run("insert into orders values(1, 99, 'x')") + run("select email from customers") + S, 1)
    assert error(seen)["C"] == "23503"
    assert {entry.outcome for entry in wired.told(Ended)} == {"rolled_back"}
    assert stall.run("select count(*) from orders") == [(0,)]


def test_keys_of_rows_that_were_read_are_told_while_they_are_few(stall: Stall) -> None:
    wired = stall.wired(rules=MASK, keys_limit=5)
    wired.answers(Q("select name, id from customers where id < 4 order by id"), 1)
    ended = wired.told(Ended)[-1]
    assert [[(value.column, value.value) for value in key] for key in ended.effects[0].keys] == [
        [("id", "1")], [("id", "2")], [("id", "3")],
    ]  # fmt: skip
    wired.answers(Q("select name, id from customers"), 1)
    ended = wired.told(Ended)[-1]
    assert (ended.rows_returned, len(ended.effects[0].keys)) == (20, 5)
    assert any(flag.startswith("rows_sha256:") for flag in ended.flags)


def test_what_prepare_made_is_judged_when_it_is_bound_in_the_protocol(stall: Stall) -> None:
    rules = MASK.replace('outcome = "mask"', 'outcome = "block"')
    wired = stall.wired(rules=rules)
    wired.answers(Q("prepare hidden as " + SELECT), 1)
    seen = wired.answers(bind((), "", "hidden") + describe() + execute() + S, 1)
    assert error(seen)["C"] == "42501"
    assert rows(seen) == []


def test_a_copy_behind_a_refused_statement_of_the_same_text_is_not_waited_for(stall: Stall) -> None:
    rules = MASK.replace('outcome = "mask"', 'outcome = "limit"\nrows_over = 3').replace('classes = ["email"]', "")
    wired = stall.wired(rules=rules)
    text = "update customers set name = 'x'; copy customers(id) from stdin; select id from customers"
    seen = wired.answers(Q(text) + copied(b"99\n") + Q("select 1"), 2)
    assert kinds(seen) == "EZTDCZ"
    assert stall.run("select count(*) from customers where name = 'x' or id = 99") == [(0,)]


def test_a_refusal_before_anything_ran_sends_nothing_that_fails(stall: Stall) -> None:
    rules = MASK.replace('outcome = "mask"', 'outcome = "block"')
    wired = stall.wired(rules=rules)
    wired.answers(Q("select 1"), 1)
    wired.sent.clear()
    seen = wired.answers(parse("select 1") + parse(SELECT) + S, 1)
    assert kinds(seen) == "1EZ"
    assert "".join(kind for sent in wired.sent for kind, _ in split(sent)) in ("PS", "PHS")


@pytest.mark.parametrize("by_sql", [False, True])
def test_a_table_made_after_a_statement_was_prepared_does_not_change_how_it_is_judged(
    stall: Stall, by_sql: bool
) -> None:
    wired = stall.wired(rules=MASK)
    wired.answers(Q("create temp table other(id int)"), 1)
    text = "select lower(email) from customers where id = 1"
    wired.answers(Q(f"prepare s as {text}") if by_sql else parse(text, "s") + S, 1)
    wired.answers(Q("create temp table customers(id int, email text)"), 1)
    seen = wired.answers(Q("execute s") if by_sql else bind((), "", "s") + describe() + execute() + S, 1)
    assert (error(seen)["C"], len(wired.told(Refused))) == ("0A000", 1)
    assert ADDRESS not in seen
    wired.answers(Q("drop table pg_temp.customers"), 1)
    assert ADDRESS not in wired.answers(bind((), "", "s") + describe() + execute() + S, 1)


def test_a_portal_is_masked_by_what_its_names_meant_when_it_was_bound(stall: Stall) -> None:
    stall.run("create schema attic; create table attic.customers(id int, email text)")
    wired = stall.wired(rules=MASK)
    wired.answers(Q("begin"), 1)
    wired.answers(parse("select lower(email) from customers where id = 1", "s") + bind((), "p", "s") + S, 1)
    wired.answers(run("set search_path = attic") + S, 1)
    seen = wired.answers(describe("p") + execute("p") + S, 1)
    assert len(rows(seen)) == 1
    assert ADDRESS not in seen


def test_what_a_deferred_trigger_says_of_a_protected_value_is_not_told(stall: Stall) -> None:
    stall.run(
        "create function tell() returns trigger language plpgsql as"
        " $$begin raise notice 'kept %', (select email from customers where id = 1); return null; end$$;"
        "create constraint trigger tells after insert on orders deferrable initially deferred for each row execute function tell()"
    )
    wired = stall.wired(rules=MASK)
    for script, seen in (
        (Q("insert into orders values(1, 1, 'x')"), "NCZ"),
        (run("insert into orders values(2, 1, 'x')", described=False) + S, "12CNZ"),
    ):
        found = wired.answers(script, 1)
        assert kinds(found) == seen
        assert ADDRESS not in found
    assert stall.run("select count(*) from orders") == [(2,)]
