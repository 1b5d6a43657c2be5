"""What another process does under a lock, beside the test."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from django.db import connections

from lineage import locks


class elsewhere:
    """A thread with a connection of its own holds this lock, and has done some work under it."""

    def __init__(self, lock: str, work: Callable[[], Any]) -> None:
        self.lock, self.work = lock, work
        self.done, self.over = threading.Event(), threading.Event()
        self.made: list[Any] = []
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            with locks.alone(self.lock):
                self.made.append(self.work())
                self.done.set()
                self.over.wait(60)
        finally:
            self.done.set()
            connections.close_all()

    def __enter__(self) -> Callable[[], Any]:
        self.thread.start()
        self.done.wait(60)
        return lambda: self.made[0]

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join(60)
