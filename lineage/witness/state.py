"""The witness's one file: its key, and the newest checkpoint of each log that it cosigned. Durable before any answer."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from lineage import durable, merkle, notes
from lineage.errors import NoteInvalid, ProofInvalid, SettingsInvalid
from lineage.notes.keys import COSIGNATURE


class Kept(msgspec.Struct, forbid_unknown_fields=True):
    """The newest checkpoint of one log that was cosigned: its size, root (base64), note with the cosignature, and when."""

    size: int
    root: str
    note: str
    at: str


class Book(msgspec.Struct, forbid_unknown_fields=True):
    """What the file holds. `key` is a secret (C2SP signer key text)."""

    version: int
    key: str
    logs: dict[str, Kept]

    def held(self, origin: str) -> tuple[int, bytes]:
        """Size and root of the log's newest cosigned checkpoint; (0, root of no leaves) before the first."""
        kept = self.logs.get(origin)
        return (kept.size, base64.b64decode(kept.root)) if kept else (0, merkle.root(()))


class State:
    """The file at `path`. Every change happens under a lock that other processes and threads respect."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @contextlib.contextmanager
    def open(self, name: str | None = None) -> Iterator[Book]:
        """The file's content, locked for the block. With `name` a missing file is made, with a new key of that name.

        Raises SettingsInvalid: there is no file and no name, others may read it, it is damaged, or the key has
        another name.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_name(f"{self.path.name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self.path.exists():
                if name is None:
                    raise SettingsInvalid(f"{self.path} does not exist. Give --name to begin a new witness there.")
                self._write(Book(1, notes.generate_key(name, COSIGNATURE), {}))
            yield self._read(name)

    def take(self, book: Book, note: bytes) -> str:
        """Keep this checkpoint as the newest of its log and return the cosignature line. Call it inside `open`, after
        all checks. ProofInvalid: it is smaller than the one kept.
        """
        checkpoint = notes.parse_checkpoint(notes.read_note(note).text)
        if checkpoint.size < book.held(checkpoint.origin)[0]:
            raise ProofInvalid("A witness never goes back to a smaller checkpoint.")
        now = int(time.time())
        cosigned = notes.cosign(note, book.key, now)
        root = base64.b64encode(checkpoint.root).decode()
        at = dt.datetime.fromtimestamp(now, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        book.logs[checkpoint.origin] = Kept(checkpoint.size, root, cosigned.decode(), at)
        self._write(book)
        return cosigned[len(note) :].decode()

    def _read(self, name: str | None) -> Book:
        if self.path.stat().st_mode & 0o077:
            raise SettingsInvalid(f"{self.path} can be read by others. Run: chmod 600 {self.path}")
        try:
            book = msgspec.json.decode(self.path.read_bytes(), type=Book)
            known = notes.parse_skey(book.key).name
        except (msgspec.DecodeError, NoteInvalid) as error:
            raise SettingsInvalid(
                f"{self.path} is no witness's state file, or is damaged. Keep it as it is."
            ) from error
        if name not in (None, known):
            raise SettingsInvalid(f"The witness of {self.path} is named {known}, not {name}.")
        return book

    def _write(self, book: Book) -> None:
        durable.replace(self.path, msgspec.json.format(msgspec.json.encode(book), indent=1) + b"\n")
