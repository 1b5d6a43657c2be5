"""What a pack holds, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from lineage.events import Group, Time

FORMAT = "touchstone-pack"
VERSION = 1

State = Literal["disclosed", "withheld", "erased"]
Selection = Literal["range", "sparse"]


class Headers(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """The part of a query that speaks of leaf members only. Lists mean: one of them. From inclusive, until exclusive.

    A leaf without `occurred_at` is taken to have occurred when it was received.
    """

    kind: tuple[str, ...] = ()
    class_: tuple[str, ...] = msgspec.field(name="class", default=())
    source_id: tuple[str, ...] = ()
    occurred_from: Time | None = None
    occurred_until: Time | None = None
    received_from: Time | None = None
    received_until: Time | None = None


@dataclass(frozen=True)
class Disclosure:
    """One group of one record. Disclosed: salt and exact bytes. Erased: the index of the erasure's record, if known."""

    state: State
    salt: bytes | None = None
    data: bytes | None = None
    erased_by: int | None = None


@dataclass(frozen=True)
class Anchor:
    """A checkpoint that stands outside the operator's hands: the note, the proof that the pack's checkpoint continues
    it (empty at equal size), and RFC 3161 responses over the note's text.
    """

    note: bytes
    consistency: tuple[bytes, ...] = ()
    responses: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Cited:
    """A record that was not asked for but explains the others, with its own inclusion path (lowest first)."""

    leaf: bytes
    proof: tuple[bytes, ...]
    disclosures: Mapping[Group, Disclosure]


@dataclass(frozen=True)
class Detached:
    """The leaves `first` to `last` (inclusive) in a file of `length` bytes beside the pack; `proof` is their range proof."""

    file: str
    first: int
    last: int
    length: int
    sha256: str
    proof: tuple[bytes, ...]


@dataclass(frozen=True)
class PackContent:
    """All that a pack holds.

    `leaves`: index -> exact bytes; every index of a range, or the selected ones (sparse). `selected`: sorted indexes.
    `disclosures`: for each selected index, each group that its leaf names. `proofs`: one tuple of hashes (range,
    `merkle.range_proof`), or one for each leaf in order (sparse, `merkle.inclusion_path`), in the tree of the
    checkpoint's size. `hidden`: the query also asked for fields in groups, so `headers` alone does not select.
    `cited`: index -> record, none of them selected.
    """

    made_by: str
    created_at: str
    query: str
    selection: Selection
    leaves: Mapping[int, bytes]
    selected: tuple[int, ...]
    disclosures: Mapping[int, Mapping[Group, Disclosure]]
    proofs: Sequence[tuple[bytes, ...]]
    checkpoint: bytes
    headers: Headers = field(default_factory=Headers)
    hidden: bool = True
    anchors: tuple[Anchor, ...] = ()
    earlier: bytes | None = None
    consistency: tuple[bytes, ...] = ()
    cited: Mapping[int, Cited] = field(default_factory=dict)
    detached: Detached | None = None
    receipts: tuple[bytes, ...] = ()
    derived: Mapping[str, Any] | None = None


def prefers_sparse(selected: int, span: int, size: int, leaf_bytes: int = 520) -> bool:
    """Whether single proofs make a smaller pack than all leaves of a range of `span` of which `selected` are asked."""
    return selected * (leaf_bytes + 65 * size.bit_length()) < span * leaf_bytes
