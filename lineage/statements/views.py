"""Where the columns of a view's query come from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lineage.statements.parser import Node
from lineage.statements.scope import names_of

Origins = frozenset[tuple[str | None, str, str]] | None
"""Schema, relation and column of all that one output column is made of; None where that cannot be told."""


def origins(tree: Node) -> tuple[Origins, ...] | None:
    """The origins of each output column of a plain SELECT over relations; None for any other query."""
    select = tree.get("SelectStmt", {})
    if "targetList" not in select or "withClause" in select:
        return None
    items = dict(_items(select.get("fromClause", [])))
    return tuple(_of(target["ResTarget"].get("val", {}), items) for target in select["targetList"])


def _items(nodes: list[Node]) -> Iterator[tuple[str, tuple[str | None, str] | None]]:
    """FROM items by alias; None for what is no relation, or gives its columns other names."""
    for node in nodes:
        for kind, fields in node.items():
            if kind == "JoinExpr" and "alias" not in fields:
                yield from _items([fields["larg"], fields["rarg"]])
                continue
            alias = fields.get("alias", {})
            name = str(alias.get("aliasname") or fields.get("relname") or "")
            is_plain = kind == "RangeVar" and "colnames" not in alias
            yield name, (fields.get("schemaname"), fields["relname"]) if is_plain else None


def _of(expression: Node, items: dict[str, tuple[str | None, str] | None]) -> Origins:
    found: set[tuple[str | None, str, str]] = set()
    for kind, value in _walk(expression):
        if kind in ("SubLink", "A_Indirection"):
            return None
        if kind != "ColumnRef":
            continue
        *table, column = names_of(value["fields"])
        alias = table[-1] if table else next(iter(items)) if len(items) == 1 else ""
        relation = items.get(alias)
        if relation is None or column == "*" or column in items:
            return None
        found.add((*relation, column))
    return frozenset(found)


def _walk(node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for kind, value in node.items():
            yield kind, value
            yield from _walk(value)
    elif isinstance(node, list):
        for item in node:
            yield from _walk(item)
