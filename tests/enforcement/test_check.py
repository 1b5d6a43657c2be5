"""`enforcement.check` against a real server: what it misses, and that its SQL puts it right."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.enforcement.conftest import Database
from tests.enforcement.processes import BASE

pytestmark = pytest.mark.slow


def check(dsn: str, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "enforcement.check", dsn, *arguments]
    done = subprocess.run(command, cwd=BASE, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def findings(database: Database) -> tuple[int, dict[str, Any]]:
    status, text = check(database.dsn, "--json", "--context-roles", "postgres")
    return status, {finding["check"]: finding for finding in json.loads(text)}


def test_what_it_prints_makes_everything_answerable(database: Database) -> None:
    database.run(
        "create table good(id int primary key)",
        'create table "Odd one"(id int)',
        "create table other(id int primary key)",
    )
    database.run("create publication touchstone for table good with (publish = 'insert')")
    database.run(f"alter database {database.name} set pgaudit.log = 'none'")
    status, found = findings(database)
    assert status == 1
    missing = {name for name, finding in found.items() if not finding["ok"]}
    assert missing == {
        "pgaudit.log covers all classes (missing: ddl, function, misc, read, role, write)",
        "no role or database overrides auditing", "the publication covers every table", "the publication covers every operation",
        "every table has a replica identity", "every table logs whole old rows", "every table has a primary key",
        "only chosen roles may emit messages",
    }  # fmt: skip
    for finding in found.values():
        for statement in finding["sql"]:
            database.run(statement.replace("(…)", "(id)"))
    status, found = findings(database)
    assert [name for name, finding in found.items() if not finding["ok"]] == []
    assert status == 0


def test_a_missing_publication_and_disabled_settings_are_named(database: Database) -> None:
    database.run(f"alter database {database.name} set pgaudit.log_rows = off")
    status, text = check(database.dsn)
    assert status == 1
    assert "MISSING pgaudit.log_rows = off" in text
    assert 'CREATE PUBLICATION "touchstone" FOR ALL TABLES;' in text
    assert f'ALTER DATABASE "{database.name}" RESET pgaudit.log_rows;' in text
    assert text.index("MISSING") < text.index("ok     ")


def test_a_database_that_cannot_be_reached_is_status_2() -> None:
    status, text = check("host=127.0.0.1 port=1 dbname=x connect_timeout=2")
    assert status == 2
    assert "cannot be reached" in text
