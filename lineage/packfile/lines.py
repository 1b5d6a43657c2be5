"""The members of a pack that grow with its records, read line by line where they lie: of each line its place alone is held."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar, overload

from lineage.archive import Stored
from lineage.errors import PackInvalid
from lineage.events import Group
from lineage.packfile.content import Disclosure

_T = TypeVar("_T")


class Lines(Sequence[_T]):
    """The lines of a member, each made into what `made` makes of it when it is asked for.

    PackInvalid: the last one does not end.
    """

    def __init__(self, name: str, member: Stored, made: Callable[[bytes], _T]) -> None:
        self.member, self.made = member, made
        self.ends = array("Q", _ends(member))
        if member.length and (not self.ends or self.ends[-1] != member.length):
            raise PackInvalid(f"{name} does not end with a newline.")

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, place: int) -> _T: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[_T]: ...
    def __getitem__(self, place: int | slice) -> _T | Sequence[_T]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        place = range(len(self))[place]
        start = self.ends[place - 1] if place else 0
        return self.made(self.member.read(start, self.ends[place] - start - 1))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def _ends(member: Stored) -> Iterator[int]:
    """Where each line ends, its newline included."""
    before = 0
    for part in member.parts():
        at = part.find(b"\n") + 1
        while at:
            yield before + at
            at = part.find(b"\n", at) + 1
        before += len(part)


class Leaves(Mapping[int, bytes]):
    """The exact bytes of each leaf by its index, in order. `indexes` ascend, one for each line."""

    def __init__(self, indexes: Sequence[int], lines: Lines[bytes]) -> None:
        self.indexes, self.lines = indexes, lines

    def __getitem__(self, index: int) -> bytes:
        return self.lines[place_of(self.indexes, index)]

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int) and is_of(self.indexes, index)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indexes)

    def __len__(self) -> int:
        return len(self.indexes)


class Disclosures(Mapping[int, Mapping[Group, Disclosure]]):
    """What is shown of each selected record: `told` is for each line (place among the selected, place in the file), ascending."""

    def __init__(
        self, selected: Sequence[int], told: Sequence[tuple[int, int]], lines: Lines[tuple[Group, Disclosure]]
    ) -> None:
        self.selected, self.lines = selected, lines
        self.of, self.places = array("Q", (of for of, _ in told)), array("Q", (place for _, place in told))
        self._newest: tuple[int, Mapping[Group, Disclosure]] = (-1, {})

    def __getitem__(self, index: int) -> Mapping[Group, Disclosure]:
        if self._newest[0] != index:
            of = place_of(self.selected, index)
            places = self.places[bisect_left(self.of, of) : bisect_left(self.of, of + 1)]
            self._newest = index, dict(self.lines[place] for place in places)
        return self._newest[1]

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int) and is_of(self.selected, index)

    def __iter__(self) -> Iterator[int]:
        return iter(self.selected)

    def __len__(self) -> int:
        return len(self.selected)


def is_of(indexes: Sequence[int], index: int) -> bool:
    """Whether an index is one of these, which ascend."""
    if isinstance(indexes, range):
        return index in indexes
    place = bisect_left(indexes, index)
    return place < len(indexes) and indexes[place] == index


def place_of(indexes: Sequence[int], index: int) -> int:
    """The place of an index among these, which ascend. Raises KeyError where it is none of them."""
    if not is_of(indexes, index):
        raise KeyError(index)
    return index - indexes[0] if isinstance(indexes, range) else bisect_left(indexes, index)
