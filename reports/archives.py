"""Files too large for the PDF: they go into a ZIP beside it, listed by the same manifest whose hash the cover prints."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

EMBEDDED_MOST_BYTES = 20_000_000
IN_PDF, IN_ARCHIVE = "pdf", "archive"
EPOCH = (1980, 1, 1, 0, 0, 0)
Line = dict[str, Any]
"""One line of the manifest: name, description, bytes, rows, sha256, place."""


def placed(lines: Sequence[Line], most: int | None = None) -> list[Line]:
    """The lines with `place`: the largest files leave the PDF until what stays has at most `most` bytes (20 MB)."""
    left = sum(line["bytes"] for line in lines)
    moved = set()
    for line in sorted(lines, key=lambda each: (-each["bytes"], each["name"])):
        if left <= (EMBEDDED_MOST_BYTES if most is None else most):
            break
        moved.add(line["name"])
        left -= line["bytes"]
    return [line | {"place": IN_ARCHIVE if line["name"] in moved else IN_PDF} for line in lines]


def goes_with(lines: Sequence[Line]) -> bool:
    """Whether a ZIP goes with the PDF."""
    return any(line["place"] == IN_ARCHIVE for line in lines)


def write(folder: Path, names: Sequence[str], out: Path) -> None:
    """A ZIP of these files of the folder, the same bytes for the same files: stored, without times."""
    draft = out.with_suffix(".draft")
    with zipfile.ZipFile(draft, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = 0o644 << 16
            with archive.open(entry, "w", force_zip64=True) as inside, (folder / name).open("rb") as file:
                while chunk := file.read(1 << 20):
                    inside.write(chunk)
    draft.rename(out)
