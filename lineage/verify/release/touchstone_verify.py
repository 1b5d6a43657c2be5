#!/usr/bin/env python3
"""Checks a Touchstone evidence pack. One file: Python 3.9 or later and the package `cryptography`, nothing else.

    python touchstone_verify.py evidence.touchstone.zip --policy policy.txt [--receipts FILE] [--json]

It opens no network connection, writes no file and runs nothing from the pack. It was written from docs/verify.md, RFC 9162
and the C2SP pages for signed-note, tlog-checkpoint, tlog-cosignature and tlog-policy, and shares no code with the product:
where both agree, two minds agree. Read it from top to bottom: parts A to F are the tools, then come the checks, numbered as
in docs/verify.md, then the command line. A check returns (state, sentence) or raises Bad, which means that it failed.

Exit 0: valid, under the keys of your policy. 1: invalid. 2: consistent in itself, but trust is missing. 3: unreadable.
"""

# ruff: noqa: UP017 - datetime.UTC came with Python 3.11; this file runs from 3.9 on.

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import importlib.util
import json
import os
import re
import struct
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import Any, NamedTuple, NoReturn

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError:
    print("Unreadable: this program needs the Python package `cryptography` for Ed25519 signatures.", file=sys.stderr)
    sys.exit(3)

# Only for timestamps (check 13), and only if your policy names an authority.
READS_TIMESTAMPS = importlib.util.find_spec("rfc3161_client") is not None


class Bad(Exception):
    """A check failed; the text says why."""


class Unreadable(Exception):
    """What was given is not a pack, a policy or a receipt file: exit 3."""


# --------------------------------------------------------------------------------------------------------------------
# A. Canonical JSON: RFC 8785 without floats, nulls, keys beyond ASCII, repeated keys; whole numbers within 2^53 - 1
# --------------------------------------------------------------------------------------------------------------------

MAX_INTEGER = 2**53 - 1
MAX_DEPTH = 64


def parse_json(data: bytes, what: str) -> Any:
    """The value of canonical JSON bytes. It is written again and must give the very same bytes."""
    try:
        value = json.loads(data.decode("utf-8"), parse_int=_whole, parse_float=_no_float, parse_constant=_no_float)
        _within_profile(value, MAX_DEPTH)
        again = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise Bad(f"{what} is not canonical JSON.") from error
    if again != data:
        raise Bad(f"{what} is JSON, but not in canonical form.")
    return value


def _whole(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > MAX_INTEGER:
        raise ValueError("beyond 2^53")
    return int(text)


def _no_float(_: str) -> NoReturn:
    raise ValueError("not a whole number")


def _within_profile(value: Any, depth: int) -> None:
    if isinstance(value, (str, bool, int)):
        return
    if depth == 0 or value is None:
        raise ValueError("null, or nested too deeply")
    if isinstance(value, dict):
        if not all(key.isascii() for key in value):
            raise ValueError("a key beyond ASCII")
        value = list(value.values())
    for item in value:
        _within_profile(item, depth - 1)


def members_of(value: Any, needed: dict[str, type], optional: dict[str, type], what: str) -> dict[str, Any]:
    """The JSON object, if it has exactly these members with these types. Numbers are never negative in a pack."""
    if type(value) is not dict or not set(needed) <= set(value) <= {*needed, *optional}:
        raise Bad(f"{what} does not have the members of its format.")
    for name, item in value.items():
        if type(item) is not (needed.get(name) or optional[name]) or (type(item) is int and item < 0):
            raise Bad(f"{what}: {name} has a value of another kind than its format.")
    return value


def lines_of(data: bytes, what: str) -> list[bytes]:
    if data and not data.endswith(b"\n"):
        raise Bad(f"{what} does not end with a line break.")
    return data.split(b"\n")[:-1]


# --------------------------------------------------------------------------------------------------------------------
# B. The tree: RFC 9162 section 2.1
# --------------------------------------------------------------------------------------------------------------------


def leaf_hash(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def check_hashes(*hashes: bytes) -> None:
    if any(len(each) != 32 for each in hashes):
        raise Bad("A hash does not have 32 bytes.")


def check_inclusion_proof(leaf: bytes, index: int, size: int, proof: list[bytes], root: bytes) -> None:
    """RFC 9162 section 2.1.3.2, step by step."""
    check_hashes(leaf, root, *proof)
    if not 0 <= index < size:
        raise Bad(f"Record {index} is outside a log of {size} records.")
    fn, sn, r = index, size - 1, leaf
    for p in proof:
        if sn == 0:
            raise Bad(f"The proof of record {index} is too long.")
        if fn & 1 or fn == sn:
            r = node_hash(p, r)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = node_hash(r, p)
        fn, sn = fn >> 1, sn >> 1
    if sn or r != root:
        raise Bad(f"Record {index} does not lead to the checkpoint's root.")


def check_consistency_proof(first: int, first_root: bytes, second: int, second_root: bytes, proof: list[bytes]) -> None:
    """RFC 9162 section 2.1.4.2, step by step; equal sizes need equal roots and an empty proof; size 0 is refused."""
    check_hashes(first_root, second_root, *proof)
    if not 0 < first <= second:
        raise Bad(f"A log of {second} records cannot continue one of {first}.")
    if first == second:
        if proof or first_root != second_root:
            raise Bad("Two checkpoints of the same size have different roots.")
        return
    if not proof:
        raise Bad("The consistency proof is empty.")
    path = proof if first & (first - 1) else [first_root, *proof]
    if climb(path, first - 1, second - 1) != (first_root, second_root):
        raise Bad("The checkpoint does not continue the earlier one: the log was rewritten, or forked.")


def climb(path: list[bytes], fn: int, sn: int) -> tuple[bytes, bytes]:
    """Steps 3 to 6 of that section: the two roots to which the path leads."""
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for c in path[1:]:
        if sn == 0:
            raise Bad("The consistency proof is too long.")
        if fn & 1 or fn == sn:
            fr, sr = node_hash(c, fr), node_hash(c, sr)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, c)
        fn, sn = fn >> 1, sn >> 1
    if sn:
        raise Bad("The consistency proof is too short.")
    return fr, sr


def range_root(leaves: list[bytes], first: int, size: int, proof: list[bytes]) -> bytes:
    """The root over `size` leaves of which those from index `first` on are given and the proof holds the rest.

    docs/verify.md, "The pack": the tree is split as RFC 9162 splits it; a part outside the range takes the next hash.
    """
    end, rest = first + len(leaves), iter(proof)

    def part(low: int, high: int) -> bytes:
        if high <= first or low >= end:
            outside = next(rest, None)
            if outside is None:
                raise Bad("The range proof is too short.")
            return outside
        if high - low == 1:
            return leaves[low - first]
        split = low + (1 << ((high - low - 1).bit_length() - 1))
        left = part(low, split)
        return node_hash(left, part(split, high))

    check_hashes(*leaves, *proof)
    if not leaves or first < 0 or end > size:
        raise Bad(f"Records {first} to {end - 1} are outside a log of {size} records.")
    root = part(0, size)
    if next(rest, None) is not None:
        raise Bad("The range proof is too long.")
    return root


def hashes_of(line: bytes, what: str) -> list[bytes]:
    if line and not re.fullmatch(rb"[0-9a-f]{64}( [0-9a-f]{64})*", line):
        raise Bad(f"{what} holds something else than hashes.")
    return [bytes.fromhex(each.decode()) for each in line.split()]


# --------------------------------------------------------------------------------------------------------------------
# C. Signed notes, checkpoints and cosignatures: C2SP signed-note, tlog-checkpoint, tlog-cosignature
# --------------------------------------------------------------------------------------------------------------------

ED25519, COSIGNATURE = 1, 4
MAX_NOTE_BYTES = 1_000_000
MAX_SIGNATURES = 100


class Key(NamedTuple):
    """A verifier key, `name+id+base64`."""

    name: str
    id: bytes
    kind: int
    public: bytes

    def verifies(self, message: bytes, signature: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


class Signature(NamedTuple):
    """A signature that verified; `at` is the second that a cosignature states."""

    key: Key
    at: int | None


class Checkpoint(NamedTuple):
    origin: str
    size: int
    root: bytes


def is_key_name(name: str) -> bool:
    return bool(name) and name.isprintable() and not set(name) & set(" +")


def decode_base64(text: str) -> bytes:
    """Standard base64 in its one canonical spelling; ValueError for anything else."""
    data = base64.b64decode(text.encode("ascii"), validate=True)
    if base64.b64encode(data).decode() != text:
        raise ValueError("not canonical base64")
    return data


def parse_key(text: str) -> Key:
    parts = text.split("+", 2)
    try:
        name, key_id, encoded = parts
        data = decode_base64(encoded)
    except (ValueError, binascii.Error) as error:
        raise Bad("A key is not name+id+base64.") from error
    expected = hashlib.sha256(name.encode() + b"\n" + data).digest()[:4]
    if not is_key_name(name) or key_id != expected.hex():
        raise Bad("A key has an impossible name, or its id does not fit.")
    if len(data) != 33 or data[0] not in (ED25519, COSIGNATURE):
        raise Bad("A key is not an Ed25519 key of type 0x01 or 0x04.")
    return Key(name, expected, data[0], data[1:])


class Note(NamedTuple):
    """A note as it stands: its text and (name, key id, signature) lines. Nothing of it is verified yet."""

    text: str
    signatures: list[tuple[str, bytes, bytes]]


def split_note(data: bytes) -> Note:
    try:
        whole = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Bad("A note is not UTF-8.") from error
    if len(data) > MAX_NOTE_BYTES or any(ord(c) < 32 and c != "\n" for c in whole):
        raise Bad("A note is too long, or holds control characters.")
    at = whole.rfind("\n\n")
    text, block = whole[: at + 1], whole[at + 2 :]
    if at < 1 or not block.endswith("\n"):
        raise Bad("A note does not consist of text, an empty line and signatures.")
    lines = block[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise Bad("A note has too many signatures.")
    return Note(text, [_signature_line(line) for line in lines])


def _signature_line(line: str) -> tuple[str, bytes, bytes]:
    dash, _, rest = line.partition(" ")
    name, _, encoded = rest.partition(" ")
    try:
        data = decode_base64(encoded)
    except (ValueError, binascii.Error) as error:
        raise Bad("A signature line of a note is not base64.") from error
    if dash != "\u2014" or not is_key_name(name) or len(data) < 5:
        raise Bad("A signature line of a note is malformed.")
    return name, data[:4], data[4:]


def verified(note: Note, keys: list[Key]) -> list[Signature]:
    """The signatures of these keys. One wrong signature of a known key refuses the note; unknown keys are passed over."""
    found: list[Signature] = []
    for name, key_id, signature in note.signatures:
        for key in keys:
            if (key.name, key.id) == (name, key_id):
                found.append(_verified(note.text, key, signature))
    return list(dict.fromkeys(found))


def _verified(text: str, key: Key, signature: bytes) -> Signature:
    message, at = text.encode(), None
    if key.kind == COSIGNATURE:
        if len(signature) != 72:
            raise Bad(f"The cosignature of {shown(key.name)} is malformed.")
        at, signature = int.from_bytes(signature[:8], "big"), signature[8:]
        message = f"cosignature/v1\ntime {at}\n".encode() + message
    if not key.verifies(message, signature):
        raise Bad(f"The signature under the name of {shown(key.name)} is wrong.")
    return Signature(key, at)


def parse_checkpoint(text: str) -> Checkpoint:
    lines = text.split("\n")
    try:
        origin, size, root, *extensions = lines[:-1]
        root_hash = decode_base64(root)
    except (ValueError, binascii.Error) as error:
        raise Bad("A checkpoint is not origin, size and root, a line each.") from error
    if not origin or lines[-1] or not all(extensions) or len(root_hash) != 32:
        raise Bad("A checkpoint has an empty line, or a root that is not 32 bytes.")
    return Checkpoint(origin, decimal(size), root_hash)


def decimal(text: str) -> int:
    if not re.fullmatch("0|[1-9][0-9]{0,18}", text) or int(text) >= 2**63:
        raise Bad("A number is not written in plain decimal digits.")
    return int(text)


# --------------------------------------------------------------------------------------------------------------------
# D. The policy: whom you trust. C2SP tlog-policy and the lines `receipt`, `report`, `log-until`, `tsa` (docs/verify.md)
# --------------------------------------------------------------------------------------------------------------------


class Authority(NamedTuple):
    """A timestamp authority. `signer` is its certificate that is no CA's, if the policy names it: then only it may sign."""

    name: str
    certificates: list[x509.Certificate]
    signer: x509.Certificate | None


def is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def is_for_stamping(certificate: x509.Certificate) -> bool:
    """RFC 3161 section 2.3: the extended key usage is critical and names time stamping alone."""
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    return usage.critical and list(usage.value) == [x509.oid.ExtendedKeyUsageOID.TIME_STAMPING]


class Policy:
    """Your policy file. Unreadable: any line that does not follow the format."""

    def __init__(self, data: bytes) -> None:
        self.logs: list[Key] = []
        self.receipts: list[Key] = []
        self.reports: list[Key] = []
        self.until: dict[Key, int] = {}
        self.witnesses: dict[str, Key] = {}
        self.groups: dict[str, tuple[int, list[str]]] = {}
        self.authorities: list[Authority] = []
        self.quorum: str | None = None
        for number, line in enumerate(_policy_text(data).split("\n"), 1):
            words = line.split("#")[0].replace("\t", " ").split()
            try:
                if words:
                    self._read(words[0], words[1:])
            except Exception as error:  # a Bad word, or whatever a foreign certificate makes its reader stumble over
                raise Unreadable(f"The policy file's line {number} does not follow the format.") from error
        if self.quorum is None:
            raise Unreadable("The policy file has no quorum line.")

    def _read(self, word: str, rest: list[str]) -> None:
        readers: dict[str, Callable[..., None]] = {
            "log": self._log,
            "witness": self._witness,
            "group": self._group,
            "quorum": self._quorum,
            "receipt": self._receipt,
            "report": self._report,
            "log-until": self._log_until,
            "tsa": self._tsa,
        }
        try:
            readers[word](*rest)
        except TypeError as error:
            raise Bad("Too few or too many words.") from error

    def _log(self, vkey: str, url: str = "") -> None:
        _add_signer(self.logs, vkey)

    def _receipt(self, vkey: str) -> None:
        _add_signer(self.receipts, vkey)

    def _report(self, vkey: str, fingerprint: str = "sha256:" + 64 * "0") -> None:
        _add_signer(self.reports, vkey)
        if not re.fullmatch("sha256:[0-9a-f]{64}", fingerprint):
            raise Bad("A fingerprint is not sha256: and 64 hex digits.")

    def _log_until(self, key: str, size: str) -> None:
        (found,) = [each for each in self.logs if f"{each.name}+{each.id.hex()}" == key]
        if found in self.until:
            raise Bad("A key is retired twice.")
        self.until[found] = decimal(size)

    def _tsa(self, name: str, *certificates: str) -> None:
        found = [x509.load_der_x509_certificate(decode_base64(each)) for each in certificates]
        signers = [each for each in found if not is_ca(each)]
        if not 1 <= len(found) <= 8 or len(signers) > 1 or all(each.issuer != each.subject for each in found):
            raise Bad("A timestamp authority has too many certificates or signers, or no self-signed certificate.")
        if not all(is_for_stamping(each) for each in signers):
            raise Bad("The certificate of a timestamp authority is not for time stamping alone.")
        if any(found[0] == other.certificates[0] for other in self.authorities):
            raise Bad("A certificate of a timestamp authority stands first in two lines.")
        self.authorities.append(Authority(name, found, signers[0] if signers else None))

    def _witness(self, name: str, vkey: str, url: str = "") -> None:
        self._check_new(name)
        key = parse_key(vkey)
        if any(key.public == other.public for other in self.witnesses.values()):
            raise Bad("A witness key is listed twice.")
        self.witnesses[name] = key

    def _group(self, name: str, threshold: str, *members: str) -> None:
        self._check_new(name)
        taken = {member for _, group in self.groups.values() for member in group}
        known = {*self.witnesses, *self.groups}
        if not members or len(set(members)) < len(members) or taken & set(members) or not known >= set(members):
            raise Bad("A member of a group stands not above it, or in a group already.")
        needed = {"all": len(members), "any": 1}.get(threshold) or decimal(threshold)
        if not 1 <= needed <= len(members):
            raise Bad("A group asks for more members than it has, or for none.")
        self.groups[name] = (needed, list(members))

    def _quorum(self, name: str) -> None:
        if self.quorum is not None or name not in {"none", *self.witnesses, *self.groups}:
            raise Bad("There are two quorum lines, or one names nobody.")
        self.quorum = name

    def _check_new(self, name: str) -> None:
        if name in {"none", "any", "all", *self.witnesses, *self.groups}:
            raise Bad("A name is a word of the format, or is given twice.")

    def checkpoint_keys(self) -> list[Key]:
        """The keys whose signatures on a checkpoint must be right: logs, and witnesses that cosign."""
        return self.logs + [key for key in self.witnesses.values() if key.kind == COSIGNATURE]

    def reached(self, name: str, signed: set[Key]) -> bool:
        """Whether the witness cosigned, or enough of the group's members did."""
        if name in self.witnesses:
            return self.witnesses[name] in signed
        needed, members = self.groups[name]
        return sum(self.reached(member, signed) for member in members) >= needed


def _policy_text(data: bytes) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable("The policy file is not UTF-8 text.") from error
    if any(not (c.isprintable() or c in "\t\n") for c in text):
        raise Unreadable("The policy file holds control characters.")
    return text


def _add_signer(keys: list[Key], vkey: str) -> None:
    key = parse_key(vkey)
    if key.kind != ED25519 or key in keys:
        raise Bad("A key is of another type, or listed twice.")
    keys.append(key)


# --------------------------------------------------------------------------------------------------------------------
# E. The archive: a ZIP file in one canonical form
# --------------------------------------------------------------------------------------------------------------------

LOCAL, CENTRAL, END = struct.Struct("<4s5H3I2H"), struct.Struct("<4s6H3I5H2I"), struct.Struct("<4s4H2IH")
VERSION, DATE = 20, 33  # version 2.0; 1980-01-01


def read_archive(data: bytes) -> dict[str, bytes]:
    """Name -> bytes of the members from the front. Damage may pass here; check 1 compares every byte."""
    members: dict[str, bytes] = {}
    at = 0
    while data[at : at + 4] == b"PK\x03\x04" and len(data) >= at + LOCAL.size:
        *_, size, name_length, extra_length = LOCAL.unpack_from(data, at)
        start = at + LOCAL.size + name_length + extra_length
        name = data[at + LOCAL.size : at + LOCAL.size + name_length].decode("ascii", "replace")
        if name in members or start + size > len(data):
            raise Unreadable("The file is a damaged ZIP file.")
        members[name] = data[start : start + size]
        at = start + size
    if data[:5] == b"%PDF-":
        raise Unreadable(
            "This is a PDF report. Save the pack that is attached to it, and check that. This verifier checks neither the PDF's "
            "signature, nor its other attachments, nor the tests: python -m lineage.verify does."
        )
    if "manifest.json" not in members:
        raise Unreadable("The file is not an evidence pack: a ZIP file with a manifest.json.")
    return members


def write_archive(members: dict[str, bytes]) -> Iterator[bytes]:
    """The canonical archive of the members, piece by piece."""
    directory: list[bytes] = []
    offset = 0
    for text in sorted(members):
        name, content = text.encode("ascii", "replace"), members[text]
        fields = (VERSION, 0, 0, 0, DATE, zlib.crc32(content), len(content), len(content), len(name), 0)
        directory.append(CENTRAL.pack(b"PK\x01\x02", VERSION, *fields, 0, 0, 0, 0, offset) + name)
        offset += LOCAL.size + len(name) + len(content)
        yield LOCAL.pack(b"PK\x03\x04", *fields) + name
        yield content
    yield from directory
    length = sum(map(len, directory))
    yield END.pack(b"PK\x05\x06", 0, 0, len(members), len(members), length, offset, 0)


# --------------------------------------------------------------------------------------------------------------------
# F. What the members hold. Each property parses one of them and raises Bad where it does not follow its format
# --------------------------------------------------------------------------------------------------------------------

FIELDS = {
    "actor": "actor on_behalf_of delegation agent client decision",
    "action": "occurred_at_quality source_event_id correlation_id environment source purpose ticket datasource db_system "
    "database session_id db_session_id transaction verdict policy approval masked op command resources rows "
    "bytes_returned duration_us error_code flags session state custody",
    "statement": "statement parameters error_message origin",
    "change": "key old_key before after changed_columns effects",
}
GROUPS = tuple(FIELDS)
KINDS = {"session", "query", "change", "decision", "state", "custody"}
CLASSES = {"read", "write", "ddl", "privilege", "export", "procedural", "session", "decision", "state", "custody"}
NEEDED = {"manifest.json", "query.json", "leaves.ndjson", "proofs.txt", "disclosures.ndjson", "checkpoint.note"}
OPTIONAL = {"earlier.note", "consistency.txt", "cited.ndjson", "range.json", "derived.json"}
NUMBERED = re.compile(r"(anchors|receipts)/([0-9]{6})\.(note|consistency\.txt|([1-9][0-9]*)\.tsr)")
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")
MANIFEST = {
    **dict.fromkeys(("format", "made_by", "created_at", "origin", "selection", "query"), str),
    **dict.fromkeys(("version", "size", "first", "last", "leaves", "records", "cited", "anchors"), int),
    **dict.fromkeys(("groups", "members"), dict),
}
LISTS = ("kind", "class", "source_id")
BOUNDS = ("occurred_from", "occurred_until", "received_from", "received_until")
SHOWN = {"disclosed": {"salt": str, "bytes": str}, "withheld": {}, "erased": {}}


class Cited(NamedTuple):
    """A record that explains others: its leaf, its path to the root, what is shown of it."""

    leaf: bytes
    proof: list[bytes]
    shown: list[dict[str, Any]]


class Anchor(NamedTuple):
    """An older checkpoint that somebody outside holds, the proof from it, and its timestamps."""

    note: Note
    checkpoint: Checkpoint
    proof: list[bytes]
    tokens: list[bytes]


def parse_leaf(data: bytes, what: str) -> dict[str, Any]:
    """docs/verify.md, "Leaf"."""
    texts = dict.fromkeys(("event_id", "source_id", "class", "received_at", "occurred_at"), str)
    leaf = members_of(parse_json(data, what), {"v": int, "kind": str, "groups": dict}, {"sequence": int, **texts}, what)
    digests = leaf["groups"].values()
    times = [leaf[name] for name in ("received_at", "occurred_at") if name in leaf]
    if (
        leaf["v"] != 1
        or leaf["kind"] not in KINDS
        or leaf.get("class", "read") not in CLASSES
        or not set(GROUPS) >= set(leaf["groups"])
        or not all(type(each) is str and re.fullmatch("[0-9a-f]{64}", each) for each in digests)
        or not all(TIME.fullmatch(each) for each in times)
    ):
        raise Bad(f"{what} does not follow the leaf format.")
    return leaf


def parse_shown(value: Any, what: str, place: dict[str, type]) -> dict[str, Any]:
    """One group of one record: disclosed, withheld or erased. `place` is what else the object holds."""
    state = value.get("state") if type(value) is dict else None
    if type(state) is not str or state not in SHOWN:
        raise Bad(f"{what} does not say disclosed, withheld or erased.")
    optional: dict[str, type] = {"erased_by": int} if state == "erased" else {}
    members_of(value, {"group": str, "state": str, **place, **SHOWN[state]}, optional, what)
    if value["group"] not in GROUPS or not re.fullmatch("[0-9a-f]{32}", value.get("salt", "0" * 32)):
        raise Bad(f"{what} names no group, or has a salt that is not 16 bytes.")
    return value  # type: ignore[no-any-return]


class Pack:
    def __init__(self, data: bytes) -> None:
        self.members = read_archive(data)
        try:
            head = parse_json(self["manifest.json"], "manifest.json")
            known = (head["format"], head["version"]) == ("touchstone-pack", 1) and head["version"] is not True
            self.named = head.get("members")
        except (Bad, LookupError, TypeError):
            known = False
        if not known:
            raise Unreadable(
                "manifest.json is not the manifest of a touchstone-pack of version 1, which is all that this reads."
            )

    def __getitem__(self, name: str) -> bytes:
        if name not in self.members:
            raise Bad(f"The pack has no {name}.")
        return self.members[name]

    def object(self, name: str, needed: dict[str, type], optional: dict[str, type] | None = None) -> dict[str, Any]:
        return members_of(parse_json(self[name], name), needed, optional or {}, name)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        manifest = self.object("manifest.json", MANIFEST)
        if manifest["selection"] not in ("range", "sparse") or not TIME.fullmatch(manifest["created_at"]):
            raise Bad("manifest.json: the selection or the time is not one of its format.")
        return manifest

    @cached_property
    def query(self) -> dict[str, Any]:
        query = self.object("query.json", {"text": str, "selected": list, "headers": dict, "hidden": bool})
        lists, bounds = dict.fromkeys(LISTS, list), dict.fromkeys(BOUNDS, str)
        headers = members_of(query["headers"], {}, {**lists, **bounds}, "The filter over leaf headers")
        texts = [each for name in LISTS for each in headers.get(name, [])]
        if any(headers.get(name) == [] for name in LISTS) or any(type(each) is not str for each in texts):
            raise Bad("The filter over leaf headers has a list without texts.")
        if not all(TIME.fullmatch(headers[name]) for name in BOUNDS if name in headers):
            raise Bad("The filter over leaf headers has a time in another form.")
        return query

    @cached_property
    def selected(self) -> list[int]:
        """The selected indexes. Ranges are ascending and do not touch, so each selection has one spelling."""
        previous = -2
        found: list[int] = []
        limit = self["leaves.ndjson"].count(b"\n")
        for each in self.query["selected"]:
            if type(each) is not list or [type(end) for end in each] != [int, int]:
                raise Bad("query.json: a selected range is not [first, last].")
            low, high = each
            if not previous + 1 < low <= high or high - low >= limit - len(found):
                raise Bad("query.json: the selected ranges are not ascending, or hold more records than the pack.")
            found += range(low, high + 1)
            previous = high
        return found

    @cached_property
    def leaves(self) -> dict[int, bytes]:
        lines = lines_of(self["leaves.ndjson"], "leaves.ndjson")
        first = self.manifest["first"]
        ranged = self.manifest["selection"] == "range"
        indexes = range(first, first + len(lines)) if ranged else self.selected
        if not lines or len(lines) != len(indexes):
            raise Bad("leaves.ndjson does not hold one leaf for each index.")
        return {index: lines[at] for at, index in enumerate(indexes)}

    @cached_property
    def headers(self) -> dict[int, dict[str, Any]]:
        """The parsed leaves, those of cited records too."""
        parsed = {index: parse_leaf(leaf, f"The leaf of record {index}") for index, leaf in self.leaves.items()}
        cited = {
            index: parse_leaf(each.leaf, f"The leaf of cited record {index}") for index, each in self.cited.items()
        }
        return {**cited, **parsed}

    @cached_property
    def proofs(self) -> list[list[bytes]]:
        return [hashes_of(line, "proofs.txt") for line in lines_of(self["proofs.txt"], "proofs.txt")]

    @cached_property
    def shown(self) -> dict[int, list[dict[str, Any]]]:
        """What is shown of each selected record, in the file's order, which is the only one allowed."""
        found: dict[int, list[dict[str, Any]]] = {index: [] for index in self.selected}
        previous = (-1, -1)
        for line in lines_of(self["disclosures.ndjson"], "disclosures.ndjson"):
            value = parse_shown(parse_json(line, "A line of disclosures.ndjson"), "A disclosure", {"index": int})
            place = (value["index"], GROUPS.index(value["group"]))
            if place <= previous or value["index"] not in found:
                raise Bad("disclosures.ndjson is not in order, or names a record that is not selected.")
            found[value["index"]].append(value)
            previous = place
        return found

    @cached_property
    def cited(self) -> dict[int, Cited]:
        if "cited.ndjson" not in self.members:
            return {}
        found: dict[int, Cited] = {}
        selected = set(self.selected)
        form: dict[str, type] = {"index": int, "leaf": str, "proof": list, "disclosures": list}
        for line in lines_of(self["cited.ndjson"], "cited.ndjson"):
            value = members_of(parse_json(line, "A line of cited.ndjson"), form, {}, "A cited record")
            if value["index"] in selected or value["index"] <= max(found, default=-1):
                raise Bad("cited.ndjson is not in order, or cites a selected record.")
            shown = [parse_shown(each, "A cited group", {}) for each in value["disclosures"]]
            found[value["index"]] = Cited(value["leaf"].encode(), hash_list(value["proof"]), shown)
        if not found:
            raise Bad("cited.ndjson holds nothing.")
        return found

    def note(self, name: str) -> tuple[Note, Checkpoint]:
        note = split_note(self[name])
        return note, parse_checkpoint(note.text)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        return self.note("checkpoint.note")[1]

    @cached_property
    def earlier(self) -> tuple[Note, Checkpoint, list[bytes]] | None:
        if "earlier.note" not in self.members and "consistency.txt" not in self.members:
            return None
        return (*self.note("earlier.note"), self.hash_lines("consistency.txt"))

    def hash_lines(self, name: str) -> list[bytes]:
        return hash_list([line.decode("ascii", "replace") for line in lines_of(self[name], name)])

    @cached_property
    def anchors(self) -> list[Anchor]:
        found: list[Anchor] = []
        for number in range(1, 1 + sum(bool(re.fullmatch(r"anchors/\d+\.note", name)) for name in self.members)):
            stem = f"anchors/{number:06d}"
            tokens = sum(name.startswith(stem) and name.endswith(".tsr") for name in self.members)
            note, checkpoint = self.note(f"{stem}.note")
            if found and checkpoint.size <= found[-1].checkpoint.size:
                raise Bad("The anchors are not in order of their sizes.")
            proof = self.hash_lines(f"{stem}.consistency.txt")
            found.append(Anchor(note, checkpoint, proof, [self[f"{stem}.{n}.tsr"] for n in range(1, tokens + 1)]))
        return found

    @cached_property
    def detached(self) -> dict[str, Any] | None:
        if "range.json" not in self.members:
            return None
        texts, numbers = dict.fromkeys(("file", "sha256"), str), dict.fromkeys(("first", "last", "bytes"), int)
        value = self.object("range.json", {**texts, **numbers, "proof": list})
        hash_list(value["proof"])
        if self.manifest["selection"] != "sparse" or value["first"] > value["last"]:
            raise Bad("range.json does not belong to single records, or its range is empty.")
        return value

    @cached_property
    def receipts(self) -> list[bytes]:
        return [self[name] for name in sorted(self.members) if name.startswith("receipts/")]

    @cached_property
    def derived(self) -> dict[str, Any] | None:
        if "derived.json" not in self.members:
            return None
        return self.object("derived.json", {"analyser": str, "version": str, "facts": list})


def hash_list(texts: list[Any]) -> list[bytes]:
    if not all(type(each) is str and re.fullmatch("[0-9a-f]{64}", each) for each in texts):
        raise Bad("A proof holds something else than hashes.")
    return [bytes.fromhex(each) for each in texts]


def shown(text: str, limit: int = 80) -> str:
    """A text of the pack for a line of ours: nothing in it can start a line or command the terminal."""
    kept = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text[:limit])
    return kept + ("…" if len(text) > limit else "")


# --------------------------------------------------------------------------------------------------------------------
# THE CHECKS, numbered as in docs/verify.md. Each returns (state, sentence), or raises Bad: it failed
# --------------------------------------------------------------------------------------------------------------------

Answer = tuple[str, str]  # the state: pass, missing or note; what was found
NO_POLICY: Answer = ("missing", "No policy was given (--policy), so nobody vouches for this.")


class Evidence:
    """Everything that was given: the pack, and perhaps a policy, receipts, and the leaves that lie beside the pack."""

    def __init__(
        self, data: bytes, policy: Policy | None, receipts: list[str], leaves_file: bytes | None = None
    ) -> None:
        self.data, self.policy, self.receipts, self.leaves_file = data, policy, receipts, leaves_file
        self.pack = Pack(data)

    @cached_property
    def detached(self) -> dict[int, dict[str, Any]]:
        """The parsed leaves of the file beside the pack, after its length, hash and way to the root were checked."""
        told = self.pack.detached
        if told is None or self.leaves_file is None:
            return {}
        if (len(self.leaves_file), hashlib.sha256(self.leaves_file).hexdigest()) != (told["bytes"], told["sha256"]):
            raise Bad("The file of leaves is not the one that range.json names.")
        lines, first = lines_of(self.leaves_file, "The file of leaves"), told["first"]
        if len(lines) != told["last"] - first + 1:
            raise Bad("The file of leaves does not hold one leaf for each index.")
        hashes, at = [leaf_hash(line) for line in lines], self.pack.checkpoint
        if range_root(hashes, first, at.size, hash_list(told["proof"])) != at.root:
            raise Bad("The file of leaves does not lead to the checkpoint's root.")
        return {first + at: parse_leaf(line, f"The leaf of record {first + at}") for at, line in enumerate(lines)}

    @cached_property
    def ranged(self) -> dict[int, dict[str, Any]] | None:
        """The parsed leaves of the whole range, in the pack or in the file beside it; None when they are not here."""
        pack = self.pack
        if pack.manifest["selection"] == "range":
            return {index: pack.headers[index] for index in pack.leaves}
        return self.detached or None

    @property
    def last_asked(self) -> int:
        """The highest index that was asked for; of a range in which nothing matches, its end."""
        beside = self.pack.detached or {"last": max(self.pack.leaves)}
        return max(self.pack.selected, default=int(beside["last"]))

    def opened(self) -> Iterator[tuple[int, dict[str, Any], dict[str, dict[str, Any]]]]:
        """(index, leaf, group -> fields) of each selected and cited record, as far as its groups are disclosed."""
        pack = self.pack
        for index, groups in [*pack.shown.items(), *((index, each.shown) for index, each in pack.cited.items())]:
            open_groups = {each["group"]: each["bytes"] for each in groups if each["state"] == "disclosed"}
            yield index, pack.headers[index], {name: parse_group(name, text) for name, text in open_groups.items()}


def parse_group(name: str, text: str) -> dict[str, Any]:
    value = parse_json(text.encode("utf-8"), f"A disclosed group {name}")
    if type(value) is not dict or not value or set(value) - set(FIELDS[name].split()):
        raise Bad(f"A disclosed group {name} is not an object with fields of this group.")
    return value


def check_1_archive(given: Evidence) -> Answer:
    at = 0
    for piece in write_archive(given.pack.members):
        if given.data[at : at + len(piece)] != piece:
            raise Bad(f"At byte {at} the file differs from an archive of its members: something else is in it.")
        at += len(piece)
    if at != len(given.data):
        raise Bad(f"{len(given.data) - at} bytes stand behind the end of the archive.")
    return "pass", f"{len(given.pack.members)} members, and not a byte between or behind them."


def check_2_members(given: Evidence) -> Answer:
    members, named = given.pack.members, given.pack.named
    if type(named) is not dict:
        raise Bad("The manifest names no members.")
    others = set(members) - {"manifest.json"}
    if others != set(named):
        raise Bad(f"Named or present, but not both: {shown(', '.join(sorted(others ^ set(named))))}.")
    for name in sorted(others):
        told = members_of(named[name], {"bytes": int, "sha256": str}, {}, f"The manifest's entry for {shown(name)}")
        if told != {"bytes": len(members[name]), "sha256": hashlib.sha256(members[name]).hexdigest()}:
            raise Bad(f"{shown(name)} has another length or hash than the manifest says.")
    return "pass", f"{len(others)} members have the lengths and SHA-256 hashes that the manifest names."


def expected_names(members: dict[str, bytes]) -> set[str]:
    """The names that may be there. Numbered ones begin at 1 and leave none out; proofs come with their notes."""
    names = set(NEEDED)
    for group in ({"earlier.note", "consistency.txt"}, {"cited.ndjson"}, {"range.json"}, {"derived.json"}):
        names |= group if group <= set(members) else set()
    names |= set(_numbered(members, "receipts/{:06d}.note"))
    for note in _numbered(members, "anchors/{:06d}.note"):
        stem = note[: -len(".note")]
        names |= {note, f"{stem}.consistency.txt"}.union(_numbered(members, stem + ".{}.tsr"))
    return names


def _numbered(members: dict[str, bytes], form: str) -> Iterator[str]:
    number = 1
    while form.format(number) in members:
        yield form.format(number)
        number += 1


def check_3_manifest(given: Evidence) -> Answer:
    """Every property parses its member strictly: only one spelling of each content is accepted."""
    pack, manifest = given.pack, given.pack.manifest
    if not set(pack.members) >= NEEDED or set(pack.members) - expected_names(pack.members):
        raise Bad("A member is missing, or one is there that no pack has.")
    states: dict[str, Counter[str]] = {}
    for each in (each for groups in pack.shown.values() for each in groups):
        states.setdefault(each["group"], Counter())[each["state"]] += 1
    leaves = pack.leaves
    facts: dict[str, Any] = {
        "origin": pack.checkpoint.origin,
        "size": pack.checkpoint.size,
        "first": min(leaves),
        "last": max(leaves),
        "leaves": len(leaves),
        "records": len(pack.selected),
        "cited": len(pack.cited),
        "anchors": len(pack.anchors),
        "query": pack.query["text"],
        "groups": states,
    }
    for name, fact in facts.items():
        if manifest[name] != fact:
            raise Bad(f"The manifest says another {name} than the members hold.")
    if not set(pack.selected) <= set(leaves):
        raise Bad("A selected record is outside the pack's leaves.")
    _ = pack.earlier, pack.detached, pack.receipts, pack.derived, pack.proofs
    return "pass", (
        f"log {shown(manifest['origin'])}, {manifest['size']} records signed; this pack holds {manifest['records']} records "
        f"and {manifest['leaves']} leaves between {manifest['first']} and {manifest['last']}."
    )


def check_4_leaves(given: Evidence) -> Answer:
    return "pass", f"{len(given.pack.headers)} leaves follow the leaf format."


def check_5_inclusion(given: Evidence) -> Answer:
    pack, size, root = given.pack, given.pack.checkpoint.size, given.pack.checkpoint.root
    hashes = [leaf_hash(leaf) for leaf in pack.leaves.values()]
    for index, each in pack.cited.items():
        check_inclusion_proof(leaf_hash(each.leaf), index, size, each.proof, root)
    if pack.manifest["selection"] == "range":
        if len(pack.proofs) != 1:
            raise Bad("proofs.txt does not hold one line for the range.")
        if range_root(hashes, pack.manifest["first"], size, pack.proofs[0]) != root:
            raise Bad("The leaves of the range do not lead to the checkpoint's root.")
        return "pass", "All leaves of the range lead to the checkpoint's root; none is left out between them."
    if len(pack.proofs) != len(hashes):
        raise Bad("proofs.txt does not hold one line for each leaf.")
    for at, index in enumerate(pack.leaves):
        check_inclusion_proof(hashes[at], index, size, pack.proofs[at], root)
    return "pass", "Each record leads to the checkpoint's root by a proof of its own."


def check_6_disclosures(given: Evidence) -> Answer:
    pack, total, unbacked = given.pack, Counter[str](), 0
    for index, groups in [*pack.shown.items(), *((index, each.shown) for index, each in pack.cited.items())]:
        digests = pack.headers[index]["groups"]
        if [each["group"] for each in groups] != [group for group in GROUPS if group in digests]:
            raise Bad(
                f"Record {index}: not every group of its leaf is disclosed, withheld or erased, once and in order."
            )
        for each in groups:
            check_digest(index, each, digests[each["group"]])
    erased = erasures(given)
    for index, groups in pack.shown.items():
        for each in groups:
            total[each["state"]] += 1
            unbacked += each["state"] == "erased" and not erasure_holds(erased, index, each)
    counts = ", ".join(f"{count} {state}" for state, count in sorted(total.items())) or "none"
    if unbacked:
        return "missing", f"Groups: {counts}; {unbacked} of those erased without the record of the erasure in the pack."
    return "pass", f"Groups: {counts}. What is disclosed is what the leaves committed to."


def check_digest(index: int, each: dict[str, Any], expected: str) -> None:
    if each["state"] != "disclosed":
        return
    data = bytes.fromhex(each["salt"]) + each["bytes"].encode("utf-8")
    if hashlib.sha256(data).hexdigest() != expected:
        raise Bad(f"Record {index}, group {each['group']}: what is shown is not what the leaf committed to.")


def erasures(given: Evidence) -> dict[int, list[dict[str, Any]]]:
    """Index of a record of an erasure -> what it says was erased (docs/verify.md, "Erasure")."""
    found: dict[int, list[dict[str, Any]]] = {}
    for index, leaf, groups in given.opened():
        decision = groups.get("actor", {}).get("decision")
        if (leaf["kind"], leaf.get("source_id")) != ("decision", "touchstone") or type(decision) is not dict:
            continue
        if decision.get("type") in ("erasure", "retention") and decision.get("transition") in ("pending", "erased"):
            found[index] = decision.get("erased", [])
    return found


def erasure_holds(erased: dict[int, list[dict[str, Any]]], index: int, each: dict[str, Any]) -> bool:
    by = each.get("erased_by", -1)
    form: dict[str, type] = {"first": int, "last": int, "groups": list}
    entries = [members_of(entry, form, {}, "An entry of an erasure") for entry in erased.get(by, [])]
    return by > index and any(e["first"] <= index <= e["last"] and each["group"] in e["groups"] for e in entries)


def check_7_completeness(given: Evidence) -> Answer:
    pack, selected = given.pack, set(given.pack.selected)
    wrong = [index for index in pack.selected if not matches(pack.query["headers"], pack.headers[index])]
    if wrong:
        raise Bad(f"Record {wrong[0]} is selected, but the filter over leaf headers does not select it.")
    if pack.detached and not all(pack.detached["first"] <= index <= pack.detached["last"] for index in selected):
        raise Bad("A selected record is outside the range of leaves beside the pack.")
    leaves = given.ranged
    if leaves is None and pack.detached is None:
        return "note", "Single records: nothing is shown about the records between them."
    if leaves is None:
        return (
            "missing",
            f"The leaves are in {shown((pack.detached or {})['file'])} beside the pack: give it with --leaves.",
        )
    more = sum(index not in selected and matches(pack.query["headers"], leaf) for index, leaf in leaves.items())
    if more and not pack.query["hidden"]:
        raise Bad(f"The filter over leaf headers selects {more} more records, which the pack leaves out.")
    where = f"applied again to records {min(leaves)} to {max(leaves)}"
    if pack.query["hidden"]:
        return "note", (
            f"The filter over leaf headers, {where}, selects these records; {more} more match. "
            "The query also asked for hidden fields, which nobody can repeat from here."
        )
    return "pass", f"The filter over leaf headers, {where}, selects exactly these records."


def matches(asked: dict[str, Any], leaf: dict[str, Any]) -> bool:
    """Whether a leaf passes the filter; from is inclusive, until exclusive; what the leaf does not say does not match."""
    if any(leaf.get(name) not in asked[name] for name in LISTS if name in asked):
        return False
    received = leaf.get("received_at")
    times = {"received": received, "occurred": leaf.get("occurred_at", received)}
    for name in BOUNDS:
        word, end = name.split("_")
        if name in asked and (times[word] is None or (times[word] < asked[name]) == (end == "from")):
            return False
    return True


def check_8_consistency(given: Evidence) -> Answer:
    pack, newest = given.pack, given.pack.checkpoint
    older = [(anchor.checkpoint, anchor.proof) for anchor in pack.anchors]
    if pack.earlier:
        older.append(pack.earlier[1:])
    for checkpoint, proof in older:
        if checkpoint.origin != newest.origin:
            raise Bad(f"An older checkpoint is of another log, {shown(checkpoint.origin)}.")
        check_consistency_proof(checkpoint.size, checkpoint.root, newest.size, newest.root, proof)
    anchors = f"Anchors that it continues: {len(pack.anchors)}."
    if not pack.earlier:
        return (
            "note",
            f"The pack carries no earlier checkpoint of yours. Compare this one with those you saved. {anchors}",
        )
    return "pass", f"The checkpoint continues the earlier one of {pack.earlier[1].size} records. {anchors}"


def check_9_signature(given: Evidence) -> Answer:
    if given.policy is None:
        return NO_POLICY
    pack, policy, unsigned = given.pack, given.policy, []
    notes = [("the checkpoint", *pack.note("checkpoint.note"))]
    notes += [("the earlier checkpoint", pack.earlier[0], pack.earlier[1])] if pack.earlier else []
    notes += [(f"the anchor of size {each.checkpoint.size}", each.note, each.checkpoint) for each in pack.anchors]
    for name, note, checkpoint in notes:
        keys = [each.key for each in verified(note, policy.checkpoint_keys()) if each.key in policy.logs]
        good = [
            key
            for key in keys
            if key.name == checkpoint.origin and checkpoint.size <= policy.until.get(key, checkpoint.size)
        ]
        if keys and not good:
            raise Bad(f"{name} is signed only by a key of another log, or one that was retired at a smaller size.")
        unsigned += [] if good else [name]
    if unsigned:
        return "missing", f"No log key of your policy signed {', '.join(unsigned[:3])}."
    return "pass", f"Checkpoints of {shown(pack.checkpoint.origin)} signed by a log key of your policy: {len(notes)}."


def check_10_witnesses(given: Evidence) -> Answer:
    if given.policy is None:
        return NO_POLICY
    pack, policy, quorum = given.pack, given.policy, given.policy.quorum or ""
    if quorum == "none":
        return "note", "Your policy asks for no witness. Compare this checkpoint with those you saved."
    last = given.last_asked
    notes = [(pack.note("checkpoint.note")[0], pack.checkpoint)]
    notes += [(each.note, each.checkpoint) for each in reversed(pack.anchors) if each.checkpoint.size > last]
    for note, checkpoint in notes:
        signed = {each.key: each for each in verified(note, policy.checkpoint_keys()) if each.at is not None}
        if policy.reached(quorum, set(signed)):
            at = "; ".join(f"{shown(key.name)} at {unix_time(each.at or 0)}" for key, each in signed.items())
            return "pass", f"Your quorum is reached at size {checkpoint.size}: {at}."
    return "missing", f"Too few witnesses of your policy cosigned a checkpoint of these records ({shown(quorum)})."


def unix_time(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).isoformat()
    except (ValueError, OverflowError, OSError):
        return f"second {seconds}"


class Receipt(NamedTuple):
    """A promise: these records (index, leaf hash) will be covered by a checkpoint of `origin` at `due`."""

    origin: str
    due: datetime
    promises: list[tuple[int, str]]


def parse_receipt(text: str) -> Receipt:
    lines = text.split("\n")
    promise = re.compile("([0-9]{1,19}) ([0-9a-f]{64}) (?:[0-9a-f]{2})+")
    found = [promise.fullmatch(line) for line in lines[4:-1]]
    if lines[0] != "touchstone receipt v1" or lines[-1] or not found or not all(found):
        raise Bad("A receipt does not follow its format.")
    due = parse_time(lines[2]) + timedelta(seconds=min(decimal(lines[3]), 10**9))
    return Receipt(lines[1], due, [(decimal(each[1]), each[2]) for each in found if each])


def parse_time(text: str) -> datetime:
    try:
        if TIME.fullmatch(text):
            return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    except ValueError:
        pass
    raise Bad("A time is not a time of the calendar.")


def check_11_receipts(given: Evidence) -> Answer:
    held = [*given.pack.receipts, *(text.encode("utf-8", "replace") for text in given.receipts)]
    if not held:
        return "note", "No receipts were given."
    if given.policy is None:
        return NO_POLICY
    judged: Counter[str] = Counter()
    unknown = 0
    for data in held:
        note = split_note(data)
        if not verified(note, given.policy.receipts):
            unknown += 1
            continue
        receipt = parse_receipt(note.text)
        judged.update(judge_promise(given, receipt, *promise) for promise in receipt.promises)
    sentence = "Promises: " + (", ".join(f"{count} {word}" for word, count in sorted(judged.items())) or "none") + "."
    if unknown:
        return "missing", f"{sentence} {unknown} receipts are signed by no receipt key of your policy."
    return "pass", sentence


def judge_promise(given: Evidence, receipt: Receipt, index: int, promised: str) -> str:
    pack = given.pack
    if receipt.origin != pack.checkpoint.origin:
        return "of another log"
    held = pack.leaves.get(index) or (pack.cited[index].leaf if index in pack.cited else None)
    if held is not None:
        if leaf_hash(held).hex() != promised:
            raise Bad(f"Promised but missing: place {index} holds another record than the receipt names.")
        return "kept"
    if index < pack.checkpoint.size:
        return "outside this pack"
    if receipt.due < parse_time(pack.manifest["created_at"]):
        raise Bad(f"Promised but missing: the log ends before place {index}, though the promised time is over.")
    return "not yet due"


def check_12_derived(given: Evidence) -> Answer:
    derived = given.pack.derived
    if derived is None:
        return "note", "The pack holds no derived facts: all of it was reported by sources."
    maker = f"{shown(derived['analyser'])} {shown(derived['version'])}"
    return "note", f"{len(derived['facts'])} facts were derived by {maker}. Nothing here proves them."


SLACK, LONGEST = timedelta(minutes=10), timedelta(days=1)
MINUTE = "%Y-%m-%dT%H:%M:%SZ"


def check_13_time(given: Evidence) -> Answer:
    wanted = given.policy.authorities if given.policy else []
    stamped = [(anchor, token) for anchor in given.pack.anchors for token in anchor.tokens]
    clock = "Only the store's own clock says when these records were accepted."
    if not wanted:
        return "note", f"{len(stamped)} timestamps; no policy of yours names a timestamp authority. {clock}"
    if not READS_TIMESTAMPS and stamped:
        return "missing", f"{len(stamped)} timestamps were not checked here. Install rfc3161-client and run this again."
    said = [
        (anchor.checkpoint.size, *found) for anchor, token in stamped for found in stated_times(token, anchor, wanted)
    ]
    if not said:
        return "missing", f"No timestamp is of an authority that your policy names. {clock}"
    times = {index: leaf["received_at"] for index, leaf, _ in given.opened() if "received_at" in leaf}
    received = {index: parse_time(text) for index, text in times.items()}
    for index, at in received.items():
        for size, name, stated in said:
            if (index < size and at > stated + SLACK) or (index >= size and at < stated - SLACK):
                raise Bad(
                    f"Record {index} says that it was received {at:{MINUTE}}, but {name} states {stated:{MINUTE}} at {size} records."
                )
    last, _, newest = max(said, key=lambda each: each[0])
    later = [at for index, at in received.items() if index >= last]
    words = "; ".join(
        sorted(f"{name} states {stated:{MINUTE}} for the first {size} records" for size, name, stated in said)
    )
    state = "pass" if not later else "missing" if max(later) > newest + LONGEST else "note"
    return state, f"{words}. {len(later)} of these records came later." + (f" {clock}" if later else "")


def stated_times(token: bytes, anchor: Anchor, wanted: list[Authority]) -> list[tuple[str, datetime]]:
    """(authority, time) if the token is of one of these, else nothing. Bad: it says that it is of one, wrongly."""
    import rfc3161_client

    try:
        response = rfc3161_client.decode_timestamp_response(token)
        (signer,) = response.signed_data.signer_infos
        carried = [x509.load_der_x509_certificate(each) for each in response.signed_data.certificates]
    except Exception as error:  # whatever the reader stumbles over in foreign bytes is a refusal
        raise Bad("A timestamp cannot be read.") from error
    issuers = {signer.issuer, *(each.issuer for each in carried)}
    claimed = [each for each in wanted if claims(each, signer.issuer, signer.serial_number, issuers)]
    for each in claimed:
        try:
            rules = rfc3161_client.VerifierBuilder(tsa_certificate=each.signer, roots=each.certificates).build()
            rules.verify_message(response, anchor.note.text.encode())
        except Exception:  # noqa: BLE001, S112 - another line of the same name may still vouch for it
            continue
        return [(shown(each.name), response.tst_info.gen_time)]
    if claimed:
        raise Bad("A timestamp of an authority of your policy is not over this checkpoint, or does not verify.")
    return []


def claims(authority: Authority, issuer: x509.Name, serial: int, issuers: set[x509.Name]) -> bool:
    """Whether a token signed by the certificate of this issuer and serial number says that it is of this authority."""
    if authority.signer is not None:
        return (authority.signer.issuer, authority.signer.serial_number) == (issuer, serial)
    return bool(issuers & {each.subject for each in authority.certificates})


def check_14_counts(given: Evidence) -> Answer:
    compared = outside = 0
    for index, leaf, groups in given.opened():
        custody = groups.get("action", {}).get("custody")
        if (leaf["kind"], leaf.get("source_id")) != ("custody", "touchstone") or type(custody) is not dict:
            continue
        if custody.get("type") == "count_commitment":
            if counts_hold(given, index, custody):
                compared += 1
            else:
                outside += 1
    if not compared:
        return "note", f"No count that the log committed to can be repeated here ({outside} are of other ranges)."
    return (
        "pass",
        f"{compared} counts that the log committed to are what the leaves hold; {outside} are of other ranges.",
    )


def counts_hold(given: Evidence, index: int, custody: dict[str, Any]) -> bool:
    """False when leaves of the committed range are not here. Bad: it is malformed, or the leaves hold other numbers."""
    first, last, told = parse_commitment(f"The count commitment of record {index}", custody)
    known = given.ranged or {}
    if first not in known or last not in known:
        return False
    if told != Counter((known[each].get("source_id"), known[each].get("class")) for each in range(first, last + 1)):
        raise Bad(f"Record {index} commits to other numbers of records from {first} to {last} than the leaves hold.")
    return True


def parse_commitment(what: str, custody: dict[str, Any]) -> tuple[int, int, dict[tuple[str | None, str | None], int]]:
    """(first, last, (source, class) -> count) of a count commitment; other members may stand beside these."""
    form: dict[str, type] = {"first": str, "last": str, "count": int, "counts": list}
    members_of({name: custody[name] for name in form if name in custody}, form, {}, what)
    pair: dict[str, type] = {"source_id": str, "class": str}
    entries = [members_of(each, {"count": int}, pair, f"{what}, an entry") for each in custody["counts"]]
    told = {(each.get("source_id"), each.get("class")): each["count"] for each in entries}
    first, last = decimal(custody["first"]), decimal(custody["last"])
    if len(told) != len(entries) or sum(told.values()) != custody["count"] or first > last:
        raise Bad(f"{what} does not follow its form.")
    return first, last, told


CHECKS: list[tuple[str, Callable[[Evidence], Answer]]] = [
    ("archive", check_1_archive),
    ("members", check_2_members),
    ("manifest", check_3_manifest),
    ("leaves", check_4_leaves),
    ("inclusion", check_5_inclusion),
    ("disclosures", check_6_disclosures),
    ("completeness", check_7_completeness),
    ("consistency", check_8_consistency),
    ("signature", check_9_signature),
    ("witnesses", check_10_witnesses),
    ("receipts", check_11_receipts),
    ("derived", check_12_derived),
    ("time", check_13_time),
    ("counts", check_14_counts),
]


def verify(given: Evidence) -> dict[str, Any]:
    """The answer in the form that --json prints."""
    checks: list[dict[str, Any]] = []
    for number, (name, check) in enumerate(CHECKS, 1):
        try:
            state, sentence = check(given)
        except Bad as error:
            state, sentence = "fail", str(error)
        except MemoryError as error:
            raise Unreadable("This machine has too little memory for the pack.") from error
        except Exception as error:  # noqa: BLE001 - whatever a damaged pack makes a check stumble over, it has not passed
            state, sentence = "fail", f"The pack is out of all bounds ({type(error).__name__})."
        checks.append({"number": number, "name": name, "state": state, "sentence": sentence})
        if number == 2 and "fail" in (checks[0]["state"], checks[1]["state"]):
            break  # The file is damaged or not ours: nothing else in it is judged.
    failed = [str(each["number"]) for each in checks if each["state"] == "fail"]
    missing = [str(each["number"]) for each in checks if each["state"] == "missing"]
    if failed:
        return answer(1, f"Invalid: see check {' and '.join(failed)}.", checks)
    if missing:
        see = " and ".join(missing)
        return answer(
            2, f"Consistent in itself, but something is missing: see check {see}. This is not a confirmation.", checks
        )
    return answer(0, "Valid: every check holds, under the keys of your policy.", checks)


def answer(code: int, sentence: str, checks: list[dict[str, Any]]) -> dict[str, Any]:
    return {"exit": code, "sentence": sentence, "checks": checks}


# --------------------------------------------------------------------------------------------------------------------
# The command line
# --------------------------------------------------------------------------------------------------------------------


def read_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise Unreadable(f"{shown(path)} cannot be opened: {error.strerror}.") from error


def read_receipts(data: bytes) -> list[str]:
    """One note, one note after another, or one JSON value a line: the note, or an answer that holds it as `receipt`."""
    try:
        text = data.decode("utf-8")
        if text.startswith("touchstone receipt"):
            return [each.rstrip("\n") + "\n" for each in re.split("(?m)^(?=touchstone receipt v1$)", text)[1:]]
        values = [json.loads(line) for line in text.split("\n") if line.strip()]
        found = [value["receipt"] if isinstance(value, dict) else value for value in values]
    except (ValueError, KeyError, RecursionError) as error:
        raise Unreadable("The file of receipts holds no receipts.") from error
    if not found or not all(isinstance(each, str) for each in found):
        raise Unreadable("The file of receipts holds no receipts.")
    return found


def receipts_at(path: str) -> list[str]:
    """The receipts of a file, or of every file of a folder."""
    if not os.path.isdir(path):
        return read_receipts(read_file(path))
    files = sorted(each.path for each in os.scandir(path) if each.is_file())
    return [receipt for each in files for receipt in read_receipts(read_file(each))]


class Arguments(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        raise Unreadable(message)


def main(arguments: list[str]) -> int:
    parser = Arguments(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("file", metavar="FILE", help="the evidence pack")
    parser.add_argument("--policy", metavar="FILE", help="your policy file: the keys that you trust")
    parser.add_argument("--receipts", metavar="FILE", help="receipts that a source kept, or a folder of such files")
    parser.add_argument("--leaves", metavar="FILE", help="the leaves that lie beside the pack")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    try:
        options = parser.parse_args(arguments)
        policy = Policy(read_file(options.policy)) if options.policy else None
        receipts = receipts_at(options.receipts) if options.receipts else []
        leaves = read_file(options.leaves) if options.leaves else None
        result = verify(Evidence(read_file(options.file), policy, receipts, leaves))
    except (Unreadable, MemoryError) as error:
        result = answer(3, f"Unreadable: {error or 'too little memory'}", [])
    if "--json" in arguments:
        print(json.dumps(result))
    else:
        for each in result["checks"]:
            print(f"{each['number']:2}. {each['state']:7} {each['name']}: {each['sentence']}")
        print(result["sentence"], file=sys.stderr if result["exit"] == 3 else sys.stdout)
    return int(result["exit"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
