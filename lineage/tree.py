"""The tree over the log, for reading: leaf hashes, upper hashes, proofs, the newest checkpoint. Nothing here signs."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection

from lineage import errors, merkle, segments

CHUNK = 50_000
HASH = 32
TILE = 256


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


def published() -> tuple[int, str]:
    """Size and note of the newest checkpoint; (0, "") before the first."""
    with connection.cursor() as cursor:
        cursor.execute("select size, note from ledger_checkpoint order by size desc limit 1")
        return cursor.fetchone() or (0, "")


def head() -> int:
    with connection.cursor() as cursor:
        cursor.execute("select size from ledger_head")
        return int(cursor.fetchone()[0])


def leaf_hashes(first: int, following: int) -> list[bytes]:
    """Hashes of the stored leaves of a range. Raises SignerRefused when one is missing."""
    found = []
    for expected, (index, leaf) in enumerate(segments.leaves(first, following), first):
        if index != expected:
            raise errors.SignerRefused(f"Record {expected} is missing from the log.")
        found.append(merkle.leaf_hash(leaf))
    if len(found) != following - first:
        raise errors.SignerRefused(f"Record {first + len(found)} is missing from the log.")
    return found


def tiles(before: int, after: int) -> Iterator[tuple[int, int, bytes]]:
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
        below = Level(level, made).read
        level += 1


class Level:
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
            return Level(level // 8, {}).read(index, index + 1)[0]
        # Neighbours are asked for next: 256 hashes cost one read.
        first = index - index % TILE
        for place, value in enumerate(self.file.read(first, first + TILE), first):
            self.known[0, place] = value
        return self.known[0, index]


def inclusion(index: int, size: int | None = None) -> dict[str, Any]:
    """Inclusion proof of a record in the tree of a signed size (the newest by default). Raises QueryInvalid, NotFound."""
    size = size if size is not None else published()[0]
    if not 0 <= index < size <= published()[0]:
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
    if not 0 < old <= new <= published()[0]:
        raise errors.QueryInvalid(
            "from must be at least 1 and at most to, and to at most the newest checkpoint's size."
        )
    return {"from": old, "to": new, "proof": [_b64(h) for h in merkle.consistency_path(old, new, Nodes())]}


def newest_note() -> str:
    """The newest checkpoint. Raises NotFound before the first."""
    note = published()[1]
    if not note:
        raise errors.NotFound("No checkpoint is signed yet. The first comes within seconds of the first record.")
    return note


def _b64(value: bytes) -> str:
    return base64.b64encode(value).decode()
