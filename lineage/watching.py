"""How long a question may take: what it asks of DuckDB is interrupted when its time is over."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Interrupted(Protocol):
    """A DuckDB cursor."""

    def interrupt(self) -> None: ...


class Watch(threading.Thread):
    """Interrupts a cursor from the time limit on, again and again: an interrupt between two queries stops neither.

    It runs from when there is a cursor; the time counts from when it was made.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(daemon=True)
        self.ends = time.monotonic() + seconds
        self.over = threading.Event()
        self.cursor: Interrupted | None = None

    @property
    def late(self) -> bool:
        return time.monotonic() >= self.ends

    def begin(self, cursor: Interrupted) -> None:
        self.cursor = cursor
        self.start()

    def run(self) -> None:
        wait = max(0.0, self.ends - time.monotonic())
        while not self.over.wait(wait):
            wait = 0.1
            if self.cursor is not None:
                self.cursor.interrupt()

    def stop(self) -> None:
        self.over.set()
        if self.cursor is not None:
            self.join()
