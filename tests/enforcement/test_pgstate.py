"""Snapshots of a real database: complete, readable by the store, and sent again when something changes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from enforcement import pgstate
from lineage.events import Event
from lineage.sources import pgstate as reader
from tests.enforcement.conftest import Database
from tests.enforcement.processes import Collector
from tests.enforcement.sink import Sink

pytestmark = pytest.mark.slow

Make = Callable[..., Collector]


def state(sink: Sink) -> dict[str, Any]:
    record: dict[str, Any] = sink.items()[-1]["record"]
    return record


def test_roles_rights_keys_and_settings_are_told_as_they_are(database: Database, collector: Make, sink: Sink) -> None:
    name = database.name
    database.run(
        f"create role {name}_staff", f"create role {name}_bob login", f"grant {name}_staff to {name}_bob",
        f"alter role {name}_bob set pgaudit.log = 'none'",
        "create table pair(b text, a int, v int, primary key (a, b))", "create table loose(id int)",
        "alter table loose replica identity full", "create view seen as select 1 as one",
        f"grant select (v), update (v) on pair to {name}_staff", f"grant insert on pair to {name}_bob with grant option",
        f"alter table loose owner to {name}_staff", "create publication part for table pair",
    )  # fmt: skip
    try:
        assert collector("pgstate", database.dsn, "--once").start().wait() == 0
        told = state(sink)
        assert (told["mode"], told["database"], told["publications"]) == ("snapshot", name, ["part"])
        roles = {role["name"]: role for role in told["roles"]}
        assert roles[f"{name}_bob"]["member_of"] == [f"{name}_staff"]
        assert (roles["postgres"]["superuser"], roles[f"{name}_staff"]["login"]) == (True, False)
        grants = {
            (g["grantee"], g["privilege"], g.get("relation"), g.get("column"), g["grantable"]) for g in told["grants"]
        }
        assert (f"{name}_staff", "UPDATE", "pair", "v", False) in grants
        assert (f"{name}_bob", "INSERT", "pair", None, True) in grants
        assert ("postgres", "DELETE", "pair", None, False) in grants
        assert ("public", "USAGE", None, None, False) in grants
        keys = {key["relation"]: key for key in told["keys"]}
        assert keys["pair"] == {"schema": "public", "relation": "pair", "owner": "postgres", "columns": ["a", "b"],
                                "replica_identity": "default", "published": True, "kind": "table",
                                "persistence": "permanent"}  # fmt: skip
        assert (keys["loose"]["owner"], keys["loose"]["columns"], keys["loose"]["replica_identity"]) == (
            f"{name}_staff",
            [],
            "full",
        )
        assert "replica_identity" not in keys["seen"]
        settings = {s["name"]: s["value"] for s in told["settings"]}
        assert (settings["wal_level"], settings["pgaudit.log"]) == ("logical", "all")
        assert settings[f"{name}_bob@*:pgaudit.log"] == "none"
        (part,) = told["published"]
        assert (part["all_tables"], part["operations"]) == (False, ["insert", "update", "delete", "truncate"])
        assert part["tables"] == [{"schema": "public", "relation": "pair"}]
        assert {"publication part", "table public.pair", "table public.pair in publication part", "configuration"} <= {
            mark["object"] for mark in told["marks"]
        }
        body = b"\n".join(json.dumps(item).encode() for item in sink.items())
        assert [type(output) for output in reader.parse(body, feed=True)] == [Event]
    finally:
        database.run(f"drop owned by {name}_staff, {name}_bob cascade", f"drop role {name}_staff, {name}_bob")


def test_an_ordinary_role_can_run_it(database: Database, collector: Make, sink: Sink) -> None:
    database.run(f"create role {database.name}_c login password 'p'")
    dsn = database.cluster.dsn(f"{database.name}_c", "p", database.name)
    assert collector("pgstate", dsn, "--once").start().wait() == 0
    assert state(sink)["system_identifier"].isdigit()
    database.run(f"drop role {database.name}_c")


@pytest.mark.parametrize(
    "change",
    [
        "grant select on t to public",
        "alter table t add column v int",
        "alter table t replica identity full",
        "create table u()",
        "create publication p for all tables",
        "alter database {name} set pgaudit.log = 'read'",
    ],
)
def test_ddl_and_grants_are_noticed_within_a_look(database: Database, change: str) -> None:
    database.run("create table t(id int primary key)")
    with database.connect() as connection:
        before = pgstate.fingerprint(connection)
        assert pgstate.fingerprint(connection) == before
        connection.execute("insert into t values (1)")
        connection.execute("analyze t")
        connection.execute("vacuum t")
        assert pgstate.fingerprint(connection) == before
        connection.execute(change.format(name=database.name).encode())
        assert pgstate.fingerprint(connection) != before


@pytest.mark.parametrize(
    ("there", "back"),
    [
        ("alter table t replica identity full", "alter table t replica identity default"),
        ("alter publication p drop table t", "alter publication p add table t"),
        ("alter publication p set (publish = 'insert')", "alter publication p set (publish = 'insert,update,delete,truncate')"),
        ("alter database {name} set log_statement = 'none'", "alter database {name} set log_statement = 'all'"),
        ("select pg_reload_conf()", "select pg_sleep(0.2)"),
    ],
)  # fmt: skip
def test_what_was_changed_and_changed_back_is_noticed(database: Database, there: str, back: str) -> None:
    database.run("create table t(id int primary key)", "create publication p for table t")
    database.run(f"alter database {database.name} set log_statement = 'all'")
    with database.connect() as connection:
        seen, before = pgstate.fingerprint(connection), pgstate.marks(connection)
        for harmless in ("insert into t values (1)", "analyze t", "vacuum t", "create index on t (id)"):
            connection.execute(harmless.encode())
        assert not pgstate.written_again(before, pgstate.marks(connection))
        for statement in (there, back):
            connection.execute(statement.format(name=database.name).encode())
        assert pgstate.written_again(before, pgstate.marks(connection))
        assert pgstate.fingerprint(connection) == seen or "publication" in there or "database" in there


def test_a_change_is_sent_and_a_quiet_database_is_not_repeated(database: Database, collector: Make, sink: Sink) -> None:
    database.run("create table t(id int primary key)")
    one = collector("pgstate", database.dsn, "--watch", "0.2").start()
    sink.wait_for(lambda: len(sink.batches) == 1)
    time.sleep(1)
    assert len(sink.batches) == 1
    database.run("alter table t replica identity full")
    sink.wait_for(lambda: len(sink.batches) == 2)
    assert state(sink)["keys"][0]["replica_identity"] == "full"
    one.kill9()
    one.start()
    # What was not acknowledged before the kill may come twice, under its old number.
    sink.wait_for(lambda: len(sink.items()) == 3)
    assert [item["sequence"] for item in sink.items()] == [1, 2, 3]
    assert one.stop() == 0


def test_a_database_that_is_away_is_said_and_come_back_to(database: Database, collector: Make, sink: Sink) -> None:
    one = collector("pgstate", database.dsn, "--watch", "0.2").start()
    sink.wait_for(lambda: len(sink.batches) == 1)
    database.cluster.kill9()
    time.sleep(1)
    database.cluster.start()
    database.run("create table t(id int primary key)")
    sink.wait_for(lambda: len(sink.batches) == 2)
    assert one.stop() == 0
    assert "cannot be read" in one.told


def test_a_large_snapshot_is_sent_as_a_first_part_and_differences_that_add_the_rest() -> None:
    whole = {
        "mode": "snapshot", "at": "2026-11-21T01:49:32.009748Z", "system_identifier": "7", "database": "d", "server_version": "15",
        "roles": [{"name": f"r{n}"} for n in range(10)], "settings": [{"name": "a", "value": "b"}], "publications": [], "slots": [],
        "grants": [{"grantee": f"g{n}"} for n in range(9000)], "keys": [{"schema": "s", "relation": f"t{n}"} for n in range(4001)],
        "marks": [],
    }  # fmt: skip
    made = pgstate.parts(whole)
    assert [part["mode"] for part in made] == ["snapshot", "difference", "difference"]
    assert [part["at"][-7:] for part in made] == ["000000Z", "000001Z", "000002Z"]
    assert [entry for part in made for entry in part["grants"]] == whole["grants"]
    assert [entry for part in made for entry in part["keys"]] == whole["keys"]
    assert [entry for part in made for entry in part["roles"]] == whole["roles"]
    body = json.dumps(made).encode()
    outputs = list(reader.parse(body))
    assert all(isinstance(output, Event) for output in outputs)
    assert len({output.source_event_id for output in outputs if isinstance(output, Event)}) == 3
