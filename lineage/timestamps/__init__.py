"""RFC 3161 timestamps over checkpoints: asking, and checking an answer against the authorities that a policy names.

Pure: bytes in, values out; no network, no Django. Reading tokens needs the package rfc3161-client, and only that part
does: a policy with `tsa` lines is read without it.
"""

from __future__ import annotations

from lineage.timestamps.authority import Authority, parse_authority
from lineage.timestamps.tokens import (
    MAX_RESPONSE_BYTES,
    Request,
    Stamp,
    authority_of,
    made_by,
    readable,
    request,
    verify,
)

__all__ = [
    "MAX_RESPONSE_BYTES",
    "Authority",
    "Request",
    "Stamp",
    "authority_of",
    "made_by",
    "parse_authority",
    "readable",
    "request",
    "verify",
]
