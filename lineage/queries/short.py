"""Lists so short that they are held whole, such as databases and reports: narrowed by a search text and cut to pages here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lineage import errors, search
from lineage.queries.ask import limited, make_cursor, read_cursor
from lineage.search.terms import And, Node, Not, Or, Term

Row = dict[str, Any]


def narrowed(rows: Sequence[Row], q: str, fields: Mapping[str, str], more: Sequence[str] = ()) -> list[Row]:
    """The rows that match `q`, in their order. `fields`: search field to the member that holds it (a text or a list of texts).

    A bare word is found anywhere in these members and in `more`. Raises QueryInvalid for a field that such a list does not have.
    """
    query = search.parse(q)
    strange = search.names(query) - set(fields)
    if strange:
        raise errors.QueryInvalid(
            f"This list has no field {min(strange)}: it is searched by words and by {', '.join(sorted(fields))}.",
            q=min(strange),
        )
    return [row for row in rows if query.root is None or _matches(query.root, row, fields, [*fields.values(), *more])]


def _matches(node: Node, row: Row, fields: Mapping[str, str], words: Sequence[str]) -> bool:
    if isinstance(node, Not):
        return not _matches(node.part, row, fields, words)
    if isinstance(node, And):
        return all(_matches(part, row, fields, words) for part in node.parts)
    if isinstance(node, Or):
        return any(_matches(part, row, fields, words) for part in node.parts)
    return _holds(node, row, [fields[node.name]] if node.name else words)


def _holds(term: Term, row: Row, members: Sequence[str]) -> bool:
    wanted = term.value.casefold()
    texts = [text for member in members for text in _texts(row[member])]
    if not term.name:
        return any(wanted in text for text in texts)
    if wanted == "*":
        return bool(texts)
    return any(text.startswith(wanted) if term.prefix else text == wanted for text in texts)


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [str(one).casefold() for one in values if one not in (None, "")]


def page(
    rows: Sequence[Row], key: str, limit: int | None, cursor: str | None, size: int
) -> tuple[list[Row], str | None]:
    """The page after `cursor`, and the cursor of the next; `key` names the member that tells rows apart.

    Raises QueryInvalid for a cursor of a row that is not in the list any more.
    """
    _, last = read_cursor(cursor, str)
    places = {str(row[key]): place for place, row in enumerate(rows)}
    if last is not None and last not in places:
        raise errors.QueryInvalid("The list has changed since this cursor was given. Start again without it.")
    start = 0 if last is None else places[last] + 1
    shown = list(rows[start : start + limited(limit)])
    return shown, make_cursor(size, str(shown[-1][key])) if start + len(shown) < len(rows) else None
