"""What the first words of a statement tell, where the source names no command. A hint, never an analysis."""

from __future__ import annotations

import re

from lineage.events import Op

_LEAD = re.compile(r"(?:\s++|--[^\n]*+(?:\n|$)|/\*(?:[^*]|\*(?!/))*+\*/|\()*+([A-Za-z]{1,20})(?:\s++([A-Za-z]{1,20}))?")
_COPY = re.compile(
    r"(?:\s++|--[^\n]*+(?:\n|$)|/\*(?:[^*]|\*(?!/))*+\*/)*+copy\b\s*+(?:(\()|.{1,600}?\b(to|from)\b)", re.I | re.S
)
_MORE = re.compile(r";\s*[^\s;]")

OP_OF_WORD: dict[str, Op] = {
    "SELECT": "read", "TABLE": "read", "VALUES": "read", "FETCH": "read", "INSERT": "insert", "UPDATE": "update",
    "DELETE": "delete", "MERGE": "update", "TRUNCATE": "truncate", "CREATE": "ddl", "ALTER": "ddl", "DROP": "ddl",
    "COMMENT": "ddl", "REINDEX": "ddl", "GRANT": "privilege", "REVOKE": "privilege", "REASSIGN": "privilege",
    "DO": "procedural", "CALL": "procedural", "EXECUTE": "procedural", "BEGIN": "other", "START": "other",
    "COMMIT": "other", "ROLLBACK": "other", "END": "other", "ABORT": "other", "SAVEPOINT": "other", "RELEASE": "other",
    "SET": "other", "RESET": "other", "SHOW": "other", "DISCARD": "other", "VACUUM": "other", "ANALYZE": "other",
    "PREPARE": "other", "DEALLOCATE": "other", "DECLARE": "other", "CLOSE": "other", "LISTEN": "other",
    "NOTIFY": "other", "UNLISTEN": "other", "CHECKPOINT": "other", "LOCK": "other",
}  # fmt: skip
_ROLE_OBJECTS = frozenset({"ROLE", "USER", "GROUP"})


def command(sql: str) -> tuple[str | None, Op | None]:
    """The first word and what it does; no op for several statements in one text, WITH, EXPLAIN and unknown words."""
    match = _LEAD.match(sql)
    if match is None:
        return None, None
    word, second = match.group(1).upper(), (match.group(2) or "").upper()
    if _MORE.search(sql, 0, 65536):
        return word, None
    if word == "COPY":
        return word, copy_direction(sql)
    op = OP_OF_WORD.get(word)
    if op == "ddl" and second in _ROLE_OBJECTS:
        op = "privilege"
    return word, op


def copy_direction(sql: str) -> Op | None:
    """`export` for COPY … TO, `import` for COPY … FROM, None for anything else."""
    match = _COPY.match(sql)
    if match is None:
        return None
    if match.group(1) or match.group(2).lower() == "to":
        return "export"
    return "import"
