"""Collecting an evidence pack: what a question selects, with leaves, disclosures and proofs under one checkpoint."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence

from lineage import errors, keys, merkle, notes, packfile, segments, tree
from lineage.access import Viewer
from lineage.engine import Question
from lineage.events import Group, format_time
from lineage.queries import Window
from lineage.queries.ask import searched

RECORDS_MOST = 100_000
MADE_BY = "touchstone 0.1.0"
VALUE_GROUPS: tuple[Group, ...] = ("statement", "change")


def collect(
    viewer: Viewer,
    q: str,
    window: Window = Window(),
    *,
    withhold: Collection[Group] = (),
    earlier: str | None = None,
    indexes: Sequence[int] | None = None,
) -> bytes:
    """The pack file for a question (or for given indexes), as of the newest checkpoint.

    Groups in `withhold`, and those with values where the viewer may not see them, go out as digests only. `earlier` is a
    checkpoint note that the auditor holds. Raises NotFound when nothing is selected, QueryInvalid above 100,000 records.
    """
    note = tree.newest_note()
    size = _size(note)
    chosen = _selected(viewer, q, window, size) if indexes is None else sorted(i for i in set(indexes) if i < size)
    if not chosen:
        raise errors.NotFound("Nothing in your scope matches, so there is nothing to put into a pack.")
    if len(chosen) > RECORDS_MOST:
        raise errors.QueryInvalid(f"A pack holds at most {RECORDS_MOST:,} records. Narrow the question.")
    hidden = set(withhold) | (set() if viewer.sees_values else set(VALUE_GROUPS))
    span = chosen[-1] + 1 - chosen[0]
    # A range holds the leaves in between too: their times, kinds and sources are outside a narrower viewer's scope.
    sparse = viewer.is_narrowed or packfile.prefers_sparse(len(chosen), span, size)
    records = {record.index: record for record in segments.records(chosen)}
    if len(records) != len(chosen):
        raise errors.LedgerBroken
    content = packfile.PackContent(
        made_by=MADE_BY,
        created_at=format_time(dt.datetime.now(dt.UTC)),
        query=_asked(q, window),
        selection="sparse" if sparse else "range",
        leaves={i: records[i].leaf for i in chosen} if sparse else dict(segments.leaves(chosen[0], chosen[-1] + 1)),
        selected=tuple(chosen),
        disclosures={i: _disclosures(records[i], hidden) for i in chosen},
        proofs=_proofs(chosen, size, sparse),
        checkpoint=note.encode(),
        earlier=earlier.encode() if earlier else None,
        consistency=tuple(_consistency(earlier, size)) if earlier else (),
    )
    return packfile.write(content)


def _size(note: str) -> int:
    return notes.parse_checkpoint(notes.verify(note, [keys.vkey("checkpoint")]).text).size


def _selected(viewer: Viewer, q: str, window: Window, size: int) -> list[int]:
    condition, values = searched(viewer, q, window, "event")
    with Question(as_of=size) as question:
        rows = question.rows(
            f"select index from activity where {condition} order by index limit {RECORDS_MOST + 1}",  # noqa: S608
            values,
        )
    return [row["index"] for row in rows]


def _asked(q: str, window: Window) -> str:
    parts = [q]
    if window.since:
        parts.append(f"since:{format_time(window.since)}")
    if window.until:
        parts.append(f"until:{format_time(window.until)}")
    if window.environment:
        parts.append(f"environment:{window.environment}")
    return " ".join(part for part in parts if part) or "*"


def _disclosures(record: segments.Record, hidden: Collection[str]) -> dict[Group, packfile.Disclosure]:
    found: dict[Group, packfile.Disclosure] = {}
    for group, value in record.groups.items():
        if value is None:
            found[group] = packfile.Disclosure("erased")  # type: ignore[index]
        elif group in hidden:
            found[group] = packfile.Disclosure("withheld")  # type: ignore[index]
        else:
            found[group] = packfile.Disclosure("disclosed", record.salts[group], value)  # type: ignore[index]
    return found


def _proofs(chosen: Sequence[int], size: int, sparse: bool) -> tuple[tuple[bytes, ...], ...]:
    nodes = tree.Nodes()
    if sparse:
        return tuple(tuple(merkle.inclusion_path(index, size, nodes)) for index in chosen)
    return (tuple(merkle.range_proof(nodes, chosen[0], chosen[-1] + 1, size)),)


def _consistency(earlier: str, size: int) -> list[bytes]:
    old = _size(earlier)
    if old > size:
        raise errors.QueryInvalid(f"The earlier checkpoint covers {old} records, the log only {size}.")
    return merkle.consistency_path(old, size, tree.Nodes())
