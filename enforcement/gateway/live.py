"""A live session: a client's connection, the database's, and between them the state machine whose outputs are performed in order.

Nothing is decided here. Whatever goes wrong in between ends both connections: nothing is ever passed on unseen.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from enforcement import shipper
from enforcement.gateway import entries, messages
from enforcement.gateway.recording import Unrecorded
from enforcement.gateway.session import outputs

if TYPE_CHECKING:
    from enforcement.gateway.session.machine import Session
    from enforcement.gateway.sockets import Wire

Outputs = Iterator[outputs.Output]
WAITING_BYTES = 4 << 20
"""What may come from either side while an output is being finished, before its reading is paused."""


class Host(Protocol):
    """What a session needs of the gateway around it. `ended` is called once, when both connections are given up."""

    def record(self, entry: Any) -> None: ...
    def ask(self, live: Live, question: outputs.Question) -> None: ...
    def ended(self, live: Live, why: str) -> None: ...


class Live:
    """Pumps between `client` and `server` through `session`. `cancel` asks the database to cancel what `server` runs."""

    def __init__(
        self, session: Session, client: Wire, server: Wire, host: Host, cancel: Callable[[], Awaitable[None]]
    ) -> None:
        self.session, self.client, self.server = session, client, server
        self.cancel = cancel
        self._host = host
        self._stack: list[Outputs] = []
        self._waiting: collections.deque[Callable[[], Outputs]] = collections.deque()
        self._waiting_bytes = 0
        self._to_client: list[bytes] = []
        self._to_server: list[bytes] = []
        self._is_running = False
        self._client_full = self._server_full = False
        self._unfinished: asyncio.Task[None] | None = None
        self.is_over = False
        self.why = ""
        self.held: outputs.Hold | None = None
        self.statements = 0
        self.last_command = ""
        self._open: set[str] = set()
        self.heard_at = asyncio.get_running_loop().time()

    @property
    def is_in_transaction(self) -> bool:
        return self.session.status != messages.IDLE

    @property
    def is_busy(self) -> bool:
        """Whether ending it now would cut something off."""
        return self.is_in_transaction or bool(self._open or self._stack) or self.session.is_quiet_for_client

    @property
    def state(self) -> str:
        """What it does now, in words."""
        if self.session.is_quiet_for_client and self.held is not None:
            return "waiting for approval"
        return "running" if self._open else "in transaction" if self.is_in_transaction else "idle"

    def begin(self) -> None:
        """Take both connections over."""
        self.server.hand_over(self)
        self.client.hand_over(self)

    def received(self, wire: Wire, data: bytes) -> None:
        if self.is_over:
            return
        self.heard_at = asyncio.get_running_loop().time()
        take = self.session.from_client if wire is self.client else self.session.from_server
        if self._is_running or self._stack:
            self._waiting_bytes += len(data)
            self._waiting.append(lambda: take(data))
            self._pace()
        else:
            self._run(lambda: take(data))

    def was_lost(self, wire: Wire, why: str) -> None:
        if self.is_over:
            return
        self.why = self.why or (f"client gone: {why}" if wire is self.client else f"database gone: {why}")
        if wire is self.client:
            self._last_words(lambda: self.session.lost_client(why))
        else:
            self._open.clear()
            self._last_words(lambda: self.session.lost_server(why))

    def is_full(self, wire: Wire, full: bool) -> None:
        if wire is self.client:
            self._client_full = full
        else:
            self._server_full = full
        self._pace()

    def do(self, begin: Callable[[], Outputs]) -> None:
        """Perform what a call of the session puts out, after everything before it."""
        if self.is_over:
            return
        if self._is_running or self._stack:
            self._waiting.append(begin)
        else:
            self._run(begin)

    async def cancel_asked(self) -> None:
        """The client cancels: what waits for a person is given up, what runs in the database is cancelled."""
        held, self.held = self.held, None
        if held is not None and self.session.is_quiet_for_client:
            told = "You cancelled it."
            self.told(outputs.Decided(request_id=held.request_id, digest=held.digest, state="rejected", reason=told))
            self._host.ask(self, outputs.Withdraw(held.request_id, held.digest))
        else:
            await self.cancel()

    def told(self, answer: outputs.Answer) -> None:
        """An answer for the session."""
        self.do(lambda: self.session.told(answer))

    def kill(self, by: str, why: str) -> None:
        """End the session because a person, or the gateway, says so."""
        self.why = self.why or f"killed by {by}: {why}"
        self._last_words(lambda: self.session.killed(by, why))

    def _last_words(self, end: Callable[[], Outputs]) -> None:
        """End the session, and what it runs: a database does not notice by itself that nobody waits any more."""

        def words() -> Outputs:
            if self._open:
                yield outputs.CancelServer()
            yield from end()
            yield outputs.Close("08006", self.why)

        self.do(words)

    def _run(self, begin: Callable[[], Outputs] | None) -> None:
        self._is_running = True
        try:
            if begin is not None:
                self._stack.append(begin())
            while self._perform_all() and self._waiting:
                self._stack.append(self._waiting.popleft()())
            if not self._waiting:
                self._waiting_bytes = 0
        except messages.ProtocolViolation as error:
            self._fail("08P01", str(error))
        except Exception as error:  # noqa: BLE001  whatever it was, nothing more may pass between the two
            shipper.say(f"gateway: session {self.session.facts.session_id}: {fault(error)}")
            self._fail(
                "XX000", "The gateway failed in this session and ended it. Connect again; tell the operator the time."
            )
        finally:
            self._is_running = False
        self._pace()

    def _perform_all(self) -> bool:
        """Perform what is on the stack; False when an output is still being finished."""
        while self._stack and not self.is_over:
            output = next(self._stack[-1], None)
            if output is None:
                self._stack.pop()
            elif isinstance(output, outputs.CancelServer):
                self._send()
                self._unfinished = asyncio.ensure_future(self._finish_cancel())
                return False
            else:
                self._perform(output)
        self._send()
        return not self.is_over

    def _send(self) -> None:
        """Write what the outputs up to here say, to each side at once: a write costs more than most of what makes it."""
        for wire, chunks in ((self.server, self._to_server), (self.client, self._to_client)):
            if chunks:
                data = b"".join(chunks)
                chunks.clear()
                wire.write(data)

    def _perform(self, output: outputs.Output) -> None:
        match output:
            case outputs.ToClient(data):
                self._to_client.append(data)
            case outputs.ToServer(data):
                self._to_server.append(data)
            case outputs.Record(entry):
                self._record(entry)
            case outputs.Ask(question):
                self.held = question if isinstance(question, outputs.Hold) else self.held
                self._host.ask(self, question)
            case outputs.Close(_, sentence):
                if self.session.fault is not None:
                    shipper.say(f"gateway: session {self.session.facts.session_id}: {fault(self.session.fault)}")
                self._end(sentence)

    def _record(self, entry: entries.Told) -> None:
        """Write it down; where that fails, the session says what follows."""
        if isinstance(entry, entries.Ended):
            self._open.discard(entry.began.id)
        elif isinstance(entry, entries.Began):
            self.statements += 1
            self.last_command = entry.command
            self._open.add(entry.id)
        try:
            self._host.record(entry)
        except Unrecorded as error:
            shipper.say(f"gateway: {error}")
            if isinstance(entry, entries.Began):
                self._open.discard(entry.id)
                self._stack.append(self.session.unrecorded(entry.id))

    async def _finish_cancel(self) -> None:
        try:
            await self.cancel()
        except Exception as error:  # noqa: BLE001  the session ends all the same: closing is the other way to end what runs
            shipper.say(f"gateway: session {self.session.facts.session_id}: a cancel failed: {fault(error)}")
        self._unfinished = None
        self._run(None)

    def _pace(self) -> None:
        """Back-pressure: who is read from depends on who can be written to."""
        if self.is_over:
            return
        crowded = self._waiting_bytes > WAITING_BYTES
        self.client.pause(self._server_full or crowded or self.session.is_quiet_for_client)
        self.server.pause(self._client_full or crowded)

    def _fail(self, sqlstate: str, sentence: str) -> None:
        self._to_server.clear()
        self._to_client.append(messages.error(sqlstate, sentence, severity="FATAL"))
        self._end(sentence)

    def _end(self, why: str) -> None:
        if self.is_over:
            return
        self._send()
        self.is_over = True
        self._stack.clear()
        self._waiting.clear()
        self.server.write(messages.encode_terminate())
        self.client.close()
        self.server.close()
        self._host.ended(self, self.why or why)


def fault(error: BaseException) -> str:
    """Kind and place of a fault, without its text: that may hold values."""
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    where = f" at {step.tb_frame.f_code.co_filename}:{step.tb_lineno}" if step is not None else ""
    return f"{type(error).__name__}{where}"
