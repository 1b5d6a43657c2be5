"""What a session learns of each statement in a text, and which changes choose no rows."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage.statements import Part, analyse, analyse_each, analyse_rule, origins


def one(sql: str) -> Part:
    parts = analyse_each(sql)
    assert len(parts) == 1
    return parts[0]


ALWAYS = [
    "", "where true", "where 1 = 1", "where 'a' = 'a'", "where id = id", "where t.id >= t.id", "where not false",
    "where id is null or id is not null", "where id = 1 or not id = 1", "where id = 1 or true", "where true and 1 = 1",
    "where name like '%'", "where name ilike '%%'", "where id in (id)", "where id between id and id",
    "where id is not distinct from id", "where random() >= 0", "where now() is not null", "where 'f'::boolean",
    "where exists (select 1)", "where exists (select from u)", "where exists (select from u where n = 1)",
    "where (select count(*) from u) > 0", "where false", "where 1 = 2", "where $1",
]  # fmt: skip
CHOSEN = [
    "where id = 1", "where id > 0", "where id = 1 or false", "where id = 1 and true", "where not id = 1", "where ok",
    "where id in (select n from u)", "where exists (select from u where u.n = t.id)", "where name like 'a%'",
    "where id <> id + 1", "where current of c", "where id is not null", "where id in (1, 2)", "where (id, n) = (1, 2)",
    "where lower(name) = 'x'", "where id = $1", "where id = 1 or exists (select 1 from u where u.n = t.n)",
]  # fmt: skip


@pytest.mark.parametrize("form", ["delete from t {}", "update s.t set n = 1 {}", "with d as (delete from t {}) select 1",
                                  "explain analyze delete from t {}", "copy (delete from t {} returning *) to stdout"])  # fmt: skip
@pytest.mark.parametrize(("conditions", "expected"), [(ALWAYS, True), (CHOSEN, False)])
def test_a_change_is_unconditional_where_its_condition_chooses_no_rows(form, conditions, expected):
    for condition in conditions:
        effect = next(e for e in analyse(form.format(condition)).effects if e.verb in ("update", "delete"))
        assert effect.unconditional is expected, condition


OTHERS = [
    ("update t set n = 1 from u", True),
    ("update t set n = 1 from u where u.n = 1", True),
    ("update t set n = 1 from u where u.n = t.id", False),
    ("update t as x set n = 1 from u where u.n = t.id", True),
    ("delete from t using u where n = 1", False),
    ("merge into t using s on true when matched then delete", True),
    ("merge into t using s on t.id = s.id when matched then delete", False),
    ("merge into t using s on true when matched and t.n = 1 then update set n = 1", False),
    ("merge into t using s on t.id = s.id when not matched by source then delete", True),
    ("merge into t using s on t.id = s.id when not matched by source and t.n = 1 then delete", False),
    ("delete from t where id = 1; delete from t", True),
    ("insert into t (id) values (1) on conflict (id) do update set n = 1", False),
    ("select * from t", False),
    ("insert into t select * from t", False),
    ("truncate t", False),
]


@pytest.mark.parametrize(("sql", "expected"), OTHERS)
def test_only_conditions_on_the_changed_relation_itself_choose_its_rows(sql, expected):
    assert any(effect.unconditional for effect in analyse(sql).effects) is expected


def test_each_statement_of_a_text_has_its_place_in_characters():
    sql = "/* é */ select 'ü'; ;\n set search_path = s; drop table \"größe\" ; "
    parts = analyse_each(sql)
    texts = [sql[part.text_start : part.text_end].strip() for part in parts]
    assert texts == ["select 'ü'", "set search_path = s", 'drop table "größe"']
    assert [part.tag for part in parts] == ["SELECT", "SET", "DROP TABLE"]
    assert [part.statement.redacted for part in parts] == ["select ?", "set search_path = s", 'drop table "größe"']


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sampled_from(["select 1", "select 'é;'", "delete from t", "begin", "/* ; */ table t", "select $$;$$"]))
)
def test_the_parts_of_a_text_are_its_statements(statements):
    parts = analyse_each(";".join(statements))
    assert [part.statement for part in parts] == [analyse(statement) for statement in statements]


def test_texts_without_statements_have_no_parts_and_unreadable_ones_have_one():
    assert analyse_each("") == analyse_each(" -- nothing\n;") == ()
    unreadable = one("select 1; selec 2")
    assert (unreadable.statement.opaque, unreadable.tag, unreadable.commands) == (True, "", ())
    assert (unreadable.text_start, unreadable.text_end) == (0, 17)


SETS = [
    ("set search_path = a, \"B c\"", ("search_path", 'a, "B c"', False)),
    ("set search_path to 'a, b'", ("search_path", '"a, b"', False)),
    ("set local Search_Path = s", ("search_path", "s", True)),
    ("set search_path to default", ("search_path", None, False)),
    ("reset search_path", ("search_path", None, False)),
    ("reset all", ("*", None, False)),
    ("discard all", ("*", None, False)),
    ("set role bob", ("role", "bob", False)),
    ("reset role", ("role", None, False)),
    ("set session authorization 'bob'", ("session_authorization", "bob", False)),
    ("set names 'latin1'", ("client_encoding", "latin1", False)),
    ("set touchstone.purpose = 'why'", ("touchstone.purpose", "why", False)),
    ("set transaction read only", ("transaction_read_only", "1", False)),
    ("select set_config('search_path', 'a, b', true)", ("search_path", "a, b", True)),
    ("select pg_catalog.set_config('Role', 'bob', false)", ("role", "bob", False)),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "expected"), SETS)
def test_what_a_statement_sets_is_told_as_the_server_keeps_it(sql, expected):
    part = one(sql)
    assert part.sets == (expected,)
    assert f"SET {expected[0]}" in part.commands
    assert not part.statement.opaque


UNFOLLOWED = [
    "select set_config('search_path', 's', false) from t", "select set_config('role', n, false) from t",
    "select set_config('search_path', 's', false) where false", "select 1 where set_config('role', 'x', false) = 'x'",
    "select set_config(n, 'x', false) from t", "select coalesce('x', set_config('search_path', 's', false))",
    "with x as (select set_config('role', 'x', false)) select 1", "insert into t values (set_config('role', 'x', true))",
    "select set_config('search_path', $1, false)", "select set_config('standard_conforming_strings', 'off', false), 1",
]  # fmt: skip


@pytest.mark.parametrize("sql", UNFOLLOWED)
def test_a_setting_that_changes_what_names_mean_where_nobody_can_follow_is_opaque(sql):
    assert one(sql).statement.opaque


COMMANDS = [
    ("alter table t drop column c, owner to bob, disable row level security",
     "ALTER TABLE DROP COLUMN, ALTER TABLE CHANGE OWNER, ALTER TABLE DISABLE ROW SECURITY"),
    ("alter function f() owner to bob", "ALTER FUNCTION CHANGE OWNER"),
    ("alter table t rename to u", "ALTER TABLE RENAME"),
    ("alter table t set schema s", "ALTER TABLE SET SCHEMA"),
    ("create function f() returns int language sql security definer as 'select 1'", "CREATE FUNCTION SECURITY DEFINER"),
    ("alter function f() security definer", "ALTER FUNCTION SECURITY DEFINER"),
    ("alter function f() security invoker", ""),
    ("copy t to '/tmp/x'", "COPY TO FILE"),
    ("copy t from program 'x'", "COPY FROM PROGRAM"),
    ("copy t from stdin", ""),
    ("explain analyze create table x as select 1", "EXPLAIN ANALYZE, CREATE TABLE AS"),
    ("explain create table x as select 1", ""),
    ("select * from t for share", "SELECT FOR UPDATE"),
    ("select * from (select * from t for update) x", "SELECT FOR UPDATE"),
    ("create temp table x (a int)", "CREATE TEMPORARY TABLE"),
    ("select 1 into temp x", "CREATE TEMPORARY TABLE"),
    ("create schema s create table t (a int) grant select on t to bob", "CREATE TABLE, GRANT"),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "finer"), COMMANDS)
def test_commands_name_what_a_statement_does_in_particular(sql, finer):
    part = one(sql)
    assert part.commands[0] == part.tag
    assert ", ".join(part.commands[1:]) == finer


def test_names_of_prepared_statements_and_cursors_are_told():
    assert one("prepare p as select 1").prepares == "p"
    assert one('execute "P"(1)').executes == "P"
    assert one("declare c cursor for select 1").declares == "c"
    assert (one("fetch 3 from c").fetches, one("move all in c").fetches) == ("c", "c")
    assert (one("close c").closes, one("close all").closes) == ("c", "*")
    assert (one("deallocate p").deallocates, one("deallocate all").deallocates) == ("p", "*")
    assert [one(sql).is_transaction_control for sql in ("begin", "savepoint a", "select 1")] == [True, True, False]
    assert [(one(f"explain {how} select 1").explains, one(f"explain {how} select 1").explains_analyze)
            for how in ("", "analyze", "(analyze off)")] == [(True, False), (True, True), (True, False)]  # fmt: skip


def test_an_explain_calls_what_planning_calls():
    assert analyse("explain select my_function(1)").opaque
    assert not analyse("explain delete from t where lower(n) = 'x'").opaque
    assert analyse("explain delete from t").effects == ()


def test_what_was_prepared_is_known_by_its_text():
    seen = {"a": "prepare a (int) as delete from t where id = $1", "b": "update u set n = 1", "c": "select 1; select 2"}
    executed = analyse_each("execute a(5)", prepared=seen)[0].statement
    assert [(effect.verb, effect.relation, effect.keys) for effect in executed.effects] == [
        ("delete", "t", ((("id", "5"),),))
    ]
    assert analyse_each("execute b", prepared=seen)[0].statement.effects[0].unconditional
    assert analyse_each("execute c", prepared=seen)[0].statement.opaque
    assert analyse_each("execute a(5)")[0].statement.opaque
    assert not analyse_each("prepare a as select 1; execute a", prepared=seen)[1].statement.effects


def test_a_copy_says_how_values_are_written():
    told = one("copy s.t (a, b) to stdout with (format csv, header, delimiter ';', null '-', quote '!')").copies
    assert told is not None
    assert (told.direction, told.schema, told.relation, told.columns, told.place) == (
        "out",
        "s",
        "t",
        ("a", "b"),
        "client",
    )
    assert (told.format, told.header, told.delimiter, told.null, told.quote) == ("csv", True, ";", "-", "!")
    old = one("copy t from stdin with csv header").copies
    assert old is not None
    assert (old.direction, old.format, old.header) == ("in", "csv", True)
    query = one("/* ( */ copy ( select 'é(', (1) from t ) to stdout (header false)").copies
    assert query is not None
    assert (query.query, query.relation, query.header, query.format) == ("select 'é(', (1) from t", None, False, "text")
    assert one("select 1").copies is None


def test_a_relation_is_made_by_a_new_name_too():
    assert one("create table s.t (a int)").creates == (("s", "t", False),)
    assert one("create temp table t as select 1").creates == ((None, "t", True),)
    assert one("create table pg_temp.t (a int)").creates == (("pg_temp", "t", True),)
    assert one("select 1 into t").creates == ((None, "t", False),)
    assert one("alter table s.t rename to u").creates == (("s", "u", False),)
    assert one("alter table t set schema s").creates == (("s", "t", False),)
    assert one("alter table t rename column a to b").creates == ()


def test_functions_operators_and_attributes_are_named_as_written():
    told = analyse(
        "select s.f(lower(x)), c.total, (c).part, a operator(s.===) b from c where pg_catalog.upper(y) = 'Y'"
    )
    assert told.functions == (("s", "f"), (None, "lower"), ("pg_catalog", "upper"))
    assert set(told.operators) == {"s.===", "="}
    assert set(told.attributes) == {"total", "part"}


def test_columns_without_a_table_may_belong_to_any_relation_in_sight():
    def possible(sql: str) -> dict[str | None, tuple[str, ...]]:
        return {effect.relation: effect.possible for effect in analyse(sql).effects}

    assert possible("select a from t, u") == {"t": ("a",), "u": ("a",)}
    assert possible("select a from t") == {"t": ()}
    assert possible("select (select a from u) from t") == {"t": ("a",), "u": ()}
    columns = {e.relation: e.columns for e in analyse("select (select row_to_json(c) from u) from t c").effects}
    assert "*" in columns["t"]
    assert all("*" in e.columns for e in analyse("select j.a from (t cross join u) as j").effects)


def test_the_columns_of_a_query_say_what_they_are_made_of():
    told = origins("select t.a, lower(t.b || u.c) as x, 1 as one, (select 1) as y from s.t join u on true")
    assert told is not None
    assert told[0] == {("s", "t", "a")}
    assert told[1] == {("s", "t", "b"), (None, "u", "c")}
    assert (told[2], told[3]) == (frozenset(), None)
    assert origins("select a from t union select b from u") is None
    assert origins("with t as (select 1) select t.a from t") is None
    assert origins("select x.a from (select 1) x") == (None,)
    assert origins("no query") is None


def test_a_rule_does_what_its_actions_do():
    told = analyse_rule("create rule r as on delete to t do also (insert into log values (old.id); delete from u)")
    assert [(effect.verb, effect.relation) for effect in told.effects] == [("insert", "log"), ("delete", "u")]
    assert analyse_rule("create rule r as on delete to t do instead nothing").effects == ()
    assert analyse_rule("select 1").opaque
