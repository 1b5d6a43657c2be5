"""SELECT as labels flow through it: FROM items, conditions, expressions, common table expressions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lineage.statements.builtins import SAFE_FUNCTIONS
from lineage.statements.parser import Node
from lineage.statements.scope import names_of
from lineage.statements.tracing import (
    DOCUMENT,
    NOTHING,
    PART,
    UNKNOWN,
    Item,
    Labels,
    Level,
    Mention,
    Output,
    Ref,
    Table,
    all_labels,
    as_item,
    columns,
    compared,
    expanded,
    hard,
    is_name_in,
    is_path,
    merged,
    name_of,
    of_refs,
    renamed,
)

CARRIERS = frozenset({
    "set_config", "setseed", "pg_notify", "setval", "nextval", "pg_logical_emit_message", "pg_advisory_lock", "pg_advisory_xact_lock",
    "pg_advisory_lock_shared", "pg_advisory_xact_lock_shared", "pg_try_advisory_lock", "pg_try_advisory_lock_shared",
    "pg_try_advisory_xact_lock", "pg_try_advisory_xact_lock_shared",
})  # fmt: skip
"""Functions that keep or send their arguments where others can read them."""
_CARRYING = ("pg_", "lo_", "lowrite", "dblink")
"""So do those that begin so and are not known to be harmless: large objects, replication, restore points, other databases."""
QUERIES = frozenset({"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})
_LEVELS = 3000
"""Query levels looked at, some of them again and again; a text that needs more is not told."""
_ROUNDS = 6
"""A recursive query's labels are settled after as many rounds as it has columns; beyond these all are taken together."""


@dataclass(frozen=True, slots=True)
class Flow:
    """What a statement writes into a column (`*`: into any). `is_new`: the relation is made by it."""

    schema: str | None
    relation: str
    column: str
    labels: Labels
    is_new: bool = False


class Follower:
    """Follows the labels of `table`'s columns; collects what is copied, carried and called on the way."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.flows: list[Flow] = []
        self.carried: set[str] = set()
        self.calls: set[str] = set()
        self.compares = False
        self.levels = 0

    # Queries

    def query(self, node: Node, parent: Level, nested: bool) -> list[Output]:
        """The outputs of any of the five kinds of query. `nested`: what chose its rows shows in what is made of them."""
        return self._result(node, parent, nested)[0]

    def _result(self, node: Node, parent: Level, nested: bool) -> tuple[list[Output], Level]:
        kind, fields = next(iter(node.items()))
        level = Level(parent)
        self._with(fields, level)
        self.levels += 1
        if self.levels > _LEVELS:
            raise RecursionError
        outputs: list[Output] = getattr(self, _VISIT[kind])(fields, level, nested)
        self.compares = self.compares or bool(level.compares)
        return outputs, level

    def _inner(self, node: Node, sees: Level, level: Level) -> list[Output]:
        """The outputs of a query that `level` reads rows of: what tells through its rows tells through those of `level`."""
        outputs, inner = self._result(node, sees, True)
        level.compares |= inner.compares
        return outputs

    def _with(self, fields: Node, level: Level) -> None:
        clause = fields.get("withClause", {})
        for cte in (node["CommonTableExpr"] for node in clause.get("ctes", ())):
            name, query = cte["ctename"], cte["ctequery"]
            names = names_of(cte.get("aliascolnames", []))
            is_recursive = bool(clause.get("recursive"))
            outputs = self._recursive(name, query, names, level) if is_recursive else self._inner(query, level, level)
            level.ctes[name] = renamed(outputs, names)

    def _recursive(self, name: str, query: Node, names: list[str], level: Level) -> list[Output]:
        """The outputs of a query that may read itself: tried with what is known until nothing is added."""
        select = query.get("SelectStmt", {})
        known = self._inner({"SelectStmt": select["larg"]}, level, level) if "larg" in select else []
        for _ in range(_ROUNDS):
            level.ctes[name] = renamed(known, names)
            found = self._inner(query, level, level)
            if [o.labels for o in found] == [o.labels for o in known]:
                return found
            known = found
        everything = all_labels(known) | {UNKNOWN}
        return [Output(output.name, everything, output.literals, output.is_open) for output in known]

    def _select(self, fields: Node, level: Level, nested: bool) -> list[Output]:
        if "larg" in fields:
            (left, one), (right, other) = (
                self._result({"SelectStmt": fields[side]}, level, True) for side in ("larg", "rarg")
            )
            level.selects |= one.selects | other.selects
            level.compares |= one.compares | other.compares
            self._limits(fields, level)
            return compared(merged(left, right), level)
        if "valuesLists" in fields:
            return self._values(fields["valuesLists"], level)
        level.visible += self._from(fields.get("fromClause", ()), level)
        names = {target["ResTarget"].get("name") for target in fields.get("targetList", ())}
        for name in ("whereClause", "havingClause"):
            self.condition(fields.get(name), level)
        for name in ("sortClause", "groupClause", "distinctClause", "windowClause"):
            for node in fields.get(name, ()):
                if not is_name_in(node, names):
                    self.condition(node, level)
        self._limits(fields, level)
        level.settle()
        return compared(self._targets(fields.get("targetList", ()), level, nested), level)

    def _limits(self, fields: Node, level: Level) -> None:
        for name in ("limitCount", "limitOffset"):
            mention = self.expression(fields.get(name), level)
            level.compares |= hard(mention.labels | mention.implied)

    def _values(self, rows: Sequence[Node], level: Level) -> list[Output]:
        lists = [[self._computed("", item, level, NOTHING) for item in row["List"].get("items", ())] for row in rows]
        return [
            Output(f"column{place + 1}", all_labels(column), tuple(text for o in column for text in o.literals))
            for place, column in enumerate(zip(*lists, strict=False))
        ]

    def _targets(self, targets: Iterable[Node], level: Level, nested: bool) -> list[Output]:
        chosen = level.selects if nested else NOTHING
        outputs: list[Output] = []
        for target in (node["ResTarget"] for node in targets):
            names = names_of(target["val"]["ColumnRef"]["fields"]) if "ColumnRef" in target["val"] else []
            if names[-1:] == ["*"]:
                outputs += expanded(names, level)
                continue
            # A column as it is tells only itself; what is computed where a condition chose may tell what was chosen.
            extra = NOTHING if names else chosen
            outputs.append(self._computed(target.get("name") or name_of(target["val"]), target["val"], level, extra))
        return outputs

    def _computed(self, name: str, node: Node, level: Level, extra: Labels) -> Output:
        mention = self.expression(node, level)
        labels = frozenset(mention.labels | mention.implied) | extra
        if DOCUMENT in labels and not is_path(node):
            labels |= {PART}
        return Output(name, labels, tuple(mention.literals))

    # FROM

    def _from(self, nodes: Iterable[Node], level: Level) -> list[tuple[str, list[Ref]]]:
        return [column for node in nodes for kind, fields in node.items() for column in self._item(kind, fields, level)]

    def _item(self, kind: str, fields: Node, level: Level) -> list[tuple[str, list[Ref]]]:
        """Adds one FROM item to the level; returns the columns that a star shows of it."""
        if kind == "JoinExpr":
            return self._join(fields, level)
        if kind == "RangeTableSample":
            # Which rows a sample takes depends on its arguments.
            sampled = self.expression([fields.get("args"), fields.get("repeatable")], level)
            level.compares |= hard(sampled.labels | sampled.implied)
            return self._from([fields["relation"]], level)
        names = names_of(fields.get("alias", {}).get("colnames", []))
        alias = fields.get("alias", {}).get("aliasname") or fields.get("relname") or ""
        if kind == "RangeVar":
            item = self._relation(fields, level)
        elif kind == "RangeSubselect":
            sees = level if fields.get("lateral") else Level(level.parent, level.ctes)
            item = as_item(alias, self._inner(fields["subquery"], sees, level), names)
        else:
            mention = self.expression([value for name, value in fields.items() if name != "alias"], level)
            told = frozenset(mention.labels | mention.implied)
            told |= {PART} if DOCUMENT in told else NOTHING
            # How many rows a function gives depends on its arguments.
            level.compares |= hard(told)
            item = Item(alias, [(name, told) for name in names], told)
        level.items.append(item)
        return columns(item)

    def _relation(self, fields: Node, level: Level) -> Item:
        alias = fields.get("alias", {}).get("aliasname") or fields["relname"]
        names = names_of(fields.get("alias", {}).get("colnames", []))
        cte = None if "schemaname" in fields else level.cte(fields["relname"])
        if cte is not None:
            return as_item(alias, cte, names)
        known = self.table(fields.get("schemaname"), fields["relname"])
        if known is None:
            return Item(alias, [], frozenset({UNKNOWN}))
        return as_item(alias, [Output(name, labels) for name, labels in known], names)

    def _join(self, fields: Node, level: Level) -> list[tuple[str, list[Ref]]]:
        start = len(level.items)
        left, right = self._from([fields["larg"]], level), self._from([fields["rarg"]], level)
        using = names_of(fields.get("usingClause", []))
        if fields.get("isNatural"):
            using = [name for name, _ in left if name in {other for other, _ in right}]
        shown = []
        for name in using:
            both = [(item, name) for column, refs in left + right if column in (name, "*") for item, _ in refs]
            level.checks.append(partial(_equal, both, level))
            shown.append((name, both))
        self.condition(fields.get("quals"), level)
        level.settle()
        shown += [column for column in left + right if column[0] not in using]
        if "alias" not in fields:
            return shown
        outputs = [Output(name, of_refs(refs), is_open=name == "*") for name, refs in shown]
        item = as_item(fields["alias"]["aliasname"], outputs, names_of(fields["alias"].get("colnames", [])))
        level.items[start:] = [item]
        return columns(item)

    # Expressions

    def condition(self, tree: Node | None, level: Level) -> None:
        """One condition, or each part of a conjunction; `Level.settle` takes it in."""
        for kind, fields in (tree or {}).items():
            if kind == "BoolExpr" and fields["boolop"] == "AND_EXPR":
                for part in fields["args"]:
                    self.condition(part, level)
            else:
                level.checks.append(partial(self._check, kind, fields, level))

    def _check(self, kind: str, fields: Node, level: Level) -> None:
        level.condition(self.expression({kind: fields}, level), kind == "SubLink")

    def expression(self, tree: Any, level: Level) -> Mention:
        """All that a part of a tree mentions."""
        found = Mention()
        if isinstance(tree, list):
            for node in tree:
                found.add(self.expression(node, level))
        elif isinstance(tree, dict):
            for kind, value in tree.items():
                found.add(self._node(kind, value, level))
        return found

    def _node(self, kind: str, value: Any, level: Level) -> Mention:
        if kind == "ColumnRef":
            return level.mention(names_of(value["fields"]))
        if kind == "SubLink":
            return self._subquery(value, level)
        if kind in QUERIES:
            return self._selected({kind: value}, level)
        if kind == "FuncCall":
            return self._call(value, level)
        if kind == "A_Const":
            text = value.get("sval", {}).get("sval")
            return Mention(literals=[text] if text else [])
        return self.expression(value, level)

    def _call(self, fields: Node, level: Level) -> Mention:
        name = names_of(fields["funcname"])[-1]
        self.calls.add(".".join(names_of(fields["funcname"])))
        mention = self.expression([value for key, value in fields.items() if key != "funcname"], level)
        if name in CARRIERS or (name.startswith(_CARRYING) and name not in SAFE_FUNCTIONS):
            self.carried |= hard(mention.labels | mention.implied) | level.selects | level.compares
        return Mention() if _is_plain_count(fields) else mention

    def _subquery(self, fields: Node, level: Level) -> Mention:
        mention = self.expression(fields.get("testexpr"), level)
        mention.add(self._selected(fields["subselect"], level))
        return mention

    def _selected(self, node: Node, level: Level) -> Mention:
        outputs, inner = self._result(node, level, True)
        literals = [text for output in outputs for text in output.literals]
        return Mention(set(all_labels(outputs)), set(inner.selects | inner.compares), [], literals)


def _equal(refs: list[Ref], level: Level) -> None:
    """Columns of one name, joined by USING."""
    mention = Mention()
    for item, name in refs:
        mention.note(item, name)
    level.condition(mention)


def _is_plain_count(fields: Node) -> bool:
    """`count(*)` or `count` of one column: how many there are tells no value; how many are like this or that does."""
    if (
        names_of(fields["funcname"]) not in (["count"], ["pg_catalog", "count"])
        or {"agg_filter", "over"} & fields.keys()
    ):
        return False
    return all("ColumnRef" in argument for argument in fields.get("args", ()))


_VISIT = {
    "SelectStmt": "_select", "InsertStmt": "_insert", "UpdateStmt": "_change", "DeleteStmt": "_change", "MergeStmt": "_merge",
}  # fmt: skip
