"""What a query's names carry: labels of columns, followed through FROM items, subqueries, conditions and expressions.

A label is the class of a protected column. It flows into whatever is computed from the column, into what is compared with it
(`i = ascii(substr(email, 1, 1))` makes `i` as telling as the address), and out of a subquery whose condition chose the row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from lineage.statements.parser import Node
from lineage.statements.scope import names_of

Labels = frozenset[str]
Table = Callable[[str | None, str], Sequence[tuple[str, Labels]] | None]
"""Columns of a relation with their labels, in order; None where the relation is not known."""

UNKNOWN = "unknown"
"""The label of what cannot be told."""
DOCUMENT = "document"
"""The label of documents: it flows with the value alone, and conditions on it tell nothing."""
PART = "document part"
"""The label of what was taken out of a document without the statement saying from under which key. Flows like DOCUMENT."""
NOTHING: Labels = frozenset()
_SYSTEM_COLUMNS = frozenset({"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"})


def hard(labels: Iterable[str]) -> Labels:
    """The labels that conditions pass on."""
    return frozenset(labels) - {DOCUMENT, PART}


@dataclass(frozen=True, slots=True)
class Output:
    """One column of a result. `literals` are texts written in its expression; `is_open`: it stands for any number of columns."""

    name: str
    labels: Labels = NOTHING
    literals: tuple[str, ...] = ()
    is_open: bool = False


@dataclass(eq=False, slots=True)
class Item:
    """One FROM item. `rest` labels columns that are not listed, where there may be such (None: there are none)."""

    alias: str
    columns: list[tuple[str, Labels]]
    rest: Labels | None = None
    taint: dict[str, Labels] = field(default_factory=dict)

    def labels(self, name: str) -> Labels | None:
        """What column `name` carries; None where the item has no such column."""
        found = [labels for column, labels in self.columns if column == name]
        if not found and self.rest is None:
            return None
        own = frozenset[str]().union(*found) if found else self.rest or NOTHING
        return own | self.taint.get(name, NOTHING)

    def names(self) -> list[str]:
        return [name for name, _ in self.columns] + (["*"] if self.rest is not None else [])


Ref = tuple[Item, str]
UNTOLD = Output("*", frozenset({UNKNOWN}), is_open=True)


@dataclass(slots=True)
class Mention:
    """What an expression says: labels of the values in it, `implied` by the conditions of subqueries, columns, literals."""

    labels: set[str] = field(default_factory=set)
    implied: set[str] = field(default_factory=set)
    refs: list[Ref] = field(default_factory=list)
    literals: list[str] = field(default_factory=list)

    def add(self, other: Mention) -> None:
        self.labels |= other.labels
        self.implied |= other.implied
        self.refs += other.refs
        self.literals += other.literals

    def note(self, item: Item, name: str) -> None:
        self.refs.append((item, name))
        self.labels |= item.labels(name) or NOTHING

    def compared(self) -> list[Ref]:
        """Columns that stand beside a protected one of another item."""
        owners = {id(item) for item, name in self.refs if hard(item.labels(name) or NOTHING)}
        return [(item, name) for item, name in self.refs if id(item) not in owners]


@dataclass(slots=True)
class Level:
    """One query level. `selects`: labels in its conditions; `compares`: those that tell through every row, because they are
    set against other items' columns, or decide how many rows there are. `checks` are its conditions, to be taken in again."""

    parent: Level | None
    ctes: dict[str, list[Output]] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)
    visible: list[tuple[str, list[Ref]]] = field(default_factory=list)
    selects: Labels = NOTHING
    compares: Labels = NOTHING
    checks: list[Callable[[], None]] = field(default_factory=list)

    def settle(self) -> None:
        """Takes in the conditions until nothing more is told through one that was taken in before."""
        told = -1
        while told != (now := self._told()):
            told = now
            for check in self.checks:
                check()

    def _told(self) -> int:
        return sum(len(labels) for level in self.outward() for item in level.items for labels in item.taint.values())

    def outward(self) -> Iterator[Level]:
        level: Level | None = self
        while level is not None:
            yield level
            level = level.parent

    def cte(self, name: str) -> list[Output] | None:
        return next((level.ctes[name] for level in self.outward() if name in level.ctes), None)

    def condition(self, mention: Mention, is_subquery: bool = False) -> None:
        """Takes in one condition. That of a subquery alone (`id IN (SELECT …)`) passes on values, not what chose them."""
        told = hard(mention.labels) | (NOTHING if is_subquery else hard(mention.implied))
        self.selects |= told | hard(mention.implied)
        compared = mention.compared() if told else []
        if compared:
            self.compares |= told
        for item, name in compared:
            item.taint[name] = item.taint.get(name, NOTHING) | told

    def mention(self, names: list[str]) -> Mention:
        """What a ColumnRef names, looked up here and outward."""
        found = Mention()
        if names[-1] == "*":
            for item in self._stars(names):
                _whole(found, item)
            return found
        is_found = self._bare(names[0], found) if len(names) == 1 else self._qualified(names[-2], names[-1], found)
        if not is_found and names[-1] not in _SYSTEM_COLUMNS:
            found.labels.add(UNKNOWN)
        return found

    def _stars(self, names: list[str]) -> list[Item]:
        if len(names) == 1:
            return self.items
        return next((named for level in self.outward() if (named := level.named(names[-2]))), [])

    def named(self, alias: str) -> list[Item]:
        return [item for item in self.items if item.alias == alias]

    def _bare(self, name: str, found: Mention) -> bool:
        is_found = False
        for level in self.outward():
            listed = [item for item in level.items if any(name == column for column, _ in item.columns)]
            for item in listed or [item for item in level.items if item.rest is not None]:
                found.note(item, name)
                is_found = True
            if listed:
                return True
            for item in level.named(name):
                # The name of an item means its whole row.
                _whole(found, item)
                is_found = True
        return is_found

    def _qualified(self, alias: str, name: str, found: Mention) -> bool:
        for level in self.outward():
            for item in level.named(alias):
                if item.labels(name) is None and name not in _SYSTEM_COLUMNS:
                    # Written like a column, `c.total` may be a function of the whole row.
                    _whole(found, item)
                    found.labels.add(UNKNOWN)
                elif name not in _SYSTEM_COLUMNS:
                    found.note(item, name)
                return True
        return False


def _whole(found: Mention, item: Item) -> None:
    for name in item.names():
        found.note(item, name)


def merged(left: list[Output], right: list[Output]) -> list[Output]:
    """The outputs of a set operation."""
    if len(left) != len(right) or any(output.is_open for output in left + right):
        return [Output("*", all_labels(left + right), is_open=True)]
    return [Output(a.name, a.labels | b.labels, a.literals + b.literals) for a, b in zip(left, right, strict=True)]


def all_labels(outputs: Iterable[Output]) -> Labels:
    return NOTHING.union(*(output.labels for output in outputs))


def as_item(alias: str, outputs: Sequence[Output], names: Sequence[str] = ()) -> Item:
    """A FROM item made of a query's outputs, the first of which may be renamed."""
    columns, rest = [], None
    for place, output in enumerate(outputs):
        if output.is_open:
            rest = (rest or NOTHING) | output.labels
        # The keys that a path names are not known to who reads the item.
        labels = output.labels | ({PART} if output.literals and DOCUMENT in output.labels else NOTHING)
        columns.append((names[place] if place < len(names) else output.name, labels))
    if rest is not None:
        # What follows an open column may lie anywhere.
        everything = all_labels(outputs)
        return Item(alias, [(name, everything) for name in names], everything)
    return Item(alias, columns)


_PATHS = frozenset({"->", "->>", "#>", "#>>"})


def is_path(node: Node) -> bool:
    """Whether an expression is a column, or what lies under keys of it that are written there."""
    for kind, fields in node.items():
        if kind == "TypeCast":
            return is_path(fields["arg"])
        if kind == "A_Expr" and names_of(fields["name"])[-1] in _PATHS:
            return is_path(fields["lexpr"]) and "A_Const" in fields["rexpr"].get("TypeCast", {}).get(
                "arg", fields["rexpr"]
            )
        return kind == "ColumnRef"
    return False


_NAMED_AFTER = {
    "CoalesceExpr": "coalesce", "CaseExpr": "case", "RowExpr": "row", "A_ArrayExpr": "array", "NullIfExpr": "nullif",
}  # fmt: skip


def name_of(node: Node) -> str:
    """The name that PostgreSQL gives an output without AS, as far as it is told here; else `?column?`."""
    for kind, fields in node.items():
        if kind == "ColumnRef":
            return names_of(fields["fields"])[-1]
        if kind == "FuncCall":
            return names_of(fields["funcname"])[-1]
        if kind == "TypeCast":
            inner = name_of(fields["arg"])
            return inner if inner != "?column?" else names_of(fields["typeName"]["names"])[-1]
        if kind == "CollateClause":
            return name_of(fields["arg"])
        if kind == "SubLink":
            return _name_of_subquery(fields)
        return _NAMED_AFTER.get(kind, "?column?")
    return "?column?"


def _name_of_subquery(fields: Node) -> str:
    if fields["subLinkType"] != "EXPR_SUBLINK":
        return {"EXISTS_SUBLINK": "exists", "ARRAY_SUBLINK": "array"}.get(fields["subLinkType"], "?column?")
    for target in fields["subselect"].get("SelectStmt", {}).get("targetList", ())[:1]:
        return target["ResTarget"].get("name") or name_of(target["ResTarget"]["val"])
    return "?column?"


def of_refs(refs: Iterable[Ref]) -> Labels:
    return NOTHING.union(*(item.labels(name) or NOTHING for item, name in refs))


def columns(item: Item) -> list[tuple[str, list[Ref]]]:
    return [(name, [(item, name)]) for name in item.names()]


def expanded(names: list[str], level: Level) -> list[Output]:
    """What a star stands for."""
    shown = level.visible
    if len(names) > 1:
        found = next((items for scope in level.outward() if (items := scope.named(names[-2]))), [])
        shown = [column for item in found[:1] for column in columns(item)]
        if not found:
            return [UNTOLD]
    return [Output(name, of_refs(refs), is_open=name == "*") for name, refs in shown]


def compared(outputs: list[Output], level: Level) -> list[Output]:
    if not level.compares:
        return outputs
    return [Output(o.name, o.labels | level.compares, o.literals, o.is_open) for o in outputs]


def renamed(outputs: list[Output], names: Sequence[str]) -> list[Output]:
    if any(output.is_open for output in outputs[: len(names)]):
        return [Output("*", all_labels(outputs), is_open=True)]
    return [
        Output(names[place] if place < len(names) else o.name, o.labels, o.literals, o.is_open)
        for place, o in enumerate(outputs)
    ]


def is_name_in(node: Node, names: set[str | None]) -> bool:
    """Whether an ORDER BY or GROUP BY item is nothing but the name of an output."""
    column = node.get("SortBy", {}).get("node", node).get("ColumnRef")
    found = names_of(column["fields"]) if column else []
    return len(found) == 1 and found[0] in names
