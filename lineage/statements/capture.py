"""What a statement does to the capture itself: auditing settings, publications, slots, replica identity, unlogged tables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from lineage.coverage import weak
from lineage.statements import keys
from lineage.statements.parser import Node

HINTS = ("publication", "replica", "pgaudit", "log", "wal_level", "preload", "slot", "set_config")
"""Texts without one of these words do nothing to the capture: their trees need no walk."""
SLOT_FUNCTIONS = {
    "pg_drop_replication_slot": "drops a replication slot",
    "pg_replication_slot_advance": "moves a replication slot forward",
    "pg_logical_slot_get_changes": "takes changes out of a replication slot",
    "pg_logical_slot_get_binary_changes": "takes changes out of a replication slot",
}
IDENTITIES = {"n": "nothing", "d": "default"}
OPERATIONS = frozenset({"insert", "update", "delete", "truncate"})


def weakened(text: str, trees: Sequence[Node], parameters: keys.Parameters) -> tuple[str, ...]:
    """What these statements take away from the capture, in phrases that follow "who"; mostly nothing."""
    lowered = text.lower()
    if not any(hint in lowered for hint in HINTS):
        return ()
    found = (phrase for tree in trees for kind, fields in _walk(tree) for phrase in _said(kind, fields, parameters))
    return tuple(dict.fromkeys(found))


def _walk(node: Any) -> Iterator[tuple[str, Node]]:
    """Every (name, fields) pair of dictionaries in a tree, outside in."""
    pending: list[Any] = [node]
    while pending:
        here = pending.pop()
        if isinstance(here, dict):
            yield from ((name, value) for name, value in here.items() if isinstance(value, dict))
            pending += here.values()
        elif isinstance(here, list):
            pending += here


def _said(kind: str, fields: Node, parameters: keys.Parameters) -> Iterator[str]:
    if kind in ("VariableSetStmt", "setstmt"):
        yield from _setting(fields, parameters)
    elif kind == "FuncCall":
        yield from _call(fields, parameters)
    elif kind == "AlterPublicationStmt":
        yield from _publication(fields)
    elif kind == "DropStmt":
        yield from _drop(fields)
    elif kind == "RenameStmt" and fields.get("renameType") == "OBJECT_PUBLICATION":
        yield "renames a publication"
    elif kind == "AlterTableCmd":
        yield from _table(fields)


def _setting(fields: Node, parameters: keys.Parameters) -> Iterator[str]:
    name = str(fields.get("name", "")).lower()
    if fields.get("kind") == "VAR_SET_VALUE":
        values = [keys.literal(value, parameters) for value in fields.get("args", ())]
        value = ", ".join(v for v in values if v is not None)
        if weak(name, value):
            yield f"sets {name} to '{value}'"[:200]
    elif fields.get("kind") in ("VAR_RESET", "VAR_SET_DEFAULT") and name.startswith("pgaudit."):
        yield f"resets {name}, which was set to something else before"


def _call(fields: Node, parameters: keys.Parameters) -> Iterator[str]:
    name = fields["funcname"][-1]["String"]["sval"] if fields.get("funcname") else ""
    if name in SLOT_FUNCTIONS:
        yield SLOT_FUNCTIONS[name]
    elif name == "set_config":
        given = [keys.literal(value, parameters) or "" for value in fields.get("args", ())[:2]]
        if len(given) == 2 and weak(given[0].lower(), given[1]):
            yield f"sets {given[0].lower()} to '{given[1]}'"[:200]


def _publication(fields: Node) -> Iterator[str]:
    name, action = fields.get("pubname"), fields.get("action")
    changes_objects = fields.get("pubobjects") or fields.get("tables")
    if changes_objects and action in ("AP_DropObjects", "DEFELEM_DROP"):
        yield f"takes tables out of publication {name}"
    elif changes_objects and action in ("AP_SetObjects", "DEFELEM_SET"):
        yield f"says anew which tables publication {name} sends"
    for option in fields.get("options", ()):
        element = option.get("DefElem", {})
        if element.get("defname") == "publish":
            value = element.get("arg", {}).get("String", {}).get("sval", "")
            if OPERATIONS - {word.strip().lower() for word in value.split(",")}:
                yield f"makes publication {name} send only {value or 'nothing'}"[:200]


def _drop(fields: Node) -> Iterator[str]:
    if fields.get("removeType") == "OBJECT_PUBLICATION":
        yield "drops a publication"
    elif fields.get("removeType") == "OBJECT_EXTENSION" and any(
        node.get("String", {}).get("sval") == "pgaudit" for node in fields.get("objects", ())
    ):
        yield "drops the extension pgaudit"


def _table(fields: Node) -> Iterator[str]:
    if fields.get("subtype") == "AT_SetUnLogged":
        yield "takes a table out of the write-ahead log"
    elif fields.get("subtype") == "AT_ReplicaIdentity":
        kind = fields.get("def", {}).get("ReplicaIdentityStmt", {}).get("identity_type", "")
        if kind in IDENTITIES:
            yield f"sets the replica identity of a table to {IDENTITIES[kind]}"


_CHANGED = re.compile(r'parameter "([^"]+)" changed to "(.*)"$', re.S)


def told_by_server(detail: str) -> tuple[str, ...]:
    """The same for the server's own line about a setting that it read anew."""
    match = _CHANGED.match(detail)
    if match is None or not weak(match[1], match[2]):
        return ()
    return (f"The server read its configuration: {match[1]} is now '{match[2]}'"[:300],)
