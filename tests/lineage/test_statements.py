"""What the analysis of SQL text says, case by case, and that no text takes the process down."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lineage import statements
from lineage.statements import analyse, analyse_in_session, parser
from lineage.statements.cache import Cache
from lineage.statements.keys import MOST_KEYS, spellings
from lineage.statements.parser import SHORT

KIB_64 = 64 * 1024


def told(statement: statements.Statement) -> set[str]:
    """The effects as `verb schema.relation`; a dash where there is no relation."""
    return {
        f"{e.verb} {f'{e.schema}.' if e.schema else ''}{e.relation or ('*' if e.schema else '-')}"
        for e in statement.effects
    }


def effect(sql: str, verb: str, relation: str, parameters=()) -> statements.Effect:
    found = [e for e in analyse(sql, parameters).effects if (e.verb, e.relation) == (verb, relation)]
    assert len(found) == 1, f"{len(found)} effects {verb} {relation} in {sql}"
    return found[0]


EFFECTS = [
    ("select 1", ""),
    ("select * from t", "read t"),
    ("select * from s.t", "read s.t"),
    ('select * from "Weird Schema"."Tab""le"', 'read Weird Schema.Tab"le'),
    ("table t", "read t"),
    ("values (1), (2)", ""),
    ("select * from a, b c, d.e f", "read a, read b, read d.e"),
    ("select * from a join b using (id) left join c on true cross join d natural join e",
     "read a, read b, read c, read d, read e"),
    ("select * from only t", "read t"),
    ("select * from t tablesample system (1)", "read t"),
    ("select * from (select * from a) x", "read a"),
    ("select * from a, lateral (select * from b where b.id = a.id) x", "read a, read b"),
    ("select (select max(id) from b) from a", "read a, read b"),
    ("select 1 where exists (select from a)", "read a"),
    ("select * from a where id in (select id from b where x = any(select y from c))", "read a, read b, read c"),
    ("select * from a order by (select id from b)", "read a, read b"),
    ("select * from a group by (select id from b) having count(*) > (select n from c)", "read a, read b, read c"),
    ("select * from a limit (select n from b)", "read a, read b"),
    ("select array(select id from a), case when exists (select from b) then 1 end", "read a, read b"),
    ("select sum(x) over (partition by (select id from b)) from a", "read a, read b"),
    ("select count(*) filter (where exists (select from b)) from a", "read a, read b"),
    ("select from a for update of a", "read a"),
    ("select * from a union select * from b except all select * from c intersect select * from d",
     "read a, read b, read c, read d"),
    ("(select * from a) union (with b as (select * from c) select * from b)", "read a, read c"),
    ("select * from generate_series(1, (select n from a)) g", "read a"),
    ("select * from a, unnest(a.list) x", "read a"),
    ("select * from rows from (generate_series(1, 2), unnest(array(select id from a)))", "read a"),
    ("select * from a, xmltable('/r' passing a.doc columns id int)", "read a"),
    ("with t as (select * from a) select * from t", "read a"),
    ("with t as (select * from t) select * from t", "read t"),
    ("with recursive t as (select 1 as n union all select n + 1 from t) select * from t", ""),
    ("with recursive t as (select id from a union all select a.id from a join t on a.up = t.id) select * from t",
     "read a"),
    ("with x as (select * from a), y as (select * from x) select * from y, s.x", "read a, read s.x"),
    ("with x as (select * from y), y as (select 1) select * from x, y", "read y"),
    ("select * from (with x as (select * from a) select * from x) q, x", "read a, read x"),
    ("with d as (delete from a returning *) insert into b select * from d", "delete a, read a, insert b"),
    ("with u as (update a set x = 1) select 1", "update a"),
    ("with i as (insert into a values (1) returning id) select * from i", "insert a, read a"),
    ("insert into t values (1)", "insert t"),
    ("insert into t default values", "insert t"),
    ("insert into s.t (a, b) select a, b from u", "insert s.t, read u"),
    ("insert into t select * from t", "insert t, read t"),
    ("insert into t values ((select max(id) from u))", "insert t, read u"),
    ("insert into t values (1) on conflict do nothing", "insert t"),
    ("insert into t (id) values (1) on conflict (id) do update set n = (select 1 from u)",
     "insert t, update t, read u"),
    ("insert into t values (1) returning *", "insert t, read t"),
    ("with x as (select 1) insert into t select * from x", "insert t"),
    ("update t set a = 1", "update t"),
    ("update s.t as x set a = 1 from u where x.id = u.id", "update s.t, read u"),
    ("update t set (a, b) = (select c, d from u where u.id = t.id)", "update t, read u"),
    ("update t set a = (select 1 from v) where id in (select id from u) returning id",
     "update t, read t, read u, read v"),
    ("update t set a = 1 where current of c", "update t"),
    ("delete from t", "delete t"),
    ("delete from only t using u where t.id = u.id", "delete t, read u"),
    ("delete from t where id in (select id from u) returning *", "delete t, read t, read u"),
    ("merge into t using s on t.id = s.id when matched then update set a = s.a", "update t, read s"),
    ("merge into t using s on t.id = s.id when matched then delete when not matched then insert values (s.id)",
     "delete t, insert t, read s"),
    ("merge into t using (select * from s) q on t.id = q.id when matched and exists (select from u) then do nothing",
     "read t, read s, read u"),
    ("with q as (select * from s) merge into t using q on t.id = q.id when not matched then insert values (1)",
     "insert t, read s"),
    ("merge into t using s on t.id = s.id when not matched by source then delete returning t.*",
     "delete t, read s, read t"),
    ("copy t to stdout", "export t"),
    ("copy s.t (a, b) to '/tmp/x' with (format csv)", "export s.t"),
    ("copy (select * from a join b using (id)) to stdout", "export a, export b"),
    ("copy (delete from a returning *) to stdout", "delete a, export a"),
    ("copy t from stdin", "import t"),
    ("copy t (a) from '/tmp/x'", "import t"),
    ("explain select * from t", ""),
    ("explain delete from t", ""),
    ("explain analyze delete from t", "delete t"),
    ("explain (analyze) select * from t", "read t"),
    ("explain (analyze on, buffers) select * from t", "read t"),
    ("explain (analyze false) delete from t", ""),
    ("explain (analyze 0) delete from t", ""),
    ("explain (analyze 1) delete from t", "delete t"),
    ("explain (analyze off, verbose) delete from t", ""),
    ("explain (analyze, analyze off) delete from t", ""),
    ("explain analyze create table x as select * from y", "ddl x, read y"),
    ("prepare p as delete from t", ""),
    ("declare c cursor for select * from t", "read t"),
    ("fetch 10 from c", ""),
    ("close c", ""),
    ("truncate a, s.b cascade", "truncate a, truncate s.b"),
    ("create table s.t (id int primary key)", "ddl s.t"),
    ("create table t (like u)", "ddl t"),
    ("create table x as select * from y", "ddl x, read y"),
    ("create table x as table y with no data", "ddl x"),
    ("select * into x from y", "ddl x, read y"),
    ("create materialized view m as select * from t", "ddl m, read t"),
    ("refresh materialized view concurrently s.m", "ddl s.m"),
    ("create view v as select * from t", "ddl v"),
    ("create or replace recursive view v (n) as select 1", "ddl v"),
    ("create index i on s.t (a)", "ddl s.t"),
    ("create sequence s.q", "ddl s.q"),
    ("alter sequence q restart", "ddl q"),
    ("create trigger g before insert on s.t for each row execute function f()", "ddl s.t"),
    ("create policy p on t using (true)", "ddl t"),
    ("create rule r as on insert to t do nothing", "ddl t"),
    ("alter table s.t add column c int", "ddl s.t"),
    ("alter table t enable row level security", "ddl t"),
    ("alter table p attach partition q for values in (1)", "ddl p, ddl q"),
    ("alter table t rename to u", "ddl t"),
    ("alter table t rename column a to b", "ddl t"),
    ("alter table t set schema x", "ddl t"),
    ("alter table t owner to bob", "ddl t"),
    ("alter view v rename to w", "ddl v"),
    ("drop table a, s.b", "ddl a, ddl s.b"),
    ("drop view v", "ddl v"),
    ("drop index s.i", "ddl s.i"),
    ("drop trigger g on s.t", "ddl s.t"),
    ("drop policy p on t", "ddl t"),
    ("drop schema s cascade", "ddl s.*"),
    ("drop function f(int)", "ddl -"),
    ("comment on table s.t is 'x'", "ddl s.t"),
    ("comment on column s.t.c is null", "ddl s.t"),
    ("comment on constraint k on t is 'x'", "ddl t"),
    ("comment on database d is 'x'", "ddl -"),
    ("security label on table t is 'x'", "ddl t"),
    ("create schema s create table t (a int) grant select on t to bob", "ddl s.*, ddl t, privilege t"),
    ("create function f() returns int language sql as 'delete from t returning 1'", "ddl -"),
    ("create extension hstore", "ddl -"),
    ("create type c as (a int)", "ddl -"),
    ("create type e as enum ('a')", "ddl -"),
    ("create publication p for table t", "ddl -"),
    ("create database d", "ddl -"),
    ("alter system set work_mem = '1GB'", "ddl -"),
    ("create foreign table f (a int) server x", "ddl f"),
    ("reindex table t", "ddl t"),
    ("cluster t using i", "ddl t"),
    ("grant select on s.t, u to bob", "privilege s.t, privilege u"),
    ("revoke update (a, b) on t from bob", "privilege t"),
    ("grant usage on schema s to bob", "privilege s.*"),
    ("grant all on all tables in schema s to bob", "privilege s.*"),
    ("grant connect on database d to bob", "privilege -"),
    ("grant execute on function f(int) to bob", "privilege -"),
    ("grant admins to bob with admin option", "privilege -"),
    ("alter default privileges in schema s grant select on tables to bob", "privilege -"),
    ("create role r login", "privilege -"),
    ("create user r superuser", "privilege -"),
    ("alter role r password 'x'", "privilege -"),
    ("alter role r set search_path = s", "privilege -"),
    ("alter role r rename to q", "privilege -"),
    ("drop role r", "privilege -"),
    ("begin", ""),
    ("set search_path = s", ""),
    ("show all", ""),
    ("lock table t in access exclusive mode", ""),
    ("vacuum full t", ""),
    ("listen c", ""),
    ("select * from a; delete from b;; drop table c", "read a, delete b, ddl c"),
    ("", ""),
    ("-- nothing", ""),
    (";", ""),
    ("/* from: app */ select * from a -- from b", "read a"),
    ("select * from a /*controller='orders',traceparent='00-1'*/", "read a"),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "expected"), EFFECTS)
def test_each_effect_of_a_statement_is_named_and_nothing_else(sql, expected):
    found = analyse(sql)
    assert told(found) == set(expected.split(", ") if expected else [])
    assert not found.opaque, found.reason


OPAQUE = [
    "do $$ begin delete from t; end $$",
    "call archive(4)",
    "execute p(1)",
    "create table x as execute p",
    "select my_function()",
    "select * from my_function(4) f",
    "select public.lower('x')",
    "select my_function(id) from t where id = 1",
    "insert into t values (my_function())",
    "update t set a = 1 where my_function(a)",
    "select dblink('db', 'delete from t')",
    "select * from dblink_exec('delete from t')",
    "select lo_import('/etc/passwd')",
    "select lo_get(42)",
    "select pg_read_file('postgresql.conf')",
    "select pg_ls_dir('.')",
    "select query_to_xml('select * from t', true, true, '')",
    "select table_to_xml('t', true, true, '')",
    "select ts_stat('select v from t')",
    "select setval('s', 1)",
    "select pg_terminate_backend(1)",
    "select * from pg_logical_slot_get_changes('s', null, null)",
    "alter table t alter column a type int using convert_it(a)",
    "alter table t add column a int default next_number()",
    "create index on t (my_function(a))",
    "copy t from program 'curl example.org'",
    "copy (select 1) to program 'sh'",
    "load 'library'",
    "drop owned by bob",
    "reassign owned by bob to eve",
    "explain analyze execute p",
    "this is no SQL",
    "select 'unterminated",
    "selec * from t",
    "select \0",
    "select '\ud800'",
    "select 1; this is no SQL",
    "/*" * 101 + "*/" * 101 + "select 1",
    "select '" + "x" * KIB_64 + "'",
    "select '" + "ü" * (KIB_64 // 2) + "'",
]


@pytest.mark.parametrize("sql", OPAQUE, ids=lambda sql: sql[:40].encode("ascii", "replace").decode())
def test_a_statement_that_hides_its_effect_is_opaque_with_a_reason(sql):
    found = analyse(sql)
    assert found.opaque
    assert found.reason
    assert found.op not in ("read", "other", "export")


@pytest.mark.parametrize(
    "sql",
    [
        "select count(*), lower(name), now(), pg_catalog.upper(x), coalesce(a, b) from t",
        "select jsonb_build_object('a', array_agg(x order by x)) from t",
        "select date_trunc('month', d), extract(year from d), trim(both ' ' from n), substring(n from 1 for 2) from t",
        "select nextval('s'), gen_random_uuid(), random(), current_setting('x'), set_config('a', 'b', true)",
        "select row_number() over (), lag(x) over w from t window w as (order by x)",
        "select percentile_cont(0.5) within group (order by x), string_agg(distinct n, ',') from t",
        "select pg_get_viewdef('v'::regclass), pg_table_size('t'), has_table_privilege('t', 'select')",
        "select * from jsonb_to_recordset('[]') as x(a int), json_array_elements('[]')",
        "select pg_advisory_xact_lock(1), pg_notify('a', 'b'), txid_current(), pg_backend_pid()",
        "select json_object('a': 1), xmlelement(name x), current_user, localtimestamp",
        "select sum(x)::numeric(10, 2), max(y), int4range(1, 2), '{1}'::int[] && array[2] from t",
        "select uuidv7(), any_value(x) from t",
    ],
)
def test_functions_of_postgresql_itself_are_not_opaque(sql):
    found = analyse(sql)
    assert (found.opaque, found.calls) == (False, ())


def test_calls_names_the_functions_that_may_do_anything():
    assert analyse("select f(g(1)), lower(s.h(2)), f(3)").calls == ("f", "g", "h")


COMMANDS = [
    ("select 1", "SELECT", "read"),
    ("select 1 from t", "SELECT", "read"),
    ("fetch c", "FETCH", "read"),
    ("insert into t values (1)", "INSERT", "insert"),
    ("insert into t values (1) returning id", "INSERT", "insert"),
    ("update t set a = 1 from u", "UPDATE", "update"),
    ("delete from t", "DELETE", "delete"),
    ("with d as (delete from t) select 1", "SELECT", "delete"),
    (
        "merge into t using s on true when matched then delete when not matched then insert values (1)",
        "MERGE",
        "delete",
    ),
    ("copy t to stdout", "COPY TO", "export"),
    ("copy t from stdin", "COPY FROM", "import"),
    ("truncate t", "TRUNCATE TABLE", "truncate"),
    ("create table t ()", "CREATE TABLE", "ddl"),
    ("create table t as select 1", "CREATE TABLE AS", "ddl"),
    ("create materialized view m as select 1", "CREATE MATERIALIZED VIEW", "ddl"),
    ("create view v as select 1", "CREATE VIEW", "ddl"),
    ("create unique index on t (a)", "CREATE INDEX", "ddl"),
    ("select 1 into t", "SELECT INTO", "ddl"),
    ("drop table t", "DROP TABLE", "ddl"),
    ("drop materialized view t", "DROP MATERIALIZED VIEW", "ddl"),
    ("alter table t add a int", "ALTER TABLE", "ddl"),
    ("alter table t rename a to b", "ALTER TABLE", "ddl"),
    ("alter view v rename to w", "ALTER VIEW", "ddl"),
    ("create procedure p() language sql as ''", "CREATE PROCEDURE", "ddl"),
    ("create function p() returns int language sql as ''", "CREATE FUNCTION", "ddl"),
    ("comment on table t is ''", "COMMENT", "ddl"),
    ("grant select on t to r", "GRANT", "privilege"),
    ("revoke a from b", "REVOKE", "privilege"),
    ("create role r", "CREATE ROLE", "privilege"),
    ("alter role r rename to s", "ALTER ROLE", "privilege"),
    ("drop role r", "DROP ROLE", "privilege"),
    ("alter default privileges grant select on tables to r", "ALTER DEFAULT PRIVILEGES", "privilege"),
    ("do 'begin end'", "DO", "procedural"),
    ("call p()", "CALL", "procedural"),
    ("select f()", "SELECT", "procedural"),
    ("begin", "BEGIN", "other"),
    ("commit", "COMMIT", "other"),
    ("rollback to a", "ROLLBACK TO", "other"),
    ("set a = 1", "SET", "other"),
    ("reset all", "RESET", "other"),
    ("analyze t", "ANALYZE", "other"),
    ("explain select 1 from t", "EXPLAIN", "other"),
    ("prepare p as select 1", "PREPARE", "other"),
    ("select 1; delete from t; select 2", "SELECT; DELETE", "delete"),
    ("", "", "other"),
]


@pytest.mark.parametrize(("sql", "command", "op"), COMMANDS)
def test_command_and_op_say_what_kind_of_statement_it_is(sql, command, op):
    found = analyse(sql)
    assert (found.command, found.op) == (command, op)


KEYS = [
    ("id = 4711", "id=4711"),
    ("4711 = id", "id=4711"),
    ("t.id = 4711", "id=4711"),
    ("id = '4711'", "id=4711"),
    ("id = '4711'::bigint", "id=4711"),
    ("id = cast('4711' as int)", "id=4711"),
    ("id = bigint '4711'", "id=4711"),
    ("id = -5", "id=-5"),
    ("id = -(5)", "id=-5"),
    ("id = +5", "id=5"),
    ("id = - '5'::int", "id=-5"),
    ("id = 0", "id=0"),
    ("id = ''", "id="),
    ("ok = true", "ok=t"),
    ("id = 12345678901234567890", "id=12345678901234567890"),
    ("\"Id\" = 1", "Id=1"),
    ("id OPERATOR(pg_catalog.=) 1", "id=1"),
    ("id is not distinct from 1", "id=1"),
    ("id = 'a' collate \"C\"", "id=a"),
    ("id = 1 and status = 'open'", "id=1 status=open"),
    ("id = 1 and amount > 5", "id=1"),
    ("id = 1 and (amount > 5 or note = 'x')", "id=1"),
    ("id in (1, 2, 3)", "id=1 | id=2 | id=3"),
    ("id in (1, null)", "id=1"),
    ("id = 1 or id = 2", "id=1 | id=2"),
    ("id = 1 or id in (2, 3) or id = any('{4}')", "id=1 | id=2 | id=3 | id=4"),
    ("(id = 1 and a = 2) or (a = 3 and id = 4)", "a=2 id=1 | a=3 id=4"),
    ("(id = 1 and a = 2) or id = 3", "id=1 | id=3"),
    ("id in (1, 2) and a in ('x', 'y')", "a=x id=1 | a=x id=2 | a=y id=1 | a=y id=2"),
    ("(a, b) = (1, 2)", "a=1 b=2"),
    ("row(a, b) = row(1, 2)", "a=1 b=2"),
    ("(a, b) in ((1, 2), (3, -4))", "a=1 b=2 | a=3 b=-4"),
    ("(a, t.b) in (('x', 2))", "a=x b=2"),
    ("id = any('{1,2}')", "id=1 | id=2"),
    ("id = any('{1, NULL ,\"2\"}'::int[])", "id=1 | id=2"),
    ("id = any('{\"a,b\",\"c\\\"d\",e f}')", 'id=a,b | id=c"d | id=e f'),
    ("id = some(array[1, 2])", "id=1 | id=2"),
    ("id = any(array[1, 2]::bigint[])", "id=1 | id=2"),
    ("id = any(array['a'::text])", "id=a"),
    ("id = 1 and id = 2", "id=1"),
    ("id = '04711'", "id=04711 | id=4711"),
    ("id = ' 4711 '", "id= 4711  | id=4711"),
    ("id = 4711.0", "id=4711 | id=4711.0"),
    ("id = 4.711e3", "id=4.711e3 | id=4711"),
    ("id = 0x1267", "id=4711"),
    ("id = '{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}'",
     "id=a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11 | id={A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}"),
    ("id = null", ""),
    ("id is not distinct from null", None),
    ("id OPERATOR(mine.=) 1", None),
    ("id > 1", None),
    ("id <> 1", None),
    ("not id = 1", None),
    ("id not in (1, 2)", None),
    ("id <> all('{1}')", None),
    ("id between 1 and 1", None),
    ("id = 1 or name = 'x'", None),
    ("id = 1 or true", None),
    ("id = 4700 + 11", None),
    ("id = lower('X')", None),
    ("id = 1.5::int", None),
    ("id = '1'::my_type", None),
    ("id = 'abc'::varchar(2)", None),
    ("id::text = '4711'", None),
    ("lower(id) = 'x'", None),
    ("id = (select 1)", None),
    ("id in (select id from u)", None),
    ("id like 'x'", None),
    ("id = any('{{1},{2}}')", None),
    ("id = any('nothing')", None),
    ("id = all('{1}')", None),
    ("id = other", None),
    ("x.id = 1", None),
    ("id = $1", None),
    ("true", None),
]  # fmt: skip


def written_keys(found: statements.Effect) -> str | None:
    if found.keys is None:
        return None
    return " | ".join(sorted(" ".join(sorted(f"{c}={v}" for c, v in key)) for key in found.keys))


@pytest.mark.parametrize(("condition", "expected"), KEYS)
@pytest.mark.parametrize(
    ("form", "verb"),
    [
        ("select * from t where {}", "read"),
        ("update t set id = 9 where {}", "update"),
        ("delete from s.t where {}", "delete"),
        ("explain analyze select 1 from (select * from t where {}) x", "read"),
        ("copy (select * from t where {}) to stdout", "export"),
    ],
)
def test_only_conditions_that_hold_for_every_touched_row_fix_keys(form, verb, condition, expected):
    assert written_keys(effect(form.format(condition), verb, "t")) == expected


BOUND = [
    ("id = $1", ("4711",), "id=4711"),
    ("id = $1::int and a = $2", ("4711", "x"), "a=x id=4711"),
    ("id = any($1)", ("{1,2}",), "id=1 | id=2"),
    ("id = any($1::bigint[])", ("{1,2}",), "id=1 | id=2"),
    ("id in ($1, $2)", ("1", "2"), "id=1 | id=2"),
    ("(a, b) = ($2, $1)", ("1", "2"), "a=2 b=1"),
    ("id = $1", (None,), None),
    ("id = $2", ("1",), None),
    ("id in ($1, $2)", ("1", None), None),
    ("id = any($1)", (None,), None),
]


@pytest.mark.parametrize(("condition", "parameters", "expected"), BOUND)
def test_bind_values_fix_keys_and_unknown_ones_do_not(condition, parameters, expected):
    assert written_keys(effect(f"select * from t where {condition}", "read", "t", parameters)) == expected


JOINED = [
    ("select * from a join b on b.id = 2 where a.id = 1", "a", "id=1"),
    ("select * from a join b on b.id = 2 where a.id = 1", "b", "id=2"),
    ("select * from a x, b y where x.id = 1 and y.id = 2", "a", "id=1"),
    ("select * from a x, b y where x.id = 1 and y.id = 2", "b", "id=2"),
    ("select * from a join b on true where id = 1", "a", None),
    ("select * from a left join b on a.id = 1 and b.id = 2", "a", None),
    ("select * from a left join b on a.id = 1 and b.id = 2", "b", "id=2"),
    ("select * from a right join b on a.id = 1 and b.id = 2", "a", "id=1"),
    ("select * from a right join b on a.id = 1 and b.id = 2", "b", None),
    ("select * from a full join b on a.id = 1 and b.id = 2", "a", None),
    ("select * from a left join b on true where b.id = 2", "b", "id=2"),
    ("select * from a where id = 1 union select * from a where id = 2", "a", "id=1 | id=2"),
    ("select * from a where id = 1 union select * from a", "a", None),
    ("select * from a x join a y on x.id = 1 and y.id = 2", "a", "id=1 | id=2"),
    ("select * from a where id = 1 and exists (select from b where b.id = 2 and a.id = 7)", "a", "id=1"),
    ("select * from a where exists (select from b where b.id = 2 and a.id = 7)", "a", None),
    ("select * from a where exists (select from b where b.id = 2)", "b", "id=2"),
    ("select * from s.a where s.a.id = 1", "a", "id=1"),
    ("select * from s.a, r.b where s.a.id = 1", "a", "id=1"),
    ("select * from (select * from a) q where q.id = 1", "a", None),
    ("with q as (select * from a where id = 3) select * from q where id = 1", "a", "id=3"),
    ("select * from a having max(id) = 1", "a", None),
    ("select * from a, b where a.id = 1", "b", None),
    ("select 1 from a group by id having id = 1", "a", None),
    ("select * from a as x (n, id) where id = 1", "a", None),
    ("select * from a as x (n, id) where x.id = 1", "a", None),
]


@pytest.mark.parametrize(("sql", "relation", "expected"), JOINED)
def test_keys_belong_to_the_relation_that_the_condition_names(sql, relation, expected):
    assert written_keys(effect(sql, "read", relation)) == expected


WRITTEN = [
    ("insert into t (id, n) values (1, 'x'), (2, 'y')", "insert", "id=1 n=x | id=2 n=y"),
    ("insert into t (id, n) values (1, now()), (2, 'y')", "insert", "id=1 | id=2"),
    ("insert into t (id, n) values (1, default)", "insert", "id=1"),
    ("insert into t (id, n) values (1, null)", "insert", "id=1"),
    ("insert into t (id, n) values (1.5, 'x')", "insert", "n=x"),
    ("insert into t (id, n) overriding user value values (1, 'x')", "insert", None),
    ("insert into t values (1, 'x')", "insert", None),
    ("insert into t (id) select 1", "insert", None),
    ("insert into t (id) values (f())", "insert", None),
    ("insert into t (id, n) values (1, 'x') on conflict (id) do update set n = 'z'", "insert", "id=1 n=x"),
    ("insert into t (id, n) values (1, 'x') on conflict (id) do update set n = 'z'", "update", "id=1"),
    ("insert into t (id, n) values (1, 'x') on conflict (id) do update set n = 'z' returning n", "read", "id=1"),
    ("insert into t (id, n) values (1, 'x') on conflict on constraint k do update set n = 'z'", "update", None),
    ("insert into t (id) values (1) returning id", "read", "id=1"),
    ("update t set id = 2 where id = 1", "update", "id=1"),
    ("update t set n = 'x' from u where t.id = 1 and u.id = 2", "update", "id=1"),
    ("delete from t using u where t.id = 1 returning *", "read", "id=1"),
    ("merge into t using s on t.id = s.id and t.id = 4 when matched and t.n = 'x' then delete", "delete", "id=4 n=x"),
    ("merge into t using s on t.id = 4 when not matched by source and t.n = 'x' then delete", "delete", "n=x"),
    ("merge into t using s on t.id = 4 when not matched then insert (id) values (5)", "insert", "id=5"),
    ("with d as (delete from t where id = 1 returning *) select * from d where id = 2", "delete", "id=1"),
    ("copy t from stdin where id = 1", "import", None),
    ("truncate t", "truncate", None),
]


@pytest.mark.parametrize(("sql", "verb", "expected"), WRITTEN)
def test_writes_name_the_rows_that_the_text_fixes(sql, verb, expected):
    assert written_keys(effect(sql, verb, "t")) == expected


def test_more_than_a_thousand_keys_count_as_unknown():
    def keys_of(count: int) -> int | None:
        found = effect(f"select * from t where id in ({','.join(map(str, range(count)))})", "read", "t").keys
        return None if found is None else len(found)

    assert keys_of(MOST_KEYS) == MOST_KEYS
    assert keys_of(MOST_KEYS + 1) is None
    rows = ",".join(f"({n})" for n in range(MOST_KEYS + 1))
    assert effect(f"insert into t (id) values {rows}", "insert", "t").keys is None


def test_a_combination_beyond_a_thousand_keys_keeps_the_first_condition_only():
    many = ",".join(map(str, range(50)))
    found = effect(f"select * from t where a in ({many}) and b in ({many})", "read", "t")
    assert len(found.keys or ()) == 50
    assert {column for key in found.keys or () for column, _ in key} == {"a"}


COLUMNS = [
    ("select a, b from t where c = 1 order by d", "read", "t", "a b c d"),
    ("select x.a, y.b from t x join u y on x.id = y.id", "read", "t", "a id"),
    ("select x.a, y.b from t x join u y on x.id = y.id", "read", "u", "b id"),
    ("select a from t, u", "read", "t", ""),
    ("select * from t", "read", "t", "*"),
    ("select x.* from t x, u", "read", "t", "*"),
    ("select x.* from t x, u", "read", "u", ""),
    ("select x from t x", "read", "t", "* x"),
    ("select count(*) from t", "read", "t", ""),
    ("select sum(a) as total from t group by b order by total", "read", "t", "a b"),
    ("select 1 from t x where exists (select 1 from u where u.id = x.k)", "read", "t", "k"),
    ("select s.t.a from s.t, u", "read", "t", "a"),
    ("select 1 from t join u using (id)", "read", "u", "id"),
    ("insert into t (a, b) values (1, 2)", "insert", "t", "a b"),
    ("insert into t values (1, 2)", "insert", "t", "*"),
    ("update t set a = b + 1 where c = 1", "update", "t", "a b c"),
    ("update t set a = 1 returning d", "read", "t", "d"),
    ("delete from t where a = 1", "delete", "t", "a"),
    ("copy t (a, b) to stdout", "export", "t", "a b"),
    ("copy t to stdout", "export", "t", "*"),
    ("copy (select a from t) to stdout", "export", "t", "a"),
    ("copy t (a) from stdin", "import", "t", "a"),
    ("alter table t add column a int, drop column b, alter column c set not null", "ddl", "t", "a b c"),
    ("create index on t (a, lower(b))", "ddl", "t", "a"),
    ("grant select (a), update (b) on t to r", "privilege", "t", "a b"),
    ("comment on column t.a is ''", "ddl", "t", "a"),
]


@pytest.mark.parametrize(("sql", "verb", "relation", "expected"), COLUMNS)
def test_columns_are_those_named_for_the_relation(sql, verb, relation, expected):
    assert sorted(effect(sql, verb, relation).columns) == sorted(expected.split())


def test_written_columns_are_those_assigned():
    assert effect("update t set a = b, (c, d) = (1, 2) where e = 1", "update", "t").written == ("a", "c", "d")
    assert effect("select a from t", "read", "t").written == ()


def test_an_effect_is_named_once_per_relation_and_verb():
    found = analyse("select a from t union select b from t; select c from t")
    assert len(found.effects) == 1
    assert found.effects[0].columns == ("a", "b", "c")


def test_equal_statements_with_other_literals_have_one_fingerprint():
    first, second = analyse("select * from t where id = 1"), analyse("SELECT *  FROM t /* x */ WHERE id = 2")
    assert first.fingerprint == second.fingerprint != analyse("select * from u where id = 1").fingerprint
    assert analyse("no SQL").fingerprint is None


REDACTED = [
    ("select * from t where name = 'Dana' and id = 4711", "select * from t where name = ? and id = ?"),
    ("select 'a''b', E'\\'', $$c$$, $x$d$x$, U&'e', B'1', X'f', 1.5, -2e9",
     "select ?, ?, ?, ?, ?, ?, ?, ?, -?"),
    ("select 1 -- Dana\n  from   \"Größe\" /* Dana /* x */ */ where a = $1", 'select ? from "Größe" where a = $1'),
    ("/* Dana */ select 'ü' from t", "select ? from t"),
    ("create role r password 'secret'", "create role r password ?"),
    ("do $$ begin delete from t where name = 'Dana'; end $$", "do ?"),
    ("select 'Dana", "<unparsed statement, 12 bytes>"),
    ("selec 'ü'", "<unparsed statement, 10 bytes>"),
    ("", ""),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "expected"), REDACTED)
def test_the_redacted_form_holds_no_literal_and_no_comment(sql, expected):
    assert analyse(sql).redacted == expected


PIECES = st.sampled_from(
    ["select ", "a", "b1", " ", "\n", "5", "5.5", ".5", "5.", "1e5", "0x1F", "1_0", "$1", "$a$x$a$", "'a'", "'it''s'", "''", "E'a'",
     "n'x'", "U&'a'", '"q"', "--c\n", "/*c*/", "/*", "*/", "?", "@>", "::int", "(", ",", "'ä'", "ä", "\\", "'a'\n'b'", "-", "'--'", "'5'"]
)  # fmt: skip


@settings(max_examples=1500)
@given(st.lists(PIECES, min_size=1, max_size=8).map("".join))
def test_what_is_redacted_without_the_lexer_is_what_the_lexer_says(text):
    try:
        expected = parser._redacted_by_token(text, text.encode())
    except parser.postgast.PgQueryError:
        return
    assert parser._redacted_plainly(text) in (None, expected)


MESSAGES = [
    ("select pg_logical_emit_message(true, 'touchstone', '{\"v\":1}')", (), '{"v":1}'),
    ("select pg_catalog.pg_logical_emit_message(false, 'touchstone', $1)", ("body",), "body"),
    ("select pg_logical_emit_message(true, $1::text, $2::text)", ("touchstone", "body"), "body"),
    ("begin; select pg_logical_emit_message(true, 'touchstone', 'x'); update t set a = 1", (), "x"),
    ("select pg_logical_emit_message(true, 'other', 'x')", (), None),
    ("select pg_logical_emit_message(true, 'touchstone', 'a' || 'b')", (), None),
    ("select mine.pg_logical_emit_message(true, 'touchstone', 'x')", (), None),
]


@pytest.mark.parametrize(("sql", "parameters", "expected"), MESSAGES)
def test_the_context_message_is_read_from_the_call_that_emits_it(sql, parameters, expected):
    found = analyse(sql, parameters)
    assert found.emitted_message == expected
    assert "pg_logical_emit_message" in found.calls
    assert found.opaque == ("mine." in sql)


def test_a_change_of_role_is_named():
    assert analyse("set role bob").role_set == "bob"
    assert analyse("set local session authorization 'bob'").role_set == "bob"
    assert analyse("reset role").role_set == "none"
    assert analyse("set search_path = bob").role_set is None


def test_execute_is_understood_where_the_session_prepared_it():
    prepared = {}
    assert analyse_in_session("prepare p (int) as delete from t where id = $1", prepared).effects == ()
    found = analyse_in_session("execute p(4711)", prepared)
    assert [(e.verb, e.relation, e.keys) for e in found.effects] == [("delete", "t", ((("id", "4711"),),))]
    assert not found.opaque
    assert analyse_in_session("execute q", prepared).opaque
    assert analyse("execute p(4711)").opaque


def test_a_prepared_statement_that_executes_itself_is_opaque_and_ends():
    prepared = {}
    analyse_in_session("prepare p as create table x as execute p", prepared)
    assert analyse_in_session("execute p", prepared).opaque


def test_another_dialect_is_opaque():
    assert analyse("select 1", dialect="mysql").opaque


CRASH_SHAPES = {
    "operators": "select 1" + "+1" * 32764,
    "casts": "select 1" + "::int" * 13105,
    "arrows": "select a" + "->1" * 21842,
    "joins": "select 1 from a" + " join b on 1=1" * 4680,
    "unions": "select 1" + " union select 1" * 4368,
}


@pytest.mark.parametrize("shape", CRASH_SHAPES)
def test_text_that_overflows_an_ordinary_stack_is_survived(shape):
    sql = CRASH_SHAPES[shape]
    assert KIB_64 - 16 <= len(sql) <= KIB_64
    assert analyse(sql).opaque


DENSE = (
    "select |(|1|)",
    "select |(||",
    "select |- |1|",
    "select |not |true|",
    "select |(select |1|)",
    "select 1|+1||",
    "select |case when 1=1 then |1| end",
    "select |array[|1|]",
    "select |[||",
    "select 1| union select 1||",
    "select 1|::int||",
    "select a|[1]||",
    "select |a and |a|",
    "select |f(||)",
    "select |row(||)",
    "select * from |(|a| join a on true)",
    "select |~|1|",
    "select a| isnull||",
    "select b|.c||",
    "with a as |(|select 1|)",
    "select 1 where a|=(1||",
    "select |{||",
    "|(|select 1|)",
)
"""Before, what is repeated, between, what is repeated behind: what nests most densely."""


@pytest.mark.slow
def test_a_short_text_needs_little_stack_whatever_it_says():
    """In a process of its own: what overflows a stack ends it."""
    code = (
        "import sys, threading\nfrom lineage.statements import parser\nthreading.stack_size(512 * 1024)\n"
        "def parse(text):\n    try:\n        parser._parse(text)\n    except Exception:\n        pass\n"
        "for text in sys.stdin.read().splitlines():\n"
        "    thread = threading.Thread(target=parse, args=(text,))\n    thread.start()\n    thread.join()\n"
    )
    texts = []
    for shape in DENSE:
        before, opened, between, closed = shape.split("|")
        times = (SHORT - len(before) - len(between)) // len(opened + closed)
        texts.append(before + opened * times + between + closed * times)
    done = subprocess.run(
        [sys.executable, "-c", code], input="\n".join(texts), text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("sql", "relations"),
    [
        ("select * from t where " + " || ".join(["a"] * 200) + " = 'x'", {"t"}),
        ("select * from a" + "".join(f" join t{n} on true" for n in range(90)), {"a", *(f"t{n}" for n in range(90))}),
        (" union all ".join(f"select * from t{n}" for n in range(120)), {f"t{n}" for n in range(120)}),
        ("select * from t where " + " and ".join(["a = 1"] * 3000), {"t"}),
        ("select (" * 40 + "select 1 from t" + ")" * 40, {"t"}),
    ],
    ids=["operators", "joins", "unions", "conditions", "subselects"],
)
def test_deep_but_honest_statements_are_understood(sql, relations):
    found = analyse(sql)
    assert not found.opaque, found.reason
    assert {e.relation for e in found.effects} == relations


MANY = ",".join(map(str, range(1000)))
HEAVY = {
    "many columns beside many values": f"a in ({MANY}) and " + " and ".join(f"c{n}=1" for n in range(4800)),
    "products of products": " or ".join(
        ["(a in (1,2,3,4,5,6,7,8,9) and b in (1,2,3,4,5,6,7,8,9) and c in (1,2,3))"] * 800
    ),
    "many alternatives": " or ".join(f"a={n}" for n in range(6000)),
    "the same column again": f"a in ({MANY})" + " and a=1" * 7000,
    "nested": "(" * 100 + "a=1" + " and b=2) or (c=3 and a=4)" * 100,
}


@pytest.mark.parametrize("shape", HEAVY)
@pytest.mark.timeout(20)
def test_conditions_with_many_combinations_take_seconds_at_most(shape):
    sql = f"select * from t where {HEAVY[shape]}"
    found = analyse(sql)
    assert not found.opaque, found.reason
    assert sum(len(key) for e in found.effects for key in e.keys or ()) <= 32 * MOST_KEYS


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=200), st.lists(st.one_of(st.none(), st.text(max_size=20)), max_size=3))
@example("\ud800", [])
@example("select $1 from t where id = $1", ["\ud800"])
@example("select * from t where id = '1e999999'", [])
@example("select * from t where id = 'NaN' and x = '٣'", [])
@example("select * from t where id = any($1)", ["{{{,"])
def test_no_text_raises(sql, parameters):
    analyse(sql, parameters)


PIECES = st.sampled_from(
    "select insert into update delete from where and or not in = any ( ) [ ] , . ; * values set join left on using with as "
    "recursive returning merge when matched then copy to stdin explain analyze grant drop table create view index t u a.b "
    "$1 1 -1 '04711' '{1,2}' null array row exists union case end :: int f $$x$$ /* */ -- alter role execute".split()
)


@settings(deadline=None, max_examples=500)
@given(st.lists(PIECES, max_size=25).map(" ".join), st.lists(st.one_of(st.none(), st.text(max_size=9)), max_size=2))
def test_no_text_of_sql_words_raises_and_keys_always_share_columns(sql, parameters):
    found = analyse(sql, parameters)
    assert found.opaque == bool(found.reason)
    for one in found.effects:
        assert len({tuple(sorted(column for column, _ in key)) for key in one.keys or ()}) <= 1


VALID = st.sampled_from([sql for sql, _ in EFFECTS])


@settings(deadline=None, max_examples=300)
@given(VALID, st.integers(0, 200), st.integers(0, 20), st.text(max_size=3))
def test_no_damaged_statement_raises(sql, at, length, instead):
    analyse(sql[:at] + instead + sql[at + length :])


def test_numbers_are_also_named_as_a_column_would_show_them():
    assert spellings("4711") == ("4711",)
    assert spellings("007") == ("007", "7")
    assert spellings("-0") == ("-0", "0")
    assert spellings("12.50") == ("12.50", "12.5")
    assert spellings("abc") == ("abc",)
    assert spellings("1e999999") == ("1e999999",)
    assert spellings("infinity") == ("infinity",)


def test_many_threads_get_the_same_answers_as_one():
    texts = [f"select * from t{n} where id = {n}" for n in range(200)]
    wrong = []

    def work() -> None:
        wrong.extend(text for n, text in enumerate(texts) if analyse(text).effects[0].keys != ((("id", str(n)),),))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_other_threads_keep_their_ordinary_stack():
    analyse("select 1")
    assert threading.stack_size() == 0


def test_a_forked_child_parses_too():
    analyse("select 1")
    child = os.fork()
    if child == 0:
        os._exit(0 if told(analyse("select * from forked")) == {"read forked"} else 1)
    for _ in range(200):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        time.sleep(0.05)
    os.kill(child, 9)
    pytest.fail("the forked child did not answer within 10 s")


def test_the_cache_stays_within_its_bytes_and_forgets_the_longest_unused():
    cache: Cache[str] = Cache(limit_bytes=160, at_once=True)
    for name in ("a", "b", *(f"n{n}" for n in range(14))):
        cache.put(name, name, 10)
    assert cache.get("a") == "a"
    cache.put("z", "z", 10)
    assert (cache.get("a"), cache.get("b"), cache.get("z")) == ("a", None, "z")
    cache.put("big", "big", 11)
    assert cache.get("big") is None


def test_the_cache_keeps_what_comes_again_and_nothing_after_it_was_cleared():
    cache: Cache[str] = Cache(limit_bytes=160)
    cache.put("a", "a", 10)
    assert cache.get("a") is None
    cache.put("a", "a", 10)
    assert cache.get("a") == "a"
    cache.clear()
    cache.put("a", "a", 10)
    assert cache.get("a") is None
