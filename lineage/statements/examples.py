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
_ENTRY_BYTES = 640
"""What the cache holds of a shape beside its text and what is told of it."""
_UNTRIED = b"?"
"""Stands for a shape that came again, of which no example was looked at yet: that takes as much as two other looks."""
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Statement).decode


def _filled(example: Statement, found: Shape) -> Statement:
    names = found.names()
    return msgspec.structs.replace(example, effects=tuple([refilled(effect, names) for effect in example.effects]))


_examples: Cache[bytes] = Cache(limit_bytes=64 * 1024 * 1024)
"""What is said of an example of each shape, packed: as objects it takes twice as much. Empty where it tells nothing."""
forget = _examples.clear


def told(sql: str, parameters: tuple[str | None, ...], look: Look) -> Statement | None:
    """What `look` would find of `sql`, where its shape came before; None where it must be looked at."""
    found = shape(sql, parameters)
    if found is None:
        return None
    packed, size = _examples.get(found.key), _ENTRY_BYTES + len(found.text)
    if packed is None:
        _examples.put(found.key, _UNTRIED, size)
        return None
    if packed != _UNTRIED:
        return _filled(_unpack(packed), found) if packed else None
    own = look(sql, parameters)
    packed = _example(found, own, look)
    _examples.put(found.key, packed, size + len(packed))
    return own if packed else None


def _example(found: Shape, own: Statement, look: Look) -> bytes:
    """What is said of a text with stand-ins for its values, where it tells what was found of the text itself."""
    example = found.example()
    statement = None if example is None else look(*example)
    return b"" if statement is None or _filled(statement, found) != own else _pack(statement)
