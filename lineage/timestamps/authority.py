"""A timestamp authority as a policy file names it: the certificates that are trusted for it (docs/timestamps.md)."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from lineage.errors import NoteInvalid

MAX_CERTIFICATES = 8


@dataclass(frozen=True)
class Authority:
    """A name, and certificates of which one at least is self-signed. The one that is no CA's is the only signer allowed;

    without one, any certificate for time stamping below the CAs is.
    """

    name: str
    certificates: tuple[x509.Certificate, ...]

    @property
    def pinned(self) -> x509.Certificate | None:
        """The one certificate that may sign, if the line names it."""
        return next((each for each in self.certificates if not is_ca(each)), None)

    def __str__(self) -> str:
        encoded = (base64.b64encode(each.public_bytes(Encoding.DER)).decode() for each in self.certificates)
        return f"tsa {self.name} {' '.join(encoded)}"


def parse_authority(name: str, certificates: Sequence[bytes]) -> Authority:
    """The authority of a `tsa` line, from its DER certificates; NoteInvalid says what does not fit."""
    if not 1 <= len(certificates) <= MAX_CERTIFICATES or len(set(certificates)) != len(certificates):
        raise NoteInvalid("A timestamp authority has one to eight certificates, each once.")
    try:
        found = Authority(name, tuple(x509.load_der_x509_certificate(each) for each in certificates))
        signers = [each for each in found.certificates if not is_ca(each)]
        stamping = all(is_for_stamping(each) for each in signers)
    except (ValueError, x509.InvalidVersion, x509.DuplicateExtension) as error:
        raise NoteInvalid("A timestamp authority's certificate is not DER in base64, or damaged.") from error
    if len(signers) > 1 or not stamping:
        raise NoteInvalid(
            "At most one certificate of a timestamp authority is no CA's, and it is for time stamping only."
        )
    if not any(is_self_signed(each) for each in found.certificates):
        raise NoteInvalid("The certificates of a timestamp authority do not end in a self-signed one.")
    return found


def is_ca(certificate: x509.Certificate) -> bool:
    """Whether the certificate may issue others."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def is_for_stamping(certificate: x509.Certificate) -> bool:
    """Whether the extended key usage is critical and names time stamping (RFC 3161 section 2.3)."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound:
        return False
    return usage.critical and list(usage.value) == [ExtendedKeyUsageOID.TIME_STAMPING]


def is_self_signed(certificate: x509.Certificate) -> bool:
    """Whether it names itself as its issuer."""
    return certificate.issuer == certificate.subject
