"""From content to the one file of it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import msgspec

from lineage import archive
from lineage.commitment import canonical
from lineage.errors import PackInvalid
from lineage.events import GROUPS, Group
from lineage.notes import parse_checkpoint, read_note
from lineage.packfile.content import FORMAT, VERSION, Anchor, Cited, Detached, Disclosure, PackContent


def write(content: PackContent) -> bytes:
    """The pack file; PackInvalid if the content does not fit together in form."""
    return archive.write(members(content))


def parts(content: PackContent, bulk: Bulk) -> Iterator[bytes]:
    """The pack file, few bytes at a time, of a content whose leaves, proofs and disclosures are `bulk` and not in it."""
    return archive.parts(_members(content, bulk))


def members(content: PackContent) -> dict[str, bytes]:
    """The members that hold this content, the manifest among them; NoteInvalid if the checkpoint is none."""
    return {name: archive.held(member) for name, member in _rewritten(content, Bulk(io.BytesIO)).items()}


def rewritten(content: PackContent) -> dict[str, bytes | archive.Drafted]:
    """The same, of which nothing is held of those that grow with the records but length and sums."""
    return _rewritten(content, Bulk(lambda: None))


def _rewritten(content: PackContent, bulk: Bulk) -> dict[str, bytes | archive.Drafted]:
    for index in sorted(content.leaves):
        bulk.leaf(index, content.leaves[index])
    for proof in content.proofs:
        bulk.proof(proof)
    for index in content.selected:
        bulk.disclose(index, content.disclosures.get(index, {}))
    return _members(content, bulk)


class Bulk:
    """The members that grow with the records of a pack, written record by record in the order of the log.

    `room` opens a file for one of them, or none is kept. What is counted of them is told by the manifest.
    """

    def __init__(self, room: Callable[[], BinaryIO | None]) -> None:
        self.first = self.last = -1
        self.leaves = 0
        self.groups: dict[str, dict[str, int]] = {}
        self._leaves, self._proofs, self._disclosures = (archive.Drafted(room()) for _ in range(3))

    def leaf(self, index: int, data: bytes) -> None:
        """The next leaf."""
        self.first, self.last = self.first if self.leaves else index, index
        self.leaves += 1
        self._leaves.add(data + b"\n")

    def proof(self, hashes: Sequence[bytes]) -> None:
        """The one proof of a range, or that of the next single leaf."""
        self._proofs.add(" ".join(_hex(hashes)).encode() + b"\n")

    def disclose(self, index: int, groups: Mapping[Group, Disclosure]) -> None:
        """What is shown of the next selected record."""
        for group, shown in groups.items():
            counts = self.groups.setdefault(group, {})
            counts[shown.state] = counts.get(shown.state, 0) + 1
        for line in _disclosures(groups):
            self._disclosures.add(canonical({"index": index, **line}) + b"\n")

    @property
    def members(self) -> dict[str, archive.Drafted]:
        return {
            "leaves.ndjson": self._leaves,
            "proofs.txt": self._proofs,
            "disclosures.ndjson": self._disclosures,
        }


def _members(content: PackContent, bulk: Bulk) -> dict[str, bytes | archive.Drafted]:
    if not bulk.leaves:
        raise PackInvalid("A pack holds at least one leaf. Ask for a range of the log instead of an empty selection.")
    found: dict[str, bytes | archive.Drafted] = {**_always(content), **bulk.members, **_anchors(content.anchors)}
    if content.earlier is not None:
        found["earlier.note"] = content.earlier
        found["consistency.txt"] = _hash_lines(content.consistency)
    if content.cited:
        found["cited.ndjson"] = _text_lines(_cited(index, content.cited[index]) for index in sorted(content.cited))
    if content.detached is not None:
        found["range.json"] = _detached(content.detached)
    for number, receipt in enumerate(content.receipts, 1):
        found[f"receipts/{number:06d}.note"] = receipt
    if content.derived is not None:
        found["derived.json"] = canonical(dict(content.derived))
    return found | {"manifest.json": _manifest(content, bulk, found)}


def ranges(selected: Sequence[int]) -> list[tuple[int, int]]:
    """Ascending indexes as inclusive ranges."""
    found: list[tuple[int, int]] = []
    for index in selected:
        if found and index <= found[-1][1]:
            raise PackInvalid("The selected indexes are not in ascending order.")
        if found and index == found[-1][1] + 1:
            found[-1] = (found[-1][0], index)
        else:
            found.append((index, index))
    return found


def _manifest(content: PackContent, bulk: Bulk, members: Mapping[str, bytes | archive.Drafted]) -> bytes:
    checkpoint = parse_checkpoint(read_note(content.checkpoint).text)
    return canonical(
        {
            "format": FORMAT,
            "version": VERSION,
            "made_by": content.made_by,
            "created_at": content.created_at,
            "origin": checkpoint.origin,
            "size": checkpoint.size,
            "selection": content.selection,
            "first": bulk.first,
            "last": bulk.last,
            "leaves": bulk.leaves,
            "records": len(content.selected),
            "cited": len(content.cited),
            "anchors": len(content.anchors),
            "query": content.query,
            "groups": bulk.groups,
            "members": {name: _described(data) for name, data in members.items()},
        }
    )


def _described(data: bytes | archive.Drafted) -> dict[str, Any]:
    length, sha256 = archive.described(data)
    return {"bytes": length, "sha256": sha256}


def _always(content: PackContent) -> dict[str, bytes]:
    query = {
        "text": content.query,
        "selected": ranges(content.selected),
        "headers": msgspec.to_builtins(content.headers),
        "hidden": content.hidden,
    }
    return {"query.json": canonical(query), "checkpoint.note": content.checkpoint}


def _disclosures(groups: Mapping[Group, Disclosure]) -> list[dict[str, Any]]:
    """One object for each group, in the order of the groups."""
    found = []
    for group in GROUPS:
        if group in groups:
            shown = groups[group]
            line: dict[str, Any] = {"group": group, "state": shown.state}
            if shown.salt is not None:
                line["salt"] = shown.salt.hex()
            if shown.data is not None:
                line["bytes"] = shown.data.decode()
            if shown.erased_by is not None:
                line["erased_by"] = shown.erased_by
            found.append(line)
    return found


def _cited(index: int, record: Cited) -> bytes:
    return canonical(
        {
            "index": index,
            "leaf": record.leaf.decode(),
            "proof": _hex(record.proof),
            "disclosures": _disclosures(record.disclosures),
        }
    )


def _detached(detached: Detached) -> bytes:
    return canonical(
        {
            "file": detached.file,
            "first": detached.first,
            "last": detached.last,
            "bytes": detached.length,
            "sha256": detached.sha256,
            "proof": _hex(detached.proof),
        }
    )


def _anchors(anchors: Sequence[Anchor]) -> dict[str, bytes]:
    found = {}
    for number, anchor in enumerate(anchors, 1):
        found[f"anchors/{number:06d}.note"] = anchor.note
        found[f"anchors/{number:06d}.consistency.txt"] = _hash_lines(anchor.consistency)
        for place, response in enumerate(anchor.responses, 1):
            found[f"anchors/{number:06d}.{place}.tsr"] = response
    return found


def _text_lines(lines: Iterable[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def _hash_lines(hashes: Iterable[bytes]) -> bytes:
    return _text_lines(text.encode() for text in _hex(hashes))


def _hex(hashes: Iterable[bytes]) -> list[str]:
    return [node.hex() for node in hashes]
