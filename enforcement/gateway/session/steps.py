"""The steps that every way through a session shares. Each yields what it waits for (`state.Steps`)."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import msgspec

from enforcement.gateway import messages
from enforcement.gateway.messages import FromClient, ProtocolViolation
from enforcement.gateway.session.judging import Judgement, Refusal
from enforcement.gateway.session.pipeline import Own, Swallowed
from enforcement.gateway.session.results import Execution
from enforcement.gateway.session.settings_tracking import ASK, Told, scope
from enforcement.gateway.session.state import State, Steps, Wait

FAIL = "DO $$ BEGIN RAISE EXCEPTION 'refused by the gateway' USING ERRCODE = '42501'; END $$"


_NAMELESS = frozenset({"SET", "RESET", "SHOW"})


def drained(state: State) -> Steps:
    """Until the server owes nothing."""
    state.line.flush()
    yield lambda: state.line.is_drained


def behind(state: State) -> Steps:
    """Until what was sent before cannot change any more what the next message means."""
    if state.barrier:
        yield from drained(state)
        state.barrier = False


def settled(state: State, judgement: Judgement) -> Generator[Wait, None, Refusal | None]:
    """Until what names mean is known, where `judgement` depends on it: the server is asked where there is doubt.

    Not before SET, SHOW and BEGIN: asking takes a snapshot, after which a transaction's isolation cannot be chosen any more.
    A Refusal where it did not answer: a cancel that came late, or `statement_timeout`, met the question.
    """
    yield from behind(state)
    if all(one.part.part.is_transaction_control or one.part.part.tag in _NAMELESS for one in judgement.rulings):
        return None
    if not state.doubt or state.is_failed or state.line.is_skipping:
        return None
    yield from drained(state)
    return None if state.line.is_skipping else (yield from _asked(state))


def _asked(state: State) -> Generator[Wait, None, Refusal | None]:
    """Asks the server what names mean now."""
    own = state.inject(ASK)
    if state.is_batch_open:
        state.line.flush()
    else:
        state.line.sync(is_own=True)
    yield lambda: state.line.is_drained
    if own.error:
        state.batch_failed = state.batch_failed or state.is_batch_open
        why = own.error.get("M", "")
        return Refusal(own.error.get("C", "57014"), f"It was not run: what its names mean could not be asked ({why}).")
    if not own.rows or own.rows[0][0] is None:
        raise ProtocolViolation("The database does not tell this session's search path and role.")
    told = msgspec.json.decode(own.rows[0][0], type=Told)
    if told.strings != "on":
        raise ProtocolViolation("standard_conforming_strings was switched off; texts cannot be judged any more.")
    state.scope, state.doubt = scope(told), False
    return None


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


STALE = Refusal(
    "0A000",
    "A table of a name in this prepared statement was made or dropped since; which one it means cannot be told.",
    "Prepare the statement again.",
)
UNRECORDED = Refusal(
    "58030",
    "The statement cannot be written down, so it does not run.",
    "Tell the operator that the gateway's spool refuses to be written; try again when that is mended.",
)


def begun(state: State, executions: Sequence[Execution]) -> Generator[Wait, None, bool]:
    """Until the entries of these statements were written down. False: not all could be, and the place says refuse."""
    yield lambda: state.line.is_empty
    lost = {one.began.id for one in executions} & state.unrecorded
    if lost and state.place.when_unrecorded == "refuse":
        for one in executions:
            state.records.unbegun(one, UNRECORDED, is_written=one.began.id not in lost)
        return False
    return True


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
