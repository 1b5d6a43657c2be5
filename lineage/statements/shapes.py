"""Texts that differ in nothing but plain values, and whether what they do can differ in anything but the keys.

Numbers are only left out of texts that a scanner finds as plain as can be: it knows little and refuses everything else. The parser
then has to find each value, or each parameter, where nothing but a row's key can follow from it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from typing import Any

import msgspec

from lineage.statements import keys, parser
from lineage.statements.parser import Node

LONGEST_TEXT = 1000
MOST_VALUES = 16
"""Constants and parameters of one text: few enough that no limit of `keys` cuts what their combinations fix."""
_FIRST = 900_000_001
_MARK = f"p{secrets.token_hex(8)}."
"""What nobody can have written: a constant of a text with parameters may be spelled in any way."""
_NUMBER = re.compile(r'(\b(?:limit|offset)[ \n]+[0-9]+)|(?<![\w."$])[1-9][0-9]{0,8}(?![\w."$])', re.IGNORECASE)
_REST = re.compile(
    r'(?:(?:limit|offset)[ \n]+[0-9]{1,9}(?![\w.])|[a-z_][a-z0-9_]*|"[a-z_][a-z0-9_]*"|0(?![\w.])'
    r"|[ \n\t\r,;*=<>+%().?]|-(?!-)|/(?!\*))*+",
    re.IGNORECASE | re.ASCII,
)
_OPERATORS = frozenset({"=", "<", ">", "<=", ">=", "<>", "+", "-", "*", "/", "%"})


class Shape(msgspec.Struct, frozen=True):
    """`text` with `values` of its own left out (`?` where they stood), or with `values` for its parameters.

    All values differ: two equal ones may be one key, and so are no example of two.
    """

    text: str
    values: tuple[str | None, ...]
    is_bound: bool

    @property
    def stand_ins(self) -> tuple[str | None, ...]:
        """Values to be found again in what is said of the shape: unlike each other, and all that stands in the text."""
        made = (f"{_MARK}{place}" if self.is_bound else str(_FIRST + place) for place in range(len(self.values)))
        return tuple(None if value is None else name for name, value in zip(made, self.values, strict=True))

    def example(self) -> tuple[str, tuple[str | None, ...]] | None:
        """Text and parameters with the stand-ins; None where more than keys may follow from a value."""
        numbers = [number for number in self.stand_ins if number is not None]
        if self.is_bound:
            return (self.text, self.stand_ins) if _is_free(self.text, []) else None
        text = "".join(part + number for part, number in zip(self.text.split("?"), [*numbers, ""], strict=True))
        return (text, ()) if _is_free(text, numbers) else None


def shape(sql: str, parameters: tuple[str | None, ...]) -> Shape | None:
    """The shape of a text with these parameters; None where it has none."""
    values = tuple(value for value in parameters if value is not None)
    if len(parameters) > MOST_VALUES or len(set(values)) < len(values) or len(sql) > LONGEST_TEXT:
        return None
    if parameters:
        return Shape(sql, parameters, is_bound=True) if all(map(keys.is_plain, values)) else None
    return _split(sql)


def _split(sql: str) -> Shape | None:
    """0, and what stands behind LIMIT and OFFSET, stays in the text; other numbers begin with 1 to 9 and have up to 9 digits."""
    values: list[str] = []

    def left_out(match: re.Match[str]) -> str:
        if match[1]:
            return match[0]
        values.append(match[0])
        return "?"

    text = _NUMBER.sub(left_out, sql)
    is_plain = values and len(set(values)) == len(values) <= MOST_VALUES and text.count("?") == len(values)
    return Shape(text, tuple(values), is_bound=False) if is_plain and _REST.fullmatch(text) else None


def _is_free(sql: str, numbers: list[str]) -> bool:
    """Whether these numbers, or without any all parameters, stand once each where nothing but keys can follow from them."""
    try:
        trees = parser.parse(sql).trees
    except parser.Unparsable:
        return False
    whole, found = msgspec.json.encode(trees), list(_places(trees))
    bound = whole.count(b'"ParamRef":')
    if bound + whole.count(b'"A_Const":') > MOST_VALUES:
        return False
    if not numbers:
        return sum("ParamRef" in node for node in found) == bound
    constants = {abs(node["A_Const"].get("ival", {}).get("ival", 0)) for node in found if "A_Const" in node}
    return constants.issuperset(map(int, numbers)) and all(whole.count(number.encode()) == 1 for number in numbers)


def _places(trees: Any) -> Iterator[Node]:
    """What stands beside a column in a comparison or calculation, in the VALUES of INSERT, or is assigned by UPDATE."""
    stack = [trees]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            for kind, fields in node.items():
                yield from _PLACES[kind](fields) if kind in _PLACES else ()
            stack.extend(node.values())
        elif isinstance(node, list | tuple):
            stack.extend(node)


def _beside(fields: Node) -> Iterator[Node]:
    operator = [part.get("String", {}).get("sval") for part in fields["name"]]
    if fields["kind"] not in ("AEXPR_OP", "AEXPR_IN") or len(operator) != 1 or operator[0] not in _OPERATORS:
        return
    left, right = fields.get("lexpr", {}), fields.get("rexpr", {})
    if "ColumnRef" in left:
        yield from right["List"].get("items", ()) if "List" in right else (right,)
    elif "ColumnRef" in right:
        yield left


def _inserted(fields: Node) -> Iterator[Node]:
    for row in fields.get("selectStmt", {}).get("SelectStmt", {}).get("valuesLists", ()):
        yield from row["List"].get("items", ())


def _assigned(fields: Node) -> Iterator[Node]:
    yield from (target["ResTarget"].get("val", {}) for target in fields.get("targetList", ()))


_PLACES = {"A_Expr": _beside, "InsertStmt": _inserted, "UpdateStmt": _assigned}
