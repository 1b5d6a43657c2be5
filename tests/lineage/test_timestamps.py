"""RFC 3161 timestamps: the public vectors, and what a strict reader refuses of real tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from lineage import errors, timestamps
from tests import vectors

FOLDER = "rfc3161"


def cases() -> list[dict[str, Any]]:
    """The cases of the vectors; none when they are absent, which a test then says."""
    if not (vectors.FOLDER / FOLDER).exists():
        return []
    return list(vectors.load(f"{FOLDER}/expected.json")["cases"])


def certificates(name: str) -> list[x509.Certificate]:
    """The chain that a case names; one of them is DER."""
    raw = vectors.path(f"{FOLDER}/{name.split(' ')[0]}").read_bytes()
    return x509.load_pem_x509_certificates(raw) if b"-----BEGIN" in raw else [x509.load_der_x509_certificate(raw)]


def authority(case: dict[str, Any], response: bytes) -> timestamps.Authority:
    """Whom the case trusts: its chain, without the signer's own certificate where the case says so.

    A required signer is, with us, a certificate that is pinned: the one of that name which the response carries.
    """
    chain = certificates(case["chain"])
    if case.get("tsa_certificate_given") is False:
        chain = [each for each in chain if each.issuer == each.subject]
    if "required_signer_name" in case:
        bag = carried(response)
        chain = [each for each in bag if each.subject.rfc4514_string() == case["required_signer_name"]] + chain[1:]
    return timestamps.parse_authority("tsa", [each.public_bytes(Encoding.DER) for each in chain])


def carried(response: bytes) -> list[x509.Certificate]:
    from rfc3161_client import decode_timestamp_response

    return [x509.load_der_x509_certificate(c) for c in decode_timestamp_response(response).signed_data.certificates]


def test_the_public_vectors_are_there() -> None:
    assert vectors.path(FOLDER).is_dir()
    assert len(cases()) == 14


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{Path(case['response']).stem} {case.get('why', '')}")
def test_every_public_vector_is_judged_as_it_says(case: dict[str, Any]) -> None:
    response = vectors.path(f"{FOLDER}/{case['response']}").read_bytes()
    message = case.get("message", "hello").encode()
    if "message_file" in case:
        message = vectors.path(f"{FOLDER}/{case['message_file']}").read_bytes()
    if not case["accept"]:
        with pytest.raises(errors.TimestampInvalid):
            timestamps.verify(response, message, authority(case, response))
        return
    stamp = timestamps.verify(response, message, authority(case, response))
    assert stamp.stated_at.utcoffset() is not None
    if "gen_time" in case:
        assert stamp.stated_at.strftime("%Y-%m-%dT%H:%M:%SZ") == case["gen_time"]
