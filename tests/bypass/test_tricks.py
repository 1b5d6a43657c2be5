"""Every trick that is known for saying one thing to a gateway and another to the database, and what it is taken for.

Each line: the text, what it touches (`opaque` where more may happen than that), and what the default guardrails say to a
person and to an agent in production.
"""

from __future__ import annotations

import pytest

from enforcement.gateway.effects import Scope
from lineage.guardrails import load
from tests.bypass.shop import AGENT, HUMAN, SERVICE, Gate

TRICKS = [
    (r"DELETE FROM customers WHERE name = E'\' OR id = 1 --'",
     "delete public.addresses, delete public.customers",
     "approve:people-bulk-change", "approve:agents-read-only"),
    ("/* a /* nested */ comment */ DELETE FROM customers WHERE true",
     "delete public.addresses, delete public.customers",
     "block:no-unconditional-change", "block:no-unconditional-change"),
    ("DELETE FROM customers WHERE 1=1",
     "delete public.addresses, delete public.customers",
     "block:no-unconditional-change", "block:no-unconditional-change"),
    ("DELETE FROM customers WHERE id = id",
     "delete public.addresses, delete public.customers",
     "block:no-unconditional-change", "block:no-unconditional-change"),
    ("DELETE FROM customers WHERE 'a'='a'",
     "delete public.addresses, delete public.customers",
     "block:no-unconditional-change", "block:no-unconditional-change"),
    ("DELETE FROM customers WHERE id IS NULL OR id IS NOT NULL",
     "delete public.addresses, delete public.customers",
     "block:no-unconditional-change", "block:no-unconditional-change"),
    ("DELETE FROM customers WHERE EXISTS (SELECT 1 FROM codes)",
     "delete public.addresses, delete public.customers, read public.codes",
     "block:no-unconditional-change", "block:no-unconditional-change"),
    ("DELETE FROM customers c WHERE EXISTS (SELECT 1 FROM codes WHERE n = c.id)",
     "delete public.addresses, delete public.customers, read public.codes",
     "approve:people-bulk-change", "approve:agents-read-only"),
    ("DELETE FROM customers WHERE name LIKE '%'",
     "delete public.addresses, delete public.customers",
     "block:no-unconditional-change", "block:no-unconditional-change"),
    ("DELETE FROM customers WHERE NOT false",
     "delete public.addresses, delete public.customers",
     "block:no-unconditional-change", "block:no-unconditional-change"),
    ("DELETE FROM customers WHERE random() >= 0",
     "delete public.addresses, delete public.customers",
     "block:no-unconditional-change", "block:no-unconditional-change"),
    ("DELETE FROM customers USING codes WHERE codes.n = 1",
     "delete public.addresses, delete public.customers, read public.codes",
     "block:no-unconditional-change", "block:no-unconditional-change"),
    ("UPDATE customers SET name = 'x' FROM codes WHERE codes.n = codes.n",
     "read public.codes, update public.customers",
     "block:no-unconditional-change", "block:no-unconditional-change"),
    ("SELECT $a$ $b$ $a$; DELETE FROM customers; SELECT $a$ $a$",
     "delete public.addresses, delete public.customers",
     "block:no-unconditional-change", "block:no-unconditional-change"),
    ("WITH delete AS (SELECT 1) SELECT * FROM delete",
     "",
     "allow", "allow"),
    ("WITH d AS (UPDATE customers SET name = 'x' RETURNING email) SELECT * FROM d",
     "read public.customers, update public.customers",
     "block:no-unconditional-change", "block:no-unconditional-change"),
    ("MERGE INTO customers t USING codes s ON t.id = s.n WHEN MATCHED THEN DELETE",
     "delete public.addresses, delete public.customers, read public.codes",
     "approve:people-bulk-change", "approve:agents-read-only"),
    ("MERGE INTO customers t USING codes s ON true WHEN MATCHED THEN DELETE",
     "delete public.addresses, delete public.customers, read public.codes",
     "block:no-unconditional-change", "block:no-unconditional-change"),
    ("COPY (DELETE FROM customers RETURNING *) TO STDOUT",
     "delete public.addresses, delete public.customers, export public.customers",
     "block:no-unconditional-change", "block:no-unconditional-change"),
    ("EXPLAIN ANALYZE DELETE FROM customers",
     "delete public.addresses, delete public.customers",
     "block:no-unconditional-change", "block:no-unconditional-change"),
    ("EXPLAIN (ANALYZE true, COSTS off) UPDATE customers SET name = 'x'",
     "update public.customers",
     "block:no-unconditional-change", "block:no-unconditional-change"),
    ("EXPLAIN DELETE FROM customers",
     "",
     "allow", "allow"),
    ("EXPLAIN SELECT touch_orders()",
     "opaque",
     "approve:people-nothing-opaque", "block:agents-nothing-opaque"),
    ("CREATE OR REPLACE VIEW named AS SELECT id, password_hash AS name, '' AS contact, '' AS x FROM customers; SELECT name FROM named",
     "ddl public.named, read public.customers, read public.named",
     "approve:code-needs-approval", "approve:agents-read-only"),
    ("INSERT INTO codes SELECT email, 1 FROM customers",
     "insert public.codes, read public.customers",
     "limit:people-row-cap", "approve:agents-read-only"),
    ("DO $$ BEGIN DELETE FROM customers; END $$",
     "opaque procedural",
     "approve:people-nothing-opaque", "block:agents-nothing-opaque"),
    ("CALL clear_codes()",
     "opaque procedural",
     "approve:people-nothing-opaque", "block:agents-nothing-opaque"),
    ("EXECUTE unseen",
     "opaque",
     "approve:people-nothing-opaque", "block:agents-nothing-opaque"),
    ("PREPARE p AS DELETE FROM customers; EXECUTE p",
     "delete public.addresses, delete public.customers",
     "block:no-unconditional-change", "block:no-unconditional-change"),
    ("SELECT 1; DROP TABLE customers",
     "ddl public.customers",
     "block:no-drop", "block:no-drop"),
    ("SET search_path = s; SELECT * FROM customers",
     "read s.customers, session",
     "allow", "allow"),
    ('SET search_path = "s"; SELECT email FROM customers',
     "read s.customers, session",
     "allow", "allow"),
    ("SELECT set_config('search_path', 's', false); SELECT * FROM customers",
     "read s.customers, session",
     "allow", "allow"),
    ("SET ROLE postgres; SELECT * FROM customers",
     "read public.customers, read s.customers, session",
     "limit:people-row-cap", "block:agents-no-other-role"),
    ("SET SESSION AUTHORIZATION postgres",
     "session",
     "allow", "block:agents-no-other-role"),
    (r'SELECT * FROM U&"\0063ustomers"',
     "read public.customers",
     "limit:people-row-cap", "limit:agents-row-cap"),
    (r'SELECT U&"em\0061il" FROM customers',
     "read public.customers",
     "limit:people-row-cap", "limit:agents-row-cap"),
    (r'DELETE FROM U&"\0063ustomers"',
     "delete public.addresses, delete public.customers",
     "block:no-unconditional-change", "block:no-unconditional-change"),
    ('SELECT * FROM "customers"',
     "read public.customers",
     "limit:people-row-cap", "limit:agents-row-cap"),
    ("SELECT * FROM CUSTOMERS",
     "read public.customers",
     "limit:people-row-cap", "limit:agents-row-cap"),
    ("SELECT * FROM public . customers",
     "read public.customers",
     "limit:people-row-cap", "limit:agents-row-cap"),
    ('SELECT * FROM "CUSTOMERS"',
     "read CUSTOMERS",
     "limit:people-row-cap", "limit:agents-row-cap"),
    ("SELECT contact FROM named",
     "read public.customers, read public.named",
     "limit:people-row-cap", "limit:agents-row-cap"),
    ("SELECT c FROM renamed",
     "read public.customers, read public.named, read public.renamed",
     "limit:people-row-cap", "limit:agents-row-cap"),
    ("INSERT INTO ruled VALUES (5, 5)",
     "insert public.hidden, insert public.ruled",
     "allow", "approve:agents-read-only"),
    ("DELETE FROM ruled WHERE id = 1",
     "delete public.codes, delete public.ruled",
     "block:no-unconditional-change", "block:no-unconditional-change"),
    ("INSERT INTO codes VALUES ('z', 1)",
     "insert public.codes",
     "allow", "approve:agents-read-only"),
    ("SELECT touch_orders()",
     "opaque",
     "approve:people-nothing-opaque", "block:agents-nothing-opaque"),
    ("SELECT c.total FROM customers c",
     "opaque read public.customers",
     "approve:people-nothing-opaque", "block:agents-nothing-opaque"),
    ("SELECT (c).total FROM customers c",
     "opaque read public.customers",
     "approve:people-nothing-opaque", "block:agents-nothing-opaque"),
    ("SELECT ('postgresql.conf'::text).pg_read_file",
     "opaque",
     "block:no-server-files", "block:no-server-files"),
    ("SELECT 1 === 2",
     "opaque",
     "approve:people-nothing-opaque", "block:agents-nothing-opaque"),
    ("SELECT 1 OPERATOR(public.===) 2",
     "opaque",
     "approve:people-nothing-opaque", "block:agents-nothing-opaque"),
    ("DELETE FROM customers WHERE CURRENT OF c",
     "delete public.addresses, delete public.customers",
     "approve:people-bulk-change", "approve:agents-read-only"),
    ("INSERT INTO codes VALUES ('z', 1) ON CONFLICT (code) DO UPDATE SET n = 1",
     "insert public.codes, update public.codes",
     "approve:people-bulk-change", "approve:agents-read-only"),
    ("INSERT INTO customers (id) VALUES (1) RETURNING email",
     "insert public.customers, read public.customers",
     "limit:people-row-cap", "approve:agents-read-only"),
    ("SELECT x.email FROM orders o, LATERAL (SELECT * FROM customers c WHERE c.id = o.customer_id) x",
     "read public.customers, read public.orders",
     "limit:people-row-cap", "limit:agents-row-cap"),
    ("TABLE customers",
     "read public.customers",
     "limit:people-row-cap", "limit:agents-row-cap"),
    ("SELECT * INTO copied FROM customers",
     "ddl public.copied, read public.customers",
     "limit:people-row-cap", "approve:agents-read-only"),
    ("CREATE TABLE copied AS TABLE customers",
     "ddl public.copied, read public.customers",
     "limit:people-row-cap", "approve:agents-read-only"),
    ("CREATE TEMP TABLE mine AS SELECT * FROM customers",
     "ddl pg_temp.mine, read public.customers",
     "limit:people-row-cap", "approve:agents-read-only"),
    ("ALTER TABLE customers RENAME TO people",
     "ddl public.customers, ddl public.people",
     "approve:code-needs-approval", "approve:agents-read-only"),
    ("ALTER TABLE customers RENAME COLUMN email TO colour",
     "ddl public.customers",
     "approve:code-needs-approval", "approve:agents-read-only"),
    ("ALTER TABLE customers RENAME TO people; SELECT * FROM people",
     "ddl public.customers, ddl public.people, read people",
     "approve:code-needs-approval", "approve:agents-read-only"),
    ("ALTER TABLE customers SET SCHEMA s",
     "ddl public.customers, ddl s.customers",
     "approve:code-needs-approval", "approve:agents-read-only"),
    ("ALTER TABLE customers DROP COLUMN email",
     "ddl public.customers",
     "block:no-drop", "block:no-drop"),
    ("ALTER TABLE customers OWNER TO app",
     "ddl public.customers",
     "block:no-privilege-by-definition", "block:no-privilege-by-definition"),
    ("ALTER TABLE customers DISABLE ROW LEVEL SECURITY",
     "ddl public.customers",
     "block:no-privilege-by-definition", "block:no-privilege-by-definition"),
    ("CREATE VIEW v AS SELECT * FROM customers",
     "ddl public.v",
     "approve:code-needs-approval", "approve:agents-read-only"),
    ("CREATE RULE r AS ON SELECT TO codes DO INSTEAD SELECT * FROM customers",
     "ddl public.codes",
     "approve:code-needs-approval", "approve:agents-read-only"),
    ("CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'select 1'",
     "ddl",
     "block:no-privilege-by-definition", "block:no-privilege-by-definition"),
    ("SELECT query_to_xml('select * from customers', true, true, '')",
     "opaque",
     "approve:people-nothing-opaque", "block:agents-nothing-opaque"),
    ("SELECT table_to_xml('customers', true, true, '')",
     "opaque",
     "approve:people-nothing-opaque", "block:agents-nothing-opaque"),
    ("SELECT * FROM dblink('dbname=bypass', 'delete from customers') AS t(a int)",
     "opaque",
     "approve:people-nothing-opaque", "block:agents-nothing-opaque"),
    ("SELECT lo_import('/etc/passwd')",
     "opaque",
     "block:no-server-files", "block:no-server-files"),
    ("SELECT pg_read_file('postgresql.conf')",
     "opaque",
     "block:no-server-files", "block:no-server-files"),
    ("SELECT pg_catalog.pg_read_file('postgresql.conf')",
     "opaque",
     "block:no-server-files", "block:no-server-files"),
    ("COPY customers TO PROGRAM 'cat > /tmp/x'",
     "opaque export public.customers",
     "block:no-server-files", "block:no-server-files"),
    ("COPY customers FROM '/tmp/x'",
     "import public.customers",
     "block:no-server-files", "block:no-server-files"),
    ("SELECT set_config('session_replication_role', 'replica', false)",
     "session",
     "block:no-weakening", "block:no-weakening"),
    ("SET session_replication_role = replica",
     "session",
     "block:no-weakening", "block:no-weakening"),
    ("SET pgaudit.log = 'none'",
     "session",
     "block:no-weakening", "block:no-weakening"),
    ("SET LOCAL row_security = off",
     "session",
     "block:no-blind-sessions", "block:no-blind-sessions"),
    ("SELECT set_config(name, 'x', false) FROM customers",
     "opaque read public.customers",
     "approve:people-nothing-opaque", "block:agents-nothing-opaque"),
    ("SELECT set_config('search_path', name, false) FROM customers",
     "opaque read public.customers, session",
     "approve:people-nothing-opaque", "block:agents-nothing-opaque"),
    ("SELECT * FROM customers FOR UPDATE",
     "read public.customers",
     "limit:people-row-cap", "approve:agents-no-locks"),
    ("LOCK TABLE customers IN ACCESS EXCLUSIVE MODE",
     "",
     "allow", "approve:agents-no-locks"),
    ("SELECT rolpassword FROM pg_authid",
     "read pg_catalog.pg_authid",
     "block:no-password-hashes", "block:no-password-hashes"),
    ("SELECT passwd FROM pg_catalog.pg_shadow",
     "read pg_catalog.pg_shadow",
     "block:no-password-hashes", "block:no-password-hashes"),
    ("SELECT most_common_vals FROM pg_stats WHERE tablename = 'customers'",
     "read pg_catalog.pg_stats",
     "block:no-password-hashes", "block:no-password-hashes"),
    ("SELECT customers FROM customers",
     "read public.customers",
     "limit:people-row-cap", "limit:agents-row-cap"),
    ("SELECT row_to_json(c) FROM customers c",
     "read public.customers",
     "limit:people-row-cap", "limit:agents-row-cap"),
    ("SELECT (SELECT row_to_json(c) FROM codes LIMIT 1) FROM customers c",
     "read public.codes, read public.customers",
     "limit:people-row-cap", "limit:agents-row-cap"),
    ("SELECT j.* FROM (customers CROSS JOIN codes) AS j",
     "read public.codes, read public.customers",
     "limit:people-row-cap", "limit:agents-row-cap"),
    ("SELECT string_agg(email, ',') FROM customers",
     "read public.customers",
     "limit:people-row-cap", "limit:agents-row-cap"),
    ("SELECT name FROM customers UNION SELECT email FROM customers",
     "read public.customers",
     "limit:people-row-cap", "limit:agents-row-cap"),
    ("VALUES ((SELECT max(email) FROM customers))",
     "read public.customers",
     "limit:people-row-cap", "limit:agents-row-cap"),
    ("WITH RECURSIVE w AS (SELECT email FROM customers UNION SELECT 'x' FROM w) SELECT * FROM w",
     "read public.customers",
     "limit:people-row-cap", "limit:agents-row-cap"),
    ("SELECT count(*) FROM customers",
     "read public.customers",
     "allow", "allow"),
    ("SELECT 1 FROM customers ORDER BY email",
     "read public.customers",
     "limit:people-row-cap", "limit:agents-row-cap"),
    ("GRANT SELECT ON customers TO public",
     "privilege public.customers",
     "block:no-privilege-change", "block:no-privilege-change"),
    ("ALTER ROLE app SUPERUSER",
     "privilege",
     "block:no-privilege-change", "block:no-privilege-change"),
    ("ALTER SYSTEM SET log_statement = 'none'",
     "ddl",
     "block:no-weakening", "block:no-weakening"),
    ("CREATE EXTENSION dblink",
     "ddl",
     "approve:code-needs-approval", "approve:agents-read-only"),
    ("LISTEN x",
     "",
     "allow", "allow"),
    ("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO public",
     "privilege",
     "block:no-privilege-change", "block:no-privilege-change"),
    ("DROP OWNED BY app",
     "opaque privilege",
     "block:no-drop", "block:agents-nothing-opaque"),
    ("VACUUM FULL customers",
     "",
     "allow", "approve:agents-no-locks"),
    ("COMMENT ON TABLE customers IS 'x'",
     "ddl public.customers",
     "allow", "approve:agents-read-only"),
    ("REFRESH MATERIALIZED VIEW totals",
     "ddl public.totals",
     "allow", "approve:agents-read-only"),
    ("SELECT * FROM parted_low",
     "read public.parted, read public.parted_low",
     "limit:people-row-cap", "limit:agents-row-cap"),
    ("DELETE FROM base",
     "delete public.base, delete public.derived",
     "block:no-unconditional-change", "block:no-unconditional-change"),
    ("ALTER TABLE parted DETACH PARTITION parted_low",
     "ddl public.parted, ddl public.parted_low",
     "block:no-drop", "block:no-drop"),
    ("IMPORT FOREIGN SCHEMA x FROM SERVER y INTO z",
     "ddl",
     "approve:code-needs-approval", "approve:agents-read-only"),
    ("SECURITY LABEL ON TABLE customers IS 'x'",
     "ddl public.customers",
     "allow", "approve:agents-read-only"),
    ("PREPARE TRANSACTION 'x'",
     "",
     "allow", "approve:agents-no-locks"),
    ("TRUNCATE ONLY codes RESTART IDENTITY CASCADE",
     "truncate public.codes",
     "block:no-truncate", "block:no-truncate"),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "told", "person", "agent"), TRICKS, ids=[trick[0][:60] for trick in TRICKS])
def test_a_trick_is_seen_through(gate: Gate, sql, told, person, agent):
    judged = gate.judged(sql)
    assert f"{'opaque' * judged.opaque} {', '.join(sorted(gate.told(sql)))}".strip() == told
    assert [f"{d.outcome}:{d.rule}".rstrip(":") for d in (gate(sql, HUMAN), gate(sql, AGENT))] == [person, agent]


HIDDEN_CALLS = [
    "SELECT 1 UNION ALL SELECT 2 LIMIT touch_orders()",
    "SELECT 1 UNION ALL SELECT 2 OFFSET (SELECT touch_orders())",
    "UPDATE lists SET a[touch_orders()] = 1 WHERE id = 1",
    "INSERT INTO lists (id, a[touch_orders()]) VALUES (1, 2)",
    "INSERT INTO lists (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET a[touch_orders()] = 1",
    "MERGE INTO lists t USING codes s ON t.id = s.n WHEN MATCHED THEN UPDATE SET a[touch_orders()] = 1",
    "SELECT 1 === ANY (SELECT 2)",
    "SELECT * FROM calling",
    "SELECT n FROM over_calling",
    "CREATE TEMP TABLE mine (a int DEFAULT touch_orders())",
    "CREATE TABLE mine (a int CHECK (touch_orders() = a))",
    "CREATE DOMAIN mine AS int CHECK (touch_orders() IS NULL)",
    "ALTER DOMAIN mine ADD CHECK (touch_orders() IS NULL)",
    "UPDATE pg_settings SET setting = 'off' WHERE name = 'standard_conforming_strings'",
    "UPDATE pg_catalog.pg_settings SET setting = 's' WHERE name = 'search_path'",
    "DECLARE c CURSOR FOR SELECT set_config('search_path', 's', false)",
    "CREATE TABLE IF NOT EXISTS codes AS SELECT set_config('search_path', 's', false)",
    "CREATE TEMP TABLE mine (a text DEFAULT set_config('search_path', 's', false))",
    "SELECT json_scalar('x')",
]


@pytest.mark.parametrize("sql", HIDDEN_CALLS)
def test_a_call_that_stands_where_none_is_looked_for_is_opaque(gate: Gate, sql):
    assert gate.judged(sql).opaque
    assert gate(sql, AGENT).rule in ("agents-nothing-opaque", "no-drop")
    assert gate(sql, HUMAN).outcome == "approve"


def test_what_stands_behind_an_opaque_statement_may_mean_any_schema(gate: Gate):
    sql = "DECLARE c CURSOR FOR SELECT set_config('search_path', 's', false); SELECT email FROM customers"
    assert {"read public.customers", "read s.customers"} <= gate.told(sql)


def test_a_default_that_forges_an_identity_message_is_blocked_as_the_call_is(gate: Gate):
    sql = "CREATE TEMP TABLE mine (a pg_lsn DEFAULT pg_logical_emit_message(true, 'touchstone', '{}'))"
    assert {gate(sql, who).rule for who in (HUMAN, SERVICE, AGENT)} == {"no-forged-identity"}


EVERY_ROW = [
    "DELETE FROM customers WHERE id = -1 OR 1 = 1.0",
    "DELETE FROM customers WHERE id = -1 OR '1' = 1",
    "DELETE FROM customers WHERE id = -1 OR NOT (SELECT false)",
    "DELETE FROM customers WHERE id = -1 OR NOT (random() > 2)",
    "DELETE FROM customers WHERE ctid IS NOT NULL",
    "UPDATE customers SET name = 'x' WHERE customers.tableoid IS NOT NULL",
]


@pytest.mark.parametrize("sql", EVERY_ROW)
def test_a_condition_that_may_hold_for_every_row_counts_as_none(gate: Gate, sql):
    assert gate(sql, SERVICE).rule == gate(sql, HUMAN).rule == "no-unconditional-change"


def test_only_a_unique_key_fixes_rows(gate: Gate):
    def rule(sql: str) -> str:
        return gate(sql, HUMAN).rule

    assert rule("UPDATE orders SET note = 'x' WHERE id = 1") == ""
    assert rule("UPDATE orders SET note = 'x' WHERE id IN (1, 2) AND customer_id = 3") == ""
    assert rule("UPDATE writable SET name = 'x' WHERE id = 1") == ""
    assert rule("UPDATE orders SET note = 'x' WHERE customer_id = 3") == "people-bulk-change"
    assert rule("UPDATE orders SET note = 'x' WHERE id = 1 OR customer_id = 3") == "people-bulk-change"
    # With transform_null_equals this is every row without a note.
    assert rule("UPDATE orders SET note = 'x' WHERE note = NULL") == "people-bulk-change"
    assert rule("UPDATE writable SET name = 'x' WHERE name = 'c1'") == "people-bulk-change"


def test_the_temporary_tables_of_another_session_are_not_ones_own(gate: Gate):
    own, other = "DROP TABLE pg_temp.mine", "DROP TABLE pg_temp_7.mine"
    assert (gate(own, HUMAN).outcome, gate(other, HUMAN).rule) == ("allow", "no-drop")


@pytest.mark.parametrize(
    "how", ["DISABLE RULE ruled_delete", "ENABLE REPLICA RULE ruled_delete", "ENABLE REPLICA TRIGGER x"]
)
def test_what_keeps_a_rule_or_trigger_from_firing_needs_another_person(gate: Gate, how):
    assert gate(f"ALTER TABLE ruled {how}", HUMAN).rule == "code-needs-approval"


UNREADABLE = [
    "DELETE\u200b FROM customers",
    "ＤＥＬＥＴＥ FROM customers",
    "DELETE FROM customers\0",
    "\ufeff\u200bDELETE FROM customers",
    "SELECT 1; DELETE FROM customers; SELECT 'x",
    "DELETE FROM customers WHERE \ud800",
    "/*" * 101 + "*/" * 101 + "DELETE FROM customers",
    "SELECT '" + "x" * 70_000 + "'; DELETE FROM customers",
]


@pytest.mark.parametrize("sql", UNREADABLE, ids=range(len(UNREADABLE)))
def test_what_cannot_be_read_runs_for_no_agent_and_no_service_and_for_people_only_with_an_approval(gate: Gate, sql):
    judged = gate.judged(sql)
    assert judged.opaque
    assert judged.writes
    assert gate(sql, AGENT).outcome == gate(sql, SERVICE).outcome == "block"
    assert gate(sql, HUMAN).outcome == "approve"


def test_zero_width_and_full_width_names_are_other_names(gate: Gate):
    assert gate.told('SELECT * FROM "cust\u200bomers"') == {"read cust\u200bomers"}
    assert gate.told('SELECT * FROM "ｃustomers"') == {"read ｃustomers"}
    assert gate.told("SELECT * FROM größe") == {"read public.größe"}
    assert gate.told('SELECT * FROM "Odd ""Name"') == {'read public.Odd "Name'}


def test_backslashes_are_not_trusted_while_standard_conforming_strings_is_off(gate: Gate):
    sql = r"SELECT 'a\''; DELETE FROM customers; --'"
    assert gate(sql, AGENT).outcome == "allow"
    off = Scope(role="app", standard_conforming_strings=False)
    assert gate(sql, AGENT, off).outcome == "block"
    assert gate.judged("SET standard_conforming_strings = off; " + sql).opaque
    assert not gate.judged("SELECT 'a'", off).opaque


def test_a_name_means_what_the_search_path_makes_of_it(gate: Gate):
    def read(*path: str, **more: object) -> set[str]:
        return gate.told("SELECT * FROM orders", Scope(search_path=path, role="app", **more))  # type: ignore[arg-type]

    assert read("public") == {"read public.orders"}
    assert read("s", "public") == {"read public.orders"}
    assert read("evil") == {"read evil.orders"}
    assert read("evil", "public") == {"read evil.orders", "read public.orders"}
    assert read("s") == {"read orders"}
    assert read("public", temp=frozenset({"orders"})) == {"read pg_temp.orders", "read public.orders"}
    unknown = gate.judged("SELECT * FROM orders", Scope(search_path=None))
    assert {(t.name, t.certainty) for t in unknown.touches} == {
        ("public.orders", "unknown"),
        ("evil.orders", "unknown"),
    }


def test_a_path_named_after_the_role_follows_the_role(gate: Gate):
    path = ("$user", "public")
    assert gate.told("SELECT * FROM customers", Scope(path, role="s")) == {"read s.customers", "read public.customers"}
    assert gate.told("SELECT * FROM customers", Scope(path, role="app")) == {"read public.customers"}


def test_a_function_of_the_database_that_stands_in_for_one_of_postgresql_is_opaque(gate: Gate):
    sql = "SELECT lower(name) FROM customers"
    assert not gate.judged(sql, Scope(("public",))).opaque
    assert gate.judged(sql, Scope(("public", "evil"))).opaque
    assert gate.judged(sql, Scope(None)).opaque
    assert not gate.judged("SELECT pg_catalog.lower(name) FROM customers", Scope(("public", "evil"))).opaque
    assert gate.judged("SET search_path = public, evil; " + sql).opaque


def test_what_the_session_prepared_is_judged_when_it_is_executed(gate: Gate):
    seen = {"a": "PREPARE a (int) AS DELETE FROM codes WHERE n > $1", "b": "DROP TABLE customers", "c": "EXECUTE c"}
    assert gate.told("EXECUTE a(1)", prepared=seen) == {"delete public.codes"}
    assert gate.told("EXPLAIN ANALYZE EXECUTE a(1)", prepared=seen) == {"delete public.codes"}
    assert gate.told("CREATE TABLE x AS EXECUTE a(1)", prepared=seen) == {"ddl public.x", "delete public.codes"}
    assert gate.told("EXECUTE b", prepared=seen) == {"ddl public.customers"}
    assert gate.judged("EXECUTE c", prepared=seen).opaque
    assert gate.judged("EXECUTE d", prepared=seen).opaque
    assert gate.told("PREPARE a AS SELECT 1; EXECUTE a", prepared=seen) == set()


def test_a_rule_on_a_table_cannot_be_passed_by_renaming_the_table_in_the_same_text(gate: Gate):
    strict = Gate(gate.catalog, load("""
[[rule]]
id = "no-customers"
outcome = "block"
verbs = ["read"]
relations = ["public.customers"]
"""))  # fmt: skip
    assert strict("SELECT * FROM customers").outcome == "block"
    assert strict("SELECT * FROM named").outcome == "block"
    assert strict("ALTER TABLE customers RENAME TO people; SELECT * FROM people").outcome == "block"
    assert strict("ALTER TABLE customers RENAME TO people; SELECT * FROM public.people").outcome == "block"
    assert strict("CREATE VIEW seen AS SELECT * FROM customers; SELECT * FROM seen").outcome == "block"
    assert strict("SELECT * FROM orders").outcome == "allow"
    assert strict("SELECT * FROM s.nothing").outcome == "allow"
    assert strict("CREATE TEMP TABLE mine (a int); SELECT * FROM mine").outcome == "allow"


def test_children_and_parents_of_a_table_count_with_it(gate: Gate):
    assert gate.told("SELECT * FROM parted") == gate.told("SELECT * FROM parted_low")
    assert gate.told("DELETE FROM derived WHERE id = 1") == {"delete public.base", "delete public.derived"}


def test_triggers_that_the_catalog_knows_are_named(gate: Gate):
    assert gate.judged("INSERT INTO codes VALUES ('z', 1)").triggers == ("public.codes: stamped calls public.stamp",)
    assert gate.judged("SELECT * FROM codes").triggers == ()


def test_the_columns_of_a_view_have_the_classes_of_what_they_are_made_of(gate: Gate):
    def classes(sql: str) -> set[str]:
        return {found for column in gate.judged(sql).protected_columns for found in column.classes}

    assert "email" in classes("SELECT contact FROM named")
    assert "email" in classes("SELECT c FROM renamed")
    assert classes("SELECT x FROM named") == {"secret"}
    assert classes("SELECT id FROM renamed") == set()
    assert gate.judged("SELECT c FROM renamed").reads_protected({"email"})
    assert not gate.judged("SELECT id FROM renamed").reads_protected({"*"})
    assert not gate.judged("SELECT c FROM renamed").reads_protected(())
