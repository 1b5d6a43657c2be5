"""Native events: objects of the event model, without what only the store may say."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator
from operator import attrgetter
from typing import Any

import msgspec

from lineage import events
from lineage.events import Event, Origin, Quarantined, Skipped, Statement, Value
from lineage.sources import feed
from lineage.sources.feed import Item, JsonRefused
from lineage.sources.pgoutput import without_nul

OWN_CUSTODY = frozenset({"heartbeat", "canary", "gap"})
PART_OF_KIND = {"session": "session", "decision": "decision", "state": "state", "custody": "custody"}
TIMES_OF_PARTS = {"session": ("started_at", "ended_at"), "approval": ("decided_at", "expires_at")}
Told = tuple[Event, str]
"""An event as it was said, and the hash of its content."""
_WHOLE = frozenset({"text", "value", "message", "source_event_id"})
_LONG = frozenset({"purpose", "detail", "reason"})
_STORE_FIELDS = frozenset(events.STORE_FIELDS)
_store_words = attrgetter(*events.STORE_FIELDS)
_parts = attrgetter(*PART_OF_KIND.values())
_NO_STORE_WORDS, _NO_PARTS = (None,) * len(events.STORE_FIELDS), (None,) * len(PART_OF_KIND)
MISSES_MOST = 8
"""So many items of a body are tried in vain before the others are read the longer way at once."""


def parse(body: bytes, **options: Any) -> Iterator[Event | Quarantined | Skipped]:
    """One output for each object of a feed, array or NDJSON, or of one object. Options: `feed`. Never raises."""
    missed = 0
    for item in feed.object_items(body, bool(options.get("feed"))):
        if isinstance(item, Item):
            told = straight(item.raw) if missed < MISSES_MOST else None
            missed += told is None
            yield event(item, told)
        else:
            yield item


def event(item: Item, told: Told | None = None) -> Event | Quarantined:
    """The one output of one native object; `told` is what `straight` made of it."""
    try:
        return _complete(told[0], item, told[1]) if told else _event(item)
    except (JsonRefused, msgspec.ValidationError) as error:
        # What follows the model is never deep: only what does not is looked at for that, and told so first.
        return _refused(item, error)


def _refused(item: Item, error: JsonRefused | msgspec.ValidationError) -> Quarantined:
    try:
        feed.refuse_deep(item.raw)
    except JsonRefused as refusal:
        error = refusal
    if isinstance(error, JsonRefused):
        return item.quarantined(error.code, error.reason)
    return item.quarantined("event-invalid", f"the item does not follow the event model: {feed.safe(error)}")


def straight(raw: bytes) -> Told | None:
    """The event and the hash of its content, where the item is written as the model writes it, blanks and order apart.

    Then the model's own encoding is the item's with sorted keys. It is where it is as long: whatever else can be written,
    be it a default, a doubled key, or an escape for a plain letter, is longer, and a number in another form is refused.
    """
    try:
        said = events.decode_event(raw)
        encoded = events.encode(said)
        if len(encoded) != len(raw) and len(encoded) != len(msgspec.json.format(raw, indent=-1)):
            return None
        _check_calendar(said)
    except feed.DECODE_ERRORS:
        return None
    if b"\\u0000" in raw or not said.source_event_id:
        return None
    return (said, hashlib.sha256(encoded).hexdigest()) if _store_words(said) == _NO_STORE_WORDS else None


def _check_calendar(said: Event) -> None:
    """As `feed.when`, for times in the model's form. Raises ValueError."""
    if said.occurred_at:
        dt.datetime.fromisoformat(said.occurred_at)
    if said.session or said.approval:
        for part, names in TIMES_OF_PARTS.items():
            for text in (getattr(getattr(said, part), name, None) for name in names):
                if text:
                    dt.datetime.fromisoformat(text)


def _event(item: Item) -> Event:
    members, sha256, flags = feed.json_item(item.raw, may_be_deep=True)
    if not isinstance(members, dict):
        raise JsonRefused("event-invalid", "an event is a JSON object")
    if "doubled_key" in flags:
        raise JsonRefused("doubled-key", "a key comes twice in one object")
    if b"\\u0000" in item.raw:
        feed.refuse_deep(item.raw)
        members = without_nul(members)
        flags = (*flags, "nul_removed")
    if flags:
        members["flags"] = [*_list(members.get("flags")), *flags]
    _refuse_store_words(members)
    _normalise_times(members)
    return _complete(_convert(members, item.raw), item, sha256)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _refuse_store_words(members: dict[str, Any]) -> None:
    if not members.get("source_event_id"):
        raise JsonRefused("event-invalid", "source_event_id is missing: name each event uniquely within the source")
    if not _STORE_FIELDS.isdisjoint(members):
        raise JsonRefused("store-field", "only the store sets " + ", ".join(events.STORE_FIELDS))


def _normalise_times(members: dict[str, Any]) -> None:
    _normalise_time(members, "occurred_at")
    for part, names in TIMES_OF_PARTS.items():
        holder = members.get(part)
        if isinstance(holder, dict):
            for name in names:
                _normalise_time(holder, name, f"{part}.")


def _normalise_time(holder: dict[str, Any], name: str, where: str = "") -> None:
    text = holder.get(name)
    if isinstance(text, str):
        try:
            holder[name] = feed.when(text)[0]
        except ValueError:
            raise JsonRefused("time", f"{where}{name} is not an RFC 3339 time with a zone") from None


def _convert(members: dict[str, Any], raw: bytes) -> Event:
    try:
        return msgspec.convert(members, Event)
    except msgspec.ValidationError as error:
        if "of length <=" not in str(error):
            raise
    feed.refuse_deep(raw)
    members = _cut(members)
    members["flags"] = [*_list(members.get("flags")), "truncated"]
    return msgspec.convert(members, Event)


def _cut(value: Any, name: str = "") -> Any:
    """Names and notes cut to the model's lengths. Size alone keeps no event out; its identity is never cut."""
    if isinstance(value, str):
        return value if name in _WHOLE else value[: 1024 if name in _LONG else feed.NAME_LIMIT]
    if isinstance(value, list):
        return [_cut(part, name) for part in value]
    if isinstance(value, dict):
        return {member: _cut(part, member) for member, part in value.items()}
    return value


def _complete(said: Event, item: Item, sha256: str) -> Event:
    needed = PART_OF_KIND.get(said.kind)
    if needed or _parts(said) != _NO_PARTS:
        for part in PART_OF_KIND.values():
            if (getattr(said, part) is not None) != (part == needed):
                raise JsonRefused("event-invalid", f"an event of kind {said.kind} and its member {part} do not fit")
    if said.decision is not None and said.decision.type in events.STORE_ONLY_DECISIONS:
        raise JsonRefused("store-only", "decisions of this type are written by the store alone")
    if said.custody is not None and said.custody.type not in OWN_CUSTODY:
        raise JsonRefused("store-only", "custody events of this type are written by the store alone")
    changes: dict[str, Any] = {}
    if len(item.raw) > events.VALUE_LIMIT_BYTES:
        changes = {
            name: tuple(_bounded(v) for v in getattr(said, name)) for name in ("key", "old_key", "before", "after")
        }
        changes["parameters"] = tuple(_bounded_parameter(p) for p in said.parameters)
    if said.statement is not None and said.statement.text is not None:
        changes["statement"] = _statement(said.statement)
    position = item.position or (said.origin.position if said.origin else None)
    return msgspec.structs.replace(
        said,
        sequence=item.sequence if item.sequence is not None else said.sequence,
        class_=said.class_ or events.default_class(said),
        occurred_at_quality=said.occurred_at_quality or ("source" if said.occurred_at else "unknown"),
        origin=Origin(sha256=sha256, position=position),
        **changes,
    )


def _bounded(value: Value) -> Value:
    if value.value is None or len(value.value) * 4 <= events.VALUE_LIMIT_BYTES:
        return value
    bounded = events.bounded_value(value.column, value.value, value.type)
    return bounded if bounded.state == "truncated" else value


def _bounded_parameter(parameter: events.Parameter) -> events.Parameter:
    if parameter.value is None:
        return parameter
    bounded = events.bounded_value("", parameter.value)
    return (
        msgspec.structs.replace(parameter, state="truncated", value=bounded.value)
        if bounded.state == "truncated"
        else parameter
    )


def _statement(said: Statement) -> Statement:
    bounded = events.bounded_statement(said.text or "", redaction=said.redaction)
    if bounded.state == "whole" and said.state == "truncated":
        return said
    return msgspec.structs.replace(bounded, fingerprint=said.fingerprint) if said.fingerprint else bounded
