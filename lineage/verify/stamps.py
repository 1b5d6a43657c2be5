"""The check "time": what timestamp authorities of the policy state about the anchored checkpoints (RFC 3161)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from lineage import notes
from lineage.errors import TimestampInvalid
from lineage.events import format_time
from lineage.timestamps import Authority, Stamp, made_by, readable, verify
from lineage.verify.verdicts import Finding

NO_CLOCK = "Only the store's own clock says when these records were accepted."


class Anchored(Protocol):
    """A checkpoint's note, and responses of timestamp authorities over its text."""

    @property
    def note(self) -> bytes: ...
    @property
    def responses(self) -> Sequence[bytes]: ...


def timestamps(policy: notes.Policy | None, anchors: Sequence[Anchored]) -> Finding:
    """Which authority of the policy states which time for how many records; the notes' signatures are another check.

    TimestampInvalid: a token says that it is of an authority of the policy and does not verify, or cannot be read.
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
    unknown = count - len(found)
    rest = f" {unknown} more are of no authority that your policy names." if unknown else ""
    if not found:
        return "missing", f"None of {count} timestamps is of an authority that your policy names. {NO_CLOCK}"
    return "pass", f"{'; '.join(sorted(found))}.{rest}"


def _vouching(wanted: Sequence[Authority], anchor: Anchored) -> Iterator[str]:
    """What each token of a wanted authority states."""
    text = notes.read_note(anchor.note).text
    size = notes.parse_checkpoint(text).size
    for response in anchor.responses:
        claimed = [each for each in wanted if made_by(response, each)]
        # A name may have the old and the new root, and tokens below the one fail under the other.
        stamp = _first(response, text.encode(), claimed)
        if stamp:
            yield f"{stamp.authority} states {format_time(stamp.stated_at)[:19]}Z for the first {size} records"


def _first(response: bytes, message: bytes, claimed: Sequence[Authority]) -> Stamp | None:
    """The stamp by one of these authorities; None of none; TimestampInvalid when all of some refuse."""
    for place, authority in enumerate(claimed, 1):
        try:
            return verify(response, message, authority)
        except TimestampInvalid:
            if place == len(claimed):
                raise
    return None
