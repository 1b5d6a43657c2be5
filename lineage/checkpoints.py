"""Integrate, sign, prove and check: the tree over the log, and the signer that refuses anything but an append.

The signer keeps its last signed size and root in its own file, durable before a checkpoint is published. Everything
after the ledger's commit is a pure function of committed leaves: a restart replays it and must get the same root.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from django.conf import settings
from django.db import connection, transaction

from lineage import errors, keys, merkle, notes, segments

CHUNK = 50_000
HASH = 32
TILE = 256


class Signed(msgspec.Struct):
    """What the signer signed last: size, edge of the tree, and the note itself."""

    size: int
    edge: list[bytes]
    note: str


class Hashes:
    """The level-0 leaf hashes: one flat file, 32 bytes a leaf. Bytes past the signed size are rubbish."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(exist_ok=True)

    def cut(self, size: int) -> None:
        """Drops what lies past `size`. Raises SignerRefused when the file is shorter than what was signed."""
        if self.path.stat().st_size < size * HASH:
            raise errors.SignerRefused(
                f"The file of leaf hashes holds fewer than the {size} that were signed. Run `bin/manage fsck`."
            )
        os.truncate(self.path, size * HASH)

    def append(self, hashes: Iterable[bytes]) -> None:
        with self.path.open("ab") as file:
            file.write(b"".join(hashes))
            file.flush()
            os.fsync(file.fileno())

    def read(self, first: int, following: int) -> list[bytes]:
        with self.path.open("rb") as file:
            file.seek(first * HASH)
            raw = file.read((following - first) * HASH)
        return [raw[n : n + HASH] for n in range(0, len(raw), HASH)]


def hashes() -> Hashes:
    return Hashes(Path(settings.DATA_DIR) / "log" / "hashes")


def _state_path() -> Path:
    return Path(settings.DATA_DIR) / "signer" / "signed.json"


def _read_state() -> Signed | None:
    path = _state_path()
    return msgspec.json.decode(path.read_bytes(), type=Signed) if path.exists() else None


def _write_state(state: Signed) -> None:
    path = _state_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_suffix(".new")
    with draft.open("wb") as file:
        file.write(msgspec.json.encode(state))
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _published() -> tuple[int, str]:
    with connection.cursor() as cursor:
        cursor.execute("select size, note from ledger_checkpoint order by size desc limit 1")
        return cursor.fetchone() or (0, "")


def head() -> int:
    with connection.cursor() as cursor:
        cursor.execute("select size from ledger_head")
        return int(cursor.fetchone()[0])


def checkpoint() -> int:
    """Signs the log as it stands, if it grew; returns the size that is signed. Call under the keeper's lock.

    Raises SignerRefused, with an alarm that people see, when what is stored is not an append to what was signed.
    """
    try:
        return _checkpoint()
    except errors.SignerRefused as error:
        alarm(error.code, error.message)
        raise


def _checkpoint() -> int:
    state, (published, note), size = _read_state(), _published(), head()
    if state is None:
        if published:
            raise errors.SignerRefused("The signer's own file is missing although checkpoints exist.")
        state = Signed(0, [], "")
    if published > state.size:
        raise errors.SignerRefused(f"A checkpoint of {published} is published, the signer signed only {state.size}.")
    if size < state.size:
        raise errors.SignerRefused(f"The log holds {size} records, {state.size} were signed: it was set back.")
    if published == state.size and published and note != state.note:
        raise errors.SignerRefused(f"The published checkpoint of {published} is not the one that was signed.")
    if published < state.size:
        _same(published, state.size)
        _publish(state, published)
    if size == state.size:
        return size
    signed = _sign(state, size)
    _write_state(signed)
    _publish(signed, state.size)
    return size


def _same(first: int, following: int) -> None:
    """Refuses to publish what was signed when the log now holds other records there: an older copy that grew again."""
    for start in range(first, following, CHUNK):
        end = min(following, start + CHUNK)
        if _leaf_hashes(start, end) != hashes().read(start, end):
            raise errors.SignerRefused(f"The records from {start} on are not those that were signed.")


def _sign(state: Signed, size: int) -> Signed:
    """Integrates up to `size` and signs, after a second reading of the new leaves led to the same root."""
    file = hashes()
    file.cut(state.size)
    for start in range(state.size, size, CHUNK):
        file.append(_leaf_hashes(start, min(size, start + CHUNK)))
    tree = merkle.CompactRange(state.size, state.edge)
    again = merkle.CompactRange(state.size, state.edge)
    for start in range(state.size, size, CHUNK):
        following = min(size, start + CHUNK)
        tree.extend(file.read(start, following))
        again.extend(_leaf_hashes(start, following))
    if tree.root() != again.root():
        raise errors.SignerRefused("Two readings of the new records lead to different roots.")
    text = notes.make_checkpoint(settings.ORIGIN, size, tree.root())
    return Signed(size, tree.hashes, notes.sign(text, keys.load("checkpoint")).decode())


def _leaf_hashes(first: int, following: int) -> list[bytes]:
    """Hashes of the stored leaves of a range. Raises SignerRefused when one is missing."""
    found = []
    for expected, (index, leaf) in enumerate(segments.leaves(first, following), first):
        if index != expected:
            raise errors.SignerRefused(f"Record {expected} is missing from the log.")
        found.append(merkle.leaf_hash(leaf))
    if len(found) != following - first:
        raise errors.SignerRefused(f"Record {first + len(found)} is missing from the log.")
    return found


def _publish(signed: Signed, before: int) -> None:
    parsed = notes.parse_checkpoint(notes.verify(signed.note, [keys.vkey("checkpoint")]).text)
    with transaction.atomic(), connection.cursor() as cursor:
        for level, tile, value in _tiles(before, signed.size):
            cursor.execute(
                "insert into ledger_tile (level, tile, hash) values (%s, %s, %s) on conflict do nothing",
                [level, tile, value],
            )
        cursor.execute(
            "insert into ledger_checkpoint (size, root, note) values (%s, %s, %s) on conflict do nothing",
            [signed.size, parsed.root, signed.note],
        )


def _tiles(before: int, after: int) -> Iterator[tuple[int, int, bytes]]:
    """The upper hashes (level 1 covers 256 leaves, level 2 256 of those) that become complete."""
    level, below = 1, hashes().read
    while True:
        first, following = before // TILE**level, after // TILE**level
        if first == following and level > 1:
            return
        made = {tile: merkle.root(below(tile * TILE, tile * TILE + TILE)) for tile in range(first, following)}
        yield from ((level, tile, value) for tile, value in made.items())
        if not following:
            return
        below = _Level(level, made).read
        level += 1


class _Level:
    """One level of upper hashes: the new ones from memory, older ones from the database."""

    def __init__(self, level: int, made: dict[int, bytes]) -> None:
        self.level, self.made = level, made

    def read(self, first: int, following: int) -> list[bytes]:
        with connection.cursor() as cursor:
            cursor.execute(
                "select tile, hash from ledger_tile where level = %s and tile >= %s and tile < %s",
                [self.level, first, following],
            )
            known = {tile: bytes(value) for tile, value in cursor.fetchall()} | self.made
        return [known[tile] for tile in range(first, following)]


class Nodes:
    """Hashes of complete subtrees, each computed once from the nearest stored hashes. Call it as `merkle.Subtree`."""

    def __init__(self) -> None:
        self.file = hashes()
        self.known: dict[tuple[int, int], bytes] = {}

    def __call__(self, level: int, index: int) -> bytes:
        """The hash over 2^level leaves from index · 2^level."""
        value = self.known.get((level, index))
        if value is None:
            value = self.known[level, index] = self._node(level, index)
        return value

    def _node(self, level: int, index: int) -> bytes:
        if level % 8:
            return merkle.node_hash(self(level - 1, 2 * index), self(level - 1, 2 * index + 1))
        if level:
            return _Level(level // 8, {}).read(index, index + 1)[0]
        # Neighbours are asked for next: 256 hashes cost one read.
        first = index - index % TILE
        for place, value in enumerate(self.file.read(first, first + TILE), first):
            self.known[0, place] = value
        return self.known[0, index]


def inclusion(index: int, size: int | None = None) -> dict[str, Any]:
    """Inclusion proof of a record in the tree of a signed size (the newest by default). Raises QueryInvalid, NotFound."""
    size = size if size is not None else _published()[0]
    if not 0 <= index < size <= _published()[0]:
        raise errors.QueryInvalid("index must be below size, and size at most that of the newest checkpoint.")
    path = merkle.inclusion_path(index, size, Nodes())
    return {
        "index": index,
        "size": size,
        "leaf_hash": _b64(hashes().read(index, index + 1)[0]),
        "proof": [_b64(h) for h in path],
    }


def consistency(old: int, new: int) -> dict[str, Any]:
    """Consistency proof between two signed sizes. Raises QueryInvalid."""
    if not 0 < old <= new <= _published()[0]:
        raise errors.QueryInvalid(
            "from must be at least 1 and at most to, and to at most the newest checkpoint's size."
        )
    return {"from": old, "to": new, "proof": [_b64(h) for h in merkle.consistency_path(old, new, Nodes())]}


def newest_note() -> str:
    """The newest checkpoint. Raises NotFound before the first."""
    note = _published()[1]
    if not note:
        raise errors.NotFound("No checkpoint is signed yet. The first comes within seconds of the first record.")
    return note


def alarm(code: str, message: str) -> None:
    """Raises an alarm that pages and probes show, once while it stands."""
    with connection.cursor() as cursor:
        cursor.execute(
            "insert into ledger_alarm (code, message) select %s, %s where not exists "
            "(select 1 from ledger_alarm where code = %s and message = %s and cleared_at is null)",
            [code, message, code, message],
        )


def _b64(value: bytes) -> str:
    return base64.b64encode(value).decode()
