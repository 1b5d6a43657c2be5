"""The extended protocol: Parse, Bind, Describe, Execute, Close, Flush and Sync, pipelined as the client likes.

A statement is judged when it is parsed, and again with its values when it is bound. After a refusal everything is absorbed
up to the next Sync, as the server does after an error; what came before still gets its answers, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

from enforcement.gateway import entries, masking, messages
from enforcement.gateway.messages import Frame, FromClient, FromServer, Run
from enforcement.gateway.session.holds import Desk, held
from enforcement.gateway.session.judging import Judgement, Refusal, parameter_texts, refusal
from enforcement.gateway.session.names import Names, Portal, Prepared, T
from enforcement.gateway.session.pipeline import Expectation, Passed, Swallowed
from enforcement.gateway.session.results import Execution
from enforcement.gateway.session.settings_tracking import ours
from enforcement.gateway.session.simple import changed, unstamped
from enforcement.gateway.session.state import State, Steps, Wait
from enforcement.gateway.session.steps import STALE, UNRECORDED, aborted, begun, behind, copied_in, drained, settled
from lineage.events import Verdict

KINDS = frozenset(b"PBDECHS")


class Answer(Expectation):
    """The answer to one Execute."""

    def __init__(self, state: State, portal: Portal, execution: Execution) -> None:
        self._state, self._portal, self._execution = state, portal, execution
        self._is_first = portal.execution is None
        self.is_done = False

    def current(self) -> Execution | None:
        return self._execution

    def frame(self, frame: Frame | Run) -> bool:
        state, execution = self._state, self._execution
        if frame.kind == FromServer.DATA_ROW and execution.fields is None and self._portal.fields:
            execution.described(self._portal.fields)
        if frame.kind == FromServer.COMMAND_COMPLETE:
            state.completed(execution, messages.decode_command_complete(frame.raw[5:]).tag)
            self._end(frame)
        elif frame.kind == FromServer.PORTAL_SUSPENDED:
            self._portal.execution = execution
            execution.answered_at = state.clock()
            state.line.client(b"" if execution.is_muted else frame.raw)
            self.is_done = True
        elif not state.stream(execution, frame):
            return super().frame(frame)
        return self.is_done

    def _end(self, frame: Frame | Run) -> None:
        self._portal.execution = None
        if self._execution.over and not self._execution.is_muted:
            self._state.tell_over(self._execution)
        elif not self._execution.is_muted:
            self._state.line.client(frame.raw)
        self.is_done = True

    def failed(self, frame: Frame | Run) -> None:
        state = self._state
        state.is_copying, state.batch_failed, self.is_done = False, True, True
        if not self._execution.is_muted:
            state.line.client(self._execution.failed(frame))
        self._portal.execution = None
        state.records.finished(self._execution)

    def skipped(self) -> None:
        self.is_done = True
        if self._is_first:
            self._portal.execution = None
            self._state.records.not_run(self._execution)


def message(state: State, desk: Desk, frame: Frame) -> Steps:
    """One message of the extended protocol."""
    if frame.kind == FromClient.SYNC:
        yield from _sync(state)
    elif state.is_absorbing or state.line.is_skipping:
        return
    elif frame.kind == FromClient.FLUSH:
        state.line.flush()
    else:
        yield from _STEPS[frame.kind](state, desk, frame)


def _sync(state: State) -> Steps:
    if state.is_absorbing:
        state.is_absorbing = False
        state.line.client(messages.encode_ready_for_query(state.line.status))
        return
    state.line.sync(is_own=False)
    state.is_batch_open = state.has_executed = False
    yield lambda: state.line.is_drained


def _forward(state: State, data: bytes, *expected: Expectation) -> None:
    state.is_batch_open = True
    state.line.send(data, *expected)


def refused(state: State, no: Refusal, told: Callable[[], None] | None = None) -> Steps:
    """The client reads the refusal where the answer would have stood; the rest up to Sync is absorbed.

    `told` writes it down. Where something before it failed, the server would never have looked at it, and nothing is said.
    """
    yield from drained(state)
    if state.line.is_skipping:
        return
    if told:
        told()
    if state.must_abort:
        yield from aborted(state)
    state.line.client(no.encoded())
    state.is_absorbing = True


def _settled(state: State, judgement: Judgement) -> Generator[Wait, None, bool]:
    """False when what its names mean could not be asked, which the client has read, or when the server ignores it."""
    no = yield from settled(state, judgement)
    if no is not None:
        state.records.refused(judgement, no, verdict="error")
        state.line.client(no.encoded())
        # In an open batch the server ignores what follows; else nothing has begun there, and we do.
        state.is_absorbing = not state.line.is_skipping
    return no is None and not state.line.is_skipping


def _parse(state: State, desk: Desk, frame: Frame) -> Steps:
    parse = messages.decode_parse(frame.body)
    yield from behind(state)
    if not (yield from _settled(state, state.judged(parse.text))):
        return
    judgement = state.judged(parse.text)
    setting = ours(judgement.rulings[0].part.part) if len(judgement.rulings) == 1 else None
    change = state.statements.change(parse.name, state.prepare(parse.text, types=parse.types, ours=setting))
    if judgement.worst.outcome == "block":
        state.statements.forget(change)
        no = refusal(judgement.worst)
        yield from refused(state, no, lambda: state.records.refused(judgement, no))
    elif setting is not None:
        state.line.say(messages.encode_parse_complete(), lambda: state.statements.confirm(change))
    else:
        passed = Passed(
            state.line,
            b"1",
            done=lambda _: state.statements.confirm(change),
            undone=lambda: state.statements.forget(change),
        )
        _forward(state, frame.raw, passed)


def _bind(state: State, desk: Desk, frame: Frame) -> Steps:
    bind = messages.decode_bind(frame.body)
    yield from behind(state)
    prepared = state.statements.get(bind.statement)
    if prepared is not None:
        yield from _settled(state, state.judged_bound(prepared, (), state.known_scope()))
    if state.line.is_skipping or state.is_absorbing:
        return
    if prepared is None:
        yield from refused(state, _missing_statement(bind.statement))
        return
    portal = Portal(prepared, bind.values, bind.formats, state.known_scope(), None)
    if prepared.ours is not None:
        change = state.portals.change(bind.portal, portal)
        state.line.say(messages.encode_bind_complete(), lambda: state.portals.confirm(change))
        return
    if state.is_stale(prepared, portal.scope):
        now = state.judged_bound(prepared, (), portal.scope)
        yield from refused(state, STALE, lambda: state.records.refused(now, STALE))
        return
    if not (yield from _permitted(state, desk, portal)):
        return
    # A portal and a cursor share one namespace: FETCH from this name reads the portal now.
    state.cursors.pop(bind.portal, None)
    change = state.portals.change(bind.portal, portal)
    passed = Passed(
        state.line,
        b"2",
        done=lambda _: state.portals.confirm(change),
        undone=lambda: state.portals.forget(change),
        error=lambda found: _scrubbed(portal, found),
    )
    _forward(state, frame.raw, passed)


def _scrubbed(portal: Portal, frame: Frame | Run) -> bytes:
    """The error of a Bind, which plans, and may call functions as it does."""
    fields = messages.decode_error_response(frame.raw[5:]).fields
    for ruling in portal.judgement.rulings if portal.judgement else ():
        fields = masking.scrub(fields, ruling.source, ruling.decision.mask)
    return messages.encode_error_response(fields)


def _permitted(state: State, desk: Desk, portal: Portal) -> Generator[Wait, None, bool]:
    """Judges a bound statement with its values under what holds now. False when it was refused."""
    prepared = portal.prepared
    texts = parameter_texts(portal.values, portal.formats, prepared.types)
    judgement = portal.judgement = state.judged_bound(prepared, texts, portal.scope)
    portal.asked = state.asked_with()
    parameters = entries.parameters(portal.values, portal.formats)
    if judgement.worst.outcome == "block":
        no = refusal(judgement.worst)
        yield from refused(state, no, lambda: state.records.refused(judgement, no, parameters))
        return False
    if judgement.worst.outcome != "approve" or state.is_failed or portal.decided is not None:
        return True
    yield from drained(state)
    if state.line.is_skipping:
        return False
    answer = yield from held(state, desk, judgement, portal.values, portal.formats, prepared.types)
    if answer.refusal is None:
        portal.decided = answer.decided
        return True
    waits = answer.decided is not None and answer.decided.state == "pending"
    verdict: Verdict = "pending" if waits else "blocked"

    def told() -> None:
        assert answer.refusal is not None
        state.records.refused(judgement, answer.refusal, parameters, answer.decided, verdict)

    yield from refused(state, answer.refusal, told)
    return False


def _describe(state: State, desk: Desk, frame: Frame) -> Steps:
    described = messages.decode_describe(frame.body)
    yield from behind(state)
    if state.line.is_skipping:
        return
    if described.what == "S":
        prepared = state.statements.get(described.name)
        if prepared is None:
            yield from refused(state, _missing_statement(described.name))
        elif prepared.ours is not None:
            state.line.say(messages.encode_parameter_description(()) + messages.encode_no_data())
        else:
            _forward(state, frame.raw, Passed(state.line, b"Tn", b"t", done=lambda found: _typed(prepared, found)))
        return
    portal = state.portals.get(described.name)
    if portal is None and described.name not in state.cursors:
        yield from refused(state, _missing_portal(described.name))
    elif portal is not None and portal.prepared.ours is not None:
        state.line.say(messages.encode_no_data())
    else:
        _forward(state, frame.raw, Passed(state.line, b"Tn", done=lambda found: _fielded(portal, found)))


def _typed(prepared: Prepared, frame: Frame | Run) -> None:
    if frame.kind == FromServer.PARAMETER_DESCRIPTION:
        prepared.types = messages.decode_parameter_description(frame.raw[5:]).types


def _fielded(portal: Portal | None, frame: Frame | Run) -> None:
    if portal is not None:
        is_rows = frame.kind == FromServer.ROW_DESCRIPTION
        portal.fields = messages.decode_row_description(frame.raw[5:]).fields if is_rows else ()


def _execute(state: State, desk: Desk, frame: Frame) -> Steps:
    yield from behind(state)
    if state.line.is_skipping:
        return
    execute = messages.decode_execute(frame.body)
    portal = state.portals.get(execute.portal)
    if portal is None:
        yield from refused(state, _missing_portal(execute.portal))
        return
    setting = portal.prepared.ours
    if setting is not None:
        state.line.say(messages.encode_command_complete("SET"), lambda: _set(state, setting))
        return
    assert portal.judgement is not None
    is_undecided = portal.judgement.worst.outcome == "approve" and portal.decided is None
    if (is_undecided or portal.asked != state.asked_with()) and not (yield from _permitted(state, desk, portal)):
        return
    if not portal.judgement.rulings:
        _forward(state, frame.raw, Passed(state.line, b"I"))
        return
    yield from _executed(state, portal, portal.judgement, execute.portal, frame)


def _set(state: State, setting: dict[str, str | None]) -> None:
    state.reasons = changed(state, setting)


def _executed(state: State, portal: Portal, judgement: Judgement, name: str, frame: Frame) -> Steps:
    """Forwards one Execute with what must go before it: entry, identity message, description of the columns."""
    execution = portal.execution
    if execution is None:
        parameters = entries.parameters(portal.values, portal.formats)
        execution = state.records.began(
            judgement, 0, state.new_id(), state.judge.catalog, parameters, portal.decided, state.transaction_id
        )
        if not (yield from begun(state, [execution])):
            yield from refused(
                state, UNRECORDED, lambda: state.records.refused(judgement, UNRECORDED, parameters, verdict="error")
            )
            return
    if state.needs_stamp(judgement):
        state.stamp(judgement, lambda error: state.line.client(unstamped(error).encoded()))
    if portal.fields is None:
        _forward(
            state, messages.encode_describe("P", name), Swallowed(b"Tn", seen=lambda found: _fielded(portal, found))
        )
    state.describe_copied(execution, judgement.text)
    state.touches_scope(judgement)
    answer = Answer(state, portal, execution)
    portal.execution, execution.answered_at = execution, None
    state.has_executed = True
    _forward(state, frame.raw, answer)
    copies = execution.ruling.part.part.copies
    if execution.cap is None and copies is None:
        return
    state.line.flush()
    yield from copied_in(state, lambda: answer.is_done)
    if execution.over and not state.line.is_skipping:
        # The server went on to the end: what it did must not stay.
        yield from drained(state)
        yield from aborted(state)
        state.is_absorbing = True


def _close(state: State, desk: Desk, frame: Frame) -> Steps:
    closed = messages.decode_close(frame.body)
    yield from behind(state)
    if state.line.is_skipping:
        return
    found = (state.statements if closed.what == "S" else state.portals).get(closed.name)
    if closed.what == "S":
        confirm, forget = _closing(state.statements, closed.name)
    else:
        confirm, forget = _closing(state.portals, closed.name)
        state.cursors.pop(closed.name, None)
    here = found.ours if isinstance(found, Prepared) else found.prepared.ours if found is not None else None
    if here is not None:
        state.line.say(messages.encode_close_complete(), confirm)
        return

    def done(_: Frame | Run) -> None:
        confirm()
        if isinstance(found, Portal) and found.execution is not None:
            state.records.finished(found.execution)

    _forward(state, frame.raw, Passed(state.line, b"3", done=done, undone=forget))


def _closing(names: Names[T], name: str) -> tuple[Callable[[], None], Callable[[], None]]:
    """A name is to be closed: what to do when it was, and when it was not."""
    change = names.change(name, None)
    return lambda: names.confirm(change), lambda: names.forget(change)


def _missing_statement(name: str) -> Refusal:
    which = f'prepared statement "{name}"' if name else "unnamed prepared statement"
    return Refusal("26000", f"{which} does not exist")


def _missing_portal(name: str) -> Refusal:
    return Refusal("34000", f'portal "{name}" does not exist')


_STEPS = {
    FromClient.PARSE: _parse,
    FromClient.BIND: _bind,
    FromClient.DESCRIBE: _describe,
    FromClient.EXECUTE: _execute,
    FromClient.CLOSE: _close,
}
