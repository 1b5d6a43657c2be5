"""Timestamps (RFC 3161) of reports' signatures, by the authorities of `TOUCHSTONE_TSA`. Without an answer a report goes out without one."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterator
from typing import Any

from lineage import authorities
from lineage.verify import tokens

PENDING = "pending"
"""No authority answered. The report's SHA-256 is in the log, whose checkpoints they stamp later."""


def stampers() -> Iterator[tuple[str, Any]]:
    """(name, pyHanko time stamper) of each authority that is set, in their order."""
    from asn1crypto import tsp
    from pyhanko.sign.timestamps import TimeStamper  # noqa: TID251 - beside reports.signing

    class Posted(TimeStamper):
        """Asks as the keeper asks: ten seconds, 64 KiB, no redirect. The token keeps its signer's certificate alone."""

        def __init__(self, url: str) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.url = url

        async def async_request_tsa_response(self, req: Any) -> Any:
            return tsp.TimeStampResp.load(await asyncio.to_thread(authorities.answer, self.url, req.dump()))

        async def async_timestamp(self, message_digest: bytes, md_algorithm: str) -> Any:
            return tokens.slim(await super().async_timestamp(message_digest, md_algorithm))

    for name, url in authorities.configured().items():
        yield name, Posted(url)


def told(stamped_at: dt.datetime | None) -> str | None:
    """What the JSON says: the time that the authority states, `pending`, or null where no authority is set."""
    if stamped_at is not None:
        return stamped_at.isoformat()
    return PENDING if authorities.configured() else None
