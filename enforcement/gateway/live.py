"""A live session: a client's connection, the database's, and between them the state machine whose outputs are performed in order.

Nothing is decided here. Whatever goes wrong in between ends both connections: nothing is ever passed on unseen.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from enforcement import shipper
from enforcement.gateway import messages
from enforcement.gateway.recording import Unrecorded
from enforcement.gateway.session import outputs

if TYPE_CHECKING:
    from enforcement.gateway.session.machine import Session
    from enforcement.gateway.sockets import Wire

Outputs = Iterator[outputs.Output]
WAITING_BYTES = 4 << 20
"""What may come from either side while an output is being finished, before its reading is paused."""


class Live:
    """Pumps between `client` and `server` through `session`.

    `record(entry)` writes down, `ask(live, question)` takes a question, `cancel(live)` returns when the database has closed the
    cancel connection, `ended(live, why)` is called once, when both connections are given up.
    """

    def __init__(
        self,
        session: Session,
        client: Wire,
        server: Wire,
        record: Callable[[Any], None],
        ask: Callable[[Live, outputs.Question], None],
        cancel: Callable[[Live], Any],
        ended: Callable[[Live, str], None],
    ) -> None:
        self.session, self.client, self.server = session, client, server
        self._record, self._ask, self._cancel, self._ended = record, ask, cancel, ended
        self._stack: list[Outputs] = []
        self._waiting: collections.deque[Callable[[], Outputs]] = collections.deque()
        self._waiting_bytes = 0
        self._is_running = False
        self._client_full = self._server_full = False
        self._unfinished: asyncio.Task[None] | None = None
        self.is_over = False
        self.why = ""
        self.heard_at = asyncio.get_running_loop().time()

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
        lost = self.session.lost_client if wire is self.client else self.session.lost_server

        def last_words() -> Outputs:
            yield from lost(why)
            yield outputs.Close("08006", self.why)

        self.do(last_words)

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

    def told(self, answer: outputs.Answer) -> None:
        """An answer for the session."""
        self.do(lambda: self.session.told(answer))

    def kill(self, by: str, why: str) -> None:
        """End the session because a person, or the gateway, says so."""
        self.why = self.why or f"killed by {by}: {why}"

        def last_words() -> Outputs:
            yield from self.session.killed(by, why)
            yield outputs.Close("57P01", self.why)

        self.do(last_words)

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
            shipper.say(f"gateway: session {self.session.session_id}: {_place(error)}")
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
                self._unfinished = asyncio.ensure_future(self._finish_cancel())
                return False
            else:
                self._perform(output)
        return not self.is_over

    def _perform(self, output: outputs.Output) -> None:
        match output:
            case outputs.ToClient(data):
                self.client.write(data)
            case outputs.ToServer(data):
                self.server.write(data)
            case outputs.Record(entry):
                try:
                    self._record(entry)
                except Unrecorded as error:
                    shipper.say(f"gateway: {error}")
                    self._stack.append(self.session.unrecorded(entry.id))
            case outputs.Ask(question):
                self._ask(self, question)
            case outputs.Close(_, sentence):
                self._end(sentence)

    async def _finish_cancel(self) -> None:
        await self._cancel(self)
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
        self.client.write(messages.error(sqlstate, sentence, severity="FATAL"))
        self._end(sentence)

    def _end(self, why: str) -> None:
        if self.is_over:
            return
        self.is_over = True
        self._stack.clear()
        self._waiting.clear()
        self.server.write(messages.encode_terminate())
        self.client.close()
        self.server.close()
        self._ended(self, self.why or why)


def _place(error: BaseException) -> str:
    """Kind and place of a fault, without its text: that may hold values."""
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    where = f" at {step.tb_frame.f_code.co_filename}:{step.tb_lineno}" if step is not None else ""
    return f"{type(error).__name__}{where}"
