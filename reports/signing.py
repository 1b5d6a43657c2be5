"""Signs reports: PAdES baseline B-B certification with the report key (ETSI EN 319 142-1).

The key is RSA-3072 with a self-signed certificate, made at first use below the data folder (mode 0600). A reader who
does not hold the certificate's fingerprint sees a signature by somebody unknown: the policy file prints it.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import io
import os
import secrets
from pathlib import Path

from asn1crypto import keys, pem, x509
from cryptography import x509 as certificates
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from django.conf import settings

KEY_BITS = 3072
VALID_DAYS = 3650
FIELD = "Touchstone"
REVIEW_FIELD = "Review"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What one look at a signed report says. `whole_file`: nothing was added after the signature."""

    intact: bool
    trusted: bool
    whole_file: bool
    fingerprint: str


def key_path() -> Path:
    return Path(settings.DATA_DIR) / "keys" / "report.pem"


def ensure_key() -> None:
    """Makes key and certificate when there are none. Many at once end with one pair: the first link wins.

    (`keys/report.key` beside it is the Ed25519 key of signed notes; PDF readers know RSA.)
    """
    if key_path().exists():
        return
    key_path().parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # Threads share a process number, and a killed process may have left a draft under ours.
    draft = key_path().with_suffix(f".{secrets.token_hex(8)}")
    # One file holds both, so that no other process ever sees a key without its certificate.
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(private + _self_signed(key).public_bytes(serialization.Encoding.PEM))
        os.fsync(file.fileno())
    try:
        os.link(draft, key_path())
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _self_signed(key: rsa.RSAPrivateKey) -> certificates.Certificate:
    name = certificates.Name(
        [
            certificates.NameAttribute(NameOID.ORGANIZATION_NAME, "Touchstone"),
            certificates.NameAttribute(NameOID.COMMON_NAME, f"Reports of {settings.ORIGIN}"[:64]),
        ]
    )
    now = dt.datetime.now(dt.UTC)
    usage = certificates.KeyUsage(True, True, False, False, False, False, False, False, False)
    return (
        certificates.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(certificates.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(days=VALID_DAYS))
        .add_extension(certificates.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )


def _pair() -> tuple[keys.PrivateKeyInfo, x509.Certificate]:
    ensure_key()
    parts = {kind: body for kind, _, body in pem.unarmor(key_path().read_bytes(), multiple=True)}
    return keys.PrivateKeyInfo.load(parts["PRIVATE KEY"]), x509.Certificate.load(parts["CERTIFICATE"])


def fingerprint() -> str:
    """SHA-256 (hex) of the report certificate's DER form: what an auditor notes on day one."""
    return str(_pair()[1].sha256.hex())


def certificate_pem() -> bytes:
    return bytes(pem.armor("CERTIFICATE", _pair()[1].dump()))


def sign(unsigned: bytes) -> bytes:
    """The certified file: `unsigned` as it is, and the signature behind it. Later only signatures may be added."""
    # Imported where it is needed: every process of the program knows this module, and few sign.
    from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter  # noqa: TID251 - the one place
    from pyhanko.sign import fields, signers  # noqa: TID251
    from pyhanko_certvalidator.registry import SimpleCertificateStore

    key, certificate = _pair()
    writer = IncrementalPdfFileWriter(io.BytesIO(unsigned))
    fields.append_signature_field(writer, fields.SigFieldSpec(REVIEW_FIELD))
    signer = signers.SimpleSigner(certificate, key, SimpleCertificateStore())  # type: ignore[no-untyped-call]
    metadata = signers.PdfSignatureMetadata(
        field_name=FIELD,
        subfilter=fields.SigSeedSubFilter.PADES,
        certify=True,
        docmdp_permissions=fields.MDPPerm.FILL_FORMS,
        md_algorithm="sha256",
        reason="Issued by Touchstone",
    )
    out = io.BytesIO()
    signers.PdfSigner(metadata, signer).sign_pdf(writer, output=out)
    return out.getvalue()


def check(signed: bytes, certificate: bytes | None = None) -> Verdict:
    """Checks the certification of a report against `certificate` (PEM; default: our own). What cannot be read is not intact."""
    trusted = x509.Certificate.load(pem.unarmor(certificate or certificate_pem())[2])
    try:
        return _check(signed, trusted)
    except Exception:  # noqa: BLE001 - a damaged file fails anywhere in its parser, with any error; it is refused
        return Verdict(False, False, False, "")


def _check(signed: bytes, trusted: x509.Certificate) -> Verdict:
    from pyhanko.pdf_utils.reader import PdfFileReader  # noqa: TID251
    from pyhanko.sign.validation import validate_pdf_signature  # noqa: TID251
    from pyhanko_certvalidator import ValidationContext

    embedded = PdfFileReader(io.BytesIO(signed)).embedded_signatures
    if not embedded:
        return Verdict(False, False, False, "")
    context = ValidationContext(trust_roots=[trusted], allow_fetching=False)
    status = validate_pdf_signature(embedded[0], signer_validation_context=context)
    return Verdict(
        intact=bool(status.intact and status.valid),
        trusted=bool(status.trusted),
        whole_file=status.coverage is not None and status.coverage.name == "ENTIRE_FILE",
        fingerprint=str(status.signing_cert.sha256.hex()),
    )
