"""The keeper's round: look at the sources, then commit to the counts of what was sealed."""

from __future__ import annotations

from django.utils import timezone

from lineage.health import counts, rounds


class Watch:
    """Called once a minute. It knows since when this keeper lives: what was silent before that was not heard by us."""

    def __init__(self) -> None:
        self.since = timezone.now()

    def __call__(self) -> None:
        rounds.look(self.since)
        counts.commit_counts()
