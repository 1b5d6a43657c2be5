"""What a PDF report carries, and the report's own signature. Needs pikepdf and pyhanko; packs alone do not."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lineage.archive import Stored
from lineage.errors import PackInvalid, PackUnreadable
from lineage.notes import Policy
from lineage.verify.cover import words
from lineage.verify.tokens import Stamp, stamp_of
from lineage.verify.verdicts import Finding

ATTACHMENT = "evidence.touchstone.zip"
PROBED_BYTES = 64 * 1024**2
DAMAGED = (ValueError, TypeError, KeyError, AttributeError, RuntimeError, RecursionError)
"""What a damaged PDF raises in its reader, besides the reader's own error."""
SIGN_OFF = "Sign-off "
"""How the fields of sign-offs begin (docs/sign-off.md)."""


@dataclass(frozen=True)
class _Signed:
    """What one signature of the file says. `whole_file`: nothing but the signature itself lies outside it."""

    intact: bool
    in_force: bool
    whole_file: bool
    fingerprint: str
    field: str
    stamp: Stamp | None


@dataclass(frozen=True)
class Carried:
    """What a PDF carries: its attachments by name (None: one that cannot be read), and the words of its first page.

    Beside a large report some of its files lie in another one.
    """

    files: Mapping[str, bytes | Stored | None]
    cover: str


def carried(data: bytes) -> Carried:
    """What is in the file; PackUnreadable says what to do when it cannot be taken out."""
    try:
        import pikepdf
    except ImportError as error:
        expect_memory(error)
        raise PackUnreadable(
            f"Reading a PDF needs the package pikepdf. Install it, or save the attachment {ATTACHMENT} and verify that."
        ) from error
    try:
        with pikepdf.open(io.BytesIO(data)) as document:
            names = list(document.attachments)
            return Carried({name: _file(document, name) for name in names}, words(document))
    except (pikepdf.PdfError, *DAMAGED) as error:
        expect_memory(error)
        raise PackUnreadable("The PDF is damaged: its attachments cannot be read.") from error


def _file(document: Any, name: str) -> bytes | None:
    """The bytes of one attachment. The others may be whole where it is not, and its own name is then told."""
    import pikepdf

    try:
        return bytes(document.attachments[name].get_file().read_bytes())
    except (pikepdf.PdfError, *DAMAGED) as error:
        expect_memory(error)
        return None


def expect_memory(error: Exception) -> None:
    """Raises MemoryError where that is what the reader lacked: it tells of it in the words of a damaged file."""
    if "bad_alloc" in str(error):
        raise MemoryError from error
    bytearray(PROBED_BYTES)


def signature(data: bytes, policy: Policy | None) -> Finding:
    """Whether the certificate that the policy names by fingerprint signed the whole file.

    PackInvalid: a signature in it is broken. What was added behind the signature is for a PDF reader to show.
    """
    wanted = policy.fingerprints if policy else []
    if not wanted:
        return (
            "missing",
            "Your policy names no report certificate by fingerprint, so nobody vouches for the PDF around the pack.",
        )
    if importlib.util.find_spec("pyhanko") is None:
        return "missing", (
            "The PDF's own signature is not checked: install pyhanko, or check it with your PDF reader against the "
            f"certificate's fingerprint SHA-256 {' or '.join(wanted)}. The checks above are of the pack inside."
        )
    found = _read_signatures(data, wanted)
    if not all(each.intact for each in found):
        raise PackInvalid("The PDF was changed after it was signed.")
    ours = [each for each in found if each.fingerprint in wanted]
    if not ours:
        return (
            "missing",
            f"{len(found)} signatures, none by the report certificate of your policy, SHA-256 {' or '.join(wanted)}.",
        )
    if not any(each.whole_file for each in ours):
        return (
            "missing",
            "The report certificate signed the PDF, and something was added later: your PDF reader shows what.",
        )
    if not any(each.whole_file and each.in_force for each in ours):
        return "missing", "The report certificate that signed the PDF is out of its time."
    sealed, asked = sum(1 for each in ours if each.field.startswith(SIGN_OFF)), _sign_offs(data)
    also = (
        f" It holds {sealed} of the {asked} sign-offs that it keeps room for, each under its own seal." if asked else ""
    )
    return (
        "pass",
        f"The whole PDF is signed by the report certificate of your policy, SHA-256 {ours[0].fingerprint}.{also}"
        + _time(ours[-1].stamp, policy),
    )


def _time(stamp: Stamp | None, policy: Policy | None) -> str:
    """What a timestamp adds: it is only as good as the authority, which the policy names or does not."""
    from cryptography.hazmat.primitives.serialization import Encoding

    if stamp is None:
        return ""
    named = {
        each.public_bytes(Encoding.DER)
        for authority in (policy.authorities if policy else ())
        for each in authority.certificates
    }
    whose = (
        "an authority of your policy" if stamp.certificate in named else "an authority that your policy does not name"
    )
    return f" It was signed by {stamp.at:%Y-%m-%d %H:%M:%S} UTC, says {whose}."


def _read_signatures(data: bytes, wanted: Sequence[str]) -> list[_Signed]:
    try:
        return list(_signatures(data, wanted))
    except MemoryError:
        raise
    except Exception as error:
        # A damaged file fails anywhere in its parser, with any error.
        raise PackInvalid("The PDF's signature cannot be read.") from error


def _signatures(data: bytes, wanted: Sequence[str]) -> Iterator[_Signed]:
    """Each signature field, judged by pyHanko without network."""
    from pyhanko.pdf_utils.reader import PdfFileReader  # noqa: TID251 - reports.signing signs; this reads, offline
    from pyhanko.sign.validation import validate_pdf_signature  # noqa: TID251
    from pyhanko.sign.validation.status import SignatureCoverageLevel  # noqa: TID251
    from pyhanko_certvalidator import ValidationContext

    for embedded in PdfFileReader(io.BytesIO(data)).embedded_signatures:
        certificate = embedded.signer_cert
        # Each is taken at its word for now: whose it must be, the fingerprint says.
        context = ValidationContext(trust_roots=[certificate], allow_fetching=False)
        # What was added between two signatures is vouched for by the last, which must be ours and cover the whole file.
        status = validate_pdf_signature(embedded, signer_validation_context=context, skip_diff=True)
        fingerprint = certificate.sha256.hex()
        intact, stamp = bool(status.intact and status.valid), None
        if fingerprint in wanted:
            intact = (
                intact and _alone(data, embedded.byte_range, embedded.pkcs7_content) and _plain(embedded.signed_data)
            )
            stamp, held = stamp_of(embedded.signer_info), status.timestamp_validity
            intact = intact and (stamp is None or bool(held and held.intact and held.valid))
        whole = status.coverage == SignatureCoverageLevel.ENTIRE_FILE
        yield _Signed(intact, bool(status.trusted), whole, fingerprint, str(embedded.field_name), stamp)


def _sign_offs(data: bytes) -> int:
    """For how many sign-offs the document has a field, signed or not."""
    from pyhanko.pdf_utils.reader import PdfFileReader  # noqa: TID251
    from pyhanko.sign.fields import enumerate_sig_fields  # noqa: TID251

    return sum(1 for name, *_ in enumerate_sig_fields(PdfFileReader(io.BytesIO(data))) if name.startswith(SIGN_OFF))


def _alone(data: bytes, byte_range: Sequence[int], content: bytes) -> bool:
    """Whether the gap that a signature cannot cover holds it in our signer's spelling, then zeros, and nothing else."""
    _, gap_start, gap_end, _ = byte_range
    length = 4 + int.from_bytes(content[2:4], "big")
    plain = content[:2] == b"\x30\x82" and not content[length:].strip(b"\0")
    return plain and data[gap_start:gap_end] == b"<" + content.hex().upper().encode() + b">"


def _plain(signed: Any) -> bool:
    """Whether the members of a signature that it does not cover are as our signer writes them (RFC 5652 sections 5.1, 5.3).

    Those are the versions, and the list in front of the algorithms that are used.
    """
    used = [signer["digest_algorithm"].dump() for signer in signed["signer_infos"]]
    versions = {each["version"].native for each in (signed, *signed["signer_infos"])}
    listed = [each.dump() for each in signed["digest_algorithms"]]
    return len(used) == 1 and listed == used and versions == {"v1"}
