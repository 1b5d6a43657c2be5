"""What a session has to tell: the entries that the recorder writes down (docs/gateway.md, the way of a statement).

The parts are those of the event model, so that nothing is said in two ways. Times are Unix seconds. One statement is
either refused (`Refused`), or `Began` before it is forwarded and `Ended` when its answer is known or given up.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from lineage.events import (
    IMAGE_LIMIT_BYTES,
    Actor,
    Agent,
    Approval,
    Client,
    Effect,
    Op,
    Outcome,
    Parameter,
    Policy,
    Principal,
    Resource,
    Verdict,
    bounded_value,
)

ASSUMED = "assumed_resolution"
"""Flag: a name was not in the catalog; what it means was assumed."""
OPAQUE = "opaque"
"""Flag: the statement may do more than its effects say."""
ANSWER_LOST = "answer_lost"
"""Flag: forwarded, and the answer never came; it may have run."""
RECORDED_LATE = "recorded_late"
"""Flag: written down after the fact, because the disk refused before."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every entry."""


class SessionFacts(Entry, frozen=True):
    """Who works where, the same for all entries of one session.

    `actor.db_user` is the account that the database sees. `db_session_id` is the session as PostgreSQL logs it (%c).
    """

    session_id: str
    started_at: float
    datasource: str
    database: str
    actor: Actor
    on_behalf_of: Principal | None = None
    delegation: tuple[Principal, ...] = ()
    agent: Agent | None = None
    client: Client | None = None
    db_session_id: str | None = None
    auth_method: str | None = None
    mfa: bool | None = None
    purpose: str | None = None
    ticket: str | None = None


class SessionBegan(Entry, frozen=True):
    """Signed in here and in the database; nothing has been forwarded yet."""

    session: SessionFacts


class SessionEnded(Entry, frozen=True):
    """`close_reason` in words: `terminate`, `client gone`, `killed by carol@shop.example: …`."""

    session: SessionFacts
    at: float
    close_reason: str


class SessionFailed(Entry, frozen=True):
    """Somebody did not get in. `session.actor` is what is known of them, perhaps nothing; no token is ever part of it."""

    session: SessionFacts
    at: float
    sqlstate: str
    sentence: str


class Began(Entry, frozen=True):
    """One statement that is about to be forwarded, or (inside `Refused`) was not: what was asked and decided.

    `id` is unique for ever. `correlation_id` is `<id of the whole text>.<part>`. `effects` may carry keys that are known
    beforehand. `run_id` and `tool_call_id` are those of this statement's comment.
    """

    session: SessionFacts
    id: str
    at: float
    statement: str
    verdict: Verdict
    op: Op
    command: str
    correlation_id: str | None = None
    parameters: tuple[Parameter, ...] = ()
    fingerprint: str | None = None
    purpose: str | None = None
    ticket: str | None = None
    run_id: str | None = None
    tool_call_id: str | None = None
    policy: tuple[Policy, ...] = ()
    approval: Approval | None = None
    resources: tuple[Resource, ...] = ()
    effects: tuple[Effect, ...] = ()
    transaction_id: str | None = None
    flags: tuple[str, ...] = ()


class Ended(Entry, frozen=True):
    """How a forwarded statement went. `None` is unknown; `effects` replace those of `began` when given.

    `masked` counts masked values by type. `transaction_id` is the low 32 bits of the transaction's id, in decimal.
    `error_message` is what the client saw.
    """

    began: Began
    at: float
    rows_returned: int | None = None
    rows_affected: int | None = None
    bytes_returned: int | None = None
    error_code: str | None = None
    error_message: str | None = None
    masked: dict[str, int] = {}
    masked_columns: tuple[str, ...] = ()
    effects: tuple[Effect, ...] | None = None
    transaction_id: str | None = None
    outcome: Outcome | None = None
    flags: tuple[str, ...] = ()


class Refused(Entry, frozen=True):
    """A statement that was not forwarded: `began.verdict` is blocked, pending or error, `sentence` what the client saw."""

    began: Began
    at: float
    sqlstate: str
    sentence: str


Told = SessionBegan | SessionEnded | SessionFailed | Began | Ended | Refused


def parameters(values: Sequence[bytes | None], formats: Sequence[int]) -> tuple[Parameter, ...]:
    """Bind values as an event holds them: text as it is, binary in hexadecimal behind `\\x`, long ones cut.

    `formats` is as in a Bind message: none, one for all, or one for each. Beyond 256 KiB in all only the places stand.
    """
    found: list[Parameter] = []
    room = IMAGE_LIMIT_BYTES
    for number, raw in enumerate(values, 1):
        if raw is None:
            found.append(Parameter(position=number, state="null"))
            continue
        room -= len(raw)
        if room < 0:
            found.append(Parameter(position=number, state="truncated"))
            continue
        format = formats[number - 1] if len(formats) > 1 else formats[0] if formats else 0
        bounded = bounded_value("", "\\x" + raw.hex() if format else raw.decode("utf-8", "replace"))
        found.append(Parameter(position=number, state=bounded.state, value=bounded.value))
    return tuple(found)
