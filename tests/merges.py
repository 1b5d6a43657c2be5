"""Merges that need no sixteen segments, for tests over merged files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from lineage import locks, merging


@contextlib.contextmanager
def eager() -> Iterator[None]:
    """Two neighbours are enough."""
    before = merging.MANY, merging.GROWTH
    merging.MANY, merging.GROWTH = 2, 1
    try:
        with locks.alone(locks.MERGE):
            yield
    finally:
        merging.MANY, merging.GROWTH = before


def everything() -> int:
    """Merges until one segment is left; returns how often."""
    merges = 0
    with eager():
        while merging.merge():
            merges += 1
    return merges
