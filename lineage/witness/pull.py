"""Pull mode: the auditor fetches the newest checkpoint, checks that it continues the kept one, keeps and cosigns it.

For an auditor whom the log's server cannot reach. Nothing the server says is believed without the log key's signature
and a proof.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lineage import merkle, notes
from lineage.errors import NoteInvalid, ProofInvalid, StoreUnavailable
from lineage.notes.keys import unbase64
from lineage.witness.state import Book, State

ANSWER_MOST = 4 * 1024 * 1024
SECONDS = 30
REFUSED = ("400", "404", "422")


@dataclass(frozen=True)
class Server:
    """The log's server, as its API answers to one token."""

    url: str
    token: str

    def ask(self, path: str, body: bytes | None = None) -> bytes:
        """The answer's body. Raises StoreUnavailable when there is none: then nothing was learnt."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "text/plain; charset=utf-8"}
        request = urllib.request.Request(self.url.rstrip("/") + path, data=body, headers=headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
                return bytes(answer.read(ANSWER_MOST))
        except urllib.error.HTTPError as error:
            said = error.read(2000).decode("utf-8", "replace")
            raise StoreUnavailable(f"{path} answered {error.code}: {said!a}", status=str(error.code)) from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise StoreUnavailable(f"{path} did not answer: {error}") from error


class Contradiction(ProofInvalid):
    """The log showed a signed checkpoint that does not continue the kept one. `shown` and `kept` are the two notes."""

    def __init__(self, message: str, shown: str, kept: str) -> None:
        super().__init__(message)
        self.shown, self.kept = shown, kept


def pull(server: Server, state: State, logs: Mapping[str, Sequence[notes.VerifierKey]]) -> tuple[notes.Checkpoint, str]:
    """The newest checkpoint, now kept in the state file, and our cosignature line over it.

    Raises Contradiction (fork or shrink), NoteInvalid (no trusted key signed it, or another log's), StoreUnavailable
    (nothing was learnt). The state is changed by none of these.
    """
    note = server.ask("/checkpoint")
    checkpoint = notes.parse_checkpoint(notes.read_note(note).text)
    if checkpoint.origin not in logs:
        raise NoteInvalid(f"The checkpoint is of the log {checkpoint.origin}, which you did not name.")
    notes.verify(note, logs[checkpoint.origin])
    with state.open() as book:
        _check_memory(book, note, checkpoint)
        _check_growth(server, book, note, checkpoint)
        line = state.take(book, note)
    return checkpoint, line


def _check_memory(book: Book, note: bytes, checkpoint: notes.Checkpoint) -> None:
    """Refuse when the note carries our own cosignature and the state file does not remember it: it is an older copy."""
    try:
        notes.verify(note, [notes.vkey_of(book.key)])
    except NoteInvalid:
        return
    size, _ = book.held(checkpoint.origin)
    if size < checkpoint.size:
        raise _contradiction(
            book, note, checkpoint.origin,
            f"This witness cosigned size {checkpoint.size}, but its state file knows only {size}: the file is an older copy. "
            "Put the newer file back, or begin a new witness with a new key.",
        )  # fmt: skip


def _check_growth(server: Server, book: Book, note: bytes, checkpoint: notes.Checkpoint) -> None:
    size, root = book.held(checkpoint.origin)
    if checkpoint.size < size:
        words = f"The log shrank: it shows a checkpoint of size {checkpoint.size}, and one of size {size} is kept."
        raise _contradiction(book, note, checkpoint.origin, words)
    if not size:
        return
    proof = () if checkpoint.size == size else _proof(server, book, note, checkpoint, size)
    try:
        merkle.verify_consistency(size, root, checkpoint.size, checkpoint.root, proof)
    except ProofInvalid as error:
        words = (
            f"The log forked: its checkpoint of size {checkpoint.size} does not continue the kept one of size {size}."
        )
        raise _contradiction(book, note, checkpoint.origin, words) from error


def _proof(server: Server, book: Book, note: bytes, checkpoint: notes.Checkpoint, size: int) -> tuple[bytes, ...]:
    """The consistency proof that the server gives. A server that answers but gives none refuses the proof."""
    try:
        answer = json.loads(server.ask(f"/api/v1/proof/consistency?from={size}&to={checkpoint.size}"))
        return tuple(unbase64(each) for each in answer["proof"])
    except StoreUnavailable as error:
        if error.fields.get("status") not in REFUSED:
            raise
        words = f"The log gives no proof that size {checkpoint.size} continues size {size}. {error.message}"
        raise _contradiction(book, note, checkpoint.origin, words) from error
    except (ValueError, TypeError, KeyError, NoteInvalid) as error:
        words = f"The log's proof that size {checkpoint.size} continues size {size} cannot be read."
        raise _contradiction(book, note, checkpoint.origin, words) from error


def _contradiction(book: Book, note: bytes, origin: str, words: str) -> Contradiction:
    kept = book.logs.get(origin)
    return Contradiction(words, note.decode(), kept.note if kept else "")


def give_back(server: Server, size: int, line: str) -> None:
    """Post our cosignature to the log. Raises StoreUnavailable when the log does not take it."""
    server.ask(f"/api/v1/cosignature?size={size}", line.encode())
