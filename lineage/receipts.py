"""The receipt of a batch: what the store promises to put into the log, signed by the receipt key."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from django.conf import settings

from lineage import keys, notes
from lineage.events import format_time


def sign(promises: Sequence[notes.Promise]) -> str | None:
    """The signed note over newly accepted records; None where nothing new was accepted."""
    if not promises:
        return None
    now = format_time(dt.datetime.now(dt.UTC))
    return notes.sign_receipt(notes.Receipt(settings.ORIGIN, now, tuple(promises)), keys.signer("receipt")).decode()
