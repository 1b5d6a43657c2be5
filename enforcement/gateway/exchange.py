"""What goes over the line to the store and back at each exchange: shapes, bounds, and one connection (docs/held.md)."""

from __future__ import annotations

import datetime as dt
import http.client
from collections.abc import Iterable, Iterator
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from enforcement.gateway.session.outputs import Decided, Hold
from enforcement.shipper import Store, compressed, connect, say
from lineage import exchanged

TIMEOUT_SECONDS = 20.0
ANSWER_MOST = 32 * 1024 * 1024
HELD_CHARACTERS = 1024 * 1024
CATALOG_BYTES = 4 * 1024 * 1024
NAME_MOST, SENTENCE_MOST, PLAN_MOST, EFFECTS_MOST = 200, 2_000, 64 * 1024, 200


class Answered(msgspec.Struct, frozen=True):
    """A decision for the session that waits for it. Approved: it is used by this."""

    session_id: str
    statement_id: str
    decided: Decided


class Kill(msgspec.Struct, frozen=True):
    """End this session. Comes again until it is gone from what `see` tells."""

    session_id: str
    by: str
    reason: str


class Rules(msgspec.Struct, frozen=True):
    """Guardrails as TOML. Those that cannot be loaded are not taken: the ones before stay in force."""

    version: int
    text: str
    digest: str = ""


class Tag(msgspec.Struct, frozen=True):
    datasource: str
    relation: str
    column: str
    classes: tuple[str, ...]


class Tags(msgspec.Struct, frozen=True):
    tags: tuple[Tag, ...]


class Keys(msgspec.Struct, frozen=True):
    """The store's key set, whole."""

    keys: dict[str, Any]


Notice = Answered | Kill | Rules | Tags | Keys


class Decision(msgspec.Struct, frozen=True):
    request_id: str
    digest: str
    state: str
    by: str | None = None
    reason: str | None = None
    decided_at: str | None = None
    expires_at: dt.datetime | None = None
    row_cap: int | None = None
    break_glass: bool = False

    def is_good(self) -> bool:
        """Whether a use may still begin."""
        return self.state == "approved" and self.expires_at is not None and self.expires_at > dt.datetime.now(dt.UTC)

    def told(self, used: bool = False) -> Decided:
        """As a session is told: approved only where this is the use of it."""
        state: Literal["approved", "rejected", "expired"] = "rejected" if self.state == "rejected" else "expired"
        return Decided(
            request_id=self.request_id, digest=self.digest, state="approved" if used else state, by=self.by, reason=self.reason,
            decided_at=self.decided_at, expires_at=self.expires_at.isoformat() if self.expires_at else None,
            row_cap=self.row_cap, break_glass=self.break_glass,
        )  # fmt: skip


class Refused(msgspec.Struct, frozen=True):
    request_id: str
    code: str = ""


class Told(msgspec.Struct, frozen=True):
    """The store's answer."""

    decisions: tuple[Decision, ...]
    kills: tuple[Kill, ...]
    refused: tuple[Refused, ...] = ()
    rules: Rules | None = None
    tags: tuple[Tag, ...] | None = None
    tags_state: str = ""
    keys: dict[str, Any] | None = None
    keys_state: str = ""


class Known(msgspec.Struct):
    """What the folder keeps of the store."""

    rules: Rules | None = None
    tags: tuple[Tag, ...] = ()
    tags_state: str = ""
    keys: dict[str, Any] | None = None
    keys_state: str = ""


class Line:
    """A connection to the store. What fails is said once, in one line."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._connection: http.client.HTTPConnection | None = None
        self._last_said = ""

    def post(self, message: exchanged.Message) -> Told | None:
        """The store's answer; None where there is none, or not one of an exchange."""
        body, encoding = compressed(msgspec.json.encode(message), self._store.encoding)
        try:
            status, content = self._ask(body, encoding)
        except (OSError, http.client.HTTPException) as error:
            self._complain(f"does not answer ({type(error).__name__})")
            return None
        if status != 200:
            self._complain(f"answered {status}: {_sentence(content)}")
            return None
        try:
            told = msgspec.json.decode(content, type=Told)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            self._complain(f"gave an answer that is not an exchange ({error}): is the URL right?")
            return None
        if self._last_said:
            say("desk: the store answers again.")
            self._last_said = ""
        return told

    def _ask(self, body: bytes, encoding: str) -> tuple[int, bytes]:
        """Status and body. A connection that rested and was closed is opened again: no sign that the store is away."""
        headers = {
            "Authorization": f"Bearer {self._store.token}", "Content-Type": "application/json", "Content-Encoding": encoding,
        }  # fmt: skip
        was_open = self._connection is not None
        try:
            return self._exchange(body, headers)
        except (OSError, http.client.HTTPException):
            if not was_open:
                raise
            return self._exchange(body, headers)

    def _exchange(self, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        try:
            if self._connection is None:
                self._connection = connect(self._store, TIMEOUT_SECONDS)
            prefix = urlsplit(self._store.url).path.rstrip("/")
            self._connection.request("POST", prefix + "/api/v1/gateway/exchange", body, headers)
            response = self._connection.getresponse()
            content = response.read(ANSWER_MOST + 1)
            if response.will_close or len(content) > ANSWER_MOST:
                self._connection.close()
                self._connection = None
            return response.status, content
        except BaseException:
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            raise

    def _complain(self, why: str) -> None:
        text = f"desk: {self._store.url} {why}. Held statements wait; the last known rules hold; trying on."
        if text != self._last_said:
            say(text)
            self._last_said = text


def wire(held: Hold, session: exchanged.Live) -> exchanged.Hold:
    """A question as the store takes it: within its bounds, and nothing that JSON or PostgreSQL cannot hold."""
    effects = tuple(held.effects[:EFFECTS_MOST])
    if len(held.effects) > EFFECTS_MOST:
        effects = (*effects[:-1], {"verb": "opaque", "reason": f"{len(held.effects) - EFFECTS_MOST + 1} more effects"})
    return exchanged.Hold(
        request_id=held.request_id, digest=held.digest, session_id=held.session_id, datasource=held.datasource,
        environment=held.environment, database=held.database, account=held.account, requested_by=session.actor,
        on_behalf_of=session.on_behalf_of, delegation=session.delegation, agent=session.agent,
        purpose=_text(held.purpose, SENTENCE_MOST) or None, ticket=_text(held.ticket, NAME_MOST) or None,
        redacted=_text(held.redacted), statement=_text(held.statement),
        parameters=tuple(_parameter(one) for one in held.parameters), effects=effects, estimated_rows=held.estimated_rows,
        plan=_text(held.plan, PLAN_MOST) or None, rule=_text(held.rule, NAME_MOST), rule_version=held.rule_version,
        sentence=_text(held.sentence, SENTENCE_MOST), in_transaction=held.in_transaction, row_cap=held.row_cap,
        hold_until=dt.datetime.fromtimestamp(held.hold_until, dt.UTC) if held.hold_until is not None else None,
    )  # fmt: skip


def _parameter(told: exchanged.Parameter) -> exchanged.Parameter:
    return told if told.value is None else msgspec.structs.replace(told, value=_text(told.value))


def fitting(holds: Iterable[exchanged.Hold]) -> Iterator[exchanged.Hold]:
    """As many as one message should carry, at least one; the others go with the next."""
    total = 0
    for hold in holds:
        values = sum(len(one.value or "") for one in hold.parameters)
        size = len(hold.statement) + len(hold.redacted) + len(hold.plan or "") + values
        if total and total + size > HELD_CHARACTERS:
            return
        total += size
        yield hold


def slim(catalog: exchanged.Catalog | None) -> exchanged.Catalog | None:
    """A catalog that fits into a message: whole, else only what is classed, else nothing of it."""
    if catalog is None or len(msgspec.json.encode(catalog)) <= CATALOG_BYTES:
        return catalog
    relations = [
        msgspec.structs.replace(one, columns=tuple(c for c in one.columns if c.classes)) for one in catalog.relations
    ]
    less = exchanged.Catalog(relations=tuple(one for one in relations if one.columns))
    return less if len(msgspec.json.encode(less)) <= CATALOG_BYTES else exchanged.Catalog()


def _text(text: str | None, most: int | None = None) -> str:
    return (text or "").encode("utf-8", "replace").decode().replace("\0", "�")[:most]


def _sentence(content: bytes) -> str:
    try:
        told = msgspec.json.decode(content)
        return str(told["message"])[:500]
    except (msgspec.DecodeError, KeyError, TypeError, UnicodeError):
        return "no sentence that this gateway understands"
