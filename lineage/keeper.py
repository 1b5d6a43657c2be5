"""The keeper: signs, seals and tidies under one advisory lock, and does in threads what waits for others.

Not jobs, so that a killed one blocks nobody. `rounds` lists the work; a new round is one line there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator

import psycopg
from django.conf import settings
from django.db import DatabaseError, IntegrityError, ProgrammingError, connection

from lineage import (
    alarms,
    authorities,
    checkpoints,
    drops,
    erasures,
    errors,
    health,
    held,
    locks,
    nightly,
    rechecks,
    renewing,
    segments,
    witnesses,
)
from lineage.extracts import keeping, storing
from lineage.findings import judging, telling
from lineage.keyfiles import leaving

TIDY_SECONDS = 60.0
FORGETTING_SECONDS = 5.0
APART_PACE_SECONDS = 1.0
NIGHTLY_PACE_SECONDS = 60.0
LEAVING_SECONDS = 10.0
DROP_PACE_SECONDS = 60.0
MERGE_PACE_SECONDS = 2.0
EXTRACT_PACE_SECONDS = 1.0
log = logging.getLogger("touchstone.keeper")


@dataclasses.dataclass(frozen=True, slots=True)
class Round:
    """Work that is due every `seconds`: 0 each time, infinity once.

    With `apart` it runs in a thread of its own without the keeper's lock, one keeper at a time: for what waits for
    others, such as a witness. An alarm that it must raise is its own affair; a fault is logged and it is tried again.
    """

    name: str
    seconds: float
    work: Callable[[], object]
    apart: bool = False


more: list[Callable[[], Round]] = []
"""Rounds of other packages; each registers what makes its own when the program starts."""


def rounds() -> list[Round]:
    """What the keeper does. Those under the lock run in this order; one that fails ends the turn of the later ones."""
    signing = _Signing()
    return [
        # First, since it refuses a database that is older than the data folder or not its own: nothing is swept then.
        Round("checkpoint", 0, signing),
        Round("signing", 0, signing.when_late, apart=True),
        Round("sweep", math.inf, segments.sweep),
        Round("seal", 0, _Sealing()),
        Round("fsck", NIGHTLY_PACE_SECONDS, nightly.check_when_due, apart=True),
        Round("recheck", 1, rechecks.run_due, apart=True),
        Round("coverage", settings.COVERAGE_SECONDS, health.Watch(), apart=True),
        Round("tidy", TIDY_SECONDS, segments.drop_sealed_slots),
        Round(locks.MERGE, MERGE_PACE_SECONDS, renewing.tend, apart=True),
        Round("drafts", math.inf, storing.sweep),
        Round(locks.EXTRACT, EXTRACT_PACE_SECONDS, keeping.Keeping(), apart=True),
        Round("replaced", TIDY_SECONDS, segments.remove_replaced),
        Round("keys", LEAVING_SECONDS, leaving.leave, apart=True),
        Round("forgetting", FORGETTING_SECONDS, erasures.run_due),
        Round("held", FORGETTING_SECONDS, held.sweep),
        Round("timestamps", 5, authorities.Asking(), apart=True),
        Round("witnesses", settings.WITNESS_SECONDS, witnesses.Showing(), apart=True),
        Round("findings", 0, judging.Judging(), apart=True),
        Round("telling", 0, telling.Tellers(), apart=True),
        Round("drops", DROP_PACE_SECONDS, drops.drop_when_due, apart=True),
        *(make() for make in more),
    ]


class Rounds:
    """What is due when. The lock is taken for each turn, so that a command can do the work in between."""

    def __init__(self, every: list[Round]) -> None:
        self.every = every
        self.begun_at: dict[str, float] = {}

    def due(self, now: float) -> list[Round]:
        return [r for r in self.every if now - self.begun_at.get(r.name, -math.inf) >= r.seconds]

    def once(self, now: float) -> None:
        """Does what is due at `now` (monotonic seconds)."""
        for each in self.due(now):
            # What is done once is done when it has come to its end, not when it failed.
            self.begun_at[each.name] = now if each.seconds < math.inf else -math.inf
            each.work()
            self.begun_at[each.name] = now


class _Signing:
    """Signs, and says when it last began to: no seal, erasure or sweep that takes long keeps what was appended unsigned."""

    def __init__(self) -> None:
        self.at = -math.inf

    def __call__(self) -> None:
        self.at = time.monotonic()
        checkpoints.checkpoint()

    def when_late(self) -> None:
        """Signs beside the keeper's turn while that is long. What holds signers apart is `checkpoints.fence`."""
        if time.monotonic() - self.at > 2 * settings.CHECKPOINT_SECONDS:
            self()


class _Sealing:
    """Seals when enough records wait, or when some have waited long enough."""

    def __init__(self) -> None:
        self.at = time.monotonic()

    def __call__(self) -> None:
        due = time.monotonic() - self.at > settings.SEAL_SECONDS
        if segments.seal(least=1 if due else settings.SEAL_EVENTS) or due:
            self.at = time.monotonic()


def run() -> None:
    """For ever. A lost database is waited for."""
    # As in a web worker: beside one busy thread the default makes each row that is read wait (docs/decisions/003).
    sys.setswitchinterval(0.0005)
    every = rounds()
    for each in every:
        if each.apart:
            threading.Thread(target=_apart, args=(each,), name=each.name, daemon=True).start()
    inside = Rounds([each for each in every if not each.apart])
    while True:
        started = time.monotonic()
        time.sleep(_turn(lock, inside))
        time.sleep(max(0.05, settings.CHECKPOINT_SECONDS - (time.monotonic() - started)))


def _apart(each: Round) -> None:
    one = Rounds([each])
    while True:
        if one.due(time.monotonic()):
            try:
                time.sleep(_turn(lambda: locks.alone(each.name), one))
            except Exception:
                # A thread that ends is missed by nobody: it says what happened and tries again.
                log.exception("%s failed; trying again", each.name)
                connection.close()
        time.sleep(APART_PACE_SECONDS)


def _turn(held: Callable[[], contextlib.AbstractContextManager[None]], due: Rounds) -> float:
    """One turn under a lock; returns how many seconds to wait after a fault."""
    try:
        with held():
            due.once(time.monotonic())
    except (errors.SignerRefused, errors.LedgerBroken) as error:
        log.error("%s: %s", error.code, error.message)
        alarms.sound(error.fields.get("alarm", error.code), error.message)
        return 5
    except errors.StoreUnavailable as error:
        log.info("%s", error.message)
    except errors.TouchstoneError as error:
        log.error("%s: %s", error.code, error.message)
        return 5
    except OSError as error:
        # A full disk, for one: nothing was signed, and what was half written is written again.
        log.error("the data folder cannot be used (%s); trying again", error.strerror or type(error).__name__)
        return 5
    except (ProgrammingError, IntegrityError) as error:
        log.error("the database refuses the keeper's work (%s): %s", type(error).__name__, str(error).split("\n")[0])
        connection.close()
        return 5
    except (DatabaseError, psycopg.Error) as error:
        log.warning("the database does not answer (%s); trying again", type(error).__name__)
        connection.close()
        return 1
    return 0


@contextlib.contextmanager
def lock() -> Iterator[None]:
    """Holds the keeper's lock. Raises StoreUnavailable when a running keeper has it for longer than 20 s."""
    with connection.cursor() as cursor:
        for _ in range(200):
            cursor.execute("select pg_try_advisory_lock(%s)", [locks.KEEPER])
            if cursor.fetchone()[0]:
                break
            time.sleep(0.1)
        else:
            raise errors.StoreUnavailable("The running keeper holds its lock. Stop `bin/serve`, or let it do the work.")
        try:
            yield
        finally:
            cursor.execute("select pg_advisory_unlock(%s)", [locks.KEEPER])


def once() -> int:
    """One checkpoint now; returns the signed size."""
    with lock():
        return checkpoints.checkpoint()
