"""All that one session knows, and the steps that every way through it shares.

A step is a generator: it yields a condition to wait for, and goes on when that holds. So what happens to a statement
reads from top to bottom, though its answers come in between.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Generator, Sequence

import msgspec

from enforcement.gateway import messages
from enforcement.gateway.effects import Scope
from enforcement.gateway.messages import Frame, FromClient, ProtocolViolation, Run
from enforcement.gateway.session import records as recording
from enforcement.gateway.session.judging import Judge, Judgement, Refusal, Ruling
from enforcement.gateway.session.names import Names, Portal, Prepared
from enforcement.gateway.session.outputs import Ask, CancelServer, ClientFacts, Place, ReloadCatalog
from enforcement.gateway.session.pipeline import Line, Own, Swallowed
from enforcement.gateway.session.records import Records
from enforcement.gateway.session.results import Execution
from enforcement.gateway.session.settings_tracking import ASK, Reasons, Told, reasons, scope

Wait = Callable[[], bool]
Steps = Generator[Wait, None, None]

STAMP = "SELECT pg_catalog.pg_logical_emit_message(true,'touchstone',$1)::text, pg_catalog.pg_current_xact_id()::text"
FAIL = "DO $$ BEGIN RAISE EXCEPTION 'refused by the gateway' USING ERRCODE = '42501'; END $$"
ALONE = frozenset({
    "VACUUM", "CREATE DATABASE", "DROP DATABASE", "ALTER DATABASE", "CREATE TABLESPACE", "DROP TABLESPACE", "ALTER SYSTEM",
    "CLUSTER", "CREATE SUBSCRIPTION", "ALTER SUBSCRIPTION", "DROP SUBSCRIPTION", "DISCARD ALL", "REINDEX",
})  # fmt: skip
"""Commands that cannot, or sometimes cannot, run in a transaction block: no identity message goes before them."""
_STARTS = frozenset({"BEGIN", "START TRANSACTION", "SAVEPOINT", "RELEASE"})
"""Transaction control after which everything said before still holds."""
_TEXT_OID = 25


class State:
    """One session. `doubt`: search path and roles must be asked for; `barrier`: what was sent changes what names mean."""

    def __init__(
        self,
        judge: Judge,
        place: Place,
        client: ClientFacts,
        clock: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        self.judge, self.place, self.client, self.clock, self.new_id = judge, place, client, clock, new_id
        self.line = Line()
        self.facts = recording.session_facts(judge.who, place, client, clock())
        self.records = Records(self.line, self.facts, clock, new_id, place.keys_limit)
        self.inbox: deque[Frame] = deque()
        self.inbox_bytes = 0
        self.statements: Names[Prepared] = Names()
        self.portals: Names[Portal] = Names()
        self.cursors: dict[str, Ruling] = {}
        self.scope: Scope | None = None
        self.doubt = True
        self.barrier = False
        self.scope_changed_in_transaction = False
        self.left_failed = False
        self.catalog_changed = False
        self.reasons = self.first_reasons = Reasons(
            purpose=self.facts.purpose, ticket=self.facts.ticket, run_id=client.run_id, tool_call_id=client.tool_call_id
        )
        self.stamped = False
        self.transaction_id: str | None = None
        self.is_copying = False
        self.is_batch_open = self.has_executed = False
        self.batch_failed = self.rolled_back = False
        self.is_wrapped = False
        self.is_absorbing = False
        self.is_holding = False
        self.unrecorded: set[str] = set()
        self._injected = 0

    @property
    def must_abort(self) -> bool:
        """Whether something is open in the server that a refusal must end."""
        return self.line.status == messages.IN_TRANSACTION or self.is_batch_open

    def next_frame(self) -> Frame:
        frame = self.inbox.popleft()
        self.inbox_bytes -= frame.stop - frame.start
        return frame

    @property
    def is_failed(self) -> bool:
        """Whether the server's transaction has failed, as far as is known."""
        return self.line.status == messages.FAILED and not self.left_failed

    def judged_bound(self, prepared: Prepared, parameters: Sequence[str | None]) -> Judgement:
        """A prepared statement with its values; what PREPARE made is judged as its EXECUTE would be."""
        if prepared.by_sql is None:
            return self.judged(prepared.text, parameters)
        name = prepared.by_sql.replace('"', '""')
        known = self._known_scope()
        names = {prepared.by_sql: prepared.text}
        return self.judge.judge(f'execute "{name}"', (), known, names, self.cursors, self.reasons)

    def _known_scope(self) -> Scope:
        return self.scope or Scope(search_path=None, role="", session_user="", temp=frozenset())

    def judged(self, text: str, parameters: Sequence[str | None] = ()) -> Judgement:
        """`text` under the rules, the catalog and the settings of now."""
        known = self._known_scope()
        prepared = (
            {name: one.text for name, one in self.statements.items() if name} if "execute" in text.lower() else {}
        )
        return self.judge.judge(text, parameters, known, prepared, self.cursors, reasons(self.reasons, text))

    def asked_with(self) -> tuple[object, ...]:
        """What a judgement depends on besides the text: judge again when it is another."""
        return (self.judge.rules.digest, self.judge.catalog.version, self.scope, self.reasons)

    def own_name(self) -> str:
        """A name for a prepared statement of ours that nobody else has."""
        self._injected += 1
        return f"_touchstone_{self.client.session_id[-8:]}_{self._injected}"

    def inject(self, sql: str, values: Sequence[bytes] = (), own: Own | None = None) -> Own:
        """Sends a statement of ours whose answer the client does not see; the unnamed statement and portal stay as they are."""
        name, own = self.own_name(), own or Own()
        types = (_TEXT_OID,) * len(values)
        parts = (
            messages.encode_parse(name, sql, types),
            messages.encode_bind(name, name, (), tuple(values), ()),
            messages.encode_execute(name, 0),
            messages.encode_close("P", name),
            messages.encode_close("S", name),
        )
        self.line.send(b"".join(parts), own)
        return own

    def stamp(self, judgement: Judgement, on_failed: Callable[[dict[str, str]], None] | None = None) -> Own:
        """Emits the identity message in the transaction that is about to write, and learns the transaction's id."""
        why = judgement.reasons
        said = recording.identity_message(self.facts, self.judge.who.agent, why.purpose, why.ticket)
        self.stamped = True

        def failed(fields: dict[str, str]) -> None:
            self.stamped = False
            if on_failed:
                on_failed(fields)

        return self.inject(STAMP, [json.dumps(said, ensure_ascii=False).encode()], Own(failed, self._stamped))

    def _stamped(self, row: list[bytes | None]) -> None:
        """Takes the transaction's id as log and change capture write it: its low 32 bits."""
        self.transaction_id = str(int(row[1] or b"0") & 0xFFFFFFFF)

    def needs_stamp(self, judgement: Judgement) -> bool:
        if not self.place.identity_message or self.stamped or self.is_failed or not judgement.writes:
            return False
        return not any(_stands_alone(one, judgement.text) for one in judgement.rulings)

    def stream(self, execution: Execution, frame: Frame | Run) -> bool:
        """Takes what belongs to any kind of answer: rows and copied data. False for other frames."""
        kind = frame.kind
        if kind == messages.FromServer.DATA_ROW:
            self._show(execution, execution.rows(frame))
        elif not isinstance(frame, Frame):
            return False
        elif kind == messages.FromServer.COPY_IN_RESPONSE:
            self._copy_in(execution, frame)
        elif kind == messages.FromServer.COPY_OUT_RESPONSE:
            execution.copy_begins()
            self._show(execution, frame.raw)
        elif kind == messages.FromServer.COPY_DATA:
            self._show(execution, execution.copy_data(frame))
        elif kind == messages.FromServer.COPY_DONE:
            self._show(execution, execution.copy_ends() + frame.raw)
        else:
            return False
        return True

    def _copy_in(self, execution: Execution, frame: Frame) -> None:
        copies = execution.ruling.part.part.copies
        if copies is None or copies.direction != "in":
            raise ProtocolViolation("The database asked for data to copy in that nothing announced.")
        if execution.is_muted:
            self.line.server(messages.encode_copy_fail("something before it was refused"))
            return
        self.is_copying = True
        self.line.client(frame.raw)

    def _show(self, execution: Execution, data: bytes) -> None:
        if execution.is_muted:
            return
        self.line.client(data)
        if execution.over:
            self.tell_over(execution)
            self.line.output(CancelServer())

    def tell_over(self, execution: Execution) -> None:
        """The client reads, instead of the rest, that there were more rows than allowed."""
        refusal = execution.refusal()
        execution.is_muted = True
        execution.error = {"C": refusal.sqlstate, "M": refusal.sentence}
        self.line.client(refusal.encoded())

    def completed(self, execution: Execution, tag: str) -> None:
        """A statement is done: what it changed for the next ones."""
        part = execution.ruling.part.part
        execution.completed(tag)
        execution.transaction_id = execution.transaction_id or self.transaction_id
        self.records.finished(execution)
        if part.is_transaction_control:
            self._controlled(tag)
        self._names_changed(execution)
        if any(name == "*" for name, _, _ in part.sets):
            self.reasons = self.first_reasons
        if (
            any(touch.verb in ("ddl", "privilege") for touch in execution.ruling.part.touches)
            or execution.ruling.part.opaque
        ):
            self.catalog_changed = True

    def _names_changed(self, execution: Execution) -> None:
        """Prepared statements and cursors that a statement made or gave up."""
        part = execution.ruling.part.part
        if part.prepares:
            text = execution.began.statement
            self.statements.set(part.prepares, Prepared(text, by_sql=part.prepares))
        if part.deallocates:
            self._deallocated(part.deallocates)
        if part.tag == "DISCARD ALL":
            self.statements.clear()
            self.cursors = {}
        if part.declares:
            self.cursors[part.declares] = execution.ruling
        if part.closes:
            self.cursors = {} if part.closes == "*" else {k: v for k, v in self.cursors.items() if k != part.closes}

    def _deallocated(self, name: str) -> None:
        if name == "*":
            self.statements.clear(keep_unnamed=True)
        else:
            self.statements.set(name, None)

    def _controlled(self, tag: str) -> None:
        """A transaction began, ended or went back: what was true inside it may not be any more."""
        if tag in _STARTS:
            return
        self.stamped = False
        self.left_failed = True
        self.doubt = self.doubt or self.scope_changed_in_transaction
        self.rolled_back = tag == "ROLLBACK"
        if tag == "COMMIT":
            self.records.settle("committed", self.transaction_id)

    def commit_failed(self, frame: Frame | Run) -> bytes:
        """What a batch did was undone as it ended. Returns the error as the client may read it."""
        self.batch_failed = True
        fields = messages.decode_error_response(frame.raw[5:]).fields
        for execution in self.records.unsettled():
            fields = execution.scrubbed(fields)
        return messages.encode_error_response(fields)

    def ready(self) -> None:
        """ReadyForQuery came: what a batch or a transaction took with it."""
        self.left_failed = False
        if self.is_wrapped:
            return
        if self.line.status != messages.IDLE:
            self.records.settle(None, self.transaction_id)
        else:
            self._transaction_ended()
        self.batch_failed = self.rolled_back = False

    def _transaction_ended(self) -> None:
        for _, portal in self.portals.items():
            if portal.execution is not None:
                self.records.finished(portal.execution)
        self.portals.clear()
        self.cursors = {name: one for name, one in self.cursors.items() if _outlives(one)}
        undone = self.batch_failed or self.rolled_back
        self.records.settle("rolled_back" if undone else "committed", self.transaction_id)
        self.transaction_id, self.stamped = None, False
        self.doubt = self.doubt or self.scope_changed_in_transaction
        self.scope_changed_in_transaction = False
        if self.catalog_changed:
            self.catalog_changed = False
            self.line.output(Ask(ReloadCatalog(self.place.database)))

    def touches_scope(self, judgement: Judgement) -> None:
        """Called as a text is forwarded: after it, settings and names may be others."""
        for ruling in judgement.rulings:
            part = ruling.part.part
            named = part.prepares or part.deallocates or part.declares or part.closes
            temporary = any(is_temporary for _, _, is_temporary in part.creates)
            if part.sets or temporary or ruling.part.opaque or ruling.part.triggers or part.executes:
                self.doubt = self.scope_changed_in_transaction = True
            if any(touch.verb in ("ddl", "privilege") for touch in ruling.part.touches):
                self.doubt = self.scope_changed_in_transaction = True
            ends = part.is_transaction_control and part.tag not in _STARTS
            self.barrier = self.barrier or self.doubt or bool(named) or ends


def _outlives(cursor: Ruling) -> bool:
    """Whether a cursor may be there after its transaction."""
    return "with hold" in " ".join(cursor.part.part.statement.redacted.lower().split())


def _stands_alone(ruling: Ruling, text: str) -> bool:
    tag = ruling.part.part.tag
    return tag in ALONE or (tag.endswith("INDEX") and "concurrently" in text.lower())


def drained(state: State) -> Steps:
    """Until the server owes nothing."""
    state.line.flush()
    yield lambda: state.line.is_drained


def settled(state: State) -> Steps:
    """Until what names mean is known: waits for what may change it, then asks the server where there is doubt."""
    if state.barrier:
        yield from drained(state)
        state.barrier = False
    if not state.doubt or state.is_failed or state.line.is_skipping:
        return
    yield from drained(state)
    if not state.line.is_skipping:
        yield from _asked(state)


def _asked(state: State) -> Steps:
    """Asks the server what names mean now."""
    own = state.inject(ASK)
    if state.is_batch_open:
        state.line.flush()
    else:
        state.line.sync(is_own=True)
    yield lambda: state.line.is_drained
    if own.error is not None or not own.rows or own.rows[0][0] is None:
        raise ProtocolViolation("The database does not tell this session's search path and role.")
    told = msgspec.json.decode(own.rows[0][0], type=Told)
    if told.strings != "on":
        raise ProtocolViolation("standard_conforming_strings was switched off; texts cannot be judged any more.")
    state.scope, state.doubt = scope(told), False


def aborted(state: State) -> Steps:
    """Makes the server's transaction fail, so that it holds no lock, and ends the open batch."""
    if state.line.status == messages.IDLE and not state.has_executed:
        state.line.sync(is_own=True)
        state.is_batch_open = False
        yield lambda: state.line.is_drained
        return
    name, own = state.own_name(), Own()
    parts = (
        messages.encode_parse(name, FAIL, ()), messages.encode_bind(name, name, (), (), ()), messages.encode_execute(name, 0),
    )  # fmt: skip
    state.batch_failed = True
    state.line.send(b"".join(parts), own)
    state.line.sync(is_own=True)
    state.line.send(messages.encode_close("S", name), Swallowed(b"3"))
    state.line.sync(is_own=True)
    yield lambda: state.line.is_drained
    if own.error is None:
        raise ProtocolViolation("A refused statement's transaction could not be ended.")
    state.is_batch_open = state.has_executed = False


def begun(state: State, executions: Sequence[Execution]) -> Generator[Wait, None, bool]:
    """Until the entries of these statements were written down. False: they could not be, and the place says refuse."""
    yield lambda: state.line.is_empty
    lost = [one for one in executions if one.began.id in state.unrecorded]
    if lost and state.place.when_unrecorded == "refuse":
        for one in executions:
            state.records.unbegun(one)
        return False
    return True


UNRECORDED = Refusal(
    "58030",
    "The statement cannot be written down, so it does not run.",
    "Tell the operator that the gateway's spool refuses to be written; try again when that is mended.",
)


def copied_in(state: State, finished: Wait) -> Steps:
    """Until `finished`: passes the client's copied data on while the server takes it."""
    while True:
        yield lambda: finished() or (state.is_copying and bool(state.inbox))
        if finished():
            return
        frame = state.next_frame()
        if frame.kind == FromClient.TERMINATE:
            raise ProtocolViolation("The client ended its session in the middle of a COPY.")
        if frame.kind in (FromClient.COPY_DATA, FromClient.COPY_DONE, FromClient.COPY_FAIL):
            state.line.server(frame.raw)
            state.is_copying = frame.kind == FromClient.COPY_DATA
            if not state.is_copying:
                # The end of the COPY is told at once, in the extended protocol too.
                state.line.server(messages.encode_flush())
        elif frame.kind not in (FromClient.SYNC, FromClient.FLUSH):
            raise ProtocolViolation("A message that has no place in a COPY came in the middle of one.")
