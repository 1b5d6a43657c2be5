"""Renewing: what an older version of this program derived of a sealed segment is derived again (docs/merging.md).

One segment at a time, the newest first, where nothing is due to be merged. What was reported stays as it is: those files are
the same ones in the new folder. Killed at any moment, the old or the new segment stands.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from lineage import derivation, merging, rewriting, segments
from lineage.merging import Segment


def tend() -> tuple[int, int] | None:
    """Merges what is due, and where nothing is renews one segment; (first index, next index), None when there is nothing.

    Call under `locks.alone(locks.MERGE)`. Raises LedgerBroken as `merging.merge` does.
    """
    done = merging.merge_due() or renew()
    if done is None:
        merging.refused.tell(merging.standing())
    return done


def renew() -> tuple[int, int] | None:
    """Renews the newest segment that needs it; (first index, next index), None when none does.

    Call under `locks.alone(locks.MERGE)`.
    """
    while one := due(merging.standing()):
        if merging.exchanged([one], _renewed, "select ledger_renew(%s, %s, %s)"):
            return one.first, one.following
    return None


def due(every: Sequence[Segment]) -> Segment | None:
    """The newest of which an older version made what is derived."""
    return next((one for one in reversed(every) if _is_old(one) and not merging.refused.holds(one)), None)


def _is_old(one: Segment) -> bool:
    return merging.is_known(one) and bool(derivation.outdated(one.files))


def _renewed(parts: Sequence[Segment]) -> tuple[str, dict[str, Any]]:
    """A new folder with what was reported in the segment, and what is derived of it; its name and its files."""
    (one,) = parts
    place, name = segments.storage(), segments.new_name(merged=True)
    draft = place.draft(name)
    look = _Look(one, name)
    try:
        made = derivation.outdated(one.files)
        anew = "events" in made
        merging.check_unchanged(one, ("leaves", "disclosures") if anew else ("events",), look)
        files = {table: dict(stated) for table, stated in one.files.items() if table not in made}
        for table in files:
            place.link(one.folder, table, name)
        if anew:
            rewriting.derive(place.root / one.folder, draft, range(one.first, one.following), look)
        derivation.write_of_events(draft, made)
        files |= {table: segments.described(draft / f"{table}.parquet") for table in made}
        derivation.say_versions(files)
        place.keep(name)
    except BaseException:
        place.discard(name)
        raise
    return name, files


class _Look(merging.Standing):
    """Looks now and then whether the segment is still the one that was read, and merges what became due meanwhile."""

    def __init__(self, one: Segment, draft: str) -> None:
        super().__init__([one])
        self.draft = draft

    def __call__(self) -> None:
        if time.monotonic() - self.looked_at >= merging.LOOK_SECONDS:
            merging.merge_due(self.draft)
        super().__call__()
