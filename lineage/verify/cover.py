"""The words of a PDF's first page, as its own fonts spell them: what a reader of the page sees, without drawing it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

LISTED = re.compile(r"manifest\.json\)([0-9a-f]{64})")
"""How the cover of a report prints the hash of its list of attachments, with the spaces left out."""
PAIR = re.compile(rb"<([0-9A-Fa-f]{4})>\s*<([0-9A-Fa-f]+)>")
CHARACTERS_MOST = 50_000


def words(document: Any) -> str:
    """The text of the first page without its spaces; what is drawn in other ways than as text is left out."""
    import pikepdf

    if not len(document.pages):
        return ""
    page = document.pages[0]
    spelled: dict[bytes, str] = {}
    found: list[str] = []
    for drawn in pikepdf.parse_content_stream(page):
        if str(drawn.operator) == "Tf":
            spelled = _spelling(page, str(drawn.operands[0]))
        elif str(drawn.operator) in ("Tj", "TJ"):
            found += _read(drawn.operands[0], spelled)
    return "".join("".join(found).split())[:CHARACTERS_MOST]


def _spelling(page: Any, font: str) -> dict[bytes, str]:
    """Glyph -> characters, as a font's ToUnicode table says (ISO 32000-2 section 9.10.3)."""
    table = page.resources.Font[font].get("/ToUnicode")
    pairs = PAIR.findall(bytes(table.read_bytes())) if table is not None else []
    return {
        bytes.fromhex(code.decode()): bytes.fromhex(to.decode()).decode("utf-16-be", "replace") for code, to in pairs
    }


def _read(shown: Any, spelled: dict[bytes, str]) -> Iterator[str]:
    import pikepdf

    for piece in shown if isinstance(shown, pikepdf.Array) else [shown]:
        if isinstance(piece, pikepdf.String):
            raw = bytes(piece)
            yield "".join(spelled.get(raw[at : at + 2], "") for at in range(0, len(raw), 2))
