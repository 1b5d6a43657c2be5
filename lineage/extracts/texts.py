"""Records whose statement has some words, over all extracts and what is newer: of one column of their files, without views."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from lineage.extracts import Cursor, Indexes
from lineage.extracts.filed import Filed
from lineage.extracts.layers import Mask
from lineage.extracts.listing import Range
from lineage.extracts.looking import Held, Seen
from lineage.extracts.postings import NOTHING, among

HAS = "contains(lower(statement), lower(?))"
"""As `text:` asks it of `activity`."""


def newest(
    cursor: Cursor,
    layers: Sequence[Seen],
    masks: Callable[[Seen], Mask],
    words: Sequence[str],
    some: Iterable[Range],
    most: int,
) -> Indexes:
    """At least the newest `most` with all of these words, where there are so many, the newest first; each is in some range."""
    asked = [(layer, masks(layer)) for layer in layers]
    chosen, count = [NOTHING], 0
    for start, end in some:
        if count >= most:
            break
        found = np.unique(np.concatenate([NOTHING, *(_kept(cursor, *one, words, (start, end)) for one in asked)]))
        chosen.append(found[::-1])
        count += len(found)
    return np.concatenate(chosen)


def _kept(cursor: Cursor, layer: Seen, mask: Mask, words: Sequence[str], within: Range) -> Indexes:
    """Those that count in this layer and are asked for."""
    has = " and ".join([f"index >= {within[0]}", f"index < {within[1]}", *[HAS] * len(words)])
    parts = [f"select index from {relation} where {has}" for relation in _relations(cursor, layer, within)]  # noqa: S608 - our own names
    if not parts:
        return NOTHING
    found = cursor.execute(" union all ".join(parts), [*words] * len(parts)).fetchnumpy()
    indexes = np.sort(np.asarray(found["index"], np.int64))
    there = layer.directory(indexes[~among(indexes, layer.hidden)])
    return np.asarray(there.indexes[mask(there)])


def _relations(cursor: Cursor, layer: Seen, within: Range) -> Iterator[str]:
    """Where the records of a layer lie, as far as some of them lie in this range."""
    of = layer.of
    if isinstance(of, Held):
        yield f"({of.rows})"
    elif not isinstance(of, Filed):
        if layer.statements is not None and len(layer.between(*within).indexes):
            cursor.register("given_statements", layer.statements())
            yield "given_statements"
    else:
        for path, first, last in of.spans:
            if first < within[1] and last >= within[0]:
                yield f"read_parquet('{path}')"
