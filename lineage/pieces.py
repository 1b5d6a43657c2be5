"""The small pieces of HTML that stand in every row of a list: a template for each would take most of the time of a page.

Whatever is put into them is escaped. Pure.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from lineage import words, zones

NOTHING = mark_safe("")
UNKNOWN_TIME = mark_safe('<span class="unknown" title="The source did not say when">unknown</span>')
NOBODY = mark_safe("<strong>nobody</strong>")
PARSED = mark_safe(' tabindex="0" title="Read out of the statement by our parser; the source did not name it"')


def icon(name: str) -> SafeString:
    return format_html('<svg class="icon" aria-hidden="true"><use href="#i-{}"></use></svg>', name)


def linked(address: str, text: object) -> SafeString:
    """A link, or the text alone where there is no address."""
    return format_html('<a href="{}">{}</a>', address, text) if address else format_html("{}", text)


def moment(at: dt.datetime | None, form: str) -> SafeString:
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
    return format_html('<time datetime="{}" title="{} · {}">{}</time>', at.isoformat(), exact, since, text)


def verdict(value: str | None) -> SafeString:
    name = value if value in words.VERDICTS else "unknown"
    return format_html('<span class="verdict verdict-{}">{}{}</span>', name, icon(str(name)), name)


def op(value: str | None) -> SafeString:
    letter, word = words.OPS.get(value or "", ("?", value or "unknown operation"))
    tone = "write" if value in words.WRITES else "export" if value == "export" else "read"
    said = '<abbr class="op op-{}" title="{}">{}<span class="visually-hidden"> {}</span></abbr>'
    return format_html(said, tone, word, letter, word)


def resource(datasource: str | None, relation: str, address: str, is_parsed: bool) -> SafeString:
    place = format_html('<span class="resource-place">{} / </span>', datasource) if datasource else NOTHING
    named, told = ("parsed", PARSED) if is_parsed else ("", NOTHING)
    said = '<span class="resource">{}<span class="{}"{}>{}</span></span>'
    return format_html(said, place, named, told, linked(address, relation))


def who(row: Mapping[str, Any], address: str, behind: str, joined: str, why: bool) -> SafeString:
    """An identity and for whom it acted, with their addresses; `why` adds what the name rests on, `joined` from which record."""
    kind = row.get("who_type") if row.get("who_type") in words.ACTORS else "unknown"
    kind, via, behalf = kind or "unknown", row.get("agent_name"), row.get("on_behalf_of")
    word, name = words.ACTORS[kind], row.get("who_name") or "unknown"
    parts = [
        format_html(
            '<span class="who-mark" title="{}">{}<span class="visually-hidden">{} </span></span>',
            word,
            icon(kind),
            word,
        ),
        linked(address, name) if address else format_html("<span>{}</span>", name),
    ]
    if via and kind != "agent":
        parts.append(format_html(' <span class="who-via">through agent <em>{}</em></span>', via))
    if kind == "agent" or via or behalf:
        person = linked(behind, behalf) if behalf else NOBODY
        parts.append(format_html(' <span class="who-for">for {}</span>', person))
    reason = words.CLAIMED if row.get("claimed") else words.ATTRIBUTIONS.get(row.get("attribution") or "")
    if row.get("claimed"):
        parts.append(format_html(' <span class="claimed" title="{}">claimed</span>', reason))
    if why and reason:
        index, title = row.get("attribution_index"), '<a class="joined" href="{}" title="Joined from record {}">{}</a>'
        link = format_html(title, joined, index, icon("link")) if joined else NOTHING
        parts.append(format_html(' <small class="why">{} {}</small>', link, reason))
    return format_html(
        '<span class="who who-{}">{}</span>', kind, format_html_join("", "{}", ((one,) for one in parts))
    )


def cells(weeks: Iterable[Mapping[str, int]]) -> SafeString:
    """One line of the heat grid."""
    some = ((one["level"], f"{one['count']:,}" if one["count"] else "") for one in weeks)
    return format_html_join("", '<td class="heat-{}">{}</td>', some)
