"""Proof that the way from the database to the collector works: a marked statement must come back."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

import psycopg

from enforcement import shipper

WITHIN_SECONDS = 120.0


class Canary:
    """Emits every `every_seconds` (0: never) through `emit` and expects to be told, by `saw`, that it came back."""

    def __init__(
        self, emit: Callable[[str], None], every_seconds: float, within_seconds: float = WITHIN_SECONDS
    ) -> None:
        self._emit, self._every, self._within = emit, every_seconds, within_seconds
        self._due = 0.0
        self._waiting: dict[str, tuple[float, str]] = {}
        self.problem = ""

    def waits(self) -> bool:
        return bool(self._waiting)

    def saw(self, text: bytes) -> None:
        """Tell what passed by: a canary whose id is in `text` has come back."""
        for name in [name for name in self._waiting if name.encode() in text]:
            del self._waiting[name]

    def tick(self) -> list[bytes]:
        """Emit when due. Custody gaps for canaries that did not come back in time."""
        if self._every and time.monotonic() >= self._due:
            self._due = time.monotonic() + self._every
            self._send()
        late = [name for name, (sent, _) in self._waiting.items() if time.monotonic() - sent > self._within]
        return [self._gap(name) for name in late]

    def _send(self) -> None:
        # With the time by this host's clock: where it comes back, the database's own clock is told beside it.
        name = f"{secrets.token_hex(8)}-{int(time.time())}"
        at = shipper.now()
        try:
            self._emit(name)
        except psycopg.Error as error:
            # Nothing was emitted, so nothing is missing; the heartbeat tells the operator.
            self.problem = f"not emitted: {type(error).__name__}"
            return
        self.problem = ""
        self._waiting[name] = (time.monotonic(), at)

    def _gap(self, name: str) -> bytes:
        _, at = self._waiting.pop(name)
        detail = f"Canary {name} did not come back within {self._within:.0f} s: what happened since may be missing."
        return shipper.custody_item("gap", "canary", detail, first=at, last=shipper.now())


def emit_statement(dsn: str, name: str) -> None:
    """Run the marked statement in a connection of its own."""
    with connect(dsn) as connection:
        connection.execute(f"select 'touchstone-canary {name}'".encode())


def emit_message(dsn: str, name: str) -> None:
    """Run the marked statement and put the marked message into the write-ahead log."""
    with connect(dsn) as connection:
        connection.execute(f"select 'touchstone-canary {name}'".encode())
        connection.execute(
            "select pg_logical_emit_message(true, 'touchstone_canary', %s) /* touchstone-canary */", [name]
        )


def connect(dsn: str) -> psycopg.Connection:
    """An ordinary, short connection that cannot hang for long."""
    options = "-c statement_timeout=5000 -c lock_timeout=2000"
    return psycopg.connect(
        dsn, autocommit=True, connect_timeout=5, options=options, application_name="touchstone", client_encoding="utf8"
    )
