"""Extracts made and merged now, for tests."""

from __future__ import annotations

from lineage import locks
from lineage.extracts import making, merging, storing
from tests import merges


def everything() -> int:
    """Makes extracts of all that is sealed; returns how many."""
    made = 0
    with locks.alone(locks.EXTRACT):
        while making.make():
            made += 1
    return made


def merged() -> int:
    """Merges until one is left; returns how often."""
    done = 0
    with merges.eager(), locks.alone(locks.EXTRACT):
        while merging.merge():
            done += 1
    return done


def spans() -> list[tuple[int, int]]:
    return [(one.first, one.following) for one in storing.manifest()]
