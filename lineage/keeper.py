"""The keeper's loop: checkpoint, seal, tidy, under one advisory lock; not jobs, so that a killed one blocks nobody."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator

import psycopg
from django.conf import settings
from django.db import DatabaseError, close_old_connections, connection

from lineage import checkpoints, errors, segments

LOCK = 7302
TIDY_SECONDS = 60.0
log = logging.getLogger("touchstone.keeper")


def run() -> None:
    """For ever: every second or so checkpoint, then seal what is due. A lost database is waited for."""
    while True:
        try:
            if _lock():
                segments.sweep()
                _loop()
            time.sleep(2)
        except (DatabaseError, psycopg.Error) as error:
            log.warning("the database does not answer (%s); trying again", type(error).__name__)
            connection.close()
            time.sleep(1)


def _lock() -> bool:
    """Takes the keeper's lock for this connection; another keeper then waits its turn."""
    close_old_connections()
    with connection.cursor() as cursor:
        cursor.execute("select pg_try_advisory_lock(%s)", [LOCK])
        return bool(cursor.fetchone()[0])


def _loop() -> None:
    sealed_at = tidied_at = time.monotonic()
    while True:
        started = time.monotonic()
        try:
            checkpoints.checkpoint()
        except errors.SignerRefused as error:
            log.error("signer: %s", error.message)
            time.sleep(5)
            continue
        due = started - sealed_at > settings.SEAL_SECONDS
        if segments.seal(least=1 if due else settings.SEAL_EVENTS):
            sealed_at = started
        elif due:
            sealed_at = started
        if started - tidied_at > TIDY_SECONDS:
            segments.drop_sealed_slots()
            tidied_at = started
        time.sleep(max(0.05, settings.CHECKPOINT_SECONDS - (time.monotonic() - started)))


@contextlib.contextmanager
def lock() -> Iterator[None]:
    """Holds the keeper's lock. Raises StoreUnavailable when a running keeper has it for longer than 20 s."""
    with connection.cursor() as cursor:
        for _ in range(200):
            cursor.execute("select pg_try_advisory_lock(%s)", [LOCK])
            if cursor.fetchone()[0]:
                break
            time.sleep(0.1)
        else:
            raise errors.StoreUnavailable("The running keeper holds its lock. Stop `bin/serve`, or let it do the work.")
        try:
            yield
        finally:
            cursor.execute("select pg_advisory_unlock(%s)", [LOCK])


def once() -> int:
    """One checkpoint now, by the running keeper if there is one; returns the signed size."""
    wanted = checkpoints.head()
    for _ in range(200):
        with connection.cursor() as cursor:
            cursor.execute("select pg_try_advisory_lock(%s)", [LOCK])
            if cursor.fetchone()[0]:
                try:
                    return checkpoints.checkpoint()
                finally:
                    cursor.execute("select pg_advisory_unlock(%s)", [LOCK])
            cursor.execute("select coalesce(max(size), 0) from ledger_checkpoint")
            if (size := int(cursor.fetchone()[0])) >= wanted:
                return size
        time.sleep(0.1)
    raise errors.StoreUnavailable("The running keeper did not sign within 20 s. Look at its log.")
