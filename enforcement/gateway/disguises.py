"""What stands in the place of a masked value: text of the same kind, JSON that stays valid, NULL for everything else."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection

from enforcement.gateway import classes, detectors

HIDDEN = "••••".encode()
"""What a text is that is masked whole."""
Mask = Callable[[bytes], bytes | None]
"""Makes a value (neither NULL nor empty) what the client may see."""
Counts = Counter[str]
"""Masked values by class."""

_ADDRESSES = [(bytes([n]) if n < 128 and chr(n).isalnum() else b"") + b"***@***.example" for n in range(256)]
"""What an e-mail address is shown as, by its first byte: a letter or digit is kept."""
_NO_DIGITS = bytes(n for n in range(256) if not 48 <= n < 58)
_COUNTRY = re.compile(rb"[A-Za-z]{2}\d\d")
_BEGINNINGS = frozenset(b"{[")
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|[{}\[\]:,]|[^\s{}\[\]:,"]++', re.S)


def disguise(name: str, value: bytes) -> bytes:
    """Text that tells the kind of `value`, of class `name`, and no more of it than a first letter or last digits."""
    shown = _KINDS.get(name)
    return HIDDEN if shown is None else shown(value)


def _email(value: bytes) -> bytes:
    at = value.find(b"@")
    return _ADDRESSES[value[0]] if at > 2 or (at < 0 and len(value) > 2) else _ADDRESSES[0]


def _card(value: bytes) -> bytes:
    return _last_digits(value, 4)


def _phone(value: bytes) -> bytes:
    return _last_digits(value, 2)


def _last_digits(value: bytes, shown: int) -> bytes:
    digits = value.translate(None, _NO_DIGITS)
    return HIDDEN + b" " + digits[-shown:] if len(digits) >= 3 * shown else HIDDEN


def _iban(value: bytes) -> bytes:
    return value[:2] + HIDDEN if _COUNTRY.match(value) else HIDDEN


_KINDS = {"email": _email, "card": _card, "phone": _phone, "iban": _iban}


def by_class(name: str, counts: Counts) -> Mask:
    """Masks text of a known class."""

    shown = _KINDS.get(name)
    if shown is None:
        return whole(name, counts, HIDDEN)
    found = shown

    def mask(value: bytes) -> bytes:
        counts[name] += 1
        return found(value)

    return mask


def whole(name: str, counts: Counts, shown: bytes | None) -> Mask:
    """Puts `shown` (None: NULL) in the place of every value."""

    def mask(_: bytes) -> bytes | None:
        counts[name] += 1
        return shown

    return mask


def by_value(wanted: Collection[str], counts: Counts) -> Mask:
    """Masks what detectors find in text: the found part, or all of it where a secret is in it. JSON is masked as such."""

    def mask(value: bytes) -> bytes:
        if value[0] in _BEGINNINGS and _is_json(value):
            shown = _Document(wanted, counts).masked(value)
            return HIDDEN if shown is None else shown
        return _shown(value, wanted, counts) if detectors.possible(value) else value

    return mask


def may_show(data: bytes) -> bool:
    """Whether `by_value` or `all_or_nothing` could change any value of which `data` holds the bytes, whatever is between them."""
    return b"{" in data or b"[" in data or detectors.may_find(data)


def all_or_nothing(wanted: Collection[str], counts: Counts) -> Mask:
    """NULL where a detector finds anything: for types whose text has a form of its own."""

    def mask(value: bytes) -> bytes | None:
        found = detectors.find(value, wanted)
        counts.update(item.name for item in found)
        return None if found else value

    return mask


def _is_json(value: bytes) -> bool:
    try:
        json.loads(value)
    except (ValueError, RecursionError):
        return False
    return True


def _shown(value: bytes, wanted: Collection[str], counts: Counts) -> bytes:
    found = detectors.find(value, wanted)
    if not found:
        return value
    counts.update(item.name for item in found)
    if any(item.is_secret for item in found):
        return HIDDEN
    parts, at = [], 0
    for item in found:
        parts += [value[at : item.start], disguise(item.name, value[item.start : item.end])]
        at = item.end
    return b"".join((*parts, value[at:]))


def document(wanted: Collection[str], counts: Counts, prefix: int = 0) -> Mask:
    """Masks the leaves of a JSON document by the names of their keys and by value; all other bytes stay as they are.

    `prefix` bytes stand before the text (the version of binary jsonb). What is not JSON is masked whole.
    """

    def mask(value: bytes) -> bytes | None:
        shown = _Document(wanted, counts).masked(value[prefix:])
        return None if shown is None else value[:prefix] + shown

    return mask


class _NoDocument(Exception):
    """The text is not JSON."""


class _Document:
    """One document on its way through: where in it we are, and of which class what stands there is."""

    def __init__(self, wanted: Collection[str], counts: Counts) -> None:
        self.wanted, self.counts = wanted, counts
        self.within: list[tuple[bytes, str | None]] = []
        self.named: str | None = None
        self.expects_key = False

    def masked(self, text: bytes) -> bytes | None:
        parts, at = [], 0
        for match in _TOKEN.finditer(text):
            if text[at : match.start()].strip():
                return None
            try:
                parts += [text[at : match.start()], self._token(match[0])]
            except _NoDocument:
                return None
            at = match.end()
        return None if self.within or text[at:].strip() else b"".join((*parts, text[at:]))

    def _token(self, token: bytes) -> bytes:
        mark = token if len(token) == 1 else b""
        if mark in (b"{", b"["):
            self.within.append((mark, self.named))
            self.expects_key = mark == b"{"
        elif mark in (b"}", b"]"):
            if not self.within:
                raise _NoDocument
            self.within.pop()
            self._next()
        elif mark == b",":
            self._next()
            self.expects_key = bool(self.within) and self.within[-1][0] == b"{"
        elif mark == b":":
            self.expects_key = False
        elif self.expects_key:
            return self._key(token)
        else:
            return self._leaf(token)
        return token

    def _next(self) -> None:
        self.named = self.within[-1][1] if self.within else None

    def _key(self, token: bytes) -> bytes:
        text = _text(token)
        found = classes.of_key(text)
        if found is not None and is_wanted((found,), self.wanted):
            self.named = found
        return self._found(token, text)

    def _leaf(self, token: bytes) -> bytes:
        is_text = token[:1] == b'"'
        if token in (b"null", b"true", b"false", b'""'):
            return token
        if self.named is not None and classes.holds(self.named, "text" if is_text else "number"):
            self.counts[self.named] += 1
            return _quoted(disguise(self.named, _text(token).encode())) if is_text else b"null"
        if is_text:
            return self._found(token, _text(token))
        found = detectors.find(token, self.wanted)
        self.counts.update(item.name for item in found)
        return b"null" if found else token

    def _found(self, token: bytes, text: str) -> bytes:
        """A text token without what detectors find in it."""
        before = text.encode("utf-8", "surrogatepass")
        after = _shown(before, self.wanted, self.counts)
        return token if after is before or after == before else _quoted(after)


def is_wanted(found: Collection[str], wanted: Collection[str]) -> bool:
    """Whether one of these classes is to be masked; what is unknown always is."""
    if not found:
        return False
    return "*" in wanted or any(name in wanted or name in classes.ANYTHING for name in found)


def _text(token: bytes) -> str:
    inner = token[1:-1]
    if b"\\" not in inner:
        return inner.decode("utf-8", "replace")
    return str(json.loads(token, strict=False))


def _quoted(value: bytes) -> bytes:
    return json.dumps(value.decode("utf-8", "replace"), ensure_ascii=False).encode()
