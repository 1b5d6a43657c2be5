"""Lists of names in forms: one name a line, so that a name may hold whatever else it likes."""

from __future__ import annotations

from django.http import QueryDict


def lines(given: QueryDict, name: str) -> tuple[str, ...]:
    """The names in a field of `components/_name_lines.html`: each once, in their order."""
    return tuple(dict.fromkeys(part for line in given.get(name, "").splitlines() if (part := line.strip())))
