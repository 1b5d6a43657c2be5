"""The steward's turns at extracts: what is sealed is extracted soon afterwards, and what is small is merged (docs/extracts.md)."""

from __future__ import annotations

import math
import time

from django.conf import settings
from django.db import connection

from lineage import segments
from lineage.extracts import making, merging

SECONDS_MOST = 5.0
"""Of one turn, but for the last that it makes or merges."""
LEAST, WAIT_SECONDS = 20_000, 30.0
"""One is made when so many records are sealed and not extracted, or so long after the last: each costs half a second by itself."""
BEHIND = 4
"""While so many times what a seal waits for is not sealed, sealing goes first."""


class Keeping:
    """Makes what is due and merges where nothing is. Call it under `locks.alone(locks.EXTRACT)`."""

    def __init__(self) -> None:
        self.begun_at = -math.inf

    def __call__(self) -> None:
        until = time.monotonic() + SECONDS_MOST
        while time.monotonic() < until:
            if _waited_for() or segments.waiting() > BEHIND * settings.SEAL_EVENTS:
                return
            if not self._make() and not merging.merge():
                return

    def _make(self) -> bool:
        now = time.monotonic()
        if now < self.begun_at + WAIT_SECONDS and _waiting() < LEAST:
            return False
        self.begun_at = now
        return making.make() is not None


def _waiting() -> int:
    """How many records are sealed and not extracted, of whatever basis the extracts are."""
    with connection.cursor() as cursor:
        cursor.execute("select ledger_sealed_to() - coalesce(max(next_index), 0) from ledger_extract")
        return int(cursor.fetchone()[0])


def _waited_for() -> bool:
    """Whether an erasure waits until nobody makes extracts of what was before it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select exists (select 1 from ledger_erasure where state = 'pending' and replaced_to is null "
            "and published_at <= clock_timestamp() - make_interval(secs => %s))",
            [segments.wait_seconds()],
        )
        return bool(cursor.fetchone()[0])
