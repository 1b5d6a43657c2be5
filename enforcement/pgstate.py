"""Tell the store who may do what in one PostgreSQL database, and how its auditing is set up.

    TOUCHSTONE_URL=https://store TOUCHSTONE_TOKEN_FILE=token \\
        python -m enforcement.pgstate 'host=db dbname=shop user=touchstone' --spool /var/lib/touchstone/pgstate

Sends roles and memberships, rights on tables, columns and schemas, owners, primary keys, replica identities, publications,
slots and audit settings: at start, once a day, and within seconds after they changed, or were changed and changed
back (every 10 s a fingerprint and the versions of the catalog's rows are compared). Any role that can connect may
run it; nothing is written to the database.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import msgspec
import psycopg

from enforcement import canary, shipper, spool

PART_ENTRIES = 4000
DAY_SECONDS = 86400.0
LISTS = ("roles", "grants", "keys", "marks")

OURS = "n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_(toast|temp)'"
ROLES = """
    select json_build_object('name', r.rolname, 'login', r.rolcanlogin, 'superuser', r.rolsuper,
        'createrole', r.rolcreaterole, 'createdb', r.rolcreatedb, 'replication', r.rolreplication,
        'bypassrls', r.rolbypassrls, 'member_of', coalesce((
            select json_agg(g.rolname order by g.rolname) from (
                select distinct g.rolname from pg_auth_members m join pg_roles g on g.oid = m.roleid
                where m.member = r.oid) g), '[]'))
    from pg_roles r order by r.rolname"""
GRANTS = f"""
    with held as (
        select n.nspname, c.relname, null::name as attname, coalesce(c.relacl, acldefault(
            case c.relkind when 'S' then 's'::"char" else 'r'::"char" end, c.relowner)) as acl
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p', 'v', 'm', 'f') and {OURS}
        union all
        select n.nspname, c.relname, a.attname, a.attacl
        from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
        where a.attacl is not null and not a.attisdropped and {OURS}
        union all
        select n.nspname, null, null, coalesce(n.nspacl, acldefault('n', n.nspowner)) from pg_namespace n where {OURS})
    select json_strip_nulls(json_build_object('grantee', coalesce(e.rolname, 'public'), 'privilege', x.privilege_type,
        'schema', h.nspname, 'relation', h.relname, 'column', h.attname, 'grantor', o.rolname, 'grantable', x.is_grantable))
    from held h cross join lateral aclexplode(h.acl) x
        left join pg_roles e on e.oid = x.grantee left join pg_roles o on o.oid = x.grantor
    order by h.nspname, h.relname nulls first, h.attname nulls first, e.rolname nulls first, x.privilege_type, o.rolname"""  # noqa: S608  constants only
KEYS = f"""
    select json_strip_nulls(json_build_object('schema', n.nspname, 'relation', c.relname, 'owner', pg_get_userbyid(c.relowner),
        'columns', coalesce((
            select json_agg(a.attname order by k.place)
            from pg_index i, unnest(i.indkey) with ordinality k(attnum, place), pg_attribute a
            where i.indrelid = c.oid and i.indisprimary and k.place <= i.indnkeyatts
              and a.attrelid = i.indrelid and a.attnum = k.attnum), '[]'),
        'replica_identity', case when c.relkind in ('r', 'p') then
            case c.relreplident when 'd' then 'default' when 'f' then 'full' when 'i' then 'index' else 'nothing' end end,
        'published', exists (
            select from pg_publication_tables p where p.schemaname = n.nspname and p.tablename = c.relname),
        'kind', case c.relkind when 'r' then 'table' when 'p' then 'partitioned' when 'v' then 'view' when 'm' then 'materialized'
            else 'foreign' end,
        'persistence', case c.relpersistence when 'u' then 'unlogged' when 't' then 'temporary' else 'permanent' end))
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'f') and {OURS} order by n.nspname, c.relname"""  # noqa: S608
SETTINGS = """
    select json_build_object('name', name, 'value', coalesce(setting, '')) from pg_settings
    where name like 'pgaudit.%' or name like 'log\\_%' or name in ('wal_level', 'max_slot_wal_keep_size', 'server_encoding',
        'shared_preload_libraries', 'session_preload_libraries', 'local_preload_libraries', 'logging_collector',
        'password_encryption', 'ssl', 'lc_messages', 'fsync',
        'full_page_writes', 'logical_decoding_work_mem', 'track_commit_timestamp', 'session_replication_role')
    union all
    select json_build_object('name', coalesce(r.rolname, '*') || '@' || coalesce(d.datname, '*') || ':' || split_part(c, '=', 1),
        'value', substr(c, strpos(c, '=') + 1))
    from pg_db_role_setting s left join pg_roles r on r.oid = s.setrole left join pg_database d on d.oid = s.setdatabase,
        unnest(s.setconfig) c
    where c ~ '^(pgaudit\\.|log_|role=|session_replication_role=|session_preload_libraries=|search_path=)'"""
SLOTS = """
    select json_strip_nulls(json_build_object('name', slot_name, 'plugin', plugin, 'active', active,
        'wal_status', wal_status, 'confirmed_lsn', confirmed_flush_lsn::text,
        'restart_lsn', restart_lsn::text)) from pg_replication_slots where not temporary order by slot_name"""
# Columns that came with PostgreSQL 15 (row filter, column list) are asked for by name in the row's JSON.
PUBLISHED = """
    select json_build_object('name', p.pubname, 'all_tables', p.puballtables, 'via_root', p.pubviaroot,
        'operations', array_to_json(array_remove(array[
            case when p.pubinsert then 'insert' end, case when p.pubupdate then 'update' end,
            case when p.pubdelete then 'delete' end, case when p.pubtruncate then 'truncate' end], null)),
        'tables', coalesce((
            select json_agg(json_strip_nulls(json_build_object('schema', t.schemaname, 'relation', t.tablename,
                'row_filter', left(to_jsonb(t) ->> 'rowfilter', 1000),
                'columns', case when to_jsonb(r) ->> 'prattrs' is not null then to_jsonb(t) -> 'attnames' end))
                order by t.schemaname, t.tablename)
            from pg_publication_tables t join pg_namespace n on n.nspname = t.schemaname
                join pg_class c on c.relnamespace = n.oid and c.relname = t.tablename
                left join pg_publication_rel r on r.prpubid = p.oid and r.prrelid = c.oid
            where t.pubname = p.pubname and not p.puballtables), '[]'))
    from pg_publication p order by p.pubname"""
# A row that was changed and changed back says the same as before, but another transaction wrote it (xmin). Statistics and
# freezing are written in place and leave xmin alone.
MARKS = f"""
    with marked(object, version, content) as (
        select 'publication ' || p.pubname, p.xmin::text, to_jsonb(p) - 'oid' from pg_publication p
        union all
        select 'table ' || n.nspname || '.' || c.relname || ' in publication ' || p.pubname, r.xmin::text, to_jsonb(r) - 'oid'
        from pg_publication_rel r join pg_publication p on p.oid = r.prpubid
            join pg_class c on c.oid = r.prrelid join pg_namespace n on n.oid = c.relnamespace
        union all
        select 'table ' || n.nspname || '.' || c.relname, c.xmin::text, to_jsonb(c) - '{{relpages,reltuples,relallvisible,relallfrozen,
            relfrozenxid,relminmxid,relhasindex}}'::text[]
        from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'p') and {OURS}
        union all
        select 'settings of ' || coalesce(r.rolname, '*') || '@' || coalesce(d.datname, '*'), s.xmin::text, to_jsonb(s)
        from pg_db_role_setting s left join pg_roles r on r.oid = s.setrole left join pg_database d on d.oid = s.setdatabase
        union all
        select 'configuration', to_char(pg_conf_load_time() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
            (select jsonb_agg(g.j order by g.j ->> 'name') from ({SETTINGS.replace("json_build", "jsonb_build")}) g(j)))
    select json_build_object('object', left(object, 500), 'version', version, 'content', md5(content::text)) from marked order by object"""  # noqa: S608
FACTS = """
    select current_database(), current_setting('server_version'), (select system_identifier::text from pg_control_system()),
        (select coalesce(json_agg(pubname order by pubname), '[]') from pg_publication)"""
FINGERPRINT = f"""
    select md5(string_agg(line, ',' order by line)) from (
        select 'r' || md5(r::text) from pg_roles r
        union all select 'm' || md5(m::text) from pg_auth_members m
        union all select 'c' || md5(concat_ws('|', c.oid, c.relname, c.relkind, c.relowner, c.relacl, c.relreplident, c.relnatts))
            from pg_class c join pg_namespace n on n.oid = c.relnamespace
            where c.relkind in ('r', 'p', 'v', 'm', 'f') and {OURS}
        union all select 'n' || md5(n::text) from pg_namespace n where {OURS}
        union all select 'a' || md5(concat_ws('|', attrelid, attname, attacl)) from pg_attribute where attacl is not null
        union all select 'i' || indexrelid from pg_index where indisprimary or indisreplident
        union all select 'p' || md5(p::text) from pg_publication p
        union all select 'q' || md5(p::text) from pg_publication_rel p
        union all select 's' || md5(s::text) from pg_db_role_setting s
        union all select 'w' || md5(slot_name || coalesce(wal_status, '')) from pg_replication_slots where not temporary
        union all select 'g' || md5(j::text) from ({SETTINGS}) g(j)
    ) lines(line)"""  # noqa: S608

Snapshot = dict[str, Any]


def fingerprint(connection: psycopg.Connection[Any]) -> str:
    """Changes whenever something that a snapshot tells has changed (and after DDL on tables)."""
    row = connection.execute(FINGERPRINT.encode()).fetchone()
    return row[0] if row else ""


def marks(connection: psycopg.Connection[Any]) -> dict[str, tuple[str, str]]:
    """Version and content of each watched catalog row and of the configuration."""
    rows = connection.execute(MARKS.encode()).fetchall()
    return {row[0]["object"]: (row[0]["version"], row[0]["content"]) for row in rows}


def written_again(before: dict[str, tuple[str, str]], after: dict[str, tuple[str, str]]) -> bool:
    """Whether something says the same as before and yet was written meanwhile."""
    return any(
        name in before and before[name][1] == content and before[name][0] != version
        for name, (version, content) in after.items()
    )


def snapshot(connection: psycopg.Connection[Any]) -> Snapshot:
    """Everything, as of one moment, in the form of docs/collector-protocol.md."""
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")

        def all_of(query: str) -> list[Any]:
            return [row[0] for row in connection.execute(query.encode()).fetchall()]

        facts = connection.execute(FACTS.encode()).fetchone()
        assert facts is not None
        return {
            "mode": "snapshot",
            "at": shipper.now(),
            "system_identifier": facts[2],
            "database": facts[0],
            "server_version": facts[1],
            "roles": all_of(ROLES),
            "grants": all_of(GRANTS),
            "settings": all_of(SETTINGS),
            "publications": facts[3],
            "slots": all_of(SLOTS),
            "keys": all_of(KEYS),
            "published": all_of(PUBLISHED),
            "marks": all_of(MARKS),
        }


def parts(whole: Snapshot) -> list[Snapshot]:
    """The snapshot, or for a large database a first part and differences that add the rest, microseconds later."""
    made = []
    count = max(1, *(-(-len(whole[name]) // PART_ENTRIES) for name in LISTS))
    for number in range(count):
        part = {name: whole[name][number * PART_ENTRIES : (number + 1) * PART_ENTRIES] for name in LISTS}
        if number == 0:
            made.append({**whole, **part})
            continue
        kept = {name: whole[name] for name in ("system_identifier", "database", "server_version")}
        made.append({"mode": "difference", "at": f"{whole['at'][:-7]}{number:06d}Z", **kept, **part})
    if count > 1:
        made[0]["at"] = f"{whole['at'][:-7]}000000Z"
    return made


class Watcher:
    """Looks at one database again and again and spools a snapshot when it is due."""

    def __init__(self, dsn: str, queue: spool.Spool, stop: shipper.StopSignal) -> None:
        self.dsn, self.queue, self.stop = dsn, queue, stop
        self.problem = ""
        self._connection: psycopg.Connection[Any] | None = None
        self._seen = ""
        self._marks: dict[str, tuple[str, str]] = {}
        self._daily_due = 0.0

    def look(self) -> None:
        """Compare, and spool a snapshot when something was changed (also when changed back) or a day has passed.

        Notes a database that is away.
        """
        try:
            if self._connection is None:
                self._connection = canary.connect(self.dsn)
                self._connection.execute("set statement_timeout = '60s'")
            seen = fingerprint(self._connection)
            marked = marks(self._connection)
            again = written_again(self._marks, marked)
            if seen != self._seen or again or time.monotonic() >= self._daily_due:
                self._spool(snapshot(self._connection), seen)
            self._marks = marked
            self.problem = ""
        except psycopg.OperationalError as error:
            told = f"the database cannot be read: {type(error).__name__}"
            if told != self.problem:
                shipper.say(f"pgstate: {told}. Trying on.")
            self.problem = told
            self.close()

    def _spool(self, whole: Snapshot, seen: str) -> None:
        items = [shipper.item(part["at"], msgspec.json.encode(part)) for part in parts(whole)]
        self.queue.put(items, {"text": whole["at"]}, while_waiting=self.stop.check)
        self.queue.sync()
        self._seen, self._daily_due = seen, time.monotonic() + DAY_SECONDS

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def parser() -> argparse.ArgumentParser:
    """The command line; its help is the documentation."""
    made = argparse.ArgumentParser(
        "enforcement.pgstate", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    default = shipper.secret("TOUCHSTONE_DSN")
    made.add_argument(
        "dsn",
        nargs="?",
        default=default,
        help="connection string of the database (TOUCHSTONE_DSN, or a file: TOUCHSTONE_DSN_FILE)",
    )
    made.add_argument("--watch", type=float, default=10.0, metavar="SECONDS", help="time between comparisons (10)")
    shipper.add_options(made)
    return made


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT (or once). Exit status 0; with --once 1 when the database cannot be read."""
    options = parser().parse_args(arguments)
    if not options.dsn:
        raise SystemExit("Give the database's connection string, or set TOUCHSTONE_DSN.")
    stop = shipper.StopSignal()
    queue = shipper.open_spool(options)
    sender = shipper.from_options(options, queue, "pgstate")
    watcher = Watcher(options.dsn, queue, stop)
    try:
        while True:
            watcher.look()
            sender.note(reader=watcher.problem)
            while options.once and not watcher.problem and not sender.drain(1.0):
                stop.check()
            if options.once:
                return 1 if watcher.problem else 0
            stop.event.wait(options.watch)
            stop.check()
    except shipper.Stopped:
        return 0
    finally:
        watcher.close()
        sender.stop()
        queue.close()


if __name__ == "__main__":
    raise SystemExit(main())
