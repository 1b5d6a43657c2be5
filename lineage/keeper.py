"""The keeper's loop: checkpoint, seal, tidy, under one advisory lock; not jobs, so that a killed one blocks nobody."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator

import psycopg
from django.conf import settings
from django.db import DatabaseError, IntegrityError, ProgrammingError, connection

from lineage import alarms, checkpoints, errors, segments

LOCK = 7302
TIDY_SECONDS = 60.0
log = logging.getLogger("touchstone.keeper")


def run() -> None:
    """For ever: every second or so checkpoint, then seal what is due. A lost database is waited for."""
    rounds = _Rounds()
    while True:
        started = time.monotonic()
        try:
            with lock():
                rounds.once(started)
        except errors.SignerRefused as error:
            log.error("signer: %s", error.message)
            time.sleep(5)
        except errors.LedgerBroken as error:
            log.error("sealing: %s", error.message)
            alarms.sound(error.code, error.message)
            time.sleep(5)
        except errors.StoreUnavailable:
            log.info("another keeper is at work")
        except (ProgrammingError, IntegrityError) as error:
            log.error(
                "the database refuses the keeper's work (%s): %s", type(error).__name__, str(error).split("\n")[0]
            )
            connection.close()
            time.sleep(5)
        except (DatabaseError, psycopg.Error) as error:
            log.warning("the database does not answer (%s); trying again", type(error).__name__)
            connection.close()
            time.sleep(1)
        time.sleep(max(0.05, settings.CHECKPOINT_SECONDS - (time.monotonic() - started)))


class _Rounds:
    """What is due when. The lock is taken for each round, so that a command can do the work in between."""

    def __init__(self) -> None:
        self.sealed_at = self.tidied_at = time.monotonic()
        self.swept = False

    def once(self, now: float) -> None:
        # First, since it refuses a database that is older than the data folder or not its own: nothing is swept then.
        checkpoints.checkpoint()
        if not self.swept:
            segments.sweep()
            self.swept = True
        due = now - self.sealed_at > settings.SEAL_SECONDS
        if segments.seal(least=1 if due else settings.SEAL_EVENTS) or due:
            self.sealed_at = now
        if now - self.tidied_at > TIDY_SECONDS:
            segments.drop_sealed_slots()
            self.tidied_at = now


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
    """One checkpoint now; returns the signed size."""
    with lock():
        return checkpoints.checkpoint()
