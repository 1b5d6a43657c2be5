"""No effect that a database had lacks its name in the gateway's judgement, whatever random SQL it is given.

Each text runs on PostgreSQL 15 in a transaction that is rolled back. What it did is told by pgAudit (relations read and
written), by the statistics of the transaction (rows changed) and by the system catalog (relations made, dropped, emptied).
"""

from __future__ import annotations

import contextlib
import csv
import json
import time
from collections.abc import Iterator
from random import Random
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.pq import ExecStatus

from demo.monitored import Monitored
from enforcement.gateway.catalog import UNKNOWN
from enforcement.gateway.effects import Judged, Scope
from tests.bypass.grammar import Writer
from tests.bypass.shop import Gate

pytestmark = pytest.mark.slow

SCOPE = Scope(role="postgres", session_user="postgres")
WRITES = frozenset({"insert", "update", "delete", "truncate", "import"})
Effect = tuple[str, str, str]
"""Verb, schema and relation; the verb `write` is any of them."""


class Database:
    """Runs texts and says what they did."""

    def __init__(self, monitored: Monitored) -> None:
        self.log_dir = monitored.log_dir
        self.connection = psycopg.connect(monitored.dsn(dbname="bypass"), autocommit=True, prepare_threshold=None)
        self.watcher = psycopg.connect(monitored.dsn(dbname="bypass"), autocommit=True, prepare_threshold=None)
        self.watcher.execute("set pgaudit.log = 'none'")
        self.connection.execute("set statement_timeout = '20s'; set client_min_messages = 'error'")
        self.name = self._one("select 'bypass ' || pg_backend_pid()")
        self.connection.execute(f"set application_name = '{self.name}'".encode())
        self.read_to: dict[str, int] = {}
        self.cases = self.failed = 0

    def close(self) -> None:
        self.connection.close()
        self.watcher.close()

    def _one(self, sql: str) -> Any:
        row = self.connection.execute(sql.encode()).fetchone()
        return None if row is None else row[0]

    def did(self, sql: str) -> set[Effect]:
        """Everything that the text did before it was rolled back."""
        self.cases += 1
        self.connection.execute("begin")
        before, counted = self._relations(), self._counts()
        changed: set[Effect] = set()
        if self._run(sql):
            changed = self._changed(before, counted)
        else:
            self.failed += 1
        self.connection.execute("rollback")
        self.connection.execute("deallocate all")
        self.connection.execute(f"select 'end of case {self.cases}'".encode())
        return changed | self._audited(f"end of case {self.cases}")

    def _run(self, sql: str) -> bool:
        """Sends the text as one simple query; returns whether it ran to its end."""
        pg = self.connection.pgconn
        pg.send_query(sql.encode())
        is_whole = True
        while (result := pg.get_result()) is not None:
            if result.status == ExecStatus.COPY_OUT:
                while pg.get_copy_data(0)[0] > 0:
                    pass
            is_whole = is_whole and result.status != ExecStatus.FATAL_ERROR
        return is_whole

    def _relations(self) -> dict[tuple[str, str], int]:
        rows = self.connection.execute(
            "select n.nspname, c.relname, coalesce(pg_relation_filenode(c.oid), 0) from pg_class c join pg_namespace n on"
            " n.oid = c.relnamespace where c.relkind in ('r', 'p', 'v', 'm') and n.nspname !~ '^(pg_toast|pg_catalog|inf)'"
        )
        return {(_schema(schema), name): node for schema, name, node in rows}

    def _counts(self) -> dict[Effect, int]:
        """Rows changed by relation: of this transaction, and of earlier ones that the server has not yet added up."""
        rows = self.connection.execute(
            "select schemaname, relname, n_tup_ins, n_tup_upd, n_tup_del from pg_stat_xact_user_tables"
        )
        return {
            (verb, _schema(schema), name): count
            for schema, name, *counts in rows
            for verb, count in zip(("insert", "update", "delete"), counts, strict=True)
        }

    def _changed(self, before: dict[tuple[str, str], int], counted: dict[Effect, int]) -> set[Effect]:
        found = {effect for effect, count in self._counts().items() if count > counted.get(effect, 0)}
        after = self._relations()
        made = after.keys() ^ before.keys()
        emptied = {("truncate", *name) for name in after.keys() & before.keys() if after[name] != before[name]}
        # What CREATE TABLE AS fills, it has made.
        return {effect for effect in found if effect[1:] not in made} | {("ddl", *name) for name in made} | emptied

    def _audited(self, end: str) -> set[Effect]:
        messages: list[str] = []
        deadline = time.monotonic() + 60
        while not any(end in message for message in messages):
            assert time.monotonic() < deadline, "the log did not come within a minute"
            messages += self._new_lines()
            if not any(end in message for message in messages):
                time.sleep(0.005)
        lines = [next(csv.reader([m.removeprefix("AUDIT: ")])) for m in messages if m.startswith("AUDIT: ")]
        return {effect for line in lines if (effect := _accessed(line)) is not None}

    def _new_lines(self) -> list[str]:
        found = []
        for path in sorted(self.log_dir.glob("*.json")):
            with path.open("rb") as file:
                file.seek(self.read_to.get(path.name, 0))
                raw = file.read()
            end = raw.rfind(b"\n") + 1
            self.read_to[path.name] = self.read_to.get(path.name, 0) + end
            lines = (json.loads(line) for line in raw[:end].splitlines())
            found += [line["message"] for line in lines if line.get("application_name") == self.name]
        return found


def _schema(name: str) -> str:
    return "pg_temp" if name.startswith("pg_temp") else name


def _accessed(fields: list[str]) -> Effect | None:
    """Verb and relation of an AUDIT line that names a table or view as read or written."""
    _, _, _, group, command, kind, name, *_ = fields
    if group not in ("READ", "WRITE") or kind in ("FUNCTION", "SEQUENCE", "") or not name or "end of case" in fields[7]:
        return None
    schema, _, relation = name.partition(".")
    if schema.strip('"') in ("pg_catalog", "information_schema"):
        return None
    verb = "read" if group == "READ" else command.split()[0].lower()
    return verb, _schema(_bare(schema)), _bare(relation)


def _bare(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


@pytest.fixture(scope="module")
def database(gate: Gate, monitored: Monitored) -> Iterator[Database]:
    if not monitored.has_pgaudit:
        pytest.skip("needs Debian's PostgreSQL 15 with pgAudit")
    with monitored.connect("bypass") as admin, contextlib.suppress(psycopg.errors.DuplicateObject):
        admin.execute("create schema audit; create extension pgaudit schema audit")
    made = Database(monitored)
    yield made
    made.close()


def unnamed(gate: Gate, judged: Judged, did: set[Effect]) -> set[Effect]:
    """What the database did and the judgement does not name."""
    return {effect for effect in did if not _is_named(judged, effect) and not _is_beyond(gate, judged, effect)}


def _is_named(judged: Judged, effect: Effect) -> bool:
    """Under its own name, or as a relation that the catalog does not know, which rules take for any."""
    verb, schema, relation = effect
    return any(
        (
            (touch.schema, touch.relation) == (schema, relation)
            or (UNKNOWN in touch.classes and touch.certainty != "exact")
        )
        and _covers(touch.verb, verb)
        for touch in judged.touches
    )


def _covers(named: str, verb: str) -> bool:
    """A write names the read of its own rows too; COPY TO is a read; pgAudit calls some changes by their statement."""
    if verb == "read":
        return named in WRITES or named in ("read", "export")
    return named == verb or (verb not in WRITES and verb != "ddl" and named in WRITES)


def _is_beyond(gate: Gate, judged: Judged, effect: Effect) -> bool:
    """What no text tells and the gateway says so: triggers are named without what they do, and a foreign key looks its
    rows up in the other table."""
    verb, schema, relation = effect
    if relation == "audit_log" and judged.triggers:
        return True
    looked_up = gate.catalog.find(schema, relation)
    if looked_up is None and ("ddl", schema, relation) in {(t.verb, t.schema, t.relation) for t in judged.touches}:
        # Renamed by the same text: through a view it is known by its old name.
        return any(_covers(touch.verb, verb) for touch in judged.touches)
    referring = {gate.catalog.by_oid[oid].name for oid, *_ in looked_up.referenced_by} if looked_up else set()
    return verb == "read" and any(touch.verb in WRITES and touch.relation in referring for touch in judged.touches)


@settings(max_examples=300, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32))
def run_one(gate: Gate, database: Database, seed: int) -> None:
    sql = Writer(Random(seed)).text()
    judged = gate.judged(sql, SCOPE)
    did = database.did(sql)
    assert judged.opaque or unnamed(gate, judged, did) == set(), sql


def test_nothing_that_the_database_does_is_without_a_name(gate: Gate, database: Database) -> None:
    run_one(gate, database)
    assert database.cases >= 300
    # Texts that PostgreSQL refuses show nothing.
    assert database.failed < database.cases / 3
