"""When and where sessions of a database, or of somebody, began, in all of some files; kept for what was asked last."""

from __future__ import annotations

import collections
import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from lineage.extracts import Indexes
from lineage.extracts.beginnings import BY_INDEX, Begun
from lineage.extracts.blocks import Place
from lineage.extracts.cards import Directory
from lineage.extracts.postings import NOTHING, Damaged, Hashes, Postings

KEPT_MOST = 1 << 18
"""So many beginnings are kept, of 41 bytes each; a term of which there is none counts as one."""


class File(Protocol):
    @property
    def places(self) -> list[Place]: ...
    @property
    def postings(self) -> Mapping[str, Postings]: ...
    @property
    def begun(self) -> Begun: ...
    def directory(self, indexes: Indexes) -> Directory: ...


class Some(NamedTuple):
    """Beginnings: the number of the file, the session, and what the directory says of the record, with places by `Began`."""

    files: Indexes
    sessions: Hashes
    there: Directory


NONE = Some(NOTHING, np.empty(0, np.uint64), Directory(NOTHING, NOTHING, NOTHING, NOTHING))


def together(some: Sequence[Some]) -> Some:
    """All of these, one behind the other."""
    files, sessions, there = zip(*(some or [NONE]), strict=True)
    columns = (np.concatenate(column) for column in zip(*there, strict=True))
    return Some(np.concatenate(files), np.concatenate(sessions), Directory(*columns))


class Began:
    """Of these files, which never change."""

    def __init__(self, files: Sequence[File]) -> None:
        self.files = list(files)
        numbers: dict[Place, int] = {}
        self.numbers = [
            np.array([numbers.setdefault(place, len(numbers)) for place in file.places], np.int64) for file in files
        ]
        self.places = list(numbers)
        self.lock = threading.Lock()
        self.kept: collections.OrderedDict[int, Some] = collections.OrderedDict()
        self.size = 0

    def of(self, hashes: Sequence[int]) -> list[Some]:
        """For each of these terms of beginnings those that have it. Raises Damaged."""
        with self.lock:
            if missing := [term for term in dict.fromkeys(hashes) if term not in self.kept]:
                for term, some in self._read(missing).items():
                    self.kept[term] = some
                    self.size += len(some.files) or 1
            found = [self.kept[term] for term in hashes]
            for term in hashes:
                self.kept.move_to_end(term)
            while self.size > KEPT_MOST:
                self.size -= len(self.kept.popitem(last=False)[1].files) or 1
        return found

    def _read(self, terms: Sequence[int]) -> dict[int, Some]:
        parts: dict[int, list[Some]] = {term: [] for term in terms}
        asked = np.array(terms, np.uint64)
        for number, file in enumerate(self.files):
            posted = file.postings[BY_INDEX]
            for at, begin, end in posted.spans(asked):
                records = posted.at(begin, end)
                there = file.directory(records)
                if len(there.indexes) != len(records):
                    raise Damaged("Postings tell of records that have no card.")
                there = there._replace(places=self.numbers[number][there.places])
                parts[terms[at]].append(Some(np.full(len(records), number), file.begun.of(records), there))
        return {term: together(some) if some else NONE for term, some in parts.items()}
