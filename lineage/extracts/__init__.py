"""Extracts: records with what they are joined with, in files that a question opens instead of the log (docs/extracts.md).

Each is made of a contiguous range of sealed records, together with earlier ones that newer facts changed. They are derived,
may be missing at any time, and are never part of what is signed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Indexes = npt.NDArray[np.int64]
RECORDS, OVERRIDES = "records.parquet", "overrides.parquet"


class Cursor(Protocol):
    """What is used of a DuckDB cursor; `lineage.engine` has them."""

    def execute(self, query: str, parameters: Any = ..., /) -> Any: ...
    def sql(self, query: str, /) -> Any: ...
    def register(self, name: str, table: object, /) -> Any: ...


class Extract(NamedTuple):
    """One row of the manifest. Together with those before it, it has what the log of size `following` says of the records below."""

    folder: str
    first: int
    following: int
    basis: str
    files: dict[str, dict[str, Any]]

    @property
    def size(self) -> int:
        return self.following - self.first


class Making(NamedTuple):
    """An extract whose `records` and `overrides` are written, and whose companions are to be: into `folder`, durably.

    `cursor` has the views `made` (the rows of both files, each index once, columns of `resolved`), `made_touches` (the touches
    of these records, columns of `projections.TOUCHES`), `made_keys` (their part of `fresh.Fresh.keys`) and `replaced` (the rows of
    the overridden records as extracts had them until now); `earlier` are the folders of the extracts before it. Where it is merged
    of `parts`, in their order, `dropped` are for each part the indexes, ascending, that a later part has anew, and none of
    `made_keys`, `replaced` and `earlier` is there.
    """

    folder: Path
    first: int
    following: int
    cursor: Cursor
    records: Path
    overrides: Path | None
    parts: tuple[Path, ...] = ()
    dropped: tuple[Indexes, ...] = ()
    earlier: tuple[Path, ...] = ()
