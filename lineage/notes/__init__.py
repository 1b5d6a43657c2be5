"""Signed notes, checkpoints, receipts and policy files (C2SP signed-note, tlog-checkpoint, tlog-cosignature,
tlog-policy). Pure: bytes and text in, bytes and values out; trust comes only from the keys that the caller gives.
"""

from __future__ import annotations

from lineage.notes.checkpoints import Checkpoint, make_checkpoint, parse_checkpoint
from lineage.notes.keys import SignerKey, VerifierKey, generate_key, make_vkey, parse_skey, parse_vkey, vkey_of
from lineage.notes.policies import Policy, make_policy, parse_policy
from lineage.notes.proofs import PROOF_HEADER, TlogProof, parse_proof, write_proof
from lineage.notes.receipts import Promise, Receipt, sign_receipt, verify_receipt
from lineage.notes.signed import Note, Signature, cosign, join, read_note, sign, verify

__all__ = [
    "PROOF_HEADER",
    "Checkpoint",
    "Note",
    "Policy",
    "Promise",
    "Receipt",
    "Signature",
    "SignerKey",
    "TlogProof",
    "VerifierKey",
    "cosign",
    "generate_key",
    "join",
    "make_checkpoint",
    "make_policy",
    "make_vkey",
    "parse_checkpoint",
    "parse_policy",
    "parse_proof",
    "parse_skey",
    "parse_vkey",
    "read_note",
    "sign",
    "sign_receipt",
    "verify",
    "verify_receipt",
    "vkey_of",
    "write_proof",
]
