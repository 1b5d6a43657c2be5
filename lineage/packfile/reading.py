"""From a file to its content; strict in form. Whether the evidence holds is for `lineage.verify`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import msgspec

from lineage import archive
from lineage.commitment import SALT_BYTES, Digest, parse_canonical
from lineage.errors import OutsideProfile, PackInvalid, PackUnreadable
from lineage.events import GROUPS, Count, Group, Time
from lineage.merkle import HASH_BYTES
from lineage.packfile.content import (
    FORMAT,
    VERSION,
    Anchor,
    Cited,
    Detached,
    Disclosure,
    Headers,
    PackContent,
    Selection,
    State,
)
from lineage.packfile.lines import Disclosures, Leaves, Lines, is_of, place_of
from lineage.packfile.writing import write

_T = TypeVar("_T")
BULK = ("leaves.ndjson", "proofs.txt", "disclosures.ndjson")
"""The members that grow with the records."""
_DIGITS = b"0123456789abcdef"
_File = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


def read(data: bytes) -> PackContent:
    """The content of a pack file. PackUnreadable: not a pack. PackInvalid: not the one canonical form of its content."""
    found = archive.read(data)
    check_format(found)
    content = parse(found)
    if write(content) != data:
        raise PackInvalid("The pack is not in its canonical form.")
    return content


def check_format(members: Mapping[str, archive.Member]) -> dict[str, Any]:
    """The manifest of a pack whose format and version we know; PackUnreadable otherwise."""
    try:
        found = parse_canonical(archive.held(members["manifest.json"]))
    except (KeyError, OutsideProfile) as error:
        raise PackUnreadable("The file holds no manifest of an evidence pack.") from error
    if not isinstance(found, dict) or (found.get("format"), found.get("version")) != (FORMAT, VERSION):
        raise PackUnreadable(f"This verifier reads {FORMAT} version {VERSION}; the file says otherwise.")
    return found


def parse(members: Mapping[str, bytes | archive.Stored]) -> PackContent:
    """The content of a pack's members; PackInvalid names the member that does not follow its format.

    Leaves, proofs and disclosures are looked at here and read where they lie when they are asked for.
    What is written otherwise than `packfile.members` writes it, or belongs to no member, passes: write it again and compare.
    """
    large = {name: archive.lying(member) for name, member in members.items() if name in BULK}
    return _parse({name: archive.held(member) for name, member in members.items() if name not in BULK}, large)


def _parse(members: Mapping[str, bytes], large: Mapping[str, archive.Stored]) -> PackContent:
    head = _parsed("manifest.json", _member("manifest.json", members), _Manifest)
    query = _parsed("query.json", _member("query.json", members), _Query)
    derived = _parsed("derived.json", members["derived.json"], _Derived) if "derived.json" in members else None
    lines = Lines("leaves.ndjson", _member("leaves.ndjson", large), bytes)
    selected = _selected(query, len(lines))
    indexes: Sequence[int] = selected if head.selection != "range" else range(head.first, head.first + len(lines))
    if selected and not (indexes[0] <= selected[0] and selected[-1] <= indexes[-1]):
        raise PackInvalid("query.json selects records outside the leaves.")
    if len(indexes) != len(lines):
        raise PackInvalid("leaves.ndjson holds another number of leaves than query.json selects.")
    return PackContent(
        made_by=head.made_by,
        created_at=head.created_at,
        query=query.text,
        selection=head.selection,
        leaves=Leaves(indexes, lines),
        selected=selected,
        disclosures=_parse_disclosures(_member("disclosures.ndjson", large), selected),
        proofs=_parse_proofs(_member("proofs.txt", large)),
        checkpoint=_member("checkpoint.note", members),
        headers=query.headers,
        hidden=query.hidden,
        anchors=tuple(_anchors(members)),
        earlier=members.get("earlier.note"),
        consistency=_hash_lines("consistency.txt", members) if "earlier.note" in members else (),
        cited=_parse_cited(members, frozenset(selected)),
        detached=_parse_detached(members, head.selection),
        receipts=tuple(members[name] for name in sorted(members) if name.startswith("receipts/")),
        derived=msgspec.to_builtins(derived) if derived else None,
    )


class _Manifest(msgspec.Struct, kw_only=True):
    """The members of manifest.json that are read; the rest is compared by writing it again."""

    made_by: str
    created_at: Time
    selection: Selection
    first: Count


class _Strict(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    pass


class _Query(_Strict, kw_only=True):
    text: str
    selected: list[tuple[Count, Count]]
    headers: Headers
    hidden: bool


class _Derived(_Strict, kw_only=True):
    analyser: str
    version: str
    facts: list[Any]


class _Group(_Strict, kw_only=True):
    group: Group
    state: State
    salt: str | None = None
    bytes: str | None = None
    erased_by: Count | None = None


class _Line(_Group, kw_only=True):
    index: Count


_decode_line = msgspec.json.Decoder(_Line).decode


class _Cited(_Strict, kw_only=True):
    index: Count
    leaf: str
    proof: list[str]
    disclosures: list[_Group]


class _Detached(_Strict, kw_only=True):
    file: _File
    first: Count
    last: Count
    bytes: Count
    sha256: Digest
    proof: list[str]


def _selected(query: _Query, limit: int) -> tuple[int, ...]:
    """The selected indexes; there are at most as many as leaves."""
    if sum(high - low + 1 for low, high in query.selected) > limit:
        raise PackInvalid("query.json selects more records than there are leaves.")
    return tuple(index for low, high in query.selected for index in range(low, high + 1))


def _parse_disclosures(member: archive.Stored, selected: Sequence[int]) -> Disclosures:
    name, seen = "disclosures.ndjson", bytearray(len(selected))
    told: list[tuple[int, int]] = []
    for place, data in enumerate(Lines(name, member, bytes)):
        line = _parsed(name, data, _Line)
        bit = 1 << GROUPS.index(line.group)
        of = place_of(selected, line.index) if is_of(selected, line.index) else -1
        if of < 0 or seen[of] & bit:
            raise PackInvalid(f"disclosures.ndjson opens group {line.group} of record {line.index} where it may not.")
        seen[of] |= bit
        _disclosure(name, line.index, line)
        told.append((of, place))
    return Disclosures(selected, sorted(told), Lines(name, member, _shown))


def _shown(data: bytes) -> tuple[Group, Disclosure]:
    """What a line that was looked at shows."""
    line = _decode_line(data)
    return line.group, _disclosure("disclosures.ndjson", line.index, line)


def _parse_proofs(member: archive.Stored) -> Lines[tuple[bytes, ...]]:
    proofs = Lines("proofs.txt", member, lambda line: _hash_words("proofs.txt", line))
    for _ in proofs:
        pass
    return proofs


def _disclosure(name: str, index: int, line: _Group) -> Disclosure:
    shown = (line.salt is not None, line.bytes is not None)
    if shown != ((True, True) if line.state == "disclosed" else (False, False)):
        raise PackInvalid(f"{name} does not fit its state for record {index}.")
    if line.erased_by is not None and line.state != "erased":
        raise PackInvalid(f"{name} names the erasure of a group of record {index} that is not erased.")
    salt = None if line.salt is None else _hex_bytes(name, line.salt, SALT_BYTES)
    return Disclosure(line.state, salt, None if line.bytes is None else line.bytes.encode(), line.erased_by)


def _parse_cited(members: Mapping[str, bytes], selected: frozenset[int]) -> dict[int, Cited]:
    name = "cited.ndjson"
    found: dict[int, Cited] = {}
    for data in _lines(name, members) if name in members else ():
        line = _parsed(name, data, _Cited)
        if line.index in selected or line.index in found:
            raise PackInvalid(f"{name} holds record {line.index}, which is already there.")
        proof = tuple(_hex_bytes(name, text, HASH_BYTES) for text in line.proof)
        groups = {each.group: _disclosure(name, line.index, each) for each in line.disclosures}
        found[line.index] = Cited(line.leaf.encode(), proof, groups)
    return found


def _parse_detached(members: Mapping[str, bytes], selection: Selection) -> Detached | None:
    name = "range.json"
    if name not in members:
        return None
    line = _parsed(name, members[name], _Detached)
    if selection != "sparse" or line.first > line.last:
        raise PackInvalid(f"{name} does not fit the pack.")
    proof = tuple(_hex_bytes(name, text, HASH_BYTES) for text in line.proof)
    return Detached(line.file, line.first, line.last, line.bytes, line.sha256, proof)


def _anchors(members: Mapping[str, bytes]) -> Iterable[Anchor]:
    for name in sorted(name for name in members if name.startswith("anchors/") and name.endswith(".note")):
        stem = name.removesuffix(".note")
        responses: list[bytes] = []
        while f"{stem}.{len(responses) + 1}.tsr" in members:
            responses.append(members[f"{stem}.{len(responses) + 1}.tsr"])
        yield Anchor(members[name], _hash_lines(f"{stem}.consistency.txt", members), tuple(responses))


def _parsed(name: str, data: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.convert(parse_canonical(data), kind)
    except (OutsideProfile, msgspec.ValidationError) as error:
        raise PackInvalid(f"{name} does not follow its format: {error}") from error


def _member(name: str, members: Mapping[str, _T]) -> _T:
    if name not in members:
        raise PackInvalid(f"The member {name} is missing.")
    return members[name]


def _lines(name: str, members: Mapping[str, bytes]) -> list[bytes]:
    data = _member(name, members)
    if data and not data.endswith(b"\n"):
        raise PackInvalid(f"{name} does not end with a newline.")
    return data.split(b"\n")[:-1]


def _hash_lines(name: str, members: Mapping[str, bytes]) -> tuple[bytes, ...]:
    return tuple(_hex_bytes(name, line.decode("ascii", "replace"), HASH_BYTES) for line in _lines(name, members))


def _hash_words(name: str, line: bytes) -> tuple[bytes, ...]:
    """The hashes of a line. Nearly all are 64 digits and a space each, which is seen at once."""
    spaces = b" " * (len(line) // 65)
    if len(line) % 65 == 64 and line[64::65] == spaces == line.translate(None, _DIGITS):
        whole = bytes.fromhex(line.decode())
        return tuple(whole[at : at + HASH_BYTES] for at in range(0, len(whole), HASH_BYTES))
    return tuple(_hex_bytes(name, word.decode("ascii", "replace"), HASH_BYTES) for word in line.split(b" ") if word)


def _hex_bytes(name: str, text: str, length: int) -> bytes:
    if len(text) != 2 * length or text.strip("0123456789abcdef"):
        raise PackInvalid(f"{name} holds something else than {length} bytes in lower-case hex.")
    return bytes.fromhex(text)
