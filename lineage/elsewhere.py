"""A signing key that lies elsewhere: a PEM file, a security module, a cloud's key service, by a `securesystemslib` URI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from lineage import durable, errors, notes

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

FILE = "file2:"


class _Elsewhere:
    """Signs bytes with Ed25519 where the private key is; it never comes here."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def sign(self, data: bytes, /) -> bytes:
        return bytes.fromhex(self._signer.sign(data).signature)


def signer(uri: str, vkey: str) -> notes.SignerKey:
    """The signer key behind a URI that securesystemslib's `Signer.from_priv_key_uri` understands (docs/settings.md).

    Raises SettingsInvalid when it cannot be used, or is not the private half of `vkey`.
    """
    from securesystemslib.signer import Signer, SSlibKey

    public = notes.parse_vkey(vkey)
    known = SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(public.public_key))
    probe = b"touchstone: is this key the private half?"
    try:
        if uri.startswith(FILE):
            durable.check_private(Path(uri.removeprefix(FILE)))
        found = _Elsewhere(Signer.from_priv_key_uri(uri, known))
        fits = public.verifies(probe, found.sign(probe))
    except errors.SettingsInvalid:
        raise
    except Exception as error:
        # Each kind of signer fails in its own way; whichever it is, nothing is signed.
        raise errors.SettingsInvalid(
            f"TOUCHSTONE_CHECKPOINT_SIGNER ({uri.partition(':')[0]}): the key cannot be used ({type(error).__name__})."
        ) from error
    if not fits:
        raise errors.SettingsInvalid("TOUCHSTONE_CHECKPOINT_SIGNER names another key than the public file does.")
    return notes.SignerKey(public, found)
