"""What is read of a leaf and its groups: the members that columns are made of, and nothing else of the bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

import msgspec

from lineage.events import GROUP_FIELDS, GROUPS

T = TypeVar("T")
NOTHING = msgspec.Raw(b"")
Row = tuple[int, bytes, Iterable[bytes | None]]
"""Index, leaf, and the groups that are disclosed of it in any order; None for one that was erased."""


class _Part(msgspec.Struct, frozen=True, gc=False):
    """What is left out reads as its default; members that no column needs are passed over."""


class Head(_Part, frozen=True, gc=False):
    kind: str | None = None
    class_: str | None = msgspec.field(name="class", default=None)
    event_id: str | None = None
    received_at: str | None = None
    source_id: str | None = None
    sequence: int | None = None
    occurred_at: str | None = None


class Actor(_Part, frozen=True, gc=False):
    id: str | None = None
    name: str | None = None
    email: str | None = None
    type: str | None = None
    db_user: str | None = None
    roles: tuple[str, ...] = ()

    @property
    def id_or_email(self) -> str | None:
        return self.id or self.email


class Principal(_Part, frozen=True, gc=False):
    id: str | None = None
    name: str | None = None
    email: str | None = None

    @property
    def known_as(self) -> str | None:
        return self.id or self.email or self.name


class Agent(_Part, frozen=True, gc=False):
    id: str | None = None
    name: str | None = None
    version: str | None = None
    run_id: str | None = None

    @property
    def id_or_name(self) -> str | None:
        return self.id or self.name

    @property
    def name_or_id(self) -> str | None:
        return self.name or self.id


class Client(_Part, frozen=True, gc=False):
    app: str | None = None
    ip: str | None = None
    port: int | None = None
    host: str | None = None


class ActorGroup(_Part, frozen=True, gc=False):
    actor: Actor = Actor()
    on_behalf_of: Principal = Principal()
    delegation: msgspec.Raw = NOTHING
    agent: Agent = Agent()
    client: Client = Client()
    decision: msgspec.Raw = NOTHING


class SourceRef(_Part, frozen=True, gc=False):
    name: str | None = None
    format: str | None = None


class Transaction(_Part, frozen=True, gc=False):
    id: str | None = None
    vid: str | None = None
    position: str | None = None
    outcome: str | None = None


class Resource(_Part, frozen=True, gc=False):
    schema: str | None = None
    relation: str | None = None


class Rows(_Part, frozen=True, gc=False):
    returned: int | None = None
    affected: int | None = None


class Session(_Part, frozen=True, gc=False):
    phase: str | None = None
    auth_method: str | None = None
    close_reason: str | None = None


class ActionGroup(_Part, frozen=True, gc=False):
    occurred_at_quality: str | None = None
    source_event_id: str | None = None
    correlation_id: str | None = None
    environment: str | None = None
    source: SourceRef = SourceRef()
    purpose: str | None = None
    ticket: str | None = None
    datasource: str | None = None
    db_system: str | None = None
    database: str | None = None
    session_id: str | None = None
    db_session_id: str | None = None
    transaction: Transaction = Transaction()
    verdict: str | None = None
    policy: msgspec.Raw = NOTHING
    approval: msgspec.Raw = NOTHING
    masked: msgspec.Raw = NOTHING
    op: str | None = None
    command: str | None = None
    resources: msgspec.Raw = NOTHING
    rows: Rows = Rows()
    bytes_returned: int | None = None
    duration_us: int | None = None
    error_code: str | None = None
    flags: tuple[str, ...] = ()
    session: Session = Session()
    state: msgspec.Raw = NOTHING
    custody: msgspec.Raw = NOTHING


class Statement(_Part, frozen=True, gc=False):
    text: str | None = None
    state: str | None = None
    fingerprint: str | None = None


class StatementGroup(_Part, frozen=True, gc=False):
    statement: Statement = Statement()
    parameters: msgspec.Raw = NOTHING
    error_message: str | None = None


class Value(_Part, frozen=True, gc=False):
    column: str
    state: str = "present"
    value: str | None = None


class Effect(_Part, frozen=True, gc=False):
    verb: str
    schema: str | None = None
    relation: str | None = None
    columns: tuple[str, ...] = ()
    keys: tuple[tuple[Value, ...], ...] = ()


class ChangeGroup(_Part, frozen=True, gc=False):
    key: tuple[Value, ...] = ()
    old_key: tuple[Value, ...] = ()
    before: tuple[Value, ...] = ()
    after: tuple[Value, ...] = ()
    changed_columns: tuple[str, ...] = ()
    effects: tuple[Effect, ...] = ()


# Members that are kept as they are written, and of which columns need a part too.


class Decision(_Part, frozen=True, gc=False):
    type: str | None = None
    subject: str | None = None
    decided_by: str | None = None


class Custody(_Part, frozen=True, gc=False):
    type: str | None = None
    subject: str | None = None
    detail: str | None = None


class Approval(_Part, frozen=True, gc=False):
    request_id: str | None = None
    state: str | None = None


class Policy(_Part, frozen=True, gc=False):
    id: str | None = None
    rule: str | None = None


class Masked(_Part, frozen=True, gc=False):
    columns: tuple[str, ...] = ()


class Parameter(_Part, frozen=True, gc=False):
    value: str | None = None


class Shared(NamedTuple, Generic[T]):
    """What many records have in common: each different one once, in the order of first mention, and which of them each record has."""

    each: list[T]
    at: list[int]


class Read(NamedTuple):
    """Records, column-wise: the parts of the record at a place stand at that place of each list."""

    indexes: list[int]
    heads: list[Head]
    actors: Shared[ActorGroup]
    actions: list[ActionGroup]
    statements: list[StatementGroup]
    changes: list[ChangeGroup]


def read(rows: Iterable[Row]) -> Read:
    """Decodes each leaf and group, equal ones of actors once.

    Raises msgspec.DecodeError where one is not what `lineage.commitment` writes.
    """
    indexes, heads, parts = [], [], []
    for index, leaf, groups in rows:
        held: list[bytes | None] = [None] * len(GROUPS)
        for data in groups:
            if data is not None and data != b"{}":
                # Each field lies in one group, so that the first tells which it is.
                try:
                    held[_GROUP_OF[data[2 : data.index(b'"', 2)]]] = data
                except (ValueError, KeyError) as error:
                    raise msgspec.DecodeError("The bytes are no disclosure group.") from error
        indexes.append(index)
        heads.append(_head(leaf))
        parts.append(held)
    actors, actions, statements, changes = zip(*parts, strict=True) if parts else ((),) * len(GROUPS)
    return Read(
        indexes,
        heads,
        _shared(actors, _actor, _NO_ACTOR),
        [_action(data) if data else _NO_ACTION for data in actions],
        [_statement(data) if data else _NO_STATEMENT for data in statements],
        [_change(data) if data else NO_CHANGE for data in changes],
    )


def _shared(every: Sequence[bytes | None], decode: Callable[[bytes], T], nothing: T) -> Shared[T]:
    places: dict[bytes | None, int] = {}
    at = [places.setdefault(data, len(places)) for data in every]
    return Shared([decode(data) if data else nothing for data in places], at)


_head = msgspec.json.Decoder(Head).decode
_actor = msgspec.json.Decoder(ActorGroup).decode
_action = msgspec.json.Decoder(ActionGroup).decode
_statement = msgspec.json.Decoder(StatementGroup).decode
_change = msgspec.json.Decoder(ChangeGroup).decode
_GROUP_OF = {name.encode(): GROUPS.index(group) for group, names in GROUP_FIELDS.items() for name in names}
_NO_ACTOR, _NO_ACTION, _NO_STATEMENT, NO_CHANGE = ActorGroup(), ActionGroup(), StatementGroup(), ChangeGroup()
