"""Labels of protected columns are followed through a statement, into every output that could tell them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lineage.statements import outputs
from lineage.statements.outputs import Labels

EMAIL, NOTHING = frozenset({"email"}), frozenset[str]()
TABLES: dict[str, list[tuple[str, Labels]]] = {
    "customers": [("id", NOTHING), ("email", EMAIL), ("country", NOTHING), ("extra", frozenset({outputs.DOCUMENT}))],
    "orders": [("id", NOTHING), ("customer_id", NOTHING), ("total", NOTHING)],
    "numbers": [("i", NOTHING)],
}


def table(schema: str | None, name: str) -> Sequence[tuple[str, Labels]] | None:
    return TABLES.get(name) if schema in (None, "public") else None


def told(sql: str) -> str:
    """One letter for each output: - nothing, e the address, d a document, ? unknown; * after it: any number of columns."""
    found = outputs.trace(sql, table)
    assert found is not None
    assert found.outputs is not None
    words = {
        NOTHING: "-",
        EMAIL: "e",
        frozenset({"document"}): "d",
        frozenset({"unknown"}): "?",
        frozenset({"document", "document part"}): "p",
    }
    return " ".join(words.get(o.labels, "+") + ("*" if o.is_open else "") for o in found.outputs)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select id, email, country from customers", "- e -"),
        ("select * from customers", "- e - d"),
        ("select c.*, o.* from customers c join orders o on o.customer_id = c.id", "- e - d - - -"),
        ("select lower(email), email || 'x', email is null, country || id from customers", "e e e -"),
        ("select c from customers c", "+"),
        ("select c::text, row_to_json(c), (c).email from customers c", "+ + +"),
        ("select c.email_shown from customers c", "+"),
        ("select count(*), count(email), max(id), max(email) from customers", "- - - e"),
        ("select country, count(*) from customers where email like 'a%' group by country order by 2", "- -"),
        ("select id, country || '!' from customers where email = 'a' order by email limit 3", "- -"),
        ("select x.a || '' from (select email as a from customers) x", "e"),
        ("select x.b from (select email, country from customers) x(a, b)", "-"),
        ("with t as (select country, count(*) as n from customers group by 1) select * from t", "- -"),
        ("with t(a) as (select email from customers) select a, 1 from t", "e -"),
        ("with customers as (select 1 as email) select email from customers", "-"),
        ("with customers as (select email as a from customers) select upper(a) from customers", "e"),
        ("select id from orders union select length(email) from customers", "e"),
        ("select total, (select email from customers c where c.id = o.customer_id) from orders o", "- e"),
        ("select array(select email from customers), exists(select 1 from customers)", "e -"),
        ("select coalesce((select 'a' from customers where email like 'a%'), 'b')", "e"),
        ("select 'a' from customers where email like 'a%' union all select 'b'", "e"),
        ("select case when email > 'm' then 1 else 0 end from customers", "e"),
        ("select count(*) filter (where email like 'a%') from customers", "e"),
        ("select chr(97 * count(nullif(email > 'b', false))::int) from customers", "e"),
        ("select id, count(*) from customers, generate_series(1, ascii(email)) group by id", "e e"),
        ("select n from customers, generate_series(1, 9) n, generate_series(1, ascii(substr(email, n, 1)))", "e"),
        ("select count(*) from customers, lateral (select 1 from numbers where i <= ascii(email)) g", "e"),
        ("with g as (select 1 from numbers, customers where i <= ascii(email)) select count(*) from g", "e"),
        ("select count(*) from customers, lateral (select 1 from numbers limit ascii(email)) g", "e"),
        ("select o.id from orders o, numbers n, customers where o.id = n.i and n.i = ascii(email)", "e"),
        ("select o.id from orders o join numbers n on o.id = n.i, customers where n.i = ascii(email)", "e"),
        ("select o.id from orders o where exists (select from numbers n, customers where n.i = o.id and n.i = ascii(email))",
         "e"),
        ("select c.id from customers c, orders o where o.customer_id = c.id and c.email like 'a%'", "-"),
        ("select string_agg(i::text, '') from numbers, customers where i = ascii(email)", "e"),
        ("select i from numbers, customers where i = ascii(substr(email, 1, 1))", "e"),
        ("select i from generate_series(1, 200) i, customers where i = ascii(substr(email, 1, 1))", "e"),
        ("select chr(i) from numbers join customers on ascii(email) = numbers.i", "e"),
        ("select chr(count(*)::int) from customers, numbers where i <= ascii(email)", "e"),
        ("select i from numbers where exists (select from customers where ascii(email) = i)", "e"),
        ("select i from numbers where i in (select ascii(email) from customers)", "e"),
        ("select i from numbers order by abs(i - (select max(ascii(email)) from customers)) limit 1", "e"),
        ("select i from numbers offset (select ascii(email) from customers limit 1) limit 1", "e"),
        ("select i from numbers where (i = 1 and exists (select from customers where email like 'a%')) or i = 2", "e"),
        ("select v from (values ('a'), ('b')) t(v), customers where substr(email, 1, 1) = v", "e"),
        ("select x from (select 'a' as x from customers where email like 'a%') y", "e"),
        ("select chr((select count(*) from customers where email > 'm')::int)", "e"),
        ("select id from customers where id in (select customer_id from orders where total > 5)", "-"),
        ("select total from orders where customer_id in (select id from customers where email like 'a%')", "-"),
        ("select id from customers c where exists (select from orders o where o.customer_id = c.id) and email > 'a'", "-"),
        ("select * from numbers natural join customers", "- - e - d"),
        ("select i from numbers n(i) join (select email as i from customers) c using (i)", "e"),
        ("select j.* from (customers c join orders o on o.customer_id = c.id) j", "- e - d - - -"),
        ("with recursive t(n, s) as (select 1, email from customers union all select n + 1, substr(s, 2) from t where n < 9)"
         " select n, s from t", "- e"),
        ("select extra ->> 'phone' from customers", "d"),
        ("select extra -> 'a' #>> '{b,c}', extra::text, (extra ->> 'a')::int from customers", "d d d"),
        ("select value from customers, jsonb_each_text(extra)", "p"), ("select jsonb_pretty(extra) from customers", "p"),
        ("select x from (select extra ->> 'name' as x from customers) t", "p"), ("select t.extra from (table customers) t", "d"),
        ("select extra ->> ('na' || 'me') from customers", "p"),
        ("select u from customers, unnest(array[email, country]) u", "e"),
        ("select * from generate_series(1, 3) g", "-*"),
        ("select x.* from unknown_table x", "?*"),
        ("select nothing from unknown_table", "?"),
        ("update customers set country = 'x' where id = 1 returning id, email, email || 'x'", "- e e"),
        ("delete from customers using orders o where o.customer_id = customers.id returning *", "- e - d - - -"),
        ("insert into orders(total) values (1) returning id, total * 2", "- -"),
        ("with w as (update customers set country = '' returning email) select upper(email) from w", "e"),
        ("declare c cursor for select upper(email), 1 from customers", "e -"),
        ("values (1, (select email from customers limit 1))", "- e"),
        ("select rank() over (order by email), row_number() over (partition by country) from customers", "e -"),
        ("select ctid, xmin from customers", "- -"),
    ],
)  # fmt: skip
def test_an_output_carries_the_labels_of_all_that_it_could_tell(sql: str, expected: str) -> None:
    assert told(sql) == expected


@pytest.mark.parametrize(
    ("sql", "column", "labels"),
    [
        ("insert into orders(total) select email from customers", "total", EMAIL),
        ("insert into orders select id, country, email from customers", "total", EMAIL),
        ("insert into orders(total) select id from customers where email = 'x'", "total", NOTHING),
        ("update orders set total = c.email from customers c", "total", EMAIL),
        ("update orders set (id, total) = (select 1, email from customers)", "total", EMAIL),
        ("update customers set email = lower(email)", "email", EMAIL),
        ("insert into orders(id, total) values (1, 2) on conflict (id) do update set total = (select email from customers)",
         "total", EMAIL),
        ("with w as (insert into orders(total) select email from customers returning 1) select 1", "total", EMAIL),
        ("create table t as select email as e from customers", "e", EMAIL),
        ("select email as e into t from customers", "e", EMAIL),
        ("create view v as select upper(email) as e from customers", "e", EMAIL),
        ("merge into orders o using customers c on o.id = c.id when matched then update set total = c.email",
         "total", EMAIL),
        ("explain analyze insert into orders(total) select email from customers", "total", EMAIL),
    ],
)  # fmt: skip
def test_what_a_statement_copies_is_named(sql: str, column: str, labels: Labels) -> None:
    found = outputs.trace(sql, table)
    assert found is not None
    assert labels in [flow.labels for flow in found.flows if flow.column == column]


def test_what_functions_keep_or_send_is_named() -> None:
    found = outputs.trace("select set_config('a.b', email, false) from customers", table)
    assert found is not None
    assert found.carried == EMAIL
    found = outputs.trace("select nextval('s') from numbers, customers where i <= ascii(email)", table)
    assert found is not None
    assert found.carried == EMAIL
    found = outputs.trace("select pg_notify('c', country) from customers", table)
    assert found is not None
    assert found.carried == NOTHING


@pytest.mark.parametrize("sql", ["", "select 1; select 2", "selec", "select '\0'"])
def test_what_is_not_one_statement_is_not_told(sql: str) -> None:
    assert outputs.trace(sql, table) is None


def test_conditions_nested_without_end_are_not_told() -> None:
    sql = "select i from numbers where i = ascii((select max(email) from customers))"
    for _ in range(30):
        sql = f"select i from numbers n where exists ({sql} and numbers.i = n.i)"
    found = outputs.trace(sql, table)
    assert found is None or found.outputs is None or found.outputs[0].labels
