"""Every form in which a masked value could reach a client, tried on a real PostgreSQL: docs/masking.md holds the table."""

from __future__ import annotations

import re
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from demo.monitored import Monitored
from enforcement.gateway.catalog import Catalog
from tests.enforcement.gateway.wire import Client, Wire, leaks, read_catalog

DOC = Path(__file__).parents[3] / "docs" / "masking.md"
EMAIL, NAME, PHONE = "zebulon.quagmire@marker-mail.example", "Zebulonquagmire", "+4915209876543"
CARD, BORN, HASH = "4111111111111111", "1983-07-19", "$2b$12$abcdefghijklmnopqrstuv0123456789ABCDEFGHIJKLMNOPQRSTU"
MARKERS = (EMAIL, NAME, PHONE, BORN, HASH)
EVERY = frozenset({"*"})

SCHEMA = f"""
create table customers (id int primary key, first_name text, email text, phone varchar(30), card_number text, born date,
  birth_date date check (birth_date > '1900-01-01'), password_hash text, emails text[], extra jsonb, doc json, notes text,
  country text, balance numeric check (balance >= 0), constraint customers_email unique (email) deferrable);
insert into customers values (7, '{NAME}', '{EMAIL}', '{PHONE}', '{CARD}', '{BORN}', '{BORN}', '{HASH}', array['{EMAIL}'],
  '{{"first_name": "{NAME}", "contact": {{"email": "{EMAIL}", "n": 1.50}}, "list": ["{PHONE}"]}}',
  '{{"e": "{EMAIL}"}}', 'write to {EMAIL} or {PHONE}', 'DE', 12.5);
create table orders (id int primary key, customer_id int references customers, total numeric, note text);
insert into orders values (1, 7, 99.5, null), (2, 7, 0.5, 'for {EMAIL}');
create table numbers (i int);
insert into numbers select generate_series(1, 200);
create sequence ticks;
create table plain (a text, b int);
create view contacts as select customers.id, email as contact, upper(first_name) as shout, country, total
  from customers join orders on customer_id = customers.id;
create type contact as (first_name text, email text, n int);
create type card_box as (c contact, label text);
create domain nick as text;
create table people (id int primary key, who contact, many contact[], box card_box, person customers, email nick, label text);
insert into people values (7, row('{NAME}', '{EMAIL}', 3), array[row('{NAME}', '{EMAIL}', 3)::contact],
  row(row('{NAME}', '{EMAIL}', 3)::contact, 'x'), null, '{EMAIL}', 'people of note');
update people set person = customers from customers;
create view totals as select country, count(*) as n from customers group by country;
create materialized view kept as select id, md5(email) as digest, country from customers;
create function raiser() returns trigger language plpgsql as
  $$ begin raise exception 'bad row of %', new.email using detail = new.email; end $$;
create constraint trigger later after insert on customers deferrable initially deferred for each row execute function raiser();
create trigger raises before update of country on customers for each row execute function raiser();
create function reader() returns text language sql as 'select email from customers limit 1';
create function fixed() returns text language plpgsql immutable as $$ begin return (select email from customers limit 1); end $$;
alter table numbers add column added text default 'of {NAME}';
analyze;
"""
# fmt: off
FORMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "the column itself, under any alias": ("by column", (
        "select email, first_name, phone, card_number, birth_date, password_hash from customers",
        "select c.email as id, c.first_name as country from customers c", "select * from customers",
        "table customers", "select t.* from (select email from customers) t",
        "with t as (select email as x from customers) select x from t")),
    "binary results": ("by column", ("select email, birth_date, emails, extra from customers",)),
    "views and materialized views": ("by column", (
        "select * from contacts", "select contact, shout from contacts", "select * from kept")),
    "RETURNING": ("by column", (
        "insert into customers (id, email) select 8, 'x@y.example' returning *",
        "update customers set balance = balance + 1 returning email, first_name",
        "with w as (update customers set balance = 2 returning email) select email, upper(email) from w")),
    "cursors": ("by column", (
        "begin; declare c cursor for select email, upper(email), first_name from customers; fetch all from c; rollback",
        "begin; declare c binary cursor for select email, birth_date from customers; fetch 1 from c; rollback")),
    "prepared statements": ("by column", (
        "prepare p as select email, upper(email) from customers; execute p; deallocate p",)),
    "casts": ("masked whole", (
        "select email::varchar(50), email::bytea, birth_date::text, email::name from customers",
        "select cast(first_name as char(20)), ('{' || email || '}')::text[] from customers")),
    "concatenation and text functions": ("masked whole", (
        "select email || '', 'x' || email, concat(email, 1), format('%s', email), substr(email, 1, 12) from customers",
        "select reverse(email), upper(email), left(email, 10), split_part(email, '@', 1), translate(email, 'z', 'Z') from customers",
        "select regexp_replace(email, 'x', ''), encode(email::bytea, 'hex'), encode(convert_to(email, 'UTF8'), 'base64'),"
        " quote_literal(email), overlay(email placing '' from 1 for 0), to_char(birth_date, 'YYYY-MM-DD') from customers")),
    "digests": ("masked whole", ("select md5(email), sha256(email::bytea), hashtext(email) from customers",)),
    "numbers made of it": ("masked whole", (
        "select length(email), ascii(email), extract(epoch from birth_date), email > 'm', email is null from customers",)),
    "CASE, COALESCE, NULLIF, GREATEST": ("masked whole", (
        "select case when true then email end, coalesce(email, ''), nullif(email, ''), greatest(email, '') from customers",)),
    "aggregates": ("masked whole", (
        "select max(email), min(first_name), string_agg(email, ','), array_agg(email), json_agg(email) from customers",
        "select mode() within group (order by email), percentile_disc(0.5) within group (order by email) from customers",
        "select bit_xor(ascii(email)), every(email > 'a') from customers")),
    "window functions": ("masked whole", (
        "select first_value(email) over (), lag(email, 0) over (order by id), string_agg(email, '') over () from customers",)),
    "whole rows": ("masked whole", (
        "select c from customers c", "select c::text from customers c", "select row(c.*) from customers c",
        "select (c.*)::text from customers c", "select array_agg(c) from customers c")),
    "JSON functions": ("masked whole", (
        "select row_to_json(c), to_jsonb(c), jsonb_agg(c) from customers c",
        "select json_build_object('a', email), jsonb_object_agg(id, first_name) from customers",
        "select key, value from customers c, jsonb_each_text(to_jsonb(c))",
        "select x.* from customers c, jsonb_to_record(to_jsonb(c)) as x(email text, first_name text)")),
    "columns that hold rows, and arrays and domains of them": ("masked whole", (
        "select who, many, box, person, email from people", "select (who).first_name, (who).email, (who).n from people",
        "select (who).* from people", "select ((box).c).first_name, (person).first_name, (many[1]).first_name from people",
        "select u.first_name from people, unnest(many) u", "select to_jsonb(p) from people p", "select who::text from people",
        "select box::text, many::text, left((person).first_name, 20) from people",
        "copy people to stdout", "copy (select who, (who).first_name from people) to stdout", "select (who).first_name::int from people")),
    "arrays": ("masked whole", (
        "select array[email], array(select email from customers), emails from customers",
        "select unnest(array[email, first_name]) from customers", "select unnest(emails) from customers",
        "select u from customers, unnest(array[email]) u", "select emails[1] from customers")),
    "XML": ("masked whole", (
        "select xmlelement(name a, email), xmlforest(email), xmlagg(xmlelement(name b, first_name)) from customers group by email",)),
    "text search": ("masked whole", (
        "select to_tsvector(email), to_tsvector('simple', first_name), ts_headline(email, 'x'::tsquery) from customers",
        "select to_tsvector('simple', notes) from customers")),
    "subqueries and CTEs": ("masked whole", (
        "select (select email || '' from customers limit 1)", "select array(select upper(email) from customers)",
        "select x || '' from (select email as x from customers) t",
        "select 1, (table t) from (select 1) s, lateral (select email from customers) t",
        "with recursive t(s, n) as (select email, 1 from customers union all select substr(s, 2), n + 1 from t where n < 5)"
        " select s || '' from t",
        "select v from (values ((select email from customers limit 1))) t(v)")),
    "set operations": ("masked whole", (
        "select email from customers union all select 'a'", "select country from customers union select email from customers",
        "select note from orders union all select email from customers", "select 'x' except select email from customers")),
    "letter by letter through other tables and series": ("masked whole", (
        "select chr(i) from generate_series(32, 126) i, customers where i = ascii(substr(email, 1, 1))",
        "select i from numbers, customers where id = 7 and i = ascii(substr(email, 2, 1))",
        "select string_agg(chr(i), '' order by n) from customers, generate_series(1, 40) n, generate_series(32, 126) i"
        " where i = ascii(substr(email, n, 1))",
        "select string_agg(l, '' order by n) from generate_series(1, 40) n, lateral (select chr(i) l from numbers, customers"
        " where i = ascii(substr(email, n, 1))) x",
        "select string_agg(chr((select count(*) from numbers, customers where i <= ascii(substr(email, n, 1)))::int), '')"
        " from generate_series(1, 40) n",
        "select string_agg(coalesce((select 'z' from customers where substr(email, n, 1) = 'z'), '?'), '') from generate_series(1, 9) n",
        "select chr(97 * count(nullif(substr(email, 1, 1) = 'a', false))::int"
        " + 122 * count(nullif(substr(email, 1, 1) = 'z', false))::int) from customers",
        "select string_agg(chr(k), '' order by n) from (select n, count(*)::int k from customers, generate_series(1, 40) n,"
        " generate_series(1, ascii(substr(email, n, 1))) g group by n) t",
        "select n, chr(count(*)::int) from customers, generate_series(1, 40) n, lateral (select from numbers"
        " where i <= ascii(substr(email, n, 1))) g group by n order by n",
        "select i from numbers tablesample bernoulli (50) repeatable ((select ascii(email) from customers limit 1))",
        "select i from numbers tablesample system ((select ascii(email) from customers limit 1))",
        "select i from numbers order by abs(i - (select ascii(email) from customers limit 1)) limit 1",
        "select i from numbers offset (select ascii(email) - 1 from customers limit 1) limit 1")),
    "functions that run SQL or read files": ("masked whole", (
        "select query_to_xml('select * from customers', true, true, '')", "select table_to_xml('customers', true, true, '')",
        "select schema_to_xml('public', true, true, '')", "select database_to_xml(true, true, '')",
        "select query_to_xml_and_xmlschema('select email from customers', true, true, '')",
        "begin; declare c cursor for select * from customers; select cursor_to_xml('c', 9, true, true, ''); rollback",
        "select * from ts_stat('select to_tsvector(''simple'', email) from customers')",
        "select convert_from(pg_read_binary_file(pg_relation_filepath('customers')), 'LATIN1')")),
    "texts of others' statements": ("masked whole", (
        "select * from pg_stat_activity", "select query from pg_stat_activity", "select upper(query), md5(query) from pg_stat_activity",
        "select query::int from pg_stat_activity where query like '%marker%'", "copy (select query from pg_stat_activity) to stdout")),
    "functions that tell the texts of others' statements": ("refused", (
        "select * from pg_stat_get_activity(null)",
        "select pg_stat_get_backend_activity(i) from pg_stat_get_backend_idset() i")),
    "defaults of the past": ("masked whole", ("select attmissingval from pg_attribute where attmissingval is not null",)),
    "functions of your own": ("masked whole", ("select reader()", "select * from reader()", "select id, reader() from orders")),
    "documents, by key and by value": ("by value", (
        "select extra, doc from customers", "select extra -> 'contact', extra ->> 'first_name', extra #>> '{contact,email}' from customers",
        "select jsonb_path_query(extra, '$.contact.email') from customers", "select jsonb_pretty(extra) from customers",
        "select value as email from customers, jsonb_each_text(extra -> 'contact')")),
    "text that people write": ("by value", (
        "select notes from customers", "select note from orders", "select note || '!' from orders", "copy orders to stdout")),
    "COPY of a table, text, CSV and binary": ("by column", (
        "copy customers to stdout", "copy customers (email, first_name, id) to stdout with (delimiter '|', null 'nil')",
        "copy customers to stdout with (format csv, header, quote '''', escape '\\', force_quote *)",
        "copy customers to stdout with (format binary)")),
    "COPY of a query": ("by column", (
        "copy (select * from customers) to stdout", "copy (select upper(email), id from customers) to stdout csv header",
        "copy (select c from customers c) to stdout", "copy (select email, birth_date, id from customers) to stdout (format binary)")),
    "error texts": ("masked whole", (
        "select email::int from customers", "select 1 / (length(email) - length(email)) from customers",
        "select first_name::date from customers", "select ('[' || email)::json from customers",
        "select id from customers where email::numeric > 1", "select to_date(email, 'YYYY') from customers",
        "select id from orders where note::int = 1")),
    "details of violated constraints": ("masked whole", (
        "insert into customers (id, first_name) select 7, first_name from customers", "update customers set balance = -1 where id = 7",
        "insert into customers (id, email) select 70 + id, email from customers",
        "begin; set constraints all deferred; insert into customers (id, email) select 90, email from customers; commit",
        "insert into customers (id) values (7)")),
    "what triggers raise": ("masked whole", ("update customers set country = 'FR' where id = 7",
        f"insert into customers (id, email, first_name) values (9, '{EMAIL[:5]}', 'x'); set constraints all immediate",
        "begin; insert into customers (id, email) select 9, 'x' || email from customers; commit")),
    "EXPLAIN": ("by value", (
        "explain (verbose) select upper(email) from customers", "explain analyze select email from customers where email > 'a'",
        "explain (analyze, verbose, format json) select max(email) from customers", "explain select fixed()",
        "explain verbose select * from orders where note = fixed()")),
    "statistics": ("refused", (
        "select * from pg_stats where tablename = 'customers'", "select most_common_vals::text from pg_stats",
        "select * from pg_statistic", "select * from pg_stats_ext", "select * from pg_statistic_ext_data",
        "select s.histogram_bounds from pg_catalog.pg_stats s")),
    "copies into other columns": ("refused", (
        "insert into plain select email from customers", "update plain set a = email from customers",
        "insert into plain (b) select ascii(email) from customers", "create table t as select email as x from customers",
        "select first_name as x into t from customers", "create temp table t as select * from customers",
        "create view w as select email as x from customers", "create materialized view w as select upper(email) as x from customers",
        "with w as (insert into plain select email from customers returning a) select a from w",
        "insert into orders select 5, 7, 0, (select email from customers limit 1)",
        "update orders set note = (select string_agg(email, '') from customers)",
        "delete from numbers using customers where i <> ascii(substr(email, 1, 1))",
        "merge into plain p using customers c on p.b = c.id when not matched then insert values (c.email, 1)")),
    "session settings, notifications, sequences, locks, large objects": ("refused", (
        "select set_config('touch.x', email, false) from customers", "select pg_notify('c', email) from customers",
        "select setseed(ascii(email) / 200.0) from customers",
        "select nextval('ticks') from customers, numbers where i <= ascii(email)",
        "select pg_advisory_lock(ascii(email)) from customers", "listen c",
        "select lo_from_bytea(0, email::bytea) from customers", "select lo_create(ascii(email)) from customers",
        "select pg_create_restore_point(email) from customers", "select pg_replication_origin_create(email) from customers")),
    "new names for protected columns": ("refused", (
        "alter table customers rename column email to x", "alter table customers rename to x",
        "alter table customers add column x text generated always as (email || '') stored")),
    "files and programs of the server": ("refused", ("copy customers to '/tmp/x'",)),
    "counts": ("passes", ("select count(*), count(email), count(distinct email) from customers",)),
    "literals and unprotected columns": ("passes", ("select 1, 'DE', country || '!', balance * 2, id + 0 from customers",)),
    "WHERE and ORDER BY only": ("passes", (
        "select id, country from customers where email like 'z%' order by email",
        "select country, count(*) from customers where first_name > 'A' group by country",
        "select total from orders where customer_id in (select id from customers where email like 'z%')")),
}
# fmt: on
EXPECTED = {
    "counts": [b"1"],
    "literals and unprotected columns": [b"DE", b"DE!", b"25.0"],
    "WHERE and ORDER BY only": [b"DE", b"99.5"],
}  # fmt: skip


@pytest.fixture(scope="module")
def shop(monitored: Monitored) -> Iterator[tuple[str, Catalog]]:
    """A database with people in it: its address and its catalog."""
    name = f"masked{secrets.token_hex(4)}"
    with monitored.connect() as admin:
        admin.execute(f'create database "{name}"')  # type: ignore[arg-type]
        with psycopg.connect(monitored.dsn(dbname=name), autocommit=True) as db:
            db.execute(SCHEMA)  # type: ignore[arg-type]
        dsn = monitored.dsn(dbname=name)
        # What another session said last stands in pg_stat_activity.
        admin.execute(f"select 1 /* of {NAME} {EMAIL} {BORN} */")
        yield dsn, read_catalog(dsn)
        admin.execute(f'drop database "{name}" with (force)')  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def wire(shop: tuple[str, Catalog]) -> Iterator[Wire]:
    made = Wire(shop[0])
    yield made
    made.close()


def test_letters_are_not_put_together_from_rows_either(wire: Wire, shop: tuple[str, Catalog]) -> None:
    """Each row is one letter at most, so the whole answer is looked at with all but printable letters left out."""
    for sql in FORMS["letter by letter through other tables and series"][1]:
        letters = re.sub(rb"[^a-z@.-]", b"", asked(wire, shop[1], sql))
        assert EMAIL[:4].encode() not in letters, sql


def asked(wire: Wire, known: Catalog, sql: str, binary: bool = False) -> bytes:
    """What a client for whom everything is masked gets; nothing stays of what the statement changed."""
    wire.answers("rollback; begin; savepoint s")
    seen = Client(wire, known, EVERY).ask(sql, binary)
    wire.answers("rollback; deallocate all")
    return seen


@pytest.mark.parametrize("form", FORMS)
def test_no_form_shows_a_masked_value(form: str, wire: Wire, shop: tuple[str, Catalog]) -> None:
    verdict, texts = FORMS[form]
    for sql in texts:
        for binary in (False, True):
            if binary and ";" in sql:
                continue
            seen = asked(wire, shop[1], sql, binary)
            assert leaks(seen, MARKERS) == [], (sql, binary, seen)
            assert seen.startswith(b"REFUSED") == (verdict == "refused"), (sql, seen)
            assert b"syntax error" not in seen, (sql, seen)


def test_the_table_in_the_documentation_is_what_is_tried() -> None:
    rows = re.findall(r"^\| ([^|]+?) \| (by column|by value|masked whole|refused|passes) \|", DOC.read_text(), re.M)
    assert dict(rows) == {form: verdict for form, (verdict, _) in FORMS.items()}


@pytest.mark.parametrize("form", EXPECTED)
def test_what_holds_nothing_protected_is_shown(form: str, wire: Wire, shop: tuple[str, Catalog]) -> None:
    seen = b"".join(asked(wire, shop[1], sql) for sql in FORMS[form][1])
    assert [part for part in EXPECTED[form] if part not in seen] == []
    assert "••••".encode() not in seen


def test_without_masking_everything_shows(wire: Wire, shop: tuple[str, Catalog]) -> None:
    """The traces that the other tests look for are found where they are."""
    seen = Client(wire, shop[1], frozenset()).ask(
        "select email, first_name, phone, birth_date, password_hash from customers"
    )
    assert all(marker.encode() in seen for marker in MARKERS)
    for sql in ("select reverse(email), md5(email) from customers", "select email, email from customers"):
        assert leaks(Client(wire, shop[1], frozenset()).ask(sql), [EMAIL])


def test_masked_text_keeps_its_kind(wire: Wire, shop: tuple[str, Catalog]) -> None:
    seen = asked(wire, shop[1], "select email, phone, card_number, first_name, birth_date, id from customers")
    for shown in ("z***@***.example", "•••• 43", "•••• 1111"):
        assert shown.encode() in seen
    assert b"\xff\xff\xff\xff" in seen
    assert b"\0\0\0\x017" in seen


def test_other_bytes_of_a_document_stay(wire: Wire, shop: tuple[str, Catalog]) -> None:
    seen = asked(wire, shop[1], "select extra from customers")
    assert b'"contact": {"n": 1.50, "email": "z***@***.example"}' in seen
    assert '"first_name": "••••"'.encode() in seen


COLUMNS = st.sampled_from(["email", "first_name", "phone", "birth_date::text", "notes", "country", "'x'", "id::text"])
TREES = st.recursive(
    COLUMNS,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["upper({})", "reverse({})", "({} || '')", "md5({})", "concat({}, '-')", "left({}, 20)",
            "coalesce({}, '')", "encode({}::bytea, 'hex')", "to_json({})::text", "(array[{}])[1]", "substr({}, 1, 15)",
            "(select {})", "case when true then {} end", "nullif({}, '')", "replace({}, 'x', '')", "max({}) over ()",
            "(select string_agg(s, '') from unnest(array[{}]) s)", "trim({})", "row({})::text", "quote_literal({})",
            "(select x.v from (select {} as v) x)"]), inner).map(lambda pair: pair[0].format(pair[1])),
        st.tuples(inner, inner).map(lambda pair: f"({pair[0]} || {pair[1]})"),
    ),
    max_leaves=6,
)  # fmt: skip
QUERIES = st.sampled_from([
    "select {} from customers", "select x.a || '' from (select {} as a from customers) x",
    "with t as (select {} as a from customers) select a, upper(a) from t", "select max({}) from customers",
    "select country, {} from customers order by 1", "copy (select {} from customers) to stdout",
    "select {} from customers union all select 'y'", "select (select {} from customers limit 1)",
    "update customers set balance = 3 returning {}", "select v from customers, lateral (select {} as v) l",
    "select json_agg(t) from (select {} from customers) t", "select ({})::int from customers",
])  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(QUERIES, TREES)
def test_no_expression_over_a_protected_column_shows_it(
    wire: Wire, shop: tuple[str, Catalog], query: str, tree: str
) -> None:
    seen = asked(wire, shop[1], query.format(tree))
    assert leaks(seen, MARKERS) == [], (query.format(tree), seen)


PSQL = [
    "\\d",
    "\\d customers",
    "\\d+ contacts",
    "\\dt+",
    "\\du",
    "\\l",
    "\\df",
    "\\dn+",
    "\\di",
    "\\dp",
    "\\dT",
    "\\sv totals",
]


@pytest.mark.parametrize("command", PSQL)
def test_psql_describes_a_database_to_somebody_masked(command: str, wire: Wire, shop: tuple[str, Catalog]) -> None:
    """What psql asks of the system catalogs holds no protected columns: nothing of it is masked or refused."""
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    told = subprocess.run(
        ["psql", "-X", "-E", "-d", shop[0], "-c", command], capture_output=True, text=True, env=environment, check=True
    )
    queries = re.findall(r"\*{9} QUERY \*{10}\n(.*?)\n\*{26}", told.stdout, re.S)
    assert queries
    for sql in queries:
        seen = asked(wire, shop[1], sql)
        assert not seen.startswith(b"REFUSED"), (sql, seen)
        assert "••••".encode() not in seen, (sql, seen)
