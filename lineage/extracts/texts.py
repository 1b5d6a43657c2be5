"""Records whose statement has some words, over all extracts and what is newer, without views: statements lie folded in extracts."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from lineage.extracts import Cursor, Indexes
from lineage.extracts.filed import Filed
from lineage.extracts.folded import STRETCH, Words
from lineage.extracts.layers import Mask
from lineage.extracts.listing import Range
from lineage.extracts.looking import Held, Seen
from lineage.extracts.postings import NOTHING, among

HAS = "contains(lower(statement), lower(?))"
"""As `text:` asks it of `activity`."""
Open = Callable[[], Cursor]


def newest(
    cursor: Open,
    layers: Sequence[Seen],
    masks: Callable[[Seen], Mask],
    words: Sequence[str],
    some: Iterable[Range],
    most: int,
) -> Indexes:
    """At least the newest `most` with all of these words, where there are so many, the newest first; each is in some range."""
    files = [layer.of.folded for layer in layers if isinstance(layer.of, Filed)]
    asked, sought = [(layer, masks(layer)) for layer in layers], Words([_folded(cursor, word) for word in words])

    @functools.cache
    def of_stretch(number: int) -> Indexes:
        return np.concatenate([NOTHING, *(file.find(number, sought) for file in files)])

    chosen, count = [NOTHING], 0
    for start, end in some:
        if count >= most:
            break
        filed = [of_stretch(number) for number in range(start // STRETCH, -(-end // STRETCH))]
        has = np.unique(np.concatenate([NOTHING, *filed, *_newer(cursor, layers, words, (start, end))]))
        has = has[np.searchsorted(has, start) : np.searchsorted(has, end)]
        found = np.unique(np.concatenate([NOTHING, *(_counting(*one, has) for one in asked)]))
        chosen.append(found[::-1])
        count += len(found)
    return np.concatenate(chosen)


def _folded(cursor: Open, word: str) -> bytes:
    """As statements are folded: of other letters than ASCII's DuckDB tells."""
    told = word.lower() if word.isascii() else cursor().execute("select lower(?)", [word]).fetchall()[0][0]
    return str(told).encode()


def _counting(layer: Seen, mask: Mask, has: Indexes) -> Indexes:
    """Those that count in this layer and are asked for."""
    there = layer.directory(has[~among(has, layer.hidden)])
    return np.asarray(there.indexes[mask(there)])


def _newer(cursor: Open, layers: Sequence[Seen], words: Sequence[str], within: Range) -> Iterator[Indexes]:
    """What has the words of the records that are in no extract, beside others."""
    has = " and ".join([f"index >= {within[0]}", f"index < {within[1]}", *[HAS] * len(words)])
    for layer in layers:
        if isinstance(layer.of, Filed) or not len(layer.between(*within).indexes):
            continue
        relation = "given_statements"
        if isinstance(layer.of, Held):
            relation = f"({layer.of.rows})"
        elif layer.statements is not None:
            cursor().register(relation, layer.statements())
        else:
            continue
        found = cursor().execute(f"select index from {relation} where {has}", [*words])  # noqa: S608 - our own names
        yield np.asarray(found.fetchnumpy()["index"], np.int64)
