"""The checks of docs/verify.md, in its order. Each returns a state and a sentence; an error raised is a failure."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lineage import archive, merkle, notes, packfile
from lineage.commitment import Leaf, digest, parse_disclosure, parse_leaf
from lineage.errors import NoteInvalid, PackInvalid, TouchstoneError
from lineage.events import Group
from lineage.verify import pdf, trust
from lineage.verify.verdicts import Check, Finding, Verdict


def verify(data: bytes, policy: notes.Policy | None = None, receipts: Sequence[str] = ()) -> Verdict:
    """The verdict on a pack, or on the pack inside a PDF report.

    `receipts` are receipt notes that the auditor holds. Never raises: what cannot be read as a pack is unreadable.
    """
    try:
        is_pdf = data.startswith(b"%PDF-")
        pack = pdf.attachment(data) if is_pdf else data
        members = archive.read(pack)
        manifest = packfile.check_format(members)
    except TouchstoneError as error:
        return Verdict.unreadable(error.message)
    checks = [
        _run(1, "archive", lambda: _archive(pack, members)),
        _run(2, "members", lambda: _members(manifest, members)),
    ]
    try:
        evidence = Evidence(packfile.parse(members), members, policy, receipts)
    except TouchstoneError as error:
        return Verdict.of([*checks, Check(3, "manifest", "fail", error.message)])
    checks += [_run(number, name, lambda check=check: check(evidence)) for number, name, check in CHECKS]  # type: ignore[misc]
    if is_pdf:
        checks.append(_run(13, "pdf", lambda: pdf.signature(policy)))
    return Verdict.of(checks)


def _run(number: int, name: str, check: Callable[[], Finding]) -> Check:
    try:
        return Check(number, name, *check())
    except TouchstoneError as error:
        return Check(number, name, "fail", error.message)
    except (ValueError, OverflowError):
        # A date such as month 99, or a time beyond the calendar: only a forged pack holds one.
        return Check(number, name, "fail", "A value is out of its range.")


@dataclass(frozen=True)
class Evidence:
    """A pack in parts, with what the auditor brought."""

    content: packfile.PackContent
    members: dict[str, bytes]
    policy: notes.Policy | None
    receipts: Sequence[str]

    @cached_property
    def leaves(self) -> dict[int, Leaf]:
        """The leaves parsed, by index; OutsideProfile at the first that does not follow the format."""
        return {index: parse_leaf(data) for index, data in self.content.leaves.items()}

    @cached_property
    def leaf_hashes(self) -> dict[int, bytes]:
        """The leaf hashes by index, in order."""
        return {index: merkle.leaf_hash(data) for index, data in self.content.leaves.items()}

    @cached_property
    def checkpoint(self) -> notes.Checkpoint:
        """The covering checkpoint, as it stands; its signature is another check."""
        return notes.parse_checkpoint(notes.read_note(self.content.checkpoint).text)


def _archive(pack: bytes, members: dict[str, bytes]) -> Finding:
    if archive.write(members) != pack:
        raise PackInvalid("Rebuilding the archive from its members gives other bytes.")
    return "pass", f"{len(members)} members, rebuilt to the same {len(pack)} bytes."


def _members(manifest: dict[str, Any], members: dict[str, bytes]) -> Finding:
    listed = manifest.get("members")
    found = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in members.items()
        if name != "manifest.json"
    }
    if not isinstance(listed, dict) or listed != found:
        names = sorted(set(listed) ^ set(found) or _differing(listed, found)) if isinstance(listed, dict) else []
        raise PackInvalid(f"The manifest and the members differ: {', '.join(names) or 'no list'}.")
    return "pass", f"{len(found)} members with the lengths and SHA-256 hashes that the manifest names."


def _differing(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    return {name for name in one if one[name] != other.get(name)}


def _manifest(evidence: Evidence) -> Finding:
    rebuilt = packfile.members(evidence.content)
    names = set(rebuilt) ^ set(evidence.members) or _differing(rebuilt, evidence.members)
    if names:
        raise PackInvalid(f"Written again from what they say, these members differ: {', '.join(sorted(names))}.")
    indexes, point = evidence.content.leaves, evidence.checkpoint
    return "pass", (
        f"log {point.origin}, {point.size} records signed; this pack holds {len(evidence.content.selected)} records "
        f"and {len(indexes)} leaves between {min(indexes)} and {max(indexes)}."
    )


def _leaves(evidence: Evidence) -> Finding:
    return "pass", f"{len(evidence.leaves)} leaves follow the leaf format."


def _inclusion(evidence: Evidence) -> Finding:
    content, point = evidence.content, evidence.checkpoint
    if content.selection == "range":
        if len(content.proofs) != 1:
            raise PackInvalid("A range has exactly one proof.")
        merkle.verify_range(
            list(evidence.leaf_hashes.values()), min(content.leaves), point.size, content.proofs[0], point.root
        )
        return "pass", "All leaves of the range lead to the checkpoint's root; none is left out between them."
    if len(content.proofs) != len(content.leaves):
        raise PackInvalid("There is not one proof for each leaf.")
    for (index, found), proof in zip(evidence.leaf_hashes.items(), content.proofs, strict=True):
        merkle.verify_inclusion(found, index, point.size, proof, point.root)
    return "pass", f"Each of the {len(content.leaves)} leaves leads to the checkpoint's root."


def _disclosures(evidence: Evidence) -> Finding:
    counts: Counter[str] = Counter()
    for index in evidence.content.selected:
        leaf, shown = evidence.leaves[index], evidence.content.disclosures[index]
        if leaf.groups.keys() != shown.keys():
            raise PackInvalid(f"Record {index}: its leaf and its disclosures name other groups.")
        for group, disclosure in shown.items():
            if disclosure.state == "disclosed":
                _open(index, group, disclosure, leaf)
            missing = disclosure.state == "erased" and not _is_erasure(evidence, disclosure.erased_by)
            counts["missing" if missing else disclosure.state] += 1
    words = [f"{counts[state]} {state}" for state in ("disclosed", "withheld", "erased") if counts[state]]
    if counts["missing"]:
        words.append(f"{counts['missing']} missing (called erased, but the record of the erasure is not in the pack)")
    return "pass", f"Groups: {', '.join(words) or 'none'}. What is disclosed is what the leaves committed to."


def _open(index: int, group: Group, disclosure: packfile.Disclosure, leaf: Leaf) -> dict[str, Any]:
    """The fields of a disclosed group; PackInvalid or OutsideProfile if it is not what the leaf committed to."""
    if disclosure.salt is None or disclosure.data is None:
        raise PackInvalid(f"Record {index}, group {group}: disclosed without its bytes.")
    if digest(disclosure.salt, disclosure.data) != leaf.groups[group]:
        raise PackInvalid(f"Record {index}, group {group}: the bytes and salt do not give the digest in the leaf.")
    return parse_disclosure(group, disclosure.data)


def _is_erasure(evidence: Evidence, index: int | None) -> bool:
    """Whether the pack discloses, at this index, a record of an erasure."""
    shown = evidence.content.disclosures.get(-1 if index is None else index, {}).get("actor")
    if index is None or shown is None or shown.state != "disclosed":
        return False
    decision = _open(index, "actor", shown, evidence.leaves[index]).get("decision")
    return isinstance(decision, dict) and decision.get("type") == "erasure"


def _completeness(evidence: Evidence) -> Finding:
    content = evidence.content
    matching = tuple(index for index, leaf in evidence.leaves.items() if _matches(leaf, content.headers))
    if not set(content.selected) <= set(matching):
        raise PackInvalid("A selected record does not match the filter over leaf headers.")
    if content.selection == "sparse":
        return "note", "Single records: nothing is shown about the records between them."
    within = f"records {min(content.leaves)} to {max(content.leaves)}"
    if content.hidden:
        rest = len(matching) - len(content.selected)
        return "note", (
            f"The query asked for fields in groups, which a verifier cannot repeat: of {within}, {rest} more match "
            "its part over headers and were left out by the rest of the query."
        )
    if matching != content.selected:
        raise PackInvalid("The filter over leaf headers selects other records than the pack does.")
    return "pass", f"The filter over leaf headers, applied again to {within}, selects exactly these records."


def _matches(leaf: Leaf, headers: packfile.Headers) -> bool:
    listed = ((leaf.kind, headers.kind), (leaf.class_, headers.class_), (leaf.source_id, headers.source_id))
    timed = (
        (leaf.occurred_at, headers.occurred_from, headers.occurred_until),
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


def _consistency(evidence: Evidence) -> Finding:
    content, point = evidence.content, evidence.checkpoint
    if content.earlier is None:
        return "note", "The pack carries no earlier checkpoint. Compare this one with those you saved."
    earlier = notes.parse_checkpoint(notes.read_note(content.earlier).text)
    if earlier.origin != point.origin:
        raise NoteInvalid("The earlier checkpoint is of another log.")
    merkle.verify_consistency(earlier.size, earlier.root, point.size, point.root, content.consistency)
    return "pass", f"The log of {point.size} records begins with the {earlier.size} records of the earlier checkpoint."


def _signature(evidence: Evidence) -> Finding:
    return trust.signature(evidence.policy, [evidence.content.checkpoint, evidence.content.earlier])


def _witnesses(evidence: Evidence) -> Finding:
    return trust.witnesses(evidence.policy, evidence.content.checkpoint)


def _receipts(evidence: Evidence) -> Finding:
    held = [*evidence.content.receipts, *(each.encode("utf-8", "replace") for each in evidence.receipts)]
    shelf = trust.Shelf(evidence.checkpoint, evidence.leaf_hashes, evidence.content.created_at)
    return trust.receipts(evidence.policy, held, shelf)


def _derived(evidence: Evidence) -> Finding:
    derived = evidence.content.derived
    if derived is None:
        return "note", "The pack holds no derived facts: all of it was reported by sources."
    return "note", (
        f"{len(derived['facts'])} facts were derived by {derived['analyser']} {derived['version']}. They are not in "
        "the log and nothing here proves them."
    )


CHECKS: tuple[tuple[int, str, Callable[[Evidence], Finding]], ...] = (
    (3, "manifest", _manifest),
    (4, "leaves", _leaves),
    (5, "inclusion", _inclusion),
    (6, "disclosures", _disclosures),
    (7, "completeness", _completeness),
    (8, "consistency", _consistency),
    (9, "signature", _signature),
    (10, "witnesses", _witnesses),
    (11, "receipts", _receipts),
    (12, "derived", _derived),
)
