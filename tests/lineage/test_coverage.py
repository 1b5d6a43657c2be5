"""What weakens the capture: one setting, one statement, two states. The rules alone; with a store in test_health."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from lineage import coverage, statements
from lineage.events import State

STATE: dict[str, Any] = {
    "settings": [{"name": "pgaudit.log", "value": "all"}, {"name": "wal_level", "value": "logical"},
                 {"name": "shared_preload_libraries", "value": "pg_stat_statements, pgaudit"},
                 {"name": "log_statement", "value": "none"}, {"name": "log_connections", "value": "on"}],
    "published": [{"name": "touchstone", "all_tables": False, "operations": ["insert", "update", "delete", "truncate"],
                   "tables": [{"schema": "public", "relation": "orders"}, {"schema": "public", "relation": "notes"}]}],
    "slots": [{"name": "touchstone", "plugin": "pgoutput", "wal_status": "reserved", "confirmed_lsn": "0/10"}],
    "keys": [{"schema": "public", "relation": "orders", "replica_identity": "full", "persistence": "permanent"},
             {"schema": "public", "relation": "notes", "replica_identity": "default", "persistence": "permanent"}],
    "roles": [{"name": "dba", "superuser": False}],
}  # fmt: skip


def state(**changed: Any) -> State:
    return msgspec.convert(STATE | changed, State)


def found(**changed: Any) -> list[tuple[str, str]]:
    return [(w.rule, w.sentence) for w in coverage.differences(state(), state(**changed))]


def setting(name: str, value: str) -> list[dict[str, str]]:
    others = [s for s in STATE["settings"] if s["name"] != name]
    return [*others, {"name": name, "value": value}]


def test_the_same_state_again_weakens_nothing() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("pgaudit.log", "write, ddl", "setting pgaudit.log: all → write, ddl."),
        ("pgaudit.log", "all, -misc", "setting pgaudit.log: all → all, -misc."),
        ("wal_level", "replica", "setting wal_level: logical → replica."),
        ("shared_preload_libraries", "", "setting shared_preload_libraries: pg_stat_statements, pgaudit → empty."),
        ("log_connections", "off", "setting log_connections: on → off."),
        ("dba@*:pgaudit.log", "none", "setting dba@*:pgaudit.log: all (of the server) → none."),
    ],
)
def test_a_setting_that_captures_less_is_told_with_before_and_after(name: str, value: str, sentence: str) -> None:
    assert found(settings=setting(name, value)) == [("capture-weakened", sentence)]


@pytest.mark.parametrize(
    ("name", "value"),
    [("pgaudit.log", "all, misc"), ("log_statement", "ddl"), ("dba@*:pgaudit.log", "all"), ("dba@*:search_path", "x")],
)
def test_a_setting_that_captures_as_much_or_more_is_not(name: str, value: str) -> None:
    assert found(settings=setting(name, value)) == []


def test_a_setting_that_can_no_longer_be_seen_is_told() -> None:
    gone = [s for s in STATE["settings"] if s["name"] != "pgaudit.log"]
    assert found(settings=gone) == [("capture-weakened", "setting pgaudit.log: all → no longer to be seen.")]


def test_less_in_a_publication_is_told_and_a_dropped_table_is_not() -> None:
    (publication,) = STATE["published"]
    fewer = [publication | {"tables": publication["tables"][:1]}]
    assert found(published=fewer) == [
        ("capture-weakened", "publication touchstone: sends public.notes → no longer sends public.notes.")
    ]
    assert found(published=fewer, keys=STATE["keys"][:1]) == []
    assert [r for r, _ in found(published=[])] == ["capture-weakened"]
    assert found(published=[publication | {"operations": ["insert"]}])[0][1].endswith(
        "no longer sends update, delete, truncate."
    )
    filtered = [{"schema": "public", "relation": "orders", "row_filter": "(id > 5)"}, publication["tables"][1]]
    assert found(published=[publication | {"tables": filtered}])[0][1].endswith("public.orders (id > 5).")
    columns = [{"schema": "public", "relation": "orders", "columns": ["id"]}, publication["tables"][1]]
    assert found(published=[publication | {"tables": columns}])[0][1].endswith("all columns → public.orders id.")
    assert found(published=[publication | {"all_tables": True, "tables": []}]) == []  # fmt: skip


def test_a_slot_that_goes_or_loses_its_log_is_told() -> None:
    assert [r for r, _ in found(slots=[])] == ["slot-lost"]
    assert [r for r, _ in found(slots=[STATE["slots"][0] | {"wal_status": "lost"}])] == ["slot-lost"]
    assert found(slots=[STATE["slots"][0] | {"confirmed_lsn": "0/99"}]) == []


@pytest.mark.parametrize(
    "change", [{"replica_identity": "default"}, {"replica_identity": "nothing"}, {"persistence": "unlogged"}]
)
def test_a_table_that_tells_less_is_told(change: dict[str, str]) -> None:
    assert [r for r, _ in found(keys=[STATE["keys"][0] | change, STATE["keys"][1]])] == ["capture-weakened"]


def test_a_new_superuser_is_told() -> None:
    assert found(roles=[{"name": "dba", "superuser": True}])[0][1].startswith("role dba: no superuser → superuser")


def test_what_says_the_same_under_another_version_was_written_meanwhile() -> None:
    def marks(version: str, content: str) -> State:
        return state(marks=[{"object": "table public.orders", "version": version, "content": content}])

    again = list(coverage.written_again(marks("7", "a").marks, marks("9", "a").marks))
    assert [(old.version, new.version) for old, new in again] == [("7", "9")]
    assert list(coverage.written_again(marks("7", "a").marks, marks("9", "b").marks)) == []
    assert list(coverage.written_again(marks("7", "a").marks, marks("7", "a").marks)) == []


@pytest.mark.parametrize(
    ("statement", "phrase"),
    [
        ("ALTER PUBLICATION touchstone DROP TABLE orders", "takes tables out of publication touchstone"),
        ("alter publication p set (publish = 'insert')", "makes publication p send only insert"),
        ("drop publication p", "drops a publication"),
        ("alter /* quiet */ system set pgaudit.log to 'none'", "sets pgaudit.log to 'none'"),
        ("alter role dba in database shop set pgaudit.log = 'ddl'", "sets pgaudit.log to 'ddl'"),
        ("set session_replication_role = replica", "sets session_replication_role to 'replica'"),
        ("select set_config('session_replication_role', 'replica', true)", "sets session_replication_role to 'replica'"),
        ("reset pgaudit.log", "resets pgaudit.log, which was set to something else before"),
        ("select 1; select pg_drop_replication_slot('touchstone')", "drops a replication slot"),
        ("select pg_replication_slot_advance('touchstone', pg_current_wal_lsn())", "moves a replication slot forward"),
        ("alter table orders replica identity nothing", "sets the replica identity of a table to nothing"),
        ("alter table orders set unlogged", "takes a table out of the write-ahead log"),
        ("create function f() returns int language sql set pgaudit.log = 'none' as 'select 1'", "sets pgaudit.log to 'none'"),
        ("alter system set logging_collector = off", "sets logging_collector to 'off'"),
    ],
)  # fmt: skip
def test_a_statement_that_weakens_the_capture_says_so(statement: str, phrase: str) -> None:
    assert statements.analyse(statement).weakens == (phrase,)


@pytest.mark.parametrize(
    "statement",
    [
        "alter publication touchstone add table orders", "alter table orders replica identity full",
        "set pgaudit.log = 'all'", "set session_replication_role = origin", "select 'alter system set pgaudit.log to none'",
        "update logs set pgaudit = 'none'", "select pg_create_logical_replication_slot('s', 'pgoutput')",
        "select data from pg_logical_slot_peek_changes('truth', null, null)", "reset all", "create table log_slots (id int)",
    ],
)  # fmt: skip
def test_a_statement_that_only_looks_like_it_does_not(statement: str) -> None:
    assert statements.analyse(statement).weakens == ()


def test_bind_values_count() -> None:
    done = statements.analyse("select set_config($1, $2, false)", ("pgaudit.log", "none"))
    assert done.weakens == ("sets pgaudit.log to 'none'",)
