"""All that one session knows, and the steps that every way through it shares.

A step is a generator: it yields a condition to wait for, and goes on when that holds. So what happens to a statement
reads from top to bottom, though its answers come in between.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Any

import msgspec

from enforcement.gateway import messages
from enforcement.gateway.effects import Catalog, Judged, Scope
from enforcement.gateway.messages import Frame, ProtocolViolation, Run
from enforcement.gateway.session import records as recording
from enforcement.gateway.session.judging import Judge, Judgement, Ruling
from enforcement.gateway.session.names import Names, Portal, Prepared
from enforcement.gateway.session.outputs import Ask, CancelServer, ClientFacts, Place, ReloadCatalog
from enforcement.gateway.session.pipeline import Described, Line, Own
from enforcement.gateway.session.records import Records
from enforcement.gateway.session.results import Execution
from enforcement.gateway.session.settings_tracking import Reasons, reasons

Wait = Callable[[], bool]
Steps = Generator[Wait, None, None]

STAMP = (
    "SELECT pg_catalog.pg_logical_emit_message(true,'touchstone',$1)::pg_catalog.text,"
    " pg_catalog.pg_current_xact_id()::pg_catalog.text"
)
ALONE = frozenset({
    "VACUUM", "CREATE DATABASE", "DROP DATABASE", "ALTER DATABASE", "CREATE TABLESPACE", "DROP TABLESPACE", "ALTER SYSTEM",
    "CLUSTER", "CREATE SUBSCRIPTION", "ALTER SUBSCRIPTION", "DROP SUBSCRIPTION", "DISCARD ALL", "REINDEX",
})  # fmt: skip
"""Commands that cannot, or sometimes cannot, run in a transaction block: no identity message goes before them."""
_STARTS = frozenset({"BEGIN", "START TRANSACTION", "SAVEPOINT", "RELEASE"})
"""Transaction control after which everything said before still holds."""
_STEERING = frozenset({
    "*", "search_path", "role", "session_authorization", "standard_conforming_strings", "client_encoding",
})  # fmt: skip
"""Settings that change what a text means."""
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
        self.altered: frozenset[tuple[str, str]] = frozenset()
        self.reloads = 0
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

    def known_scope(self) -> Scope:
        """What names mean now."""
        scope = self.scope or Scope(search_path=None, role="", session_user="", temp=frozenset())
        return msgspec.structs.replace(scope, changed=self.altered) if self.altered else scope

    def prepare(self, text: str, **more: Any) -> Prepared:
        return Prepared(text, self.known_scope().temp, self.judge.catalog, **more)

    def judged(self, text: str) -> Judgement:
        """`text` under the rules, the catalog and the settings of now."""
        names = {name: one.text for name, one in self.statements.items() if name} if "execute" in text.lower() else {}
        scope = self.known_scope()
        return self.judge.judge(text, (), scope, names, self.cursors, reasons(self.reasons, text), self.judge.catalog)

    def judged_bound(
        self, prepared: Prepared, parameters: Sequence[str | None], scope: Scope, catalog: Catalog | None = None
    ) -> Judgement:
        """A prepared statement with its values; what PREPARE made is judged as its EXECUTE would be."""
        text, names = prepared.text, dict[str, str]()
        if prepared.by_sql is not None:
            quoted = prepared.by_sql.replace('"', '""')
            text, parameters, names = f'execute "{quoted}"', (), {prepared.by_sql: prepared.text}
        why = reasons(self.reasons, prepared.text)
        return self.judge.judge(text, parameters, scope, names, self.cursors, why, catalog or self.judge.catalog)

    def is_stale(self, prepared: Prepared, scope: Scope) -> bool:
        """Whether a name in a prepared statement means another relation than when it was made.

        The server keeps to what it meant, unless the search path changed: a new table of the same name is not noticed.
        """
        if prepared.temp == scope.temp and prepared.catalog.version == self.judge.catalog.version:
            return False
        before = msgspec.structs.replace(scope, temp=prepared.temp)
        then = self.judged_bound(prepared, (), before, prepared.catalog).judged
        now = self.judged_bound(prepared, (), scope).judged
        return _meant(then) != _meant(now)

    def asked_with(self) -> tuple[object, ...]:
        """What a bound statement's judgement depends on besides the statement: judge again when it is another."""
        return (self.judge.rules.digest, self.judge.catalog.version, self.reasons)

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

    def describe_copied(self, execution: Execution, text: str, offset: int = 0) -> Described | None:
        """Asks for the columns of the query that a COPY of `text` shows, where they matter; as the COPY, it may fail.

        `offset` characters stand before `text` in what the client sent.
        """
        query = execution.copies_query
        if query is None:
            return None

        def failed(frame: Frame | Run) -> None:
            self.batch_failed = True
            self.line.client(execution.failed(frame, offset))
            self.records.finished(execution)

        name, own = self.own_name(), Described(execution, failed)
        # Behind blanks, an error's position is that in the client's text.
        padded = " " * max(text.find(query, text.find("(")), 0) + query
        parts = (
            messages.encode_parse(name, padded, ()),
            messages.encode_describe("S", name),
            messages.encode_close("S", name),
        )
        self.line.send(b"".join(parts), own)
        return own

    def needs_stamp(self, judgement: Judgement) -> bool:
        if not self.place.identity_message or self.stamped or self.is_failed or not judgement.writes:
            return False
        # Beside another statement none of them can run but in a transaction.
        return len(judgement.rulings) > 1 or not _stands_alone(judgement.rulings[0], judgement.text)

    def stream(self, execution: Execution, frame: Frame | Run) -> bool:
        """Takes what belongs to any kind of answer: rows and copied data. False for other frames."""
        kind = frame.kind
        if kind == messages.FromServer.DATA_ROW:
            self._show(execution, execution.rows(frame))
        elif kind == messages.FromServer.COPY_DATA:
            self._show(execution, execution.copy_data(frame))
        elif not isinstance(frame, Frame):
            return False
        elif kind == messages.FromServer.COPY_IN_RESPONSE:
            self._copy_in(execution, frame)
        elif kind == messages.FromServer.COPY_OUT_RESPONSE:
            execution.copy_begins()
            self._show(execution, frame.raw)
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
        if any(touch.verb in ("ddl", "privilege", "procedural") for touch in execution.ruling.part.touches):
            self.catalog_changed = True

    def _names_changed(self, execution: Execution) -> None:
        """Prepared statements and cursors that a statement made or gave up."""
        part = execution.ruling.part.part
        if part.prepares:
            text = execution.began.statement
            self.statements.set(part.prepares, self.prepare(text, by_sql=part.prepares))
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
        return messages.encode_error_response(
            self.records.scrubbed(messages.decode_error_response(frame.raw[5:]).fields)
        )

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
            self.reloads += 1
            self.line.output(Ask(ReloadCatalog(self.place.database, self.reloads)))

    def catalog_read(self, number: int) -> None:
        """What this session altered is in the catalog that is now in use, if nothing was altered since it was asked for."""
        if number == self.reloads and not self.catalog_changed:
            self.altered = frozenset()

    def touches_scope(self, judgement: Judgement) -> None:
        """Called as a text is forwarded: after it, settings and names may be others."""
        for ruling in judgement.rulings:
            part = ruling.part.part
            named = part.prepares or part.deallocates or part.declares or part.closes
            temporary = any(is_temporary for _, _, is_temporary in part.creates)
            if (
                any(name in _STEERING for name, _, _ in part.sets)
                or temporary
                or ruling.part.opaque
                or ruling.part.triggers
                or part.executes
            ):
                self.doubt = self.scope_changed_in_transaction = True
            touches = ruling.part.touches
            if any(touch.verb in ("ddl", "privilege") for touch in touches):
                self.doubt = self.scope_changed_in_transaction = True
            altered = {(t.schema or "", t.relation) for t in touches if t.verb == "ddl" and t.relation}
            if altered:
                # Until the catalog has been read again, what the relation is made of is not known.
                self.altered |= altered
                self.catalog_changed = True
            ends = part.is_transaction_control and part.tag not in _STARTS
            self.barrier = self.barrier or self.doubt or bool(named) or ends


def _meant(judged: Judged) -> set[tuple[str | None, str | None]]:
    return {(touch.schema, touch.relation) for touch in judged.touches}


def _outlives(cursor: Ruling) -> bool:
    """Whether a cursor may be there after its transaction."""
    return "with hold" in " ".join(cursor.part.part.statement.redacted.lower().split())


def _stands_alone(ruling: Ruling, text: str) -> bool:
    tag = ruling.part.part.tag
    return tag in ALONE or (tag.endswith("INDEX") and "concurrently" in text.lower())
