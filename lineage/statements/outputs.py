"""What each column of a statement's result is made of, and what the statement copies where.

Answers are supersets: an output without a label holds nothing of a labelled column, beyond what a count or the choice of rows
tells (docs/masking.md names both).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lineage.statements import parser
from lineage.statements.parser import Node
from lineage.statements.scope import names_of
from lineage.statements.tracing import (
    DOCUMENT,
    NOTHING,
    PART,
    UNKNOWN,
    UNTOLD,
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
    counted,
    expanded,
    hard,
    is_name_in,
    is_path,
    merged,
    name_of,
    of_refs,
    renamed,
)

__all__ = ["DOCUMENT", "PART", "UNKNOWN", "Flow", "Labels", "Output", "Trace", "trace"]

CARRIERS = frozenset({
    "set_config", "pg_notify", "setval", "nextval", "pg_logical_emit_message", "pg_advisory_lock", "pg_advisory_xact_lock",
    "pg_advisory_lock_shared", "pg_advisory_xact_lock_shared", "pg_try_advisory_lock", "pg_try_advisory_lock_shared",
    "pg_try_advisory_xact_lock", "pg_try_advisory_xact_lock_shared",
})  # fmt: skip
"""Functions that keep or send their arguments where others can read them."""
_QUERIES = frozenset({"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})
_INNER = {"DeclareCursorStmt": "query", "PrepareStmt": "query", "CopyStmt": "query"}
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


@dataclass(frozen=True, slots=True)
class Trace:
    """`outputs` is None where the statement gives no rows of its own, or none that are understood. `carried`: labels handed to
    functions that keep or send them. `compares`: some protected column is set against another relation's column."""

    outputs: tuple[Output, ...] | None
    flows: tuple[Flow, ...] = ()
    carried: Labels = NOTHING
    compares: bool = False
    calls: frozenset[str] = frozenset()


def trace(sql: str, table: Table) -> Trace | None:
    """Follows the labels of `table`'s columns through one statement; None where it cannot be told. Never raises."""
    try:
        trees = parser.parse(sql).trees
        if len(trees) != 1:
            return None
        return _Tracer(table).statement(trees[0])
    except (parser.Unparsable, RecursionError, KeyError):
        # KeyError: a tree of a shape that is not expected tells nothing.
        return None


class _Tracer:
    def __init__(self, table: Table) -> None:
        self.table = table
        self.flows: list[Flow] = []
        self.carried: set[str] = set()
        self.calls: set[str] = set()
        self.compares = False

    def statement(self, tree: Node) -> Trace:
        kind, fields = next(iter(tree.items()))
        while kind in _INNER and _INNER[kind] in fields:
            kind, fields = next(iter(fields[_INNER[kind]].items()))
        outputs: list[Output] | None = None
        if kind in _QUERIES:
            outputs = self.query({kind: fields}, Level(None), False)
            into = fields.get("intoClause", {}).get("rel")
            if into:
                self._made(into, outputs)
                outputs = None
        elif kind == "ExplainStmt":
            self.statement(fields["query"])
        elif kind in ("CreateTableAsStmt", "ViewStmt"):
            self._create(kind, fields)
        told = None if outputs is None else tuple(outputs)
        return Trace(told, tuple(self.flows), frozenset(self.carried), self.compares, frozenset(self.calls))

    def _create(self, kind: str, fields: Node) -> None:
        query = fields["query"]
        made = fields["view"] if kind == "ViewStmt" else fields["into"]["rel"]
        known = next(iter(query)) in _QUERIES
        self._made(made, self.query(query, Level(None), False) if known else [UNTOLD])

    def _made(self, relation: Node, outputs: Iterable[Output]) -> None:
        for output in outputs:
            self.flows.append(
                Flow(relation.get("schemaname"), relation["relname"], output.name, output.labels, is_new=True)
            )

    # Queries

    def query(self, node: Node, parent: Level, nested: bool) -> list[Output]:
        """The outputs of any of the five kinds of query. `nested`: what chose its rows shows in what is made of them."""
        return self._result(node, parent, nested)[0]

    def _result(self, node: Node, parent: Level, nested: bool) -> tuple[list[Output], Labels]:
        kind, fields = next(iter(node.items()))
        level = Level(parent)
        self._with(fields, level)
        outputs: list[Output] = getattr(self, _VISIT[kind])(fields, level, nested)
        self.compares = self.compares or bool(level.compares)
        return outputs, level.selects | level.counts

    def _with(self, fields: Node, level: Level) -> None:
        clause = fields.get("withClause", {})
        for cte in (node["CommonTableExpr"] for node in clause.get("ctes", ())):
            name, query = cte["ctename"], cte["ctequery"]
            names = names_of(cte.get("aliascolnames", []))
            is_recursive = bool(clause.get("recursive"))
            outputs = self._recursive(name, query, names, level) if is_recursive else self.query(query, level, True)
            level.ctes[name] = renamed(outputs, names)

    def _recursive(self, name: str, query: Node, names: list[str], level: Level) -> list[Output]:
        """The outputs of a query that may read itself: tried with what is known until nothing is added."""
        select = query.get("SelectStmt", {})
        known = self.query({"SelectStmt": select["larg"]}, level, True) if "larg" in select else []
        for _ in range(_ROUNDS):
            level.ctes[name] = renamed(known, names)
            found = self.query(query, level, True)
            if [o.labels for o in found] == [o.labels for o in known]:
                return found
            known = found
        everything = all_labels(known) | {UNKNOWN}
        return [Output(output.name, everything, output.literals, output.is_open) for output in known]

    def _select(self, fields: Node, level: Level, nested: bool) -> list[Output]:
        if "larg" in fields:
            sides = [self._result({"SelectStmt": fields[side]}, level, True) for side in ("larg", "rarg")]
            level.selects |= sides[0][1] | sides[1][1]
            self._limits(fields, level)
            return counted(merged(sides[0][0], sides[1][0]), level)
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
        return counted(self._targets(fields.get("targetList", ()), level, nested), level)

    def _limits(self, fields: Node, level: Level) -> None:
        for name in ("limitCount", "limitOffset"):
            mention = self.expression(fields.get(name), level)
            level.counts |= hard(mention.labels | mention.implied)

    def _values(self, rows: Sequence[Node], level: Level) -> list[Output]:
        lists = [[self._computed("", item, level, NOTHING) for item in row["List"].get("items", ())] for row in rows]
        return [
            Output(f"column{place + 1}", all_labels(column), tuple(text for o in column for text in o.literals))
            for place, column in enumerate(zip(*lists, strict=False))
        ]

    def _targets(self, targets: Iterable[Node], level: Level, nested: bool) -> list[Output]:
        chosen = level.compares | (level.selects if nested else NOTHING)
        outputs: list[Output] = []
        for target in (node["ResTarget"] for node in targets):
            names = names_of(target["val"]["ColumnRef"]["fields"]) if "ColumnRef" in target["val"] else []
            if names[-1:] == ["*"]:
                outputs += expanded(names, level)
                continue
            # A column as it is tells only itself; what is computed beside a telling condition may tell that.
            extra = NOTHING if names else chosen
            outputs.append(self._computed(target.get("name") or name_of(target["val"]), target["val"], level, extra))
        return outputs

    def _computed(self, name: str, node: Node, level: Level, extra: Labels) -> Output:
        mention = self.expression(node, level)
        labels = frozenset(mention.labels | mention.implied) | extra
        if DOCUMENT in labels and not is_path(node):
            labels |= {PART}
        return Output(name, labels, tuple(mention.literals))

    # Changes

    def _insert(self, fields: Node, level: Level, nested: bool) -> list[Output]:
        relation = fields["relation"]
        target = self._relation(relation, level)
        source = fields.get("selectStmt")
        outputs = [] if source is None else self.query(source, level, False)
        names = [column["ResTarget"]["name"] for column in fields.get("cols", ())] or [n for n, _ in target.columns]
        if any(output.is_open for output in outputs) or len(outputs) > len(names):
            self._flow(relation, "*", all_labels(outputs))
        for name, output in zip(names, outputs, strict=False):
            self._flow(relation, name, output.labels)
        clause = fields.get("onConflictClause", {})
        excluded = Item("excluded", [(n, all_labels(outputs)) for n, _ in target.columns], all_labels(outputs))
        inner = Level(level, items=[target, excluded])
        self.condition(clause.get("whereClause"), inner)
        self._assign(relation, clause.get("targetList", ()), inner)
        return self._returning(fields, target, level, nested)

    def _change(self, fields: Node, level: Level, nested: bool) -> list[Output]:
        target = self._relation(fields["relation"], level)
        level.items.append(target)
        level.visible += columns(target)
        level.visible += self._from(fields.get("fromClause") or fields.get("usingClause") or (), level)
        self.condition(fields.get("whereClause"), level)
        self._assign(fields["relation"], fields.get("targetList", ()), level)
        if target.taint:
            # Which rows are left, or changed, tells what they were set against.
            self._flow(fields["relation"], "*", NOTHING.union(*target.taint.values()))
        return self._returning(fields, None, level, nested)

    def _merge(self, fields: Node, level: Level, nested: bool) -> list[Output]:
        target = self._relation(fields["relation"], level)
        level.items.append(target)
        self._from([fields["sourceRelation"]], level)
        self.condition(fields.get("joinCondition"), level)
        for clause in (node["MergeWhenClause"] for node in fields.get("mergeWhenClauses", ())):
            self.condition(clause.get("condition"), level)
            names = [column["ResTarget"]["name"] for column in clause.get("targetList", ())]
            names = names or [name for name, _ in target.columns]
            for place, value in enumerate(clause.get("values", ())):
                name = names[place] if place < len(names) else "*"
                self._flow(fields["relation"], name, self._computed("", value, level, level.compares).labels)
            if "values" not in clause:
                self._assign(fields["relation"], clause.get("targetList", ()), level)
        return [UNTOLD]

    def _assign(self, relation: Node, targets: Iterable[Node], level: Level) -> None:
        for target in (node["ResTarget"] for node in targets):
            value = self._computed("", target.get("val", {}), level, level.compares)
            self._flow(relation, target["name"], value.labels)

    def _flow(self, relation: Node, column: str, labels: Labels) -> None:
        self.flows.append(Flow(relation.get("schemaname"), relation["relname"], column, labels))

    def _returning(self, fields: Node, target: Item | None, level: Level, nested: bool) -> list[Output]:
        if target is not None:
            level.items.append(target)
            level.visible += columns(target)
        return self._targets(fields.get("returningClause", {}).get("exprs", ()), level, nested)

    # FROM

    def _from(self, nodes: Iterable[Node], level: Level) -> list[tuple[str, list[Ref]]]:
        return [column for node in nodes for kind, fields in node.items() for column in self._item(kind, fields, level)]

    def _item(self, kind: str, fields: Node, level: Level) -> list[tuple[str, list[Ref]]]:
        """Adds one FROM item to the level; returns the columns that a star shows of it."""
        if kind == "JoinExpr":
            return self._join(fields, level)
        if kind == "RangeTableSample":
            return self._from([fields["relation"]], level)
        names = names_of(fields.get("alias", {}).get("colnames", []))
        alias = fields.get("alias", {}).get("aliasname") or fields.get("relname") or ""
        if kind == "RangeVar":
            item = self._relation(fields, level)
        elif kind == "RangeSubselect":
            sees = level if fields.get("lateral") else Level(level.parent, level.ctes)
            item = as_item(alias, self.query(fields["subquery"], sees, True), names)
        else:
            mention = self.expression([value for name, value in fields.items() if name != "alias"], level)
            told = frozenset(mention.labels | mention.implied)
            told |= {PART} if DOCUMENT in told else NOTHING
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
            mention = Mention()
            for item, column in both:
                mention.note(item, column)
            level.condition(mention)
            shown.append((name, both))
        self.condition(fields.get("quals"), level)
        shown += [column for column in left + right if column[0] not in using]
        if "alias" not in fields:
            return shown
        outputs = [Output(name, of_refs(refs), is_open=name == "*") for name, refs in shown]
        item = as_item(fields["alias"]["aliasname"], outputs, names_of(fields["alias"].get("colnames", [])))
        level.items[start:] = [item]
        return columns(item)

    # Expressions

    def condition(self, tree: Node | None, level: Level) -> None:
        """One condition, or each part of a conjunction."""
        for kind, fields in (tree or {}).items():
            if kind == "BoolExpr" and fields["boolop"] == "AND_EXPR":
                for part in fields["args"]:
                    self.condition(part, level)
            else:
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
        if kind in _QUERIES:
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
        if name in CARRIERS:
            self.carried |= hard(mention.labels | mention.implied)
        is_count = name == "count" and len(fields["funcname"]) == 1
        if is_count and not mention.implied and not (hard(mention.labels) and mention.compared()):
            # How many there are tells no value, unless they were counted up to one.
            return Mention(literals=mention.literals)
        return mention

    def _subquery(self, fields: Node, level: Level) -> Mention:
        mention = self.expression(fields.get("testexpr"), level)
        mention.add(self._selected(fields["subselect"], level))
        return mention

    def _selected(self, node: Node, level: Level) -> Mention:
        outputs, chosen = self._result(node, level, True)
        literals = [text for output in outputs for text in output.literals]
        return Mention(set(all_labels(outputs)), set(chosen), [], literals)


_VISIT = {
    "SelectStmt": "_select", "InsertStmt": "_insert", "UpdateStmt": "_change", "DeleteStmt": "_change", "MergeStmt": "_merge",
}  # fmt: skip
