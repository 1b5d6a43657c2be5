"""Texts that differ in nothing but plain values, and whether what they do can differ in anything but the keys.

Numbers and texts in quotes are only left out of statements that a scanner finds as plain as can be: it knows little and refuses
everything else. The parser then has to find each value, or each parameter, where nothing but a row's key can follow from it.
"""

from __future__ import annotations

import functools
import math
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from lineage.statements import keys, parser
from lineage.statements.parser import Node
from lineage.statements.results import Effect

LONGEST_TEXT = 4096
MOST_VALUES = 64
MOST_COMBINATIONS = 400
"""Of the values of one text: few enough that no limit of `keys` cuts them, whichever of them are equal."""
_FIRST = 900_000_001
_MARK = f"p{secrets.token_hex(8)}."
"""What nobody can have written: a constant of a text with parameters may be spelled in any way."""
_LIMIT = r"\b(?:[lL][iI][mM][iI][tT]|[oO][fF][fF][sS][eE][tT])[ \n]+"
_BEFORE_LIMITED = re.compile(_LIMIT + r"\Z")
_VALUE = re.compile(r"'[^'\\\0]*'|[0-9]+(?:\.[0-9]+)?")
_NUMBER = re.compile(r"(?:(0|[1-9][0-9]{0,8})\.[0-9]{1,9}|[1-9][0-9]{0,8})")
_NOT_BEFORE_TEXT = re.compile(r"[\w&$'\"]")
_NOT_BESIDE_NUMBER = re.compile(r"[\w.\"$:]")
_REST = re.compile(
    rf"(?:{_LIMIT}[0-9]{{1,9}}(?![\w.])|[a-zA-Z_][a-zA-Z0-9_]*+|\?:?|\"[a-zA-Z_][a-zA-Z0-9_]*\"|0(?:\.0+)?(?![\w.])"
    r"|[ \n\t\r,;*=<>+%().]++|-(?!-)|/(?!\*))*+",
    re.ASCII,
)
_OPERATORS = frozenset({"=", "<", ">", "<=", ">=", "<>", "+", "-", "*", "/", "%"})
_CALCULATIONS = frozenset({"+", "-", "*", "/", "%"})
_QUERIES = frozenset({"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt"})
_CHANGES = frozenset({"UpdateStmt", "DeleteStmt", "MergeStmt"})
_CONDITIONS = frozenset({"whereClause", "quals", "condition", "joinCondition"})
_FRACTIONS = {"d": ".5", "D": ".50", "K": ".00"}
_COMMON = re.compile(
    r"0|[1-9][0-9]{0,15}|(?:[A-Za-z]|[0-9]{4}-[0-9][0-9]-)[^\n]{0,23}|[A-Za-z][^\n]*@[^\n]*"
    r"|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
)
"""Of up to `keys.LONGEST_VALUE` letters these are plain: found sooner than by trying whether they are numbers."""


class Shape(msgspec.Struct, frozen=True):
    """`text` with `values` of its own left out (`?`, `?:`, `?.` where they stood), or with `values` for its parameters.

    `kinds` has a letter for each value, which says in what way it becomes a key: `i` a whole number, `t` as it is written, `l` never,
    since it is too long; `d`, `D`, `K` in one or two spellings, some of them not where a row is inserted; `0` for NULL.
    `are_distinct`: no two are equal.
    """

    text: str
    kinds: str
    values: tuple[str | None, ...]
    is_bound: bool
    are_distinct: bool

    @property
    def key(self) -> tuple[str, str, bool, bool]:
        """The same for all texts of the shape."""
        return self.text, self.kinds, self.is_bound, self.are_distinct

    def stand_ins(self) -> tuple[str | None, ...]:
        """Values to be found again in what is said of the shape: unlike each other, and all that stands in the text."""
        return _stand_ins(self.kinds)

    def example(self) -> tuple[str, tuple[str | None, ...]] | None:
        """Text and parameters with the stand-ins; None where more than keys may follow from a value."""
        made = self.stand_ins()
        if self.is_bound:
            return (self.text, made) if _is_free(self.text, made, self) else None
        first, *rest = self.text.split("?")
        text = first + "".join(written(value or "", part) for value, part in zip(made, rest, strict=True))
        return (text, ()) if _is_free(text, made, self) else None

    def names(self) -> dict[str, str]:
        """What each stand-in stands for, in every way in which one of them is written in a key."""
        names = {}
        for kind, made, value in zip(self.kinds, self.stand_ins(), self.values, strict=True):
            if made is None or value is None:
                continue
            names[made], names[f"-{made}"] = value, f"-{value}"
            if kind in "DK":
                ours, theirs = keys.spellings(made)[1], keys.spellings(value)[1]
                names[ours], names[f"-{ours}"] = theirs, f"-{theirs}"
        return names


def written(value: str, part: str) -> str:
    """A value and what follows it, which begins with the mark of a text in quotes or of a number with a fraction."""
    return f"'{value}'{part[1:]}" if part[:1] == ":" else f"{value}{part.removeprefix('.')}"


def refilled(effect: Effect, names: Mapping[str, str]) -> Effect:
    """The effect with these values for its stand-ins."""
    if not effect.keys:
        return effect
    found = [tuple([(column, names.get(value, value)) for column, value in key]) for key in effect.keys]
    return msgspec.structs.replace(effect, keys=tuple(dict.fromkeys(found)))


@functools.lru_cache(maxsize=4096)
def _stand_ins(kinds: str) -> tuple[str | None, ...]:
    return tuple(_stand_in(place, kind) for place, kind in enumerate(kinds))


def _stand_in(place: int, kind: str) -> str | None:
    if kind == "0":
        return None
    if kind in _FRACTIONS:
        return f"{_FIRST + place}{_FRACTIONS[kind]}"
    return (
        str(_FIRST + place) if kind == "i" else f"{_MARK}{place}." + ("x" * keys.LONGEST_VALUE if kind == "l" else "")
    )


def shape(sql: str, parameters: tuple[str | None, ...]) -> Shape | None:
    """The shape of a text with these parameters; None where it has none."""
    if len(parameters) > MOST_VALUES or len(sql) > LONGEST_TEXT:
        return None
    if parameters:
        return Shape(sql, "".join(map(_kind, parameters)), parameters, is_bound=True, are_distinct=_differ(parameters))
    return _split(sql)


def _kind(value: str | None) -> str:
    if value is None:
        return "0"
    if len(value) > keys.LONGEST_VALUE:
        return "l"
    if _COMMON.fullmatch(value):
        return "t"
    is_kept, is_plain = keys.is_kept(value), len(keys.spellings(value)) == 1
    return ("t" if is_kept else "d") if is_plain else ("K" if is_kept else "D")


def _differ(values: Sequence[str | None]) -> bool:
    told = [value for value in values if value is not None]
    return len(set(told)) == len(told)


def _split(sql: str) -> Shape | None:
    """0, and what stands behind LIMIT and OFFSET, stays in the text; other numbers have up to 9 digits on each side of a point."""
    values: list[str] = []
    kinds: list[str] = []
    if "--" in sql or "/*" in sql or "$" in sql:
        return None

    def left_out(match: re.Match[str]) -> str:
        found = match[0]
        mark = _mark(found, sql, match.start(), match.end())
        if mark is None:
            return found
        value = found[1:-1] if mark == "?:" else found
        values.append(value)
        kinds.append("i" if mark == "?" else _kind(value))
        return mark

    text = _VALUE.sub(left_out, sql)
    if not 0 < len(values) <= MOST_VALUES or text.count("?") != len(values) or not _REST.fullmatch(text):
        return None
    return Shape(text, "".join(kinds), tuple(values), is_bound=False, are_distinct=_differ(values))


def _mark(found: str, sql: str, start: int, end: int) -> str | None:
    """What is left where this value stood; None where it stays, for it is no value or not a plain one."""
    before, after = sql[start - 1 : start], sql[end : end + 1]
    if found[0] == "'":
        return "?:" if after != "'" and not _NOT_BEFORE_TEXT.match(before) else None
    if _NOT_BESIDE_NUMBER.match(before) or _NOT_BESIDE_NUMBER.match(after) or not _NUMBER.fullmatch(found):
        return None
    if before.isspace() and _BEFORE_LIMITED.search(sql, max(0, start - 16), start):
        return None
    return "?" if "." not in found else "?." if found.strip("0.") else None


def _is_free(sql: str, made: Sequence[str | None], shape: Shape) -> bool:
    """Whether each of these values, or each parameter, stands where nothing but keys can follow from it."""
    try:
        trees = parser.parse(sql).trees
    except parser.Unparsable:
        return False
    whole, nodes = msgspec.json.encode(trees), list(_nodes(trees))
    if len(trees) != 1 or _QUERIES.isdisjoint(trees[0]) or b"AEXPR_OP_ANY" in whole:
        return False
    places = [place for kind, fields in nodes if kind in _PLACES for place in _PLACES[kind](fields)]
    counts = {whole.count(value.encode()) for value in made if value is not None}
    if _combinations(nodes, shape, made) > MOST_COMBINATIONS:
        return False
    if shape.is_bound:
        return sum("ParamRef" in place for place in places) == whole.count(b'"ParamRef":') and counts <= {0}
    constants = {(keys.literal(place, ()) or "").removeprefix("-") for place in places if "A_Const" in place}
    return constants.issuperset(made) and counts == {1} and (shape.are_distinct or not _compares(nodes))


def _nodes(trees: Any) -> Iterator[tuple[str, Any]]:
    """Every name in these trees with what stands under it."""
    stack = [trees]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            yield from node.items()
            stack.extend(node.values())
        elif isinstance(node, list | tuple):
            stack.extend(node)


def _combinations(nodes: Sequence[tuple[str, Any]], shape: Shape, made: Sequence[str | None]) -> int:
    """No more keys than these follow from the conditions and rows of a text, for any values of its shape."""
    most = 1
    for kind, fields in nodes:
        if kind == "A_Expr":
            most *= max(1, len(_listed(fields))) if fields["kind"] == "AEXPR_IN" else 1
            most *= math.prod(len(keys.spellings(keys.literal(place, made) or "")) for place in _beside(fields))
        elif kind == "A_Const" and shape.is_bound:
            most *= len(keys.spellings(keys.literal({kind: fields}, ()) or ""))
        elif kind == "BoolExpr" and fields["boolop"] == "OR_EXPR":
            most *= len(fields["args"])
        elif kind == "valuesLists":
            most *= len(fields)
    return most


def _compares(nodes: Sequence[tuple[str, Any]]) -> bool:
    """Whether a change's condition may hold one thing beside another that is the same but for values: `n + 5 = n + 6`."""
    if _CHANGES.isdisjoint(kind for kind, _ in nodes):
        return False
    return any(
        (kind == "BoolExpr" and fields["boolop"] == "NOT_EXPR")
        or (kind == "A_Expr" and not _CALCULATIONS.isdisjoint(_operator(fields)))
        for name, condition in nodes
        if name in _CONDITIONS
        for kind, fields in _nodes(condition)
    )


def _operator(fields: Node) -> list[str]:
    return [part.get("String", {}).get("sval", "") for part in fields["name"]]


def _listed(fields: Node) -> list[Node]:
    found: list[Node] = fields.get("rexpr", {}).get("List", {}).get("items", [])
    return found


def _beside(fields: Node) -> Iterator[Node]:
    """What stands beside a column in a comparison or calculation."""
    operator = _operator(fields)
    if fields["kind"] not in ("AEXPR_OP", "AEXPR_IN") or len(operator) != 1 or operator[0] not in _OPERATORS:
        return
    left, right = fields.get("lexpr", {}), fields.get("rexpr", {})
    if "ColumnRef" in left:
        yield from _listed(fields) if "List" in right else (right,)
    elif "ColumnRef" in right:
        yield left


def _inserted(fields: Node) -> Iterator[Node]:
    for row in fields.get("selectStmt", {}).get("SelectStmt", {}).get("valuesLists", ()):
        yield from row["List"].get("items", ())


def _assigned(fields: Node) -> Iterator[Node]:
    yield from (target["ResTarget"].get("val", {}) for target in fields.get("targetList", ()))


_PLACES = {"A_Expr": _beside, "InsertStmt": _inserted, "UpdateStmt": _assigned}
