"""Numbers for values of many columns together, so that rows are told apart and added up as arrays. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

DENSE = 1 << 40
NEAR = 1 << 14


class Numbers:
    """A number for each distinct value, in their order."""

    def __init__(self) -> None:
        self.of: dict[Any, int] = {}

    def __call__(self, value: Any) -> int:
        return self.of.setdefault(value, len(self.of))


def numbered(columns: Sequence[pa.Array], numbers: Numbers) -> NDArray[np.int64]:
    """The number of each row of these columns; only rows that differ are looked at in Python."""
    code, width = np.zeros(len(columns[0]), np.int64), 1
    for column in columns:
        words = column.dictionary_encode(null_encoding="encode")
        if width * len(words.dictionary) > DENSE:
            found, code = np.unique(code, return_inverse=True)
            width = len(found)
        code = code * len(words.dictionary) + words.indices.to_numpy()
        width *= len(words.dictionary)
    _, first, each = np.unique(code, return_index=True, return_inverse=True)
    rows = zip(*(column.take(pa.array(first)).to_pylist() for column in columns), strict=True)
    return np.array([numbers(row) for row in rows], np.int64)[each]


def met(columns: Sequence[pa.Array]) -> tuple[NDArray[np.int64], list[Any]]:
    """A number for each row of these columns, equal ones the same, as they are met first; and each of these rows."""
    code = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        words = column.dictionary_encode(null_encoding="encode")
        code = dense_as_met(code * len(words.dictionary) + words.indices.to_numpy())
    one = np.empty(int(code.max(initial=-1)) + 1, np.int64)
    one[code] = np.arange(len(code))
    return code, list(zip(*(column.take(pa.array(one)).to_pylist() for column in columns), strict=True))


def dense_as_met(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same told apart by smaller numbers, as they are met first."""
    return np.asarray(pa.array(numbers).dictionary_encode().indices.to_numpy(), np.int64)


def distinct(columns: Sequence[NDArray[Any]]) -> tuple[list[NDArray[Any]], NDArray[np.int64]]:
    """The distinct values of these columns together, and of each row the number of its own."""
    order = np.lexsort(columns)
    ordered = [column[order] for column in columns]
    is_new = np.zeros(len(order), bool)
    is_new[:1] = True
    for column in ordered:
        is_new[1:] |= column[1:] != column[:-1]
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.cumsum(is_new) - 1
    return [column[is_new] for column in ordered], numbers


def dense(numbers: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """These numbers, each once and ascending, and which of them each is. They are not sorted where they lie near each other."""
    least = int(numbers.min()) if len(numbers) else 0
    reach = int(numbers.max()) - least + 1 if len(numbers) else 0
    if reach > 4 * len(numbers) + NEAR:
        named, again = np.unique(numbers, return_inverse=True)
        return named, again
    is_there = np.zeros(reach, bool)
    is_there[numbers - least] = True
    return np.flatnonzero(is_there) + least, (np.cumsum(is_there) - 1)[numbers - least]
