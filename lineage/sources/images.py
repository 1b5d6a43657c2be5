"""Row images as change capture sends them: columns and values in order -> typed values with states, keys, what changed. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from lineage.events import HEAD_BYTES, IMAGE_LIMIT_BYTES, VALUE_LIMIT_BYTES, Value, bounded_value, cut
from lineage.sources.feed import NAME_LIMIT, JsonRefused, short


class Marker(msgspec.Struct, gc=False):
    """Stands for a value that the message does not hold, or holds only the head of."""

    state: Literal["unchanged", "unavailable", "truncated"]
    value: str | None = None
    sha256: str | None = None


class Column(msgspec.Struct, gc=False):
    name: str
    type: str | None = None


class Relation(msgspec.Struct, gc=False):
    schema: str
    name: str
    columns: list[Column] = []
    key: list[str] = []
    replica_identity: str | None = None


Image = list[str | Marker | None]


UNAVAILABLE = Marker("unavailable")


def differs(was: str | Marker | None, now: str | Marker | None) -> bool:
    return was != now and not (isinstance(now, Marker) and now.state != "truncated")


def values(relation: Relation, image: Image | None) -> tuple[tuple[Value, ...], bool]:
    """The image as typed values within the limits, and whether something had to be cut."""
    if image is None:
        return (), False
    found = []
    size = 0
    clipped = False
    for column, value in zip(relation.columns, image, strict=True):
        name, kind = column.name, column.type
        if len(name) > NAME_LIMIT or len(kind or "") > NAME_LIMIT:
            name, kind = name[:NAME_LIMIT], short(kind)
        if value is None:
            found.append(Value(column=name, type=kind, state="null"))
        elif isinstance(value, Marker):
            head = cut(value.value.encode(), HEAD_BYTES) if value.value is not None else None
            found.append(Value(column=name, type=kind, state=value.state, value=head))
            clipped = clipped or value.state == "truncated"
        else:
            size += len(value)
            short_enough = len(value) * 4 <= VALUE_LIMIT_BYTES
            found.append(
                Value(column=name, type=kind, value=value) if short_enough else bounded_value(name, value, kind)
            )
    if size * 4 <= VALUE_LIMIT_BYTES:
        return tuple(found), clipped
    return _fit(found, any(value.state == "truncated" for value in found))


def _fit(values: Sequence[Value], clipped: bool) -> tuple[tuple[Value, ...], bool]:
    """Cuts the longest values to their head until the image is within its limit."""
    sizes = {n: len(value.value.encode()) for n, value in enumerate(values) if value.value is not None}
    total = sum(sizes.values())
    fitted = list(values)
    for n in sorted(sizes, key=lambda n: -sizes[n]):
        if total <= IMAGE_LIMIT_BYTES:
            break
        head = cut((values[n].value or "").encode(), HEAD_BYTES)
        total -= sizes[n] - len(head.encode())
        fitted[n] = Value(column=values[n].column, type=values[n].type, state="truncated", value=head)
        clipped = True
    return tuple(fitted), clipped


def keys(
    relation: Relation, before: Sequence[Value], after: Sequence[Value]
) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
    """The row's key (as it is after the change), and its key before where that is known and differs."""
    image = after or before
    if not image or not relation.key:
        return (), ()
    places = {column.name: n for n, column in enumerate(relation.columns)}
    try:
        numbers = [places[name] for name in relation.key]
    except KeyError:
        raise JsonRefused("pgoutput", "relation.key names a column that relation.columns does not have") from None
    if not before:
        return tuple([after[n] for n in numbers]), ()
    was = tuple([before[n] for n in numbers])
    key = tuple([before[n] if image[n].state == "unchanged" else image[n] for n in numbers])
    known = all(value.state != "unavailable" for value in was)
    return key, was if known and was != key else ()
