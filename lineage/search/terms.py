"""A search as a tree, and its canonical text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

KEYWORD = re.compile(r'(?:or|and|not)(?=[\s()"]|$)', re.IGNORECASE)
"""Words that join conditions, unless quoted."""


@dataclass(frozen=True)
class Term:
    """One condition. `name` is "" for a bare word; `column` is set for before.COLUMN and after.COLUMN."""

    name: str
    value: str
    compare: Literal["", ">", "<", ">=", "<="] = ""
    prefix: bool = False
    column: str = ""


@dataclass(frozen=True)
class Not:
    part: Node


@dataclass(frozen=True)
class And:
    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Or:
    parts: tuple[Node, ...]


Node: TypeAlias = Term | Not | And | Or


@dataclass(frozen=True)
class Query:
    """A parsed search; `root` is None when it asks for everything. Times stay relative until `to_sql`."""

    root: Node | None = None

    def text(self) -> str:
        """Canonical text: parsing it gives an equal query."""
        return "" if self.root is None else _write(self.root)


def names(query: Query) -> set[str]:
    """Names of the fields that a query mentions anywhere, negated ones too; before.COLUMN is "before"."""
    return {term.name for term in terms(query.root) if term.name}


@dataclass(frozen=True)
class Chip:
    """One condition of a query that a page shows: its text, and the text of the query that is left without it."""

    text: str
    without: str


def chips(query: Query) -> list[Chip]:
    """The conditions that must all hold, in the order written."""
    if query.root is None:
        return []
    parts = query.root.parts if isinstance(query.root, And) else (query.root,)
    found = []
    for place, part in enumerate(parts):
        rest = [*parts[:place], *parts[place + 1 :]]
        found.append(Chip(_write(part, "And"), Query(joined(And, rest) if rest else None).text()))
    return found


def joined(kind: type[And] | type[Or], parts: list[Node]) -> Node:
    """One node for one or more; nested nodes of the same kind are opened, so that equal searches are equal trees."""
    opened: list[Node] = []
    for part in parts:
        opened.extend(part.parts if isinstance(part, kind) else (part,))
    return kind(tuple(opened)) if len(opened) > 1 else opened[0]


def negated(node: Node) -> Node:
    return node.part if isinstance(node, Not) else Not(node)


def terms(node: Node | None) -> list[Term]:
    """All conditions, in the order written."""
    if node is None:
        return []
    if isinstance(node, Term):
        return [node]
    if isinstance(node, Not):
        return terms(node.part)
    return [term for part in node.parts for term in terms(part)]


_PLAIN_WORD = re.compile(r"\w[\w@./,+-]*")
_PLAIN_VALUE = re.compile(r"[\w@./,+:=#%-]+")


def _write(node: Node, inside: str = "") -> str:
    if isinstance(node, Term):
        return _write_term(node)
    if isinstance(node, Not):
        return "-" + _write(node.part, "Not")
    text = (" or " if isinstance(node, Or) else " ").join(_write(part, type(node).__name__) for part in node.parts)
    return text if not inside or (isinstance(node, And) and inside == "Or") else f"({text})"


def _write_term(term: Term) -> str:
    star = "*" if term.prefix else ""
    if not term.name:
        plain = _PLAIN_WORD.fullmatch(term.value) and not KEYWORD.fullmatch(term.value)
        return (term.value if plain else _quote(term.value)) + star
    head = f"{term.name}.{term.column}:" if term.column else f"{term.name}:"
    if not term.value or _PLAIN_VALUE.fullmatch(term.value):
        return head + term.compare + term.value + star
    return head + _quote(term.value) + star


def _quote(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
