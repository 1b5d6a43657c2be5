"""Every kind of statement that is not a plain query: what it does to which relation, and PostgreSQL's name for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from lineage.statements import keys
from lineage.statements.parser import Node
from lineage.statements.queries import CALLS, FOLLOWED_SETTINGS, Visitor
from lineage.statements.scope import Reference, Scope, names_of

QUERIES = frozenset({"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})
WITHOUT_EFFECT = frozenset({
    "TransactionStmt", "VariableSetStmt", "VariableShowStmt", "LockStmt", "ListenStmt", "UnlistenStmt", "NotifyStmt",
    "DiscardStmt", "DeallocateStmt", "ClosePortalStmt", "FetchStmt", "PrepareStmt", "ConstraintsSetStmt",
    "CheckPointStmt", "VacuumStmt",
})  # fmt: skip
ROLES = frozenset({"CreateRoleStmt", "AlterRoleStmt", "AlterRoleSetStmt", "DropRoleStmt", "GrantRoleStmt"})
DDL_RELATION = {
    "CreateStmt": "relation", "AlterTableStmt": "relation", "IndexStmt": "relation", "ViewStmt": "view",
    "CreateSeqStmt": "sequence", "AlterSeqStmt": "sequence", "RuleStmt": "relation", "CreateTrigStmt": "relation",
    "CreatePolicyStmt": "table", "AlterPolicyStmt": "table", "RefreshMatViewStmt": "relation",
    "ClusterStmt": "relation", "ReindexStmt": "relation", "RenameStmt": "relation",
    "AlterObjectSchemaStmt": "relation", "AlterObjectDependsStmt": "relation", "AlterOwnerStmt": "relation",
}  # fmt: skip
"""Kinds of DDL by the field that holds the relation."""

_RELATION_KINDS = frozenset({
    "OBJECT_TABLE", "OBJECT_VIEW", "OBJECT_MATVIEW", "OBJECT_SEQUENCE", "OBJECT_INDEX", "OBJECT_FOREIGN_TABLE",
})  # fmt: skip
_PARTS_OF_RELATIONS = frozenset({
    "OBJECT_TRIGGER", "OBJECT_RULE", "OBJECT_POLICY", "OBJECT_COLUMN", "OBJECT_TABCONSTRAINT",
})  # fmt: skip
_COMPUTES = frozenset({
    "IndexStmt", "AlterTableStmt", "CreateStmt", "CreateForeignTableStmt", "CreateDomainStmt", "AlterDomainStmt", "CreateStatsStmt",
})  # fmt: skip
"""Kinds with defaults, checks, conversions and index expressions: computed at once, or later by statements that do not show it."""
_DDL_KIND = re.compile(r"(?:Create|Alter|Drop|Define|Import|CompositeType|SecLabel|Comment)\w*Stmt$")
_COLUMN_ALTERATION = re.compile("Column|NotNull|Statistics|Storage|Identity|Expression|Compression")
_NOT_FOLLOWED = "changes a setting in a way that cannot be followed"
_OFF = frozenset({"false", "off", "0", "no"})


class Commands(Visitor):
    """The visitor for whole statements. `prepared` maps the names of prepared statements to their trees."""

    def __init__(self, parameters: keys.Parameters, prepared: dict[str, Node] | None = None) -> None:
        super().__init__(parameters)
        self.prepared = {} if prepared is None else prepared
        self.role_set: str | None = None

    def statement(self, node: Node) -> None:
        """One whole statement of any kind."""
        for kind, fields in node.items():
            if kind in QUERIES:
                before = len(self.settings)
                self.query(node, Scope(None))
                self._follow(fields, self.settings[before:])
            elif kind in _COMMANDS:
                _COMMANDS[kind](self, fields)
            elif kind in ROLES:
                self._plain("privilege")
            elif kind in WITHOUT_EFFECT:
                self._session(kind, fields)
            elif kind in DDL_RELATION or _DDL_KIND.match(kind):
                self._ddl(kind, fields)
            else:
                self.reasons["a kind of statement that is not understood"] = None

    def _follow(self, fields: Node, settings: list[tuple[str, str | None, bool]]) -> None:
        """A setting that changes what later text means is followed only in `SELECT set_config('…', '…', …)` alone."""
        if any(name in FOLLOWED_SETTINGS for name, _, _ in settings) and not (
            fields.keys() <= {"targetList", "limitOption", "op"}
            and len(settings) == len(fields["targetList"])
            and all("FuncCall" in target["ResTarget"]["val"] for target in fields["targetList"])
            and all(value is not None for _, value, _ in settings)
        ):
            self.reasons[_NOT_FOLLOWED] = None

    def _plain(self, verb: str, schema: str | None = None, relation: str | None = None) -> Reference:
        reference = Reference(verb, schema, relation)
        self.references.append(reference)
        return reference

    def _named(self, verb: str, names: list[str]) -> Reference:
        """A reference to a relation given as name parts, the last two of which count."""
        schema, relation = [None, None, *names][-2:]
        return self._plain(verb, schema, relation)

    def _session(self, kind: str, fields: Node) -> None:
        if kind == "VariableSetStmt" and fields.get("name") in ("role", "session_authorization"):
            values = [keys.literal(value, self.parameters) for value in fields.get("args", ())]
            self.role_set = (values[0] if values else None) or "none"
        elif kind == "PrepareStmt":
            self.prepared[fields["name"]] = fields["query"]

    def _inner(self, fields: Node) -> None:
        self._at_another_time(fields["query"])

    def _at_another_time(self, tree: Node) -> None:
        """What may run later or not at all: a setting in it does not hold for the next statement."""
        before = len(self.settings)
        self.statement(tree)
        self._cannot_be_followed(before)

    def _cannot_be_followed(self, before: int) -> None:
        if any(name in FOLLOWED_SETTINGS for name, _, _ in self.settings[before:]):
            self.reasons[_NOT_FOLLOWED] = None

    def _copy(self, fields: Node) -> None:
        if fields.get("is_program"):
            self.reasons["runs a program on the database's server"] = None
        if "query" in fields:
            self.read_verb = "export"
            self.statement(fields["query"])
            self.read_verb = "read"
            return
        reference = self.refer(fields["relation"], "import" if fields.get("is_from") else "export")
        columns = names_of(fields.get("attlist", [])) or ["*"]
        (reference.write if fields.get("is_from") else reference.name)(*columns)
        self.expressions(fields.get("whereClause"), Scope(None, items=[(None, reference)]))

    def _explain(self, fields: Node) -> None:
        if executes(fields):
            self.statement(fields["query"])
            self.is_uncounted |= any(found.verb != "read" for found in self.references)
            return
        # Planning touches no rows, but calls functions that say they always answer the same.
        planned = Commands(self.parameters, dict(self.prepared))
        planned.statement(fields["query"])
        self.functions |= planned.functions
        self.attributes |= planned.attributes
        self.operators |= planned.operators
        self.calls |= planned.calls
        self.reasons |= {reason: None for reason in planned.reasons if reason == CALLS}

    def _create_as(self, fields: Node) -> None:
        self.refer(fields["into"]["rel"], "ddl")
        if not fields["into"].get("skipData"):
            self._at_another_time(fields["query"])

    def _execute(self, fields: Node) -> None:
        """Runs what this session prepared, with the given values; unseen, it hides everything."""
        query = self.prepared.get(fields["name"])
        if query is None:
            self.reasons["executes a prepared statement that was not seen"] = None
            return
        self.expressions(fields.get("params"), Scope(None))
        before, self.parameters = self.parameters, [
            keys.literal(value, self.parameters) for value in fields.get("params", ())
        ]  # fmt: skip
        self.statement(query)
        self.parameters = before

    def _do(self, fields: Node) -> None:
        self._plain("procedural")
        self.reasons["runs a code block"] = None

    def _call(self, fields: Node) -> None:
        self._plain("procedural")
        self.reasons["calls a procedure"] = None
        self.calls[names_of(fields["funccall"]["funcname"])[-1]] = None
        self.expressions(fields["funccall"].get("args"), Scope(None))

    def _truncate(self, fields: Node) -> None:
        for node in fields["relations"]:
            self.refer(node["RangeVar"], "truncate")

    def _grant(self, fields: Node) -> None:
        columns = [
            name for node in fields.get("privileges", ()) for name in names_of(node["AccessPriv"].get("cols", []))
        ]
        for node in fields.get("objects", ()):
            if "RangeVar" in node:
                self.refer(node["RangeVar"], "privilege").name(*columns)
            elif "String" in node and (
                fields["targtype"] == "ACL_TARGET_ALL_IN_SCHEMA" or fields["objtype"] == "OBJECT_SCHEMA"
            ):
                self._plain("privilege", names_of([node])[0])
            else:
                self._plain("privilege")

    def _default_grant(self, fields: Node) -> None:
        self._plain("privilege")

    def _owned(self, fields: Node) -> None:
        self._plain("privilege")
        self.reasons["acts on whatever a role owns"] = None

    def _drop(self, fields: Node) -> None:
        for node in fields.get("objects", ()):
            self._object(fields["removeType"], node)

    def _remark(self, fields: Node) -> None:
        self._object(fields["objtype"], fields.get("object", {}))

    def _object(self, kind: str, node: Node) -> None:
        """A DDL effect on an object that is named by its kind and name parts."""
        names = names_of(node.get("List", {}).get("items", [])) if kind in _RELATION_KINDS | _PARTS_OF_RELATIONS else []
        if kind in _PARTS_OF_RELATIONS:
            reference = self._named("ddl", names[:-1])
            if kind == "OBJECT_COLUMN":
                reference.name(names[-1])
        elif kind == "OBJECT_SCHEMA":
            self._plain("ddl", names_of([node])[0])
        else:
            self._named("ddl", names)

    def _schema(self, fields: Node) -> None:
        self._plain("ddl", fields.get("schemaname"))
        for node in fields.get("schemaElts", ()):
            self.statement(node)

    def _foreign_table(self, fields: Node) -> None:
        self.refer(fields["base"]["relation"], "ddl")
        self._computed(fields)

    def _computed(self, fields: Node) -> None:
        before = len(self.settings)
        self.expressions(fields, Scope(None))
        self._cannot_be_followed(before)

    def _ddl(self, kind: str, fields: Node) -> None:
        relation = fields.get(DDL_RELATION.get(kind, ""))
        if kind in _COMPUTES:
            self._computed(fields)
        if relation is None:
            self._plain("privilege" if fields.get("renameType") == "OBJECT_ROLE" else "ddl")
            return
        self.refer(relation, "ddl").name(*_ddl_columns(kind, fields))
        for other in fields.get("inhRelations", ()):
            self.refer(other["RangeVar"], "ddl")
        for command in _alterations(fields):
            told = command.get("def", {})
            other = told.get("PartitionCmd", {}).get("name") or told.get("RangeVar")
            if other is not None:
                self.refer(other, "ddl")


_COMMANDS: dict[str, Callable[[Commands, Node], None]] = {
    "CopyStmt": Commands._copy, "ExplainStmt": Commands._explain, "CreateTableAsStmt": Commands._create_as,
    "DeclareCursorStmt": Commands._inner, "ExecuteStmt": Commands._execute, "DoStmt": Commands._do,
    "CallStmt": Commands._call, "TruncateStmt": Commands._truncate, "GrantStmt": Commands._grant,
    "AlterDefaultPrivilegesStmt": Commands._default_grant, "DropStmt": Commands._drop,
    "CommentStmt": Commands._remark, "SecLabelStmt": Commands._remark, "CreateSchemaStmt": Commands._schema,
    "DropOwnedStmt": Commands._owned, "ReassignOwnedStmt": Commands._owned,
    "CreateForeignTableStmt": Commands._foreign_table,
}  # fmt: skip


def executes(fields: Node) -> bool:
    """Whether an EXPLAIN runs its statement: only with ANALYZE."""
    found = False
    for option in (node["DefElem"] for node in fields.get("options", ())):
        if option["defname"] == "analyze":
            found = "arg" not in option or _option_text(option["arg"]).lower() not in _OFF
    return found


def _alterations(fields: Node) -> list[Node]:
    return [node["AlterTableCmd"] for node in fields.get("cmds", ()) if "AlterTableCmd" in node]


def _ddl_columns(kind: str, fields: Node) -> Iterable[str]:
    if kind == "IndexStmt":
        return [n["IndexElem"]["name"] for n in fields.get("indexParams", ()) if "name" in n["IndexElem"]]
    if kind == "RenameStmt" and fields.get("renameType") == "OBJECT_COLUMN":
        return [fields["subname"], fields["newname"]]
    named = []
    for command in _alterations(fields):
        if _COLUMN_ALTERATION.search(command.get("subtype", "")):
            named.append(command.get("name") or command.get("def", {}).get("ColumnDef", {}).get("colname"))
    return [name for name in named if name]


def _option_text(node: Node) -> str:
    """The text of an option's value; a number 0 has no field of its own in the tree."""
    for kind, fields in node.items():
        value = next(iter(fields.values()), 0 if kind == "Integer" else "")
        return str(value)
    return ""
