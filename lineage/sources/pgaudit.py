"""The text of a pgAudit record: `AUDIT: ` and one CSV record (pgAudit 1.7, README "Format").

type, statement id, substatement id, class, command, object type, object name, statement, parameter[, rows].
"""

from __future__ import annotations

import csv
import re
from typing import Literal

import msgspec

from lineage import events
from lineage.events import Op, Parameter, Resource, Rows, Statement
from lineage.sources import sql_words

PREFIX = "AUDIT: "
NOT_LOGGED = "<not logged>"
PREVIOUSLY_LOGGED = "<previously logged>"
SUPPRESSED = "<long param suppressed>"
REDACTED = "<REDACTED>"
CANARY = "touchstone-canary"
csv.field_size_limit(64 * 1024 * 1024)  # the default, 128 KiB, refuses long statements

OP_OF_COMMAND: dict[str, Op] = {
    "SELECT": "read", "INSERT": "insert", "UPDATE": "update", "DELETE": "delete", "MERGE": "update",
    "TRUNCATE": "truncate", "TRUNCATE TABLE": "truncate", "COPY FROM": "import", "COPY TO": "export",
}  # fmt: skip
OP_OF_CLASS: dict[str, Op] = {"DDL": "ddl", "ROLE": "privilege", "FUNCTION": "procedural", "MISC": "other"}
OP_OF_COPY: dict[str, Op] = {"READ": "export", "WRITE": "import"}
ACCESS_OF_OP: dict[str, Literal["read", "write", "ddl", "privilege"]] = {
    "read": "read", "export": "read", "insert": "write", "update": "write", "delete": "write", "truncate": "write",
    "import": "write", "ddl": "ddl", "privilege": "privilege",
}  # fmt: skip


class Audit(msgspec.Struct, gc=False):
    """One pgAudit record, split. `parameter` is still CSV; `rows` is None when pgaudit.log_rows is off."""

    type: str
    statement_id: str
    substatement_id: str
    class_: str
    command: str
    object_type: str
    object_name: str
    statement: str
    parameter: str
    rows: int | None
    flags: tuple[str, ...] = ()


def read(message: str) -> Audit | None:
    """The record after `AUDIT: `; None when the text has another form. A cut record keeps what is there."""
    text = message[len(PREFIX) :]
    cut = text.count('"') & 1
    flags: tuple[str, ...] = ("truncated",) if cut else ()
    try:
        fields = next(csv.reader((text,)), [])
    except csv.Error:
        fields = text.split(",", 7)
        flags = ("nonconforming",)
    if len(fields) < 8 or fields[0] not in ("SESSION", "OBJECT") or not _ids(fields[1], fields[2]):
        return None
    rest = fields[7:]
    rows = None
    if len(rest) > 2 and rest[-1].isascii() and rest[-1].isdigit():
        number = rest.pop()
        rows = int(number) if len(number) < 19 else None
    if len(rest) > 2:
        rest = [",".join(rest[:-1]), rest[-1]]
        flags = ("nonconforming",)
    if len(rest) == 1:
        rest.append(NOT_LOGGED)
        flags = flags or ("truncated",)
    return Audit(
        type=fields[0],
        statement_id=fields[1],
        substatement_id=fields[2],
        class_=fields[3],
        command=fields[4],
        object_type=fields[5],
        object_name=fields[6],
        statement=rest[0],
        parameter=rest[1],
        rows=rows,
        flags=flags,
    )


def _ids(first: str, second: str) -> bool:
    return (
        first.isascii()
        and first.isdigit()
        and len(first) < 20
        and second.isascii()
        and second.isdigit()
        and len(second) < 20
    )


def op(audit: Audit) -> Op:
    """What the record's class and command say was done."""
    if audit.command == "COPY":
        return OP_OF_COPY.get(audit.class_) or sql_words.copy_direction(audit.statement) or "other"
    done = OP_OF_CLASS.get(audit.class_) or OP_OF_COMMAND.get(audit.command)
    if done == "read" and audit.statement[:4].lower() == "copy":
        return "export"
    if done == "other" and audit.command in ("GRANT", "REVOKE"):
        return "privilege"
    return done or "other"


def rows(audit: Audit, done: Op) -> Rows | None:
    """Rows returned or affected where pgAudit counts them: for COPY, TRUNCATE and DDL its 0 means unknown."""
    if audit.rows is None or audit.rows > 2**53 - 1:
        return None
    if audit.command == "SELECT":
        return Rows(returned=audit.rows)
    if audit.command in ("INSERT", "UPDATE", "DELETE", "MERGE"):
        return Rows(affected=audit.rows)
    return None


def resources(audit: Audit, done: Op) -> tuple[Resource, ...]:
    """The object that the record names."""
    if not audit.object_name:
        return ()
    name, kind = audit.object_name, audit.object_type.lower()[:512] or None
    if kind is not None and " on " in name and kind.rsplit(" ", 1)[-1] in ("constraint", "trigger", "policy", "rule"):
        name = name.rsplit(" on ", 1)[1]
    parts = [part[:512] for part in identifiers(name)]
    access = ACCESS_OF_OP.get(done)
    if kind == "schema":
        return (Resource(schema=parts[-1], kind=kind, access=access),)
    schema = parts[-2] if len(parts) > 1 else None
    return (Resource(schema=schema, relation=parts[-1], kind=kind, access=access),)


_IDENTIFIER = re.compile(r'"((?:[^"]|"")*+)"|([^".(\s]++)')


def identifiers(name: str) -> list[str]:
    """The parts of a qualified name, unquoted; a function's arguments are left out. Never empty."""
    parts = []
    place = 0
    while (match := _IDENTIFIER.match(name, place)) is not None:
        quoted = match.group(1)
        parts.append(quoted.replace('""', '"') if quoted is not None else match.group(2))
        place = match.end()
        if name[place : place + 1] != ".":
            break
        place += 1
    return parts or [name]


def statement(audit: Audit) -> tuple[Statement, tuple[str, ...]]:
    """The record's statement within the limits, and the flags that belong to it."""
    text = audit.statement
    if text == NOT_LOGGED:
        return Statement(state="withheld", redaction="withheld_by_source"), ()
    if text == PREVIOUSLY_LOGGED:
        return Statement(state="withheld", redaction="withheld_by_source"), ("previously_logged",)
    redacted = REDACTED in text and audit.class_ in ("ROLE", "DDL")
    return bounded(text, redaction="literals" if redacted else "none")


def bounded(text: str, redaction: str = "none") -> tuple[Statement, tuple[str, ...]]:
    """A statement within the limits, with the flags `truncated` and `canary` where they hold."""
    shown = events.bounded_statement(text, redaction=redaction)
    flags: tuple[str, ...] = ("truncated",) if shown.state == "truncated" else ()
    return shown, (*flags, "canary") if CANARY in text else flags


def parameters(audit: Audit) -> tuple[Parameter, ...]:
    """Bind values. pgAudit writes null and the empty string alike, so an empty one is `unavailable`."""
    text = audit.parameter
    if text in ("<none>", NOT_LOGGED, PREVIOUSLY_LOGGED):
        return ()
    try:
        values = next(csv.reader((text,)), [""])
    except csv.Error:
        return (Parameter(position=1, state="unavailable"),)
    return tuple(parameter(n, value) for n, value in enumerate(values or [""], 1))


def parameter(position: int, value: str) -> Parameter:
    if value in ("", SUPPRESSED):
        return Parameter(position=position, state="unavailable")
    if len(value) > events.VALUE_LIMIT_BYTES // 4:
        raw = value.encode("utf-8", "surrogatepass")
        if len(raw) > events.VALUE_LIMIT_BYTES:
            return Parameter(position=position, state="truncated", value=events.cut(raw, events.HEAD_BYTES))
    return Parameter(position=position, value=value)
