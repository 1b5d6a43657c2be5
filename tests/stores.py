"""Databases for tests that need one each: cloned from a template, and made as new again instead of dropped where that is sure.

A test may do anything to its database. What it wrote goes by truncating what holds rows and copying in what the template
held; a database whose catalogs are not the template's any more is dropped. A name is never used twice, so that what a test
left running finds nothing.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import sql

OURS = "n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')"
PARTITION = "(c.relispartition and c.relname like 'ledger_journal%')"
CATALOGS = f"""
select md5(string_agg(told, e'\\n' order by told)) from (
    select concat_ws(' ', 'class', n.nspname, c.relname, c.relkind, c.relowner, c.relacl, c.reloptions, c.relrowsecurity,
        c.relhasrules, c.relreplident, c.relispartition, c.relpersistence) as told
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where {OURS} and not {PARTITION} and not exists (select 1 from pg_index i join pg_class t on t.oid = i.indrelid
        where i.indexrelid = c.oid and t.relispartition)
    union all select concat_ws(' ', 'column', a.attrelid::regclass, a.attname, a.atttypid::regtype, a.attnotnull, a.attacl,
        a.attidentity, pg_get_expr(d.adbin, d.adrelid))
    from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where {OURS} and c.relkind in ('r', 'p', 'v') and not {PARTITION}
    union all select concat_ws(' ', 'trigger', t.tgname, t.tgrelid::regclass, t.tgenabled, pg_get_triggerdef(t.oid))
    from pg_trigger t join pg_class c on c.oid = t.tgrelid where not t.tgisinternal and not {PARTITION}
    union all select concat_ws(' ', 'function', p.oid::regprocedure, md5(p.prosrc), p.proacl, p.prosecdef, p.proowner, p.proconfig)
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace where {OURS}
    union all select concat_ws(' ', 'constraint', k.conrelid::regclass, k.conname, k.convalidated, pg_get_constraintdef(k.oid))
    from pg_constraint k join pg_class c on c.oid = k.conrelid join pg_namespace n on n.oid = k.connamespace
    where {OURS} and not {PARTITION}
    union all select concat_ws(' ', 'schema', n.nspname, n.nspowner, n.nspacl) from pg_namespace n
    where n.nspname not like 'pg_temp%' and n.nspname not like 'pg_toast%'
    union all select concat_ws(' ', 'extension', extname, extversion) from pg_extension
    union all select concat_ws(' ', 'event trigger', evtname, evtenabled) from pg_event_trigger
    union all select concat_ws(' ', 'rule', ev_class::regclass, rulename, ev_enabled) from pg_rewrite where oid >= 16384
    union all select concat_ws(' ', 'policy', polname, polrelid::regclass) from pg_policy
    union all select concat_ws(' ', 'setting', setrole, setconfig) from pg_db_role_setting s
    join pg_database b on b.oid = s.setdatabase where b.datname = current_database()
    union all select concat_ws(' ', 'large object', oid) from pg_largeobject_metadata
    union all select concat_ws(' ', 'publication', pubname) from pg_publication
    union all select concat_ws(' ', 'prepared', gid) from pg_prepared_xacts where database = current_database()
    union all select concat_ws(' ', 'slot', slot_name) from pg_replication_slots where database = current_database()
) catalogs"""
HOLDING = f"""
select format('%I.%I', n.nspname, c.relname), c.relispartition from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and {OURS} and (pg_relation_size(c.oid) > 0 or {PARTITION})"""
SEQUENCES = "select format('%I.%I', schemaname, sequencename), start_value, last_value from pg_sequences"


class Stores:
    """Clones of one template. `as_superuser` is None on a server that is not ours: then each clone is dropped."""

    def __init__(self, template: str, as_owner: dict[str, Any], as_superuser: dict[str, Any] | None) -> None:
        self.template, self.as_owner, self.as_superuser = template, as_owner, as_superuser
        self.clean: list[str] = []
        self.catalogs = ""
        self.rows: dict[str, bytes] = {}
        self.sequences: dict[str, tuple[int, bool]] = {}
        if as_superuser is not None:
            with self._inside(template) as inside:
                self._remember(inside)

    def take(self, like: str = "") -> str:
        """A database as the template is, or as the one named, to which nobody is connected; under a name of its own."""
        name = f"store_{uuid.uuid4().hex[:12]}"
        with self._admin() as admin:
            if self.clean and not like:
                admin.execute(_sql("alter database {} rename to {}", self.clean.pop(), name))
            else:
                admin.execute(_sql("create database {} template {}", name, like or self.template))
        return name

    def give_back(self, name: str) -> None:
        """Makes it as new for the next test, or drops it. Nobody needs it any more."""
        if self.as_superuser is not None:
            with self._inside(name) as inside:
                if self._clean(inside):
                    self.clean.append(name)
                    return
        self._drop(name)

    def _remember(self, inside: psycopg.Connection[Any]) -> None:
        self.catalogs = _one(inside, CATALOGS)
        for table, _ in inside.execute(HOLDING.encode()).fetchall():
            with inside.cursor().copy(f"copy {table} to stdout (format binary)".encode()) as copy:
                self.rows[table] = b"".join(copy)
        for name, start, last in inside.execute(SEQUENCES.encode()).fetchall():
            self.sequences[name] = (start if last is None else last, last is not None)

    def _clean(self, inside: psycopg.Connection[Any]) -> bool:
        """Whether it is as the template now. What a test left running in it is ended first."""
        inside.execute(
            "select pg_terminate_backend(pid, 10000) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'"
        )
        if _one(inside, CATALOGS) != self.catalogs:
            return False
        holding = inside.execute(HOLDING.encode()).fetchall()
        emptied = [table for table, is_partition in holding if not is_partition]
        steps = ["set session_replication_role = replica"]
        steps += [f"drop table {table}" for table, is_partition in holding if is_partition]
        steps += [f"truncate {', '.join(emptied)} cascade"] if emptied else []
        steps += [f"select setval('{name}', {last}, {is_called})" for name, (last, is_called) in self.sequences.items()]
        with inside.transaction():
            inside.execute("; ".join(steps).encode())
            for table, rows in self.rows.items():
                with inside.cursor().copy(f"copy {table} from stdin (format binary)".encode()) as copy:
                    copy.write(rows)
        return True

    def _drop(self, name: str) -> None:
        """An autovacuum worker, which only a superuser may end, is waited for."""
        with self._admin() as admin:
            for _ in range(60):
                with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
                    admin.execute(_sql("drop database {} with (force)", name))
                    return
                time.sleep(0.5)

    def _admin(self) -> psycopg.Connection[Any]:
        return psycopg.connect(**self.as_owner, autocommit=True)

    def _inside(self, name: str) -> psycopg.Connection[Any]:
        assert self.as_superuser is not None
        return psycopg.connect(**(self.as_superuser | {"dbname": name}), autocommit=True)


def of(template: str, server: Callable[..., dict[str, Any]], is_ours: bool) -> Stores:
    """The databases of one test process."""
    return Stores(template, server(dbname="touchstone"), server("postgres") if is_ours else None)


def _one(inside: psycopg.Connection[Any], query: str) -> str:
    row = inside.execute(query.encode()).fetchone()
    assert row is not None
    return str(row[0])


def _sql(text: str, *names: str) -> sql.Composed:
    return sql.SQL(text).format(*map(sql.Identifier, names))
