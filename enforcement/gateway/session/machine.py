"""The session: bytes of both sides in, outputs out. No I/O, and no clock but the one given.

`Session` reads frames and keeps the one driver that works through the client's messages one after the other; what a message
means stands in `simple` and `extended`, what the server owes in `pipeline`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from enforcement.gateway import entries, messages
from enforcement.gateway.effects import Catalog
from enforcement.gateway.identity import Identity
from enforcement.gateway.messages import Frame, FromClient, FromServer, ProtocolViolation, Reader, TooLong
from enforcement.gateway.session import extended, simple
from enforcement.gateway.session.holds import Desk
from enforcement.gateway.session.judging import Judge, Refusal
from enforcement.gateway.session.outputs import (
    Answer,
    Ask,
    CatalogLoaded,
    ClientFacts,
    Close,
    Output,
    Place,
    RulesChanged,
    Withdraw,
)
from enforcement.gateway.session.settings_tracking import is_safe_encoding
from enforcement.gateway.session.state import State, Steps, Wait
from lineage.guardrails import Guardrails

_LONG = {
    FromClient.QUERY: "QUERY", FromClient.PARSE: "PARSE", FromClient.BIND: "BIND", FromClient.COPY_DATA: "COPY DATA",
    FromClient.FUNCTION_CALL: "FUNCTION CALL",
}  # fmt: skip
"""Messages that may be long, as they are told where one was too long."""
_COPY = frozenset({FromClient.COPY_DATA, FromClient.COPY_DONE, FromClient.COPY_FAIL})
_RUNS = bytes((FromServer.DATA_ROW, FromServer.COPY_DATA))


class Session:
    """One client's session, from the first message behind sign-in to the last.

    Every method that returns outputs returns them lazily: perform each before taking the next, and take all. `clock` gives Unix
    seconds, `new_id` ids that are unique for ever. Text of the client is never trusted, nor what the server sends.
    """

    def __init__(
        self,
        who: Identity,
        place: Place,
        rules: Guardrails,
        catalog: Catalog,
        clock: Callable[[], float],
        new_id: Callable[[], str],
        client: ClientFacts,
    ) -> None:
        self._state = State(Judge(who, place, rules, catalog), place, client, clock, new_id)
        self._desk = Desk()
        self._from_client = Reader(sender="client", limit_bytes=place.message_bytes)
        self._from_server = Reader(sender="server")
        self._state.line.on_any_time = self._any_time
        self._state.line.on_ready = self._state.ready
        self._state.line.on_commit_failed = self._state.commit_failed
        self._driver = self._work()
        self._wait: Wait = lambda: True
        self.is_closed = False
        self.fault: Exception | None = None

    @property
    def facts(self) -> entries.SessionFacts:
        """Who works where: the same in every entry of this session."""
        return self._state.facts

    @property
    def is_quiet_for_client(self) -> bool:
        """Whether the client should not be read now: a decision is awaited, or enough of it waits to be worked on."""
        return self._state.is_holding or self._state.inbox_bytes > self._state.place.inbox_bytes

    @property
    def status(self) -> str:
        """I idle, T in a transaction, E in a failed one."""
        return self._state.line.status

    def from_client(self, data: bytes | bytearray | memoryview) -> Iterator[Output]:
        """Bytes from the client, behind its sign-in."""
        return self._do(lambda: self._read_client(data))

    def from_server(self, data: bytes | bytearray | memoryview) -> Iterator[Output]:
        """Bytes from the database, behind the gateway's sign-in."""
        return self._do(lambda: self._read_server(data))

    def told(self, answer: Answer) -> Iterator[Output]:
        """The answer to a question, or news of rules and catalog."""
        return self._do(lambda: self._take(answer))

    def tick(self) -> Iterator[Output]:
        """Time has passed: call it every second while a decision is awaited."""
        return self._do(lambda: None)

    def unrecorded(self, statement_id: str) -> Iterator[Output]:
        """`Began` of this statement could not be written down."""
        return self._do(lambda: self._state.unrecorded.add(statement_id))

    def lost_server(self, why: str) -> Iterator[Output]:
        """The database's connection is gone."""
        sentence = f"The database's connection was lost: {why}. What ran last may or may not have been done."
        return self._do(lambda: self._end("08006", sentence))

    def lost_client(self, why: str) -> Iterator[Output]:
        """The client is gone; whatever runs is cancelled by closing."""
        return self._do(lambda: self._end("08006", f"The client is gone: {why}."))

    def killed(self, by: str, why: str) -> Iterator[Output]:
        """Somebody with the right to do so ends this session."""
        return self._do(lambda: self._end("57P01", f"{by} ended this session: {why}."))

    def _do(self, step: Callable[[], None]) -> Iterator[Output]:
        if not self.is_closed:
            self._guarded(step)
        while True:
            yield from self._state.line.taken()
            if self.is_closed or not self._wait():
                return
            self._guarded(self._advance)

    def _guarded(self, step: Callable[[], None]) -> None:
        """What goes wrong here ends the session: bytes that cannot be understood must not go on."""
        try:
            step()
        except ProtocolViolation as error:
            self._end("08P01", str(error))
        except Exception as error:  # noqa: BLE001 - a fault of ours must not leave a session that forwards unjudged bytes
            self._end("58000", f"The gateway failed on this session ({type(error).__name__}); tell the operator.")
            self.fault = error

    def _advance(self) -> None:
        self._wait = next(self._driver)

    def _read_client(self, data: bytes | bytearray | memoryview) -> None:
        try:
            frames = self._from_client.feed(data)
        except TooLong as error:
            self._too_long(error)
            return
        for frame in frames:
            self._state.inbox.append(frame)
            self._state.inbox_bytes += frame.stop - frame.start

    def _too_long(self, error: TooLong) -> None:
        """Nothing of it is read, so nothing behind it can be: the session ends, and the refusal is written down."""
        sentence = f"{error} Send it in smaller parts; message_mib in the gateway's settings is the most there can be."
        self._state.records.refused_unread(_LONG.get(error.kind, "MESSAGE"), Refusal("54000", sentence))
        self._end("54000", sentence)

    def _read_server(self, data: bytes | bytearray | memoryview) -> None:
        for frame in self._from_server.feed_runs(data, _RUNS):
            self._state.line.received(frame)

    def _take(self, answer: Answer) -> None:
        if isinstance(answer, CatalogLoaded):
            # Schemas of the search path may have been made that were not there when it was asked for.
            self._state.doubt = self._state.doubt or answer.catalog.version != self._state.judge.catalog.version
            self._state.judge.catalog = answer.catalog
            self._state.catalog_read(answer.number)
        elif isinstance(answer, RulesChanged):
            self._state.judge.rules = answer.rules
        else:
            self._desk.told(answer)

    def _work(self) -> Steps:
        """The driver: one message of the client after the other."""
        state = self._state
        while True:
            yield lambda: bool(state.inbox)
            frame = state.next_frame()
            ignored = state.is_absorbing or state.line.is_skipping
            if frame.kind in extended.KINDS:
                yield from extended.message(state, self._desk, frame)
            elif frame.kind == FromClient.TERMINATE:
                state.line.server(frame.raw)
                self._end("00000", "terminate")
            elif frame.kind in _COPY or ignored:
                continue  # As in the server: left over from a COPY that failed, or behind an error.
            elif frame.kind == FromClient.QUERY:
                yield from simple.query(state, self._desk, frame)
            elif frame.kind == FromClient.FUNCTION_CALL:
                yield from simple.function_call(state)
            else:
                raise ProtocolViolation("A message of the sign-in came behind it.")

    def _any_time(self, frame: Frame) -> None:
        """Notices, notifications and parameters, which come whenever the server likes."""
        line = self._state.line
        head = line.expected[0] if line.expected else None
        if frame.kind == FromServer.NOTICE_RESPONSE:
            if head is None or not head.is_own:
                line.client(self._notice(frame))
            return
        if frame.kind == FromServer.PARAMETER_STATUS:
            told = messages.decode_parameter_status(frame.body)
            if told.name == "client_encoding" and not is_safe_encoding(told.value):
                raise ProtocolViolation("client_encoding was changed to one that the gateway does not read.")
            if told.name == "standard_conforming_strings" and told.value != "on":
                raise ProtocolViolation(
                    "standard_conforming_strings was switched off; texts cannot be judged any more."
                )
        line.behind(frame.raw)

    def _notice(self, frame: Frame) -> bytes:
        expected = self._state.line.expected
        running = expected[0].current() if expected else None
        fields = messages.decode_notice_response(frame.body).fields
        shown = running.scrubbed(fields) if running else self._state.records.scrubbed(fields)
        return frame.raw if shown == fields else messages.encode_notice_response(shown)

    def _end(self, sqlstate: str, sentence: str) -> None:
        """Closes everything: open statements are told as unknown, the client reads why."""
        if self.is_closed:
            return
        self.is_closed = True
        state = self._state
        state.records.give_up(sqlstate, sentence)
        waiting = self._desk.waiting
        if waiting is not None:
            state.line.output(Ask(Withdraw(waiting.request_id, waiting.digest)))
        if sqlstate != "00000":
            state.line.client(messages.error(sqlstate, sentence, severity="FATAL"))
        state.line.output(Close(sqlstate, sentence))
        self._wait = lambda: False
