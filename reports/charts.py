"""The charts of printed reports: small SVG pictures of our own, the same bytes for the same numbers."""

from __future__ import annotations

import base64
import datetime as dt
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MOMENT = pa.timestamp("us", tz="UTC")
BLUE, AMBER, GREY, INK = "#3b6ea5", "#c77700", "#d5dae1", "#39424e"
STEPS_SECONDS = (1, 2, 5, 10, 30, 60, 300, 900, 3600, 3 * 3600, 6 * 3600, 86_400, 7 * 86_400, 30 * 86_400)
BARS_MOST = 62
WIDTH, HEIGHT, LEFT, BOTTOM = 660, 130, 34, 18


def step_seconds(since: dt.datetime, until: dt.datetime) -> int:
    """The finest step that divides the period into at most 62 bars."""
    span = (until - since).total_seconds()
    return next((s for s in STEPS_SECONDS if span / s <= BARS_MOST), int(span // BARS_MOST) + 1)


def buckets(parts: Iterable[pa.Table], since: dt.datetime, until: dt.datetime) -> list[tuple[dt.datetime, int, int]]:
    """(start, plain, deviating) for each step of the period, from tables with the columns `occurred_at` and `deviates`."""
    step, start = step_seconds(since, until), pa.scalar(since, MOMENT).value
    counted = Counter[tuple[int, bool]]()
    for part in parts:
        for deviates in (False, True):
            moments = part.filter(pc.equal(part["deviates"], deviates))["occurred_at"].cast(MOMENT).cast(pa.int64())
            numbers, times = np.unique((moments.to_numpy() - start) // 1_000_000 // step, return_counts=True)
            counted.update({(int(number), deviates): int(n) for number, n in zip(numbers, times, strict=True)})
    bars = max(1, -(-int((until - since).total_seconds()) // step))
    return [(since + dt.timedelta(seconds=n * step), counted[n, False], counted[n, True]) for n in range(bars)]


def timeline(bars: Sequence[tuple[dt.datetime, int, int]]) -> str:
    """Stacked bars over time as a data: URL; blue without, amber (hatched by a dark cap) with deviations."""
    top = nice(max((plain + deviating for _, plain, deviating in bars), default=0))
    plot, high = WIDTH - LEFT, HEIGHT - BOTTOM - 8
    wide = plot / len(bars)
    parts = []
    for value in (0, top // 2, top) if top > 1 else (0, top):
        y = 8 + high - high * value / top
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="{GREY}" stroke-width="0.6"/>')
        parts.append(_text(LEFT - 5, y + 3, f"{value:,}", "end"))
    for number, (_, plain, deviating) in enumerate(bars):
        x, bar = LEFT + number * wide + wide * 0.12, max(0.8, wide * 0.76)
        low, up = high * plain / top, high * deviating / top
        if plain:
            parts.append(_bar(x, 8 + high - low, bar, low, BLUE))
        if deviating:
            parts.append(_bar(x, 8 + high - low - up, bar, up, AMBER))
            parts.append(_bar(x, 8 + high - low - up, bar, min(1.6, up), INK))
    form = "%H:%M:%S" if _step(bars) < 60 else "%d %b %H:%M" if _step(bars) < 86_400 else "%d %b %Y"
    for number in sorted({0, len(bars) // 2, len(bars) - 1}) if len(bars) > 2 else range(len(bars)):
        anchor = "start" if number == 0 else "end" if number == len(bars) - 1 else "middle"
        x = LEFT + number * wide + {"start": 0.0, "end": wide, "middle": wide / 2}[anchor]
        parts.append(_text(x, HEIGHT - 4, bars[number][0].strftime(form), anchor))
    return _picture(WIDTH, HEIGHT, parts)


def _step(bars: Sequence[tuple[dt.datetime, int, int]]) -> float:
    return (bars[1][0] - bars[0][0]).total_seconds() if len(bars) > 1 else 3600.0


def share(count: int, most: int) -> str:
    """One horizontal bar beside a number in a table; its length is `count` of `most`."""
    width = 160 * count / most if most else 0
    return _picture(160, 8, [_bar(0, 1, 160, 6, "#eef1f5"), _bar(0, 1, max(width, 1.2 if count else 0), 6, BLUE)])


def nice(value: int) -> int:
    """The smallest of 1, 2, 4, 6, 10, 20, 40, … that is at least `value`."""
    scale = 1
    while True:
        for first in (1, 2, 4, 6, 8, 10):
            if first * scale >= value:
                return first * scale
        scale *= 10


def _bar(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" fill="{colour}"/>'


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-family="Plex Sans" font-size="8.5" fill="{INK}" '
        f'text-anchor="{anchor}">{escape(words)}</text>'
    )


def _picture(width: int, height: int, parts: Sequence[str]) -> str:
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    return "data:image/svg+xml;base64," + base64.b64encode(f"{svg}{''.join(parts)}</svg>".encode()).decode()


def in_words(bars: Sequence[tuple[dt.datetime, int, int]]) -> dict[str, Any]:
    """The chart's one-line reading: the busiest step and how many steps saw nothing."""
    busiest = max(bars, key=lambda bar: bar[1] + bar[2])
    quiet = sum(1 for _, plain, deviating in bars if not plain + deviating)
    return {"busiest_at": busiest[0], "busiest": busiest[1] + busiest[2], "quiet": quiet, "steps": len(bars)}
