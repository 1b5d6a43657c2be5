"""Detectors find what gives itself away, and nothing in numbers that only look alike."""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enforcement.gateway import detectors

EVERY = frozenset({"*"})


def names(value: str) -> list[str]:
    return [found.name for found in detectors.find(value.encode(), EVERY)]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("alice@shop.example", "email"), ("Write to Bob.O'Neil+x@mail.shop.co.uk today", "email"),
        ("jörg@müller.example", "email"), ("DE89 3704 0044 0532 0130 00", "iban"), ("pay GB29NWBK60161331926819.", "iban"),
        ("4111111111111111", "card"), ("5500-0055-5555-5559", "card"), ("card 3782 822463 10005 expired", "card"),
        ("+4930123456", "phone"), ("call +14155552671!", "phone"),
        ("RSSMRA85T10A562S", "national_id"), ("12345678Z", "national_id"), ("X1234567L", "national_id"),
        ("11010519491231002X", "national_id"), ("1 84 12 76 451 089 46", "national_id"), ("756.9217.0769.85", "national_id"),
        ("390.533.447-05", "national_id"), ("85.07.30-033.28", "national_id"),
        ("AKIAIOSFODNN7EXAMPLE", "secret"), ("ghp_" + "a1B2" * 9, "secret"), ("xoxb-" + "12345678" * 3, "secret"),
        ("sk_live_" + "a1B2c3D4" * 3, "secret"), ("AIza" + "a1B2c" * 7, "secret"), ("glpat-" + "a1B2c3D4" * 3, "secret"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abcDEF123", "secret"),
        ("-----BEGIN PRIVATE KEY-----", "secret"), ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl", "secret"),
        ("$2b$12$" + "abcdefghijklmnopqrstuv0123456789ABCDEFGHIJKLMNOPQRSTU", "secret"),
        ("$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHRzb21lc2FsdA$hashhashhash", "secret"),
        ("SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0c2FsdA==$x:y", "secret"), ("postgres://app:hunter2@db.internal/shop", "secret"),
    ],
)  # fmt: skip
def test_a_value_that_gives_itself_away_is_found(value: str, name: str) -> None:
    assert name in names(value)


@pytest.mark.parametrize(
    "value",
    [
        "", "@", "a@b", "alice at shop.example", "@property", "x @ y.z", "4111111111111112", "0000000000000000",
        "4" * 16, "DE89370400440532013001", "12345678A", "+12", "1+12345678", "2026-11-21T10:46:49+00:00",
        "-----BEGIN PUBLIC KEY-----", "eyJhbGciOiJIUzI1NiJ9", "ghp_short", "https://shop.example/a:b/c",
        "0b7a1c1e-58a1-4f4e-9d0e-3c1f0d6f5b1a", "1.4111111111111111", "-4111111111111111e10", "756.9217.0769.84",
    ],
)  # fmt: skip
def test_what_only_looks_alike_is_not_found(value: str) -> None:
    assert names(value) == []


def _timestamp(chance: random.Random) -> str:
    at = dt.datetime(2020, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=chance.random() * 2e8)
    return chance.choice([str(at), at.isoformat(), str(int(at.timestamp() * 1000)), at.strftime("%Y%m%d%H%M%S")])


def _order_number(chance: random.Random) -> str:
    form = chance.choice(
        ["ORD-2026-{:06}", "20261121-{:04}", "SO{:08}", "#{:07}", "INV/2026/{:05}", "{:010}", "DE{:012}"]
    )
    return form.format(chance.randrange(10**4))


KINDS: dict[str, Callable[[random.Random], str]] = {
    "nine digits": lambda chance: f"{chance.randrange(10**9):09}",
    "UUIDs": lambda chance: str(uuid.UUID(int=chance.getrandbits(128), version=4)),
    "timestamps": _timestamp,
    "order numbers": _order_number,
}


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_than_one_in_five_thousand_ordinary_values_is_taken_for_something(kind: str) -> None:
    chance = random.Random(20261121)
    values = [KINDS[kind](chance) for _ in range(10_000)]
    wrong = [value for value in values if names(value)]
    assert len(wrong) < len(values) / 5000, wrong


def test_a_secret_takes_what_overlaps_with_it() -> None:
    found = detectors.find(b"see postgres://app:hunter2@db.internal/shop", EVERY)
    assert [(item.name, item.is_secret) for item in found] == [("secret", True)]


def test_only_what_is_wanted_is_found() -> None:
    assert detectors.find(b"alice@shop.example", {"card"}) == []
    assert detectors.find(b"alice@shop.example", set()) == []


@given(st.binary(max_size=200))
def test_findings_lie_in_order_within_the_value_whatever_it_is(value: bytes) -> None:
    end = 0
    for found in detectors.find(value, EVERY):
        assert end <= found.start < found.end <= len(value)
        end = found.end
