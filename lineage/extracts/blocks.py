"""Blocks of cards: some records as bytes, without what is said twice. Pure.

What all of a block have stands there once, then for each record what is its own, so that one is read without the others.
What the directory says of a record, what follows from its touches, and literals that stand in the statement as in its redacted
form are written once. Each is left out only where it is seen, at writing, that reading gives the same again.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from lineage import projections
from lineage.extracts.postings import Damaged

Content = tuple[list[Any], list[list[Any]]]
"""The columns of a record, and its touches with the columns `TOUCHED`; times in microseconds."""
Place = tuple[str | None, str | None]
"""Environment and database."""
Known = tuple[int, int | None, Place]
"""Of a record what the directory says: index, time, place."""

TOUCHED = tuple(name for name in projections.TOUCHES.names if name not in ("index", "occurred_at"))
RELATION, KEY, KEY_COLUMNS, PAIRS, COLUMNS = (
    TOUCHED.index(name) for name in ("relation", "key", "key_columns", "pairs", "touch_columns")
)
BEGUN = "begun"
"""Behind the columns: what `named_id` cut from an id."""
SAME = True
"""In the place of a list: what the touches say."""
UUID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
FINGERPRINT = re.compile("(?:[0-9a-f]{2})+")
Shared = tuple[list[Any], list[int]]
"""The values that all have (None in the place of others), and the places of the others."""
PACKED = msgspec.msgpack.Decoder(tuple[Shared, Shared, list[bytes]])
OWN = msgspec.msgpack.Decoder(tuple[list[Any], list[list[Any]]])
"""Of one record the values of these places, and of each of its touches."""


def _distinct(names: list[Any]) -> list[Any]:
    return names if len(names) == 1 else list(dict.fromkeys(names))


def _columns(lists: list[Any]) -> list[Any]:
    if len(lists) == 1 and len(lists[0] or ()) < 2:
        return [*(lists[0] or ())]
    return sorted({column for columns in lists for column in columns or ()})


FOLLOWING: dict[str, tuple[int, Callable[[list[Any]], list[Any]]]] = {
    "relations": (RELATION, _distinct), "keys": (KEY, _distinct), "columns": (COLUMNS, _columns),
}  # fmt: skip
"""Columns that mostly say what the touches say: what of each touch, and how it is put together."""


def pairs_of(key: object, named: Sequence[str] | None) -> list[str] | None:
    """The conditions that a key says by itself."""
    if not isinstance(key, str) or not named:
        return None
    if len(named) == 1:
        return [f"{named[0]}={key}"]
    values = key.split(",")
    return [f"{name}={value}" for name, value in zip(named, values, strict=True)] if len(named) == len(values) else None


def named_id(name: object, at: int) -> tuple[object, int | None]:
    """An id without the time in front of it, and by how many milliseconds that is another than the record's; else as it is."""
    if not isinstance(name, str) or not UUID.fullmatch(name):
        return name, None
    # The first six bytes of most are the time.
    told = bytes.fromhex(name.replace("-", ""))
    return told[6:], int.from_bytes(told[:6], "big") - at // 1000


def literals(statement: object, redacted: object) -> object:
    """What stands in the statement for each `?` of its redacted form; the statement where that is not all."""
    if not isinstance(statement, str) or not isinstance(redacted, str):
        return statement
    first, *rest = redacted.split("?")
    if not rest or not statement.startswith(first):
        return [] if statement == redacted else statement
    found, at = [], len(first)
    for part in rest[:-1]:
        end = statement.find(part, at)
        if end < 0:
            return statement
        found.append(statement[at:end])
        at = end + len(part)
    end = len(statement) - len(rest[-1])
    return [*found, statement[at:end]] if at <= end and statement.endswith(rest[-1]) else statement


def event_id(rest: bytes, begun: int, at: int) -> str:
    """The id that `named_id` cut."""
    told = ((begun + at // 1000).to_bytes(6, "big") + rest).hex()
    return f"{told[:8]}-{told[8:12]}-{told[12:16]}-{told[16:20]}-{told[20:]}"


def filled(literals: object, redacted: object) -> object:
    """The statement of which `literals` left this."""
    if not isinstance(literals, list) or not isinstance(redacted, str):
        return literals
    parts = redacted.split("?")
    whole = [parts[0]]
    for literal, part in zip(literals, parts[1:], strict=True):
        whole += literal, part
    return "".join(whole)


class Layout:
    """How records with these columns are packed."""

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = list(columns)
        self.named = [*self.columns, BEGUN]
        """What each place of a record in a block has."""
        self.place = {name: number for number, name in enumerate(self.named)}
        place = self.columns.index
        self.index, self.at, self.environment, self.datasource = map(
            place, ("index", "occurred_at", "environment", "datasource")
        )
        self.event_id, self.received, self.attribution = map(place, ("event_id", "received_at", "attribution_index"))
        self.statement, self.redacted, self.fingerprint = map(place, ("statement", "redacted", "fingerprint"))
        self.following = [(place(name), rule) for name, rule in FOLLOWING.items()]

    def packed(self, contents: Sequence[Content]) -> bytes:
        """These records as one block, not yet compressed."""
        rows = [self._written(row, touches) for row, touches in contents]
        touched = [[*touch] for _, touches in contents for touch in touches]
        for touch in touched:
            if touch[PAIRS] == pairs_of(touch[KEY], touch[KEY_COLUMNS]):
                touch[PAIRS] = SAME
        shared, own = _shared(rows)
        shared_touch, own_touches = _shared(touched)
        rest = iter(own_touches)
        each = [
            msgspec.msgpack.encode((values, list(itertools.islice(rest, len(touches)))))
            for values, (_, touches) in zip(own, contents, strict=True)
        ]
        return msgspec.msgpack.encode((shared, shared_touch, each))

    def _written(self, content: Sequence[Any], touches: Sequence[list[Any]]) -> list[Any]:
        row = [*content, None]
        at, printed = row[self.at] or 0, row[self.fingerprint]
        row[self.event_id], row[-1] = named_id(row[self.event_id], at)
        for place, base in ((self.received, at), (self.attribution, row[self.index])):
            if row[place] is not None:
                row[place] -= base
        row[self.statement] = literals(row[self.statement], row[self.redacted])
        if isinstance(printed, str) and FINGERPRINT.fullmatch(printed):
            row[self.fingerprint] = bytes.fromhex(printed)
        for place, (source, rule) in self.following:
            if row[place] == rule([touch[source] for touch in touches]):
                row[place] = SAME
        row[self.index] = row[self.at] = row[self.environment] = row[self.datasource] = None
        return row

    def unpacked(self, data: bytes, known: Sequence[Known], wanted: Sequence[int]) -> list[Content]:
        """What those of the block's records hold that have these numbers in it, of which this is known. Raises Damaged."""
        try:
            shared, shared_touch, every = PACKED.decode(data)
            return [
                self._read(shared, shared_touch, every[number], told)
                for number, told in zip(wanted, known, strict=True)
            ]
        except (msgspec.DecodeError, ValueError, TypeError, IndexError, OverflowError) as error:
            raise Damaged("A block of cards is not what was written.") from error

    def _read(self, shared: Shared, shared_touch: Shared, data: bytes, known: Known) -> Content:
        own, own_touches = OWN.decode(data)
        row = _whole(shared, own)
        touches = _touches(shared_touch, own_touches)
        row[self.index], row[self.at], (row[self.environment], row[self.datasource]) = index, at, _ = known
        at, begun = at or 0, row.pop()
        if begun is not None:
            row[self.event_id] = event_id(row[self.event_id], begun, at)
        if row[self.received] is not None:
            row[self.received] += at
        if row[self.attribution] is not None:
            row[self.attribution] += index
        if isinstance(row[self.statement], list):
            row[self.statement] = filled(row[self.statement], row[self.redacted])
        if isinstance(row[self.fingerprint], bytes):
            row[self.fingerprint] = row[self.fingerprint].hex()
        for place, (source, rule) in self.following:
            if row[place] is SAME:
                row[place] = rule([touch[source] for touch in touches])
        return row, touches


def _shared(rows: Sequence[list[Any]]) -> tuple[Shared, list[list[Any]]]:
    """What these have in common, and for each what is its own."""
    constant, places, varying = list[Any](), list[int](), list[tuple[Any, ...]]()
    for number, values in enumerate(zip(*rows, strict=True)):
        is_constant = values.count(values[0]) == len(values)
        constant.append(values[0] if is_constant else None)
        if not is_constant:
            places.append(number)
            varying.append(values)
    return (constant, places), [list(own) for own in zip(*varying, strict=True)] or [[] for _ in rows]


def _touches(shared: Shared, own: Sequence[Sequence[Any]]) -> list[list[Any]]:
    touches = [_whole(shared, values) for values in own]
    for touch in touches:
        if touch[PAIRS] is SAME:
            touch[PAIRS] = pairs_of(touch[KEY], touch[KEY_COLUMNS])
    return touches


def _whole(shared: Shared, own: Sequence[Any]) -> list[Any]:
    constant, places = shared
    row = constant.copy()
    for place, value in zip(places, own, strict=True):
        row[place] = value
    return row
