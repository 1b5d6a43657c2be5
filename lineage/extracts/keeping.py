"""The keeper's turns at extracts: what is sealed is extracted soon afterwards, and what is small is merged (docs/extracts.md)."""

from __future__ import annotations

import time

from django.db import connection

from lineage import segments
from lineage.extracts import making, merging

SECONDS_MOST = 5.0
"""Of one turn, but for the last that it makes or merges."""


def work() -> None:
    """Makes what is due; merges where nothing is. Call under `locks.alone(locks.EXTRACT)`."""
    until = time.monotonic() + SECONDS_MOST
    while time.monotonic() < until:
        if _waited_for():
            return
        if not making.make() and not merging.merge():
            return


def _waited_for() -> bool:
    """Whether an erasure waits until nobody makes extracts of what was before it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select exists (select 1 from ledger_erasure where state = 'pending' and replaced_to is null "
            "and published_at <= clock_timestamp() - make_interval(secs => %s))",
            [segments.wait_seconds()],
        )
        return bool(cursor.fetchone()[0])
