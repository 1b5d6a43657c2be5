"""What texts of one shape do, told from one example: the same statement with other values comes again and again.

Only what a text touches is told so, never what is decided about it. An example is only taken where a text of its shape, looked
at itself, turned out to do the same to the last field.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from lineage.statements.cache import Cache
from lineage.statements.shapes import Shape, refilled, shape

if TYPE_CHECKING:
    from enforcement.gateway.catalog import Catalog
    from enforcement.gateway.effects import Judged
    from enforcement.gateway.resolving import Scope

Look = Callable[[str, tuple[str | None, ...]], "Judged"]
_DATA = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"})
_SIZE_BYTES = 16 * 1024


class _Example:
    """A text with stand-ins for its values, judged. `judged` is None before one was looked for, and where it tells nothing."""

    def __init__(self) -> None:
        self.is_tried = False
        self.judged: Judged | None = None

    def take(self, found: Shape, sql: str, parameters: tuple[str | None, ...], look: Look) -> None:
        """Look for an example for this shape, whose text `sql` is, and compare what it tells of that with a look at it."""
        self.is_tried = True
        example = found.example()
        judged = look(*example) if example is not None else None
        if judged is None or judged.opaque or [one.part.tag in _DATA for one in judged.parts] != [True]:
            return
        self.judged = judged
        if self.filled(found, sql) != look(sql, parameters):
            self.judged = None

    def filled(self, found: Shape, sql: str) -> Judged | None:
        """The example with other values, which stand in keys and nowhere else; None where it does not tell."""
        if self.judged is None:
            return None
        names = found.names()
        (judged,) = self.judged.parts
        effects = tuple(refilled(effect, names) for effect in judged.part.statement.effects)
        told = msgspec.structs.replace(judged.part.statement, effects=effects)
        part = msgspec.structs.replace(judged.part, text_end=len(sql), statement=told)
        return msgspec.structs.replace(self.judged, parts=(msgspec.structs.replace(judged, part=part, text=sql),))


_examples: Cache[_Example] = Cache(limit_bytes=16 * 1024 * 1024)


def told(sql: str, parameters: tuple[str | None, ...], catalog: Catalog, scope: Scope, look: Look) -> Judged | None:
    """What `look` would find of `sql`, where its shape came twice before and tells that; None where it must be looked at."""
    found = shape(sql, parameters)
    if found is None or not found.are_distinct:
        return None
    key = (found.key, catalog.version, scope)
    example = _examples.get(key)
    if example is None:
        _examples.put(key, _Example(), _SIZE_BYTES)
        return None
    if not example.is_tried:
        example.take(found, sql, parameters, look)
    return example.filled(found, sql)
