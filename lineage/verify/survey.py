"""One look at all leaves of a range, in order: how many match the filter over headers, and the counts to compare."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import msgspec

from lineage import merkle, notes, packfile
from lineage.commitment import Leaf, parse_leaf
from lineage.errors import PackInvalid
from lineage.events import Count, HeaderCount
from lineage.notes.checkpoints import decimal

LINE_MOST = 2**20

Pair = tuple[str | None, str | None]


@dataclass(frozen=True)
class Commitment:
    """What the record at `index` says of the leaves `first` to `last`: how many name each source and class."""

    index: int
    first: int
    last: int
    counts: Counter[Pair]


class Survey:
    """All leaves of a range, looked at once, in order: how many match the filter, and the counts to compare."""

    def __init__(self, headers: packfile.Headers, commitments: Sequence[Commitment], first: int, last: int) -> None:
        self.headers, self.first, self.last, self.matching = headers, first, last, 0
        self.inside = [each for each in commitments if first <= each.first and each.last <= last]
        self.counted = {each.index: Counter[Pair]() for each in self.inside}
        self._waiting = sorted(self.inside, key=lambda each: -each.first)
        self._open: list[Commitment] = []

    def look(self, leaves: Mapping[int, Leaf]) -> Survey:
        """Looks at all leaves of the range."""
        for index, leaf in leaves.items():
            self._look(index, leaf)
        return self

    def _look(self, index: int, leaf: Leaf) -> None:
        self.matching += matches(leaf, self.headers)
        while self._waiting and self._waiting[-1].first <= index:
            self._open.append(self._waiting.pop())
        for each in self._open:
            self.counted[each.index][leaf.source_id, leaf.class_] += 1
        if self._open:
            self._open = [each for each in self._open if each.last > index]

    def read(self, said: packfile.Detached, file: BinaryIO, point: notes.Checkpoint) -> Survey:
        """Looks at the leaves of a file, of which few are held at a time.

        PackInvalid, ProofInvalid, OutsideProfile: they are not those that the pack speaks of.
        """
        sha256, length = hashlib.sha256(), 0

        def hashes() -> Iterator[bytes]:
            nonlocal length
            for index in range(said.first, said.last + 1):
                line = file.readline(LINE_MOST)
                sha256.update(line)
                length += len(line)
                if not line.endswith(b"\n"):
                    raise PackInvalid("The file of leaves ends too early, or a line in it is too long.")
                self._look(index, parse_leaf(line[:-1]))
                yield merkle.leaf_hash(line[:-1])

        file.seek(0)
        merkle.verify_range(hashes(), said.first, said.last + 1, point.size, said.proof, point.root)
        if file.read(1) or (length, sha256.hexdigest()) != (said.length, said.sha256):
            raise PackInvalid("The file of leaves is not the one that the pack names: length or SHA-256 differ.")
        return self


def matches(leaf: Leaf, headers: packfile.Headers) -> bool:
    """Whether a leaf meets every condition of the filter."""
    listed = ((leaf.kind, headers.kind), (leaf.class_, headers.class_), (leaf.source_id, headers.source_id))
    timed = (
        (leaf.occurred_at or leaf.received_at, headers.occurred_from, headers.occurred_until),
        (leaf.received_at, headers.received_from, headers.received_until),
    )
    return all(not allowed or value in allowed for value, allowed in listed) and all(
        _within(value, low, high) for value, low, high in timed
    )


def _within(value: str | None, low: str | None, high: str | None) -> bool:
    """Whether a time lies in [low, high); all have the same text form, so text order is time order."""
    if low is None and high is None:
        return True
    return value is not None and (low is None or value >= low) and (high is None or value < high)


class _Custody(msgspec.Struct):
    first: str
    last: str
    count: Count
    counts: list[HeaderCount]


def read_commitment(index: int, custody: object) -> Commitment:
    """The commitment that a custody group's fields hold; PackInvalid if they do not follow its form."""
    try:
        said = msgspec.convert(custody, _Custody)
    except msgspec.ValidationError as error:
        raise PackInvalid(f"Record {index} does not follow the form of a count commitment.") from error
    pairs = Counter[Pair]({(each.source_id, each.class_): each.count for each in said.counts})
    first, last = decimal(said.first), decimal(said.last)
    if len(pairs) != len(said.counts) or said.count != pairs.total() or first > last:
        raise PackInvalid(f"Record {index} does not follow the form of a count commitment.")
    return Commitment(index, first, last, pairs)
