"""What sources send, made cheaply enough that the client is a small part of what it measures: shapes, and their sender.

One thread keeps many connections busy. Every event has an id of its own; nothing else of it changes, so that a body is
made by joining pieces.
"""

from __future__ import annotations

import datetime as dt
import itertools
import random
import re
import selectors
import socket
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from benchmarks._running import native

MARK = "0" * 20
SHAPES = ("small", "full")
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


def full(seed: int) -> dict[str, Any]:
    """A change of one row with both images of 5 to 40 columns, or a statement of 80 to 4,000 letters; as often."""
    chance = random.Random(seed)
    if seed % 2:
        text = "select " + ", ".join(f"orders.column_{n} as shown_{n}" for n in range(100))
        words = {"text": text[: int(80 * 50 ** chance.random())], "state": "whole"}
        return native(MARK, statement=words)
    columns = chance.randint(5, 40)

    def image(turn: int) -> list[dict[str, str]]:
        return [
            {"column": f"column_{n}", "type": "text", "value": f"{chance.random():.12f} value {turn}"}
            for n in range(columns)
        ]

    changed = native(MARK, kind="change", op="update", before=image(0), after=image(1), key=image(0)[:1])
    changed |= {"class": "write", "changed_columns": [f"column_{n}" for n in range(columns // 3)]}
    return {name: value for name, value in changed.items() if name not in ("statement", "rows", "duration_us")}


class Feed:
    """Bodies of one shape, without end. `name` makes the ids its own."""

    def __init__(self, shape: str, name: str, size: int) -> None:
        self.size, self.name, self.sent = size, name.encode()[:8].ljust(8, b"-"), 0
        made = [native(f"{MARK[:-4]}{n:04}") if shape == "small" else full(n) for n in range(200)]
        at = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        texts = [
            msgspec.json.encode(event | {"source_event_id": MARK, "correlation_id": MARK, "occurred_at": at})
            for event in made
        ]
        self.pieces = [text.split(MARK.encode()) for text in texts]
        self.event_bytes = sum(map(len, texts)) / len(texts)

    def bodies(self, *, events: int = 0, seconds: float = 0.0) -> Iterator[bytes]:
        """Bodies for so many events, or for so long."""
        first, until = self.sent, time.perf_counter() + seconds
        while self.sent - first < events or time.perf_counter() < until:
            yield self.body()

    def body(self) -> bytes:
        """The next body: one object where it holds one event, else an array."""
        events = []
        for number in range(self.sent, self.sent + self.size):
            events.append((self.name + b"%012d" % number).join(self.pieces[number % len(self.pieces)]))
        self.sent += self.size
        return events[0] if self.size == 1 else b"[%b]" % b",".join(events)


class Talk:
    """One kept connection: a request on its way out, then its answer on its way in."""

    def __init__(self, port: int, token: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.head = (
            f"POST /api/v1/ingest/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        ).encode()
        self.body = self.answer = b""
        self.rest = memoryview(b"")
        self.begun_at = 0.0

    def begin(self, body: bytes) -> None:
        self.body, self.answer, self.begun_at = body, b"", time.perf_counter()
        self.rest = memoryview(self.head + b"%d\r\n\r\n" % len(body) + body)
        self.push()

    def push(self) -> None:
        """Sends what the connection takes."""
        while self.rest:
            try:
                self.rest = self.rest[self.socket.send(self.rest) :]
            except BlockingIOError:
                return

    def pull(self) -> int:
        """The status of the answer, once it is whole; else 0. Raises ConnectionError where the store hangs up."""
        got = self.socket.recv(1 << 20)
        if not got:
            raise ConnectionError("the store closed a connection in use")
        self.answer += got
        head, blank, body = self.answer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head) if blank else None
        return int(head[9:12]) if length and len(body) >= int(length.group(1)) else 0


def send(port: int, token: str, bodies: Iterator[bytes], connections: int) -> dict[str, Any]:
    """Keeps all connections busy until there are no more bodies; then waits for what is on its way.

    Gives `seconds`, `waits` (seconds for each answer, put off or not) and `put_off` (429, sent again after a second).
    """
    started = time.perf_counter()
    told: dict[str, Any] = {"waits": [], "put_off": 0}
    resting: list[tuple[float, bytes]] = []
    with selectors.DefaultSelector() as ready:
        for body in itertools.islice(bodies, connections):
            _open(ready, Talk(port, token), body)
        while resting or ready.get_map():
            for body in _rested(resting):
                _open(ready, Talk(port, token), body)
            for talk, status in _answers(ready):
                told["waits"].append(time.perf_counter() - talk.begun_at)
                if status == 429:
                    # The store does not keep a connection of which nothing comes for a while.
                    told["put_off"] += 1
                    resting.append((time.perf_counter() + 1, talk.body))
                    ready.unregister(talk.socket)
                    talk.socket.close()
                elif status != 200:
                    raise RuntimeError(f"the store answered {talk.answer[:600]!r}")
                elif following := next(bodies, None):
                    _begin(ready, talk, following)
                else:
                    ready.unregister(talk.socket)
                    talk.socket.close()
    return told | {"seconds": time.perf_counter() - started}


def _open(ready: selectors.BaseSelector, talk: Talk, body: bytes) -> None:
    ready.register(talk.socket, selectors.EVENT_READ, talk)
    _begin(ready, talk, body)


def _begin(ready: selectors.BaseSelector, talk: Talk, body: bytes) -> None:
    talk.begin(body)
    if talk.rest:
        ready.modify(talk.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, talk)


def _rested(resting: list[tuple[float, bytes]]) -> Iterator[bytes]:
    """Takes out what was put off long enough ago."""
    while resting and resting[0][0] <= time.perf_counter():
        yield resting.pop(0)[1]


def _answers(ready: selectors.BaseSelector) -> Iterator[tuple[Talk, int]]:
    """The connections whose answer is whole."""
    for key, events in ready.select(0.2):
        talk: Talk = key.data
        if events & selectors.EVENT_WRITE:
            talk.push()
            if not talk.rest:
                ready.modify(talk.socket, selectors.EVENT_READ, talk)
        if events & selectors.EVENT_READ and (status := talk.pull()):
            yield talk, status
