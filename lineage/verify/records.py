"""The checks of single records: leaves, inclusion, disclosures and erasures."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable

import msgspec

from lineage import merkle
from lineage.errors import PackInvalid
from lineage.events import GROUPS, Count, Group
from lineage.merkle import MAX_SIZE
from lineage.verify.evidence import OWN, Evidence
from lineage.verify.verdicts import Finding

ERASING = ("erasure", "retention")
DONE = ("pending", "erased")


def leaves(evidence: Evidence) -> Finding:
    """Whether each leaf follows the leaf format."""
    cited = len(evidence.records) - len(evidence.content.selected)
    return "pass", f"{len(evidence.leaves)} leaves in the canonical leaf format, and {cited} of cited records."


def inclusion(evidence: Evidence) -> Finding:
    """Whether the leaves, at their indexes, lead to the checkpoint's root."""
    content, point, hashes = evidence.content, evidence.checkpoint, evidence.leaf_hashes
    if content.selection == "range":
        if len(content.proofs) != 1:
            raise PackInvalid("A range has one proof.")
        merkle.verify_range(hashes.values(), min(hashes), max(hashes) + 1, point.size, content.proofs[0], point.root)
    else:
        if len(content.proofs) != len(hashes):
            raise PackInvalid("There is not one proof for each single record.")
        for (index, leaf_hash), proof in zip(hashes.items(), content.proofs, strict=True):
            merkle.verify_inclusion(leaf_hash, index, point.size, proof, point.root)
    for index, record in content.cited.items():
        merkle.verify_inclusion(merkle.leaf_hash(record.leaf), index, point.size, record.proof, point.root)
    cited = f" So do {len(content.cited)} cited records." if content.cited else ""
    return "pass", f"The leaves, at their indexes, lead to the checkpoint's root.{cited}"


def disclosures(evidence: Evidence) -> Finding:
    """Whether what is disclosed is what the leaves committed to, and each erased group has the record of its erasure."""
    counts, erasures = Counter[str](), _Erasures(evidence)
    for index, leaf in evidence.records.items():
        shown = evidence.groups(index)
        if leaf.groups.keys() != shown.keys():
            raise PackInvalid(f"Record {index}: its leaf and its disclosures name other groups.")
        for group, disclosure in shown.items():
            evidence.fields(index, group)
            if index in evidence.content.cited:
                counts["of cited records"] += 1
            elif disclosure.state == "erased" and not erasures.took(index, group, disclosure.erased_by):
                counts["missing"] += 1
            else:
                counts[disclosure.state] += 1
    order = ("disclosed", "withheld", "erased", "of cited records", "missing")
    words = ", ".join(f"{counts[word]} {word}" for word in order if counts[word]) or "none"
    if counts["missing"]:
        return "missing", (
            f"Groups: {words}. Missing are groups called erased without a record of their erasure in the pack: ask for it."
        )
    return "pass", f"Groups: {words}. What is disclosed is what the leaves committed to."


class _Span(msgspec.Struct):
    first: Count
    last: Count
    groups: list[Group]


class _Decision(msgspec.Struct):
    """The members of a decision that say what was erased; others may stand beside them."""

    type: str
    transition: str = ""
    erased: list[_Span] = []


class _Erasures:
    """What the erasures on record in the pack took."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.known: dict[int, dict[Group, list[tuple[int, int]]]] = {}

    def took(self, index: int, group: Group, by: int | None) -> bool:
        """Whether the record `by` is later, in the pack, and says that this group of record `index` was erased."""
        if by is None or by <= index or by not in self.evidence.records:
            return False
        if by not in self.known:
            self.known[by] = self._read(by)
        spans = self.known[by].get(group, [])
        place = bisect_right(spans, (index, MAX_SIZE)) - 1
        return place >= 0 and index <= spans[place][1]

    def _read(self, by: int) -> dict[Group, list[tuple[int, int]]]:
        leaf = self.evidence.records[by]
        if (leaf.kind, leaf.source_id) != ("decision", OWN):
            return {}
        try:
            decision = msgspec.convert(self.evidence.fields(by, "actor").get("decision"), _Decision)
        except msgspec.ValidationError:
            return {}
        if decision.type not in ERASING or decision.transition not in DONE:
            return {}
        return {
            group: _joined((each.first, each.last) for each in decision.erased if group in each.groups)
            for group in GROUPS
        }


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same indexes as ascending spans that do not touch."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found
