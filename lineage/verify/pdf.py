"""The evidence inside a PDF report. Reading PDFs needs pikepdf; packs alone do not."""

from __future__ import annotations

import io

from lineage.errors import PackUnreadable
from lineage.notes import Policy
from lineage.verify.verdicts import Finding

ATTACHMENT = "evidence.touchstone.zip"


def attachment(data: bytes) -> bytes:
    """The pack that a report carries; PackUnreadable says what to do when it cannot be taken out."""
    try:
        import pikepdf
    except ImportError as error:
        raise PackUnreadable(
            f"Reading a PDF needs the package pikepdf. Install it, or save the attachment {ATTACHMENT} and verify that."
        ) from error
    try:
        with pikepdf.open(io.BytesIO(data)) as document:
            if ATTACHMENT not in document.attachments:
                raise PackUnreadable(f"The PDF carries no attachment named {ATTACHMENT}.")
            return bytes(document.attachments[ATTACHMENT].get_file().read_bytes())
    except (pikepdf.PdfError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise PackUnreadable("The PDF is damaged: its attachment cannot be read.") from error


def signature(policy: Policy | None) -> Finding:
    """What to do about the PDF's own signature, which is not checked here and so never passes."""
    wanted = " or ".join(policy.fingerprints) if policy else ""
    against = f"SHA-256 {wanted}" if wanted else "the one noted on day one (your policy names none)"
    return "missing", (
        f"The PDF's own signature is not checked here. Check it with your PDF reader against the certificate's "
        f"fingerprint {against}. The checks above are of the pack inside."
    )
