"""Timestamp requests and responses (RFC 3161) over the text of a checkpoint. Needs rfc3161-client 1.0.6 or newer:

older ones let one authority pass as another (GHSA-3xxc-pwj6-jgrj).
"""

from __future__ import annotations

import datetime as dt
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from lineage.errors import NoteInvalid, TimestampInvalid
from lineage.timestamps.authority import MAX_CERTIFICATES, Authority, is_self_signed, parse_authority

if TYPE_CHECKING:
    from rfc3161_client import TimeStampResponse

MAX_RESPONSE_BYTES = 64 * 1024
GRANTED = 0
# Of the signed data (RFC 5652 section 5.1), its signer, and the token's content.
VERSIONS = (3, 1, 1)


@dataclass(frozen=True)
class Request:
    """A request in DER, and its nonce, which the answer must repeat."""

    body: bytes
    nonce: int


@dataclass(frozen=True)
class Stamp:
    """An authority's statement that a message existed at a time (aware, UTC). `policy` is the authority's policy OID."""

    authority: str
    stated_at: dt.datetime
    serial: int
    policy: str


def readable() -> bool:
    """Whether the package that reads tokens is installed."""
    return importlib.util.find_spec("rfc3161_client") is not None


def request(message: bytes) -> Request:
    """A request for a token over the SHA-256 of the message, with a fresh nonce, asking for the certificate."""
    from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

    made = TimestampRequestBuilder().data(message).hash_algorithm(HashAlgorithm.SHA256).build()
    if made.nonce is None:
        raise TimestampInvalid("The request has no nonce.")
    return Request(made.as_bytes(), made.nonce)


def verify(response: bytes, message: bytes, authority: Authority, nonce: int | None = None) -> Stamp:
    """What the response states, if the authority made it over the message (its SHA-256, 384 or 512).

    The certificates are judged at the token's own time, so a token outlives them. TimestampInvalid otherwise.
    """
    from rfc3161_client import VerifierBuilder

    token = _read(response)
    pinned = authority.pinned
    if pinned is not None and not token.names(pinned):
        raise TimestampInvalid(f"The token is signed by another certificate than the one pinned for {authority.name}.")
    checker = VerifierBuilder(tsa_certificate=pinned, roots=list(authority.certificates), nonce=nonce).build()
    try:
        checker.verify_message(token.decoded, message)
        stated = token.decoded.tst_info
        return Stamp(authority.name, stated.gen_time, stated.serial_number, stated.policy.dotted_string)
    except Exception as error:  # whatever the reader stumbles over in foreign bytes is a refusal
        raise TimestampInvalid(f"The token is not one of {authority.name} over this checkpoint: {error}") from error


def made_by(response: bytes, authority: Authority) -> bool:
    """Whether the token says that this authority signed it: then it must verify. TimestampInvalid: unreadable."""
    token = _read(response)
    if authority.pinned is not None:
        return token.names(authority.pinned)
    issuers = {each.subject for each in authority.certificates}
    return token.issuer in issuers or any(each.issuer in issuers for each in token.certificates)


def authority_of(response: bytes, name: str, roots: Sequence[x509.Certificate]) -> Authority:
    """The authority that signed a response by its own words: its certificate and the chain up to a self-signed one.

    For the first meeting only: whoever judges evidence compares these certificates with the authority's own. The chain
    is built from the response and `roots`. TimestampInvalid: no certificate in the response, or no root for it.
    """
    token = _read(response)
    chain = [each for each in token.certificates if token.names(each)]
    if not chain:
        raise TimestampInvalid("The response does not hold the certificate that signed it.")
    while not is_self_signed(chain[-1]):
        above = next((each for each in [*roots, *token.certificates] if _issued(each, chain[-1])), None)
        if above is None or above in chain or len(chain) == MAX_CERTIFICATES:
            issuer = _plain(chain[-1].issuer.rfc4514_string())
            raise TimestampInvalid(f"The authority's chain ends at {issuer}, which is not among TOUCHSTONE_TSA_ROOTS.")
        chain.append(above)
    try:
        return parse_authority(name, [each.public_bytes(Encoding.DER) for each in chain])
    except NoteInvalid as error:
        raise TimestampInvalid(error.message) from error


@dataclass(frozen=True)
class _Token:
    """A granted response as it stands: nothing of it is verified. `certificates` are those it carries."""

    decoded: TimeStampResponse
    issuer: x509.Name
    serial: int
    certificates: list[x509.Certificate]

    def names(self, certificate: x509.Certificate) -> bool:
        """Whether the token says that this certificate signed it."""
        return certificate.issuer == self.issuer and certificate.serial_number == self.serial


def _read(response: bytes) -> _Token:
    """The token of a granted response. TimestampInvalid."""
    from rfc3161_client import decode_timestamp_response

    if len(response) > MAX_RESPONSE_BYTES:
        raise TimestampInvalid("The response is larger than 64 KiB.")
    try:
        decoded = decode_timestamp_response(response)
        if decoded.status != GRANTED:
            words = " ".join([f"status {decoded.status}", *decoded.status_string])
            raise TimestampInvalid(f"The authority did not grant a token: {_plain(words)}.")
        signed = decoded.signed_data
        (signer,) = signed.signer_infos
        versions = (signed.version, signer.version, decoded.tst_info.version)
        certificates = [x509.load_der_x509_certificate(each) for each in sorted(signed.certificates)]
        places = {(each.issuer, each.serial_number) for each in certificates}
        token = _Token(decoded, signer.issuer, signer.serial_number, certificates)
    except TimestampInvalid:
        raise
    except Exception as error:  # whatever the reader stumbles over in foreign bytes is a refusal
        raise TimestampInvalid(f"The response cannot be read: {error}") from error
    if versions != VERSIONS:
        raise TimestampInvalid("The token is of another version than RFC 3161 describes.")
    if len(places) != len(certificates):
        # Two certificates under one name: it would be open which of them signed.
        raise TimestampInvalid("The token holds two certificates with the same issuer and serial number.")
    return token


def _plain(text: str) -> str:
    """Foreign words on one line of bounded length: they go into our log and to terminals."""
    return "".join(char if char.isprintable() else "?" for char in text[:300])


def _issued(above: x509.Certificate, below: x509.Certificate) -> bool:
    """Whether one certificate signed the other."""
    if above.subject != below.issuer:
        return False
    try:
        below.verify_directly_issued_by(above)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
