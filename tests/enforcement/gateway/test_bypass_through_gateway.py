"""The same tricks through a running gateway: the client is refused, nothing has changed, and the refusal is recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import pq

from tests.bypass import shop
from tests.bypass.test_peers import BLOCK, BLOCKED, HARMLESS
from tests.bypass.test_tricks import TRICKS
from tests.enforcement.gateway.running import Running, until

pytestmark = pytest.mark.slow

DANA = "dana@shop.example"
FORBIDDEN = [sql for sql, _ in BLOCKED] + [sql for sql, _, person, _ in TRICKS if person.startswith("block:")]
FORBIDDEN_TO_AGENTS = [sql for sql, _, _, agent in TRICKS if agent.startswith("block:")]


@pytest.fixture
def guarded(gateway: Running) -> Running:
    """A gateway with the default guardrails before the database of this folder."""
    gateway.shop.run(shop.SCHEMA)
    gateway.shop.run("""
        do $$ declare one text; begin
            foreach one in array array['public', 's', 'evil'] loop
                execute format('grant usage, create on schema %I to app', one);
                execute format('grant all on all tables in schema %I to app', one);
                execute format('grant all on all sequences in schema %I to app', one);
            end loop;
        end $$""")
    gateway.reload()
    return gateway


def state(of: Running) -> list[Any]:
    """Everything that a statement could have changed."""
    rows = of.shop.run("""
        select format('%I.%I', schemaname, tablename), md5(query_to_xml(
            format('select * from %I.%I t order by t::text', schemaname, tablename), true, false, '')::text)
        from pg_tables where schemaname in ('public', 's', 'evil')
        union all select oid::regclass::text, relacl::text || relowner from pg_class where relnamespace::regnamespace::text in
            ('public', 's', 'evil')
        union all select rolname, rolsuper::text from pg_roles order by 1, 2""")
    return [tuple(row) for row in rows]


def simple(client: psycopg.Connection[Any], sql: str) -> pq.abc.PGresult:
    return client.pgconn.exec_(sql.encode())


def extended(client: psycopg.Connection[Any], sql: str) -> pq.abc.PGresult:
    """Parse, Bind, Describe and Execute; a text of several statements is refused by PostgreSQL's own rule."""
    return client.pgconn.exec_params(sql.encode(), None)


def code(result: pq.abc.PGresult) -> str:
    """The SQLSTATE of an error; empty where there is none."""
    return (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()


@pytest.mark.parametrize("send", [simple, extended], ids=["simple", "extended"])
@pytest.mark.parametrize(("claims", "texts"), [({}, FORBIDDEN), ({"agent": "report-bot", "purpose": "OPS-1"}, FORBIDDEN_TO_AGENTS)],
                         ids=["person", "agent"])  # fmt: skip
def test_what_is_blocked_does_not_reach_the_database_and_is_recorded(
    guarded: Running, send: Callable[..., Any], claims: dict[str, str], texts: list[str]
):
    before = state(guarded)
    with guarded.connect(DANA, claims=claims) as client:
        for sql in texts:
            result = send(client, sql)
            assert result.status == pq.ExecStatus.FATAL_ERROR, sql
            assert code(result) in ("42501", "42601"), (sql, result.error_message)
            assert client.pgconn.transaction_status == pq.TransactionStatus.IDLE, sql
            assert simple(client, "select 1 as still_here").ntuples == 1
        refused = until(
            lambda: len(told := guarded.events(kind="query", verdict="blocked")) >= len(texts) // 2 and told
        )
    assert state(guarded) == before
    assert not any("still_here" in str(event) for event in refused)


def test_nobody_reaches_the_database_by_a_refused_statement_within_a_transaction(guarded: Running):
    before = state(guarded)
    with guarded.connect(DANA) as client:
        simple(client, "begin")
        simple(client, "update codes set n = 99 where code = '01'")
        assert code(simple(client, "delete from codes")) == "42501"
        assert client.pgconn.transaction_status == pq.TransactionStatus.INERROR
        assert code(simple(client, "select 1")) == "25P02"
        assert guarded.shop.run("select count(*) from pg_locks where relation = 'codes'::regclass") == [(0,)]
        simple(client, "rollback")
        assert simple(client, "select 1").ntuples == 1
    assert state(guarded) == before


def test_what_cannot_be_told_waits_for_an_approval_and_does_not_run(guarded: Running):
    before = state(guarded)
    with guarded.connect(DANA) as client:
        for sql in (BLOCK, "select touch_orders()", "call clear_codes()", "select c.total from customers c"):
            assert code(simple(client, sql)), sql
    assert state(guarded) == before


@pytest.mark.parametrize("send", [simple, extended], ids=["simple", "extended"])
def test_words_in_strings_names_and_comments_run_as_they_are(guarded: Running, send: Callable[..., Any]):
    with guarded.connect(DANA) as client:
        for sql in HARMLESS:
            result = send(client, sql)
            assert result.status == pq.ExecStatus.TUPLES_OK, (sql, result.error_message)


def test_a_statement_prepared_in_one_way_is_judged_when_executed_in_the_other(guarded: Running):
    before = state(guarded)
    with guarded.connect(DANA) as client:
        assert code(client.pgconn.prepare(b"gone", b"delete from codes")) == "42501"
        assert code(simple(client, "execute gone")) in ("42501", "26000")
        assert not code(simple(client, "prepare kept as select n from codes where code = '01'"))
        assert client.pgconn.exec_prepared(b"kept", []).ntuples == 1
        simple(client, "prepare dropped as delete from codes")
        assert code(client.pgconn.exec_prepared(b"dropped", [])) == "42501"
        assert code(simple(client, "execute dropped")) == "42501"
    assert state(guarded) == before


def test_a_search_path_set_earlier_decides_what_a_name_means(guarded: Running):
    guarded.rules("""
[[rule]]
id = "no-evil"
outcome = "block"
relations = ["evil.orders"]
""")
    with guarded.connect(DANA) as client:
        assert not code(simple(client, "select * from orders"))
        simple(client, "set search_path = evil")
        assert code(simple(client, "select * from orders")) == "42501"
        assert code(extended(client, "select * from orders")) == "42501"
        simple(client, "reset search_path")
        assert not code(simple(client, "select * from orders"))
        simple(client, "begin; set local search_path = evil")
        assert code(simple(client, "select * from orders")) == "42501"
        simple(client, "rollback")
        assert not code(simple(client, "select * from orders"))
        simple(client, "select set_config('search_path', 'evil', false)")
        assert code(simple(client, "select * from orders")) == "42501"
    with guarded.connect(DANA, options="-c search_path=evil") as client:
        assert code(simple(client, "select * from orders")) == "42501"


def test_a_view_made_anew_is_not_judged_by_what_it_was(guarded: Running):
    guarded.rules("""
[[rule]]
id = "no-customers"
outcome = "block"
verbs = ["read"]
relations = ["public.customers"]
""")
    guarded.shop.run("create view public.mine as select 1 as a; alter view public.mine owner to app")
    guarded.reload()
    with guarded.connect(DANA) as client:
        assert not code(simple(client, "select * from mine"))
        made = simple(client, "create or replace view mine as select id as a from customers")
        assert not code(made), made.error_message
        assert code(simple(client, "select * from mine")) == "42501"
        simple(client, "create view second as select * from customers")
        assert code(simple(client, "select * from second")) == "42501"
