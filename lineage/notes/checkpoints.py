"""The text of a checkpoint (C2SP tlog-checkpoint): origin, size, root, and optional extension lines."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from lineage.errors import NoteInvalid
from lineage.merkle import HASH_BYTES, MAX_SIZE
from lineage.notes.keys import unbase64


@dataclass(frozen=True)
class Checkpoint:
    """The log named `origin` had `size` leaves and this 32-byte root."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()


def make_checkpoint(origin: str, size: int, root: bytes) -> str:
    """The text to sign; NoteInvalid if a part cannot stand in a checkpoint."""
    text = f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"
    parse_checkpoint(text)
    return text


def parse_checkpoint(text: str) -> Checkpoint:
    """The checkpoint of a note's text; strict. NoteInvalid names the line at fault."""
    if not text.endswith("\n"):
        raise NoteInvalid("The checkpoint does not end with a newline.")
    lines = text[:-1].split("\n")
    if len(lines) < 3 or not all(lines):
        raise NoteInvalid("A checkpoint has at least three lines and none is empty.")
    origin, size, encoded, *extensions = lines
    root = unbase64(encoded)
    if len(root) != HASH_BYTES:
        raise NoteInvalid("The checkpoint's root is not 32 bytes long.")
    return Checkpoint(origin, decimal(size), root, tuple(extensions))


def decimal(text: str) -> int:
    """A count in its one decimal spelling, at most 2^63 − 1; NoteInvalid otherwise."""
    if not text.isascii() or not text.isdigit() or len(text) > 19 or str(int(text)) != text or int(text) > MAX_SIZE:
        raise NoteInvalid("A size or index is not a plain decimal number.")
    return int(text)
