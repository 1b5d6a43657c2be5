"""Finds values that give themselves away: by checksum, by prefix, by form that nothing else has.

Only precise detectors: a random number, UUID, timestamp or order number must not look like any of them (the rate is counted by
tests/enforcement/gateway/test_detectors.py). What has no such mark (names, most national numbers) is known by its column alone.
Works on bytes as PostgreSQL writes text: ASCII marks stand in any encoding it allows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from stdnum import iban, luhn
from stdnum.be import nn
from stdnum.br import cpf
from stdnum.ch import ssn as ahv
from stdnum.cn import ric
from stdnum.es import dni, nie
from stdnum.fr import nir
from stdnum.it import codicefiscale
from stdnum.mx import curp

SHORTEST = 6
"""No detector finds anything in fewer bytes."""


class Found(NamedTuple):
    """One finding: bytes `start` to `end` are of class `name`. `is_secret`: what stands around it is not shown either."""

    name: str
    start: int
    end: int
    is_secret: bool


class _Detector(NamedTuple):
    name: str
    pattern: re.Pattern[bytes]
    check: Callable[[str], bool] | None = None
    is_secret: bool = False


_SHAPE = bytes.maketrans(b"123456789BCDEFGHIJKLMNOPQRSTUVWXYZ", b"0" * 9 + b"A" * 25)
_SEPARATORS = b" .-"
_MARKS = (b"AAAAAA00A", b"0" * 11, b"AA00", b"+00000000", b"00000000A", b"A0000000A", b"AAAA000000")
"""One of these is in the shape of every number that is looked for: the first where there are no five digits on end."""
_RUN = bytes.maketrans(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_+/.", b"x" * 66)
_SHORTEST_KEY = 16
_LONG_RUN = b"x" * _SHORTEST_KEY
"""Every key and hash has so long a part without a hyphen, which UUIDs and timestamps have not."""

_CARDS = re.compile(
    r"4\d{15}(?:\d{3})?|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-5]|[68]\d)\d{11}|6(?:011|5\d\d|4[4-9]\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}|62\d{14,17}"
)
"""Prefixes with their lengths: Visa, Mastercard, American Express, Diners, Discover, JCB, UnionPay."""


def _is_card(text: str) -> bool:
    digits = re.sub("[ -]", "", text)
    return _CARDS.fullmatch(digits) is not None and bool(luhn.is_valid(digits))


_KEYS = (
    rb"(?:AKIA|ASIA)[0-9A-Z]{16}\b|AIza[0-9A-Za-z_-]{35}|ya29\.[0-9A-Za-z_-]{20,}|GOCSPX-[0-9A-Za-z_-]{20,}"
    rb"|gh[opsur]_[0-9A-Za-z]{36,}|github_pat_[0-9A-Za-z_]{22,}|glpat-[0-9A-Za-z_-]{20,}|xox[abeprs]-[0-9A-Za-z-]{10,}"
    rb"|[rs]k_(?:live|test)_[0-9A-Za-z]{16,}|whsec_[0-9A-Za-z+/]{24,}|sk-(?:[a-z]+-)*[0-9A-Za-z_-]{32,}|npm_[0-9A-Za-z]{36}"
    rb"|pypi-[0-9A-Za-z_-]{40,}|SG\.[0-9A-Za-z_-]{16,}\.[0-9A-Za-z_-]{16,}|hvs\.[0-9A-Za-z_-]{20,}|dop_v1_[0-9a-f]{64}"
    rb"|shpat_[0-9a-f]{32}|hf_[0-9A-Za-z]{30,}"
)
"""AWS, Google, GitHub, GitLab, Slack, Stripe, npm, PyPI, SendGrid, Vault, DigitalOcean, Shopify, models' providers."""
_HASHES = (
    rb"\$2[abxy]\$\d\d\$[./0-9A-Za-z]{53}|\$argon2(?:id|i|d)\$v=\d+\$[^\s]{20,}|\$[156y]\$[^\s$]+\$[^\s]{20,}"
    rb"|SCRAM-SHA-(?:1|256)\$\d+:[^\s]{20,}|pbkdf2_sha\d+\$\d+\$[^\s]{20,}|\{SSHA(?:256|512)?\}[0-9A-Za-z+/=]{20,}"
)
"""Stored passwords: bcrypt, Argon2, crypt, SCRAM, PBKDF2, LDAP."""

_KEYLIKE = (
    _Detector("secret", re.compile(rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY"), None, True),
    _Detector("secret", re.compile(rb"\beyJ[0-9A-Za-z_-]{8,}\.eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]*"), None, True),
    _Detector("secret", re.compile(rb"(?<![0-9A-Za-z])(?:" + _KEYS + rb")"), None, True),
    _Detector("secret", re.compile(_HASHES), None, True),
)
_WITH_AT = (
    _Detector("secret", re.compile(rb"\b[a-z][a-z0-9+.-]*://[^/\s:@]*:[^/\s@]+@"), None, True),
    _Detector("email", re.compile(
        rb"[0-9A-Za-z.!#$%&'*+/=?^_`{|}~\x80-\xff-]{1,64}@"
        rb"(?:[0-9A-Za-z\x80-\xff](?:[0-9A-Za-z\x80-\xff-]{0,61}[0-9A-Za-z\x80-\xff])?\.)+"
        rb"[A-Za-z\x80-\xff][0-9A-Za-z\x80-\xff-]{1,62}")),
)  # fmt: skip


def _standing(pattern: bytes) -> re.Pattern[bytes]:
    """The pattern where no letter, digit or part of a longer number stands beside it."""
    return re.compile(rb"(?<![0-9A-Za-z.,:+-])(?:" + pattern + rb")(?![0-9A-Za-z]|[.,:-]\d)")


_NUMBERS = (
    _Detector("iban", _standing(rb"[A-Z]{2}\d\d(?: ?[0-9A-Z]{4}){2,7}(?: ?[0-9A-Z]{1,3})?"), iban.is_valid),
    _Detector("card", _standing(rb"\d(?:[ -]?\d){12,18}"), _is_card),
    _Detector("phone", _standing(rb"\+[1-9]\d{7,14}")),
    _Detector("national_id", _standing(rb"[A-Z]{6}\d\d[A-Z]\d\d[A-Z]\d{3}[A-Z]"), codicefiscale.is_valid),
    _Detector("national_id", _standing(rb"[A-Z]{4}\d{6}[HMX][A-Z]{5}[0-9A-Z]\d"), curp.is_valid),
    _Detector("national_id", _standing(rb"\d{8}-?[A-Z]"), dni.is_valid),
    _Detector("national_id", _standing(rb"[XYZ]-?\d{7}-?[A-Z]"), nie.is_valid),
    _Detector("national_id", _standing(rb"\d{17}[0-9X]"), ric.is_valid),
    _Detector("national_id", _standing(rb"[12] ?\d\d ?\d\d ?\d\d ?\d{3} ?\d{3} ?\d\d"), nir.is_valid),
    _Detector("national_id", _standing(rb"756\.?\d{4}\.?\d{4}\.?\d\d"), ahv.is_valid),
    _Detector("national_id", _standing(rb"\d{3}\.\d{3}\.\d{3}-\d\d"), cpf.is_valid),
    _Detector("national_id", _standing(rb"\d\d\.\d\d\.\d\d-\d{3}\.\d\d"), nn.is_valid),
)
"""Italy, Mexico, Spain, China, France, Switzerland, Brazil and Belgium: numbers whose form and check leave little to chance."""

NAMES = frozenset(detector.name for detector in (*_KEYLIKE, *_WITH_AT, *_NUMBERS))
"""The classes that values can be known by."""


def find(value: bytes, wanted: Collection[str]) -> list[Found]:
    """All findings of the wanted classes (`*`: of all) in one value, by place, none within another; mostly nothing."""
    detectors = possible(value)
    if not detectors:
        return []
    every = "*" in wanted
    found = sorted(
        (item for detector in detectors if every or detector.name in wanted for item in _of(detector, value)),
        key=lambda item: (item.start, -item.end),
    )
    distinct: list[Found] = []
    for item in found:
        if not distinct or item.start >= distinct[-1].end:
            distinct.append(item)
        elif item.is_secret:
            distinct[-1] = distinct[-1]._replace(is_secret=True, name=item.name)
    return distinct


def possible(value: bytes) -> tuple[_Detector, ...]:
    """The detectors that could find anything: mostly none, and that is seen quickly."""
    size = len(value)
    if size < SHORTEST:
        return ()
    detectors: tuple[_Detector, ...] = _WITH_AT if b"@" in value else ()
    if size > 8 and _is_number_like(value.translate(_SHAPE, _SEPARATORS)):
        detectors += _NUMBERS
    if size >= _SHORTEST_KEY and (_LONG_RUN in value.translate(_RUN) or b"-----BEGIN" in value):
        detectors += _KEYLIKE
    return detectors


def may_find(data: bytes) -> bool:
    """Whether `possible` could name a detector for a value of which `data` holds the bytes, whatever is between them.

    Only marks that a part of the data cannot hide are looked for, never their surroundings.
    """
    if b"@" in data or b"-----BEGIN" in data or _LONG_RUN in data.translate(_RUN):
        return True
    shape = data.translate(_SHAPE, _SEPARATORS)
    return any(mark in shape for mark in _MARKS)


def _is_number_like(shape: bytes) -> bool:
    """Whether a number of any detector can have this shape: digits are 0, capitals A, separators gone."""
    if b"00000" not in shape:
        return _MARKS[0] in shape
    return (
        _MARKS[1] in shape
        or _MARKS[2] in shape
        or _MARKS[3] in shape
        or _MARKS[4] in shape
        or _MARKS[5] in shape
        or _MARKS[6] in shape
    )


def _of(detector: _Detector, value: bytes) -> Iterator[Found]:
    for match in detector.pattern.finditer(value):
        if detector.check is None or detector.check(match[0].decode("latin-1")):
            yield Found(detector.name, match.start(), match.end(), detector.is_secret)
