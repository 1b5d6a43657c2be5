"""What extracts together say of the records that they hold: of several rows of one record, that of the latest extract."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from django.conf import settings

from lineage.extracts import OVERRIDES, RECORDS, Cursor, Extract, Indexes, keys
from lineage.extracts.fresh import State

FEW = 64
"""So many indexes are named in the question itself: it then reads no more than it needs."""
NONE: Indexes = np.empty(0, np.int64)


def folder(name: str) -> Path:
    return Path(settings.DATA_DIR) / "extracts" / name


@functools.lru_cache(maxsize=1_000)
def listed(name: str, first: int, following: int, made_of: str, files: str) -> Extract:
    """One row of the manifest, as `snapshots.EXTRACTS` gives it."""
    return Extract(name, first, following, made_of, msgspec.json.decode(files))


def prefixes(every: Sequence[Extract], basis: str) -> tuple[Extract, ...]:
    """Those that can be used: of this basis, and one after the other from the first record on."""
    usable: list[Extract] = []
    for one in every:
        if one.basis != basis or one.first != (usable[-1].following if usable else 0):
            break
        usable.append(one)
    return tuple(usable)


def there(every: Sequence[Extract]) -> Sequence[Extract]:
    """Those up to the first of which a file is missing."""
    for number, one in enumerate(every):
        if not all((folder(one.folder) / name).exists() for name in one.files):
            return every[:number]
    return every


def state(every: Sequence[Extract]) -> State:
    """As `fresh.make` asks for it."""
    reached = every[-1].following if every else 0
    return State(reached, reached, [folder(one.folder) / keys.FILE for one in every])


def overridden(one: Extract) -> Indexes:
    """Indexes of the earlier records that it has anew, ascending."""
    return _overridden(folder(one.folder) / OVERRIDES) if OVERRIDES in one.files else NONE


@functools.lru_cache(maxsize=1_000)
def _overridden(path: Path) -> Indexes:
    """Names are never used again, and indexes are no one's data: they may be remembered."""
    found: Indexes = pq.read_table(path, columns=["index"])["index"].to_numpy()
    return found


def together(parts: Sequence[Indexes]) -> Indexes:
    """All of them, each once, ascending."""
    return np.unique(np.concatenate([NONE, *parts]))


def dropped(every: Sequence[Extract]) -> Iterator[Indexes]:
    """For each extract the indexes that a later one has anew."""
    for number, one in enumerate(every):
        later = together([overridden(each) for each in every[number + 1 :]])
        yield later[later < one.following]


def stored(cursor: Cursor, every: Sequence[Extract], stale: Indexes = NONE) -> None:
    """Makes, in the present schema, the view `stored`: each record below the end of the last extract that is not `stale`."""
    gone = together([stale, *map(overridden, every)])
    records = f"select * from {_files(every, RECORDS)}{_without(cursor, 'gone', gone)}"  # noqa: S608 - our own files
    with_some = [one for one in every if OVERRIDES in one.files]
    if not with_some:
        cursor.execute(f"create view stored as {records}")
        return
    again = [
        np.intersect1d(overridden(one), together([stale, later]))
        for one, later in zip(every, dropped(every), strict=True)
    ]
    pairs = pa.table({
        "index": np.concatenate([NONE, *again]),
        "extract": np.concatenate([NONE, *(np.full(len(some), one.first) for some, one in zip(again, every, strict=True))]),
    })  # fmt: skip
    cursor.register("given_again", pairs)
    cursor.execute("create table again as select * from given_again")
    cursor.execute(
        f"create view stored as {records} union all select * exclude (extract) from {_files(with_some, OVERRIDES)} "  # noqa: S608
        "anti join again using (index, extract)"
    )


def _files(every: Sequence[Extract], name: str) -> str:
    return f"read_parquet([{', '.join(repr(str(folder(one.folder) / name)) for one in every)}])"


def _without(cursor: Cursor, table: str, indexes: Indexes) -> str:
    if not len(indexes):
        return ""
    if len(indexes) <= FEW:
        return f" where index not in ({', '.join(map(str, indexes.tolist()))})"
    cursor.register("given_indexes", pa.table({"index": indexes}))
    cursor.execute(f"create table {table} as from given_indexes")
    return f" anti join {table} using (index)"
