"""One database with views, rules, triggers and functions to hide behind, for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from demo.monitored import Monitored
from tests.bypass import shop


@pytest.fixture(scope="session")
def gate(monitored: Monitored) -> Iterator[shop.Gate]:
    """Decides with the default guardrails and the catalog of a real database."""
    with monitored.connect() as admin:
        admin.execute("create database bypass")
    with monitored.connect("bypass") as connection:
        shop.make(connection)
        yield shop.Gate(shop.read(connection))
    with monitored.connect() as admin:
        admin.execute("drop database bypass with (force)")
