"""Entries -> native events of the source format `gateway` (docs/collector-protocol.md, Native `events`). Pure.

`source_event_id` of a statement is its id; of a session's start, end or failure the session's id with that word behind.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import msgspec

from enforcement.gateway import entries
from enforcement.gateway.entries import Began, Ended, Refused, SessionBegan, SessionEnded, SessionFacts, SessionFailed
from lineage.events import (
    Agent,
    ErrorCode,
    Event,
    Masked,
    NamedCount,
    Rows,
    Session,
    Transaction,
    Verdict,
    bounded_statement,
    format_time,
)

STOPPED = "the gateway stopped without telling the end"
STRENGTH: tuple[Verdict, ...] = ("unknown", "allowed", "masked", "approved", "pending", "error", "blocked")

_LONE = re.compile("[\ud800-\udfff]")
_encode = msgspec.json.encode


def when(seconds: float) -> str:
    """Unix seconds as events write times."""
    return format_time(dt.datetime.fromtimestamp(seconds, dt.UTC))


def asked(began: Began) -> Event:
    """A statement as it stands before it is forwarded: all but its answer."""
    facts = began.session
    return msgspec.structs.replace(
        _of_session(facts),
        kind="query",
        source_event_id=began.id,
        correlation_id=began.correlation_id,
        occurred_at=when(began.at),
        agent=_agent(facts.agent, began),
        purpose=began.purpose or facts.purpose,
        ticket=began.ticket or facts.ticket,
        verdict=began.verdict,
        policy=began.policy,
        approval=began.approval,
        op=began.op,
        command=began.command,
        resources=began.resources,
        effects=began.effects,
        transaction=Transaction(id=began.transaction_id) if began.transaction_id else None,
        flags=began.flags,
        statement=_statement(began),
        parameters=began.parameters,
    )


def answered(event: Event, ended: Ended) -> Event:
    """`event`, as `asked` made it of the same statement, with its answer."""
    return msgspec.structs.replace(
        event,
        verdict=_strongest(event.verdict, ended),
        rows=_rows(ended),
        bytes_returned=ended.bytes_returned,
        duration_us=max(0, round((ended.at - ended.began.at) * 1_000_000)),
        error=ErrorCode(code=ended.error_code, message=ended.error_message) if ended.error_code else None,
        masked=_masked(ended),
        effects=event.effects if ended.effects is None else ended.effects,
        transaction=_transaction(event.transaction, ended),
        flags=_with(event.flags, *ended.flags),
    )


def lost(event: Event, at: float) -> Event:
    """What was in flight when the gateway died: it may have run. A session's end is told as found now, at `at`."""
    if event.session is not None:
        return msgspec.structs.replace(event, occurred_at=when(at), occurred_at_quality="processing_time")
    known = event.transaction.id if event.transaction else None
    transaction = Transaction(id=known, outcome="unknown")
    return msgspec.structs.replace(event, transaction=transaction, flags=_with(event.flags, entries.ANSWER_LOST))


def late(event: Event) -> Event:
    """The same, said to be written down after the fact."""
    return msgspec.structs.replace(event, flags=_with(event.flags, entries.RECORDED_LATE))


def refused(entry: Refused) -> Event:
    """A statement that was not forwarded."""
    error = ErrorCode(code=entry.sqlstate, message=entry.sentence)
    duration = max(0, round((entry.at - entry.began.at) * 1_000_000))
    return msgspec.structs.replace(asked(entry.began), error=error, duration_us=duration)


def session_began(entry: SessionBegan) -> Event:
    facts = entry.session
    return _session(
        facts, "start", facts.started_at, "allowed", Session(phase="start", started_at=when(facts.started_at))
    )


def session_ended(entry: SessionEnded) -> Event:
    told = Session(
        phase="end", started_at=when(entry.session.started_at), ended_at=when(entry.at), close_reason=entry.close_reason
    )
    event = _session(entry.session, "end", entry.at, None, told)
    return msgspec.structs.replace(event, duration_us=max(0, round((entry.at - entry.session.started_at) * 1_000_000)))


def session_stopped(facts: SessionFacts) -> Event:
    """The end of a session that nobody will be there to tell: kept until the end is told, given to `lost` otherwise."""
    told = Session(phase="end", started_at=when(facts.started_at), close_reason=STOPPED)
    return _session(facts, "end", facts.started_at, None, told)


def session_failed(entry: SessionFailed) -> Event:
    told = Session(phase="failed", close_reason=entry.sqlstate)
    event = _session(entry.session, "failed", entry.at, "blocked", told)
    return msgspec.structs.replace(event, error=ErrorCode(code=entry.sqlstate, message=entry.sentence))


def encode(event: Event) -> bytes:
    """JSON. What a database in SQL_ASCII made of its texts and Unicode cannot hold is replaced, with a flag."""
    try:
        return _encode(event)
    except UnicodeEncodeError:
        flagged = msgspec.structs.replace(event, flags=_with(event.flags, "invalid_utf8"))
        return _encode(_clean(msgspec.to_builtins(flagged)))


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return _LONE.sub("\ufffd", value)
    if isinstance(value, list | tuple):
        return [_clean(part) for part in value]
    return {name: _clean(part) for name, part in value.items()} if isinstance(value, dict) else value


def _of_session(facts: SessionFacts) -> Event:
    return Event(
        kind="session",
        actor=facts.actor,
        on_behalf_of=facts.on_behalf_of,
        delegation=facts.delegation,
        agent=facts.agent,
        client=facts.client,
        purpose=facts.purpose,
        ticket=facts.ticket,
        datasource=facts.datasource,
        database=facts.database,
        db_system="postgresql",
        session_id=facts.session_id,
        db_session_id=facts.db_session_id,
    )


def _session(facts: SessionFacts, word: str, at: float, verdict: Verdict | None, told: Session) -> Event:
    return msgspec.structs.replace(
        _of_session(facts),
        source_event_id=f"{facts.session_id}.{word}",
        occurred_at=when(at),
        op="session",
        verdict=verdict,
        session=msgspec.structs.replace(told, auth_method=facts.auth_method, mfa=facts.mfa),
    )


def _statement(began: Began) -> Any:
    text = bounded_statement(began.statement, redaction="none")
    return msgspec.structs.replace(text, fingerprint=began.fingerprint)


def _agent(agent: Agent | None, began: Began) -> Agent | None:
    if not began.run_id and not began.tool_call_id:
        return agent
    known = agent or Agent()
    run, call = began.run_id or known.run_id, began.tool_call_id or known.tool_call_id
    return msgspec.structs.replace(known, run_id=run, tool_call_id=call)


def _strongest(decided: Verdict | None, ended: Ended) -> Verdict:
    """42501 and class 28 are the database's own refusals. A lost answer is no error: the statement may have run as decided."""
    said: list[Verdict] = [decided or "unknown"]
    if ended.error_code and entries.ANSWER_LOST not in ended.flags:
        said.append("blocked" if ended.error_code == "42501" or ended.error_code.startswith("28") else "error")
    if ended.masked:
        said.append("masked")
    return max(said, key=STRENGTH.index)


def _rows(ended: Ended) -> Rows | None:
    if ended.rows_returned is None and ended.rows_affected is None:
        return None
    return Rows(returned=ended.rows_returned, affected=ended.rows_affected)


def _masked(ended: Ended) -> Masked | None:
    if not ended.masked and not ended.masked_columns:
        return None
    counts = tuple(NamedCount(name=name, count=count) for name, count in sorted(ended.masked.items()))
    return Masked(columns=ended.masked_columns, types=counts)


def _transaction(known: Transaction | None, ended: Ended) -> Transaction | None:
    name = ended.transaction_id or (known.id if known else None)
    return Transaction(id=name, outcome=ended.outcome) if name or ended.outcome else None


def _with(flags: tuple[str, ...], *more: str) -> tuple[str, ...]:
    return (*flags, *(flag for flag in more if flag not in flags))
