"""The tree over the log, for reading: leaf hashes, upper hashes, proofs, the newest checkpoint. Nothing here signs."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection

from lineage import durable, errors, merkle, outside

CHUNK = 50_000
HASH = 32
TILE = 256
TILES_KEPT = 64
"""Of each level, with all that is computed from them: some 50 KB each."""


class Hashes:
    """The level-0 leaf hashes: one flat file, 32 bytes a leaf. Bytes past the signed size are rubbish."""

    def __init__(self, path: Path) -> None:
        self.path = path
        durable.folder(path.parent)

    def count(self) -> int:
        """How many whole hashes the file holds."""
        return self.path.stat().st_size // HASH if self.path.exists() else 0

    def write_from(self, size: int, parts: Iterable[Sequence[bytes]]) -> None:
        """Writes hashes from index `size` on, durably; what lay there before is dropped."""
        durable.write_from(self.path, size * HASH, (b"".join(part) for part in parts))

    def read(self, first: int, following: int) -> list[bytes]:
        """The hashes of a range; fewer where the file ends before."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(first * HASH)
            raw = file.read((following - first) * HASH)
        return [raw[n : n + HASH] for n in range(0, len(raw) - HASH + 1, HASH)]


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
        """The hashes of a range. Raises LedgerBroken when one is missing."""
        known = self.stored(first, following) | self.made
        missing = [tile for tile in range(first, following) if tile not in known]
        if missing:
            raise errors.LedgerBroken(
                f"The upper hash {missing[0]} of level {self.level} is missing. Run `bin/manage fsck`."
            )
        return [known[tile] for tile in range(first, following)]

    def stored(self, first: int, following: int) -> dict[int, bytes]:
        with connection.cursor() as cursor:
            cursor.execute(
                "select tile, hash from ledger_tile where level = %s and tile >= %s and tile < %s",
                [self.level, first, following],
            )
            return {tile: bytes(value) for tile, value in cursor.fetchall()}


class Nodes:
    """Hashes of complete subtrees from the stored hashes, of few tiles at a time. Call it as `merkle.Subtree`.

    What is asked for in ascending order is read and computed once, however large the log is.
    """

    def __init__(self) -> None:
        self.file = hashes()
        self.tiles: dict[int, dict[int, list[list[bytes]]]] = {}

    def __call__(self, level: int, index: int) -> bytes:
        """The hash over 2^level leaves from index · 2^level. Raises LedgerBroken when a stored hash is missing."""
        stored, above = divmod(level, 8)
        tile, place = divmod(index, TILE >> above)
        rows = self._rows(stored, tile)
        if above >= len(rows) or place >= len(rows[above]):
            missing = tile * TILE + len(rows[0])
            raise errors.LedgerBroken(f"The hash {missing} of level {stored} is missing. Run `bin/manage fsck`.")
        return rows[above][place]

    def _rows(self, level: int, tile: int) -> list[list[bytes]]:
        """The hashes of one tile as they are stored, and of each level above up to its own, as far as they are complete."""
        kept = self.tiles.setdefault(level, {})
        if tile not in kept:
            if len(kept) == TILES_KEPT:
                del kept[next(iter(kept))]
            rows = kept[tile] = [self._stored(level, tile)]
            while len(rows[-1]) > 1:
                pairs = iter(rows[-1])
                rows.append([merkle.node_hash(left, right) for left, right in zip(pairs, pairs, strict=False)])
        return kept[tile]

    def _stored(self, level: int, tile: int) -> list[bytes]:
        """The stored hashes of one tile up to the first that is missing; one read each, since neighbours are asked for next."""
        first, following = tile * TILE, (tile + 1) * TILE
        if not level:
            return self.file.read(first, following)
        known = Level(level, {}).stored(first, following)
        return [known[place] for place in itertools.takewhile(known.__contains__, range(first, following))]


def edge(size: int) -> list[bytes]:
    """The hashes of the largest complete subtrees that make up a tree of this size, from left to right, as stored."""
    nodes, first, found = Nodes(), 0, []
    for level in range(size.bit_length() - 1, -1, -1):
        if size >> level & 1:
            found.append(nodes(level, first >> level))
            first += 1 << level
    return found


def inclusion(index: int, size: int | None = None) -> dict[str, Any]:
    """Inclusion proof of a record in the tree of a signed size (the newest by default). Raises QueryInvalid, NotFound."""
    covered, _ = published()
    size = covered if size is None else size
    if not 0 <= index < size <= covered:
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
    """The newest checkpoint with all known cosignatures. Raises NotFound before the first."""
    size, note = published()
    if not note:
        raise errors.NotFound("No checkpoint is signed yet. The first comes within seconds of the first record.")
    return "".join([note, *outside.cosigned(size)])


def _b64(value: bytes) -> str:
    return base64.b64encode(value).decode()
