"""The keeper: signs, seals and tidies under one advisory lock, and does in threads what waits for others.

Not jobs, so that a killed one blocks nobody. `rounds` lists the work; a new round is one line there, or in `lineage.steward`
where it takes long and may come later.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator

from django.conf import settings
from django.db import connection

from lineage import authorities, checkpoints, drops, erasures, errors, held, locks, segments, turns, witnesses
from lineage.extracts import storing
from lineage.findings import telling
from lineage.keyfiles import leaving
from lineage.turns import Round

TIDY_SECONDS = 60.0
FORGETTING_SECONDS = 5.0
LEAVING_SECONDS = 10.0
DROP_PACE_SECONDS = 60.0

more: list[Callable[[], Round]] = []
"""Rounds of other packages; each registers what makes its own when the program starts."""


def rounds() -> list[Round]:
    """What the keeper does. Those under the lock run in this order; one that fails ends the turn of the later ones."""
    signing = _Signing()
    return [
        # First, since it refuses a database that is older than the data folder or not its own: nothing is swept then.
        Round("checkpoint", 0, signing),
        Round("signing", 0, signing.when_late, apart=True),
        # Again and again, since the steward may be killed while this goes on.
        Round("sweep", TIDY_SECONDS, segments.sweep),
        Round("seal", 0, _Sealing()),
        Round("tidy", TIDY_SECONDS, segments.drop_sealed_slots),
        Round("drafts", TIDY_SECONDS, storing.sweep),
        Round("replaced", TIDY_SECONDS, segments.remove_replaced),
        Round("keys", LEAVING_SECONDS, leaving.leave, apart=True),
        Round("forgetting", FORGETTING_SECONDS, erasures.run_due),
        Round("held", FORGETTING_SECONDS, held.sweep),
        Round("timestamps", 5, authorities.Asking(), apart=True),
        Round("witnesses", settings.WITNESS_SECONDS, witnesses.Showing(), apart=True),
        Round("telling", 0, telling.Tellers(), apart=True),
        Round("drops", DROP_PACE_SECONDS, drops.drop_when_due, apart=True),
        *(make() for make in more),
    ]


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
    turns.begin()
    every = rounds()
    turns.beside(every)
    inside = turns.Rounds([each for each in every if not each.apart])
    while True:
        started = time.monotonic()
        time.sleep(turns.turn(lock, inside))
        time.sleep(max(0.05, settings.CHECKPOINT_SECONDS - (time.monotonic() - started)))


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
