"""What the server still owes us, in order, and what of it the client must see.

Each message that is answered puts an `Expectation` into the line. A frame that the head of the line does not expect ends
the session. After an error the server ignores everything up to the next Sync: so does the line.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from enforcement.gateway import messages
from enforcement.gateway.messages import Frame, FromServer, ProtocolViolation, Run
from enforcement.gateway.session.outputs import Output, ToClient, ToServer
from enforcement.gateway.session.results import Execution

Answer = Frame | Run
ANY_TIME = frozenset({FromServer.NOTICE_RESPONSE, FromServer.PARAMETER_STATUS, FromServer.NOTIFICATION_RESPONSE})


class Unexpected(ProtocolViolation):
    """The server sent what nothing asked for."""


class Expectation:
    """One answer. `frame` takes the frames of the answer and says whether it is whole; then `failed` or nothing follows."""

    is_own = False
    survives_errors = False
    """Whether an ErrorResponse is a part of the answer (simple Query) rather than its end."""

    def frame(self, frame: Answer) -> bool:
        raise Unexpected(f"The database sent a message of kind {chr(frame.kind)} that nothing asked for.")

    def failed(self, frame: Answer) -> None:
        """The server answered with an error."""

    def current(self) -> Execution | None:
        """The statement that runs while this is awaited."""
        return None

    def skipped(self) -> None:
        """The server ignored the message, since one before it failed."""


class Passed(Expectation):
    """A short answer that ends with one of `ends` and goes to the client as it is. `done` and `undone` keep books."""

    def __init__(
        self,
        line: Line,
        ends: bytes,
        before: bytes = b"",
        done: Callable[[Answer], None] | None = None,
        undone: Callable[[], None] | None = None,
        error: Callable[[Answer], bytes] | None = None,
    ) -> None:
        self._line, self._ends, self._before = line, ends, before
        self._done, self._undone, self._error = done, undone, error

    def frame(self, frame: Answer) -> bool:
        if frame.kind not in self._ends + self._before:
            return super().frame(frame)
        self._line.client(frame.raw)
        if self._done:
            self._done(frame)
        return frame.kind in self._ends

    def failed(self, frame: Answer) -> None:
        self._line.client(self._error(frame) if self._error else frame.raw)
        self.skipped()

    def skipped(self) -> None:
        if self._undone:
            self._undone()


class Said(Expectation):
    """An answer of our own, given when everything before it has been answered."""

    def __init__(self, data: bytes, done: Callable[[], None] | None = None) -> None:
        self.data, self.done = data, done


class Swallowed(Expectation):
    """The answer to a message of ours: frames of `before`, then one of `ends`. `seen` gets each."""

    is_own = True

    def __init__(self, ends: bytes, before: bytes = b"", seen: Callable[[Answer], None] | None = None) -> None:
        self._ends, self._before, self._seen = ends, before, seen

    def frame(self, frame: Answer) -> bool:
        if frame.kind not in self._ends + self._before:
            return super().frame(frame)
        if self._seen:
            self._seen(frame)
        return frame.kind in self._ends


class Own(Expectation):
    """The answer to a statement of ours: its rows, or its error."""

    is_own = True

    def __init__(
        self,
        on_failed: Callable[[dict[str, str]], None] | None = None,
        on_row: Callable[[list[bytes | None]], None] | None = None,
    ) -> None:
        self.rows: list[list[bytes | None]] = []
        self.error: dict[str, str] | None = None
        self.is_done = False
        self._on_failed, self._on_row = on_failed, on_row
        self._closed = 0

    def frame(self, frame: Answer) -> bool:
        if frame.kind == FromServer.DATA_ROW:
            frames = frame.frames() if isinstance(frame, Run) else (frame,)
            for one in frames:
                self.rows.append(messages.row_values(one.data, one.start + 5, one.stop))
                if self._on_row:
                    self._on_row(self.rows[-1])
        elif frame.kind == FromServer.CLOSE_COMPLETE:
            self._closed += 1
        elif frame.kind not in b"12C":
            return super().frame(frame)
        self.is_done = self._closed == 2
        return self.is_done

    def failed(self, frame: Answer) -> None:
        self.error, self.is_done = messages.decode_error_response(frame.raw[5:]).fields, True
        if self._on_failed:
            self._on_failed(self.error)

    def skipped(self) -> None:
        self.error, self.is_done = {}, True


class Described(Expectation):
    """The columns of a query that is parsed and described under a name of ours, and not run. Its error is the client's."""

    is_own = True

    def __init__(self, execution: Execution, on_failed: Callable[[Answer], None]) -> None:
        self._execution, self._on_failed = execution, on_failed
        self.has_failed = False

    def frame(self, frame: Answer) -> bool:
        if frame.kind == FromServer.ROW_DESCRIPTION:
            self._execution.copied = messages.decode_row_description(frame.raw[5:]).fields
        elif frame.kind not in b"1tn3":
            return super().frame(frame)
        return frame.kind == FromServer.CLOSE_COMPLETE

    def failed(self, frame: Answer) -> None:
        self.has_failed = True
        self._on_failed(frame)


class Committing(Own):
    """The answer to a COMMIT of ours. What triggers say that waited for it is the client's."""

    is_own = False

    def __init__(self, on_failed: Callable[[dict[str, str]], None], on_done: Callable[[], None]) -> None:
        super().__init__(on_failed)
        self._on_done = on_done

    def frame(self, frame: Answer) -> bool:
        if super().frame(frame):
            self._on_done()
        return self.is_done


class Ready(Expectation):
    """ReadyForQuery after a Sync."""

    def __init__(self, line: Line, is_own: bool) -> None:
        self._line, self.is_own = line, is_own

    def frame(self, frame: Answer) -> bool:
        if frame.kind != FromServer.READY_FOR_QUERY:
            # A commit that fails at Sync (a deferred constraint) says so before ReadyForQuery.
            return super().frame(frame)
        if not self.is_own:
            self._line.client(frame.raw)
        return True


class _Chunks:
    """Neighbouring messages to one side, joined when they are taken."""

    def __init__(self, to_client: bool) -> None:
        self.to_client, self.chunks = to_client, list[bytes]()


class Line:
    """Both directions of one session: what goes out, and what is expected. `status` is the last ReadyForQuery's."""

    def __init__(self) -> None:
        self.status = messages.IDLE
        self.expected: deque[Expectation] = deque()
        self.is_skipping = False
        self.is_unflushed = False
        self.on_any_time: Callable[[Frame], None] = lambda frame: self.client(frame.raw)
        self.on_ready: Callable[[], None] = lambda: None
        self.on_commit_failed: Callable[[Answer], bytes] = lambda frame: frame.raw
        self._outputs: deque[Output | _Chunks] = deque()
        self._held: list[bytes] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether every output was taken."""
        return not self._outputs

    @property
    def is_drained(self) -> bool:
        """Whether the server owes nothing."""
        return not self.expected

    def client(self, data: bytes) -> None:
        self._bytes(True, data)

    def hold(self, data: bytes) -> None:
        """Keeps an answer, and what `behind` says, from the client until `release`."""
        self._held = [data]

    def behind(self, data: bytes) -> None:
        """To the client, behind an answer that is held."""
        if self._held is None:
            self.client(data)
        else:
            self._held.append(data)

    def release(self, is_well: bool) -> None:
        """The held answer goes to the client, or where it did not come true only what came behind it."""
        held, self._held = self._held or [], None
        self.client(b"".join(held if is_well else held[1:]))

    def server(self, data: bytes) -> None:
        self._bytes(False, data)

    def output(self, output: Output) -> None:
        self._outputs.append(output)

    def _bytes(self, to_client: bool, data: bytes) -> None:
        if not data:
            return
        last = self._outputs[-1] if self._outputs else None
        if not isinstance(last, _Chunks) or last.to_client != to_client:
            last = _Chunks(to_client)
            self._outputs.append(last)
        last.chunks.append(data)

    def taken(self) -> Iterator[Output]:
        """What is to be done, each taken as it is asked for."""
        while self._outputs:
            first = self._outputs.popleft()
            if not isinstance(first, _Chunks):
                yield first
            else:
                data = b"".join(first.chunks)
                yield ToClient(data) if first.to_client else ToServer(data)

    def send(self, data: bytes, *expected: Expectation) -> None:
        """Sends to the server what is answered by `expected`."""
        self.server(data)
        self.expected.extend(expected)
        self.is_unflushed = True

    def flush(self) -> None:
        """Makes the server answer what it was sent."""
        if self.is_unflushed:
            self.server(messages.encode_flush())
            self.is_unflushed = False

    def sync(self, is_own: bool) -> None:
        self.send(messages.encode_sync(), Ready(self, is_own))
        self.is_unflushed = self.is_skipping = False

    def say(self, data: bytes, done: Callable[[], None] | None = None) -> None:
        """Answers the client ourselves, behind what the server still owes it."""
        self.expected.append(Said(data, done))
        self._say()

    def _say(self) -> None:
        while self.expected and isinstance(self.expected[0], Said):
            said = self.expected.popleft()
            assert isinstance(said, Said)
            self.client(said.data)
            if said.done:
                said.done()

    def received(self, frame: Answer) -> None:
        """Takes one frame of the server. `Unexpected` when nothing asked for it."""
        if frame.kind in ANY_TIME:
            assert isinstance(frame, Frame)
            self.on_any_time(frame)
            return
        head = self.expected[0] if self.expected else Expectation()
        if frame.kind == FromServer.ERROR_RESPONSE and not head.survives_errors:
            self._failed(frame)
        else:
            if frame.kind == FromServer.READY_FOR_QUERY:
                self.status = messages.decode_ready_for_query(frame.raw[5:]).status
            if head.frame(frame):
                self.expected.popleft()
                if frame.kind == FromServer.READY_FOR_QUERY:
                    self.on_ready()
        self._say()

    def _failed(self, frame: Answer) -> None:
        """An error: what was sent up to the next Sync is ignored by the server."""
        if not self.expected:
            if messages.decode_error_response(frame.raw[5:]).fields.get("V", "FATAL") == "ERROR":
                raise Unexpected("The database sent an error that nothing asked for.")
            self.client(frame.raw)
            return
        if isinstance(self.expected[0], Ready):
            # The transaction ended with Sync, and that failed (a deferred constraint): ReadyForQuery still follows.
            shown = self.on_commit_failed(frame)
            self.client(b"" if self.expected[0].is_own else shown)
            return
        self.expected.popleft().failed(frame)
        while self.expected and not isinstance(self.expected[0], Ready):
            self.expected.popleft().skipped()
        self.is_skipping = not self.expected
