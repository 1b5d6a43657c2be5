"""The sessions that run now: counted, found by cancel key, ended."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from enforcement.gateway import entries
from enforcement.gateway.identity import Identity
from enforcement.gateway.live import Live
from enforcement.gateway.settings import Account

if TYPE_CHECKING:
    from enforcement.gateway.server import Served

Key = tuple[int, bytes]


class Running(NamedTuple):
    """One live session and what it belongs to. `key` is the cancel key that its client was given."""

    live: Live
    who: Identity
    served: Served
    account: Account
    key: Key
    facts: entries.SessionFacts

    def idle_limit(self) -> float:
        """Seconds that the client may be silent now; 0 for ever."""
        database = self.served.database
        return database.idle_in_transaction_seconds if self.live.is_in_transaction else database.idle_seconds


class Sessions:
    """All live sessions, and the places taken by those that sign in."""

    def __init__(self, most: int, most_each: int) -> None:
        self.most, self.most_each = most, most_each
        self._running: dict[str, Running] = {}
        self._by_live: dict[Live, Running] = {}
        self._by_key: dict[Key, Running] = {}
        self._places: collections.Counter[str] = collections.Counter()

    def __len__(self) -> int:
        return len(self._running)

    def __iter__(self) -> Iterator[Running]:
        return iter(list(self._running.values()))

    @contextlib.contextmanager
    def place_for(self, who: Identity) -> Iterator[str | None]:
        """Keeps a place while the session is made; None, or a sentence why there is none."""
        taken = sum(self._places.values())
        if taken >= self.most:
            yield f"The gateway has {taken} sessions, as many as it takes."
            return
        if self._places[who.id] >= self.most_each:
            yield f"{who.email or who.id} has {self._places[who.id]} sessions, as many as the gateway takes of one identity."
            return
        self._places[who.id] += 1
        try:
            yield None
        finally:
            self._leave(who)

    def add(self, running: Running) -> None:
        self._running[running.facts.session_id] = running
        self._by_live[running.live] = running
        self._by_key[running.key] = running
        self._places[running.who.id] += 1

    def remove(self, live: Live) -> Running | None:
        """Forget a session that is over; None when it was never there."""
        running = self._by_live.pop(live, None)
        if running is not None:
            del self._running[running.facts.session_id], self._by_key[running.key]
            self._leave(running.who)
        return running

    def of(self, live: Live) -> Running:
        return self._by_live[live]

    def find(self, session_id: str) -> Running | None:
        return self._running.get(session_id)

    def by_key(self, pid: int, secret: bytes) -> Running | None:
        return self._by_key.get((pid, secret))

    def _leave(self, who: Identity) -> None:
        self._places[who.id] -= 1
        if not self._places[who.id]:
            del self._places[who.id]
