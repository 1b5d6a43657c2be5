"""What a gateway says at each exchange (docs/held.md): shapes and bounds. Pure."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

import msgspec

from lineage.events import Count

Word = Annotated[str, msgspec.Meta(max_length=200)]
Id = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9._:-]{1,100}$")]
GatewayName = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
Account = Annotated[str, msgspec.Meta(max_length=63)]
Sentence = Annotated[str, msgspec.Meta(max_length=2_000)]
Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Moment = Annotated[dt.datetime, msgspec.Meta(tz=True)]
STATEMENT_MOST = 256 * 1024
"""Characters of a statement that a person is shown. A longer one cannot be judged: the gateway refuses it itself."""


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every part of a message."""


class Person(Part, frozen=True):
    id: Word | None = None
    name: Word | None = None
    email: Word | None = None
    type: Word | None = None
    roles: Annotated[tuple[Word, ...], msgspec.Meta(max_length=50)] = ()


class Agent(Part, frozen=True):
    id: Word | None = None
    name: Word | None = None
    version: Word | None = None
    run_id: Word | None = None
    model: Word | None = None
    tool_call_id: Word | None = None


class Column(Part, frozen=True):
    name: Account
    type: Word = ""
    classes: Annotated[tuple[Word, ...], msgspec.Meta(max_length=20)] = ()


class Relation(Part, frozen=True):
    schema: Account
    name: Account
    columns: Annotated[tuple[Column, ...], msgspec.Meta(max_length=1_700)] = ()


class Catalog(Part, frozen=True):
    relations: Annotated[tuple[Relation, ...], msgspec.Meta(max_length=50_000)] = ()


class Database(Part, frozen=True):
    """A database that the gateway stands before. `other_accounts` rightly go around it: collector, canary."""

    name: Word
    datasource: Word
    environment: Annotated[str, msgspec.Meta(max_length=100)]
    required: bool = False
    host: Annotated[str, msgspec.Meta(max_length=255)] = ""
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None = None
    other_accounts: Annotated[tuple[Account, ...], msgspec.Meta(max_length=100)] = ()
    catalog: Catalog | None = None


class Live(Part, frozen=True):
    """A live session. `delegation` is the `act` chain between actor and person."""

    session_id: Id
    actor: Person
    datasource: Word
    started_at: Moment
    environment: Word = ""
    on_behalf_of: Person | None = None
    delegation: Annotated[tuple[Person, ...], msgspec.Meta(max_length=20)] = ()
    agent: Agent | None = None
    database: Word = ""
    account: Account = ""
    client_ip: Annotated[str, msgspec.Meta(max_length=64)] = ""
    app: Word = ""
    purpose: Sentence = ""
    statements: Count = 0
    last_command: Annotated[str, msgspec.Meta(max_length=100)] = ""
    state: Annotated[str, msgspec.Meta(max_length=40)] = ""


class Parameter(Part, frozen=True):
    """A value that a statement runs with: its text, in hexadecimal behind `\\x` where it is `binary`; None is NULL."""

    position: Count
    value: Annotated[str, msgspec.Meta(max_length=STATEMENT_MOST)] | None = None
    binary: bool = False


class Hold(Part, frozen=True):
    """A statement that waits for a person. People may be told by name alone; the session tells the rest."""

    request_id: Id
    digest: Digest
    session_id: Id
    requested_by: Person | Word
    datasource: Word
    environment: Word
    database: Word
    account: Account
    rule: Word
    rule_version: Count
    sentence: Sentence
    statement: Annotated[str, msgspec.Meta(max_length=STATEMENT_MOST)]
    on_behalf_of: Person | Word | None = None
    delegation: Annotated[tuple[Person, ...], msgspec.Meta(max_length=20)] = ()
    agent: Agent | Word | None = None
    purpose: Sentence | None = None
    ticket: Word | None = None
    redacted: Annotated[str, msgspec.Meta(max_length=STATEMENT_MOST)] = ""
    parameters: Annotated[tuple[Parameter, ...], msgspec.Meta(max_length=65_535)] = ()
    effects: Annotated[tuple[dict[str, Any], ...], msgspec.Meta(max_length=200)] = ()
    estimated_rows: Count | None = None
    plan: Annotated[str, msgspec.Meta(max_length=64 * 1024)] | None = None
    in_transaction: bool = False
    hold_until: Moment | None = None
    row_cap: Count | None = None


class Done(Part, frozen=True):
    """What became of a request at the gateway; an approval is used once, `at`."""

    request_id: Id
    digest: Digest
    state: Literal["used", "expired", "withdrawn"]
    at: Moment


class Rules(Part, frozen=True):
    version: Count = 0
    digest: Annotated[str, msgspec.Meta(max_length=64)] = ""


class Message(Part, frozen=True):
    """One exchange. `held` are new requests whole, `asked` those that the store has taken and the gateway still asks about.

    `tags` and `keys` name the state that the gateway has, as it was last told.
    """

    gateway: GatewayName
    version: Annotated[str, msgspec.Meta(max_length=40)] = ""
    databases: Annotated[tuple[Database, ...], msgspec.Meta(max_length=200)] = ()
    sessions: Annotated[tuple[Live, ...], msgspec.Meta(max_length=5_000)] = ()
    held: Annotated[tuple[Hold, ...], msgspec.Meta(max_length=500)] = ()
    asked: Annotated[tuple[Id, ...], msgspec.Meta(max_length=1_000)] = ()
    done: Annotated[tuple[Done, ...], msgspec.Meta(max_length=1_000)] = ()
    rules: Rules = Rules()
    tags: Word = ""
    keys: Word = ""
