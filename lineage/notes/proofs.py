"""One record's proof as text (C2SP tlog-proof): index, inclusion path, checkpoint, and data that nobody vouches for."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from lineage.errors import NoteInvalid
from lineage.merkle import HASH_BYTES
from lineage.notes.checkpoints import decimal
from lineage.notes.keys import unbase64

PROOF_HEADER = "c2sp.org/tlog-proof@v1"
MAX_HASHES = 63


@dataclass(frozen=True)
class TlogProof:
    """`path` is the inclusion path, lowest first; `extra` is not signed; `checkpoint` is a note, not checked here."""

    index: int
    path: tuple[bytes, ...]
    checkpoint: str
    extra: bytes | None = None


def write_proof(proof: TlogProof) -> str:
    """The text of a proof."""
    lines = [PROOF_HEADER]
    if proof.extra is not None:
        lines.append(f"extra {_base64(proof.extra)}")
    lines += [f"index {proof.index}", *map(_base64, proof.path), "", proof.checkpoint]
    return "\n".join(lines)


def parse_proof(text: str) -> TlogProof:
    """The proof of its text; strict. NoteInvalid: another header, a number, hash or base64 in another form."""
    head, blank, checkpoint = text.partition("\n\n")
    lines = head.split("\n")
    if not blank or not checkpoint or lines.pop(0) != PROOF_HEADER:
        raise NoteInvalid("The file is not a tlog-proof of version 1.")
    extra = unbase64(lines.pop(0).removeprefix("extra ")) if lines and lines[0].startswith("extra ") else None
    if not lines or not lines[0].startswith("index "):
        raise NoteInvalid("The proof names no index.")
    index, path = decimal(lines[0].removeprefix("index ")), tuple(unbase64(line) for line in lines[1:])
    if len(path) > MAX_HASHES or any(len(node) != HASH_BYTES for node in path):
        raise NoteInvalid("The proof holds a hash that is not 32 bytes long, or more hashes than a log can need.")
    return TlogProof(index, path, checkpoint, extra)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
