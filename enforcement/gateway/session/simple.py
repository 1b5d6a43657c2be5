"""Simple queries: one text, perhaps of several statements, all judged before any of it is forwarded."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import msgspec

from enforcement.gateway import messages
from enforcement.gateway.messages import Frame, FromServer, Run
from enforcement.gateway.session.holds import Desk, held
from enforcement.gateway.session.judging import Judgement, Refusal, refusal
from enforcement.gateway.session.outputs import Decided
from enforcement.gateway.session.pipeline import Committing, Expectation, Own
from enforcement.gateway.session.results import Execution
from enforcement.gateway.session.settings_tracking import Reasons, ours
from enforcement.gateway.session.state import State, Steps, Wait
from enforcement.gateway.session.steps import STALE, UNRECORDED, aborted, begun, copied_in, drained, settled
from enforcement.gateway.session.transactions import Group, groups
from lineage.events import Verdict


class Texts(Expectation):
    """The answers to all statements of one Query, up to its ReadyForQuery, which stays ours.

    The last CommandComplete is held where the transaction must still commit before the client reads it.
    """

    survives_errors = True

    def __init__(self, state: State, executions: Sequence[Execution], offset: int, is_wrapped: bool) -> None:
        self._state, self._executions, self._offset, self._is_wrapped = state, executions, offset, is_wrapped
        self._at = 0
        self.is_done = self.has_failed = self.was_skipped = False

    @property
    def is_over(self) -> bool:
        return any(one.over for one in self._executions)

    def frame(self, frame: Frame | Run) -> bool:
        if frame.kind == FromServer.READY_FOR_QUERY:
            self.is_done = True
            return True
        if frame.kind == FromServer.ERROR_RESPONSE:
            self._error(frame)
        elif frame.kind == FromServer.EMPTY_QUERY_RESPONSE and not self._executions:
            self._state.line.client(frame.raw)
        else:
            self._answer(frame)
        return False

    def _answer(self, frame: Frame | Run) -> None:
        if self._at >= len(self._executions):
            super().frame(frame)
        state, execution = self._state, self._executions[self._at]
        execution.is_muted = execution.is_muted or (self.is_over and not execution.over)
        if frame.kind == FromServer.ROW_DESCRIPTION:
            execution.described(messages.decode_row_description(frame.raw[5:]).fields)
            self._client(frame.raw)
        elif frame.kind == FromServer.COMMAND_COMPLETE:
            self._completed(execution, frame.raw)
        elif not state.stream(execution, frame):
            super().frame(frame)

    def _completed(self, execution: Execution, raw: bytes) -> None:
        self._at += 1
        state = self._state
        state.completed(execution, messages.decode_command_complete(raw[5:]).tag)
        if execution.over and not execution.is_muted:
            state.tell_over(execution)
        if self.is_over:
            return
        if self._is_wrapped and self._at == len(self._executions):
            state.line.hold(raw)
        else:
            state.line.client(raw)

    def current(self) -> Execution | None:
        return self._executions[self._at] if self._at < len(self._executions) else None

    def _client(self, data: bytes) -> None:
        if not self.is_over:
            self._state.line.client(data)

    def _error(self, frame: Frame | Run) -> None:
        state = self._state
        self.has_failed = state.batch_failed = True
        state.is_copying = False
        if self._at < len(self._executions):
            execution = self._executions[self._at]
            shown = frame.raw if execution.over else execution.failed(frame, self._offset)
            state.records.finished(execution)
        else:
            shown = frame.raw
        self._client(shown)
        for execution in self._executions[self._at + 1 :]:
            state.records.not_run(execution)

    def skipped(self) -> None:
        self.is_done = self.was_skipped = True
        for execution in self._executions:
            self._state.records.not_run(execution)


def query(state: State, desk: Desk, frame: Frame) -> Steps:
    """One Query message from its judgement to its ReadyForQuery."""
    yield from drained(state)
    # As in the server: a simple Query ends the unnamed statement and portal.
    state.statements.set("", None)
    state.portals.set("", None)
    text = messages.decode_query(frame.body).text
    unsettled = yield from settled(state, state.judged(text))
    judgement = state.judged(text)
    if unsettled is not None:
        yield from refused(state, judgement, unsettled, verdict="error")
        return
    if (yield from _answered_here(state, judgement)):
        return
    executed = (state.statements.get(one.part.part.executes) for one in judgement.rulings if one.part.part.executes)
    if any(one is not None and state.is_stale(one, state.known_scope()) for one in executed):
        yield from refused(state, judgement, STALE)
        return
    found = groups(judgement, state.line.status != messages.IDLE)
    if isinstance(found, Refusal):
        yield from refused(state, judgement, found)
        return
    decided = yield from allowed(state, desk, judgement)
    if isinstance(decided, Refusal):
        return
    for number, group in enumerate(found):
        if not (yield from _group(state, judgement, group, decided, is_again=number > 0)):
            break
    state.line.client(messages.encode_ready_for_query(state.line.status))


def allowed(state: State, desk: Desk, judgement: Judgement) -> Generator[Wait, None, Decided | Refusal | None]:
    """Blocks, or asks a person where that is the rule. A Refusal has been answered already."""
    if judgement.worst.outcome == "block":
        no = refusal(judgement.worst)
        yield from refused(state, judgement, no)
        return no
    # In a failed transaction nothing runs, but behind its end it does.
    nothing_runs = state.is_failed and not any(one.part.part.is_transaction_control for one in judgement.rulings)
    if judgement.worst.outcome != "approve" or nothing_runs:
        return None
    answer = yield from held(state, desk, judgement)
    if answer.refusal is not None:
        pending = answer.decided is not None and answer.decided.state == "pending"
        state.records.refused(
            judgement, answer.refusal, decided=answer.decided, verdict="pending" if pending else "blocked"
        )
        yield from _say_no(state, answer.refusal)
        return answer.refusal
    return answer.decided


def refused(state: State, judgement: Judgement, no: Refusal, verdict: Verdict = "blocked") -> Steps:
    """Nothing is forwarded; an open transaction is made to fail; the client reads why."""
    state.records.refused(judgement, no, verdict=verdict)
    yield from _say_no(state, no)


def _say_no(state: State, no: Refusal) -> Steps:
    if state.must_abort:
        yield from aborted(state)
    state.line.client(no.encoded())
    state.line.client(messages.encode_ready_for_query(state.line.status))


def function_call(state: State) -> Steps:
    """A FunctionCall names an oid and binary values: what it would do cannot be judged."""
    yield from drained(state)
    no = Refusal("0A000", "The gateway does not pass the function call message on.", "Call the function with SELECT.")
    state.records.refused_unread("FUNCTION CALL", no)
    yield from _say_no(state, no)


def _answered_here(state: State, judgement: Judgement) -> Generator[Wait, None, bool]:
    """SET touchstone.* is for the gateway alone. Beside other statements it is refused: the order would be another."""
    settings = [ours(one.part.part) for one in judgement.rulings]
    if not any(settings):
        return False
    if not all(settings):
        hint = "Send SET touchstone.… in a message of its own."
        yield from refused(state, judgement, Refusal("0A000", "SET touchstone.… stands beside other statements.", hint))
        return True
    if state.is_failed:
        return False
    for setting in settings:
        state.reasons = changed(state, setting or {})
        state.line.client(messages.encode_command_complete("SET"))
    state.line.client(messages.encode_ready_for_query(state.line.status))
    return True


def changed(state: State, setting: dict[str, str | None]) -> Reasons:
    """The session's reasons after SET touchstone.*; a name that there is not, is kept by nobody."""
    known = {
        name: value or getattr(state.first_reasons, name)
        for name, value in setting.items()
        if hasattr(state.reasons, name)
    }
    return msgspec.structs.replace(state.reasons, **known)


def _group(
    state: State, whole: Judgement, group: Group, decided: Decided | None, is_again: bool
) -> Generator[Wait, None, bool]:
    """Forwards statements that make one Query. False when the text ends here."""
    if is_again:
        # What ran before may have changed what names mean: later parts are judged once more.
        unsettled = yield from settled(state, whole)
        if unsettled is not None:
            yield from _late_refusal(state, whole.between(group.first, group.last), unsettled, "error")
            return False
        whole = state.judged(whole.text)
    judgement = whole.between(group.first, group.last) if whole.rulings else whole
    forbidden = judgement.worst.outcome == "block" or (judgement.worst.outcome == "approve" and decided is None)
    if is_again and forbidden:
        yield from _late_refusal(state, judgement, refusal(judgement.worst))
        return False
    correlation = state.new_id()
    executions = [
        state.records.began(
            judgement, at, correlation, state.judge.catalog, decided=decided, transaction_id=state.transaction_id
        )
        for at in range(len(judgement.rulings))
    ]
    if not (yield from begun(state, executions)):
        yield from _late_refusal(state, judgement, UNRECORDED, "error")
        return False
    return (yield from _run(state, judgement, executions, group))


def _late_refusal(state: State, judgement: Judgement, no: Refusal, verdict: Verdict = "blocked") -> Steps:
    """As `refused`, where ReadyForQuery still follows."""
    state.records.refused(judgement, no, verdict=verdict)
    if state.must_abort:
        yield from aborted(state)
    state.line.client(no.encoded())


def _run(
    state: State, judgement: Judgement, executions: Sequence[Execution], group: Group
) -> Generator[Wait, None, bool]:
    """Identity message and transaction around the Query where they are needed; True when all of it went well."""
    writes = state.needs_stamp(judgement)
    is_capped = any(one.cap is not None and one.is_write for one in executions)
    # In the server a simple Query does not end the transaction of what was sent before it in the other protocol
    # (PostgreSQL 17 and newer), so the block is explicit.
    # What stands before it in the same text may change what the query of a COPY means: then it is not asked about.
    copies = executions[0] if len(executions) == 1 and executions[0].copies_query is not None else None
    state.is_wrapped = state.line.status == messages.IDLE and (writes or is_capped or copies is not None)
    block = state.inject("BEGIN") if state.is_wrapped else None
    stamp = state.stamp(judgement) if writes else None
    text = judgement.text[group.start : group.end]
    described = state.describe_copied(copies, text, group.start) if copies is not None else None
    texts = Texts(state, executions, group.start, block is not None)
    state.touches_scope(judgement)
    state.line.send(messages.encode_query(text), texts)
    state.line.is_unflushed = state.is_batch_open = state.has_executed = False
    yield from copied_in(state, lambda: texts.is_done)
    if texts.was_skipped:
        yield from _skipped(state, block)
        if described is None or not described.has_failed:
            state.line.client(unstamped(stamp.error if stamp else None).encoded())
        return False
    yield from _closed(state, texts, executions, block)
    return not texts.has_failed and not texts.is_over


def _closed(state: State, texts: Texts, executions: Sequence[Execution], block: Own | None) -> Steps:
    """Ends a transaction of ours; one of the client's is made to fail when a cap was passed in it."""
    is_well = not texts.has_failed and not texts.is_over
    state.batch_failed = state.batch_failed or not is_well
    if block is not None:
        if is_well:
            state.inject("COMMIT", own=Committing(
                lambda error: _failed_at_commit(state, executions, error), lambda: state.line.release(is_well=True)
            ))  # fmt: skip
        else:
            state.inject("ROLLBACK")
            state.line.release(is_well=False)
        state.is_wrapped = False
        state.line.sync(is_own=True)
        yield lambda: state.line.is_drained
    elif texts.is_over and state.line.status == messages.IN_TRANSACTION:
        yield from aborted(state)


def _failed_at_commit(state: State, executions: Sequence[Execution], error: dict[str, str]) -> None:
    fields = state.records.scrubbed({name: text for name, text in error.items() if name != "P"})
    # Where the session ends, the commit may have been done: what became of it is told as unknown.
    if error.get("V", "ERROR") == "ERROR":
        state.batch_failed = True
        for execution in executions:
            execution.error = execution.error or fields
    state.line.client(messages.encode_error_response(fields))
    state.line.release(is_well=False)


def _skipped(state: State, block: Own | None) -> Steps:
    """What stood before the Query failed, so the server ignored it: a transaction of ours ends."""
    state.line.sync(is_own=True)
    yield lambda: state.line.is_drained
    state.is_wrapped = False
    if block is not None and state.line.status != messages.IDLE:
        state.inject("ROLLBACK")
        state.line.sync(is_own=True)
        yield lambda: state.line.is_drained


def unstamped(error: dict[str, str] | None) -> Refusal:
    """Why a write did not run whose identity message could not be written."""
    why = (error or {}).get("M", "the transaction could not begin")
    return Refusal(
        (error or {}).get("C", "42501"),
        f"The gateway could not say in this transaction who writes, so nothing was written: {why}.",
        "The account needs EXECUTE on pg_logical_emit_message(boolean, text, text).",
    )
