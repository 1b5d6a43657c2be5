"""Say what a PostgreSQL database, as it is set up, cannot answer, and print the SQL that changes it.

    python -m enforcement.check 'host=db dbname=shop user=postgres'

Reads settings and catalogs, writes nothing. Exit status 0: everything can be answered; 1: something is missing; 2: the database
cannot be reached. `--json` prints a list of findings instead: check, ok, answer (what is lost without it), sql.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import psycopg

from enforcement import canary, replication, shipper


class Finding(NamedTuple):
    """One check: `answer` says what is lost when it is not ok, `sql` what to run (empty when ok)."""

    check: str
    ok: bool
    answer: str
    sql: tuple[str, ...] = ()


class Facts(NamedTuple):
    connection: psycopg.Connection[Any]
    settings: dict[str, str]
    publication: str
    context_roles: tuple[str, ...]


RELOAD = "SELECT pg_reload_conf();"
RESTART = "-- then restart the server"


def read(connection: psycopg.Connection[Any], publication: str, context_roles: tuple[str, ...]) -> Facts:
    """What the checks look at."""
    rows = connection.execute("select name, setting from pg_settings").fetchall()
    return Facts(connection, dict(rows), publication, context_roles)


def findings(facts: Facts) -> list[Finding]:
    """Every check, in the order of the questions."""
    return [finding for check in CHECKS for finding in check(facts)]


def _setting(
    name: str, wanted: Callable[[str], bool], value: str, answer: str, apply: str = RELOAD
) -> Callable[[Facts], Iterator[Finding]]:
    def check(facts: Facts) -> Iterator[Finding]:
        have = facts.settings.get(name)
        ok = have is not None and wanted(have)
        sql = () if ok else (f"ALTER SYSTEM SET {name} = {value};", apply)
        yield Finding(f"{name} = {have if have is not None else '(not there)'}", ok, answer, sql)

    return check


def _one_of(*values: str) -> Callable[[str], bool]:
    return lambda have: have in values


def _pgaudit_is_loaded(facts: Facts) -> Iterator[Finding]:
    libraries = [part.strip() for part in facts.settings.get("shared_preload_libraries", "").split(",") if part.strip()]
    # Ordinary roles do not see the list of libraries, but the settings of one that is loaded.
    ok = "pgaudit" in libraries or "pgaudit.log" in facts.settings
    value = ", ".join(f"'{name}'" for name in [*libraries, "pgaudit"])
    sql = () if ok else (f"ALTER SYSTEM SET shared_preload_libraries = {value};", RESTART)
    yield Finding("pgAudit is loaded", ok, "which tables a statement read or wrote, and how many rows", sql)


def _log_format(facts: Facts) -> Iterator[Finding]:
    formats = {part.strip() for part in facts.settings.get("log_destination", "").split(",")}
    ok = bool(formats & {"csvlog", "jsonlog"}) and facts.settings.get("logging_collector") == "on"
    sql = () if ok else (
        "ALTER SYSTEM SET log_destination = 'csvlog';", "ALTER SYSTEM SET logging_collector = on;", RESTART,
    )  # fmt: skip
    yield Finding("log in csvlog or jsonlog", ok, "which session wrote a line, and whether a line was forged", sql)


def _log_statements(facts: Facts) -> Iterator[Finding]:
    classes = {part.strip().lower() for part in facts.settings.get("pgaudit.log", "none").split(",")}
    missing = [] if "all" in classes else sorted({"read", "write", "ddl", "role", "function", "misc"} - classes)
    ok = not missing and not any(name.startswith("-") for name in classes)
    sql = () if ok else ("ALTER SYSTEM SET pgaudit.log = 'all';", RELOAD)
    what = f" (missing: {', '.join(missing)})" if missing else ""
    yield Finding(
        f"pgaudit.log covers all classes{what}",
        ok,
        "statements of the missing classes, or who ended a transaction",
        sql,
    )


def _overrides(facts: Facts) -> Iterator[Finding]:
    rows = facts.connection.execute(
        """
        select r.rolname, d.datname, split_part(c, '=', 1) from pg_db_role_setting s
        left join pg_roles r on r.oid = s.setrole left join pg_database d on d.oid = s.setdatabase, unnest(s.setconfig) c
        where c ~ '^(pgaudit\\.|log_)' order by 1, 2, 3"""
    ).fetchall()
    sql = []
    for role, database, name in rows:
        place = f" IN DATABASE {_name(database)}" if role and database else ""
        whom = f"ROLE {_name(role)}{place}" if role else f"DATABASE {_name(database)}"
        sql.append(f"ALTER {whom} RESET {name};")
    yield Finding(
        "no role or database overrides auditing",
        not rows,
        "what the roles and databases with other settings did",
        tuple(sql),
    )


def _publication(facts: Facts) -> Iterator[Finding]:
    rows = facts.connection.execute(
        """
        select format('%%I.%%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind = 'r' and c.relpersistence = 'p' and n.nspname not in ('pg_catalog', 'information_schema')
          and n.nspname !~ '^pg_' and not exists (select from pg_publication_tables p
              where p.pubname = %s and p.schemaname = n.nspname and p.tablename = c.relname) order by 1""",
        [facts.publication],
    ).fetchall()
    row = facts.connection.execute(
        "select puballtables, pubinsert and pubupdate and pubdelete and pubtruncate from pg_publication where pubname = %s",
        [facts.publication],
    ).fetchone()
    name = _name(facts.publication)
    if row is None:
        sql: tuple[str, ...] = (f"CREATE PUBLICATION {name} FOR ALL TABLES;",)
        yield Finding(f"publication {facts.publication}", False, "which rows changed", sql)
        return
    sql = tuple(f"ALTER PUBLICATION {name} ADD TABLE {table};" for (table,) in rows)
    yield Finding("the publication covers every table", not rows, "changes in tables that are not published", sql)
    sql = () if row[1] else (f"ALTER PUBLICATION {name} SET (publish = 'insert, update, delete, truncate');",)
    yield Finding("the publication covers every operation", row[1], "the operations that are left out", sql)


def _identities(facts: Facts) -> Iterator[Finding]:
    without = replication.tables_that_would_refuse_updates(facts.connection)
    sql = tuple(f"ALTER TABLE {table} REPLICA IDENTITY FULL;" for table in without)
    yield Finding(
        "every table has a replica identity", not without, "updates and deletes: once published they are refused", sql
    )
    rows = facts.connection.execute(
        """
        select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind = 'r' and c.relpersistence = 'p' and c.relreplident <> 'f' and n.nspname !~ '^pg_'
          and n.nspname <> 'information_schema' order by 1"""
    ).fetchall()
    sql = tuple(f"ALTER TABLE {table} REPLICA IDENTITY FULL;" for (table,) in rows)
    yield Finding("every table logs whole old rows", not rows, "the values before a change (only keys are known)", sql)


def _primary_keys(facts: Facts) -> Iterator[Finding]:
    rows = facts.connection.execute(
        """
        select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p') and c.relpersistence = 'p' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
          and not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary) order by 1"""
    ).fetchall()
    sql = tuple(f"ALTER TABLE {table} ADD PRIMARY KEY (…);" for (table,) in rows)
    yield Finding("every table has a primary key", not rows, "the history of one row", sql)


def _claims(facts: Facts) -> Iterator[Finding]:
    rows = facts.connection.execute(
        """
        select p.oid::regprocedure::text from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x
        where p.proname = 'pg_logical_emit_message' and x.grantee = 0 and x.privilege_type = 'EXECUTE' order by 1"""
    ).fetchall()
    sql = [f"REVOKE EXECUTE ON FUNCTION {name} FROM PUBLIC;" for (name,) in rows]
    if rows:
        roles = ", ".join(map(_name, facts.context_roles)) or "your_application_role"
        sql.append(f"GRANT EXECUTE ON FUNCTION pg_logical_emit_message(boolean, text, text) TO {roles};")
    answer = "whom an application acted for: any role may claim to be somebody (such claims are marked, not believed)"
    yield Finding("only chosen roles may emit messages", not rows, answer, tuple(sql))


def _slots(facts: Facts) -> Iterator[Finding]:
    rows = facts.connection.execute(
        "select slot_name, wal_status from pg_replication_slots where database = current_database() and wal_status = 'lost'"
    ).fetchall()
    sql = tuple(
        f"SELECT pg_drop_replication_slot('{name}');  -- pgwal does this itself and reports the gap" for name, _ in rows
    )
    yield Finding("no replication slot is lost", not rows, "changes since the slot was lost", sql)


def _name(identifier: str) -> str:
    return psycopg.sql.Identifier(identifier).as_string()


CHECKS: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    _pgaudit_is_loaded,
    _log_statements,
    _setting("pgaudit.log_rows", _one_of("on"), "on", "how many rows, and which transaction a statement belongs to"),
    _setting("pgaudit.log_relation", _one_of("on"), "on", "each table of a statement that touches several"),
    _setting("pgaudit.log_parameter", _one_of("on"), "on", "which key a prepared statement looked at"),
    _overrides,
    _log_format,
    _setting("log_connections", lambda have: have not in ("off", ""), "on", "who signed in, from where, and who was refused"),
    _setting("log_disconnections", _one_of("on"), "on", "when a session ended"),
    _setting("log_min_messages", lambda have: have not in ("fatal", "panic"), "warning", "statements that the database refused"),
    _setting("log_min_error_statement", lambda have: have not in ("fatal", "panic"), "error", "the text of refused statements"),
    _setting("lc_messages", lambda have: have.startswith(("en", "C", "POSIX")), "'C'", "log lines in other languages"),
    _setting("wal_level", _one_of("logical"), "logical", "which rows changed", RESTART),
    _setting("max_slot_wal_keep_size", lambda have: have != "-1", "'10GB'", "safety: an absent collector would fill the server's disk"),
    _publication,
    _identities,
    _primary_keys,
    _claims,
    _slots,
)  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The command line; its help is the documentation."""
    made = argparse.ArgumentParser(
        "enforcement.check", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    made.add_argument(
        "dsn",
        nargs="?",
        default=shipper.secret("TOUCHSTONE_DSN"),
        help="connection string (TOUCHSTONE_DSN, or a file: TOUCHSTONE_DSN_FILE)",
    )
    made.add_argument("--publication", default="touchstone", help="publication that pgwal reads (touchstone)")
    made.add_argument("--context-roles", default="", help="roles that may say whom they act for, separated by commas")
    made.add_argument("--json", action="store_true", help="print JSON")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Print what is missing; the exit status says whether something is."""
    options = parser().parse_args(arguments)
    if not options.dsn:
        raise SystemExit("Give the database's connection string, or set TOUCHSTONE_DSN.")
    roles = tuple(name.strip() for name in options.context_roles.split(",") if name.strip())
    try:
        with canary.connect(options.dsn) as connection:
            found = findings(read(connection, options.publication, roles))
    except psycopg.OperationalError as error:
        print(f"The database cannot be reached: {str(error).strip()}", file=sys.stderr)
        return 2
    print(json.dumps([f._asdict() for f in found], indent=1) if options.json else told(found))
    return 0 if all(f.ok for f in found) else 1


def told(found: list[Finding]) -> str:
    """The findings for people: what is missing first, with what it costs and how to change it."""
    lines = []
    for finding in sorted(found, key=lambda f: f.ok):
        lines.append(f"{'ok     ' if finding.ok else 'MISSING'} {finding.check}")
        if not finding.ok:
            lines += [f"        not answered: {finding.answer}", *(f"        {statement}" for statement in finding.sql)]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
