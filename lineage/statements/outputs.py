"""What each column of a statement's result is made of, and what the statement copies where.

Answers are supersets: an output without a label holds nothing of a labelled column, beyond what a count or the choice of rows
tells (docs/masking.md names both).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lineage.statements import parser
from lineage.statements.following import QUERIES, Flow, Follower
from lineage.statements.parser import Node
from lineage.statements.tracing import (
    DOCUMENT,
    NOTHING,
    PART,
    UNKNOWN,
    UNTOLD,
    Item,
    Labels,
    Level,
    Output,
    Table,
    all_labels,
    columns,
    compared,
)

__all__ = ["DOCUMENT", "PART", "UNKNOWN", "Flow", "Labels", "Output", "Trace", "trace"]

_INNER = {"DeclareCursorStmt": "query", "PrepareStmt": "query", "CopyStmt": "query"}


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


class _Tracer(Follower):
    """Whole statements, and those that change rows."""

    def statement(self, tree: Node) -> Trace:
        kind, fields = next(iter(tree.items()))
        while kind in _INNER and _INNER[kind] in fields:
            kind, fields = next(iter(fields[_INNER[kind]].items()))
        outputs: list[Output] | None = None
        if kind in QUERIES:
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
        known = next(iter(query)) in QUERIES
        self._made(made, self.query(query, Level(None), False) if known else [UNTOLD])

    def _made(self, relation: Node, outputs: Iterable[Output]) -> None:
        for output in outputs:
            self.flows.append(
                Flow(relation.get("schemaname"), relation["relname"], output.name, output.labels, is_new=True)
            )

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
        inner.settle()
        self._assign(relation, clause.get("targetList", ()), inner)
        return self._returning(fields, target, level, nested)

    def _change(self, fields: Node, level: Level, nested: bool) -> list[Output]:
        target = self._relation(fields["relation"], level)
        level.items.append(target)
        level.visible += columns(target)
        level.visible += self._from(fields.get("fromClause") or fields.get("usingClause") or (), level)
        self.condition(fields.get("whereClause"), level)
        level.settle()
        self._assign(fields["relation"], fields.get("targetList", ()), level)
        if target.taint:
            # Which rows are left, or changed, tells what they were set against.
            self._flow(fields["relation"], "*", NOTHING.union(*target.taint.values()))
        return compared(self._returning(fields, None, level, nested), level)

    def _merge(self, fields: Node, level: Level, nested: bool) -> list[Output]:
        target = self._relation(fields["relation"], level)
        level.items.append(target)
        self._from([fields["sourceRelation"]], level)
        self.condition(fields.get("joinCondition"), level)
        for clause in (node["MergeWhenClause"] for node in fields.get("mergeWhenClauses", ())):
            self.condition(clause.get("condition"), level)
            level.settle()
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
