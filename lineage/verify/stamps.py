"""The check "time": what timestamp authorities of the policy state about the anchored checkpoints (RFC 3161), and
whether the times at which the records say that they were received go with it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lineage import notes
from lineage.errors import TimestampInvalid
from lineage.events import format_time, parse_time
from lineage.timestamps import Authority, Stamp, made_by, readable, verify
from lineage.verify.verdicts import Finding

SLACK = dt.timedelta(minutes=10)
"""By how much the store's clock may differ, with what passes between checkpoint and token."""
LONGEST = dt.timedelta(days=1)
NO_CLOCK = "Only the store's own clock says when these records were accepted."


class Anchored(Protocol):
    """A checkpoint's note, and responses of timestamp authorities over its text."""

    @property
    def note(self) -> bytes: ...
    @property
    def responses(self) -> Sequence[bytes]: ...


@dataclass(frozen=True)
class _Said:
    """A time that an authority of the policy states for the first `size` records."""

    size: int
    stamp: Stamp

    def __str__(self) -> str:
        return f"{self.stamp.authority} states {_text(self.stamp.stated_at)} for the first {self.size} records"


def timestamps(
    policy: notes.Policy | None, anchors: Sequence[Anchored], received: Mapping[int, str] | None = None
) -> Finding:
    """Which authority of the policy states which time for how many records; the notes' signatures are another check.

    `received` holds the time (RFC 3339) at which each record of interest says that it was received. Records after the last
    stamped checkpoint are said, and trust is missing for one received more than a day after it. TimestampInvalid: a
    token says that it is of an authority of the policy and does not verify, one cannot be read, or a record's time does not
    go with a stated one.
    """
    count = sum(len(anchor.responses) for anchor in anchors)
    wanted = policy.authorities if policy else []
    if not count:
        missing = "The pack carries no timestamp, though your policy names an authority. "
        return ("missing", missing + NO_CLOCK) if wanted else ("note", f"The pack carries no timestamp. {NO_CLOCK}")
    if not wanted:
        return "note", f"{count} timestamps, by no authority that a policy of yours names: not judged. {NO_CLOCK}"
    if not readable():
        return "missing", f"{count} timestamps were not read. Install the package rfc3161-client and check again."
    found = [said for anchor in anchors for said in _vouching(wanted, anchor)]
    if not found:
        return "missing", f"None of {count} timestamps is of an authority that your policy names. {NO_CLOCK}"
    rest = f" {count - len(found)} more are of no authority that your policy names." if count > len(found) else ""
    state, words = _covered(found, {index: parse_time(text) for index, text in (received or {}).items()})
    return state, f"{'; '.join(sorted(map(str, found)))}.{words}{rest}"


def _covered(found: Sequence[_Said], received: Mapping[int, dt.datetime]) -> Finding:
    """Whether the stated times cover the records and go with theirs."""
    for index, at in received.items():
        for said in found:
            stated = said.stamp.stated_at
            if index < said.size and at > stated + SLACK:
                raise TimestampInvalid(f"Record {index} says that it was received at {_text(at)}, but {said}.")
            if index >= said.size and at < stated - SLACK:
                raise TimestampInvalid(
                    f"Record {index} says that it was received at {_text(at)} already, but {said} only."
                )
    last = max(found, key=lambda said: said.size)
    later = {index: at for index, at in received.items() if index >= last.size}
    if not later:
        return "pass", ""
    words = f" {len(later)} of the records shown came later: only the store's own clock dates them"
    if max(later.values()) > last.stamp.stated_at + LONGEST:
        return "missing", f"{words}, and one was received more than a day later."
    return "note", f"{words}, all within a day."


def _vouching(wanted: Sequence[Authority], anchor: Anchored) -> Iterator[_Said]:
    """What each token of a wanted authority states."""
    text = notes.read_note(anchor.note).text
    size = notes.parse_checkpoint(text).size
    for response in anchor.responses:
        claimed = [each for each in wanted if made_by(response, each)]
        # A name may have the old and the new root, and tokens below the one fail under the other.
        stamp = _first(response, text.encode(), claimed)
        if stamp:
            yield _Said(size, stamp)


def _text(moment: dt.datetime) -> str:
    return f"{format_time(moment)[:19]}Z"


def _first(response: bytes, message: bytes, claimed: Sequence[Authority]) -> Stamp | None:
    """The stamp by one of these authorities; None of none; TimestampInvalid when all of some refuse."""
    for place, authority in enumerate(claimed, 1):
        try:
            return verify(response, message, authority)
        except TimestampInvalid:
            if place == len(claimed):
                raise
    return None
