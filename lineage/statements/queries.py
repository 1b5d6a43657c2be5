"""SELECT, INSERT, UPDATE, DELETE and MERGE: which relations they touch, how, and in which rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from lineage.statements import conditions, keys
from lineage.statements.builtins import SAFE_FUNCTIONS
from lineage.statements.parser import Node
from lineage.statements.scope import Reference, Scope, names_of

FOLLOWED_SETTINGS = frozenset({
    "search_path", "role", "session_authorization", "standard_conforming_strings", "client_encoding",
})  # fmt: skip
"""Settings that change what later text means."""
CALLS = "calls a function that may do anything"
MESSAGE_FUNCTION = "pg_logical_emit_message"
MESSAGE_PREFIX = "touchstone"
_CALLS_BY_SYNTAX = {"JsonFuncExpr": "", "JsonScalarExpr": "json_scalar", "JsonSerializeExpr": "json_serialize"}
"""Functions that PostgreSQL 16 and 17 made a part of the grammar; the empty name stands in the expression."""
_MERGE_VERBS = {"CMD_INSERT": "insert", "CMD_UPDATE": "update", "CMD_DELETE": "delete"}
_FIXED_BY_ON = {"JOIN_INNER": (True, True), "JOIN_LEFT": (False, True), "JOIN_RIGHT": (True, False)}
_NOTED = frozenset(_CALLS_BY_SYNTAX) | {
    "SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt",
    "ColumnRef", "A_Indirection", "FuncCall", "A_Expr", "SubLink",
}  # fmt: skip
"""Nodes that say something themselves."""
_SILENT = frozenset({"A_Const", "ParamRef", "String", "name", "funcname", "location"})
"""What holds neither columns nor calls: constants, and names of operators and functions."""
_SEPARATE = frozenset(
    {"fromClause", "withClause", "intoClause", "lockingClause", "larg", "rarg", "sortClause", "groupClause"}
)


class Visitor:
    """Walks query trees and collects references, function calls and reasons why something stays hidden."""

    def __init__(self, parameters: keys.Parameters) -> None:
        self.parameters = parameters
        self.references: list[Reference] = []
        self.calls: dict[str, None] = {}
        self.reasons: dict[str, None] = {}
        self.functions: dict[tuple[str | None, str], None] = {}
        self.attributes: dict[str, None] = {}
        self.operators: dict[str, None] = {}
        self.settings: list[tuple[str, str | None, bool]] = []
        """What set_config sets: name, value and whether for the transaction only."""
        self.emitted: str | None = None
        self.is_uncounted = False
        """Whether rows change that the command's tag does not count."""
        self.read_verb = "read"

    def refer(self, range_var: Node, verb: str) -> Reference:
        """A reference to the relation that a RangeVar's fields name."""
        reference = Reference(verb, range_var.get("schemaname"), range_var.get("relname"))
        self.references.append(reference)
        return reference

    def query(self, node: Node, parent: Scope) -> None:
        """Any of the five kinds of query."""
        for kind, fields in node.items():
            _VISIT[kind](self, fields, parent)

    def select(self, fields: Node, parent: Scope) -> None:
        scope = Scope(parent, self._with(fields, parent))
        if "larg" in fields:
            self.select(fields["larg"], scope)
            self.select(fields["rarg"], scope)
            # LIMIT and OFFSET of both together may hold subqueries and calls.
            self.expressions([value for name, value in fields.items() if name not in _SEPARATE], scope)
            return
        if "intoClause" in fields:
            self.refer(fields["intoClause"]["rel"], "ddl")
        joined = self._from(fields.get("fromClause", ()), scope)
        self._fix([joined, self._fixed(fields.get("whereClause"), scope)])
        self.expressions([value for name, value in fields.items() if name not in _SEPARATE], scope)
        outputs = {target["ResTarget"].get("name") for target in fields.get("targetList", ()) if "ResTarget" in target}
        for name in ("groupClause", "sortClause"):
            self.expressions([node for node in fields.get(name, ()) if _plain_name(node) not in outputs], scope)

    def insert(self, fields: Node, parent: Scope) -> None:
        scope = Scope(parent, self._with(fields, parent))
        target = self.refer(fields["relation"], "insert")
        columns = [column["ResTarget"]["name"] for column in fields.get("cols", ())]
        target.write(*columns or ("*",))
        self.expressions(fields.get("cols"), Scope(scope.parent, scope.ctes))
        source = fields.get("selectStmt", {}).get("SelectStmt")
        if source is not None:
            if fields.get("override") != "OVERRIDING_USER_VALUE":
                target.fixed = keys.inserted(columns, source.get("valuesLists", ()), self.parameters)
            self.select(source, scope)
        scope.items.append((_alias(fields["relation"]), target))
        self._returning(fields, self._on_conflict(fields, target, scope), scope, target)

    def _on_conflict(self, fields: Node, target: Reference, scope: Scope) -> Reference:
        """Visits ON CONFLICT; returns the reference whose keys cover every row inserted or updated."""
        clause = fields.get("onConflictClause", {})
        if clause.get("action") != "ONCONFLICT_UPDATE":
            return target
        updated = self.refer(fields["relation"], "update")
        inner = Scope(scope.parent, scope.ctes, [(_alias(fields["relation"]), updated), ("excluded", None)])
        columns = [e["IndexElem"].get("name", "") for e in clause.get("infer", {}).get("indexElems", ())]
        self.expressions(clause.get("infer"), inner)
        # The row that is updated is the one whose conflict columns equal the inserted ones.
        if target.fixed and set(columns) <= set(target.fixed[0]):
            updated.fixed = keys.narrowed(target.fixed, columns)
        self._assign(clause, updated, inner)
        self.expressions(clause.get("whereClause"), inner)
        return updated

    def update(self, fields: Node, parent: Scope) -> None:
        self._change(fields, parent, "update", "fromClause")

    def delete(self, fields: Node, parent: Scope) -> None:
        self._change(fields, parent, "delete", "usingClause")

    def _change(self, fields: Node, parent: Scope, verb: str, others: str) -> None:
        scope = Scope(parent, self._with(fields, parent))
        target = self.refer(fields["relation"], verb)
        scope.items.append((_alias(fields["relation"]), target))
        joined = self._from(fields.get(others, ()), scope)
        self._fix([joined, self._fixed(fields.get("whereClause"), scope)])
        target.unconditional = conditions.is_missing(fields.get("whereClause"), _alias(fields["relation"]))
        self._assign(fields, target, scope)
        self.expressions(fields.get("whereClause"), scope)
        self._returning(fields, target, scope)

    def merge(self, fields: Node, parent: Scope) -> None:
        scope = Scope(parent, self._with(fields, parent))
        target = Reference("read", fields["relation"].get("schemaname"), fields["relation"].get("relname"))
        scope.items.append((_alias(fields["relation"]), target))
        self._fix([self._from([fields["sourceRelation"]], scope)])
        self.expressions(fields.get("joinCondition"), scope)
        clauses = [node["MergeWhenClause"] for node in fields.get("mergeWhenClauses", ())]
        actions = [self._merge_action(fields, clause, target, scope) for clause in clauses]
        for action in [a for a in actions if a is not None] or [self.refer(fields["relation"], "read")]:
            action.name(*target.columns)
            self._returning(fields, action, scope, target)

    def _merge_action(self, fields: Node, clause: Node, target: Reference, scope: Scope) -> Reference | None:
        verb = _MERGE_VERBS.get(clause["commandType"])
        self.expressions(clause.get("condition"), scope)
        if verb is None:
            return None
        action = self.refer(fields["relation"], verb)
        if verb == "insert":
            columns = [column["ResTarget"]["name"] for column in clause.get("targetList", ())]
            action.write(*columns or ("*",))
            self.expressions(clause.get("targetList"), scope)
            values = clause.get("values", ())
            action.fixed = keys.inserted(columns, [{"List": {"items": values}}], self.parameters)
            self.expressions(values, scope)
            return action
        chosen = [clause.get("condition")]
        if clause["matchKind"] == "MERGE_WHEN_MATCHED":
            chosen.append(fields.get("joinCondition"))
        action.fixed = keys.every(self._fixed(condition, scope) for condition in chosen).get(target)
        name = _alias(fields["relation"])
        action.unconditional = all(conditions.is_missing(condition, name) for condition in chosen)
        self._assign(clause, action, scope)
        return action

    def _assign(self, fields: Node, target: Reference, scope: Scope) -> None:
        for assignment in fields.get("targetList", ()):
            target.write(assignment["ResTarget"]["name"])
            # `set a[f()] = …` has an expression on the left too.
            self.expressions([assignment["ResTarget"].get(name) for name in ("indirection", "val")], scope)

    def _returning(self, fields: Node, target: Reference, scope: Scope, stands_for: Reference | None = None) -> None:
        """RETURNING shows the changed rows to the client: a read of the same rows."""
        expressions = fields.get("returningClause", {}).get("exprs")
        if not expressions:
            return
        seen = self.refer(fields["relation"], self.read_verb)
        seen.fixed = target.fixed
        items = [(alias, seen if item is (stands_for or target) else item) for alias, item in scope.items]
        self.expressions(expressions, Scope(scope.parent, scope.ctes, items))

    def _with(self, fields: Node, parent: Scope) -> frozenset[str]:
        """Visits the CTEs; returns the names that stand for them instead of for relations."""
        clause = fields.get("withClause", {})
        ctes = [node["CommonTableExpr"] for node in clause.get("ctes", ())]
        visible = parent.ctes
        everyone = visible.union(cte["ctename"] for cte in ctes)
        for cte in ctes:
            # Without RECURSIVE a CTE's own name inside it is the real relation.
            self.is_uncounted |= "SelectStmt" not in cte["ctequery"]
            self.query(cte["ctequery"], Scope(parent, everyone if clause.get("recursive") else visible))
            visible = visible | {cte["ctename"]}
        return visible

    def _from(self, nodes: Iterable[Node], scope: Scope) -> keys.Fixed:
        return keys.every([self._from_item(kind, fields, scope) for node in nodes for kind, fields in node.items()])

    def _from_item(self, kind: str, fields: Node, scope: Scope) -> keys.Fixed:
        """Adds one FROM item to the scope; returns what its join conditions fix."""
        if kind == "JoinExpr":
            return self._join(fields, scope)
        if kind == "RangeTableSample":
            self.expressions([fields.get("args"), fields.get("repeatable")], scope)
            return self._from([fields["relation"]], scope)
        if kind == "RangeVar":
            scope.items.append((_alias(fields), self._relation(fields, scope)))
            return {}
        if kind == "RangeSubselect":
            sees = scope if fields.get("lateral") else Scope(scope.parent, scope.ctes)
            self.query(fields["subquery"], sees)
        else:
            self.expressions(fields, scope)
        scope.items.append((_alias(fields), None))
        return {}

    def _relation(self, fields: Node, scope: Scope) -> Reference | None:
        """The reference of a name in FROM; None where it is a CTE, or where an alias gives the columns other names."""
        if "schemaname" not in fields and fields["relname"] in scope.ctes:
            return None
        reference = self.refer(fields, self.read_verb)
        if "colnames" in fields.get("alias", {}):
            reference.name("*")
            return None
        return reference

    def _join(self, fields: Node, scope: Scope) -> keys.Fixed:
        start = len(scope.items)
        left = self._from([fields["larg"]], scope)
        middle = len(scope.items)
        right = self._from([fields["rarg"]], scope)
        sides = (scope.items[start:middle], scope.items[middle:])
        if "alias" in fields or "join_using_alias" in fields:
            # Columns are then named by the join's alias.
            for _, reference in scope.items[start:]:
                if reference is not None:
                    reference.name("*")
        for side in sides:
            if len(side) == 1 and side[0][1] is not None:
                side[0][1].name(*names_of(fields.get("usingClause", [])))
        self.expressions(fields.get("quals"), scope)
        # In an outer join ON chooses rows of the optional side only.
        chosen = _FIXED_BY_ON.get(fields["jointype"], (False, False))
        references = {item for side, is_fixed in zip(sides, chosen, strict=True) if is_fixed for _, item in side}
        on = {ref: found for ref, found in self._fixed(fields.get("quals"), scope).items() if ref in references}
        return keys.every([left, right, on])

    def _fixed(self, condition: Node | None, scope: Scope) -> keys.Fixed:
        return keys.fixed(condition, scope.column, self.parameters)

    def _fix(self, parts: list[keys.Fixed]) -> None:
        for reference, alternatives in keys.every(parts).items():
            reference.fixed = alternatives

    def expressions(self, tree: Any, scope: Scope) -> None:
        """Columns, function calls and subqueries in any part of a tree. Iterative: honest expressions can be deep."""
        stack = [tree]
        while stack:
            node = stack.pop()
            if isinstance(node, list):
                stack.extend(reversed(node))
            elif isinstance(node, dict):
                stack += [
                    value
                    for kind, value in node.items()
                    if kind not in _SILENT
                    and isinstance(value, (dict, list))
                    and (kind not in _NOTED or self._goes_on(kind, value, scope))
                ]

    def _goes_on(self, kind: str, value: Any, scope: Scope) -> bool:
        """Notes what one node says; returns whether its inner nodes are still to be seen."""
        if kind in _VISIT:
            self.query({kind: value}, scope)
            return False
        if kind == "ColumnRef":
            scope.note_column(value)
            self.attributes.update(dict.fromkeys(names_of(value["fields"])[1:]))
            return False
        if kind == "A_Indirection":
            parts = [part for part in value["indirection"] if "String" in part]
            self.attributes.update(dict.fromkeys(names_of(parts)))
        if kind == "FuncCall":
            self.call(value)
        elif kind == "A_Expr":
            self.operators[".".join(names_of(value["name"]))] = None
        elif kind == "SubLink" and "operName" in value:
            self.operators[".".join(names_of(value["operName"]))] = None
        elif kind in _CALLS_BY_SYNTAX:
            # Servers older than the grammar call a function of this name.
            name = _CALLS_BY_SYNTAX[kind] or value["op"].removesuffix("_OP").lower()
            self.functions[None, name] = None
        return True

    def call(self, fields: Node) -> None:
        """A function call; one that is not known to be harmless hides its effect."""
        *schema, name = names_of(fields["funcname"])
        self.functions[schema[-1] if schema else None, name] = None
        if schema in ([], ["pg_catalog"]):
            if name in SAFE_FUNCTIONS:
                if name == "set_config":
                    self._note_setting(fields.get("args", []))
                return
            if name == MESSAGE_FUNCTION:
                self.calls[name] = None
                self._note_message(fields.get("args", []))
                return
        elif schema == ["information_schema"]:
            return
        self.calls[name] = None
        self.reasons[CALLS] = None

    def _note_setting(self, arguments: list[Node]) -> None:
        name, value, is_local = [keys.literal(argument, self.parameters) for argument in arguments[:3]] + [None] * (
            3 - len(arguments[:3])
        )
        if name is None:
            self.reasons["changes a setting whose name cannot be told"] = None
        else:
            self.settings.append((name.lower(), value, (is_local or "f").lower() in ("t", "true", "on", "yes", "1")))

    def _note_message(self, arguments: list[Node]) -> None:
        texts = [keys.literal(argument, self.parameters) for argument in arguments[1:3]]
        if self.emitted is None and len(texts) == 2 and texts[0] == MESSAGE_PREFIX:
            self.emitted = texts[1]


_VISIT: dict[str, Callable[[Visitor, Node, Scope], None]] = {
    "SelectStmt": Visitor.select, "InsertStmt": Visitor.insert, "UpdateStmt": Visitor.update,
    "DeleteStmt": Visitor.delete, "MergeStmt": Visitor.merge,
}  # fmt: skip


def _alias(fields: Node) -> str:
    return str(fields.get("alias", {}).get("aliasname") or fields.get("relname") or "")


def _plain_name(node: Node) -> str | None:
    """The name alone when an ORDER BY or GROUP BY item is nothing but a name."""
    column = node.get("SortBy", {}).get("node", node).get("ColumnRef")
    names = names_of(column["fields"]) if column else []
    return names[0] if len(names) == 1 else ""
