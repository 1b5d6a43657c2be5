"""Chosen columns of records as `activity` has them, without its tags: of whole records, or of blocks of cards without the others. Pure.

In most columns all records of a block agree: what they have there is put together once. A test compares both with DuckDB.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from lineage.extracts.blocks import (
    BEGUN,
    FOLLOWING,
    OWN,
    PACKED,
    SAME,
    Content,
    Known,
    Layout,
    Shared,
    event_id,
    filled,
)
from lineage.extracts.naming import DERIVED, NEEDED, Login, flagged, named_as
from lineage.extracts.postings import Damaged
from lineage.moments import moment

Row = dict[str, Any]
LOGIN = slice(5, 7)
"""Database and user among `NEEDED`."""
TOLD = (*NEEDED[:5], "db_user")
"""Of these what does not stand in the directory."""

DIRECTORY = ("index", "occurred_at", "environment", "datasource")
"""What the directory says of a record."""


class Chosen:
    """These columns, `index` among them. `people` says whose a login of a database is, `conflicted` which records have a conflict."""

    def __init__(
        self, names: Iterable[str], people: Mapping[tuple[str, str], Sequence[Login]], conflicted: Collection[int]
    ) -> None:
        self.names, self.people, self.conflicted = list(names), people, conflicted
        self.told = [name for name in self.names if name not in DERIVED]
        self.derived = [(name, DERIVED.index(name)) for name in self.names if name in DERIVED]
        self.known: dict[tuple[Any, ...], tuple[str | None, ...]] = {}

    def who(self, said: tuple[Any, ...]) -> tuple[str | None, ...]:
        """`DERIVED` of what is `NEEDED`."""
        # When it was matters where a login was somebody's alone.
        key = said if said[LOGIN] in self.people else said[:-1]
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = named_as(dict(zip(NEEDED, said, strict=True)), self.people)
        return found

    def whole(self, columns: Sequence[str], contents: Iterable[Content]) -> list[Row]:
        """Of whole records with these columns."""
        place = {name: number for number, name in enumerate(columns)}
        values, needed = _getter(place[name] for name in self.told), _getter(place[name] for name in NEEDED)
        moments = [name for name in ("occurred_at", "received_at") if name in self.told]
        index, flags, refused = place["index"], place["flags"], place["refused"]
        found = []
        for row, _ in contents:
            record = dict(zip(self.told, values(row), strict=True))
            if self.derived:
                who = self.who(needed(row))
                for name, number in self.derived:
                    record[name] = who[number]
            for name in moments:
                if record[name] is not None:
                    record[name] = moment(record[name])
            if "flags" in record:
                record["flags"] = flagged(row[flags], row[refused], row[index] in self.conflicted)
            found.append(record)
        return found

    def of_block(self, layout: Layout, data: bytes, known: Sequence[Known], wanted: Sequence[int]) -> list[Row]:
        """Of the block's records that have these numbers in it, of which this is known. Raises Damaged."""
        try:
            shared, touched, every = PACKED.decode(data)
            block = _Block(self, layout, shared, touched)
            return [block.record(every[number], told) for number, told in zip(wanted, known, strict=True)]
        except (msgspec.DecodeError, ValueError, TypeError, IndexError, OverflowError) as error:
            raise Damaged("A block of cards is not what was written.") from error


def _getter(places: Iterable[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """What gives these values of a row."""
    every = list(places)
    if len(every) > 1:
        getter: Callable[[Sequence[Any]], tuple[Any, ...]] = operator.itemgetter(*every)
        return getter
    return lambda row: tuple(row[place] for place in every)


class _Block:
    """One block: what all its records have, and where the rest stands in what is their own."""

    def __init__(self, chosen: Chosen, layout: Layout, shared: Shared, touched: Shared) -> None:
        self.chosen = chosen
        self.constant, self.own = shared[0], {place: number for number, place in enumerate(shared[1])}
        self.place = place = layout.place
        self.common = {name: self.constant[place[name]] if name in place else None for name in chosen.names}
        self.varying = [(name, number) for at, number in self.own.items() if (name := layout.named[at]) in self.common]
        self.begun, self.redacted, self.refused, *self.told = map(self._where, (BEGUN, "redacted", "refused", *TOLD))
        self.following = [
            (name, rule, *_of_touch(touched, source))
            for name, (source, rule) in FOLLOWING.items()
            if name in self.common
        ]
        self.is_one = all(number is None for number, _ in self.told)
        self.last: tuple[str | None, tuple[str | None, ...]] | None = None

    def _where(self, name: str) -> tuple[int | None, Any]:
        """Where this column stands in what is a record's own; else what all have."""
        at = self.place[name]
        return self.own.get(at), self.constant[at]

    def record(self, data: bytes, known: Known) -> Row:
        own, touches = OWN.decode(data)
        found, (index, at, place) = self.common.copy(), known
        for name, number in self.varying:
            found[name] = own[number]
        self._put(found, own, index, at or 0)
        for name, rule, of, said in self.following:
            if found[name] is SAME:
                found[name] = rule([said if of is None else touch[of] for touch in touches])
        told = index, None if at is None or "occurred_at" not in found else moment(at), *place
        for name, value in zip(DIRECTORY, told, strict=True):
            if name in found:
                found[name] = value
        if self.chosen.derived:
            who = self._who(own, place[1], at)
            for name, number in self.chosen.derived:
                found[name] = who[number]
        return found

    def _put(self, found: Row, own: Sequence[Any], index: int, at: int) -> None:
        """As the record has them, what stands in a block otherwise."""
        begun = _value(own, self.begun)
        if begun is not None and "event_id" in found:
            found["event_id"] = event_id(found["event_id"], begun, at)
        if found.get("received_at") is not None:
            found["received_at"] = moment(found["received_at"] + at)
        if found.get("attribution_index") is not None:
            found["attribution_index"] += index
        if isinstance(found.get("statement"), list):
            found["statement"] = filled(found["statement"], _value(own, self.redacted))
        if isinstance(found.get("fingerprint"), bytes):
            found["fingerprint"] = found["fingerprint"].hex()
        if "flags" in found:
            found["flags"] = flagged(found["flags"], _value(own, self.refused), index in self.chosen.conflicted)

    def _who(self, own: Sequence[Any], datasource: str | None, at: int | None) -> tuple[str | None, ...]:
        if self.last is not None and self.last[0] == datasource:
            return self.last[1]
        *told, user = (_value(own, where) for where in self.told)
        found = self.chosen.who((*told, datasource, user, at))
        if self.is_one and (datasource, user) not in self.chosen.people:
            self.last = datasource, found
        return found


def _value(own: Sequence[Any], where: tuple[int | None, Any]) -> Any:
    number, said = where
    return said if number is None else own[number]


def _of_touch(touched: Shared, place: int) -> tuple[int | None, Any]:
    constant, places = touched
    # Where there is no touch, nothing is said of it.
    return (places.index(place), None) if place in places else (None, constant[place] if constant else None)
