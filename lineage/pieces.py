"""The small pieces of HTML that stand in every row of a list: a template for each would take most of the time of a page.

Every text that is put into them goes through `html.escape`: templates escape in the same way, but for what it costs. Pure.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from django.utils.safestring import SafeString, mark_safe

from lineage import words, zones

UNKNOWN_TIME = mark_safe('<span class="unknown" title="The source did not say when">unknown</span>')
PARSED = ' tabindex="0" title="Read out of the statement by our parser; the source did not name it"'


def _icon(name: str) -> str:
    return f'<svg class="icon" aria-hidden="true"><use href="#i-{escape(name)}"></use></svg>'


def icon(name: str) -> SafeString:
    return _made(_icon(name))


def _made(html: str) -> SafeString:
    # Each text in it was escaped where it was put in; the rest is ours.
    return mark_safe(html)  # noqa: S308


def _linked(address: str, text: object) -> str:
    """A link, or the text alone where there is no address."""
    said = escape(str(text))
    return f'<a href="{escape(address)}">{said}</a>' if address else said


def moment(at: dt.datetime | None, form: str = "full") -> SafeString:
    """A time in the reader's zone to the second; the exact UTC and how long ago on hover. `form` is full, clock or ago."""
    if at is None:
        return UNKNOWN_TIME
    at, now = at.astimezone(dt.UTC), dt.datetime.now(dt.UTC)
    since, here = words.ago(at, now), zones.shown(at)
    if form == "clock":
        text = f"{here:%H:%M:%S}"
    else:
        text = since if form == "ago" else f"{here:{'%-d %b' if here.year == now.year else '%-d %b %Y'} %H:%M:%S}"
    exact = f"{at:%Y-%m-%d %H:%M:%S.%f} UTC"
    return _made(f'<time datetime="{at.isoformat()}" title="{exact} · {since}">{escape(text)}</time>')


def verdict(value: str | None) -> SafeString:
    name = str(value) if value in words.VERDICTS else "unknown"
    return _made(f'<span class="verdict verdict-{escape(name)}">{_icon(name)}{escape(name)}</span>')


def op(value: str | None) -> SafeString:
    letter, word = (escape(one) for one in words.OPS.get(value or "", ("?", value or "unknown operation")))
    tone = "write" if value in words.WRITES else "export" if value == "export" else "read"
    hidden = f'<span class="visually-hidden"> {word}</span>'
    return _made(f'<abbr class="op op-{tone}" title="{word}">{letter}{hidden}</abbr>')


def resource(datasource: str | None, relation: str, address: str, is_parsed: bool) -> SafeString:
    place = f'<span class="resource-place">{escape(datasource)} / </span>' if datasource else ""
    named, told = ("parsed", PARSED) if is_parsed else ("", "")
    return _made(
        f'<span class="resource">{place}<span class="{named}"{told}>{_linked(address, relation)}</span></span>'
    )


def who(row: Mapping[str, Any], address: str, behind: str, joined: str, why: bool) -> SafeString:
    """An identity and for whom it acted, with their addresses; `why` adds what the name rests on, `joined` from which record."""
    kind = str(row.get("who_type")) if row.get("who_type") in words.ACTORS else "unknown"
    via, behalf, name = row.get("agent_name"), row.get("on_behalf_of"), row.get("who_name") or "unknown"
    word = escape(words.ACTORS[kind])
    html = f'<span class="who-mark" title="{word}">{_icon(kind)}<span class="visually-hidden">{word} </span></span>'
    html += _linked(address, name) if address else f"<span>{escape(name)}</span>"
    if via and kind != "agent":
        html += f' <span class="who-via">through agent <em>{escape(via)}</em></span>'
    if kind == "agent" or via or behalf:
        html += f' <span class="who-for">for {_linked(behind, behalf) if behalf else "<strong>nobody</strong>"}</span>'
    reason = escape(words.CLAIMED if row.get("claimed") else words.ATTRIBUTIONS.get(row.get("attribution") or "") or "")
    if row.get("claimed"):
        html += f' <span class="claimed" title="{reason}">claimed</span>'
    if why and reason:
        title = f"Joined from record {row.get('attribution_index')}"
        link = f'<a class="joined" href="{escape(joined)}" title="{title}">{_icon("link")}</a>' if joined else ""
        html += f' <small class="why">{link} {reason}</small>'
    return _made(f'<span class="who who-{escape(kind)}">{html}</span>')


def number(given: float | None) -> str:
    """ "1,204,331"; a missing number is said to be unknown."""
    return "unknown" if given is None else f"{given:,.0f}"


def weeks(cells: Iterable[Mapping[str, int]]) -> SafeString:
    """The cells of one line of the heat grid."""
    counted = ((int(one["level"]), number(one["count"]) if one["count"] else "") for one in cells)
    return _made("".join(f'<td class="heat-{level}">{count}</td>' for level, count in counted))


def lines(rows: Iterable[Sequence[Any]]) -> SafeString:
    """The lines of a table of which the first column is a text and the others are numbers."""
    told = ((escape(str(first)), "".join(f'<td class="n">{number(one)}</td>' for one in rest)) for first, *rest in rows)
    return _made("".join(f"<tr><td>{first}</td>{rest}</tr>" for first, rest in told))
