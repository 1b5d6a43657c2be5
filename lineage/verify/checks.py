"""The checks of docs/verify.md, in its order. Each returns a state and a sentence; an error raised is a failure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO

from lineage import archive, merkle, notes, packfile
from lineage.archive import Stored, lying
from lineage.errors import NoteInvalid, PackInvalid, TouchstoneError
from lineage.verify import completeness, records, report, single, stamps, trust
from lineage.verify.evidence import Evidence
from lineage.verify.verdicts import Check, Finding, Verdict, run


def verify(
    data: bytes | BinaryIO,
    policy: notes.Policy | None = None,
    receipts: Sequence[str] = (),
    *,
    leaves: BinaryIO | None = None,
    leaf: bytes | None = None,
    archive: bytes | BinaryIO | None = None,
) -> Verdict:
    """The verdict on a pack, on a PDF report with the pack inside, or on a tlog-proof.

    `receipts` are receipt notes that the auditor holds, `leaves` the file of leaves beside a pack, `leaf` the leaf of a
    tlog-proof that does not carry it, `archive` the ZIP beside a large report. Packs and that ZIP are read in parts, from open
    files too. Never raises: what cannot be read is unreadable.
    """
    given, beside = lying(data), None if archive is None else lying(archive)
    begins = given.read(0, len(notes.PROOF_HEADER)).decode("ascii", "replace")
    try:
        if begins == notes.PROOF_HEADER:
            return single.verify(given.read(), policy, leaf)
        if begins.startswith("%PDF-"):
            return report.verify(given.read(), policy, lambda inside: pack(inside, policy, receipts, leaves), beside)
        return Verdict.of(pack(given, policy, receipts, leaves)[0])
    except TouchstoneError as error:
        return Verdict.unreadable(error.message)


def pack(
    data: bytes | Stored, policy: notes.Policy | None, receipts: Sequence[str], leaves: BinaryIO | None
) -> tuple[list[Check], Evidence | None]:
    """The checks of a pack, and what it holds where that can be judged. PackUnreadable: it is none."""
    whole = lying(data)
    members = archive.stored(whole)
    manifest = packfile.check_format(members)
    checks = [
        run(1, "archive", lambda: _archive(whole, members)),
        run(2, "members", lambda: _members(manifest, members)),
    ]
    if any(check.state == "fail" for check in checks):
        # The bytes are not what was handed out: whatever else they say is not worth judging.
        return checks, None
    try:
        evidence = Evidence(packfile.parse(members), members, policy, receipts, leaves)
    except TouchstoneError as error:
        return [*checks, Check(3, "manifest", "fail", error.message)], None
    checks += [run(number, name, lambda check=check: check(evidence)) for number, name, check in CHECKS]  # type: ignore[misc]
    return checks, evidence


def _archive(whole: Stored, members: Mapping[str, Stored]) -> Finding:
    if not archive.rebuilds(members, whole):
        raise PackInvalid("Rebuilding the archive from its members gives other bytes.")
    return "pass", f"{len(members)} members, rebuilt to the same {whole.length} bytes."


def _members(manifest: dict[str, Any], members: Mapping[str, Stored]) -> Finding:
    listed = manifest.get("members")
    found = {
        name: {"bytes": data.length, "sha256": data.sha256()}
        for name, data in members.items()
        if name != "manifest.json"
    }
    if not isinstance(listed, dict) or listed != found:
        names = sorted(set(listed) ^ set(found) or _differing(listed, found)) if isinstance(listed, dict) else []
        raise PackInvalid(f"The manifest and the members differ: {', '.join(names) or 'no list'}.")
    return "pass", f"{len(found)} members with the lengths and SHA-256 hashes that the manifest names."


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    return {name for name in one if one[name] != other.get(name)}


def _manifest(evidence: Evidence) -> Finding:
    rebuilt, held = packfile.rewritten(evidence.content), evidence.members
    names = set(rebuilt) ^ set(held) or {
        name for name in rebuilt if archive.described(rebuilt[name]) != archive.described(held[name])
    }
    if names:
        raise PackInvalid(f"Written again from what they say, these members differ: {', '.join(sorted(names))}.")
    content, point = evidence.content, evidence.checkpoint
    return "pass", (
        f"log {point.origin}, {point.size} records signed; this pack holds {len(content.selected)} records and "
        f"{len(content.leaves)} leaves between {min(content.leaves)} and {max(content.leaves)}. It says of itself, signed by "
        f"nobody: made by {content.made_by} at {content.created_at}."
    )


def _consistency(evidence: Evidence) -> Finding:
    content = evidence.content
    sizes = [_continued(evidence, anchor.note, anchor.consistency) for anchor in content.anchors]
    if sizes != sorted(set(sizes)):
        raise PackInvalid("The anchors are not in the order of their sizes.")
    if content.earlier is None:
        held = f" It continues {len(sizes)} anchors." if sizes else ""
        return "note", f"The pack carries no earlier checkpoint of yours. Compare this one with those you saved.{held}"
    sizes.append(_continued(evidence, content.earlier, content.consistency))
    words = ", ".join(str(size) for size in sorted(sizes))
    return (
        "pass",
        f"The log of {evidence.checkpoint.size} records continues the checkpoints that the pack carries: {words}.",
    )


def _continued(evidence: Evidence, note: bytes, proof: Sequence[bytes]) -> int:
    """The size of an older checkpoint; ProofInvalid or NoteInvalid unless the pack's own continues it."""
    old, point = notes.parse_checkpoint(notes.read_note(note).text), evidence.checkpoint
    if old.origin != point.origin:
        raise NoteInvalid("A checkpoint in the pack is of another log.")
    merkle.verify_consistency(old.size, old.root, point.size, point.root, proof)
    return old.size


def _signature(evidence: Evidence) -> Finding:
    content = evidence.content
    return trust.signature(evidence.policy, [content.checkpoint, content.earlier, *(a.note for a in content.anchors)])


def _witnesses(evidence: Evidence) -> Finding:
    content = evidence.content
    return trust.witnesses(
        evidence.policy, [content.checkpoint, *(a.note for a in content.anchors)], evidence.last_selected
    )


def _receipts(evidence: Evidence) -> Finding:
    content = evidence.content
    held = [*content.receipts, *(each.encode("utf-8", "replace") for each in evidence.receipts)]
    cited = {index: merkle.leaf_hash(record.leaf) for index, record in content.cited.items()}
    shelf = trust.Shelf(evidence.checkpoint, evidence.leaf_hashes | cited, content.created_at)
    return trust.receipts(evidence.policy, held, shelf)


def _time(evidence: Evidence) -> Finding:
    received = {index: leaf.received_at for index, leaf in evidence.records.items() if leaf.received_at}
    return stamps.timestamps(evidence.policy, evidence.content.anchors, received)


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
    (4, "leaves", records.leaves),
    (5, "inclusion", records.inclusion),
    (6, "disclosures", records.disclosures),
    (7, "completeness", completeness.completeness),
    (8, "consistency", _consistency),
    (9, "signature", _signature),
    (10, "witnesses", _witnesses),
    (11, "receipts", _receipts),
    (12, "derived", _derived),
    (13, "time", _time),
    (14, "counts", completeness.counts),
)
