"""What a text does, told from an example of its shape: the same statement with other values comes again and again.

An example is only taken where a text of its shape, looked at itself, turned out to do the same to the last field.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from lineage.statements.cache import Cache
from lineage.statements.results import Statement
from lineage.statements.shapes import Shape, refilled, shape

Look = Callable[[str, tuple[str | None, ...]], Statement]
_SIZE_BYTES = 3 * 1024


class _Example:
    """A text with stand-ins for its values, analysed. `statement` is None before, and where it tells nothing."""

    def __init__(self) -> None:
        self.is_tried = False
        self.statement: Statement | None = None

    def take(self, found: Shape, sql: str, parameters: tuple[str | None, ...], look: Look) -> None:
        """Look for an example for this shape, whose text `sql` is, and compare what it tells of that with a look at it."""
        self.is_tried = True
        example = found.example()
        if example is not None:
            statement = look(*example)
            self.statement = statement if _filled(statement, found) == look(sql, parameters) else None


def _filled(example: Statement, found: Shape) -> Statement:
    names = found.names()
    return msgspec.structs.replace(example, effects=tuple([refilled(effect, names) for effect in example.effects]))


_examples: Cache[_Example] = Cache(limit_bytes=64 * 1024 * 1024)
forget = _examples.clear


def told(sql: str, parameters: tuple[str | None, ...], look: Look) -> Statement | None:
    """What `look` would find of `sql`, where its shape came before and tells that; None where it must be looked at."""
    found = shape(sql, parameters)
    if found is None:
        return None
    example = _examples.get(found.key)
    if example is None:
        _examples.put(found.key, _Example(), _SIZE_BYTES + 2 * len(found.text))
        return None
    if not example.is_tried:
        example.take(found, sql, parameters, look)
    return None if example.statement is None else _filled(example.statement, found)
