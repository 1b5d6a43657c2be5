"""PostgreSQL's name for a statement, such as `DROP TABLE` (its command tag, with the direction for COPY)."""

from __future__ import annotations

import re

from lineage.statements.parser import Node

_TAGS = {
    "SelectStmt": "SELECT", "InsertStmt": "INSERT", "UpdateStmt": "UPDATE", "DeleteStmt": "DELETE", "MergeStmt": "MERGE",
    "CreateStmt": "CREATE TABLE", "ViewStmt": "CREATE VIEW", "IndexStmt": "CREATE INDEX", "RuleStmt": "CREATE RULE",
    "CreateTrigStmt": "CREATE TRIGGER", "CreateSeqStmt": "CREATE SEQUENCE", "AlterSeqStmt": "ALTER SEQUENCE",
    "CreatedbStmt": "CREATE DATABASE", "DropdbStmt": "DROP DATABASE", "AlterRoleSetStmt": "ALTER ROLE",
    "AlterDatabaseSetStmt": "ALTER DATABASE", "TruncateStmt": "TRUNCATE TABLE", "LockStmt": "LOCK TABLE",
    "CheckPointStmt": "CHECKPOINT", "RefreshMatViewStmt": "REFRESH MATERIALIZED VIEW", "CallStmt": "CALL",
    "DeclareCursorStmt": "DECLARE CURSOR", "ClosePortalStmt": "CLOSE CURSOR", "VariableShowStmt": "SHOW",
    "ConstraintsSetStmt": "SET CONSTRAINTS", "CompositeTypeStmt": "CREATE TYPE", "SecLabelStmt": "SECURITY LABEL",
    "CreateEnumStmt": "CREATE TYPE", "CreateRangeStmt": "CREATE TYPE", "AlterEnumStmt": "ALTER TYPE",
    "CreateFdwStmt": "CREATE FOREIGN DATA WRAPPER", "CreateForeignServerStmt": "CREATE SERVER",
    "AlterForeignServerStmt": "ALTER SERVER", "CreatePLangStmt": "CREATE LANGUAGE", "CreateStatsStmt": "CREATE STATISTICS",
    "CreateEventTrigStmt": "CREATE EVENT TRIGGER", "AlterEventTrigStmt": "ALTER EVENT TRIGGER",
    "CreateTableSpaceStmt": "CREATE TABLESPACE", "DropTableSpaceStmt": "DROP TABLESPACE",
    "CreateAmStmt": "CREATE ACCESS METHOD", "DefineStmt": "CREATE", "CreateOpClassStmt": "CREATE OPERATOR CLASS",
}  # fmt: skip
_TRANSACTIONS = {
    "TRANS_STMT_START": "BEGIN", "TRANS_STMT_ROLLBACK_TO": "ROLLBACK TO", "TRANS_STMT_COMMIT_PREPARED": "COMMIT PREPARED",
    "TRANS_STMT_ROLLBACK_PREPARED": "ROLLBACK PREPARED", "TRANS_STMT_PREPARE": "PREPARE TRANSACTION",
}  # fmt: skip
_TYPED = {
    "DropStmt": ("DROP", "removeType"), "RenameStmt": ("ALTER", "renameType"), "AlterTableStmt": ("ALTER", "objtype"),
    "AlterOwnerStmt": ("ALTER", "objectType"), "AlterObjectSchemaStmt": ("ALTER", "objectType"),
}  # fmt: skip
"""Kinds whose name ends in the type of the object."""

_FLAGGED = {
    "CopyStmt": ("is_from", "COPY FROM", "COPY TO"), "VacuumStmt": ("is_vacuumcmd", "VACUUM", "ANALYZE"),
    "GrantStmt": ("is_grant", "GRANT", "REVOKE"), "GrantRoleStmt": ("is_grant", "GRANT", "REVOKE"),
    "FetchStmt": ("ismove", "MOVE", "FETCH"),
    "CreateFunctionStmt": ("is_procedure", "CREATE PROCEDURE", "CREATE FUNCTION"),
}  # fmt: skip
"""Kinds whose name depends on a flag: the flag, the name with it, the name without."""

_OBJECTS = {"MATVIEW": "MATERIALIZED VIEW", "COLUMN": "TABLE", "TABCONSTRAINT": "TABLE", "ATTRIBUTE": "TYPE"}
_WORD = re.compile(r"[A-Z][a-z]*")


def tag(node: Node) -> str:
    """The command of one statement's tree; empty for an empty statement."""
    for kind, fields in node.items():
        if kind in _TYPED:
            verb, field = _TYPED[kind]
            return f"{verb} {_object(fields.get(field, ''))}"
        if kind in _TAGS:
            return "SELECT INTO" if kind == "SelectStmt" and "intoClause" in fields else _TAGS[kind]
        return _of_fields(kind, fields)
    return ""


def _of_fields(kind: str, fields: Node) -> str:
    """Kinds whose name depends on one of their fields, then the kind's own words."""
    if kind in _FLAGGED:
        flag, with_flag, without = _FLAGGED[kind]
        return with_flag if fields.get(flag) else without
    if kind == "CreateTableAsStmt":
        return "CREATE TABLE AS" if fields["objtype"] == "OBJECT_TABLE" else "CREATE MATERIALIZED VIEW"
    if kind == "TransactionStmt":
        what = str(fields["kind"])
        return _TRANSACTIONS.get(what, what.removeprefix("TRANS_STMT_").replace("_", " "))
    if kind == "VariableSetStmt":
        return "RESET" if fields["kind"].startswith("VAR_RESET") else "SET"
    return " ".join(_WORD.findall(kind.removesuffix("Stmt"))).upper()


def _object(name: str) -> str:
    word = name.removeprefix("OBJECT_")
    return _OBJECTS.get(word, word.replace("_", " "))
