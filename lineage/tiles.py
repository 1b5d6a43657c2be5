"""The log as static tiles (C2SP tlog-tiles): 256 hashes of one level, or the records under 256 leaf hashes.

Level 0 is sliced from the file of leaf hashes, higher levels come from the stored upper hashes, and records from
wherever they lie. Only what the newest checkpoint covers is served.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lineage import errors, segments, tree

ENTRIES = -1
LEVEL_MOST = 5
WIDTH = 256
PATH = re.compile(r"(entries|[0-5])/((?:x\d{3}/)*\d{3})(?:\.p/([1-9]\d{0,2}))?", re.ASCII)


@dataclass(frozen=True)
class Tile:
    """`width` hashes of `level` from index · 256 on; or, at level ENTRIES, the records under those of level 0."""

    level: int
    index: int
    width: int = WIDTH


def path(tile: Tile) -> str:
    """The address of a tile below /tile/: its index in groups of three digits, `.p/width` when it is partial."""
    digits = f"{tile.index:03d}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    level = "entries" if tile.level == ENTRIES else str(tile.level)
    partial = f".p/{tile.width}" if tile.width < WIDTH else ""
    return "/".join([level, *(f"x{group}" for group in groups[:-1]), groups[-1]]) + partial


def parse(text: str) -> Tile:
    """The tile of an address below /tile/; each has one spelling. Raises NotFound."""
    match = PATH.fullmatch(text)
    if match is None:
        raise errors.NotFound("This is no address of a tile. See docs/api.md, the log as tiles.")
    level = ENTRIES if match[1] == "entries" else int(match[1])
    tile = Tile(level, int(match[2].replace("x", "").replace("/", "")), int(match[3] or WIDTH))
    if path(tile) != text:
        raise errors.NotFound("This is not how the address of this tile is written.")
    return tile


def read(tile: Tile) -> bytes:
    """The bytes of a tile: 32 for each hash, or each record behind its length in two bytes. Raises NotFound."""
    first, following = tile.index * WIDTH, tile.index * WIDTH + tile.width
    size, _ = tree.published()
    if following > size // WIDTH ** max(tile.level, 0):
        raise errors.NotFound(f"The newest checkpoint covers {size} records, which is less than this tile needs.")
    if tile.level == ENTRIES:
        return b"".join(len(leaf).to_bytes(2, "big") + leaf for _, leaf in segments.leaves(first, following))
    if tile.level == 0:
        return b"".join(tree.hashes().read(first, following))
    return b"".join(tree.Level(tile.level, {}).read(first, following))
