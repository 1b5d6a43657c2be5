"""A log with its insider."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests import signing
from tests.tamper.insider import Insider


@pytest.fixture
def insider(store: str, server: Callable[..., dict[str, Any]]) -> Iterator[Insider]:
    """Six records under a checkpoint, and whoever owns the machine they lie on."""
    with signing.tended(Insider(server)) as made:
        made.sign(6)
        yield made
