"""The replication connection, and the slot and publication that it needs.

psycopg has no replication cursor; its low-level layer gives libpq's COPY calls, which is all that is needed.
"""

from __future__ import annotations

import dataclasses
import select
import struct
import time
from typing import Any

import psycopg
from psycopg import conninfo, pq, sql

from enforcement import pgoutput_decoder as decoder

WAL_DATA_HEADER = 25
_STATUS = struct.Struct(">cQQQqB")
_KEEPALIVE = struct.Struct(">QqB")
# Output of values must not depend on how the role or the database is set up.
SESSION = (
    "-c datestyle=ISO -c intervalstyle=postgres -c extra_float_digits=3 -c timezone=UTC -c bytea_output=hex"
    " -c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0"
)


class Unusable(Exception):
    """The database is not set up for capture; the message holds the SQL that helps."""


class Disconnected(Exception):
    """The stream ended; connect again."""


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Names and permissions as the command line gives them."""

    dsn: str
    slot: str
    publication: str
    tables: tuple[str, ...] = ()
    create: bool = False
    accept_unbounded_wal: bool = False
    accept_refused_updates: bool = False


@dataclasses.dataclass(frozen=True)
class Slot:
    """`confirmed_lsn` is None when the slot does not exist. `is_lost`: the server removed log that it needed."""

    confirmed_lsn: int | None
    is_lost: bool = False


@dataclasses.dataclass(frozen=True)
class Keepalive:
    """The server has sent everything up to `lsn`."""

    lsn: int
    wants_reply: bool


class Stream:
    """A started logical replication stream."""

    def __init__(self, wanted: Wanted, encoding: str = "UTF8") -> None:
        """Connect and start; text comes in `encoding`. psycopg.Error or Disconnected when the server refuses."""
        parameters = conninfo.conninfo_to_dict(wanted.dsn)
        parameters["options"] = f"{parameters.get('options') or ''} {SESSION}".strip()
        whole = conninfo.make_conninfo(
            "", **{**parameters, "replication": "database", "client_encoding": encoding}, connect_timeout=10
        )
        self._connection = pq.PGconn.connect(whole.encode())
        if self._connection.status != pq.ConnStatus.OK:
            raise Disconnected(_reason(self._connection))
        answer = self._run(b"IDENTIFY_SYSTEM", pq.ExecStatus.TUPLES_OK)
        self.system_identifier = (answer.get_value(0, 0) or b"").decode()
        self.timeline = int(answer.get_value(0, 1) or 0)
        options = (
            f"proto_version '2', publication_names '{_quoted(wanted.publication)}', messages 'true', streaming 'on'"
        )
        command = f'START_REPLICATION SLOT "{wanted.slot}" LOGICAL 0/0 ({options})'
        self._run(command.encode(), pq.ExecStatus.COPY_BOTH)

    def _run(self, command: bytes, expected: pq.ExecStatus) -> Any:
        result = self._connection.exec_(command)
        if result.status != expected:
            reason = _reason(self._connection)
            self.close()
            raise Disconnected(reason)
        return result

    def receive(self) -> bytes | Keepalive | None:
        """The next message of the plugin, or a keepalive, or None when nothing is there yet."""
        try:
            size, data = self._connection.get_copy_data(1)
            if size == 0:
                self._connection.consume_input()
                size, data = self._connection.get_copy_data(1)
        except psycopg.Error as error:
            raise Disconnected(str(error).strip()) from None
        if size == 0:
            return None
        if size < 0:
            result = self._connection.get_result()
            raise Disconnected(result.error_message.decode("utf-8", "replace").strip() if result else "stream ended")
        message = bytes(data)
        if message[:1] == b"w":
            return message[WAL_DATA_HEADER:]
        lsn, _, wants_reply = _KEEPALIVE.unpack_from(message, 1)
        return Keepalive(lsn, bool(wants_reply))

    def wait(self, seconds: float) -> None:
        """Wait until something can be received, at most so long."""
        select.select([self._connection.socket], [], [], seconds)

    def confirm(self, lsn: int) -> None:
        """Tell the server that everything up to `lsn` is safe here: it may forget it."""
        clock = int((time.time() - decoder.EPOCH.timestamp()) * 1e6)
        try:
            self._connection.put_copy_data(_STATUS.pack(b"r", lsn, lsn, lsn, clock, 0))
            self._connection.flush()
        except psycopg.Error as error:
            raise Disconnected(str(error).strip()) from None

    def close(self) -> None:
        self._connection.finish()


def _reason(connection: pq.abc.PGconn) -> str:
    return connection.error_message.decode("utf-8", "replace").strip().splitlines()[0]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""').replace("'", "''") + '"'


def check_settings(connection: psycopg.Connection[Any], wanted: Wanted) -> None:
    """Unusable, with what to do, unless the server can stream changes without endangering itself."""
    if connection.info.server_version < 140000:
        raise Unusable("Change capture needs PostgreSQL 14 or later (pgoutput with messages and streaming).")
    if _setting(connection, "wal_level") != "logical":
        raise Unusable("wal_level is not logical. Run: ALTER SYSTEM SET wal_level = 'logical'; and restart the server.")
    if _setting(connection, "max_slot_wal_keep_size") == "-1" and not wanted.accept_unbounded_wal:
        raise Unusable(
            "max_slot_wal_keep_size is not set: were this collector away for long, the server's disk would fill up. Run:\n"
            "  ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'; SELECT pg_reload_conf();\n"
            "or start with --accept-unbounded-wal."
        )


def _setting(connection: psycopg.Connection[Any], name: str) -> str:
    row = connection.execute("select setting from pg_settings where name = %s", [name]).fetchone()
    return row[0] if row else ""


def ensure_publication(connection: psycopg.Connection[Any], wanted: Wanted) -> None:
    """Make the publication when it is missing and may be made; Unusable, with the SQL, otherwise."""
    if connection.execute("select 1 from pg_publication where pubname = %s", [wanted.publication]).fetchone():
        return
    tables: sql.Composable = sql.SQL("for all tables")
    if wanted.tables:
        names = [sql.Identifier(*table.split(".", 1)) for table in wanted.tables]
        tables = sql.SQL("for table {}").format(sql.SQL(", ").join(names))
    command = sql.SQL("create publication {} {}").format(sql.Identifier(wanted.publication), tables)
    if not wanted.create:
        text = command.as_string(connection)
        raise Unusable(f"There is no publication {wanted.publication}. Start with --create, or run: {text};")
    refused = tables_that_would_refuse_updates(connection, wanted.tables)
    if refused and not wanted.accept_refused_updates:
        fixes = "\n".join(f"  ALTER TABLE {name} REPLICA IDENTITY FULL;" for name in refused)
        raise Unusable(
            "These tables have no usable replica identity: once published, PostgreSQL refuses UPDATE and DELETE on them.\n"
            f"Run the following first, or publish only some tables with --tables:\n{fixes}"
        )
    connection.execute(command)


def tables_that_would_refuse_updates(connection: psycopg.Connection[Any], only: tuple[str, ...] = ()) -> list[str]:
    """Tables, quoted where needed, whose UPDATE and DELETE fail when published. `only`: schema.table names, or all."""
    rows = connection.execute(
        """
        select format('%I.%I', n.nspname, c.relname), n.nspname || '.' || c.relname
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p') and c.relpersistence = 'p'
          and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_toast'
          and (c.relreplident = 'n' or c.relreplident = 'd'
               and not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary))
        order by 1"""
    ).fetchall()
    wanted = {name if "." in name else f"public.{name}" for name in only}
    return [quoted for quoted, plain in rows if not only or plain in wanted]


def find_slot(connection: psycopg.Connection[Any], wanted: Wanted) -> Slot:
    """The slot as it is. Unusable when it is of another plugin or database."""
    row = connection.execute(
        "select plugin, database = current_database(), wal_status, confirmed_flush_lsn::text"
        " from pg_replication_slots where slot_name = %s",
        [wanted.slot],
    ).fetchone()
    if row is None:
        return Slot(None)
    plugin, is_here, wal_status, confirmed = row
    if plugin != "pgoutput" or not is_here:
        raise Unusable(f"The slot {wanted.slot} is another's (plugin {plugin}). Choose another name with --slot.")
    return Slot(decoder.lsn_number(confirmed or "0/0"), wal_status == "lost")


def make_slot(connection: psycopg.Connection[Any], wanted: Wanted, *, replace: bool) -> int:
    """Create the slot, after dropping a lost one; the position from which it is consistent."""
    if replace:
        connection.execute("select pg_drop_replication_slot(%s)", [wanted.slot])
    # Creation waits for the transactions that run now, however long they take.
    connection.execute("set statement_timeout = 0")
    query = "select lsn::text from pg_create_logical_replication_slot(%s, 'pgoutput')"
    row = connection.execute(query, [wanted.slot]).fetchone()
    assert row is not None
    return decoder.lsn_number(row[0])


class Catalog:
    """Type names and primary keys, asked for when first needed, over a connection that is opened anew when it breaks."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: psycopg.Connection[Any] | None = None
        self._types: dict[int, str | None] = {}

    def type_name(self, oid: int) -> str | None:
        """As format_type names it; None when the type is gone."""
        if not self._types:
            rows = self._all(
                "select oid::bigint, format_type(oid, null) from pg_type where oid < 16384 and typelem = 0", []
            )
            self._types = dict(rows)
        if oid not in self._types:
            rows = self._all("select format_type(oid, null) from pg_type where oid = %s::bigint::oid", [oid])
            self._types[oid] = rows[0][0] if rows else None
        return self._types[oid]

    def primary_key(self, relation: int) -> tuple[str, ...]:
        """Column names in the key's own order; empty without a primary key."""
        rows = self._all(
            """
            select a.attname from pg_index i, unnest(i.indkey) with ordinality k(attnum, place), pg_attribute a
            where i.indrelid = %s::bigint::oid and i.indisprimary and k.place <= i.indnkeyatts
              and a.attrelid = i.indrelid and a.attnum = k.attnum order by k.place""",
            [relation],
        )
        return tuple(name for (name,) in rows)

    def _all(self, query: str, parameters: list[int]) -> list[Any]:
        try:
            if self._connection is None or self._connection.closed:
                self._connection = psycopg.connect(
                    self._dsn,
                    autocommit=True,
                    connect_timeout=10,
                    application_name="touchstone",
                    client_encoding="utf8",
                )
            return self._connection.execute(query.encode(), parameters).fetchall()
        except psycopg.OperationalError as error:
            self.close()
            raise Disconnected(str(error).strip()) from None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def wal_end(connection: psycopg.Connection[Any]) -> int:
    """Where the write-ahead log ends now."""
    row = connection.execute("select pg_current_wal_lsn()::text").fetchone()
    assert row is not None
    return decoder.lsn_number(row[0])
