"""The checks that need the auditor's policy: signatures, witnesses, receipts."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lineage import notes
from lineage.errors import NoteInvalid, PackInvalid
from lineage.events import parse_time
from lineage.verify.verdicts import Finding

NO_POLICY = "No policy was given (--policy), so nobody vouches for this."


@dataclass(frozen=True)
class Shelf:
    """Where promised records should stand: the checkpoint, the pack's leaf hashes by index, and its making."""

    checkpoint: notes.Checkpoint
    leaf_hashes: Mapping[int, bytes]
    created_at: str


def signature(policy: notes.Policy | None, checkpoints: Sequence[bytes | None]) -> Finding:
    """Whether a log key of the policy, in force at its size, signed each checkpoint and is named as its origin."""
    if policy is None:
        return "missing", NO_POLICY
    names = set[str]()
    for note in checkpoints:
        if note is None:
            continue
        if not _signed_by(note, policy.logs):
            return (
                "missing",
                "No log key of your policy signed the checkpoint. Compare its key names with the pack's log.",
            )
        names.add(_origin_signed(policy, note))
    return "pass", f"Signed by the log key that your policy trusts: {', '.join(sorted(names))}."


def _origin_signed(policy: notes.Policy, note: bytes) -> str:
    """The origin of a checkpoint that a key of its name signed; NoteInvalid: none did, or one that is retired."""
    found = notes.verify(note, policy.checkpoint_keys)
    point = notes.parse_checkpoint(found.text)
    signers = {(each.name, each.key_id) for each in found.verified if each.name == point.origin}
    if not signers & {(key.name, key.key_id) for key in policy.logs}:
        raise NoteInvalid("A trusted log key signed a checkpoint of another log's name.")
    if not signers & {(key.name, key.key_id) for key in policy.logs_at(point.size)}:
        raise NoteInvalid(
            f"Only a retired log key signed the checkpoint of {point.size} records, beyond its last size."
        )
    return point.origin


def covers(note: bytes, index: int) -> bool:
    """Whether the checkpoint's log holds the record at this index."""
    return index < notes.parse_checkpoint(notes.read_note(note).text).size


def witnesses(policy: notes.Policy | None, checkpoints: Sequence[bytes], last: int) -> Finding:
    """Whether the cosignatures on the first checkpoint, or on one that holds record `last`, reach the policy's quorum.

    That the first one continues the others, and that all are signed, are other checks.
    """
    if policy is None:
        return "missing", NO_POLICY
    if policy.quorum == "none":
        return "note", (
            "Your policy asks for no witness. Unless you hold an earlier checkpoint, whoever holds the log's key could "
            "have written another log."
        )
    for place, note in enumerate(checkpoints):
        if not _signed_by(note, policy.checkpoint_keys):
            continue
        found = notes.verify(note, policy.checkpoint_keys)
        if policy.quorum_met(found) and covers(note, last):
            return "pass", _witnessed(found, place > 0)
    return (
        "missing",
        "Too few witnesses of your policy cosigned the checkpoint, or one that holds every selected record.",
    )


def _witnessed(note: notes.Note, older: bool) -> str:
    times = [each.timestamp for each in note.verified if each.timestamp is not None]
    last = dt.datetime.fromtimestamp(max(times), dt.UTC).isoformat()
    size = notes.parse_checkpoint(note.text).size
    if not older:
        return f"{len(times)} witnesses of your policy cosigned the checkpoint of {size} records, the last at {last}."
    return (
        f"{len(times)} witnesses of your policy cosigned an older checkpoint of {size} records, the last at {last}. Every "
        f"selected record is among them, and the pack's log continues it; of records from {size} on no witness says anything."
    )


def receipts(policy: notes.Policy | None, held: Sequence[bytes], shelf: Shelf) -> Finding:
    """Whether what receipts promised is in its place."""
    if not held:
        return "note", "No receipts were given."
    if policy is None:
        return "missing", NO_POLICY
    untrusted, counts = 0, Counter[str]()
    for note in held:
        if not _signed_by(note, policy.receipts):
            untrusted += 1
            continue
        receipt = notes.verify_receipt(note, policy.receipts)
        if receipt.origin != shelf.checkpoint.origin:
            counts["of another log"] += len(receipt.promises)
            continue
        for promise in receipt.promises:
            counts[_kept(promise, receipt, shelf)] += 1
    if untrusted:
        return "missing", f"{untrusted} of {len(held)} receipts are not signed by a receipt key of your policy."
    return "pass", f"Promises: {', '.join(f'{count} {words}' for words, count in sorted(counts.items()))}."


def _kept(promise: notes.Promise, receipt: notes.Receipt, shelf: Shelf) -> str:
    """What became of one promise; PackInvalid if it was broken."""
    if promise.index in shelf.leaf_hashes:
        if shelf.leaf_hashes[promise.index] != promise.leaf_hash:
            raise PackInvalid(
                f"Promised but missing: place {promise.index} holds another record than the receipt says."
            )
        return "kept"
    if promise.index < shelf.checkpoint.size:
        return "outside this pack"
    due = parse_time(receipt.accepted_at) + dt.timedelta(seconds=min(receipt.within_s, 10**6))
    if due < parse_time(shelf.created_at):
        raise PackInvalid(f"Promised but missing: the log ends before place {promise.index}, whose time is over.")
    return "not yet due"


def _signed_by(note: bytes, keys: Sequence[notes.VerifierKey]) -> bool:
    """Whether the note names one of the keys as a signer; the signature itself is still to be verified."""
    known = {(key.name, key.key_id) for key in keys}
    return any((each.name, each.key_id) in known for each in notes.read_note(note).unverified)
