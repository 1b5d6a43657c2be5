"""Where a report keeps room for sign-offs, and how one is drawn there: text in our own embedded font, as PDF/A-3 asks.

The places are the document's named destinations `sign-off-1`, `sign-off-2`, …; each is the top left corner of a box of one size.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fontTools.ttLib import TTFont

from reports import render

ANCHOR = re.compile(r"sign-off-([1-9]\d?)")
WIDTH_POINTS, HEIGHT_POINTS = 318, 88
"""The size of `.signbox` in static/pdf.css."""
FONT_POINTS = 7
LINE_CHARACTERS = 88
LINES_MOST = 9
FONT_FILE = "IBMPlexSans-Regular.woff2"


@dataclasses.dataclass(frozen=True)
class Place:
    """A page, and lower left and upper right corner of a box on it, in points."""

    page: int
    box: tuple[int, int, int, int]


def field_of(position: int) -> str:
    """The name of the signature field of a step, such as `Sign-off 2`."""
    return f"Sign-off {position}"


def places(writer: Any) -> dict[str, Place]:
    """The boxes that the document keeps free, by the name of their field."""
    found = {}
    names = list(writer.root.get("/Names", {}).get("/Dests", {}).get("/Names", ()))
    for name, target in zip(names[::2], names[1::2], strict=True):
        match = ANCHOR.fullmatch(str(name))
        if match:
            x, y = round(float(target[2])), round(float(target[3]))
            number = _number(writer, target.raw_get(0))
            found[field_of(int(match[1]))] = Place(number, (x, y - HEIGHT_POINTS, x + WIDTH_POINTS, y))
    return dict(sorted(found.items()))


def _number(writer: Any, page: Any) -> int:
    """Which page a reference means, from 0."""
    total = int(writer.root["/Pages"]["/Count"])
    return next(n for n in range(total) if writer.find_page_for_modification(n)[0].idnum == page.idnum)


@contextlib.contextmanager
def font() -> Iterator[str]:
    """The path of our font in a form that can be embedded (1,000 units to the em: others come out with their letters apart)."""
    with tempfile.TemporaryDirectory(prefix="stamp-") as folder:
        path = Path(folder, "stamp.ttf")
        with TTFont(render.FONTS / FONT_FILE, recalcTimestamp=False) as vendored:
            vendored.flavor = None
            vendored.save(path)
        yield str(path)


def style(lines: Sequence[str], font_file: str) -> Any:
    """How a signature with these lines is drawn: smaller where they do not fit."""
    from pyhanko import stamp  # noqa: TID251 - the look of the one signer's signatures
    from pyhanko.pdf_utils import layout, text  # noqa: TID251
    from pyhanko.pdf_utils.font.opentype import GlyphAccumulatorFactory  # noqa: TID251

    drawn = "\n".join(wrapped(lines)).replace("%", "%%")
    return stamp.TextStampStyle(
        stamp_text=drawn,
        text_box_style=text.TextBoxStyle(
            font=GlyphAccumulatorFactory(font_file, font_size=FONT_POINTS),
            font_size=FONT_POINTS,
            leading=FONT_POINTS + 2,
        ),
        inner_content_layout=layout.SimpleBoxLayoutRule(
            x_align=layout.AxisAlignment.ALIGN_MIN,
            y_align=layout.AxisAlignment.ALIGN_MAX,
            margins=layout.Margins(4, 4, 4, 4),
        ),
        border_width=0,
    )


def wrapped(lines: Sequence[str]) -> list[str]:
    """The lines as they are drawn: printable, broken to the box's width, and no more than fit."""
    broken = [
        part
        for line in lines
        for part in textwrap.wrap(render.printable(" ".join(line.split())), LINE_CHARACTERS, break_long_words=True)
    ]
    return broken if len(broken) <= LINES_MOST else [*broken[: LINES_MOST - 1], "… (whole in the signed log)"]
