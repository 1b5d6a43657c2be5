"""Signs reports: PAdES certification with the report key (ETSI EN 319 142-1), and seals over sign-offs behind it.

Baseline B-B; B-T where a timestamp authority is set and answers.

The key is RSA-3072 with a self-signed certificate, made at first use below the data folder (mode 0600). A reader who
does not hold the certificate's fingerprint sees a signature by somebody unknown: the policy file prints it.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import io
import logging
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from asn1crypto import keys, pem, x509
from cryptography import x509 as certificates
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from django.conf import settings

from lineage import errors
from lineage.verify import tokens
from reports import stamps, timestamping

log = logging.getLogger(__name__)

KEY_BITS = 3072
VALID_DAYS = 3650
FIELD = "Touchstone"
REVIEW_FIELD = "Review"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What one look at a signed report says. `whole_file`: nothing was added after the last of its `signatures`."""

    intact: bool
    trusted: bool
    whole_file: bool
    fingerprint: str
    signatures: int = 0


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
    """The certified file: `unsigned` as it is, and the signature behind it. Later only its empty signature fields may be filled.

    There is one such field for each place that the document keeps free for a sign-off, else one that is not seen.
    """
    # Imported where it is needed: every process of the program knows this module, and few sign.
    return _stamped(lambda: _with_fields(unsigned), FIELD, "Issued by Touchstone", certify=True)


def _with_fields(unsigned: bytes) -> Any:
    """A writer over the file, with its empty signature fields added."""
    from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter  # noqa: TID251 - the one place
    from pyhanko.sign import fields  # noqa: TID251

    writer = IncrementalPdfFileWriter(io.BytesIO(unsigned))
    kept_free = stamps.places(writer)
    for field, place in kept_free.items():
        fields.append_signature_field(
            writer,
            fields.SigFieldSpec(
                field,
                place.page,
                place.box,
                empty_field_appearance=True,
                readable_field_name=f"{field}, not signed yet",
            ),
        )
    if not kept_free:
        fields.append_signature_field(writer, fields.SigFieldSpec(REVIEW_FIELD))
    return writer


def approve(signed: bytes, field: str, lines: Sequence[str], reason: str) -> bytes:
    """The file with one more signature in `field`, drawn as `lines`: the installation's seal over what a person did.

    Raises ReportFailed when the file is not as it was signed last: over a changed file nobody signs.
    """
    from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter  # noqa: TID251

    seen = check(signed)
    if not (seen.intact and seen.trusted and seen.whole_file):
        raise errors.ReportFailed(
            "The file was changed after it was signed. Nothing was signed; tell the security owner."
        )
    with stamps.font() as font:
        return _stamped(
            lambda: IncrementalPdfFileWriter(io.BytesIO(signed)),
            field,
            reason,
            certify=False,
            style=stamps.style(lines, font),
        )


def _stamped(writer: Callable[[], Any], field: str, reason: str, *, certify: bool, style: Any = None) -> bytes:
    """Signed with a timestamp of the first authority that gives one that holds; without any, signed without."""
    for name, stamper in timestamping.stampers():
        try:
            made = _signed(writer(), field, reason, certify=certify, style=style, stamper=stamper)
            if stamped_at(made) is not None:
                return made
            log.warning("no timestamp of %s for a report: its token does not hold.", name)
        except Exception as error:  # noqa: BLE001 - what an authority answers fails anywhere in its reader, with any error
            log.warning("no timestamp of %s for a report: %s.", name, type(error).__name__)
    return _signed(writer(), field, reason, certify=certify, style=style)


def stamped_at(signed: bytes) -> dt.datetime | None:
    """The time that an authority states for the newest signature of a file; None without a timestamp that holds."""
    from pyhanko.pdf_utils.reader import PdfFileReader  # noqa: TID251
    from pyhanko.sign.validation import validate_pdf_signature  # noqa: TID251
    from pyhanko_certvalidator import ValidationContext

    newest = PdfFileReader(io.BytesIO(signed)).embedded_signatures[-1]
    found = tokens.stamp_of(newest.signer_info)
    if found is None:
        return None
    roots = [newest.signer_cert, x509.Certificate.load(found.certificate)]
    context = ValidationContext(trust_roots=roots, allow_fetching=False)
    held = validate_pdf_signature(newest, signer_validation_context=context, skip_diff=True).timestamp_validity
    return found.at if held is not None and held.intact and held.valid else None


def _signed(writer: Any, field: str, reason: str, *, certify: bool, style: Any = None, stamper: Any = None) -> bytes:
    from pyhanko.sign import fields, signers  # noqa: TID251
    from pyhanko_certvalidator.registry import SimpleCertificateStore

    key, certificate = _pair()
    signer = signers.SimpleSigner(certificate, key, SimpleCertificateStore())  # type: ignore[no-untyped-call]
    metadata = signers.PdfSignatureMetadata(
        field_name=field,
        subfilter=fields.SigSeedSubFilter.PADES,
        certify=certify,
        docmdp_permissions=fields.MDPPerm.FILL_FORMS,
        md_algorithm="sha256",
        reason=reason,
    )
    out = io.BytesIO()
    signers.PdfSigner(metadata, signer, timestamper=stamper, stamp_style=style).sign_pdf(
        writer, output=out, existing_fields_only=not certify
    )
    return out.getvalue()


def check(signed: bytes, certificate: bytes | None = None, *, with_changes: bool = False) -> Verdict:
    """Checks all signatures of a report against `certificate` (PEM; default: our own). What cannot be read is not intact.

    `with_changes`: also that nothing but signature fields was filled after each of them, object by object; this takes seconds.
    """
    trusted = x509.Certificate.load(pem.unarmor(certificate or certificate_pem())[2])
    try:
        return _check(signed, trusted, with_changes)
    except Exception:  # noqa: BLE001 - a damaged file fails anywhere in its parser, with any error; it is refused
        return Verdict(False, False, False, "")


def _check(signed: bytes, trusted: x509.Certificate, with_changes: bool) -> Verdict:
    """Every signature must hold; the last covers the whole file, so that whoever made it vouches for all that came before."""
    from pyhanko.pdf_utils.reader import PdfFileReader  # noqa: TID251
    from pyhanko.sign.validation import validate_pdf_signature  # noqa: TID251
    from pyhanko_certvalidator import ValidationContext

    embedded = PdfFileReader(io.BytesIO(signed)).embedded_signatures
    if not embedded:
        return Verdict(False, False, False, "")
    context = ValidationContext(trust_roots=[trusted], allow_fetching=False)
    found = [
        validate_pdf_signature(one, signer_validation_context=context, skip_diff=not with_changes) for one in embedded
    ]
    return Verdict(
        intact=all(one.intact and one.valid and one.docmdp_ok is not False for one in found),
        trusted=all(one.trusted for one in found),
        whole_file=found[-1].coverage is not None and found[-1].coverage.name == "ENTIRE_FILE",
        fingerprint=str(found[0].signing_cert.sha256.hex()),
        signatures=len(found),
    )
