"""What an act's ticket is worth: only asserted, or matched by an imported ticket that was open when the act was done. Pure.

An act is held against the first import that speaks for its time or a later one; until there is one, against the last before.
So an import changes nothing that an earlier one has settled.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

STATES = {
    "asserted": ("asserted", "Only the record says so: no ticket of this id is imported."),
    "early": ("opened later", "The ticket was opened only after that."),
    "closed": ("closed before", "The ticket was closed before that."),
    "reopened": ("reopened", "One import says closed, the next says open: whether it was open at that time is not known."),
    "presumed": ("matched so far", "It was open in the last import, which is from before: the next one tells."),
    "matched": ("matched", "The imported ticket was open at that time."),
}  # fmt: skip
"""Word and meaning of each state, the weakest first."""
ORDER = list(STATES)
TONES = {"matched": "good", "presumed": "open", "asserted": "open"}


class Version(NamedTuple):
    """A ticket as imports said it from `as_of` to `seen_at`, word for word the same in between."""

    as_of: dt.datetime
    seen_at: dt.datetime
    title: str
    requester: str
    assignee: str
    approver: str
    status: str
    opened_at: dt.datetime
    closed_at: dt.datetime | None
    url: str


class Citation(NamedTuple):
    """A ticket that an act names, and what is known of it. `version` is the one that it was held against."""

    ticket: str
    state: str
    version: Version | None = None

    @property
    def word(self) -> str:
        return STATES[self.state][0]

    @property
    def meaning(self) -> str:
        return STATES[self.state][1]

    @property
    def tone(self) -> str:
        return TONES.get(self.state, "late")


def judge(ticket: str, versions: Sequence[Version], first_at: dt.datetime, last_at: dt.datetime) -> Citation:
    """For acts from `first_at` to `last_at`, by the weaker of both ends. `versions` are in the order of their times."""
    return min((_at(ticket, versions, at) for at in (first_at, last_at)), key=lambda one: ORDER.index(one.state))


def _at(ticket: str, versions: Sequence[Version], at: dt.datetime) -> Citation:
    if not versions:
        return Citation(ticket, "asserted")
    place = next((n for n, one in enumerate(versions) if one.seen_at >= at), len(versions) - 1)
    said = versions[place]
    before = versions[place - 1] if place else None
    if said.opened_at > at:
        return Citation(ticket, "early", said)
    if said.closed_at is not None and said.closed_at <= at:
        return Citation(ticket, "closed", said)
    if said.seen_at < at:
        return Citation(ticket, "presumed", said)
    if said.as_of > at and before is not None and before.closed_at is not None:
        return Citation(ticket, "reopened", said)
    return Citation(ticket, "matched", said)


def is_address(text: str) -> bool:
    """Whether a text may stand behind a link: http or https, with a host, without a user, blanks and control characters."""
    try:
        parts = urlsplit(text)
        host, _port = parts.hostname, parts.port
    except ValueError:
        return False
    return (
        parts.scheme in ("http", "https") and bool(host) and "@" not in parts.netloc and "\\" not in text
        and text.isprintable() and " " not in text
    )  # fmt: skip
