"""What one process keeps between questions, and when it forgets it."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import threading
import time
import weakref
from typing import Any

import psycopg

from lineage import instance, joining, reported, snapshots, statements, tail
from lineage.extracts import opening
from lineage.listening import Listening
from lineage.snapshots import Snapshot, State

IDLE_SECONDS = 30.0


class Process:
    """What one process keeps between questions: the DuckDB instance, its joins, and the projected tail."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.database = instance.connect()
        self.joins = joining.Joins(self.database, instance.sealed)
        self.opening = opening.Opening(self.database, self.joins)
        self.listening = Listening(instance.sealed)
        self.reported = reported.Reported(self.database, instance.sealed)
        self.store: str | None = None
        self.tail = tail.Tail()
        self.erased_at: dt.datetime | None = None
        self.newest: tuple[State, Snapshot] | None = None
        self.asked_at = time.monotonic()
        self.address: dict[str, Any] = {}
        threading.Thread(target=_look_when_idle, args=(weakref.ref(self),), name="forgetting", daemon=True).start()

    def forget(self, store: str | None) -> None:
        """Drops every value that is remembered: of the tail, of joins, of what was heard, and of statements."""
        self.store, self.newest = store, None
        self.tail.forget()
        self.joins.forget()
        self.opening.forget()
        self.listening.forget()
        statements.forget()

    def look_when_idle(self) -> None:
        if (
            not (self.tail.parts or self.joins.remembers or self.opening.remembers or self.listening.remembers)
            or time.monotonic() - self.asked_at < IDLE_SECONDS
        ):
            return
        # A lost database has nothing to tell; the next look will.
        with contextlib.suppress(psycopg.Error), psycopg.connect(**self.address) as own:
            if own.execute(snapshots.ERASED_AT).fetchone() != (self.erased_at,):
                with self.lock:
                    self.forget(None)


def _look_when_idle(process: weakref.ref[Process]) -> None:
    """A process that is asked nothing learns of an erasure too; else it would remember the values."""
    while True:
        time.sleep(IDLE_SECONDS)
        here = process()
        if here is None:
            return
        here.look_when_idle()
        # DuckDB must be let go of at exit, where this thread is only stopped.
        del here
