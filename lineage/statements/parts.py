"""One statement of a text as a session sees it: settings, prepared statements, cursors, COPY, what it makes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lineage.statements import commands, keys, parser, tags
from lineage.statements.commands import Commands
from lineage.statements.parser import Node
from lineage.statements.results import CopyDetails, Part, Setting, Statement

_WORD = re.compile(r"[A-Z][a-z]*")
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_$]*")
_MADE_BY = {"CreateStmt": "relation", "ViewStmt": "view", "CreateSeqStmt": "sequence"}
_NAMES = {
    "PrepareStmt": ("prepares", "name"), "ExecuteStmt": ("executes", "name"), "DeclareCursorStmt": ("declares", "portalname"),
    "FetchStmt": ("fetches", "portalname"), "ClosePortalStmt": ("closes", "portalname"),
    "DeallocateStmt": ("deallocates", "name"),
}  # fmt: skip
"""Statements that name one prepared statement or cursor: the field of the part, the field of the tree."""


def part(text: str, place: tuple[int, int], tree: Node, statement: Statement, visitor: Commands) -> Part:
    """The part that `tree` is, whose `statement` the `visitor` has seen."""
    kind, fields = next(iter(tree.items()))
    told: dict[str, Any] = {}
    if kind in _NAMES:
        name, field = _NAMES[kind]
        told[name] = fields.get(field) or "*"
    if kind == "CopyStmt":
        told["copies"] = _copy(text, fields)
    if kind == "ExplainStmt":
        told["explains"], told["explains_analyze"] = True, commands.executes(fields)
    sets = (*_set(kind, fields, visitor), *visitor.settings)
    tag = tags.tag(tree)
    return Part(
        *place,
        statement,
        tag=tag,
        commands=tuple(dict.fromkeys([tag, *_finer(text, tag, kind, fields), *(f"SET {name}" for name, _, _ in sets)])),
        is_transaction_control=kind == "TransactionStmt",
        sets=sets,
        creates=tuple(_made(kind, fields)),
        is_uncounted=visitor.is_uncounted,
        **told,
    )


def _set(kind: str, fields: Node, visitor: Commands) -> Iterator[Setting]:
    if kind == "DiscardStmt" and fields.get("target") == "DISCARD_ALL":
        yield "*", None, False
    if kind != "VariableSetStmt":
        return
    is_local = bool(fields.get("is_local"))
    if fields["kind"] == "VAR_SET_MULTI":
        options = [option["DefElem"] for option in fields.get("args", ()) if "DefElem" in option]
        yield from ((option["defname"].lower(), keys.literal(option["arg"], ()), is_local) for option in options)
        return
    name = "*" if fields["kind"] == "VAR_RESET_ALL" else str(fields.get("name", "")).lower()
    values = [keys.literal(value, visitor.parameters) or "" for value in fields.get("args", ())]
    if name == "search_path":
        values = [_quoted(value) for value in values]
    yield name, ", ".join(values) if values else None, is_local


def _quoted(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else '"' + name.replace('"', '""') + '"'


def _finer(text: str, tag: str, kind: str, fields: Node) -> Iterator[str]:
    """Names of what the command does in particular."""
    if kind == "CopyStmt" and (fields.get("is_program") or "filename" in fields):
        yield f"{tag} {'PROGRAM' if fields.get('is_program') else 'FILE'}"
    elif kind == "AlterTableStmt":
        for command in (node["AlterTableCmd"] for node in fields.get("cmds", ()) if "AlterTableCmd" in node):
            yield f"{tag} {_words(command.get('subtype', '').removeprefix('AT_'))}"
    elif kind == "AlterOwnerStmt":
        yield f"{tag} CHANGE OWNER"
    elif kind == "RenameStmt":
        yield f"{tag} RENAME"
    elif kind == "AlterObjectSchemaStmt":
        yield f"{tag} SET SCHEMA"
    elif kind in ("CreateFunctionStmt", "AlterFunctionStmt"):
        yield from _definer(tag, fields)
    yield from _inner(text, kind, fields)


def _definer(tag: str, fields: Node) -> Iterator[str]:
    for option in fields.get("options", []) + fields.get("actions", []):
        element = option.get("DefElem", {})
        if element.get("defname") == "security" and element["arg"].get("Boolean", {}).get("boolval"):
            yield f"{tag} SECURITY DEFINER"


def _inner(text: str, kind: str, fields: Node) -> Iterator[str]:
    """The commands within a command that runs others."""
    # The walk through the whole tree is saved where the word is missing.
    if kind == "SelectStmt" and "for" in text.lower() and _locks(fields):
        yield "SELECT FOR UPDATE"
    if kind == "ExplainStmt" and commands.executes(fields):
        yield from ("EXPLAIN ANALYZE", tags.tag(fields["query"]))
    if kind == "CreateSchemaStmt":
        yield from (tags.tag(node) for node in fields.get("schemaElts", ()))
    if any(temporary for _, _, temporary in _made(kind, fields)):
        yield "CREATE TEMPORARY TABLE"


def _locks(node: Any) -> bool:
    if isinstance(node, list):
        return any(map(_locks, node))
    return isinstance(node, dict) and ("lockingClause" in node or any(map(_locks, node.values())))


def _words(name: str) -> str:
    return " ".join(_WORD.findall(name)).upper()


def _made(kind: str, fields: Node) -> Iterator[tuple[str | None, str, bool]]:
    if kind in ("RenameStmt", "AlterObjectSchemaStmt"):
        yield from _moved(kind, fields)
        return
    into: Node = fields.get("into") or fields.get("intoClause") or {}
    relation = fields.get(_MADE_BY[kind]) if kind in _MADE_BY else into.get("rel")
    if relation is not None:
        schema = relation.get("schemaname")
        yield schema, relation["relname"], relation.get("relpersistence") == "t" or schema == "pg_temp"


def _moved(kind: str, fields: Node) -> Iterator[tuple[str | None, str, bool]]:
    """The name that a relation has from now on."""
    relation = fields.get("relation")
    if relation is None or fields.get("renameType") in ("OBJECT_COLUMN", "OBJECT_TABCONSTRAINT", "OBJECT_TRIGGER"):
        return
    if kind == "RenameStmt":
        yield relation.get("schemaname"), fields["newname"], False
    else:
        yield fields["newschema"], relation["relname"], False


def _copy(text: str, fields: Node) -> CopyDetails:
    relation = fields.get("relation", {})
    options = {node["DefElem"]["defname"]: node["DefElem"].get("arg", {}) for node in fields.get("options", ())}
    texts = {
        name: _text(options[name]) for name in ("delimiter", "null", "quote", "escape", "encoding") if name in options
    }
    return CopyDetails(
        direction="in" if fields.get("is_from") else "out",
        schema=relation.get("schemaname"),
        relation=relation.get("relname"),
        columns=tuple(node["String"]["sval"] for node in fields.get("attlist", ())),
        query=parser.inner(text) if "query" in fields else None,
        place="program" if fields.get("is_program") else "file" if "filename" in fields else "client",
        format=_text(options["format"]) if "format" in options else "text",
        header="header" in options and _text(options["header"]).lower() not in ("false", "off", "0"),
        **texts,
    )


def _text(node: Node) -> str:
    """The text of an option's value; an option without one is on."""
    for kind, fields in node.items():
        if kind == "Boolean":
            return "true" if fields.get("boolval") else "false"
        return str(next(iter(fields.values()), 0 if kind == "Integer" else ""))
    return "true"
