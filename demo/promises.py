"""What a promise is, and the three ways its test can end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class Broken(Exception):
    """The promise does not hold; the message says what was seen."""


class Untested(Exception):
    """The promise cannot be tested on this machine; the message says why."""


@dataclass(frozen=True)
class Promise:
    """A sentence, and its test: given the demo it returns what it saw, or raises Broken or Untested."""

    words: str
    test: Callable[[Any], str]


def expect(holds: bool, seen: str) -> None:
    """Raise Broken with what was seen unless it holds."""
    if not holds:
        raise Broken(seen)
