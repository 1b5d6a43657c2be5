"""Decoded logical-replication messages of committed transactions -> change events, claims and canaries."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from lineage import events
from lineage.events import (
    Actor,
    Agent,
    Custody,
    Event,
    Origin,
    Principal,
    Quarantined,
    Resource,
    Skipped,
    Transaction,
)  # fmt: skip
from lineage.sources import feed, images, pgaudit
from lineage.sources.feed import NAME_LIMIT, Item, JsonRefused, short

CLAIM_PREFIX = "touchstone"
CANARY_PREFIX = "touchstone_canary"
PREFIXES = (CLAIM_PREFIX, CANARY_PREFIX)


class Message(msgspec.Struct, gc=False):
    prefix: str
    content_base64: str = ""
    transactional: bool = True


class Change(msgspec.Struct, gc=False):
    """One item of the feed, as docs/collector-protocol.md has it."""

    type: Literal["insert", "update", "delete", "truncate", "message"]
    system_identifier: str
    timeline: int
    commit_lsn: str
    ordinal: int
    xid: int = 0
    database: str | None = None
    commit_at: str | None = None
    relation: images.Relation | None = None
    old_kind: Literal["key", "full"] | None = None
    old: images.Image | None = None
    new: images.Image | None = None
    message: Message | None = None


def parse(body: bytes, **options: Any) -> Iterator[Event | Quarantined | Skipped]:
    """One output for each decoded message of a feed, array or NDJSON. Options: `feed`. Never raises."""
    for item in feed.object_items(body, bool(options.get("feed"))):
        yield event(item) if isinstance(item, Item) else item


def event(item: Item) -> Event | Quarantined | Skipped:
    """The one output of one decoded message."""
    try:
        members, sha256, flags = feed.json_item(item.raw)
        if b"\\u0000" in item.raw:
            members, flags = without_nul(members), (*flags, "nul_removed")
        change = msgspec.convert(members, Change)
        if "doubled_key" in flags:
            raise JsonRefused("doubled-key", "a key comes twice in one object")
        occurred_at, quality = feed.when(change.commit_at)
        if change.type == "message":
            return _message(change, item, _envelope(change, item, sha256, occurred_at, quality), flags)
        return _change(change, _envelope(change, item, sha256, occurred_at, quality), flags)
    except JsonRefused as refusal:
        return item.quarantined(refusal.code, refusal.reason)
    except msgspec.ValidationError as error:
        return item.quarantined("pgoutput", f"the item does not follow the protocol: {feed.safe(error)}")
    except ValueError:
        return item.quarantined("pgoutput", "commit_at is not an RFC 3339 time with a zone")


def without_nul(value: Any) -> Any:
    """JSON with NUL shown as U+2400, which PostgreSQL text can hold. The depth is already bounded."""
    if isinstance(value, str):
        return value.replace("\0", "\u2400")
    if isinstance(value, list):
        return [without_nul(part) for part in value]
    if isinstance(value, dict):
        return {without_nul(name): without_nul(part) for name, part in value.items()}
    return value


def _envelope(
    change: Change, item: Item, sha256: str, occurred_at: str | None, quality: events.Quality
) -> dict[str, Any]:
    identity = f"{change.system_identifier}/{change.timeline}/{change.commit_lsn}/{change.ordinal}"
    if len(identity) > NAME_LIMIT:
        raise JsonRefused("pgoutput", "the item's identity is too long")
    number = str(change.xid) if change.xid > 0 else None
    return {
        "sequence": item.sequence,
        "occurred_at": occurred_at,
        "occurred_at_quality": quality,
        "source_event_id": identity,
        "db_system": "postgresql",
        "database": short(change.database),
        "transaction": Transaction(id=number, position=change.commit_lsn, outcome="committed" if number else "unknown"),
        "origin": Origin(sha256=sha256, position=item.position or change.commit_lsn),
    }


def _change(change: Change, envelope: dict[str, Any], flags: tuple[str, ...]) -> Event:
    relation = change.relation
    if relation is None:
        raise JsonRefused("pgoutput", "a row change needs its relation")
    op: Any = change.type
    old, new = change.old, change.new
    _check(change, relation)
    columns = relation.columns
    if old is not None and change.old_kind == "key":  # PostgreSQL sends null for what it does not know
        old = [
            images.UNAVAILABLE if v is None and c.name not in relation.key else v
            for c, v in zip(columns, old, strict=True)
        ]
    before, cut_before = images.values(relation, old)
    after, cut_after = images.values(relation, new)
    key, old_key = images.keys(relation, before, after)
    changed: tuple[str, ...] = ()
    if old is not None and new is not None and change.old_kind == "full":
        changed = tuple(
            [c.name[:NAME_LIMIT] for c, was, now in zip(columns, old, new, strict=True) if images.differs(was, now)]
        )
    return Event(
        kind="change",
        class_="write",
        op=op,
        command=op.upper(),
        verdict="allowed",
        resources=(
            Resource(schema=short(relation.schema), relation=short(relation.name), kind="table", access="write"),
        ),
        key=key,
        old_key=old_key,
        before=before,
        after=after,
        changed_columns=changed,
        flags=(*flags, "truncated") if cut_before or cut_after else flags,
        **envelope,
    )


_NEEDS: dict[str, tuple[bool, bool]] = {"insert": (False, True), "update": (False, True), "delete": (True, False)}


def _check(change: Change, relation: images.Relation) -> None:
    needs_old, needs_new = _NEEDS.get(change.type, (False, False))
    if (needs_old and change.old is None) or (needs_new and change.new is None):
        raise JsonRefused("pgoutput", "an insert or update needs new, a delete needs old")
    for image in (change.old, change.new):
        if image is not None and len(image) != len(relation.columns):
            raise JsonRefused("pgoutput", "an image has another number of values than the relation has columns")


# Messages


def _message(
    change: Change, item: Item, envelope: dict[str, Any], flags: tuple[str, ...]
) -> Event | Quarantined | Skipped:
    message = change.message
    if message is None:
        raise JsonRefused("pgoutput", "a message item needs its message")
    if message.prefix not in PREFIXES:
        return item.skipped("a logical message of another program")
    try:
        content = base64.b64decode(message.content_base64, validate=True)
    except (binascii.Error, ValueError):
        raise JsonRefused("pgoutput", "content_base64 is not base64") from None
    return told(message.prefix, content, envelope, flags)


def told(prefix: str, content: bytes, envelope: dict[str, Any], flags: tuple[str, ...]) -> Event:
    """The claim or canary that a message of one of `PREFIXES` is."""
    if prefix == CANARY_PREFIX:
        text = events.clean_text(content)[0]
        custody = Custody(type="canary", subject="wal", detail=text[: events.TEXT_LIMIT_BYTES])
        return Event(kind="custody", class_="custody", flags=("canary", *flags), custody=custody, **envelope)
    return _claim(content, envelope, flags)


class Said(msgspec.Struct):
    """What a `touchstone` message claims."""

    actor: str | None = None
    actor_type: str | None = None
    on_behalf_of: str | None = None
    agent: Agent | None = None
    purpose: str | None = None
    ticket: str | None = None
    session_id: str | None = None


_decode_said = msgspec.json.Decoder(Said).decode


def _claim(content: bytes, envelope: dict[str, Any], flags: tuple[str, ...]) -> Event:
    text, cleaned = events.clean_text(content)
    flags = (*flags, *cleaned)
    parts: dict[str, Any] = {}
    try:
        if feed.too_deep(content):
            raise JsonRefused("too-deep", "")
        said = _decode_said(text.replace("\\u0000", "\u2400"))
        if said.actor is None and said.on_behalf_of is None and said.agent is None:
            raise JsonRefused("empty", "")
    except (*feed.DECODE_ERRORS, JsonRefused):
        parts["statement"], bounded = pgaudit.bounded(text)
        flags = ("claim_unreadable", *flags, *bounded)
    else:
        parts = _claimed(said)
    return Event(
        kind="query", class_="procedural", op="other", command="CONTEXT MESSAGE", verdict="allowed",
        flags=("claim", *flags), **parts, **envelope,
    )  # fmt: skip


def _claimed(said: Said) -> dict[str, Any]:
    kind: Any = said.actor_type if said.actor_type in feed.ACTOR_TYPES else None
    actor = Actor(id=short(said.actor), email=_email(said.actor), type=kind) if said.actor else None
    behalf = said.on_behalf_of
    return {
        "actor": actor,
        "on_behalf_of": Principal(id=short(behalf), email=_email(behalf)) if behalf else None,
        "agent": said.agent,
        "purpose": said.purpose[: events.TEXT_LIMIT_BYTES] if said.purpose else None,
        "ticket": short(said.ticket),
        "session_id": short(said.session_id),
    }


def _email(text: str | None) -> str | None:
    return short(feed.email(text)) if text else None
