"""Cards of many records at once: blocks made column by column, the same bytes as `blocks.Layout.packed` makes of them one by one.

Each column has a number for every row, equal values one number, so that what all of a block have is found by numbers, and
Python looks at the values of those columns alone that differ within a block. A test compares both. Pure.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lineage.extracts import Indexes
from lineage.extracts.blocks import (
    FINGERPRINT,
    FOLLOWING,
    KEY,
    KEY_COLUMNS,
    PAIRS,
    SAME,
    TOUCHED,
    Layout,
    literals,
    named_id,
    pairs_of,
)
from lineage.extracts.cards import BLOCK, NO_TIME, Block, Places, numbered
from lineage.extracts.numbering import dense_as_met
from lineage.rowgroups import ROWS_MOST

PART = ROWS_MOST - ROWS_MOST % BLOCK
"""Records that are packed at a time: those of a row group."""
UUID_BYTES = 36
HYPHENS = (8, 13, 18, 23)
DIGITS = np.full(256, 255, np.uint8)
DIGITS[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16, dtype=np.uint8)
"""What a lower-case hexadecimal digit stands for."""


class Column(NamedTuple):
    """Of each row a number, and what the numbers stand for, each value once."""

    numbers: NDArray[np.int64]
    values: Sequence[Any]

    def rows(self) -> list[Any]:
        rows: list[Any] = np.fromiter(self.values, object, len(self.values))[self.numbers].tolist()
        return rows


class Touches(NamedTuple):
    """The touches of some records, in the order of these: their columns, and where those of each record begin; the end last."""

    columns: list[Column]
    begins: NDArray[np.intp]


def packed(
    layout: Layout, places: Places, parts: Iterable[pa.Table], touches: pa.Table, marks: Indexes
) -> Iterator[Block]:
    """Blocks of these records, which ascend by index, and of their touches (columns `index` and `TOUCHED`).

    The records have the columns of the layout, times of any kind; `marks` are of all of them, one behind the other.
    Their places are numbered in `places`.
    """
    touches, marks = _ordered(touches), marks.astype(np.uint32)
    of = touches["index"].to_numpy()
    done = 0
    for part in _whole_blocks(parts):
        indexes = part["index"].to_numpy()
        own = slice(*np.searchsorted(of, [indexes[0], indexes[-1] + 1]).tolist())
        met = np.flatnonzero(np.isin(of[own], indexes))
        here = touches.slice(own.start, own.stop - own.start)
        here = here if len(met) == here.num_rows else here.take(pa.array(met))
        begins = np.searchsorted(of[own][met], np.append(indexes, indexes[-1] + 1))
        directory = indexes, _times(part["occurred_at"]), _places(part, places), marks[done : done + len(indexes)]
        yield from _blocks(layout, part, _touches(here, begins), directory)
        done += len(indexes)


def _ordered(touches: pa.Table) -> pa.Table:
    """By record, those of one as they came."""
    touches = touches.combine_chunks()
    indexes = touches["index"].to_numpy()
    if (indexes[1:] >= indexes[:-1]).all():
        return touches
    return touches.take(pa.array(np.argsort(indexes, kind="stable")))


def _whole_blocks(parts: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in parts of whole blocks, but for the last."""
    held = list[pa.Table]()
    for part in parts:
        held.append(part)
        count = sum(one.num_rows for one in held)
        if count >= PART:
            every = pa.concat_tables(held).combine_chunks()
            whole = count - count % BLOCK
            yield from (every.slice(start, min(PART, whole - start)) for start in range(0, whole, PART))
            rest = every.slice(whole)
            # With its own words alone, and not those of the whole part.
            held = [pa.Table.from_pylist(rest.to_pylist(), rest.schema)] if rest.num_rows else []
    rest = pa.concat_tables(held).combine_chunks() if held else None
    if rest is not None and rest.num_rows:
        yield rest


def _places(part: pa.Table, known: Places) -> NDArray[np.uint32]:
    environment, datasource = (_column(part[name]) for name in ("environment", "datasource"))
    pairs = environment.numbers * len(datasource.values) + datasource.numbers
    both = itertools.product(environment.values, datasource.values)
    numbers: NDArray[np.uint32] = numbered(both, known)[pairs]
    return numbers


def _blocks(layout: Layout, part: pa.Table, touches: Touches, directory: Sequence[NDArray[Any]]) -> Iterator[Block]:
    columns = _columns(layout, part, touches)
    count = part.num_rows
    starts = np.arange(0, count, BLOCK)
    ends = np.minimum(starts + BLOCK, count)
    records = _Shared(columns, starts, ends)
    touched = _Shared(touches.columns, touches.begins[starts], touches.begins[ends])
    indexes, times, places, marks = directory
    lengths = np.diff(touches.begins).tolist()
    encode = msgspec.msgpack.Encoder().encode
    for number, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        shared, own = records.of(number)
        shared_touch, own_touches = touched.of(number)
        rest = iter(own_touches)
        each = [
            encode((values, list(itertools.islice(rest, length))))
            for values, length in zip(own, lengths[start:end], strict=True)
        ]
        yield Block(
            indexes[start:end], times[start:end], places[start:end], marks[start:end],
            encode((shared, shared_touch, each)),
        )  # fmt: skip


class _Shared:
    """What `blocks` of rows have in common, as `blocks._shared` tells it of one."""

    def __init__(self, columns: Sequence[Column], starts: NDArray[np.intp], ends: NDArray[np.intp]) -> None:
        self.starts, self.ends = starts.tolist(), ends.tolist()
        self.width = len(columns)
        self.constant: list[Any] = [None] * self.width
        self.varying: list[tuple[int, list[bool], list[Any]]] = []
        filled = np.flatnonzero(ends > starts)
        for place, column in enumerate(columns):
            if not len(filled) or column.numbers.min() == column.numbers.max():
                self.constant[place] = column.values[column.numbers[0]] if len(filled) else None
                continue
            is_one = np.zeros(len(starts), bool)
            # Blocks lie one behind the other, so that each reaches to the next that has rows.
            is_one[filled] = np.minimum.reduceat(column.numbers, starts[filled]) == np.maximum.reduceat(
                column.numbers, starts[filled]
            )
            self.varying.append((place, is_one.tolist(), column.rows()))

    def of(self, number: int) -> tuple[tuple[list[Any], list[int]], list[Any]]:
        """What all rows of this block have (None in the place of others) with the places of the others, and those of each row."""
        start, end = self.starts[number], self.ends[number]
        if start == end:
            return ([], []), []
        constant, places, own = self.constant.copy(), list[int](), list[list[Any]]()
        for place, is_one, rows in self.varying:
            if is_one[number]:
                constant[place] = rows[start]
            else:
                places.append(place)
                own.append(rows[start:end])
        return (constant, places), list(zip(*own, strict=True)) or [()] * (end - start)


def _columns(layout: Layout, part: pa.Table, touches: Touches) -> list[Column]:
    """What is written of each column, that behind the last included."""
    at = _times(part["occurred_at"])
    at = np.where(at == NO_TIME, 0, at)
    told, begun = _ids(part["event_id"], at)
    redacted = _column(part["redacted"])
    made: dict[str, Callable[[], Column]] = {
        "event_id": lambda: told,
        "received_at": lambda: _beside(_numbers(part["received_at"]), at),
        "attribution_index": lambda: _beside(part["attribution_index"], part["index"].to_numpy()),
        "statement": lambda: _statements(_column(part["statement"]), redacted),
        "redacted": lambda: redacted,
        "fingerprint": lambda: _printed(_column(part["fingerprint"])),
        **dict.fromkeys(("index", "occurred_at", "environment", "datasource"), lambda: _none(part.num_rows)),
    }
    for name in FOLLOWING:
        made[name] = functools.partial(_followed, name, part, touches)
    return [*(made[name]() if name in made else _column(part[name]) for name in layout.columns), begun]


def _none(count: int) -> Column:
    return Column(np.zeros(count, np.int64), [None])


def _column(column: pa.ChunkedArray | pa.Array) -> Column:
    """Any column of texts, numbers, truths, or lists of texts."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
    if array.null_count == len(array):
        return _none(len(array))
    if pa.types.is_list(array.type):
        return _lists(array)
    words = array if isinstance(array, pa.DictionaryArray) else array.dictionary_encode()
    numbers, values = words.indices, words.dictionary.to_numpy(zero_copy_only=False).tolist()
    if numbers.null_count:
        numbers = numbers.fill_null(len(values))
        values.append(None)
    return Column(numbers.to_numpy(zero_copy_only=False).astype(np.int64), values)


def _lists(array: pa.ListArray) -> Column:
    offsets = array.offsets.to_numpy()
    words = _column(array.values.slice(int(offsets[0]), int(offsets[-1] - offsets[0])))
    begins = (offsets[:-1] - offsets[0]).astype(np.int64)
    lengths = np.where(array.is_valid().to_numpy(zero_copy_only=False), np.diff(offsets), -1).astype(np.int64)
    # First by length, then word by word.
    numbers, rest, step = lengths.copy(), np.flatnonzero(lengths > 0), 0
    while len(rest):
        told = dense_as_met(numbers[rest] * len(words.values) + words.numbers[begins[rest] + step])
        numbers[rest] = told + numbers.max() + 1
        step += 1
        rest = rest[lengths[rest] > step]
    numbers = dense_as_met(numbers)
    one = np.empty(int(numbers.max()) + 1, np.int64)
    one[numbers] = np.arange(len(numbers))
    rows, bounds = words.rows(), zip(begins[one].tolist(), lengths[one].tolist(), strict=True)
    return Column(numbers, [None if length < 0 else rows[begin : begin + length] for begin, length in bounds])


def _numbered(rows: Sequence[Any]) -> tuple[NDArray[np.int64], list[Any]]:
    """A number for each of these, equal ones the same."""
    known: dict[Any, int] = {}
    numbers = np.array([known.setdefault(row, len(known)) for row in rows], np.int64)
    return numbers, list(known)


def _times(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """In microseconds; `NO_TIME` where there is none."""
    return np.asarray(_numbers(column).fill_null(NO_TIME).to_numpy(), np.int64)


def _numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", column.type.tz))
    return column.cast(pa.int64())


def _beside(column: pa.ChunkedArray, base: NDArray[np.int64]) -> Column:
    """How much greater these are."""
    held = column.is_null().to_numpy()
    return _column(pa.array(column.fill_null(0).to_numpy() - base, mask=held))


def _ids(column: pa.ChunkedArray, at: NDArray[np.int64]) -> tuple[Column, Column]:
    """Ids without the time in front of them, and by how many milliseconds that is another than the record's."""
    names = column.combine_chunks()
    names = names.chunk(0) if isinstance(names, pa.ChunkedArray) else names
    told = _hexadecimal(names)
    if told is None:
        rows = [named_id(name, moment) for name, moment in zip(names.to_pylist(), at.tolist(), strict=True)]
        return Column(*_numbered([name for name, _ in rows])), Column(*_numbered([begun for _, begun in rows]))
    rest = pa.py_buffer(told[:, 6:].tobytes())
    begun = told[:, :6].astype(np.int64) @ (1 << np.arange(40, -8, -8))
    return _column(pa.Array.from_buffers(pa.binary(10), len(told), [None, rest])), _column(pa.array(begun - at // 1000))


def _hexadecimal(names: pa.Array) -> NDArray[np.uint8] | None:
    """The bytes of ids that all are UUIDs as `blocks.UUID` knows them; else None."""
    if not pa.types.is_string(names.type) or names.null_count or not len(names):
        return None
    _, ends, data = names.buffers()
    offsets = np.frombuffer(ends, np.int32)[names.offset : names.offset + len(names) + 1]
    if not (np.diff(offsets) == UUID_BYTES).all():
        return None
    letters = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]].reshape(-1, UUID_BYTES)
    digits = DIGITS[np.delete(letters, HYPHENS, axis=1)]
    if (letters[:, HYPHENS] != ord("-")).any() or (digits == 255).any():
        return None
    return np.asarray(digits[:, ::2] << 4 | digits[:, 1::2])


def _statements(statement: Column, redacted: Column) -> Column:
    """Statements as the literals in their redacted forms, each pair of both once."""
    both = statement.numbers * len(redacted.values) + redacted.numbers
    distinct, numbers = np.unique(both, return_inverse=True)
    values = [
        literals(statement.values[pair // len(redacted.values)], redacted.values[pair % len(redacted.values)])
        for pair in distinct.tolist()
    ]
    again, kept = _numbered([tuple(value) if isinstance(value, list) else value for value in values])
    return Column(again[numbers], kept)


def _printed(column: Column) -> Column:
    values = [
        bytes.fromhex(value) if isinstance(value, str) and FINGERPRINT.fullmatch(value) else value
        for value in column.values
    ]
    return Column(column.numbers, values)


def _touches(part: pa.Table, begins: NDArray[np.intp]) -> Touches:
    """Their columns as they are written."""
    columns = [_column(part[name]) for name in TOUCHED]
    keys, named, pairs = (columns[place] for place in (KEY, KEY_COLUMNS, PAIRS))
    # Few of them are different.
    both = (keys.numbers * len(named.values) + named.numbers) * len(pairs.values) + pairs.numbers
    _, first, again = np.unique(both, return_index=True, return_inverse=True)
    rows = zip(*(Column(column.numbers[first], column.values).rows() for column in (pairs, keys, named)), strict=True)
    is_same = np.array([told == pairs_of(key, name) for told, key, name in rows], bool)
    columns[PAIRS] = _without(pairs, is_same[again])
    return Touches(columns, begins)


def _without(column: Column, is_same: NDArray[np.bool_]) -> Column:
    """`SAME` in the place of these."""
    return Column(np.where(is_same, len(column.values), column.numbers), [*column.values, SAME])


def _followed(name: str, part: pa.Table, touches: Touches) -> Column:
    """A column that mostly says what the touches say."""
    column, (source, rule) = _column(part[name]), FOLLOWING[name]
    said, counts = touches.columns[source], np.diff(touches.begins)
    # What one touch says is asked once of each value.
    known = {tuple(value): number for number, value in enumerate(column.values) if value is not None}
    told = np.full(len(counts), known.get(tuple(rule([])), -1))
    alone = np.array([known.get(tuple(rule([value])), -1) for value in said.values], np.int64)
    told[counts == 1] = alone[said.numbers[touches.begins[:-1][counts == 1]]]
    is_same = column.numbers == told
    for place in np.flatnonzero(counts > 1).tolist():
        several = said.numbers[touches.begins[place] : touches.begins[place + 1]].tolist()
        is_same[place] = column.values[column.numbers[place]] == rule([said.values[number] for number in several])
    return _without(column, is_same)
