"""Whether extracts are what they were made as, and say what the log says: for `fsck`. No fault here is one of the log."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from lineage import engine, reported, segments
from lineage.engine import Question
from lineage.extracts import Extract, making, reading
from lineage.snapshots import Snapshot

PART = 20_000
ANEW = "It is derived: `bin/manage extract --anew` makes it anew."


def faults() -> Iterator[str]:
    """As sentences. What is merged or erased while it is read is looked at again."""
    while True:
        snap = engine.snapshot()
        found = [*_changed(snap.extracts)] or [*_unlike(snap)]
        if not found or engine.snapshot().extracts == snap.extracts:
            yield from found
            return


def _changed(every: Sequence[Extract]) -> Iterator[str]:
    for one in every:
        for name, stated in one.files.items():
            with contextlib.suppress(FileNotFoundError):
                if segments.described(reading.folder(one.folder) / name)["sha256"] == stated["sha256"]:
                    continue
            yield f"Extract {one.first}: its file {name} was changed or is missing. {ANEW}"


def _unlike(snap: Snapshot) -> Iterator[str]:
    """Records of which the extracts together say something else than the log of that size."""
    if not snap.extracts:
        return
    reached = snap.extracts[-1].following
    with Question(snap, reached, tables=True, seconds=making.SECONDS_MOST) as question, making.schema(question) as name:
        assert question.joined is not None
        question.cursor.execute(reported.enter(name))
        reading.stored(question.cursor, snap.extracts)
        question.cursor.execute(reported.enter(question.joined.name))
        for start in range(0, reached, PART):
            inside = f"where index >= {start} and index < {start + PART}"
            views = (f"{name}.stored", f"{question.joined.name}.resolved")
            stored, told = (f"select * from {view} {inside}" for view in views)  # noqa: S608 - our own names, as below
            differing = question.rows(
                f"select min(index) as first from (({stored} except all {told}) union all ({told} except all {stored}))"  # noqa: S608
            )
            if differing[0]["first"] is not None:
                yield f"The extracts do not say of record {differing[0]['first']} what the log says. {ANEW}"
                return
