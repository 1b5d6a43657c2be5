"""A piece of network between two programs on one machine: passes bytes on until it is told to fail.

`Network(port)` listens on a port of its own and connects each client through to `port`. `plan` says how the next connection
fails: after so many bytes of one direction it is reset, closed in order, or that direction falls silent (half-open).
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from typing import Literal, NamedTuple

Direction = Literal["up", "down"]
How = Literal["reset", "close", "silent"]
CHUNK_BYTES = 1 << 16


class Cut(NamedTuple):
    """After `after` bytes of `direction` (up: from the client) the connection fails."""

    direction: Direction
    after: int
    how: How


class Link:
    """One connection through the network. `passed` holds what went each way; `was_cut` is set when the cut came."""

    def __init__(self, client: socket.socket, server: socket.socket, cut: Cut | None, delay_seconds: float) -> None:
        self.cut, self.delay_seconds = cut, delay_seconds
        self.passed: dict[Direction, bytearray] = {"up": bytearray(), "down": bytearray()}
        self.was_cut = threading.Event()
        self._ends = client, server
        self._open = 2
        self._lock = threading.Lock()
        ways: tuple[tuple[Direction, socket.socket, socket.socket], ...] = (
            ("up", client, server),
            ("down", server, client),
        )
        for direction, source, target in ways:
            threading.Thread(target=self._pump, args=(direction, source, target), daemon=True).start()

    def reset(self) -> None:
        """End it as a router does that forgot the connection: both sides get a reset."""
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                # A thread that still reads keeps the socket open: it is woken.
                end.shutdown(socket.SHUT_RD)
            end.close()

    def _pump(self, direction: Direction, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(CHUNK_BYTES):
                if self.delay_seconds:
                    time.sleep(self.delay_seconds)
                room = self._room(direction)
                self.passed[direction].extend(data if room is None else data[:room])
                target.sendall(data if room is None else data[:room])
                if room is not None and len(data) >= room:
                    self._fail()
                    return
            target.shutdown(socket.SHUT_WR)
            self._ended()
        except OSError:
            self.reset()

    def _room(self, direction: Direction) -> int | None:
        if self.cut is None or self.cut.direction != direction:
            return None
        return self.cut.after - len(self.passed[direction])

    def _fail(self) -> None:
        assert self.cut is not None
        self.was_cut.set()
        if self.cut.how == "reset":
            self.reset()
        elif self.cut.how == "close":
            for end in self._ends:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    def _ended(self) -> None:
        """One direction is at its end; after both there is nothing left to hold."""
        with self._lock:
            self._open -= 1
            if self._open:
                return
        for end in self._ends:
            end.close()


class Network:
    """Between whoever connects to `port` and the program on `target`."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.plan: Cut | None = None
        self.delay_seconds = 0.0
        self.is_down = False
        self.links: list[Link] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        """Nobody gets through any more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for link in self.links:
            link.reset()

    def down(self) -> None:
        """Everything that goes through ends, and nothing gets through until `up`."""
        self.is_down = True
        for link in self.links:
            link.reset()

    def up(self) -> None:
        self.is_down = False

    def forget(self) -> None:
        """Let go of what ended connections passed."""
        self.links = self.links[-1:]

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.is_down:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            cut, self.plan = self.plan, None
            self.links.append(Link(client, server, cut, self.delay_seconds))


def borders(passed: bytes, *, has_startup: bool) -> list[int]:
    """Where the messages of PostgreSQL's protocol end in what went one way; `has_startup`: the first has no kind."""
    found, at = list[int](), 0
    while at + 5 <= len(passed):
        head = 0 if has_startup and not found else 1
        (size,) = struct.unpack_from("!i", passed, at + head)
        at += head + size
        found.append(at)
    return found
