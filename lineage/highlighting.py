"""SQL as HTML with classes for its parts; the text itself never changes. Pure."""

from __future__ import annotations

import re

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

KEYWORDS = frozenset(
    """add all alter analyze and any as asc begin between by cascade case cast check column commit constraint copy create
    cross default delete desc distinct do drop else end except exists explain false fetch for foreign from full function
    grant group having ilike in index inner insert intersect into is join key lateral left like limit materialized merge
    natural not null offset on only or order outer over partition prepare primary references returning revoke right
    rollback row rows savepoint select set share table then to transaction trigger true truncate union unique update
    using vacuum values view when where window with""".split()
)
LIMIT = 20_000
"""Characters that are coloured; what follows is shown plain, so that a long statement cannot slow a page."""

_PART = re.compile(
    r"(?P<comment>--[^\n]*|/\*.*?(?:\*/|\Z))"
    r"|(?P<string>(?:\b[eEbBxXnN])?'(?:[^']|'')*(?:'|\Z)|\$(?P<tag>(?:[A-Za-z_]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z))"
    r"|(?P<name>\"(?:[^\"]|\"\")*(?:\"|\Z))"
    r"|(?P<number>\b\d+(?:\.\d+)?\b)|(?P<bind>\$\d+)|(?P<word>\b[A-Za-z_]\w*\b)",
    re.DOTALL,
)


def sql_html(text: str) -> SafeString:
    """Escaped text with a span around comments, strings, numbers, bind places and keywords."""
    head, rest = text[:LIMIT], text[LIMIT:]
    parts, end = [], 0
    for match in _PART.finditer(head):
        kind = match.lastgroup if match.lastgroup != "tag" else "string"
        found = match.group()
        if kind == "name" or (kind == "word" and found.lower() not in KEYWORDS):
            continue
        style = "keyword" if kind == "word" else kind
        parts += [escape(head[end : match.start()]), f'<span class="sql-{style}">{escape(found)}</span>']
        end = match.end()
    parts += [escape(head[end:]), escape(rest)]
    # Every part above went through escape(); the spans are ours.
    return mark_safe("".join(parts))  # noqa: S308
