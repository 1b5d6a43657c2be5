"""`--check`: what is wrong with the databases of the settings, each with what mends it. Changes nothing."""

from __future__ import annotations

import http.client
from typing import Any

import psycopg

from enforcement import shipper
from enforcement.gateway.catalogs import Keeper, Unavailable
from enforcement.gateway.databases import Upstream
from enforcement.gateway.errands import Errands
from enforcement.gateway.settings import Account, Database, Settings, secret
from enforcement.gateway.upstream import UpstreamRefused

UNTOLD = Errands("", lambda _: None)
"""What it asks is in the server's log as what it is: somebody who looks at a database with the gateway's passwords."""
FACTS = """select current_setting('server_version_num')::int, rolsuper, rolreplication, rolbypassrls, rolcreaterole,
has_function_privilege('pg_logical_emit_message(boolean, text, text)', 'execute'), current_setting('wal_level'),
current_setting('standard_conforming_strings'), pg_encoding_to_char(d.encoding)
from pg_roles r, pg_database d where r.rolname = current_user and d.datname = current_database()"""


async def check(settings: Settings) -> list[str]:
    """One sentence for each fault, with the command behind it."""
    found = []
    for database in settings.database:
        for account in database.account:
            faults = await _account(database, account, settings.gateway.connect_seconds)
            found += [f"[[database]] {database.name}, account {account.account}: {fault}" for fault in faults]
        if not found:
            found += await _catalog(database)
    return found + _store(settings)


async def _account(database: Database, account: Account, seconds: float) -> list[str]:
    try:
        connected = await Upstream(database, seconds).connect(account, {})
    except UpstreamRefused as refused:
        return [f"{refused.sentence} {refused.detail}{_advice(refused, account)}"]
    connected.wire.close()
    try:
        async with UNTOLD.session(database, account, "check") as connection:
            row = await (await connection.execute(FACTS)).fetchone()
    except psycopg.Error as error:
        return [f"cannot be looked at ({type(error).__name__})."]
    return _faults(row, database, account) if row else ["has no role of its own."]


def _advice(refused: UpstreamRefused, account: Account) -> str:
    if refused.sqlstate != "08004":
        return ""
    return (
        f"\n    create role {account.account} login;  -- then set its password to that of {account.password_file}:"
        f"\n    \\password {account.account}"
        f"\n    -- and in pg_hba.conf: hostssl all {account.account} GATEWAY/32 scram-sha-256"
    )


def _faults(row: tuple[Any, ...], database: Database, account: Account) -> list[str]:
    version, is_super, replicates, bypasses, creates_roles, may_emit, wal_level, strings, encoding = row
    role = account.account
    checks = [
        (version < 130000, f"the server is version {version // 10000}; the gateway knows 13 and newer."),
        (is_super, f"is a superuser, who can undo everything.\n    alter role {role} nosuperuser;"),
        (replicates, f"may replicate, past all rules.\n    alter role {role} noreplication;"),
        (bypasses, f"passes row-level security by.\n    alter role {role} nobypassrls;"),
        (creates_roles, f"may make roles, and so accounts around the gateway.\n    alter role {role} nocreaterole;"),
        (
            database.identity_message and not may_emit,
            "may not say who writes (identity_message)."
            f"\n    grant execute on function pg_logical_emit_message(boolean, text, text) to {role};",
        ),
        (
            database.identity_message and wal_level != "logical",
            f"wal_level is {wal_level}: change capture sees nothing.\n    alter system set wal_level = 'logical';  -- then restart",
        ),
        (
            strings != "on",
            f"standard_conforming_strings is off.\n    alter role {role} set standard_conforming_strings = on;",
        ),
        (encoding not in ("UTF8", "SQL_ASCII"), f"the database's encoding is {encoding}; texts are read as UTF-8."),
    ]
    return [text for wrong, text in checks if wrong]


async def _catalog(database: Database) -> list[str]:
    keeper = Keeper(database, UNTOLD, lambda _: None)
    try:
        await keeper.load()
    except Unavailable as error:
        return [f"[[database]] {database.name}: its catalog cannot be read: {error}."]
    finally:
        await keeper.close()
    return []


def _store(settings: Settings) -> list[str]:
    own = settings.gateway
    if not own.store:
        return []
    store = shipper.Store(own.store, secret(own.token_file), "gateway", ca_file=own.store_ca_file or None)
    try:
        connection = shipper.connect(store, 10)
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
        connection.close()
    except (OSError, http.client.HTTPException) as error:
        return [
            f"The store {own.store} does not answer ({type(error).__name__}). Correct [gateway] store, or start it."
        ]
    return [] if status == 200 else [f"The store {own.store} answers {status}: is the address right?"]
