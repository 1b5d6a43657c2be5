"""The canonical event model: one envelope, six kinds (docs/life-of-an-event.md has the field table).

Every source format becomes `Event` structs here; nothing else enters the ledger. Structs are frozen, absent
fields are None or empty, unknown fields are refused. Times are RFC 3339 UTC strings to the microsecond
("2026-11-21T01:49:32.009748Z"), so that what is hashed is what was received. Pure: no I/O, no Django.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from lineage.events.catalog import State
from lineage.events.terms import (
    ActorType,
    Class,
    Count,
    CustodyType,
    DecisionType,
    Group,
    Kind,
    Name,
    Op,
    Outcome,
    Part,
    Quality,
    Text,
    Time,
    ValueState,
    Verdict,
)


class SourceRef(Part, frozen=True):
    """Who reported: the operator's name for the feed, its format and the reporting system's version."""

    name: Name | None = None
    format: Name | None = None
    version: Name | None = None


class Actor(Part, frozen=True):
    """Who executed. `db_user` is the account that the database saw (OCSF actor.user; ECS user.effective)."""

    id: Name | None = None
    name: Name | None = None
    email: Name | None = None
    type: ActorType | None = None
    db_user: Name | None = None
    roles: tuple[Name, ...] = ()


class Principal(Part, frozen=True):
    """On whose behalf (RFC 8693 `sub`), or one link of the `act` chain."""

    id: Name | None = None
    name: Name | None = None
    email: Name | None = None
    type: ActorType | None = None


class Agent(Part, frozen=True):
    """The AI agent (OpenTelemetry gen_ai.agent.*)."""

    id: Name | None = None
    name: Name | None = None
    version: Name | None = None
    run_id: Name | None = None
    model: Name | None = None
    tool_call_id: Name | None = None


class Client(Part, frozen=True):
    app: Name | None = None
    ip: Name | None = None
    port: Count | None = None
    host: Name | None = None


class Transaction(Part, frozen=True):
    """Database transaction: 32-bit id as text, PostgreSQL virtual id, log position, and how it ended."""

    id: Name | None = None
    vid: Name | None = None
    position: Name | None = None
    outcome: Outcome | None = None


class Policy(Part, frozen=True):
    id: Name | None = None
    version: Name | None = None
    rule: Name | None = None
    effect: Name | None = None


class Approval(Part, frozen=True):
    request_id: Name | None = None
    state: Literal["requested", "approved", "rejected", "expired", "revoked"] | None = None
    approvers: tuple[Name, ...] = ()
    requested_by: Name | None = None
    decided_at: Time | None = None
    reason: Text | None = None
    expires_at: Time | None = None


class Masked(Part, frozen=True):
    columns: tuple[Name, ...] = ()
    types: tuple[NamedCount, ...] = ()


class NamedCount(Part, frozen=True):
    name: Name
    count: Count


class Resource(Part, frozen=True):
    """One object touched, as the source reported it. `access` is read, write, ddl or privilege."""

    database: Name | None = None
    schema: Name | None = None
    relation: Name | None = None
    kind: Name | None = None
    columns: tuple[Name, ...] = ()
    access: Literal["read", "write", "ddl", "privilege"] | None = None


class Rows(Part, frozen=True):
    returned: Count | None = None
    affected: Count | None = None


class ErrorCode(Part, frozen=True):
    code: Name | None = None
    message: str | None = None


class Statement(Part, frozen=True):
    """Statement text (at most 64 KiB; beyond: first KiB, length and hash, state truncated)."""

    text: str | None = None
    sha256: Name | None = None
    length: Count | None = None
    state: Literal["whole", "truncated", "withheld"] | None = None
    redaction: Literal["none", "parameters", "literals", "full", "withheld_by_source"] | None = None
    fingerprint: Name | None = None


class Parameter(Part, frozen=True):
    position: Count
    state: ValueState = "present"
    value: str | None = None


class Origin(Part, frozen=True):
    """SHA-256 (hex) over the item as received, and its place in the source (file:offset, LSN, …)."""

    sha256: Name | None = None
    position: Name | None = None


class Value(Part, frozen=True):
    """One column of a row image. Numbers are text; null is a state; column names are values, never keys."""

    column: Name
    type: Name | None = None
    state: ValueState = "present"
    value: str | None = None


class Effect(Part, frozen=True):
    """What the source itself says a statement did to one relation, with the keys it fixed."""

    verb: Name
    schema: Name | None = None
    relation: Name | None = None
    columns: tuple[Name, ...] = ()
    keys: tuple[tuple[Value, ...], ...] = ()


class Session(Part, frozen=True):
    phase: Literal["start", "end", "failed"]
    auth_method: Name | None = None
    mfa: bool | None = None
    started_at: Time | None = None
    ended_at: Time | None = None
    close_reason: Name | None = None


class HeaderCount(Part, frozen=True):
    """How many leaves name this source and class; absent means that the leaf names none."""

    count: Count
    source_id: Name | None = None
    class_: Class | None = msgspec.field(name="class", default=None)


class Erased(Part, frozen=True):
    """What an erasure took: these groups of the records at these indexes (both ends belong to it)."""

    first: Count
    last: Count
    groups: tuple[Group, ...]


class Decision(Part, frozen=True):
    """A decision about access: request, approval, grant, review … Subject and decider are people or services."""

    type: DecisionType
    subject: Name | None = None
    transition: Name | None = None
    decided_by: Name | None = None
    requested_by: Name | None = None
    ground: Text | None = None
    erased: tuple[Erased, ...] = ()
    counts: tuple[HeaderCount, ...] = ()


class Custody(Part, frozen=True):
    """What happened to the evidence itself. Written by the store, or by a collector about its own feed.

    What lasts (silence, a gap that may close) is told when it begins and when it ends.
    A count commitment: `counts` of all leaves at indexes `first` to `last` (decimal, inclusive), `count` their sum.
    """

    type: CustodyType
    subject: Name | None = None
    detail: Text | None = None
    first: Name | None = None
    last: Name | None = None
    count: Count | None = None
    counts: tuple[HeaderCount, ...] = ()
    transition: Literal["begins", "ends"] | None = None


class Event(Part, frozen=True):
    """One event. The comment on each line is its place: L leaf, A actor, C action, S statement, R change."""

    kind: Kind  # L
    event_id: Name | None = None  # L, store
    received_at: Time | None = None  # L, store
    source_id: Name | None = None  # L, store
    # `class` is a Python keyword; the wire name is `class`.
    class_: Class | None = msgspec.field(name="class", default=None)  # L
    sequence: Count | None = None  # L
    occurred_at: Time | None = None  # L
    occurred_at_quality: Quality | None = None  # C
    source_event_id: Name | None = None  # C
    correlation_id: Name | None = None  # C
    environment: Name | None = None  # C, store
    source: SourceRef | None = None  # C, store
    actor: Actor | None = None  # A
    on_behalf_of: Principal | None = None  # A
    delegation: tuple[Principal, ...] = ()  # A
    agent: Agent | None = None  # A
    client: Client | None = None  # A
    decision: Decision | None = None  # A
    purpose: Text | None = None  # C
    ticket: Name | None = None  # C
    datasource: Name | None = None  # C
    db_system: Name | None = None  # C
    database: Name | None = None  # C
    session_id: Name | None = None  # C
    db_session_id: Name | None = None  # C
    transaction: Transaction | None = None  # C
    verdict: Verdict | None = None  # C
    policy: tuple[Policy, ...] = ()  # C
    approval: Approval | None = None  # C
    masked: Masked | None = None  # C
    op: Op | None = None  # C
    command: Name | None = None  # C
    resources: tuple[Resource, ...] = ()  # C
    rows: Rows | None = None  # C
    bytes_returned: Count | None = None  # C
    duration_us: Count | None = None  # C
    error: ErrorCode | None = None  # code C, message S
    flags: tuple[Name, ...] = ()  # C
    session: Session | None = None  # C
    state: State | None = None  # C
    custody: Custody | None = None  # C
    statement: Statement | None = None  # S
    parameters: tuple[Parameter, ...] = ()  # S
    origin: Origin | None = None  # S
    key: tuple[Value, ...] = ()  # R
    old_key: tuple[Value, ...] = ()  # R
    before: tuple[Value, ...] = ()  # R
    after: tuple[Value, ...] = ()  # R
    changed_columns: tuple[Name, ...] = ()  # R
    effects: tuple[Effect, ...] = ()  # R


class Quarantined(Part, frozen=True):
    """An item that could not become an event: its bytes, its place in the body, and why."""

    position: str
    body: bytes
    code: str
    reason: str
    sequence: int | None = None


class Skipped(Part, frozen=True):
    """A well-formed item that tells of no access (a checkpointer's log line): answered, never stored."""

    position: str
    reason: str
    sequence: int | None = None
