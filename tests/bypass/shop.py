"""A real database with everything that statements hide behind, its catalog as the gateway reads it, and who asks."""

from __future__ import annotations

from typing import Any

import msgspec
import psycopg

from enforcement.gateway import catalog
from enforcement.gateway.classes import classify
from enforcement.gateway.effects import Catalog, Judged, Scope, resolve
from lineage.guardrails import DEFAULT, Asked, Decision, Guardrails, decide

SCHEMA = """
drop schema if exists public, s, evil, inner_secret cascade; create schema public; create schema s; create schema evil;
create table customers (id int primary key, name text, email text, password_hash text, up int);
create table orders (id int primary key, customer_id int, amount numeric, note text);
create table s.customers (id int primary key, colour text);
create table evil.orders (id int primary key, email text);
create table codes (code text primary key, n int);
create table "Odd ""Name" ("Id" int primary key, "a b" text);
create table "größe" (id int primary key, n int);
create table parted (id int, email text, n int, primary key (id)) partition by range (id);
create table parted_low partition of parted for values from (0) to (100);
create table base (id int primary key, email text);
create table derived (extra int) inherits (base);
create table addresses (id int primary key, customer_id int references customers on delete cascade on update cascade);
create table audit_log (id serial primary key, what text);
create table hidden (id int primary key, n int);
create table ruled (id int primary key, n int);
create rule ruled_to_hidden as on insert to ruled do also insert into hidden values (new.id, new.n);
create rule ruled_delete as on delete to ruled do instead delete from codes;
create view named as select id, name, upper(email) as contact, password_hash as x from customers;
create view renamed as select contact as c, id from named;
create view counted as select count(*) as n from customers;
create view writable as select id, name from customers where up is null;
create table lists (id int primary key, a int[]);
create materialized view totals as select customer_id, sum(amount) from orders group by 1;
create function touch_orders() returns int language sql as 'update orders set note = ''f'' where id = 1 returning 1';
create view calling as select touch_orders() as n;
create view over_calling as select n from calling;
create function json_scalar(text) returns text language sql as 'delete from codes returning code';
create function evil.lower(varchar) returns text language sql as 'delete from codes returning code';
create function total(customers) returns int language sql as 'delete from codes returning n';
create procedure clear_codes() language sql as 'delete from codes';
create function stamp() returns trigger language plpgsql as
    'begin insert into audit_log (what) values (tg_op); return new; end';
create trigger stamped after insert or update on codes for each row execute function stamp();
create function always(int, int) returns boolean language sql as 'select true';
create operator === (leftarg = int, rightarg = int, function = always);
insert into customers select n, 'c' || n, 'c' || n || '@shop.example', md5(n::text), n - 1 from generate_series(1, 20) n;
insert into orders select n, n % 20 + 1, n * 1.5, null from generate_series(1, 40) n;
insert into codes select '0' || n, n from generate_series(1, 20) n;
insert into parted values (1, 'p@shop.example', 1), (2, 'q@shop.example', 2);
insert into s.customers values (1, 'red'), (2, 'blue');
insert into ruled values (1, 1);
insert into "Odd ""Name" values (1, 'x');
insert into addresses select n, n from generate_series(1, 20) n;
"""


def make(connection: psycopg.Connection[Any]) -> None:
    connection.execute("set client_min_messages = 'error'")
    connection.execute(SCHEMA.encode())


def read(connection: psycopg.Connection[Any]) -> Catalog:
    """The catalog of a database, asked for as the gateway does."""
    cursor = connection.execute(catalog.SQL.encode())
    while cursor.nextset():
        pass
    row = cursor.fetchone()
    assert row is not None
    return catalog.read(row[0], lambda schema, relation, column, kind, _: classify(schema, relation, column, kind, ()))


HUMAN = Asked("dana", "human", "dana@shop.example", environment="production", datasource="shop", purpose="OPS-1")
SERVICE = Asked("billing", "service", environment="production", datasource="shop")
AGENT = Asked(
    "bot", "agent", on_behalf_of="dana@shop.example", environment="production", datasource="shop", purpose="OPS-1"
)


def asked(judged: Judged, who: Asked) -> Asked:
    return msgspec.structs.replace(
        who,
        commands=judged.commands,
        touches=judged.touches,
        opaque=judged.opaque,
        reason=judged.reason,
        weakens=judged.weakens,
    )


class Gate:
    """Judges texts as a session of the gateway would, with one catalog and the rules given."""

    def __init__(self, of: Catalog, rules: Guardrails = DEFAULT) -> None:
        self.catalog = of
        self.rules = rules

    def judged(self, sql: str, scope: Scope | None = None, prepared: dict[str, str] | None = None) -> Judged:
        return resolve(sql, (), self.catalog, scope or Scope(role="app", session_user="app"), prepared or {})

    def __call__(self, sql: str, who: Asked = HUMAN, scope: Scope | None = None) -> Decision:
        return decide(self.rules, asked(self.judged(sql, scope), who))

    def told(self, sql: str, scope: Scope | None = None, prepared: dict[str, str] | None = None) -> set[str]:
        """What is touched, as `verb schema.relation`."""
        return {f"{touch.verb} {touch.name}".rstrip() for touch in self.judged(sql, scope, prepared).touches}
