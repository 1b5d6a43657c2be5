"""Blocks of cards: some records as bytes, column by column, without what is said twice. Pure.

What the directory says of a record, what follows from its touches, and literals that stand in the statement as in its redacted
form are written once. Each is left out only where it is seen, at writing, that reading gives the same again.
"""

from __future__ import annotations

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
SAME = True
"""In the place of a list: what the touches say."""
UUID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
FINGERPRINT = re.compile("(?:[0-9a-f]{2})+")
Table = tuple[list[Any], list[tuple[int, list[Any]]]]
PACKED = msgspec.msgpack.Decoder(tuple[Table, list[int], Table])


def _relations(touches: Sequence[list[Any]]) -> list[Any]:
    return list(dict.fromkeys(touch[RELATION] for touch in touches))


def _keys(touches: Sequence[list[Any]]) -> list[Any]:
    return list(dict.fromkeys(touch[KEY] for touch in touches))


def _columns(touches: Sequence[list[Any]]) -> list[Any]:
    return sorted({column for touch in touches for column in touch[COLUMNS] or ()})


FOLLOWING: dict[str, Callable[[Sequence[list[Any]]], list[Any]]] = {
    "relations": _relations, "keys": _keys, "columns": _columns,
}  # fmt: skip
"""Columns that mostly say what the touches say."""


def _pairs(touch: Sequence[Any]) -> list[str] | None:
    key, named = touch[KEY], touch[KEY_COLUMNS]
    if not isinstance(key, str) or not named:
        return None
    values = key.split(",") if len(named) > 1 else [key]
    return [f"{name}={value}" for name, value in zip(named, values, strict=True)] if len(named) == len(values) else None


def _literals(statement: object, redacted: object) -> object:
    """What stands in the statement for each `?` of its redacted form; the statement where that is not all."""
    if not isinstance(statement, str) or not isinstance(redacted, str):
        return statement
    first, *rest = redacted.split("?")
    found, at = [], len(first)
    for part in rest[:-1]:
        end = statement.find(part, at)
        if end < 0:
            return statement
        found.append(statement[at:end])
        at = end + len(part)
    if rest:
        found.append(statement[at : len(statement) - len(rest[-1])])
    return found if _filled(found, redacted) == statement else statement


def _filled(literals: object, redacted: object) -> object:
    if not isinstance(literals, list) or not isinstance(redacted, str):
        return literals
    first, *rest = redacted.split("?")
    return first + "".join(literal + part for literal, part in zip(literals, rest, strict=True))


class Layout:
    """How records with these columns are packed."""

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = list(columns)
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
            if touch[PAIRS] == _pairs(touch):
                touch[PAIRS] = SAME
        counts = [len(touches) for _, touches in contents]
        return msgspec.msgpack.encode((_by_column(rows), counts, _by_column(touched)))

    def _written(self, content: Sequence[Any], touches: Sequence[list[Any]]) -> list[Any]:
        row = [*content, None]
        at, name, printed = row[self.at] or 0, row[self.event_id], row[self.fingerprint]
        if isinstance(name, str) and UUID.fullmatch(name):
            # The first six bytes of most are the time.
            told = bytes.fromhex(name.replace("-", ""))
            row[self.event_id], row[-1] = told[6:], int.from_bytes(told[:6], "big") - at // 1000
        for place, base in ((self.received, at), (self.attribution, row[self.index])):
            if row[place] is not None:
                row[place] -= base
        row[self.statement] = _literals(row[self.statement], row[self.redacted])
        if isinstance(printed, str) and FINGERPRINT.fullmatch(printed):
            row[self.fingerprint] = bytes.fromhex(printed)
        for place, rule in self.following:
            if row[place] == rule(touches):
                row[place] = SAME
        row[self.index] = row[self.at] = row[self.environment] = row[self.datasource] = None
        return row

    def unpacked(self, data: bytes, known: Sequence[Known], wanted: Sequence[int]) -> list[Content]:
        """What those of the block's records hold that have these numbers in it, of which this is known. Raises Damaged."""
        try:
            columns, counts, touched = PACKED.decode(data)
            ends = [0]
            for count in counts:
                ends.append(ends[-1] + count)
            return [
                self._read(columns, number, told, _touches(touched, ends, number))
                for number, told in zip(wanted, known, strict=True)
            ]
        except (msgspec.DecodeError, ValueError, TypeError, IndexError, OverflowError) as error:
            raise Damaged("A block of cards is not what was written.") from error

    def _read(self, columns: Table, number: int, known: Known, touches: list[list[Any]]) -> Content:
        row = _row(columns, number)
        row[self.index], row[self.at], (row[self.environment], row[self.datasource]) = known
        at, begun = known[1] or 0, row.pop()
        if begun is not None:
            told = ((begun + at // 1000).to_bytes(6, "big") + row[self.event_id]).hex()
            row[self.event_id] = f"{told[:8]}-{told[8:12]}-{told[12:16]}-{told[16:20]}-{told[20:]}"
        for place, base in ((self.received, at), (self.attribution, known[0])):
            if row[place] is not None:
                row[place] += base
        row[self.statement] = _filled(row[self.statement], row[self.redacted])
        if isinstance(row[self.fingerprint], bytes):
            row[self.fingerprint] = row[self.fingerprint].hex()
        for place, rule in self.following:
            if row[place] is SAME:
                row[place] = rule(touches)
        return row, touches


def _touches(touched: Table, ends: Sequence[int], number: int) -> list[list[Any]]:
    found = []
    for place in range(ends[number], ends[number + 1]):
        touch = _row(touched, place)
        if touch[PAIRS] is SAME:
            touch[PAIRS] = _pairs(touch)
        found.append(touch)
    return found


def _by_column(rows: Sequence[list[Any]]) -> Table:
    """The values that all have, and the columns of which that is not so, each with its number."""
    constant, varying = list[Any](), list[tuple[int, list[Any]]]()
    for number, values in enumerate(zip(*rows, strict=True)):
        is_constant = values.count(values[0]) == len(values)
        constant.append(values[0] if is_constant else None)
        if not is_constant:
            varying.append((number, list(values)))
    return constant, varying


def _row(table: Table, number: int) -> list[Any]:
    constant, varying = table
    row = constant.copy()
    for place, values in varying:
        row[place] = values[number]
    return row
