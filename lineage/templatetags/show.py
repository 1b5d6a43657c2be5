"""What templates need to show evidence: links that carry the window, components, and numbers in words."""

from __future__ import annotations

import datetime as dt
from typing import Any
from urllib.parse import urlencode

from django import template
from django.urls import NoReverseMatch, reverse
from django.utils.safestring import SafeString

from lineage import citations, highlighting, pieces, words

register = template.Library()
LONG_VALUE = 200
"""Characters of a value that are shown unfolded."""


def carried(context: template.Context) -> dict[str, str]:
    """The parameters that every link takes along."""
    return context.get("carried") or {}


@register.simple_tag(takes_context=True)
def link(context: template.Context, name: str, *args: Any, **params: Any) -> str:
    """The address of a page with since, until and environment carried along; "" where the thing has no address."""
    try:
        path = reverse(name, args=args)
    except NoReverseMatch:
        return ""
    asked = {k: v for k, v in {**carried(context), **params}.items() if v not in (None, "")}
    return f"{path}?{urlencode(asked)}" if asked else path


@register.simple_tag(takes_context=True)
def here(context: template.Context, **changes: Any) -> str:
    """This page's address with parameters replaced (or removed by an empty value). Paging starts anew."""
    asked = {k: v for k, v in context["request"].GET.items() if k != "cursor"}
    asked = {k: v for k, v in {**asked, **changes}.items() if v not in (None, "")}
    return f"?{urlencode(asked)}"


@register.simple_tag(takes_context=True)
def ask(context: template.Context, field: str, value: Any, by: str = "") -> str:
    """The address of a search for one field's value."""
    return link(context, "search", q=words.condition(field, value), by=by)


@register.simple_tag(takes_context=True)
def export_of(context: template.Context, subject: Any, by: str, form: str) -> str:
    """The address of everything that an identity or run touched, within the page's window, as a file."""
    asked = {
        "identity": subject.identity,
        "run": subject.run,
        "by": by,
        "format": form,
        "limit": 1000,
        **carried(context),
    }
    return f"/api/v1/touched?{urlencode({k: v for k, v in asked.items() if v})}"


@register.simple_tag(takes_context=True)
def query_of(context: template.Context, field: str, value: Any) -> str:
    """The query string of a search for one field's value, within the page's window, for the API."""
    asked = carried(context)
    parts = [words.condition(field, value), *(words.condition(name, text) for name, text in asked.items())]
    return urlencode({"q": " ".join(parts)})


@register.simple_tag(takes_context=True)
def narrow(context: template.Context, q: str, field: str, value: Any) -> str:
    """This search, narrowed by one more condition."""
    return here(context, q=f"{f'({q})' if ' or ' in q.lower() else q} {words.condition(field, value)}".strip())


@register.simple_tag(takes_context=True)
def step_at(context: template.Context, place: int, steps: int, shown: dict[str, int]) -> str:
    """The address of the page of a session on which its statement of this place is; "" where that is this page."""
    narrowed = bool(context["request"].GET.get("q"))
    if shown["first"] <= place <= shown["last"] and not narrowed:
        return ""
    asked = {"from": (place - 1) // steps * steps + 1, **carried(context)}
    return f"?{urlencode(asked)}"


@register.filter
def known(attribution: str | None) -> str:
    """How strongly a link of an identity chain is known, in a few words."""
    return words.STRENGTHS.get(attribution or "none", "not attributed")


register.simple_tag(pieces.icon, name="icon")
register.simple_tag(pieces.verdict, name="verdict")
register.simple_tag(pieces.op, name="op")
register.simple_tag(pieces.moment, name="moment")
register.filter("number", pieces.number)
register.filter("weeks", pieces.weeks)
register.filter("lines", pieces.lines)


@register.simple_tag(takes_context=True)
def who(context: template.Context, row: dict[str, Any], why: bool = False) -> SafeString:
    """The identity chip of a row with `who_*` members; `why` adds what the name rests on."""
    viewer, named = context.get("viewer"), row.get("attribution_index")
    is_linked = viewer is None or viewer.reads_records
    address, behind = (
        link(context, "identity", one) if one and is_linked else ""
        for one in (row.get("who_id"), row.get("on_behalf_of"))
    )
    is_joined = row.get("attribution") == "context_message" or named not in (None, row.get("index"))
    joined = link(context, "event", named) if why and is_joined and named is not None else ""
    return pieces.who(row, address, behind, joined, why)


@register.inclusion_tag("components/_ticket.html", takes_context=True)
def ticket(
    context: template.Context,
    name: str,
    first_at: dt.datetime | None = None,
    last_at: dt.datetime | None = None,
    whole: bool = False,
    linked: bool = True,
) -> dict[str, Any]:
    """A ticket that acts of these times name: asserted, or how it matches what is imported; `whole` says what that is.
    Without times it is not judged: a decision is about a ticket, and no act under it.

    A page that did not look for imported tickets (`imported` of its context) has the name alone.
    """
    imported, viewer = context.get("imported"), context.get("viewer")
    told, is_reader = None, viewer is None or viewer.reads_records
    if imported is not None and first_at is not None and is_reader:
        told = citations.judge(name, imported.get(name, ()), first_at, last_at or first_at)
    return {
        "carried": carried(context), "name": name, "told": told, "whole": whole, "is_linked": is_reader and linked,
        "address": told.version.url if told and told.version and citations.is_address(told.version.url) else "",
    }  # fmt: skip


@register.simple_tag(takes_context=True)
def resource(context: template.Context, datasource: str | None, relation: str, provenance: str = "") -> SafeString:
    return pieces.resource(
        datasource, relation, link(context, "table", datasource or "", relation), provenance == "parsed"
    )


@register.inclusion_tag("components/_sql.html")
def sql(text: str | None, state: str | None = None) -> dict[str, Any]:
    """The statement block. Folded when it is long; a withheld or cut text says so."""
    long = bool(text) and (str(text).count("\n") >= 6 or len(str(text)) > 700)
    return {"text": text, "state": state, "long": long, "lines": str(text or "").count("\n") + 1}


@register.inclusion_tag("components/_diff.html")
def difference(diff: list[dict[str, Any]]) -> dict[str, Any]:
    changed = [entry for entry in diff if entry["changed"] is not False]
    return {"changed": changed, "same": [entry for entry in diff if entry["changed"] is False]}


@register.inclusion_tag("components/_value.html")
def value(state: str, text: str | None) -> dict[str, Any]:
    why = words.UNKNOWN_VALUES.get(state, f"unknown ({state})")
    return {"state": state, "text": text, "why": why, "long": len(str(text or "")) > LONG_VALUE}


@register.inclusion_tag("components/_coverage.html")
def completeness(coverage: list[Any], as_of: int | None = None) -> dict[str, Any]:
    state, sentence = words.completeness(coverage)
    return {"state": state, "sentence": sentence, "coverage": coverage, "as_of": as_of}


@register.inclusion_tag("components/_empty.html")
def empty(what: str, why: str, do: str = "", link: str = "", label: str = "") -> dict[str, Any]:
    return {"what": what, "why": why, "do": do, "link": link, "label": label}


@register.filter
def duration(microseconds: int | None) -> str:
    if microseconds is None:
        return "unknown"
    if microseconds < 1_000:
        return f"{microseconds} µs"
    return f"{microseconds / 1_000:.1f} ms" if microseconds < 1_000_000 else f"{microseconds / 1_000_000:.1f} s"


@register.filter
def ago(at: dt.datetime | None) -> str:
    return words.ago(at, dt.datetime.now(dt.UTC)) if at else "never"


@register.filter
def highlighted(text: str) -> SafeString:
    return highlighting.sql_html(text)


@register.filter
def actor(kind: str | None) -> str:
    """The name of the icon for a kind of actor."""
    return kind if kind in words.ACTORS and kind else "unknown"


@register.filter
def rule(code: str) -> str:
    return words.RULES.get(code, code.replace("-", " ").capitalize())


@register.filter
def facet(field: str) -> str:
    return words.FACETS.get(field, field.replace("_", " ").capitalize())


@register.filter
def has_chosen(rows: list[dict[str, Any]]) -> bool:
    return any(row.get("is_chosen") for row in rows)


@register.filter
def spaced(code: str | None) -> str:
    """A code word as words: "self_approved" is "self approved"."""
    return (code or "").replace("_", " ").replace("-", " ")
