"""Making the next extract: what is sealed and not extracted yet, and earlier records that newer facts changed.

Call under `locks.alone(locks.EXTRACT)`. The manifest's commit is what makes it so; killed before, nothing happened.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lineage import engine, reported, segments
from lineage.engine import Question
from lineage.extracts import OVERRIDES, RECORDS, Extract, Making, basis, fresh, opening, postings, reading, storing
from lineage.extracts.companions import COMPANIONS
from lineage.rowgroups import Writer

RANGE_MOST = 100_000
"""Records of one; merging puts them together."""
SECONDS_MOST = 86_400.0
_numbers = itertools.count()


def make() -> tuple[int, int] | None:
    """(first index, next index) of the extract that was made; None where nothing is due, or where a proxy tells of sessions."""
    while True:
        with contextlib.suppress(storing.Changed):
            return _make_once()


def _make_once() -> tuple[int, int] | None:
    snap = engine.snapshot(unsealed_most=0)
    made_of = basis.of(snap.context_roles)
    usable = _usable(made_of)
    first = usable[-1].following if usable else 0
    following = min(snap.sealed_to, first + RANGE_MOST)
    if following <= first:
        return None
    storing.sweep_alone()
    with Question(snap, following, joined=False, seconds=SECONDS_MOST) as question:
        try:
            name, files = _written(question, usable, first, following)
        except fresh.Proxied:
            return None
        except postings.Damaged:
            # Derived, and so made anew.
            storing.leave()
            raise storing.Changed from None
    storing.publish(Extract(name, first, following, made_of, files), snap.erased_at)
    return first, following


def _usable(made_of: str) -> Sequence[Extract]:
    """The extracts that the next one continues; those behind, of another basis or without their files, are left."""
    every = storing.manifest()
    usable = reading.there(reading.prefixes(every, made_of))
    if len(usable) < len(every):
        storing.leave(every[len(usable)].first)
    return usable


def _written(question: Question, usable: Sequence[Extract], first: int, following: int) -> tuple[str, dict[str, Any]]:
    """A new folder and its files."""
    with drafted() as (name, draft), schema(question) as place:
        told = opening.newer(
            question.cursor, f"{place}_newer", question.here.joins, question.snapshot, usable, following
        )
        _write(question, draft / RECORDS, f"from {told.relation} where index >= {first}")
        if len(told.stale):
            changed = f"select *, {first}::bigint as extract from {told.relation} where index < {first}"  # noqa: S608
            _write(question, draft / OVERRIDES, changed)
            question.cursor.execute(reported.enter(place))
            reading.stored(question.cursor, usable)
            question.cursor.register("given_stale", pa.table({"index": told.stale}))
            question.cursor.execute("create view replaced as select * from stored semi join given_stale using (index)")
        question.cursor.execute(f"create or replace temp view made_keys as from {told.keys}")
        earlier = tuple(reading.folder(one.folder) for one in usable)
        for companion in COMPANIONS:
            companion.write(prepared(question, draft, first, following, earlier=earlier))
    return name, described(name)


@contextlib.contextmanager
def drafted() -> Iterator[tuple[str, Path]]:
    """A new folder's name and the place where it is written; it is kept when the block comes to its end."""
    place, name = segments.extracts(), storing.new_name()
    draft = place.draft(name)
    try:
        yield name, draft
        place.keep(name)
    except BaseException:
        place.discard(name)
        raise


def described(name: str) -> dict[str, Any]:
    """What the manifest says of the files in this folder."""
    return {path.name: segments.described(path) for path in sorted(reading.folder(name).iterdir())}


@contextlib.contextmanager
def schema(question: Question) -> Iterator[str]:
    """A schema of its own for the tables that are needed meanwhile."""
    name = f"extracting_{next(_numbers)}"
    question.cursor.execute(f"create schema {name}; {reported.enter(name)}")
    try:
        yield name
    finally:
        with contextlib.closing(question.here.database.cursor()) as own:
            own.execute(f"drop schema if exists {name} cascade; {fresh.drop(f'{name}_newer')}")


def _write(question: Question, path: Path, sql: str) -> None:
    """These rows by index: mostly they were joined in this order, and are sorted only where they were not."""
    if not _is_written(question, path, sql):
        _is_written(question, path, f"{sql} order by index")


def _is_written(question: Question, path: Path, sql: str) -> bool:
    """Whether the rows came in order; the file is whole only then."""
    parts = question.batches(sql)
    schema: pa.Schema = next(parts).schema
    last = -1
    with Writer(path, schema) as file:
        for part in parts:
            indexes = part["index"].to_numpy()
            if (np.diff(indexes, prepend=last) <= 0).any():
                return False
            last = int(indexes[-1])
            file.add(part)
    return True


def prepared(question: Question, draft: Path, first: int, following: int, **more: Any) -> Making:
    """What companions are made of, with the views that they may ask."""
    records, overrides = draft / RECORDS, draft / OVERRIDES
    rows = f"select * from read_parquet('{records}')"  # noqa: S608 - our own files, as below
    touches = f"select * from raw_touches where index >= {first} and index < {following}"  # noqa: S608
    if overrides.exists():
        earlier = f"read_parquet('{overrides}')"
        rows += f" union all select * exclude (extract) from {earlier}"  # noqa: S608
        touches += (
            f" union all select * from raw_touches where index < {first} and index in (select index from {earlier})"  # noqa: S608
        )
    question.cursor.execute(f"create or replace temp view made as {rows}")
    question.cursor.execute(f"create or replace temp view made_touches as {touches}")
    return Making(draft, first, following, question.cursor, records, overrides if overrides.exists() else None, **more)
