"""Collecting an evidence pack: what a question selects, with leaves, disclosures and proofs under one checkpoint."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypedDict, Unpack, cast, get_args

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
RECORDS_AT_ONCE = 5_000
HELD_BYTES = 1 << 20


class Asked(TypedDict, total=False):
    """What else may be asked of a pack.

    `withhold`: groups that go out as digests only, beside those with values where the viewer may not see them. `earlier`: a
    checkpoint note that the auditor holds. `beside`: where the leaves of a range of more than 1,000,000 may be written.
    """

    withhold: Collection[Group]
    earlier: str | None
    indexes: Sequence[int] | None
    witnessed: bool
    beside: Path | None


NOT_ASKED: Asked = {"withhold": (), "earlier": None, "indexes": None, "witnessed": False, "beside": None}


@dataclass(frozen=True)
class _Choice:
    """What goes into a pack: indexes, the part of the question over headers, and the range that it speaks of."""

    indexes: list[int]
    headers: packfile.Headers
    hidden: bool
    first: int
    following: int


def collect(viewer: Viewer, q: str, window: Window = Window(), **more: Unpack[Asked]) -> bytes:
    """The pack file for a question, or for those of the given indexes that lie in the viewer's scope.

    As of the newest checkpoint, or with `witnessed` of the newest that a witness cosigned.

    Raises NotFound when nothing is selected, QueryInvalid above 100,000 records.
    """
    return b"".join(parts(viewer, q, window, **more))


def parts(viewer: Viewer, q: str, window: Window = Window(), **more: Unpack[Asked]) -> Iterator[bytes]:
    """The bytes of that file one after the other; neither all of them nor all records are held at a time. Raises as `collect`."""
    asked: Asked = {**NOT_ASKED, **more}
    earlier, indexes = asked["earlier"], asked["indexes"]
    note = outside.witnessed_note() if asked["witnessed"] else tree.newest_note()
    size = _size(note)
    hidden = set(asked["withhold"]) | (set() if viewer.sees_values else set(VALUE_GROUPS))
    with contextlib.ExitStack() as stack:
        bulk = packfile.Bulk(lambda: stack.enter_context(_room()))
        with Question(as_of=size) as question:
            choice = _chosen(question, viewer, q, window) if indexes is None else _given(question, viewer, indexes)
            is_whole = _is_whole(choice, viewer, size)
            beside = None if is_whole or choice.hidden or not choice.indexes else asked["beside"]
            shows_all = (is_whole or beside is not None) and not viewer.is_narrowed
            counted = _commitments(question, choice) if shows_all else set()
        explained = _Explained(size, hidden)
        _write(choice, is_whole, explained, bulk)
        cited = explained.cited(explained.taken_by, "actor") | explained.cited(counted - explained.taken_by, "action")
        selected = frozenset(choice.indexes)
        content = packfile.PackContent(
            made_by=f"touchstone {settings.SPECTACULAR_SETTINGS['VERSION']}",
            created_at=format_time(dt.datetime.now(dt.UTC)),
            query=_asked(q, window),
            selection="range" if is_whole else "sparse",
            leaves={},
            selected=tuple(choice.indexes),
            disclosures={},
            proofs=(),
            checkpoint=note.encode(),
            headers=choice.headers,
            hidden=choice.hidden,
            anchors=tuple(_anchor(at, size) for at in _anchored(choice.indexes, size)),
            earlier=earlier.encode() if earlier else None,
            consistency=tuple(_continued(_size(earlier), size)) if earlier else (),
            cited={index: record for index, record in sorted(cited.items()) if index not in selected},
            detached=_detached(choice, explained, beside) if beside else None,
        )
        yield from packfile.parts(content, bulk)


def _room() -> BinaryIO:
    """A file that nobody else can open, below the data folder once it is large; gone when it is closed, or with the process."""
    folder = Path(settings.DATA_DIR) / "spill"
    folder.mkdir(exist_ok=True, mode=0o700)
    return cast(BinaryIO, tempfile.SpooledTemporaryFile(HELD_BYTES, dir=str(folder)))


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


def _is_whole(choice: _Choice, viewer: Viewer, size: int) -> bool:
    """Whether all leaves of the range go in, with one proof; else single ones, each with its own."""
    span = choice.following - choice.first
    # A range holds the leaves in between too: their times, kinds and sources are outside a narrower viewer's scope.
    whole = not viewer.is_narrowed and span <= LEAVES_MOST
    return whole and not (choice.hidden and packfile.prefers_sparse(len(choice.indexes), span, size))


def _write(choice: _Choice, is_whole: bool, explained: _Explained, bulk: packfile.Bulk) -> None:
    """Leaves, proofs and disclosures, each record read once. Raises LedgerBroken where one is missing, NotFound where there is none."""
    size, nodes, wanted = explained.size, explained.nodes, len(choice.indexes)
    if is_whole:
        wanted = choice.following - choice.first
        for index, leaf in segments.leaves(choice.first, choice.following):
            bulk.leaf(index, leaf)
        bulk.proof(merkle.range_proof(nodes, choice.first, choice.following, size))
    else:
        for proof in merkle.inclusion_paths(choice.indexes, size, nodes):
            bulk.proof(proof)
    for record, shown in explained.disclosures(choice.indexes):
        if not is_whole:
            bulk.leaf(record.index, record.leaf)
        bulk.disclose(record.index, shown)
    if bulk.leaves != wanted or not bulk.leaves:
        raise errors.LedgerBroken if choice.indexes else errors.NotFound


def _detached(choice: _Choice, explained: _Explained, path: Path) -> packfile.Detached:
    """Writes the leaves of the range into a file, of which few are held at a time."""
    proof = merkle.range_proof(explained.nodes, choice.first, choice.following, explained.size)
    sha256, length = hashlib.sha256(), 0
    draft = path.with_suffix(".draft")
    with draft.open("wb") as file:
        for _, leaf in segments.leaves(choice.first, choice.following):
            sha256.update(leaf + b"\n")
            length += file.write(leaf + b"\n")
    draft.rename(path)
    return packfile.Detached(path.name, choice.first, choice.following - 1, length, sha256.hexdigest(), tuple(proof))


def _commitments(question: Question, choice: _Choice) -> set[int]:
    """The count commitments whose records all lie in the range."""
    first, last = choice.first, choice.following - 1
    rows = question.rows(
        "select index, custody from raw_events where custody_type = 'count_commitment' and source = ? and index > ?",
        [OWN, first],
    )
    said = {row["index"]: msgspec.json.decode(row["custody"]) for row in rows}
    return {index for index, each in said.items() if first <= int(each["first"]) and int(each["last"]) <= last}


class _Explained:
    """What is disclosed of the chosen records, and the records that explain them, as of one size of the log."""

    def __init__(self, size: int, hidden: Collection[str]) -> None:
        self.size, self.hidden = size, hidden
        self.nodes = tree.Nodes()
        self.taken_by: set[int] = set()

    def disclosures(self, indexes: Sequence[int]) -> Iterator[tuple[segments.Record, dict[Group, packfile.Disclosure]]]:
        """Each record with what is shown of each of its groups; `taken_by` are then the indexes of the erasures that took some."""
        coming = segments.records(indexes)
        while records := list(islice(coming, RECORDS_AT_ONCE)):
            gone = {(r.index, group) for r in records for group, value in r.groups.items() if value is None}
            taken = erasures.erased_by({index for index, _ in gone})
            # A record of an erasure that the checkpoint does not cover cannot be shown: the group is missing until then.
            by = {at: record for at, record in taken.items() if at in gone and record < self.size}
            self.taken_by |= set(by.values())
            yield from ((record, _disclosed(record, self.hidden, by)) for record in records)

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
