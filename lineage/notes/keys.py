"""Keys of signed notes in their text forms (C2SP signed-note, section "Verifier keys").

Verifier key: `name+id+base64`, the base64 of one algorithm byte and the 32-byte public key, the id the first four
bytes of SHA-256(name ‖ 0x0A ‖ algorithm ‖ key) in hex. Signer key: the same with the seed, after `PRIVATE+KEY+`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from lineage.errors import NoteInvalid

ED25519 = 1
COSIGNATURE = 4
ALGORITHMS = (ED25519, COSIGNATURE)
KEY_BYTES = 32
PRIVATE = "PRIVATE+KEY+"


@dataclass(frozen=True)
class VerifierKey:
    """A public key with its name. `algorithm` is 1 (Ed25519 note signature) or 4 (Ed25519 cosignature/v1)."""

    name: str
    key_id: bytes
    algorithm: int
    public_key: bytes = field(repr=False)

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Whether the 64-byte Ed25519 signature over the message is this key's."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def __str__(self) -> str:
        return _text(self.name, self.key_id, self.algorithm, self.public_key)


class Signs(Protocol):
    """Whatever makes a 64-byte Ed25519 signature over bytes: a private key, or a device that holds one."""

    def sign(self, data: bytes, /) -> bytes:
        """The signature."""


@dataclass(frozen=True)
class SignerKey:
    """A private key with its name; `verifier` is its public half. Its text form is a secret."""

    verifier: VerifierKey
    private_key: Signs = field(repr=False)

    @property
    def name(self) -> str:
        """The key's name: for a checkpoint key, the origin of the log."""
        return self.verifier.name


def generate_key(name: str, algorithm: int = ED25519) -> str:
    """The text of a new signer key; NoteInvalid if the name cannot be a key name."""
    seed = Ed25519PrivateKey.generate().private_bytes_raw()
    return PRIVATE + _text(name, _signer(name, algorithm, seed).verifier.key_id, algorithm, seed)


def vkey_of(skey: str) -> str:
    """The verifier key text that belongs to a signer key text."""
    return str(parse_skey(skey).verifier)


def make_vkey(name: str, public_key: bytes) -> str:
    """The text of the Ed25519 verifier key with these 32 bytes; NoteInvalid if the name cannot be a key name."""
    check_name(name)
    return str(VerifierKey(name, _key_id(name, ED25519, public_key), ED25519, public_key))


def parse_skey(text: str) -> SignerKey:
    """The signer key of its text form; NoteInvalid if it is not one. The message never holds the text."""
    if not text.startswith(PRIVATE):
        raise NoteInvalid("A signer key starts with PRIVATE+KEY+.")
    name, key_id, algorithm, seed = _parts(text.removeprefix(PRIVATE))
    key = _signer(name, algorithm, seed)
    if key.verifier.key_id != key_id:
        raise NoteInvalid("The signer key's id does not fit its name and key.")
    return key


def parse_vkey(text: str) -> VerifierKey:
    """The verifier key of its text form; strict. NoteInvalid: malformed, unknown algorithm, or a wrong id."""
    name, key_id, algorithm, public_key = _parts(text)
    if _key_id(name, algorithm, public_key) != key_id:
        raise NoteInvalid("The verifier key's id does not fit its name and key.")
    return VerifierKey(name, key_id, algorithm, public_key)


def check_name(name: str) -> None:
    """NoteInvalid unless the name is printable, not empty, and has neither spaces nor plus signs."""
    if not name or "+" in name or any(char.isspace() or not char.isprintable() for char in name):
        raise NoteInvalid("A key name holds neither spaces nor plus signs and is not empty.")


def unbase64(text: str) -> bytes:
    """The bytes of standard base64 in its one canonical form; NoteInvalid for any other spelling."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NoteInvalid("The base64 in a key, note or proof is damaged.") from error
    if base64.b64encode(data).decode() != text:
        raise NoteInvalid("The base64 in a key, note or proof is not in its canonical form.")
    return data


def _signer(name: str, algorithm: int, seed: bytes) -> SignerKey:
    check_name(name)
    private = Ed25519PrivateKey.from_private_bytes(seed)
    public = private.public_key().public_bytes_raw()
    return SignerKey(VerifierKey(name, _key_id(name, algorithm, public), algorithm, public), private)


def _key_id(name: str, algorithm: int, public_key: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + bytes([algorithm]) + public_key).digest()[:4]


def _text(name: str, key_id: bytes, algorithm: int, key: bytes) -> str:
    return f"{name}+{key_id.hex()}+{base64.b64encode(bytes([algorithm]) + key).decode()}"


def _parts(text: str) -> tuple[str, bytes, int, bytes]:
    """(name, id, algorithm, key bytes) of `name+id+base64`; the base64 may itself hold plus signs."""
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    check_name(name)
    if len(key_id) != 8 or key_id.strip("0123456789abcdef"):
        raise NoteInvalid("A key's id is eight lower-case hex digits.")
    data = unbase64(encoded)
    if len(data) != 1 + KEY_BYTES or data[0] not in ALGORITHMS:
        raise NoteInvalid("The key is neither an Ed25519 key nor an Ed25519 cosignature key of 32 bytes.")
    return name, bytes.fromhex(key_id), data[0], data[1:]
