"""Collecting an evidence pack: what a question selects, with leaves, disclosures and proofs under one checkpoint."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import msgspec
from django.conf import settings
from django.db import connection

from lineage import archive, erasures, errors, keys, merkle, notes, outside, packfile, search, segments, tree
from lineage.access import Viewer
from lineage.engine import Question
from lineage.events import Group, Kind, format_time
from lineage.models import Source
from lineage.queries import Window
from lineage.queries.ask import OWN, left_out, searched

RECORDS_MOST = 100_000
LEAVES_MOST = 1_000_000
ANCHORS_LOOKED_AT = 1_000
VALUE_GROUPS: tuple[Group, ...] = ("statement", "change")


@dataclass(frozen=True)
class _Choice:
    """What goes into a pack: indexes, the part of the question over headers, and the range that it speaks of."""

    indexes: list[int]
    headers: packfile.Headers
    hidden: bool
    first: int
    following: int


def collect(
    viewer: Viewer,
    q: str,
    window: Window = Window(),
    *,
    withhold: Collection[Group] = (),
    earlier: str | None = None,
    indexes: Sequence[int] | None = None,
    witnessed: bool = False,
    beside: Path | None = None,
) -> bytes:
    """The pack file for a question, or for those of the given indexes that lie in the viewer's scope.

    As of the newest checkpoint, or with `witnessed` of the newest that a witness cosigned. Groups in `withhold`, and those
    with values where the viewer may not see them, go out as digests only. `earlier` is a checkpoint note that the auditor
    holds. `beside` is where the leaves of a range of more than 1,000,000 may be written.

    Raises NotFound when nothing is selected, QueryInvalid above 100,000 records.
    """
    note = outside.witnessed_note() if witnessed else tree.newest_note()
    size = _size(note)
    with Question(as_of=size) as question:
        choice = _chosen(question, viewer, q, window) if indexes is None else _given(question, viewer, indexes)
        content = _content(choice, viewer, size, beside)
        hidden = set(withhold) | (set() if viewer.sees_values else set(VALUE_GROUPS))
        explained = _Explained(question, size)
        disclosures, taken_by = explained.disclosures(choice.indexes, hidden)
        counted = set() if viewer.is_narrowed else explained.commitments(content)
        cited = explained.cited(taken_by, "actor") | explained.cited(counted - taken_by, "action")
    content = replace(
        content,
        query=_asked(q, window),
        disclosures=disclosures,
        cited={index: record for index, record in sorted(cited.items()) if index not in disclosures},
        checkpoint=note.encode(),
        anchors=tuple(_anchor(at, size) for at in _anchored(choice.indexes, size)),
        earlier=earlier.encode() if earlier else None,
        consistency=tuple(_continued(_size(earlier), size)) if earlier else (),
    )
    return packfile.write(content)


def single(index: int, size: int | None = None) -> str:
    """A C2SP tlog-proof of one record under the checkpoint of this size (the newest by default), its leaf in `extra`.

    The leaf names its source, kind and times: only for who sees everything. Raises NotFound.
    """
    note = tree.newest_note() if size is None else outside.note_with_cosignatures(size)
    size = _size(note)
    leaf = next((leaf for _, leaf in segments.leaves(index, index + 1)), None) if 0 <= index < size else None
    if leaf is None:
        raise errors.NotFound(
            f"The checkpoint covers the records 0 to {size - 1}; there is no record {index} under it."
        )
    return notes.write_proof(
        notes.TlogProof(index, tuple(merkle.inclusion_path(index, size, tree.Nodes())), note, leaf)
    )


def told(pack: bytes) -> str:
    """What a pack holds and who outside stands behind its checkpoint, for whoever made it."""
    members = archive.read(pack)
    manifest = packfile.check_format(members)
    stamps = sum(name.endswith(".tsr") for name in members)
    return (
        f"{len(pack):,} bytes: {manifest['records']:,} records, {manifest['leaves']:,} leaves ({manifest['selection']}), "
        f"{manifest['cited']:,} cited; {manifest['anchors']} anchors with {stamps} timestamps. Under the checkpoint of "
        f"{manifest['size']:,} records. {outside.sentence(manifest['size'])}"
    )


def _size(note: str) -> int:
    return notes.parse_checkpoint(notes.verify(note, keys.vkeys("checkpoint")).text).size


def _chosen(question: Question, viewer: Viewer, q: str, window: Window) -> _Choice:
    now, query = dt.datetime.now(dt.UTC), search.parse(q)
    condition, values = searched(viewer, q, window, "event", now)
    rows = question.rows(
        f"select index from activity where {condition} order by index limit {RECORDS_MOST + 1}",  # noqa: S608
        values,
    )
    found = [row["index"] for row in rows]
    _check_number(found)
    part = search.header_part(query, [OWN, *Source.objects.values_list("name", flat=True)], now)
    headers = _narrowed(part.headers, window, left_out(query)[0])
    hidden = not part.whole or left_out(query) != ((), "") or bool(window.environment) or viewer.is_narrowed
    if hidden or (part.first, part.following) == (None, None):
        return _spanning(found, headers, hidden)
    # The range was named, so that also an empty answer says something.
    first, following = part.first or 0, min(question.size, question.size if part.following is None else part.following)
    if first >= following:
        raise errors.NotFound(f"The log holds {question.size} records, none of them in this range.")
    return _Choice(found, headers, False, first, following)


def _narrowed(headers: packfile.Headers, window: Window, kinds: Sequence[str]) -> packfile.Headers:
    """The filter with the window's times, and without the kinds that were not asked for."""
    since, until = (format_time(at) if at else None for at in (window.since, window.until))
    known = headers.kind or (tuple(sorted(set(get_args(Kind)) - set(kinds))) if kinds else ())
    return msgspec.structs.replace(
        headers,
        kind=tuple(kind for kind in known if kind not in kinds),
        occurred_from=max(filter(None, (headers.occurred_from, since)), default=None),
        occurred_until=min(filter(None, (headers.occurred_until, until)), default=None),
    )


def _given(question: Question, viewer: Viewer, indexes: Sequence[int]) -> _Choice:
    found = sorted(index for index in set(indexes) if 0 <= index < question.size)
    _check_number(found)
    if viewer.is_narrowed:
        condition, values = viewer.scope()
        asked = f"select index from activity where {condition} and index in (select unnest(?)) order by index"  # noqa: S608
        found = [row["index"] for row in question.rows(asked, [*values, found])]
    return _spanning(found, packfile.Headers(), True)


def _check_number(found: Sequence[int]) -> None:
    if len(found) > RECORDS_MOST:
        raise errors.QueryInvalid(f"A pack holds at most {RECORDS_MOST:,} records. Narrow the question.")


def _spanning(found: list[int], headers: packfile.Headers, hidden: bool) -> _Choice:
    if not found:
        raise errors.NotFound("Nothing in your scope matches, so there is nothing to put into a pack.")
    return _Choice(found, headers, hidden, found[0], found[-1] + 1)


def _content(choice: _Choice, viewer: Viewer, size: int, beside: Path | None) -> packfile.PackContent:
    """The leaves and their proofs: all of a range, or single ones, with the range in a file beside them."""
    span = choice.following - choice.first
    # A range holds the leaves in between too: their times, kinds and sources are outside a narrower viewer's scope.
    whole = not viewer.is_narrowed and span <= LEAVES_MOST
    if choice.hidden:
        whole = whole and not packfile.prefers_sparse(len(choice.indexes), span, size)
    selection: Literal["range", "sparse"] = "range" if whole else "sparse"
    nodes, detached = tree.Nodes(), None
    if whole:
        leaves = dict(segments.leaves(choice.first, choice.following))
        proofs = [merkle.range_proof(nodes, choice.first, choice.following, size)]
    else:
        leaves = {record.index: record.leaf for record in segments.records(choice.indexes)}
        proofs = [merkle.inclusion_path(index, size, nodes) for index in choice.indexes]
        if beside is not None and not choice.hidden and choice.indexes:
            detached = _detach(beside, choice, tuple(merkle.range_proof(nodes, choice.first, choice.following, size)))
    if len(leaves) != (span if whole else len(choice.indexes)) or not leaves:
        raise errors.LedgerBroken if choice.indexes else errors.NotFound
    return packfile.PackContent(
        made_by=f"touchstone {settings.SPECTACULAR_SETTINGS['VERSION']}",
        created_at=format_time(dt.datetime.now(dt.UTC)),
        query="",
        selection=selection,
        leaves=leaves,
        selected=tuple(choice.indexes),
        disclosures={},
        proofs=tuple(tuple(proof) for proof in proofs),
        checkpoint=b"",
        headers=choice.headers,
        hidden=choice.hidden,
        detached=detached,
    )


def _detach(path: Path, choice: _Choice, proof: tuple[bytes, ...]) -> packfile.Detached:
    """Writes the leaves of the range into a file, of which few are held at a time."""
    sha256, length = hashlib.sha256(), 0
    draft = path.with_suffix(".draft")
    with draft.open("wb") as file:
        for _, leaf in segments.leaves(choice.first, choice.following):
            sha256.update(leaf + b"\n")
            length += file.write(leaf + b"\n")
    draft.rename(path)
    return packfile.Detached(path.name, choice.first, choice.following - 1, length, sha256.hexdigest(), proof)


class _Explained:
    """What is disclosed of the chosen records, and the records that explain them, as of one size of the log."""

    def __init__(self, question: Question, size: int) -> None:
        self.question, self.size = question, size
        self.nodes = tree.Nodes()

    def disclosures(
        self, indexes: Sequence[int], hidden: Collection[str]
    ) -> tuple[dict[int, dict[Group, packfile.Disclosure]], set[int]]:
        """Each group of each record, and the indexes of the erasures that took some."""
        records = list(segments.records(indexes))
        gone = {(r.index, group) for r in records for group, value in r.groups.items() if value is None}
        taken = erasures.erased_by({index for index, _ in gone})
        # A record of an erasure that the checkpoint does not cover cannot be shown: the group is missing until then.
        by = {at: record for at, record in taken.items() if at in gone and record < self.size}
        return {r.index: _disclosed(r, hidden, by) for r in records}, set(by.values())

    def commitments(self, content: packfile.PackContent) -> set[int]:
        """The count commitments whose leaves are all in the pack, or in the file beside it."""
        if content.selection == "sparse" and content.detached is None:
            return set()
        beside = content.detached
        first, last = (beside.first, beside.last) if beside else (min(content.leaves), max(content.leaves))
        rows = self.question.rows(
            "select index, custody from raw_events where custody_type = 'count_commitment' and source = ? and index > ?",
            [OWN, first],
        )
        said = {row["index"]: msgspec.json.decode(row["custody"]) for row in rows}
        return {index for index, each in said.items() if first <= int(each["first"]) and int(each["last"]) <= last}

    def cited(self, indexes: Collection[int], group: Group) -> dict[int, packfile.Cited]:
        """These records, each with its own proof, and of their groups the one that explains."""
        return {
            record.index: packfile.Cited(
                record.leaf,
                tuple(merkle.inclusion_path(record.index, self.size, self.nodes)),
                _disclosed(record, set(record.groups) - {group}, {}),
            )
            for record in segments.records(sorted(indexes))
        }


def _disclosed(
    record: segments.Record, hidden: Collection[str], by: dict[tuple[int, str], int]
) -> dict[Group, packfile.Disclosure]:
    found: dict[Group, packfile.Disclosure] = {}
    for group, value in record.groups.items():
        if value is None:
            found[group] = packfile.Disclosure("erased", erased_by=by.get((record.index, group)))  # type: ignore[index]
        elif group in hidden:
            found[group] = packfile.Disclosure("withheld")  # type: ignore[index]
        else:
            found[group] = packfile.Disclosure("disclosed", record.salts[group], value)  # type: ignore[index]
    return found


def _anchored(indexes: Sequence[int], size: int) -> list[int]:
    """Sizes of checkpoints that stand outside: of witnesses and of authorities, the newest, and the oldest that holds
    every selected record, which bounds its time most tightly; of authorities also the newest that holds none of them, so
    that none can say it was received before that. Of the nearest thousand, those with the most signers.
    """
    found = set[int]()
    with connection.cursor() as cursor:
        for table in ("ledger_cosignature", "ledger_timestamp"):
            for least, most, order in _spans(indexes, size, table == "ledger_timestamp"):
                cursor.execute(
                    f"select size from (select size from {table} where size between %s and %s order by size {order} "  # noqa: S608
                    f"limit {ANCHORS_LOOKED_AT}) nearest group by size order by count(*) desc, size {order} limit 1",
                    [least, most],
                )
                found |= {row[0] for row in cursor.fetchall()}
    return sorted(found)


def _spans(indexes: Sequence[int], size: int, both: bool) -> list[tuple[int, int, str]]:
    """Where to look for checkpoints: least and most size, and from which end."""
    spans = [(indexes[-1] + 1 if indexes else size, size, "asc"), (1, size, "desc")]
    return [*spans, (1, indexes[0], "desc")] if both and indexes else spans


def _anchor(at: int, size: int) -> packfile.Anchor:
    (found,) = outside.anchors(at, at)
    note = outside.note_with_cosignatures(at).encode()
    return packfile.Anchor(note, tuple(_continued(at, size)), tuple(each.response for each in found.timestamps))


def _continued(old: int, size: int) -> Iterable[bytes]:
    if old > size:
        raise errors.QueryInvalid(f"The earlier checkpoint covers {old} records, the log only {size}.")
    return merkle.consistency_path(old, size, tree.Nodes())


def _asked(q: str, window: Window) -> str:
    parts = [q]
    if window.since:
        parts.append(f"since:{format_time(window.since)}")
    if window.until:
        parts.append(f"until:{format_time(window.until)}")
    if window.environment:
        parts.append(f"environment:{window.environment}")
    return " ".join(part for part in parts if part) or "*"
