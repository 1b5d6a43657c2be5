"""A cache that keeps what comes again and forgets what was used longest ago, bounded in bytes and safe between threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")
MOST_SEEN = 32_768


class Cache(Generic[T]):
    """Values with a size each; the sum stays within `limit_bytes`. A value larger than a sixteenth is not kept.

    A value is kept when it is put for the second time, or `at_once`: texts with a new literal each time would only fill the
    memory, and Python's collector would walk through all of them again and again.
    """

    def __init__(self, limit_bytes: int, *, at_once: bool = False) -> None:
        self._limit = limit_bytes
        self._at_once = at_once
        self._held = 0
        self._values: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
        self._seen: set[int] = set()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> T | None:
        with self._lock:
            found = self._values.get(key)
            if found is None:
                return None
            self._values.move_to_end(key)
            return found[0]

    def clear(self) -> None:
        with self._lock:
            self._values.clear()
            self._seen.clear()
            self._held = 0

    def put(self, key: Hashable, value: T, size_bytes: int) -> None:
        if size_bytes > self._limit // 16:
            return
        with self._lock:
            if not self._at_once and self._is_new(hash(key)):
                return
            before = self._values.pop(key, None)
            self._held += size_bytes - (before[1] if before else 0)
            self._values[key] = (value, size_bytes)
            while self._held > self._limit:
                self._held -= self._values.popitem(last=False)[1][1]

    def _is_new(self, mark: int) -> bool:
        """Whether it comes for the first time; another key with the same hash is only kept earlier."""
        if mark in self._seen:
            return False
        if len(self._seen) >= MOST_SEEN:
            self._seen.clear()
        self._seen.add(mark)
        return True
