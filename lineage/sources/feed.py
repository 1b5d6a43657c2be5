"""Bodies -> items: the collectors' feed (docs/collector-protocol.md), plain JSON, and what every format shares.

An `Item` is one record as received with its place. Readers yield items, and in their place `Quarantined` for what
cannot be read and finished custody events for what a collector says about its own feed. Nothing here raises.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any, get_args

import msgspec

from lineage import events
from lineage.events import Count, Custody, CustodyType, Event, Name, Origin, Quarantined, Skipped

Output = Event | Quarantined | Skipped

DEPTH_LIMIT = 64
NAME_LIMIT = 512
FEED_CUSTODY = frozenset({"heartbeat", "gap", "canary", "alarm", "silence"})


class Item(msgspec.Struct, gc=False):
    """One record as received. `raw` is its JSON, or the bytes of its log lines without the last newline.

    `truncated`: the collector says that it had to cut the record for its size.
    """

    index: int
    raw: bytes
    sequence: int | None = None
    position: str | None = None
    truncated: bool = False

    def quarantined(self, code: str, reason: str) -> Quarantined:
        return Quarantined(
            position=str(self.index), body=self.raw, code=code, reason=reason[:500], sequence=self.sequence
        )

    def skipped(self, reason: str) -> Skipped:
        return Skipped(position=str(self.index), reason=reason, sequence=self.sequence)

    def origin(self) -> Origin:
        """Origin of an item that was received as bytes (log lines)."""
        return Origin(sha256=hashlib.sha256(self.raw).hexdigest(), position=self.position)


class FeedLine(msgspec.Struct, gc=False):
    sequence: Count | None = None
    position: Name | None = None
    record: msgspec.Raw = msgspec.Raw(b"")
    record_base64: str | None = None
    truncated: dict[str, int] | None = None
    custody: msgspec.Raw = msgspec.Raw(b"")


class FeedCustody(msgspec.Struct):
    type: CustodyType
    subject: str | None = None
    detail: str | None = None
    first: str | int | None = None
    last: str | int | None = None
    count: Count | None = None
    occurred_at: str | None = None


class JsonRefused(Exception):
    """One JSON item cannot be used: code and reason of its quarantine."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(code)
        self.code = code
        self.reason = reason


_decode_line = msgspec.json.Decoder(FeedLine).decode
_decode_custody = msgspec.json.Decoder(FeedCustody).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_one = msgspec.json.Decoder(msgspec.Raw).decode
_decode_any = msgspec.json.Decoder().decode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode
DECODE_ERRORS = (msgspec.DecodeError, UnicodeError, RecursionError, ValueError)


def unreadable(body: bytes) -> Quarantined:
    """The one output of a body of which nothing can be read in its format."""
    return Quarantined(
        position="body", body=body, code="body-unreadable", reason="the body is not JSON in the form of this endpoint"
    )


def text_items(body: bytes) -> Iterator[Item | Event | Quarantined]:
    """Items of a feed whose records are text: `raw` is the text's bytes without one last newline."""
    for item in _feed_items(body):
        if not isinstance(item, Item):
            yield item
            continue
        if item.raw[:1] == b'"':
            try:
                item.raw = _decode_text(item.raw).encode()
            except DECODE_ERRORS:
                yield item.quarantined("not-text", "the record is not a JSON string of valid UTF-8")
                continue
        elif item.raw[:1] in (b"{", b"["):
            yield item.quarantined("not-text", "this format's record is text: the log record as PostgreSQL wrote it")
            continue
        item.raw = item.raw.removesuffix(b"\n")
        yield item


def object_items(body: bytes, feed: bool, lenient: bool = False) -> Iterator[Item | Event | Quarantined]:
    """Items whose `raw` is one JSON object: from a feed, an array, NDJSON or one object.

    `lenient`: the lines come from a log file, so that lines which are not JSON are each quarantined by the format.
    """
    if feed:
        yield from _feed_items(body)
        return
    start = body.lstrip()[:1]
    if start == b"[" and not lenient:
        yield from _array_items(body)
        return
    if start == b"{":
        try:
            yield Item(0, bytes(_decode_one(body)))
            return
        except DECODE_ERRORS:
            pass
    lines = [line for line in body.split(b"\n") if line.strip()]
    if lines and not lenient and not any(_is_json(line) for line in lines):
        yield unreadable(body)
        return
    for index, line in enumerate(lines):
        yield Item(index, line)


def _array_items(body: bytes) -> Iterator[Item | Quarantined]:
    try:
        raws = _decode_array(body)
    except DECODE_ERRORS:
        yield unreadable(body)
        return
    for index, raw in enumerate(raws):
        yield Item(index, bytes(raw))


def _is_json(line: bytes) -> bool:
    try:
        _decode_one(line)
    except DECODE_ERRORS:
        return False
    return True


def _feed_items(body: bytes) -> Iterator[Item | Event | Quarantined]:
    held: list[Quarantined] | None = []
    index = 0
    for line in body.split(b"\n"):
        if not line.strip():
            continue
        output = _feed_item(index, line)
        index += 1
        if held is not None:
            if isinstance(output, Quarantined) and output.code == "not-json":
                held.append(output)
                continue
            yield from held
            held = None
        yield output
    if held:
        yield unreadable(body)


def _feed_item(index: int, line: bytes) -> Item | Event | Quarantined:
    try:
        envelope = _decode_line(line)
    except msgspec.ValidationError as error:
        return Item(index, line).quarantined("feed-line", f"the feed line does not follow the protocol: {safe(error)}")
    except DECODE_ERRORS:
        return Item(index, line).quarantined("not-json", "the feed line is not JSON")
    item = Item(index, bytes(envelope.record), envelope.sequence, envelope.position, envelope.truncated is not None)
    if item.raw:
        return item
    if envelope.record_base64 is not None:
        try:
            item.raw = base64.b64decode(envelope.record_base64, validate=True)
        except (binascii.Error, ValueError):
            item.raw = line
            return item.quarantined("feed-line", "record_base64 is not base64")
        return item
    item.raw = bytes(envelope.custody)
    if item.raw:
        return _custody(item)
    item.raw = line
    return item.quarantined("feed-line", "the feed line has neither record nor custody")


def _custody(item: Item) -> Event | Quarantined:
    try:
        said = _decode_custody(item.raw)
        occurred_at, quality = when(said.occurred_at)
        sha256 = json_item(item.raw)[1]
    except JsonRefused as refusal:
        return item.quarantined(refusal.code, refusal.reason)
    except msgspec.ValidationError as error:
        return item.quarantined("custody", f"the custody statement does not follow the protocol: {safe(error)}")
    except DECODE_ERRORS:
        return item.quarantined("custody", "the custody statement cannot be read")
    if said.type not in FEED_CUSTODY:
        return item.quarantined("custody", "a collector may state " + ", ".join(sorted(FEED_CUSTODY)))
    if item.sequence is None:
        return item.quarantined("custody", "a custody statement needs the sequence of its feed line")
    return Event(
        kind="custody",
        class_="custody",
        sequence=item.sequence,
        occurred_at=occurred_at,
        occurred_at_quality=quality,
        source_event_id=f"feed/{item.sequence}",
        custody=Custody(
            type=said.type,
            subject=short(said.subject),
            detail=None if said.detail is None else said.detail[: events.TEXT_LIMIT_BYTES],
            first=None if said.first is None else str(said.first)[:NAME_LIMIT],
            last=None if said.last is None else str(said.last)[:NAME_LIMIT],
            count=said.count,
        ),
        origin=Origin(sha256=sha256, position=item.position),
    )


def json_item(raw: bytes, *, may_be_deep: bool = False) -> tuple[Any, str, tuple[str, ...]]:
    """The value of one JSON item, the SHA-256 of its re-encoding with sorted keys, and flags.

    Flags: `doubled_key`, `invalid_utf8`; with one of them the hash is over the bytes as received, because the
    re-encoding would hide something. Raises `JsonRefused` for what is not JSON or nested too deep; with `may_be_deep`
    the caller sees to that, since it costs as much as all else.
    """
    if not may_be_deep:
        refuse_deep(raw)
    flags: tuple[str, ...] = ()
    text = raw
    try:
        try:
            value = _decode_any(raw)
        except UnicodeDecodeError:
            cleaned, flags = events.clean_text(raw)
            text = cleaned.encode()
            value = _decode_any(text)
        encoded = _encode_sorted(value)
    except (*DECODE_ERRORS, OverflowError):
        raise JsonRefused("not-json", "the item is not valid JSON in UTF-8") from None
    if len(encoded) != len(text) and len(encoded) != len(msgspec.json.format(text, indent=-1)) and _doubled_key(text):
        flags = (*flags, "doubled_key")
    return value, hashlib.sha256(raw if flags else encoded).hexdigest(), flags


def _doubled_key(raw: bytes) -> bool:
    doubled = False

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal doubled
        members = dict(pairs)
        doubled = doubled or len(members) != len(pairs)
        return members

    try:
        json.loads(raw, object_pairs_hook=look)
    except (ValueError, RecursionError):
        return True
    return doubled


_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")


def refuse_deep(raw: bytes) -> None:
    """Raises `JsonRefused` for JSON that is nested deeper than the limit."""
    if too_deep(raw):
        raise JsonRefused("too-deep", f"nested deeper than {DEPTH_LIMIT} levels")


def too_deep(raw: bytes) -> bool:
    """Whether JSON is nested deeper than the limit; brackets inside strings do not count."""
    if raw.count(b"[") + raw.count(b"{") <= DEPTH_LIMIT:
        return False
    depth = 0
    for match in _BRACKET.finditer(_STRING.sub(b"", raw)):
        depth += 1 if match.group() in b"[{" else -1
        if depth > DEPTH_LIMIT:
            return True
    return False


def when(text: str | None) -> tuple[str | None, events.Quality]:
    """A time in the model's form with its quality, from RFC 3339 text. ValueError when it is not a time."""
    if text is None:
        return None, "unknown"
    if len(text) == 27 and events.CANONICAL_TIME.fullmatch(text):
        dt.datetime.fromisoformat(text)
        return text, "source"
    try:
        return events.format_time(events.parse_time(text)), "source"
    except OverflowError:
        raise ValueError("a time outside the calendar") from None


def short(text: str | None) -> str | None:
    """Text that fits a `Name`; empty is absent."""
    return text[:NAME_LIMIT] if text else None


def email(text: str) -> str | None:
    return text if "@" in text[1:-1] else None


_ENUM = re.compile(r"Invalid enum value .*?( - at `[^`]*`)?$", re.DOTALL)
_FIELD = re.compile(r"unknown field `(.*)`( - at `[^`]*`)?$", re.DOTALL)


def safe(error: msgspec.ValidationError) -> str:
    """What a validation error says, without any value of the item."""
    text = str(error)
    if text.startswith("Invalid enum value"):
        place = _ENUM.match(text)
        return "not one of the allowed words" + (place.group(1) or "" if place else "")
    unknown = _FIELD.search(text)
    if unknown is not None and not re.fullmatch(r"[a-z_]{1,40}", unknown.group(1)):
        return "unknown field" + (unknown.group(2) or "")
    return text if text.startswith(("Expected", "Object")) else "not in the form of the model"


ACTOR_TYPES = frozenset(get_args(events.ActorType))
