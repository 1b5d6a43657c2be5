"""Batches that come at once share a transaction: while one commits, those that come meanwhile wait for the next.

Nobody waits for company: the first to come appends at once. Each batch has its own outcome (`ledger.append_all`).
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from lineage import ledger

RECORDS_MOST = 10_000
BYTES_MOST = 16 << 20
RESTED_SECONDS = 1.0
PREPARED_AFTER = 5
"""As psycopg itself does; Django has none prepared."""


class Shared:
    """One connection to the database for threads that take turns. Not one for each: it costs more than a hundred records."""

    def __init__(self) -> None:
        self._connection: BaseDatabaseWrapper | None = None
        self._used_at = 0.0

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """For the length of the block it is this thread's. The caller sees to it that only one thread is in it."""
        if self._connection is None:
            self._connection = connections.create_connection(DEFAULT_DB_ALIAS)
            self._connection.inc_thread_sharing()
            given = self._connection.settings_dict
            # The few statements of an append come again and again: PostgreSQL parses and plans each once.
            options = given["OPTIONS"] | {"prepare_threshold": PREPARED_AFTER}
            self._connection.settings_dict = given | {"OPTIONS": options}
        elif time.monotonic() - self._used_at > RESTED_SECONDS:
            self._connection.close_if_unusable_or_obsolete()
        own, connections[DEFAULT_DB_ALIAS] = connections[DEFAULT_DB_ALIAS], self._connection
        try:
            yield
        finally:
            connections[DEFAULT_DB_ALIAS] = own
            self._used_at = time.monotonic()


class _Waiting:
    """A batch in line. `turn` is released when its outcome is there, or when it is this one's turn to append.

    `after` is woken by this one: were all woken at once, they would stand in each other's way.
    """

    __slots__ = ("after", "batch", "outcome", "size", "turn")

    def __init__(self, batch: ledger.Batch) -> None:
        self.batch = batch
        self.size = sum(len(row.body) for row in batch.rows)
        self.outcome: ledger.Outcome | BaseException | None = None
        self.after: _Waiting | None = None
        self.turn = threading.Lock()
        self.turn.acquire()


class Gathering:
    """The line of one process. Threads append for each other: whose turn it is takes along all that wait.

    `connected` is entered by who appends, one after the other.
    """

    def __init__(self) -> None:
        self.connected: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
        self._guard = threading.Lock()
        self._line: list[_Waiting] = []
        self._is_busy = False

    def append(self, batch: ledger.Batch) -> list[ledger.Placed]:
        """As `ledger.append`, for one of several threads. Raises what became of this batch alone."""
        mine = _Waiting(batch)
        with self._guard:
            self._line.append(mine)
            is_first, self._is_busy = not self._is_busy, True
        if not is_first:
            mine.turn.acquire()
            if mine.after is not None:
                mine.after.turn.release()
        if mine.outcome is None:
            self._lead()
        if isinstance(mine.outcome, list):
            return mine.outcome
        raise mine.outcome or RuntimeError("a batch came to no outcome")

    def _lead(self) -> None:
        """Appends for all that wait, then leaves the lead to the first of those that came meanwhile."""
        with self._guard:
            taken = self._take()
        outcomes: list[ledger.Outcome | BaseException] = []
        try:
            with self.connected():
                outcomes += ledger.append_all([each.batch for each in taken])
        except BaseException as error:
            # Not one of those that wait may be left waiting, whatever ends this thread.
            outcomes = [error] * len(taken)
            raise
        finally:
            with self._guard:
                following = self._line[0] if self._line else None
                self._is_busy = following is not None
            for each, outcome in zip(taken, outcomes, strict=True):
                each.outcome = outcome
            for each, after in itertools.pairwise(taken[1:]):
                each.after = after
            for first in (following, *taken[1:2]):
                if first is not None:
                    first.turn.release()

    def _take(self) -> list[_Waiting]:
        """The longest beginning of the line that one transaction may hold; at least its first."""
        records = size = count = 0
        for each in self._line:
            records, size = records + len(each.batch.entries), size + each.size
            if count and (records > RECORDS_MOST or size > BYTES_MOST):
                break
            count += 1
        taken, self._line = self._line[:count], self._line[count:]
        return taken
