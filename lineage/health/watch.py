"""The keeper's round: look at the sources, then commit to the counts of what was sealed."""

from __future__ import annotations

import math
import time

from django.conf import settings
from django.utils import timezone

from lineage import segments
from lineage.health import counts, rounds

BEHIND_SECONDS = 300.0
"""So seldom sources are looked at while much waits to be sealed: to look costs as much for each record as to seal it."""


class Watch:
    """Called once a minute. It knows since when this keeper lives: what was silent before that was not heard by us."""

    def __init__(self) -> None:
        self.since = timezone.now()
        self.looked_at = -math.inf

    def __call__(self) -> None:
        now = time.monotonic()
        if now < self.looked_at + BEHIND_SECONDS and segments.waiting() > 4 * settings.SEAL_EVENTS:
            return
        rounds.look(self.since)
        counts.commit_counts()
        self.looked_at = now
