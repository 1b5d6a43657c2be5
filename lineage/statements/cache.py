"""A cache that forgets what was used longest ago, bounded in bytes and safe between threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Cache(Generic[T]):
    """Values with a size each; the sum stays within `limit_bytes`. A value larger than a sixteenth is not kept."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._held = 0
        self._values: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
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
            self._held = 0

    def put(self, key: Hashable, value: T, size_bytes: int) -> None:
        if size_bytes > self._limit // 16:
            return
        with self._lock:
            before = self._values.pop(key, None)
            self._held += size_bytes - (before[1] if before else 0)
            self._values[key] = (value, size_bytes)
            while self._held > self._limit:
                self._held -= self._values.popitem(last=False)[1][1]
