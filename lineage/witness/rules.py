"""What a witness answers to `POST /add-checkpoint` (C2SP tlog-witness): pure, bytes in, answer out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lineage import merkle, notes
from lineage.errors import NoteInvalid, ProofInvalid
from lineage.notes.keys import unbase64

BODY_MOST = 64 * 1024
PROOF_LINES_MOST = 63
PLAIN = "text/plain; charset=utf-8"
SIZE = "text/x.tlog.size"
_OLD = re.compile(r"old (0|[1-9][0-9]{0,18})")


@dataclass(frozen=True)
class Answer:
    """One HTTP answer. `is_fork` marks a properly signed checkpoint that contradicts the one kept."""

    status: int
    body: str
    content_type: str = PLAIN
    is_fork: bool = False


@dataclass(frozen=True)
class Submission:
    """A checkpoint that the log's key signed, and the proof that it continues the tree of size `old`."""

    old: int
    proof: tuple[bytes, ...]
    note: bytes
    checkpoint: notes.Checkpoint


def read(body: bytes, logs: Mapping[str, Sequence[notes.VerifierKey]]) -> Submission | Answer:
    """The submission that a request's body holds; the answer 400, 404 or 403 when it holds none.

    `logs` are the trusted keys by origin.
    """
    try:
        old, proof, note = _parts(body)
        # Only the text is read strictly here: a damaged signature line is a signature that does not verify (403).
        checkpoint = notes.parse_checkpoint(_text_of(note))
    except (NoteInvalid, UnicodeDecodeError) as error:
        reason = error.message if isinstance(error, NoteInvalid) else "The text is not UTF-8."
        return Answer(400, f"bad request: {reason}\n")
    if checkpoint.origin not in logs:
        return Answer(404, "unknown log: this witness does not know the checkpoint's origin\n")
    try:
        notes.verify(note, logs[checkpoint.origin])
    except NoteInvalid as error:
        return Answer(403, f"invalid signature: {error.message}\n")
    return Submission(old, proof, note, checkpoint)


def refusal(submission: Submission, size: int, root: bytes) -> Answer | None:
    """Why a witness that keeps a checkpoint of `size` (0: none yet) and `root` does not cosign this one; None: it does."""
    checkpoint = submission.checkpoint
    if submission.old > checkpoint.size:
        return Answer(400, "bad request: the old size is larger than the checkpoint's\n")
    if submission.old != size:
        return Answer(409, f"{size}\n", SIZE)
    if checkpoint.size == size and not submission.proof:
        return None if checkpoint.root == root else Answer(409, f"{size}\n", SIZE, is_fork=True)
    try:
        if size:
            merkle.verify_consistency(size, root, checkpoint.size, checkpoint.root, submission.proof)
        elif submission.proof:
            raise ProofInvalid("A proof from size 0 is empty.")
    except ProofInvalid as error:
        return Answer(422, f"invalid consistency proof: {error.message}\n", is_fork=True)
    return None


def _parts(body: bytes) -> tuple[int, tuple[bytes, ...], bytes]:
    """(old size, proof, note) of a body; NoteInvalid when it does not follow the form."""
    if len(body) > BODY_MOST:
        raise NoteInvalid(f"The body is larger than {BODY_MOST} bytes.")
    head, _, note = body.partition(b"\n\n")
    old, *lines = head.decode().split("\n")
    match = _OLD.fullmatch(old)
    if match is None or int(match[1]) > merkle.MAX_SIZE:
        raise NoteInvalid("The first line is not `old` and a size.")
    if len(lines) > PROOF_LINES_MOST:
        raise NoteInvalid(f"There are more than {PROOF_LINES_MOST} proof lines.")
    proof = tuple(unbase64(line) for line in lines)
    if any(len(each) != merkle.HASH_BYTES for each in proof):
        raise NoteInvalid("A proof line is not a 32-byte hash.")
    return int(match[1]), proof, note


def _text_of(note: bytes) -> str:
    text, blank, _ = note.rpartition(b"\n\n")
    if not blank:
        raise NoteInvalid("The checkpoint has no signature lines after an empty line.")
    return text.decode() + "\n"
