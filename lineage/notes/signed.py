"""Signing and checking notes (C2SP signed-note, tlog-cosignature).

A note is text, a blank line and signature lines `— name base64`, the base64 of a 4-byte key id and the signature.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lineage.errors import NoteInvalid
from lineage.notes.keys import COSIGNATURE, SignerKey, VerifierKey, check_name, parse_skey, parse_vkey, unbase64

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")

MAX_NOTE_BYTES = 4 * 1024 * 1024
MAX_SIGNATURES = 100
SIGNATURE_BYTES = 64
DASH = "— "


@dataclass(frozen=True)
class Signature:
    """One signature line. `timestamp` is the Unix time that a cosignature vouches for, else None."""

    name: str
    key_id: bytes
    signature: bytes
    timestamp: int | None = None


@dataclass(frozen=True)
class Note:
    """A note of which at least one known key signed the text. `verified` holds one signature for each such key."""

    text: str
    verified: tuple[Signature, ...]
    unverified: tuple[Signature, ...] = ()


def sign(text: str, key: str | SignerKey) -> bytes:
    """The note of this text with one Ed25519 signature. NoteInvalid: the text cannot be a note's."""
    signer = parse_skey(key) if isinstance(key, str) else key
    data = _check_text(text)
    if signer.verifier.algorithm == COSIGNATURE:
        raise NoteInvalid("This is a witness key; it cosigns checkpoints and signs nothing else.")
    return data + b"\n" + _line(signer.verifier, signer.private_key.sign(data))


def cosign(note: bytes, key: str | SignerKey, timestamp: int) -> bytes:
    """The note with one more line: a witness's cosignature/v1 at this Unix time (C2SP tlog-cosignature)."""
    signer = parse_skey(key) if isinstance(key, str) else key
    text, _ = _split(note)
    if signer.verifier.algorithm != COSIGNATURE:
        raise NoteInvalid("Cosigning needs a witness key (algorithm 0x04).")
    signature = struct.pack(">Q", timestamp) + signer.private_key.sign(_cosigned(text, timestamp))
    return note + _line(signer.verifier, signature)


def join(note: bytes, other: bytes) -> bytes:
    """One note with the signature lines of both, which must have the same text; each line once."""
    text, lines = _split(note)
    other_text, other_lines = _split(other)
    if text != other_text:
        raise NoteInvalid("The two notes have different texts.")
    every = dict.fromkeys([*lines, *other_lines])
    return "".join([text, "\n", *(f"{DASH}{each.name} {_encoded(each)}\n" for each in every)]).encode()


def read_note(note: bytes) -> Note:
    """The note as it stands, with no signature verified; NoteInvalid if malformed. Trust nothing of it."""
    text, signatures = _split(note)
    return Note(text, (), tuple(signatures))


def verify(note: bytes | str, vkeys: Iterable[str | VerifierKey]) -> Note:
    """The note, if at least one of the keys signed it; signatures of unknown keys are ignored.

    NoteInvalid: malformed, no known key signed, a known key's signature is wrong (one such refuses the whole note),
    or two of the keys share name and id.
    """
    known: dict[tuple[str, bytes], VerifierKey] = {}
    for trusted in vkeys:
        key = parse_vkey(trusted) if isinstance(trusted, str) else trusted
        if known.setdefault((key.name, key.key_id), key) != key:
            raise NoteInvalid("Two trusted keys have the same name and id.")
    text, signatures = _split(note.encode() if isinstance(note, str) else note)
    verified: dict[tuple[str, bytes], Signature] = {}
    unverified: list[Signature] = []
    for each in signatures:
        place = (each.name, each.key_id)
        if place not in known:
            unverified.append(each)
        elif place not in verified:
            verified[place] = _checked(known[place], text, each)
    if not verified:
        raise NoteInvalid("No trusted key signed this note. Compare its key names with the policy file.")
    return Note(text, tuple(verified.values()), tuple(unverified))


def _checked(key: VerifierKey, text: str, found: Signature) -> Signature:
    """The signature, if the key made it; a cosignature with its time."""
    timestamp, signature, message = None, found.signature, text.encode()
    if key.algorithm == COSIGNATURE and len(signature) == 8 + SIGNATURE_BYTES:
        (timestamp,) = struct.unpack(">Q", signature[:8])
        signature, message = signature[8:], _cosigned(text, timestamp)
    if len(signature) != SIGNATURE_BYTES or not key.verifies(message, signature):
        raise NoteInvalid(f"The signature of the trusted key {key.name} is wrong.")
    if key.algorithm == COSIGNATURE and timestamp is None:
        raise NoteInvalid(f"The cosignature of {key.name} has no time.")
    return Signature(found.name, found.key_id, found.signature, timestamp)


def _cosigned(text: str, timestamp: int) -> bytes:
    return f"cosignature/v1\ntime {timestamp}\n{text}".encode()


def _split(note: bytes) -> tuple[str, Sequence[Signature]]:
    """(text, signatures) of a well-formed note."""
    if len(note) > MAX_NOTE_BYTES:
        raise NoteInvalid("The note is larger than 4 MiB.")
    try:
        whole = note.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NoteInvalid("The note is not UTF-8.") from error
    head, blank, tail = whole.rpartition("\n\n")
    if not blank or not tail.endswith("\n"):
        raise NoteInvalid("The note has no signature lines after a blank line, or is cut off.")
    _check_text(head + "\n")
    lines = tail[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise NoteInvalid("The note has more than 100 signatures.")
    return head + "\n", [_parse_line(line) for line in lines]


def _parse_line(line: str) -> Signature:
    name, space, encoded = line.removeprefix(DASH).partition(" ")
    if not line.startswith(DASH) or not space:
        raise NoteInvalid("A signature line is not of the form: dash, key name, base64.")
    check_name(name)
    data = unbase64(encoded)
    if len(data) < 5:
        raise NoteInvalid("A signature is shorter than its key id.")
    return Signature(name, data[:4], data[4:])


def _check_text(text: str) -> bytes:
    """The text's bytes; NoteInvalid unless it ends with a newline and holds no other control characters."""
    if not text.endswith("\n") or _CONTROL.search(text):
        raise NoteInvalid("A note's text ends with a newline and holds no other control characters.")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise NoteInvalid("A note's text is valid Unicode.") from error


def _encoded(signature: Signature) -> str:
    return base64.b64encode(signature.key_id + signature.signature).decode()


def _line(key: VerifierKey, signature: bytes) -> bytes:
    return f"{DASH}{key.name} {_encoded(Signature(key.name, key.key_id, signature))}\n".encode()
