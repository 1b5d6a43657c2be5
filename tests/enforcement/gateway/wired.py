"""A Session between a script of client messages and a real PostgreSQL, over one plain socket; and the same without it."""

from __future__ import annotations

import datetime as dt
import itertools
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import psycopg

from enforcement.gateway import catalog as catalogs
from enforcement.gateway import classes
from enforcement.gateway.identity import Identity
from enforcement.gateway.session.machine import Session
from enforcement.gateway.session.outputs import (
    Answer,
    Ask,
    CancelServer,
    ClientFacts,
    Close,
    Decided,
    Hold,
    Output,
    Place,
    Preview,
    Previewed,
    Record,
    ToClient,
    ToServer,
)
from lineage import guardrails
from lineage.events import Agent, Principal

ALLOW_ALL = guardrails.load("version = 1\n")
PLACE = Place(environment="production", datasource="shop", database="shop", account="postgres")
PATIENCE_SECONDS = 30.0


def identity(kind: Literal["human", "service", "agent"] = "human", person: str | None = None) -> Identity:
    """Somebody who signed in: `kind` human, service or agent; an agent works for `person`, or for nobody."""
    return Identity(
        id=f"{kind}-1",
        type=kind,
        auth_method="touchstone-token",
        token_id="token-1",
        expires_at=dt.datetime(2100, 1, 1, tzinfo=dt.UTC),
        email=None if kind == "agent" else f"{kind}@shop.example",
        roles=("reader",),
        on_behalf_of=Principal(id=person, email=person, type="human") if person else None,
        agent=Agent(id="report-bot") if kind == "agent" else None,
    )


def make(
    rules: str | None = None,
    catalog: catalogs.Catalog = catalogs.EMPTY,
    who: Identity | None = None,
    clock: Callable[[], float] = time.time,
    **place: Any,
) -> Session:
    """A session as the server makes it. `rules` is TOML; without it everything is allowed."""
    numbers = itertools.count(1)
    return Session(
        who or identity(),
        PLACE if not place else Place(**{name: getattr(PLACE, name) for name in PLACE.__struct_fields__} | place),
        guardrails.load(rules) if rules else ALLOW_ALL,
        catalog,
        clock,
        lambda: f"id-{next(numbers):06}",
        ClientFacts(session_id="session-00000001", db_session_id="1.1"),
    )


class Direct:
    """A connection that is signed in, then spoken to in raw messages."""

    def __init__(self, dsn: str) -> None:
        # In clear, whether or not the cluster speaks TLS: the bytes are read and written behind libpq's back.
        self._signed_in = psycopg.connect(dsn, autocommit=True, sslmode="disable")
        self.socket = socket.socket(fileno=os.dup(self._signed_in.fileno()))
        self.socket.settimeout(PATIENCE_SECONDS)

    @property
    def pid(self) -> int:
        return self._signed_in.info.backend_pid

    def cancel(self) -> None:
        self._signed_in.cancel_safe()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> bytes:
        """What came, waiting for it. Raises EOFError at the end."""
        data = self.socket.recv(65536)
        if not data:
            raise EOFError
        return data

    def answers(self, data: bytes, readies: int) -> bytes:
        """Sends, and reads until so many ReadyForQuery came."""
        self.send(data)
        found = b""
        while count_readies(found) < readies:
            found += self.receive()
        return found

    def close(self) -> None:
        self.socket.close()
        self._signed_in.close()


def count_readies(data: bytes) -> int:
    return sum(kind == "Z" for kind, _ in split(data))


def split(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Kind and body of the whole messages in `data`."""
    at = 0
    while len(data) - at >= 5:
        stop = at + 1 + int.from_bytes(data[at + 1 : at + 5], "big")
        if stop > len(data):
            return
        yield chr(data[at]), data[at + 5 : stop]
        at = stop


class Wired:
    """A session whose outputs are performed on a real connection. `entries` and `questions` are what came out beside bytes."""

    def __init__(self, direct: Direct, session: Session) -> None:
        self.direct, self.session = direct, session
        self.entries: list[Any] = []
        self.questions: list[Any] = []
        self.sent: list[bytes] = []
        self.closed: Close | None = None
        self.to_client = b""
        self.cancels = 0
        self.decide: Callable[[Hold], Decided | None] = lambda hold: None
        self.unrecordable: Callable[[Any], bool] = lambda entry: False

    def perform(self, outputs: Iterable[Output]) -> None:
        answers: list[Answer] = []
        for output in outputs:
            if isinstance(output, ToClient):
                self.to_client += output.data
            elif isinstance(output, ToServer):
                self.sent.append(output.data)
                self.direct.send(output.data)
            elif isinstance(output, Record):
                if self.unrecordable(output.entry):
                    self.perform(self.session.unrecorded(output.entry.id))
                else:
                    self.entries.append(output.entry)
            elif isinstance(output, Ask):
                self.questions.append(output.question)
                answers += self._answer(output.question)
            elif isinstance(output, CancelServer):
                self.cancels += 1
                self.direct.cancel()
            else:
                self.closed = output
        for answer in answers:
            self.perform(self.session.told(answer))

    def _answer(self, question: Any) -> list[Answer]:
        if isinstance(question, Preview):
            return [Previewed(request_id=question.request_id, plan_rows=7, plan_text="Update")]
        if isinstance(question, Hold):
            decided = self.decide(question)
            return [decided] if decided else []
        return []

    def answers(self, data: bytes, readies: int, at_a_time: int = 0) -> bytes:
        """What the client sees of `data`, sent whole or in pieces, until so many ReadyForQuery came or the session closed."""
        self.to_client = b""
        step = at_a_time or max(len(data), 1)
        for at in range(0, len(data), step):
            self.perform(self.session.from_client(data[at : at + step]))
        while count_readies(self.to_client) < readies and self.closed is None:
            self.perform(self.session.from_server(self.direct.receive()))
        return self.to_client

    def told(self, kind: type[Any]) -> list[Any]:
        return [entry for entry in self.entries if isinstance(entry, kind)]


def load_catalog(dsn: str) -> catalogs.Catalog:
    """The catalog of a database, as the server loads it."""
    with psycopg.connect(dsn) as connection:
        cursor = connection.cursor()
        cursor.execute(catalogs.SQL.encode())
        while cursor.nextset():
            pass
        row = cursor.fetchone()
        assert row is not None
        value = row[0]
    if not isinstance(value, str | bytes):
        import json

        value = json.dumps(value)
    return catalogs.read(value, classes.classify)
