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
    """Whether a log key of the policy signed each checkpoint, and is named as its origin."""
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
        origin = notes.parse_checkpoint(notes.read_note(note).text).origin
        signers = {(each.name, each.key_id) for each in notes.verify(note, policy.checkpoint_keys).verified}
        if not any((key.name, key.key_id) in signers and key.name == origin for key in policy.logs):
            raise NoteInvalid("A trusted log key signed a checkpoint of another log's name.")
        names.add(origin)
    return "pass", f"Signed by the log key that your policy trusts: {', '.join(sorted(names))}."


def witnesses(policy: notes.Policy | None, checkpoint: bytes) -> Finding:
    """Whether the checkpoint's cosignatures reach the policy's quorum."""
    if policy is None:
        return "missing", NO_POLICY
    if policy.quorum == "none":
        return "note", (
            "Your policy asks for no witness. Unless you hold an earlier checkpoint, whoever holds the log's key could "
            "have written another log."
        )
    if not _signed_by(checkpoint, policy.checkpoint_keys):
        return "missing", "No key of your policy signed the checkpoint."
    note = notes.verify(checkpoint, policy.checkpoint_keys)
    if not policy.quorum_met(note):
        return "missing", "Too few witnesses of your policy cosigned the checkpoint."
    times = [each.timestamp for each in note.verified if each.timestamp is not None]
    last = dt.datetime.fromtimestamp(max(times), dt.UTC).isoformat()
    return "pass", f"{len(times)} witnesses of your policy cosigned, the last at {last}."


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
