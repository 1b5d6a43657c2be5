"""Whether a condition chooses among a relation's rows, or holds for all of them whatever they are."""

from __future__ import annotations

import json
from typing import Any, Literal

from lineage.statements.parser import Node
from lineage.statements.scope import names_of

Kind = Literal["always", "never", "rows", "constant"]
"""Holds for every row, for none, depends on the row, or is the same for every row and cannot be worked out."""

_OPPOSITE: dict[Kind, Kind] = {"always": "never", "never": "always", "rows": "rows", "constant": "constant"}
_NEVER_NULL = frozenset({"ctid", "tableoid", "xmin", "xmax", "cmin", "cmax"})
_SAME_ON_BOTH_SIDES = frozenset({"=", "<=", ">=", "~~", "~~*"})


def is_missing(condition: Node | None, name: str) -> bool:
    """Whether `condition` chooses no rows of the relation that it calls `name`."""
    return condition is None or _kind(condition, name) != "rows"


def _kind(node: Node, name: str) -> Kind:
    for kind, fields in node.items():
        if kind == "BoolExpr":
            return _bool(fields, name)
        if kind == "CurrentOfExpr":
            return "rows"
        constant = _constant(kind, fields)
        if constant is not None:
            return constant
    return "rows" if _names_rows(node, name) else "constant"


def _bool(fields: Node, name: str) -> Kind:
    kinds = [_kind(part, name) for part in fields["args"]]
    if fields["boolop"] == "NOT_EXPR":
        return _OPPOSITE[kinds[0]]
    neutral: Kind = "always" if fields["boolop"] == "AND_EXPR" else "never"
    if _OPPOSITE[neutral] in kinds:
        return _OPPOSITE[neutral]
    if neutral == "never" and _is_complete(fields["args"]):
        return "always"
    # `rows or constant` may be all rows, `rows and constant` may not.
    graver: tuple[Kind, Kind] = ("rows", "constant") if neutral == "always" else ("constant", "rows")
    return next((kind for kind in graver if kind in kinds), neutral)


def _is_complete(alternatives: list[Node]) -> bool:
    """Whether `x is null or x is not null`, or `x or not x`, stands among the alternatives."""
    seen: set[str] = set()
    opposites: set[str] = set()
    for node in alternatives:
        if "NullTest" in node:
            what = _same(node["NullTest"]["arg"])
            (seen if node["NullTest"]["nulltesttype"] == "IS_NULL" else opposites).add(what)
        elif "BoolExpr" in node and node["BoolExpr"]["boolop"] == "NOT_EXPR":
            opposites.add(_same(node["BoolExpr"]["args"][0]))
        else:
            seen.add(_same(node))
    return bool(seen & opposites)


def _constant(kind: str, fields: Node) -> Kind | None:
    """Constants, and comparisons of a thing with itself; None for anything else."""
    if kind == "NullTest" and fields["nulltesttype"] == "IS_NOT_NULL" and "ColumnRef" in fields["arg"]:
        return "always" if names_of(fields["arg"]["ColumnRef"]["fields"])[-1] in _NEVER_NULL else None
    if kind == "A_Const":
        value = fields.get("boolval")
        return "never" if value is not None and not value.get("boolval") else "always"
    if kind == "TypeCast":
        text = fields["arg"].get("A_Const", {}).get("sval", {}).get("sval", "")
        return "never" if "A_Const" in fields["arg"] and text.lower() in ("f", "false", "no", "off", "0") else None
    return _comparison(fields) if kind == "A_Expr" else None


def _comparison(fields: Node) -> Kind | None:
    left, right = fields.get("lexpr"), fields.get("rexpr")
    if left is None or right is None:
        return None
    operator = names_of(fields["name"])[-1]
    if "A_Const" in left and "A_Const" in right and operator == "=":
        if _are_same(left, right):
            return "always"
        # 1 and 1.0 are written differently and are the same.
        return (
            "never" if any(kind in left["A_Const"] and kind in right["A_Const"] for kind in ("ival", "sval")) else None
        )
    if fields["kind"] in ("AEXPR_LIKE", "AEXPR_ILIKE"):
        pattern = right.get("A_Const", {}).get("sval", {}).get("sval")
        return "always" if operator in ("~~", "~~*") and pattern is not None and not pattern.strip("%") else None
    others = right.get("List", {}).get("items", [right])
    is_same = any(_are_same(left, other) for other in others)
    accepts = operator in _SAME_ON_BOTH_SIDES or fields["kind"] in ("AEXPR_NOT_DISTINCT", "AEXPR_BETWEEN")
    return "always" if is_same and accepts else None


def _are_same(one: Node, other: Node) -> bool:
    """Whether they are written alike, wherever they stand."""
    return one.keys() == other.keys() and bool(_bare(one) == _bare(other))


def _same(node: Any) -> str:
    """The tree without places in the text, to compare."""
    return json.dumps(_bare(node), sort_keys=True)


def _bare(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _bare(value) for key, value in node.items() if not key.endswith(("location", "_start", "_end"))}
    return [_bare(item) for item in node] if isinstance(node, list) else node


def _names_rows(node: Any, name: str, within: bool = False) -> bool:
    """Whether a column of the relation is named. In a subselect only one with the relation's own name counts."""
    if isinstance(node, list):
        return any(_names_rows(item, name, within) for item in node)
    if not isinstance(node, dict):
        return False
    for kind, value in node.items():
        if kind == "ColumnRef":
            names = names_of(value["fields"])
            if (names[-2] == name) if len(names) > 1 else not within:
                return True
        elif _names_rows(value, name, within or kind == "subselect"):
            return True
    return False
