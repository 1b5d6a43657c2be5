"""A store for the signer's tests, and what an insider with all rights does to it."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest
from django.conf import settings
from django.db import connection, connections

from lineage import checkpoints, errors, ingest, ledger
from lineage.events import Event, Statement
from lineage.models import Source


class Log:
    """The store's log: records come in, it is signed, and it is tampered with."""

    def __init__(self, server: Callable[..., dict[str, Any]]) -> None:
        self.server = server
        self.source = Source.objects.create(name="shop", format="events", environment="prod", datasource="orders")
        self.copies: list[str] = []
        self.number = 0

    @property
    def data(self) -> Path:
        return Path(settings.DATA_DIR)

    @property
    def state(self) -> Path:
        return self.data / "signer" / "signed.json"

    @property
    def hashes(self) -> Path:
        return self.data / "log" / "hashes"

    def add(self, count: int = 3) -> None:
        """Records as a source sends them, in one batch."""
        entries = []
        for _ in range(count):
            self.number += 1
            event = Event(
                kind="query", op="read", source_event_id=str(self.number), occurred_at="2026-11-21T04:00:00.000000Z",
                statement=Statement(text=f"select {self.number}", state="whole"),
            )  # fmt: skip
            entry = ingest.admit(self.source, event)
            assert isinstance(entry, ledger.Entry)
            entries.append(entry)
        ledger.append(self.source.pk, entries)

    def refused(self, work: Callable[[], object] = checkpoints.checkpoint) -> str:
        """The alarm of the refusal, after making sure that nothing was signed and the alarm stands as a record."""
        before, state = self.notes(), self.state.read_bytes() if self.state.exists() else None
        try:
            work()
        except (errors.SignerRefused, errors.LedgerBroken) as error:
            code = error.fields["alarm"]
        else:
            raise AssertionError("it was not refused")
        assert self.notes() == before
        assert (self.state.read_bytes() if self.state.exists() else None) == state
        return code

    def refused_before_publishing(self) -> str:
        """As `refused`, where the state is already durable: it is what a restart would publish, and it does not."""
        before = self.notes()
        with pytest.raises(errors.SignerRefused) as refusal:
            checkpoints.checkpoint()
        assert self.notes() == before
        return refusal.value.fields["alarm"]

    def notes(self) -> dict[int, str]:
        return dict(self.rows("select size, note from ledger_checkpoint order by size"))

    def alarms(self) -> list[str]:
        return [code for (code,) in self.rows("select code from ledger_alarm where cleared_at is null order by code")]

    def told(self, text: str) -> int:
        """How many records of the store itself hold this text."""
        return self.rows("select count(*) from ledger_journal where position(%s in action) > 0", text.encode())[0][0]

    def rows(self, sql: str, *values: Any) -> list[Any]:
        with connection.cursor() as cursor:
            cursor.execute(sql, values)
            return cursor.fetchall()

    def tamper(self, *statements: str) -> None:
        """Runs statements past the triggers, as an owner can."""
        tables = [table for (table,) in self.rows(
            "select relname from pg_class where relkind in ('r', 'p') and relname like 'ledger\\_%%'"
        )]  # fmt: skip
        with connection.cursor() as cursor:
            for table in tables:
                cursor.execute(f"alter table {table} disable trigger user")
            for statement in statements:
                cursor.execute(statement)
            for table in tables:
                cursor.execute(f"alter table {table} enable trigger user")

    def stuff(self) -> None:
        """From now on the log takes no record."""
        self.tamper("alter table ledger_head add constraint stuffed check (size < 0) not valid")

    def unstuff(self) -> None:
        self.tamper("alter table ledger_head drop constraint stuffed")

    def copy_database(self) -> str:
        """A backup of the database; returns its name."""
        name = f"backup_{uuid.uuid4().hex[:12]}"
        self._create(name, connection.settings_dict["NAME"])
        self.copies.append(name)
        return name

    def restore_database(self, backup: str) -> None:
        name = f"restored_{uuid.uuid4().hex[:12]}"
        self._create(name, backup)
        self.copies.append(name)
        connection.settings_dict["NAME"] = name

    def copy_data(self) -> Path:
        """A backup of the data folder."""
        backup = self.data.with_name(f"backup-{uuid.uuid4().hex[:6]}")
        shutil.copytree(self.data, backup)
        return backup

    def restore_data(self, backup: Path) -> None:
        shutil.rmtree(self.data)
        shutil.copytree(backup, self.data)

    def _create(self, name: str, template: str) -> None:
        connections.close_all()
        with psycopg.connect(**self.server(dbname="touchstone"), autocommit=True) as admin:
            admin.execute(f'create database "{name}" template "{template}"')


L = TypeVar("L", bound=Log)


@contextlib.contextmanager
def log(server: Callable[..., dict[str, Any]]) -> Iterator[Log]:
    with tended(Log(server)) as made:
        yield made


@contextlib.contextmanager
def tended(made: L) -> Iterator[L]:
    """Afterwards the test's own database is in use again and the copies are gone."""
    name, server = connection.settings_dict["NAME"], made.server
    try:
        yield made
    finally:
        connections.close_all()
        connection.settings_dict["NAME"] = name
        with psycopg.connect(**server(dbname="touchstone"), autocommit=True) as admin:
            for copy in made.copies:
                with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
                    admin.execute(f'drop database if exists "{copy}" with (force)')
