"""Which rows a condition can touch: the column values that equality fixes, with literals and bind values.

Every answer is a superset: each touched row matches at least one key. What is not understood fixes nothing. All keys of
one answer name the same columns.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from lineage.statements.parser import Node

Key = tuple[tuple[str, str], ...]
Alternatives = list[dict[str, str]]
"""Each is one combination of column values; a row touched has one of them."""
Fixed = dict[Any, Alternatives]
"""Alternatives by relation reference."""
Parameters = Sequence[str | None]
Column = Callable[[Node], tuple[Any, str] | None]
"""The relation reference and column that a ColumnRef names, or None where that cannot be told."""

MOST_KEYS = 1000
MOST_COLUMNS = 32
"""As many as a PostgreSQL index can have."""
LONGEST_VALUE = 1024
_INTEGERS = frozenset({"int2", "int4", "int8"})
_PLAIN_TYPES = _INTEGERS | {"text", "varchar", "bpchar", "uuid", "numeric", "name", "date", "timestamp", "timestamptz"}
_ARRAY_ELEMENT = re.compile(
    r'\s*+(?:"((?:[^"\\]|\\.)*+)"|([^",{}\\\s](?:[^",{}\\]*[^",{}\\\s])?))\s*+(?:,(?!$)|$)', re.S
)


def fixed(condition: Node | None, column: Column, parameters: Parameters) -> Fixed:
    """What holds for every row that satisfies `condition`, by relation reference; missing means unknown."""
    for kind, fields in (condition or {}).items():
        if kind == "BoolExpr" and fields["boolop"] == "AND_EXPR":
            return every([fixed(part, column, parameters) for part in fields["args"]])
        if kind == "BoolExpr" and fields["boolop"] == "OR_EXPR":
            return _either([fixed(part, column, parameters) for part in fields["args"]])
        if kind == "A_Expr" and _is_equality(fields):
            return _comparison(fields, column, parameters)
    return {}


def frozen(alternatives: Alternatives | None) -> tuple[Key, ...] | None:
    """The alternatives as keys without repetition; None where unknown or more than 1,000."""
    if alternatives is None or len(alternatives) > MOST_KEYS:
        return None
    return tuple(dict.fromkeys(tuple(values.items()) for values in alternatives))


def inserted(columns: Sequence[str], rows: Sequence[Node], parameters: Parameters) -> Alternatives | None:
    """The literal values of INSERT … VALUES, row by row; columns that some row does not give as a literal are left out."""
    if not columns or not 0 < len(rows) <= MOST_KEYS:
        return None
    alternatives: Alternatives = []
    for row in rows:
        literals = zip(columns, (literal(item, parameters) for item in row["List"].get("items", ())), strict=False)
        given = {name: value for name, value in literals if value is not None and is_kept(value)}
        alternatives += [given, {name: spellings(value)[-1] for name, value in given.items()}]
    return _same_columns(alternatives)


def is_kept(value: str) -> bool:
    """Whether a column of any type stores the inserted value as it is; 1.5 becomes 2 in a column of integers."""
    return len(value) <= LONGEST_VALUE and "." not in (_number(value) or "")


def every(parts: Iterable[Fixed]) -> Fixed:
    """All parts hold. A combination that would pass 1,000 keys is left out, which keeps the answer a superset."""
    merged: Fixed = {}
    for part in parts:
        for reference, alternatives in part.items():
            before = merged.get(reference)
            if not before or not alternatives:
                merged[reference] = alternatives if before is None else []
            elif len(before) * len(alternatives) <= MOST_KEYS and _adds_columns(before[0], alternatives[0]):
                # Of two values for one column the first stays: a row that has both matches either.
                merged[reference] = _distinct(_joined(old, new) for old in before for new in alternatives)
    return merged


def _adds_columns(before: dict[str, str], more: dict[str, str]) -> bool:
    return len(before) < MOST_COLUMNS and not more.keys() <= before.keys()


def any_of(parts: Sequence[Alternatives | None]) -> Alternatives | None:
    """One of the parts holds; None when one is unknown, they share no column, or there are far too many."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or sum(map(len, known)) > 4 * MOST_KEYS:
        return None
    return _same_columns([values for part in known for values in part])


def _joined(old: dict[str, str], new: dict[str, str]) -> dict[str, str]:
    return old | {name: value for name, value in new.items() if name not in old}


def _distinct(alternatives: Iterable[dict[str, str]]) -> Alternatives:
    return list({tuple(values.items()): values for values in alternatives}.values())


def _either(parts: Sequence[Fixed]) -> Fixed:
    """One of the parts holds: only what each part says about a reference counts."""
    merged: Fixed = {}
    for reference in parts[0]:
        alternatives = any_of([part.get(reference) for part in parts])
        if alternatives is not None:
            merged[reference] = alternatives
    return merged


def _same_columns(alternatives: Alternatives) -> Alternatives | None:
    """The alternatives narrowed to the columns that all of them name; None where there is no such column."""
    return narrowed(alternatives, set(alternatives[0]).intersection(*alternatives)) if alternatives else []


def narrowed(alternatives: Alternatives, columns: Collection[str]) -> Alternatives | None:
    """The alternatives with only `columns`; None where there are none."""
    if not columns:
        return None
    return _distinct({name: value for name, value in values.items() if name in columns} for values in alternatives)


def _is_equality(expression: Node) -> bool:
    """Whether it is PostgreSQL's own equality: OPERATOR(mine.=) may be anything."""
    operator = [part.get("String", {}).get("sval") for part in expression.get("name", ())]
    return expression["kind"] == "AEXPR_NOT_DISTINCT" or (
        operator in (["="], ["pg_catalog", "="]) and expression["kind"] in ("AEXPR_OP", "AEXPR_IN", "AEXPR_OP_ANY")
    )


def _comparison(expression: Node, column: Column, parameters: Parameters) -> Fixed:
    left, right = expression.get("lexpr", {}), expression.get("rexpr", {})
    if expression["kind"] == "AEXPR_IN":
        candidates: list[Node | str] | None = right.get("List", {}).get("items")
    elif expression["kind"] == "AEXPR_OP_ANY":
        candidates = _elements(right, parameters)
    else:
        equal = _equal(left, right, column, parameters)
        # `= null` finds nothing, but IS NOT DISTINCT FROM null finds the nulls.
        return {ref: found for ref, found in equal.items() if found or expression["kind"] == "AEXPR_OP"}
    if candidates is None or len(candidates) > MOST_KEYS:
        return {}
    parts = [_equal(left, candidate, column, parameters) for candidate in candidates]
    return _either(parts) if parts else {}


def _equal(left: Node, right: Node | str, column: Column, parameters: Parameters) -> Fixed:
    """What `left = right` fixes, either way round; rows are compared part by part."""
    if isinstance(right, dict) and "RowExpr" in left and "RowExpr" in right:
        pairs = zip(left["RowExpr"].get("args", ()), right["RowExpr"].get("args", ()), strict=False)
        return every(_equal(a, b, column, parameters) for a, b in pairs)
    if isinstance(right, dict) and "ColumnRef" in right and "ColumnRef" not in left:
        left, right = right, left
    if "ColumnRef" not in left or (target := column(left["ColumnRef"])) is None:
        return {}
    reference, name = target
    if isinstance(right, dict) and _is_null(right):
        return {reference: []}
    value = right if isinstance(right, str) else literal(right, parameters)
    if value is None or len(value) > LONGEST_VALUE:
        return {}
    return {reference: [{name: spelling} for spelling in spellings(value)]}


def _is_null(node: Node) -> bool:
    return bool(node.get("A_Const", {}).get("isnull"))


def literal(node: Node, parameters: Parameters) -> str | None:
    """The text of a constant, a bind value, or a plain cast of one; None for anything else and for NULL."""
    for kind, fields in node.items():
        if kind == "A_Const":
            return _constant(fields)
        if kind == "ParamRef":
            place = fields.get("number", 0) - 1
            return parameters[place] if 0 <= place < len(parameters) else None
        if kind == "TypeCast":
            return _as_type(literal(fields["arg"], parameters), fields["typeName"])
        if kind == "CollateClause":
            return literal(fields["arg"], parameters)
        if kind == "A_Expr" and "lexpr" not in fields:
            return _signed(fields, parameters)
    return None


def _constant(fields: Node) -> str | None:
    if "ival" in fields:
        return str(fields["ival"].get("ival", 0))
    if "boolval" in fields:
        return "t" if fields["boolval"].get("boolval") else "f"
    for kind in ("sval", "fval"):
        if kind in fields:
            return str(fields[kind].get(kind, ""))
    return None


def _signed(fields: Node, parameters: Parameters) -> str | None:
    sign = fields["name"][-1]["String"]["sval"]
    value = literal(fields["rexpr"], parameters)
    number = _number(value) if value is not None and sign in "+-" else None
    if number is None:
        return None
    return number if sign == "+" else number.removeprefix("-") if number.startswith("-") else f"-{number}"


def _as_type(value: str | None, type_name: Node) -> str | None:
    """The value after a cast that does not change what it says; None where it could (rounding, cutting, unknown types)."""
    name = type_name.get("names", [{}])[-1].get("String", {}).get("sval")
    if value is None or name not in _PLAIN_TYPES or "arrayBounds" in type_name or "typmods" in type_name:
        return None
    if name in _INTEGERS:
        number = _number(value)
        return number if number is not None and "." not in number else None
    return value


def spellings(value: str) -> tuple[str, ...]:
    """The value as written and as a column of numbers or UUIDs would show it: `04711` also names the row 4711."""
    number = _number(value)
    other = number if number is not None else _uuid(value)
    return (value,) if other is None or other == value else (value, other)


def _number(value: str) -> str | None:
    """The plain decimal text of a number: 4711 for 04711, +4711, 4711.0, 4.711e3 and 0x1267."""
    if len(value) > 64:
        return None
    try:
        return str(int(value.strip(), 0))
    except ValueError:
        pass
    try:
        number = Decimal(value.strip())
    except InvalidOperation:
        return None
    if not number.is_finite() or abs(number.adjusted()) > 64:
        return None
    text = f"{number:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else str(int(text)) if text.lstrip("-").isdigit() else text


def _uuid(value: str) -> str | None:
    if not 32 <= len(value) <= 45:
        return None
    try:
        return str(uuid.UUID(value))
    except ValueError:
        return None


def _elements(node: Node, parameters: Parameters) -> list[Node | str] | None:
    """What `= ANY(…)` compares with: the elements of ARRAY[…] or of an array's text; None where that cannot be told."""
    if "TypeCast" in node:
        cast = node["TypeCast"]
        inner = _elements(cast["arg"], parameters)
        element_type = {k: v for k, v in cast["typeName"].items() if k != "arrayBounds"}
        if inner is None or "arrayBounds" not in cast["typeName"]:
            return None
        return _all_known([_as_type(e if isinstance(e, str) else literal(e, parameters), element_type) for e in inner])
    if "A_ArrayExpr" in node:
        return list(node["A_ArrayExpr"].get("elements", ()))
    text = literal(node, parameters)
    return None if text is None else _array(text)


def _all_known(values: list[str | None]) -> list[Node | str] | None:
    known: list[Node | str] = [value for value in values if value is not None]
    return known if len(known) == len(values) else None


def _array(text: str) -> list[Node | str] | None:
    """The elements of a one-dimensional array's text such as {1,"a,b",NULL}, NULL left out; None for other text."""
    text = text.strip()
    if len(text) < 2 or text[0] != "{" or text[-1] != "}":
        return None
    inner, at, values = text[1:-1], 0, []
    while at < len(inner):
        match = _ARRAY_ELEMENT.match(inner, at)
        if match is None:
            return None
        at = match.end()
        quoted, bare = match.groups()
        if quoted is not None:
            values.append(re.sub(r"\\(.)", r"\1", quoted, flags=re.S))
        elif bare.upper() != "NULL":
            values.append(bare)
    return list(values)
