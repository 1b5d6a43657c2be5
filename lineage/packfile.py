"""The evidence pack as a file: content to canonical bytes and back (docs/verify.md, "The pack"). Pure.

`write` and `read` are inverse: one content has one file. `read` judges form only; whether the evidence holds is for
`lineage.verify`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import msgspec

from lineage import archive
from lineage.commitment import SALT_BYTES, canonical, parse_canonical
from lineage.errors import OutsideProfile, PackInvalid, PackUnreadable
from lineage.events import GROUPS, Count, Group, Time
from lineage.merkle import HASH_BYTES
from lineage.notes import parse_checkpoint, read_note

FORMAT = "touchstone-pack"
VERSION = 1

State = Literal["disclosed", "withheld", "erased"]
Selection = Literal["range", "sparse"]
_T = TypeVar("_T")


class Headers(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """The part of a query that speaks of leaf members only. Lists mean: one of them. From inclusive, until exclusive."""

    kind: tuple[str, ...] = ()
    class_: tuple[str, ...] = msgspec.field(name="class", default=())
    source_id: tuple[str, ...] = ()
    occurred_from: Time | None = None
    occurred_until: Time | None = None
    received_from: Time | None = None
    received_until: Time | None = None


@dataclass(frozen=True)
class Disclosure:
    """One group of one record. Disclosed: salt and exact bytes. Erased: the index of the erasure's record, if known."""

    state: State
    salt: bytes | None = None
    data: bytes | None = None
    erased_by: int | None = None


@dataclass(frozen=True)
class PackContent:
    """All that a pack holds.

    `leaves`: index -> exact bytes; every index of a range, or the selected ones (sparse). `selected`: sorted indexes.
    `disclosures`: for each selected index, each group that its leaf names. `proofs`: one tuple of hashes (range,
    `merkle.range_proof`), or one for each leaf in order (sparse, `merkle.inclusion_path`), in the tree of the
    checkpoint's size. `hidden`: the query also asked for fields in groups, so `headers` alone does not select.
    """

    created_at: str
    query: str
    selection: Selection
    leaves: Mapping[int, bytes]
    selected: tuple[int, ...]
    disclosures: Mapping[int, Mapping[Group, Disclosure]]
    proofs: tuple[tuple[bytes, ...], ...]
    checkpoint: bytes
    headers: Headers = field(default_factory=Headers)
    hidden: bool = True
    earlier: bytes | None = None
    consistency: tuple[bytes, ...] = ()
    receipts: tuple[bytes, ...] = ()
    derived: Mapping[str, Any] | None = None


def prefers_sparse(selected: int, span: int, size: int, leaf_bytes: int = 520) -> bool:
    """Whether single proofs make a smaller pack than all leaves of a range of `span` of which `selected` are asked."""
    return selected * (leaf_bytes + 65 * size.bit_length()) < span * leaf_bytes


def write(content: PackContent) -> bytes:
    """The pack file; PackInvalid if the content does not fit together in form."""
    return archive.write(members(content))


def read(data: bytes) -> PackContent:
    """The content of a pack file. PackUnreadable: not a pack. PackInvalid: not the one canonical form of its content."""
    found = archive.read(data)
    check_format(found)
    content = parse(found)
    if write(content) != data:
        raise PackInvalid("The pack is not in its canonical form.")
    return content


def check_format(members: Mapping[str, bytes]) -> dict[str, Any]:
    """The manifest of a pack whose format and version we know; PackUnreadable otherwise."""
    try:
        found = parse_canonical(members["manifest.json"])
    except (KeyError, OutsideProfile) as error:
        raise PackUnreadable("The file holds no manifest of an evidence pack.") from error
    if not isinstance(found, dict) or (found.get("format"), found.get("version")) != (FORMAT, VERSION):
        raise PackUnreadable(f"This verifier reads {FORMAT} version {VERSION}; the file says otherwise.")
    return found


def parse(members: Mapping[str, bytes]) -> PackContent:
    """The content of a pack's members; PackInvalid names the member that does not follow its format."""
    head = _parsed("manifest.json", members, _Manifest)
    query = _parsed("query.json", members, _Query)
    derived = _parsed("derived.json", members, _Derived) if "derived.json" in members else None
    lines = _lines("leaves.ndjson", members)
    selected = _selected(query, len(lines))
    indexes = range(head.first, head.first + len(lines)) if head.selection == "range" else selected
    if len(indexes) != len(lines):
        raise PackInvalid("leaves.ndjson holds another number of leaves than query.json selects.")
    return PackContent(
        created_at=head.created_at,
        query=query.text,
        selection=head.selection,
        leaves=dict(zip(indexes, lines, strict=True)),
        selected=selected,
        disclosures=_parse_disclosures(members, selected),
        proofs=tuple(_hashes("proofs.txt", line) for line in _lines("proofs.txt", members)),
        checkpoint=_member("checkpoint.note", members),
        headers=query.headers,
        hidden=query.hidden,
        earlier=members.get("earlier.note"),
        consistency=tuple(
            node
            for line in (_lines("consistency.txt", members) if "earlier.note" in members else ())
            for node in _hashes("consistency.txt", line)
        ),
        receipts=tuple(members[name] for name in sorted(members) if name.startswith("receipts/")),
        derived=msgspec.to_builtins(derived) if derived else None,
    )


def members(content: PackContent) -> dict[str, bytes]:
    """The members that hold this content, the manifest among them; NoteInvalid if the checkpoint is none."""
    found = _members(content)
    return found | {"manifest.json": _manifest(content, found)}


def _manifest(content: PackContent, members: Mapping[str, bytes]) -> bytes:
    checkpoint = parse_checkpoint(read_note(content.checkpoint).text)
    groups: dict[str, dict[str, int]] = {}
    for disclosed in content.disclosures.values():
        for group, disclosure in disclosed.items():
            counts = groups.setdefault(group, {})
            counts[disclosure.state] = counts.get(disclosure.state, 0) + 1
    return canonical(
        {
            "format": FORMAT,
            "version": VERSION,
            "origin": checkpoint.origin,
            "size": checkpoint.size,
            "selection": content.selection,
            "first": min(content.leaves),
            "last": max(content.leaves),
            "leaves": len(content.leaves),
            "records": len(content.selected),
            "created_at": content.created_at,
            "query": content.query,
            "groups": groups,
            "members": {
                name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in members.items()
            },
        }
    )


class _Manifest(msgspec.Struct, kw_only=True):
    """The members of manifest.json that are read; the rest is compared by writing it again."""

    created_at: Time
    selection: Selection
    first: Count


class _Query(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    text: str
    selected: list[tuple[Count, Count]]
    headers: Headers
    hidden: bool


class _Derived(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    analyser: str
    version: str
    facts: list[Any]


class _Line(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    index: Count
    group: Group
    state: State
    salt: str | None = None
    bytes: str | None = None
    erased_by: Count | None = None


def _members(content: PackContent) -> dict[str, bytes]:
    if not content.leaves:
        raise PackInvalid("A pack holds at least one leaf. Ask for a range of the log instead of an empty selection.")
    query = {
        "text": content.query,
        "selected": _ranges(content.selected),
        "headers": msgspec.to_builtins(content.headers),
        "hidden": content.hidden,
    }
    members = {
        "query.json": canonical(query),
        "leaves.ndjson": _text_lines(content.leaves[index] for index in sorted(content.leaves)),
        "proofs.txt": _text_lines(_hex(proof) for proof in content.proofs),
        "disclosures.ndjson": _text_lines(
            _write_disclosure(index, group, content.disclosures[index][group])
            for index in content.selected
            for group in GROUPS
            if group in content.disclosures.get(index, {})
        ),
        "checkpoint.note": content.checkpoint,
    }
    if content.earlier is not None:
        members["earlier.note"] = content.earlier
        members["consistency.txt"] = _text_lines(_hex([node]) for node in content.consistency)
    for number, receipt in enumerate(content.receipts, 1):
        members[f"receipts/{number:06d}.note"] = receipt
    if content.derived is not None:
        members["derived.json"] = canonical(dict(content.derived))
    return members


def _ranges(selected: Sequence[int]) -> list[tuple[int, int]]:
    """Ascending indexes as inclusive ranges."""
    ranges: list[tuple[int, int]] = []
    for index in selected:
        if ranges and index <= ranges[-1][1]:
            raise PackInvalid("The selected indexes are not in ascending order.")
        if ranges and index == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], index)
        else:
            ranges.append((index, index))
    return ranges


def _selected(query: _Query, limit: int) -> tuple[int, ...]:
    """The selected indexes; there are at most as many as leaves."""
    if sum(high - low + 1 for low, high in query.selected) > limit:
        raise PackInvalid("query.json selects more records than there are leaves.")
    return tuple(index for low, high in query.selected for index in range(low, high + 1))


def _write_disclosure(index: int, group: Group, disclosure: Disclosure) -> bytes:
    line = _Line(
        index=index,
        group=group,
        state=disclosure.state,
        salt=None if disclosure.salt is None else disclosure.salt.hex(),
        bytes=None if disclosure.data is None else disclosure.data.decode(),
        erased_by=disclosure.erased_by,
    )
    return canonical(msgspec.to_builtins(line))


def _parse_disclosures(members: Mapping[str, bytes], selected: Sequence[int]) -> dict[int, Mapping[Group, Disclosure]]:
    found: dict[int, dict[Group, Disclosure]] = {index: {} for index in selected}
    for data in _lines("disclosures.ndjson", members):
        line = _parsed("disclosures.ndjson", {"disclosures.ndjson": data}, _Line)
        if line.index not in found or line.group in found[line.index]:
            raise PackInvalid(f"disclosures.ndjson opens group {line.group} of record {line.index} where it may not.")
        shown = (line.salt is not None, line.bytes is not None)
        if shown != ((True, True) if line.state == "disclosed" else (False, False)):
            raise PackInvalid(f"disclosures.ndjson does not fit its state for record {line.index}.")
        salt = None if line.salt is None else _hex_bytes("disclosures.ndjson", line.salt, SALT_BYTES)
        value = None if line.bytes is None else line.bytes.encode()
        found[line.index][line.group] = Disclosure(line.state, salt, value, line.erased_by)
    return dict(found)


def _parsed(name: str, members: Mapping[str, bytes], kind: type[_T]) -> _T:
    try:
        return msgspec.convert(parse_canonical(_member(name, members)), kind)
    except (OutsideProfile, msgspec.ValidationError) as error:
        raise PackInvalid(f"{name} does not follow its format: {error}") from error


def _member(name: str, members: Mapping[str, bytes]) -> bytes:
    if name not in members:
        raise PackInvalid(f"The member {name} is missing.")
    return members[name]


def _text_lines(lines: Iterable[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def _lines(name: str, members: Mapping[str, bytes]) -> list[bytes]:
    data = _member(name, members)
    if data and not data.endswith(b"\n"):
        raise PackInvalid(f"{name} does not end with a newline.")
    return data.split(b"\n")[:-1]


def _hex(hashes: Iterable[bytes]) -> bytes:
    return b" ".join(node.hex().encode() for node in hashes)


def _hashes(name: str, line: bytes) -> tuple[bytes, ...]:
    return tuple(_hex_bytes(name, word.decode("ascii", "replace"), HASH_BYTES) for word in line.split(b" ") if word)


def _hex_bytes(name: str, text: str, length: int) -> bytes:
    if len(text) != 2 * length or text.strip("0123456789abcdef"):
        raise PackInvalid(f"{name} holds something else than {length} bytes in lower-case hex.")
    return bytes.fromhex(text)
