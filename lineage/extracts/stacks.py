"""Cards of several files put together in one. Blocks that nothing changes are only compressed anew. Pure but for the files."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lineage.extracts import Indexes, cards
from lineage.extracts.cards import BLOCK, SAMPLE, Block, Card, Cards, Places
from lineage.extracts.postings import NOTHING, among

SMALL = BLOCK // 2
"""Blocks of fewer records are put together with their neighbours."""


class Loose(NamedTuple):
    """Records whose blocks are packed anew, by index: the file and place of each."""

    indexes: Indexes
    files: Indexes
    places: Indexes


def merged(path: Path, parts: Sequence[Path], dropped: Sequence[Indexes | None] | None = None) -> None:
    """Writes one file of several, without these (ascending) indexes of each; no index is left in two of them.

    What is in memory at a time goes by the records' number, some 50 bytes each, and not by what they hold.
    """
    files = [Cards(part) for part in parts]
    lost = [NOTHING if each is None else each for each in dropped or [None] * len(files)]
    places = Places()
    blocks = _together(files, lost, places)
    cards.write_blocks(path, files[0].columns, places, blocks, cards.trained(_samples(files)))


def _samples(files: Sequence[Cards]) -> list[bytes]:
    ends = np.cumsum([len(file.begins) - 1 for file in files])
    chosen = np.arange(0, ends[-1], ends[-1] // SAMPLE + 1)
    owners = np.searchsorted(ends, chosen, side="right")
    every = [
        file.packed(chosen[owners == number] - ends[number] + len(file.begins) - 1) for number, file in enumerate(files)
    ]
    return [*itertools.chain(*every)]


def _together(files: Sequence[Cards], lost: Sequence[Indexes], places: Places) -> Iterator[Block]:
    """All blocks in the order of their indexes."""
    kept = [_unchanged(files, number, gone) for number, gone in enumerate(lost)]
    loose = _loose(files, kept, lost)
    firsts = [_ends(file)[0][numbers] for file, numbers in zip(files, kept, strict=True)]
    first = np.concatenate([NOTHING, *firsts])
    holders = np.repeat(np.arange(len(files)), [len(each) for each in kept])
    order = np.argsort(first)
    unchanged = [file.blocks(numbers, places) for file, numbers in zip(files, kept, strict=True)]
    ends = np.searchsorted(loose.indexes, first[order])
    done = 0
    for holder, upto in zip(holders[order].tolist(), ends.tolist(), strict=True):
        yield from _anew(files, Loose(*(column[done:upto] for column in loose)), places)
        yield next(unchanged[holder])
        done = upto
    yield from _anew(files, Loose(*(column[done:] for column in loose)), places)


def _ends(file: Cards) -> tuple[Indexes, Indexes]:
    """The first and the last index of each block."""
    begins = file.begins.astype(np.int64)
    if file.is_whole:
        return begins[:-1] + file.least, begins[1:] - 1 + file.least
    offsets = file.offsets.astype(np.int64) + file.least
    return offsets[begins[:-1]], offsets[begins[1:] - 1]


def _unchanged(files: Sequence[Cards], number: int, gone: Indexes) -> NDArray[np.intp]:
    """The blocks of this file that are taken as they are: large enough, nothing is dropped, nothing comes in between."""
    file = files[number]
    first, last = _ends(file)
    changed = np.diff(file.begins.astype(np.int64)) < SMALL
    positions = file.positions(gone)
    changed[np.searchsorted(file.begins, positions[positions >= 0], side="right") - 1] = True
    for other in (*files[:number], *files[number + 1 :]):
        changed |= _before(other, last + 1) > _before(other, first)
    return np.flatnonzero(~changed)


def _before(file: Cards, bounds: Indexes) -> Indexes:
    """How many of the file's records have a smaller index."""
    within = np.clip(bounds - file.least, 0, 1 << 32)
    if file.is_whole:
        return np.minimum(within, file.count)
    found: Indexes = np.searchsorted(file.offsets.astype(np.int64), within)
    return found


def _loose(files: Sequence[Cards], kept: Sequence[NDArray[np.intp]], lost: Sequence[Indexes]) -> Loose:
    found = [Loose(NOTHING, NOTHING, NOTHING)]
    for number, (file, unchanged, gone) in enumerate(zip(files, kept, lost, strict=True)):
        of = np.repeat(np.arange(len(file.begins) - 1), file.begins[1:] - file.begins[:-1])
        places = np.flatnonzero(~np.isin(of, unchanged))
        indexes = file.indexes(0, file.count)[places]
        stays = ~among(indexes, gone)
        places = places[stays]
        found.append(Loose(indexes[stays], np.full(len(places), number), places))
    loose = Loose(*(np.concatenate(column) for column in zip(*found, strict=True)))
    order = np.argsort(loose.indexes, kind="stable")
    return Loose(*(column[order] for column in loose))


def _anew(files: Sequence[Cards], loose: Loose, places: Places) -> Iterator[Block]:
    """Blocks of these records, about equally large."""
    if len(loose.indexes):
        for some in np.array_split(np.arange(len(loose.indexes)), -(-len(loose.indexes) // BLOCK)):
            yield cards.packed(files[0].layout, places, _read(files, Loose(*(column[some] for column in loose))))


def _read(files: Sequence[Cards], loose: Loose) -> list[Card]:
    """These cards, by index."""
    found = [
        card
        for number in np.unique(loose.files).tolist()
        for card in files[number].cards(loose.places[loose.files == number])
    ]
    return sorted(found, key=lambda card: card.record)
