"""The checks of one record's proof as text (C2SP tlog-proof)."""

from __future__ import annotations

from lineage import merkle, notes
from lineage.commitment import parse_leaf
from lineage.verify import trust
from lineage.verify.verdicts import Finding, Verdict, run


def verify(data: bytes, policy: notes.Policy | None, leaf: bytes | None) -> Verdict:
    """The verdict on a tlog-proof whose leaf is `leaf`, or stands in its extra line.

    NoteInvalid: not a tlog-proof, or its checkpoint is none.
    """
    proof = notes.parse_proof(data.decode("utf-8", "replace"))
    note = proof.checkpoint.encode()
    point = notes.parse_checkpoint(notes.read_note(note).text)
    held = proof.extra if leaf is None else leaf

    def leaves() -> Finding:
        if held is None:
            return "missing", "The proof does not carry the record's leaf: give it with --leaf."
        kind = parse_leaf(held).kind
        return "pass", f"The leaf is in the canonical leaf format: a record of kind {kind}."

    def inclusion() -> Finding:
        if held is None:
            return "missing", "Without the leaf nothing can be said."
        merkle.verify_inclusion(merkle.leaf_hash(held), proof.index, point.size, proof.path, point.root)
        return "pass", f"The leaf at index {proof.index} leads to the root of the checkpoint of {point.size} records."

    return Verdict.of(
        [
            run(4, "leaves", leaves),
            run(5, "inclusion", inclusion),
            run(9, "signature", lambda: trust.signature(policy, [note])),
            run(10, "witnesses", lambda: trust.witnesses(policy, [note], proof.index)),
        ]
    )
