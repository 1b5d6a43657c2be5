"""A test's answer in the file that is attached: one row for each item, in order of time.

A test can find half a million items, each with its statement: what is asked of all of them is asked of few columns or with SQL,
and rows are read a row group at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

Item = dict[str, Any]


class Items:
    """The answer of one test."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def schema(self) -> pa.Schema:
        return pq.read_schema(self.path)

    def parts(self, *names: str) -> Iterator[pa.Table]:
        """These columns of all items as far as the answer has them (all), a row group at a time."""
        chosen = [name for name in names if name in self.schema.names] if names else None
        with pq.ParquetFile(self.path) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, columns=chosen)

    def first(self, most: int) -> list[Item]:
        """The first items, as rows."""
        return self._rows(lambda part: part, most)

    def deviating(self, most: int) -> list[Item]:
        """The first of those that deviate."""
        return self._rows(lambda part: part.filter(deviate(part)), most)

    def named(self, items: Collection[str]) -> list[Item]:
        """Those with one of these names."""
        wanted = pa.array(list(items), pa.string())
        found: list[Item] = []
        with pq.ParquetFile(self.path) as file:
            for group in range(file.num_row_groups):
                here = pc.is_in(file.read_row_group(group, columns=["item"])["item"], wanted)
                # Few are asked for as a rule: no more is read of groups that have none.
                if pc.any(here).as_py():
                    found += file.read_row_group(group).filter(here).to_pylist()
        return found

    def _rows(self, chosen: Callable[[pa.Table], pa.Table], most: int | None = None) -> list[Item]:
        found: list[Item] = []
        for part in self.parts():
            left = None if most is None else most - len(found)
            if left == 0:
                break
            found += chosen(part).slice(0, left).to_pylist()
        return found


def deviate(table: pa.Table) -> pa.ChunkedArray:
    """Of each item whether it deviates."""
    return pc.greater(pc.list_value_length(table["deviations"]), 0)
