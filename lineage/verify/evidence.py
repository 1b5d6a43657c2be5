"""What is judged: a pack in parts, with what the auditor brought."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO

from lineage import archive, merkle, notes, packfile
from lineage.commitment import Leaf, digest, parse_disclosure, parse_leaf
from lineage.errors import PackInvalid
from lineage.events import Group
from lineage.verify.survey import Commitment, Survey, read_commitment

OWN = "touchstone"
"""The source id of the store's own records."""
COUNTS = "count_commitment"


class _Parsed(Mapping[int, Leaf]):
    """Leaves that are parsed when they are asked for, those of `indexes`, which are among `leaves`; and behind them others."""

    def __init__(self, indexes: Collection[int], leaves: Mapping[int, bytes], others: Mapping[int, Leaf]) -> None:
        self.indexes, self.leaves, self.others = indexes, leaves, others
        self._newest: tuple[int, Leaf] | None = None

    def __getitem__(self, index: int) -> Leaf:
        if self._newest is None or self._newest[0] != index:
            self._newest = index, parse_leaf(self.leaves[index]) if index in self.indexes else self.others[index]
        return self._newest[1]

    def __contains__(self, index: object) -> bool:
        return index in self.indexes or index in self.others

    def __iter__(self) -> Iterator[int]:
        return itertools.chain(self.indexes, self.others)

    def __len__(self) -> int:
        return len(self.indexes) + len(self.others)


@dataclass(frozen=True)
class Evidence:
    """A pack in parts, the policy, receipts that the auditor holds, and the file of detached leaves where given."""

    content: packfile.PackContent
    members: Mapping[str, bytes | archive.Stored]
    policy: notes.Policy | None
    receipts: Sequence[str]
    detached: BinaryIO | None

    @cached_property
    def leaves(self) -> Mapping[int, Leaf]:
        """The pack's leaves parsed, by index; OutsideProfile at the first that does not follow the format."""
        for data in self.content.leaves.values():
            parse_leaf(data)
        return _Parsed(self.content.leaves, self.content.leaves, {})

    @cached_property
    def records(self) -> Mapping[int, Leaf]:
        """The leaves of the selected and the cited records."""
        cited = {index: parse_leaf(record.leaf) for index, record in self.content.cited.items()}
        return _Parsed(self.content.disclosures if self.leaves else (), self.content.leaves, cited)

    @cached_property
    def leaf_hashes(self) -> dict[int, bytes]:
        """The hashes of the pack's leaves by index, in order."""
        return {index: merkle.leaf_hash(data) for index, data in self.content.leaves.items()}

    @cached_property
    def checkpoint(self) -> notes.Checkpoint:
        """The covering checkpoint, as it stands; its signature is another check."""
        return notes.parse_checkpoint(notes.read_note(self.content.checkpoint).text)

    @cached_property
    def bounds(self) -> tuple[int, int]:
        """First and last index of the leaves that are shown, here or in the file beside the pack."""
        beside = self.content.detached
        return (beside.first, beside.last) if beside else (min(self.content.leaves), max(self.content.leaves))

    @property
    def last_selected(self) -> int:
        """The highest index that was asked for; of a range in which nothing matches, its end."""
        return self.content.selected[-1] if self.content.selected else self.bounds[1]

    @cached_property
    def commitments(self) -> list[Commitment]:
        """What count commitments among the selected and cited records say; PackInvalid: one does not follow its form."""
        own = [i for i, leaf in self.records.items() if (leaf.kind, leaf.source_id) == ("custody", OWN)]
        said = {index: self.fields(index, "action").get("custody") for index in own}
        counting = {i: each for i, each in said.items() if isinstance(each, dict) and each.get("type") == COUNTS}
        return [read_commitment(index, custody) for index, custody in counting.items()]

    @cached_property
    def survey(self) -> Survey | None:
        """The look at all leaves of the range; None where there is no range, or its file was not given."""
        survey, beside = Survey(self.content.headers, self.commitments, *self.bounds), self.content.detached
        if beside is not None:
            return survey.read(beside, self.detached, self.checkpoint) if self.detached else None
        return survey.look(self.leaves) if self.content.selection == "range" else None

    def groups(self, index: int) -> Mapping[Group, packfile.Disclosure]:
        """What is shown of a selected or cited record."""
        cited = self.content.cited.get(index)
        return self.content.disclosures[index] if cited is None else cited.disclosures

    def fields(self, index: int, group: Group) -> dict[str, Any]:
        """The fields of a group of a selected or cited record; none where it is not disclosed.

        PackInvalid, OutsideProfile: it is not what the leaf committed to.
        """
        shown = self.groups(index).get(group)
        if shown is None or shown.salt is None or shown.data is None:
            return {}
        if digest(shown.salt, shown.data) != self.records[index].groups.get(group):
            raise PackInvalid(f"Record {index}, group {group}: the bytes and salt do not give the digest in the leaf.")
        return parse_disclosure(group, shown.data)
