"""What a session wants done, asks and is told: the whole surface between the pure state machine and the I/O around it.

The server takes outputs one by one, in order, each finished before the next is taken. One caller at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from enforcement.gateway import messages

if TYPE_CHECKING:
    from enforcement.gateway.effects import Catalog
    from lineage.exchanged import Parameter
    from lineage.guardrails import Guardrails


class ToClient(msgspec.Struct, frozen=True):
    """Whole messages for the client, in order."""

    data: bytes


class ToServer(msgspec.Struct, frozen=True):
    """Whole messages for the database, in order."""

    data: bytes


class Record(msgspec.Struct, frozen=True):
    """One entry for the recorder. Where a `Began` fails, call `Session.unrecorded(entry's id)` and go on taking outputs."""

    entry: Any


class CancelServer(msgspec.Struct, frozen=True):
    """Ask the database to cancel what this session's connection runs. Finished when that connection was closed."""


class Close(msgspec.Struct, frozen=True):
    """End both connections. What the client should read about it has been sent before, as a FATAL error."""

    sqlstate: str
    sentence: str


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """A statement waits for a person. Answered by `Decided` at once (approved before, or pending), and again when decided.

    An answer `approved` is a use: the same request is never answered so again. `digest` is the SHA-256 (hex) of what would
    be run and for whom. `request_id` is used where the digest is not asked yet. `hold_until` (Unix seconds): until then the
    session waits inside its open transaction; None: it does not wait, the client runs the statement again. `parameters` are
    the values that it would run with.
    """

    request_id: str
    digest: str
    session_id: str
    statement_id: str
    requested_by: str
    on_behalf_of: str | None
    agent: str | None
    datasource: str
    environment: str
    database: str
    account: str
    purpose: str | None
    ticket: str | None
    redacted: str
    statement: str
    parameters: tuple[Parameter, ...] = ()
    effects: tuple[dict[str, Any], ...]
    estimated_rows: int | None
    plan: str | None
    rule: str
    rule_version: int
    sentence: str
    in_transaction: bool
    hold_until: float | None
    row_cap: int | None


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows would it be? EXPLAIN without ANALYZE on a connection of the server's own, in a read-only transaction.

    Answered by `Previewed`, also when it cannot be told. `parameters` are texts, None where NULL or binary.
    """

    request_id: str
    statement: str
    parameters: tuple[str | None, ...]
    account: str
    search_path: tuple[str, ...]
    role: str


class ReloadCatalog(msgspec.Struct, frozen=True):
    """DDL ran in this session: the catalog should be read again. Answered by `CatalogLoaded` with this number when it is there."""

    database: str
    number: int


class Withdraw(msgspec.Struct, frozen=True):
    """Nobody waits for this held statement any more."""

    request_id: str
    digest: str


Question = Hold | Preview | ReloadCatalog | Withdraw


class Ask(msgspec.Struct, frozen=True):
    question: Question


Output = ToClient | ToServer | Record | Ask | CancelServer | Close


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a held statement. `row_cap` is the most rows that were approved."""

    request_id: str
    digest: str
    state: Literal["pending", "approved", "rejected", "expired"]
    by: str | None = None
    reason: str | None = None
    decided_at: str | None = None
    expires_at: str | None = None
    row_cap: int | None = None
    break_glass: bool = False


class Previewed(msgspec.Struct, frozen=True, kw_only=True):
    request_id: str
    plan_rows: int | None = None
    plan_text: str | None = None


class CatalogLoaded(msgspec.Struct, frozen=True):
    """A newer catalog. With `number` it was read after that question was asked."""

    catalog: Catalog
    number: int = 0


class RulesChanged(msgspec.Struct, frozen=True):
    rules: Guardrails


Answer = Decided | Previewed | CatalogLoaded | RulesChanged


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a session works and what holds there.

    `when_unrecorded`: what to do when the spool cannot be written. Without `identity_message` writes carry none: for databases
    that have no change capture.
    """

    environment: str
    datasource: str
    database: str
    account: str
    gateway: str = "gateway"
    when_unrecorded: Literal["refuse", "run"] = "refuse"
    identity_message: bool = True
    hold_seconds: float = 60.0
    answer_seconds: float = 10.0
    inbox_bytes: int = 1024 * 1024
    message_bytes: int = messages.LIMIT_BYTES
    keys_limit: int = 1000


class ClientFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the client when its session begins. `parameters` are those of its startup message."""

    session_id: str
    db_session_id: str | None = None
    app: str | None = None
    ip: str | None = None
    port: int | None = None
    host: str | None = None
    purpose: str | None = None
    ticket: str | None = None
    run_id: str | None = None
    tool_call_id: str | None = None
    parameters: dict[str, str] = {}
