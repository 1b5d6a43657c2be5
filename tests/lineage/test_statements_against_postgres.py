"""The second judge of the SQL analysis is the database: each statement runs, and PostgreSQL says what it touched.

pgAudit names the relations and how they were accessed; logical decoding (wal2json) names every row that changed.
"""

from __future__ import annotations

import contextlib
import csv
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import psycopg
import pytest

from demo.monitored import Monitored
from lineage.statements import Statement, analyse

pytestmark = pytest.mark.slow

SLOT = "judge"
WRITES = ("insert", "update", "delete", "truncate")
SCHEMA = """
drop schema if exists public, s cascade; create schema public; create schema s;
create table customers (id int primary key, name text, up int);
create table orders (id int primary key, customer_id int, amount numeric, note text);
create table s.items (order_id int, line int, sku text, primary key (order_id, line));
create table codes (code text primary key, n int);
create table "Odd Name" ("Id" int primary key, "a b" text);
create table parted (id int primary key, n int) partition by range (id);
create table parted_low partition of parted for values from (0) to (100);
create table addresses (id int primary key, customer_id int references customers on delete cascade);
create view named as select id, name from customers;
create materialized view totals as select customer_id, sum(amount) from orders group by 1;
create sequence seq;
create function touch_orders() returns int language sql as 'update orders set note = ''f'' where id = 1 returning 1';
create procedure clear_codes() language sql as 'delete from codes';
insert into customers select n, 'c' || n, n - 1 from generate_series(1, 20) n;
insert into orders select n, n % 20 + 1, n * 1.5, null from generate_series(1, 40) n;
insert into s.items select n, 1, 'sku' from generate_series(1, 20) n;
insert into codes select '0' || n, n from generate_series(1, 20) n;
insert into "Odd Name" values (1, 'x'), (2, 'y');
insert into parted values (1, 1), (2, 2);
insert into addresses values (1, 8);
"""


@dataclass(frozen=True)
class Verdict:
    """What the database says: `access` as pgAudit's (verb, schema.relation), `changes` as (verb, schema.relation, key)."""

    access: set[tuple[str, str]]
    classes: set[str]
    changes: list[tuple[str, str, dict[str, str]]]


class Judge:
    """Runs statements, one connection each, on a schema that is made anew after each change."""

    def __init__(self, monitored: Monitored, database: str) -> None:
        self.monitored = monitored
        self.database = database
        self.admin = monitored.connect(database)
        self.admin.execute("set pgaudit.log = 'none'; set client_min_messages = 'error'")
        self.admin.execute("create schema audit; create extension pgaudit schema audit")
        # Newer minor releases refuse output plugins that are not listed.
        with contextlib.suppress(psycopg.errors.UndefinedObject):
            self.admin.execute("alter system set output_plugin_libraries = 'wal2json'")
            self.admin.execute("select pg_reload_conf()")
            self._until(lambda: self.admin.execute("show output_plugin_libraries").fetchone() == ("wal2json",))
        self.admin.execute("select pg_create_logical_replication_slot(%s, 'wal2json')", (SLOT,))
        self.fresh = False
        self.read_to: dict[str, int] = {}

    def close(self) -> None:
        self.admin.execute("select pg_drop_replication_slot(%s)", (SLOT,))
        with contextlib.suppress(psycopg.errors.UndefinedObject):
            self.admin.execute("alter system reset output_plugin_libraries")
            self.admin.execute("select pg_reload_conf()")
        self.admin.close()

    def run(self, sql: str, parameters: tuple[str, ...], name: str, *, changes: bool) -> Verdict:
        if not self.fresh:
            self.admin.execute(SCHEMA.encode())
            self._decoded()
        self.fresh = not changes
        self._new_lines("")
        dsn = psycopg.conninfo.make_conninfo(self.monitored.dsn(dbname=self.database), application_name=name)
        with psycopg.connect(dsn) as connection:
            if sql.lower().endswith(("stdin", "stdout")):
                with connection.cursor().copy(sql.encode()) as copy:
                    if sql.lower().endswith("stdin"):
                        copy.write_row((900,))
                    else:
                        list(copy)
            else:
                psycopg.RawCursor(connection).execute(sql.encode(), parameters or None)
            connection.commit()
            connection.execute("select 'end of case'")
        lines = self._audited(name)
        access = {found for line in lines if (found := _access(line)) is not None}
        return Verdict(access, {line[3] for line in lines}, self._decoded())

    def _until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not holds():
            assert time.monotonic() < deadline, "the database did not get there within 20 s"
            time.sleep(0.02)

    def _decoded(self) -> list[tuple[str, str, dict[str, str]]]:
        options = "'format-version', '2', 'include-pk', 'true', 'include-transaction', 'false'"
        rows = self.admin.execute(f"select data from pg_logical_slot_get_changes(%s, null, null, {options})", (SLOT,))
        return [_change(json.loads(data)) for (data,) in rows]

    def _new_lines(self, name: str) -> list[str]:
        """The messages that were logged for one application name since the last call."""
        messages = []
        for path in sorted(self.monitored.log_dir.glob("*.json")):
            raw = path.read_bytes()
            start, end = self.read_to.get(path.name, 0), raw.rfind(b"\n") + 1
            self.read_to[path.name] = end
            lines = [json.loads(line) for line in raw[start:end].splitlines()]
            messages += [line["message"] for line in lines if line.get("application_name") == name]
        return messages

    def _audited(self, name: str) -> list[list[str]]:
        """The fields of the AUDIT lines of one connection, without what psycopg itself sends."""
        messages: list[str] = []

        def complete() -> bool:
            messages.extend(self._new_lines(name))
            return any("end of case" in message for message in messages)

        self._until(complete)
        audited = [message.removeprefix("AUDIT: ") for message in messages if message.startswith("AUDIT: ")]
        fields = [next(csv.reader([message])) for message in audited]
        return [f for f in fields if f[4] not in ("BEGIN", "COMMIT") and "end of case" not in f[7]]


def _change(row: dict[str, Any]) -> tuple[str, str, dict[str, str]]:
    verb = {"I": "insert", "U": "update", "D": "delete", "T": "truncate"}[row["action"]]
    columns = row.get("identity") or row.get("columns") or []
    primary = {column["name"] for column in row.get("pk", [])}
    key = {column["name"]: str(column["value"]) for column in columns if column["name"] in primary}
    return verb, f"{row['schema']}.{row['table']}", key


def _access(fields: list[str]) -> tuple[str, str] | None:
    """Verb and relation of one AUDIT line; None where it names no relation. MISC lines only name locks."""
    _, _, _, group, command, kind, name, *_ = fields
    if not name or group in ("MISC", "FUNCTION") or kind in ("FUNCTION", "SCHEMA", "TYPE"):
        return None
    verb = {"READ": "read", "DDL": "ddl", "ROLE": "privilege"}.get(group) or command.split()[0].lower()
    return verb, name.replace('"', "")


@pytest.fixture(scope="module")
def judge(monitored: Monitored) -> Iterator[Judge]:
    if not monitored.has_pgaudit:
        pytest.skip("needs Debian's PostgreSQL 15 with pgAudit and wal2json")
    with monitored.connect() as admin:
        admin.execute("create database judge")
    made = Judge(monitored, "judge")
    yield made
    made.close()
    with monitored.connect() as admin:
        admin.execute("drop database judge with (force)")


@dataclass(frozen=True)
class Case:
    """A statement; where database and analysis may differ, `why`, and exactly in what."""

    sql: str
    parameters: tuple[str, ...] = ()
    why: str = ""
    database_only: frozenset[tuple[str, str]] = frozenset()
    analysis_only: frozenset[tuple[str, str]] = frozenset()
    unchanged: frozenset[tuple[str, str]] = frozenset()
    changed_besides: frozenset[tuple[str, str]] = frozenset()


def explained(sql: str, why: str, **differences: str) -> Case:
    """A case with differences, each written as `verb schema.relation`, several separated by commas."""
    pairs = {
        name: frozenset((verb, relation) for verb, _, relation in (one.partition(" ") for one in text.split(", ")))
        for name, text in differences.items()
    }
    return Case(sql, why=why, **pairs)


AGREE = """
select * from customers where id = 7
select c.name, o.amount from customers c join orders o on o.customer_id = c.id where c.id = 7
select * from "Odd Name" where "Id" = 1
select * from s.items where (order_id, line) = (3, 1)
select name from customers union select note from orders
select * from customers where id in (select customer_id from orders where amount > 10)
select (select max(amount) from orders o where o.customer_id = c.id) from customers c
with recursive t as (select id, up from customers union all select c.id, c.up from customers c join t on t.up = c.id) table t
with customers as (select * from customers) select * from customers
select * from totals
select * from parted
select * from customers for update
table codes
insert into customers (id, name) values (101, 'x'), (102, 'y')
insert into customers values (103, 'z', null) returning *
insert into codes (code, n) select name, id from customers
insert into parted (id, n) values (3, 3)
insert into "Odd Name" ("Id") values (7)
update customers set name = 'x' where id = 7
update customers set name = 'x' where id in (1, 2, 3) returning id
update customers set name = 'x' where id = any('{4,5}')
update customers c set name = o.note from orders o where o.customer_id = c.id and c.id = 3
update s.items set sku = 'z' where (order_id, line) in ((1, 1), (2, 1))
update customers set name = 'x' where id = 4 or (id = 5 and up = 4)
update customers set name = 'x' where id = '007'
update customers set name = 'x' where id = 0.7e1
update codes set n = 0 where code = '07'
update customers set name = (select note from orders where id = 1) where id = 1
update parted set n = 9 where id = 1
update "Odd Name" set "a b" = 'q' where "Id" = 2
delete from orders using customers c where orders.customer_id = c.id and c.id = 7
delete from orders where customer_id in (select id from customers where name = 'c7') returning *
with gone as (delete from orders where id = 1 returning *) insert into codes (code, n) select 'gone', id from gone
with u as (update customers set name = 'u' where id = 2 returning id) select * from orders where customer_id in (select id from u)
with a as (insert into codes values ('new', 1) returning code), b as (delete from codes where code = '01') select * from a
merge into codes t using customers s on t.n = s.id and t.code = '07' when matched then update set n = 0
truncate orders, s.items
copy customers to stdout
copy s.items (order_id) to stdout
copy (select name from customers where id < 5) to stdout
copy (delete from orders where id = 2 returning *) to stdout
copy customers (id) from stdin
explain analyze delete from orders where id = 3
select * into copied from customers
create table copied as select id from orders where id = 1
create table copied (a int)
create view v as select * from customers
create materialized view m as select * from orders
create sequence q
alter table customers add column extra int
alter table customers owner to postgres
drop view named
comment on table customers is 'x'
grant select on customers to pg_monitor
grant select (name) on customers to pg_monitor
revoke all on customers from pg_monitor
alter default privileges grant select on tables to pg_monitor
lock table customers
declare c cursor with hold for select * from customers
select nextval('seq'), lower(name) from customers where id = 1
begin; update customers set name = 'one' where id = 1; delete from orders where id = 1; commit
set role pg_monitor
select * from generate_series(1, 3) g, customers c where c.id = g
drop sequence seq
prepare p as delete from orders where id = 1; execute p
prepare p (int) as update orders set note = 'p' where id = $1; execute p(3)
truncate codes
update customers set name = 'x' where id = 4700 - 4693
lock table only customers in share mode
select name from only customers c where exists (select from addresses a where a.customer_id = c.id)
insert into codes (code, n) select 'q' || id, id from customers where id in (1, 2) returning n
"""

BOUND = [
    Case("select * from customers where id = $1", ("7",)),
    Case("update customers set name = $2 where id = $1", ("7", "x")),
    Case("delete from codes where code = any($1)", ("{01,02}",)),
    Case("insert into codes (code, n) values ($1, $2)", ("bound", "4")),
]

DIFFER = [
    explained("select * from named", "a view reads its tables", database_only="read public.customers"),
    explained("select count(*) from pg_catalog.pg_class", "catalogs are not audited here",
              analysis_only="read pg_catalog.pg_class"),
    explained("insert into codes (code, n) values ('01', 5) on conflict (code) do update set n = excluded.n",
              "EXCLUDED counts as read; the conflict updates instead of inserting",
              database_only="read public.codes", analysis_only="update public.codes", unchanged="insert public.codes"),
    explained("insert into codes (code, n) values ('01', 5) on conflict do nothing", "nothing to insert",
              unchanged="insert public.codes"),
    explained("merge into codes t using (select * from customers where id < 30) s on t.n = s.id "
              "when matched and t.n = 3 then delete when not matched then insert (code, n) values ('m', 0)",
              "one access is named for a relation; every row matched",
              analysis_only="delete public.codes", unchanged="insert public.codes"),
    explained("explain select * from customers", "planning checks the permission and is audited",
              database_only="read public.customers"),
    explained("explain (analyze false) delete from orders", "planning checks the permission and is audited",
              database_only="delete public.orders"),
    explained("create index on customers (name)", "the index is named",
              database_only="ddl public.customers_name_idx", analysis_only="ddl public.customers"),
    explained("alter table customers rename to people", "the new name is named",
              database_only="ddl public.people", analysis_only="ddl public.customers"),
    explained("alter table customers rename column name to label", "the column is named",
              database_only="ddl public.customers.label", analysis_only="ddl public.customers"),
    explained("comment on column customers.name is 'x'", "the column is named",
              database_only="ddl public.customers.name", analysis_only="ddl public.customers"),
    explained("drop table s.items", "what belongs to the table goes with it",
              database_only="ddl s.items_pkey, ddl items_pkey on s.items"),
    explained("refresh materialized view totals", "a view reads its tables", database_only="read public.orders"),
    explained("delete from customers where id = 8", "a foreign key deletes too",
              database_only="delete public.addresses", changed_besides="delete public.addresses"),
]  # fmt: skip

OPAQUE = [
    "select touch_orders()",
    "do $$ begin update orders set note = 'd' where id = 2; end $$",
    "call clear_codes()",
    "update orders set note = 'x' where touch_orders() = 0; insert into codes (code) select 'f' || touch_orders()",
]

CLASSES = {
    "read": "READ", "export": "READ", "insert": "WRITE", "update": "WRITE", "delete": "WRITE", "import": "WRITE",
    "truncate": "WRITE", "ddl": "DDL", "privilege": "ROLE",
}  # fmt: skip
AUDITED_AS = {"export": "read", "import": "insert"}
PARENTS = {"public.parted_low": "public.parted"}


def accesses(found: Statement) -> set[tuple[str, str]]:
    """Our effects as pgAudit words them. It names one access for a relation: RETURNING is part of the write."""
    ours = {
        (AUDITED_AS.get(e.verb, e.verb), f"{e.schema or 'public'}.{e.relation}") for e in found.effects if e.relation
    }
    written = {relation for verb, relation in ours if verb in WRITES}
    return {(verb, relation) for verb, relation in ours if verb != "read" or relation not in written}


def writes(found: Statement) -> set[tuple[str, str]]:
    return {(verb, relation) for verb, relation in accesses(found) if verb in WRITES}


@pytest.mark.parametrize(
    "case", [*(Case(sql) for sql in AGREE.strip().splitlines()), *BOUND, *DIFFER], ids=lambda case: case.sql[:60]
)
def test_the_database_names_the_same_relations_verbs_and_rows(judge, case):
    found = analyse(case.sql, case.parameters)
    assert not found.opaque
    changes = any(effect.verb not in ("read", "export") for effect in found.effects)
    verdict = judge.run(case.sql, case.parameters, f"case {abs(hash(case))}", changes=changes)
    ours = accesses(found)
    assert {CLASSES[verb] for verb, _ in ours - case.analysis_only} <= verdict.classes
    if verdict.access:  # TRUNCATE, GRANT, COPY of a table and DECLARE are audited without a relation
        assert verdict.access - ours == case.database_only, case.why
        assert ours - verdict.access == case.analysis_only, case.why
    created = {relation for verb, relation in ours if verb == "ddl"}
    changed = {(verb, PARENTS.get(relation, relation)) for verb, relation, _ in verdict.changes}
    assert {c for c in changed if c[1] not in created} == writes(found) - case.unchanged | case.changed_besides
    for verb, relation, key in verdict.changes:
        assert_key_is_covered(found, verb, PARENTS.get(relation, relation), key)


def assert_key_is_covered(found: Statement, verb: str, relation: str, changed: dict[str, str]) -> None:
    """Each changed row matches at least one of the keys that the analysis gave."""
    for effect in found.effects:
        same = (effect.verb, f"{effect.schema or 'public'}.{effect.relation}") == (verb, relation)
        if same and effect.keys is not None:
            assert any(all(changed.get(name, value) == value for name, value in key) for key in effect.keys)


@pytest.mark.parametrize("sql", OPAQUE)
def test_what_the_database_does_behind_the_text_is_opaque(judge, sql):
    found = analyse(sql)
    verdict = judge.run(sql, (), f"opaque {abs(hash(sql))}", changes=True)
    assert verdict.changes
    assert found.opaque
    assert found.op not in ("read", "other")


OPERANDS = {
    "id": ["1", "'1'", "'01'", "' 2 '", "2.0", "+3", "4e0", "null"],
    "a": ["'x'", "'y'", "' x'", "'1'", "'01'", "null"],
}


def condition(random: Random, depth: int) -> str:
    """A random condition over the columns id (integer) and a (text)."""
    kind = random.randrange(9) if depth else random.randrange(5)
    column = random.choice(["id", "a", "t.id", "t.a"])
    values = OPERANDS[column.removeprefix("t.")]
    one, other = random.choice(values), random.choice(values)
    simple = [
        f"{column} = {one}",
        f"{one} = {column}",
        f"{column} {random.choice(['in', 'not in'])} ({one}, {other})",
        f"{column} {random.choice(['<>', '<=', 'is not distinct from'])} {one}",
        f"(id, a) {random.choice(['=', '<>'])} ({random.choice(['1', '2'])}, {random.choice(OPERANDS['a'])})",
    ]
    if kind < len(simple):
        return simple[kind]
    if kind == 5:
        return f"not ({condition(random, depth - 1)})"
    joined = random.choice([" and ", " or "])
    return "(" + joined.join(condition(random, depth - 1) for _ in range(kind - 4)) + ")"


def test_every_row_that_a_random_condition_finds_matches_a_key(judge):
    random = Random(4711)
    rows = "(values (1, 'x'), (2, 'y'), (3, ' x'), (4, '1'), (5, '01'), (6, null), (1, 'y'), (2, '1')) v (id, a)"
    judge.admin.execute(f"create temporary table t as select * from {rows}".encode())
    fixed = 0
    for _ in range(1500):
        sql = f"select * from t where {condition(random, 3)}"
        keys = analyse(sql).effects[0].keys
        found = judge.admin.execute(sql.encode()).fetchall()
        if keys is None:
            continue
        fixed += 1
        for number, text in found:
            row = {"id": str(number), "a": text}
            assert any(all(row[name] == value for name, value in key) for key in keys), (sql, row, keys)
    judge.admin.execute("drop table t")
    assert fixed > 200
