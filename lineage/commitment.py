"""From an event to what the log commits to: disclosure groups, salts, leaf bytes (docs/life-of-an-event.md).

The leaf is canonical JSON without personal data. Each disclosure group is canonical JSON of its own; the leaf holds
its digest, SHA-256(16-byte salt ‖ bytes), in hex. Whoever checks hashes the bytes as received and never writes them
again. Canonical JSON is RFC 8785 narrowed: ASCII keys, strings, booleans, integers within ±(2^53 − 1), arrays,
objects; no floats, no null, no duplicate keys, no lone surrogates, at most 64 levels. Pure.
"""

from __future__ import annotations

import bisect
import hashlib
import json
import secrets
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Annotated, Any, Literal, NoReturn

import msgspec
import orjson

from lineage.errors import OutsideProfile
from lineage.events import GROUP_FIELDS, GROUPS, Class, Count, Event, Group, Kind, Name, Time, encode

SALT_BYTES = 16
MAX_INTEGER = 2**53 - 1
MAX_DEPTH = 64
NOTHING = b"{}"
_UNWRITABLE = (UnicodeEncodeError, OverflowError, TypeError)
_OUTSIDE = "A value of the event cannot be written as canonical JSON."

Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Leaf(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True, gc=False):
    """What one leaf says: the format version, the leaf fields that are known, and the groups' digests in hex."""

    v: Literal[1]
    groups: dict[Group, Digest]
    kind: Kind
    class_: Class | None = msgspec.field(name="class", default=None)
    event_id: Name | None = None
    received_at: Time | None = None
    source_id: Name | None = None
    sequence: Count | None = None
    occurred_at: Time | None = None


def canonical(value: Any) -> bytes:
    """The canonical JSON bytes of plain dicts, lists, tuples, strings, booleans and integers.

    OutsideProfile: anything else in it, an integer beyond ±(2^53 − 1), a key that is not ASCII text, a lone
    surrogate, or more than 64 levels.
    """
    _check(value, MAX_DEPTH)
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except (TypeError, ValueError) as error:
        raise OutsideProfile("A string holds half of a surrogate pair; it is not valid Unicode.") from error


def parse_canonical(data: bytes) -> Any:
    """The value of canonical JSON bytes.

    OutsideProfile: duplicate keys, or bytes that `canonical` would not have written for the same value.
    """
    try:
        value = _decode(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise OutsideProfile("The bytes are not JSON in the canonical profile.") from error
    if canonical(value) != data:
        raise OutsideProfile("The bytes are JSON, but not in canonical form.")
    return value


def digest(salt: bytes, data: bytes) -> str:
    """The digest that a leaf holds for a group: hex SHA-256 over the salt and the group's exact bytes."""
    return hashlib.sha256(salt + data).hexdigest()


def new_salts() -> dict[Group, bytes]:
    """Fresh random salts, one for each group of one event. Never use one twice."""
    pool = secrets.token_bytes(SALT_BYTES * len(GROUPS))
    return {group: pool[at * SALT_BYTES : (at + 1) * SALT_BYTES] for at, group in enumerate(GROUPS)}


def commit(event: Event, salts: Mapping[Group, bytes]) -> tuple[bytes, dict[Group, bytes]]:
    """(leaf bytes, group -> disclosure bytes); only groups with at least one field appear.

    `salts` holds 16 bytes for each of those groups (`new_salts`). The event's types keep its values inside the
    profile, so they are not walked again. OutsideProfile: text with lone surrogates. ValueError: a salt is missing
    or has another length.
    """
    disclosures: dict[Group, bytes] = {}
    digests: dict[Group, str] = {}
    for group, data in written(event):
        if data != NOTHING:
            salt = salts.get(group, b"")
            if len(salt) != SALT_BYTES:
                raise ValueError(f"the salt of group {group} must be {SALT_BYTES} bytes")
            disclosures[group] = data
            digests[group] = digest(salt, data)
    return leaf(event, digests), disclosures


def written(event: Event) -> list[tuple[Group, bytes]]:
    """The bytes of each group in the order of `GROUPS`; `NOTHING` of one without a field. Raises OutsideProfile."""
    try:
        return [(group, write(event)) for group, write in _WRITERS]
    except _UNWRITABLE as error:
        raise OutsideProfile(_OUTSIDE) from error


def leaf(event: Event, digests: dict[Group, str]) -> bytes:
    """The leaf of an event whose groups have these digests. Raises OutsideProfile."""
    try:
        return _encode(
            Leaf(
                v=1, groups=digests, kind=event.kind, class_=event.class_, event_id=event.event_id,
                received_at=event.received_at, source_id=event.source_id, sequence=event.sequence,
                occurred_at=event.occurred_at,
            )
        )  # fmt: skip
    except _UNWRITABLE as error:
        raise OutsideProfile(_OUTSIDE) from error


def over(leaf: bytes, digests: dict[Group, str]) -> bytes:
    """The same leaf over groups with these digests. Raises OutsideProfile."""
    return _encode(msgspec.structs.replace(parse_leaf(leaf), groups=digests))


def parse_leaf(data: bytes) -> Leaf:
    """The members of leaf bytes; strict. OutsideProfile: not canonical, an unknown member, or a wrong type."""
    try:
        leaf = _decode_leaf(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise OutsideProfile(f"The leaf does not follow its format: {error}") from error
    if _encode(leaf) != data:
        raise OutsideProfile("The leaf's bytes are JSON, but not in canonical form.")
    return leaf


def parse_disclosure(group: Group, data: bytes) -> dict[str, Any]:
    """The fields that a group's exact bytes disclose. OutsideProfile: not canonical, or a field of another group."""
    fields = parse_canonical(data)
    if not isinstance(fields, dict) or not fields or not _FIELDS[group].issuperset(fields):
        raise OutsideProfile(f"The disclosed group {group} holds other fields than its own.")
    return fields


def open_disclosures(groups: Mapping[Group, bytes]) -> dict[str, Any]:
    """The fields of several groups as one flat dict, by wire name (`error` as `error_code`, `error_message`).

    For bytes from our own store: it parses and merges, and checks nothing.
    """
    fields: dict[str, Any] = {}
    for data in groups.values():
        fields.update(orjson.loads(data))
    return fields


_encode = msgspec.json.Encoder(order="sorted").encode
_decode_leaf = msgspec.json.Decoder(Leaf).decode
_FIELDS: dict[Group, frozenset[str]] = {group: frozenset(GROUP_FIELDS[group]) for group in GROUPS}
_ERROR_PART: dict[str, str] = {"error_code": "code", "error_message": "message"}


def _writer(group: Group) -> Callable[[Event], bytes]:
    """A function that writes one group: through a struct of its members in their order, the fastest way."""
    defaults = {field.encode_name: field.default for field in msgspec.structs.fields(Event)}
    error = next((name for name in GROUP_FIELDS[group] if name in _ERROR_PART), None)
    names = sorted(name for name in GROUP_FIELDS[group] if name != error)
    fields = [(name, object, defaults[name]) for name in names]
    struct = msgspec.defstruct(f"{group}_group", fields, omit_defaults=True, gc=False)
    read = attrgetter(*names)
    if error is None:
        return lambda event: encode(struct(*read(event)))
    part = attrgetter(_ERROR_PART[error])
    at = bisect.bisect(names, error)
    whole = msgspec.defstruct(
        f"{group}_group", [*fields[:at], (error, object, None), *fields[at:]], omit_defaults=True, gc=False
    )

    def write(event: Event) -> bytes:
        if event.error is None:
            return encode(struct(*read(event)))
        said = read(event)
        return encode(whole(*said[:at], part(event.error), *said[at:]))

    return write


_WRITERS: tuple[tuple[Group, Callable[[Event], bytes]], ...] = tuple((group, _writer(group)) for group in GROUPS)


def _check(value: Any, depth: int) -> None:
    kind = type(value)
    if kind is str or kind is bool:
        return
    if kind is int:
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise OutsideProfile("An integer is beyond 2^53; write it as a string.")
        return
    for item in _items(value):
        if depth == 0:
            raise OutsideProfile(f"The value is nested deeper than {MAX_DEPTH} levels.")
        _check(item, depth - 1)


def _items(value: Any) -> Iterable[Any]:
    if type(value) is dict:
        if not all(type(key) is str and key.isascii() for key in value):
            raise OutsideProfile("A key is not ASCII text.")
        return value.values()
    if type(value) is list or type(value) is tuple:
        return value
    raise OutsideProfile


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise OutsideProfile("An object holds the same key twice.")
    return value


def _refuse(_: str) -> NoReturn:
    raise OutsideProfile("A number is not a whole number.")


_decode = json.JSONDecoder(object_pairs_hook=_object, parse_float=_refuse, parse_constant=_refuse).decode
