"""One PostgreSQL log record, whatever file it came from -> one event.

`LogRecord` is what csvlog, jsonlog and stderr have in common. Genuine records of pgAudit, of statement logging and of
connections hide their context and query; a record of that form with one of them filled was written by
`RAISE LOG`: it becomes a finding, never an access.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from typing import Any

import msgspec

from lineage import events
from lineage.events import (
    CLASS_OF_OP,
    Actor,
    Client,
    Custody,
    ErrorCode,
    Event,
    Parameter,
    Quarantined,
    Session,
    Skipped,
    Transaction,
    Verdict,
)  # fmt: skip
from lineage.sources import pgaudit, postgres_time, sql_words
from lineage.sources.feed import Item, short

# Severities come in the language of the server: the state code decides where the word is not known.
_SEVERITY = re.compile(r"\w{2,20}")
ERRORS = frozenset({"ERROR", "FATAL", "PANIC"})
STARTING = frozenset({"authentication", "startup"})
REFUSED_AT_START = frozenset({"3D000", "53300", "57P03", "08P01"})


class LogRecord(msgspec.Struct, gc=False):
    """One log record. Text as in the file, empty where absent; `flags` say what had to be repaired to read it."""

    time: str = ""
    user: str = ""
    database: str = ""
    host: str = ""
    port: int | None = None
    session_id: str = ""
    line_num: str = ""
    command_tag: str = ""
    session_start: str = ""
    vxid: str = ""
    txid: str = ""
    severity: str = ""
    sqlstate: str = ""
    message: str = ""
    detail: str = ""
    context: str = ""
    query: str = ""
    application: str = ""
    backend_type: str = ""
    flags: tuple[str, ...] = ()
    key: str = ""
    epoch: bool = False
    ambiguous: bool = False


def interpret(record: LogRecord, item: Item, zone: dt.tzinfo | None) -> Event | Quarantined | Skipped:
    """The one output of one log record."""
    if not _SEVERITY.fullmatch(record.severity):
        return item.quarantined("severity", "the severity is not a word")
    if item.truncated and "truncated" not in record.flags:
        record.flags = (*record.flags, "truncated")
    parts: dict[str, Any] | str
    if record.ambiguous:
        parts = forged(record, "the line's prefix can be read in more than one way")
    elif record.severity in ERRORS or record.sqlstate[:2] not in ("", "00", "01", "02"):
        parts = _failure(record)
    else:
        parts = _notice(record)
    if isinstance(parts, str):
        return item.skipped(parts)
    return _event(record, item, zone, parts)


def _event(record: LogRecord, item: Item, zone: dt.tzinfo | None, parts: dict[str, Any]) -> Event | Quarantined:
    moment: tuple[str | None, events.Quality] | None = (None, "unknown")
    if record.time:
        moment = postgres_time.epoch_time(record.time) if record.epoch else postgres_time.log_time(record.time, zone)
    if moment is None:
        return item.quarantined("time", "the log time cannot be read")
    if "session" in parts:
        parts["session"] = _times(parts["session"], record, zone, moment[0])
    op = parts.get("op")
    kind = parts.pop("kind")
    return Event(
        kind=kind,
        class_=CLASS_OF_OP[op or "other"] if kind == "query" else kind,
        sequence=item.sequence,
        occurred_at=moment[0],
        occurred_at_quality=moment[1],
        source_event_id=_key(record, item),
        actor=parts.pop("actor", None) or _actor(record),
        client=_client(record),
        db_system="postgresql",
        database=short(record.database),
        db_session_id=short(record.session_id),
        transaction=_transaction(record),
        flags=tuple(dict.fromkeys((*record.flags, *parts.pop("flags", ())))),
        origin=item.origin(),
        **parts,
    )


def _key(record: LogRecord, item: Item) -> str:
    if record.session_id and record.line_num:
        return f"{record.session_id}/{record.line_num}"[:512]
    return record.key or hashlib.sha256(item.raw).hexdigest()


def _actor(record: LogRecord) -> Actor | None:
    if record.user:
        return Actor(db_user=short(record.user))
    if record.backend_type not in ("", "client backend", "not initialized"):
        return Actor(type="system")
    return None


_IP = re.compile(r"[0-9.]{7,15}|[0-9a-fA-F:]*:[0-9a-fA-F:.%a-z]*")


def _client(record: LogRecord) -> Client | None:
    if not record.host:
        return Client(app=short(record.application)) if record.application else None
    if _IP.fullmatch(record.host):
        return Client(app=short(record.application), ip=short(record.host), port=record.port)
    return Client(app=short(record.application), host=short(record.host), port=record.port)


def _transaction(record: LogRecord) -> Transaction | None:
    number = short(record.txid) if record.txid != "0" else None
    vid = short(record.vxid)
    return Transaction(id=number, vid=vid) if number or vid else None


def _times(session: Session, record: LogRecord, zone: dt.tzinfo | None, occurred_at: str | None) -> Session:
    started = postgres_time.log_time(record.session_start, zone) if record.session_start else None
    started_at = started[0] if started is not None and started[1] == "source" else None
    return msgspec.structs.replace(
        session,
        started_at=started_at or (occurred_at if session.phase == "start" else None),
        ended_at=occurred_at if session.phase == "end" else None,
    )


# Notices: AUDIT, connections, statements, the server itself

_SERVER = re.compile(
    r"starting PostgreSQL |database system (?:is|was) |received (?:fast|smart|immediate) shutdown request"
    r"|terminating any other active server processes|server process \(PID \d+\) (?:was terminated|exited)"
    r"|all server processes terminated; reinitializing|redo (?:starts|done) at |restored log file "
    r"|(?:selected new timeline|archive recovery complete|received promote request)"
)
_SETTING = re.compile(
    r'parameter "([^"]{1,63})" (?:changed to |removed from configuration file|cannot be changed )|received SIGHUP'
)
_SECRET = re.compile(r"conninfo|password|passphrase|_command", re.I)
_AUTHENTICATED = re.compile(r'connection authenticated: (?:identity="(.*)" method|user="(.*)" method)=(\S+)', re.S)
_SESSION_TIME = re.compile(r"disconnection: session time: (\d{1,6}):(\d\d):(\d\d)\.(\d{1,6})")
_STATEMENT = re.compile(
    r"(?:duration: (\d{1,12})\.(\d{1,6}) ms(?:  |$))?"
    r"(?:(statement|fastpath function call)|(execute(?: fetch from)?|parse|bind) ([^:]*+(?:/[^:]*+)?)|)(?:: )?",
)


def _notice(record: LogRecord) -> dict[str, Any] | str:
    message = record.message
    if message.startswith(pgaudit.PREFIX):
        return forged(record) if _raised(record) else _audit(record)
    if message.startswith("connection received:"):
        return "the connection's authorized or failed line tells more"
    for start, reader in _READERS:
        if message.startswith(start):
            found: dict[str, Any] | str = forged(record) if _raised(record) else reader(record)
            return found
    if _SERVER.match(message):
        return forged(record) if _raised(record) else _alarm("server", message)
    setting = _SETTING.match(message)
    if setting is not None:
        secret = setting.group(1) and _SECRET.search(setting.group(1))
        text = f'parameter "{setting.group(1)}" changed' if secret else message
        return forged(record) if _raised(record) else _alarm("setting", text)
    return "the log record tells of no access"


def _raised(record: LogRecord) -> bool:
    if record.query:
        return True
    return bool(record.context) and not record.context.startswith(("unnamed portal with", 'portal "'))


def forged(
    record: LogRecord, why: str = "a context or statement stands beside it, which genuine records never have"
) -> dict[str, Any]:
    """The parts of a finding about a record that only pretends to be the server's."""
    text = record.message if not record.query else f"{record.message}\n{record.query}"
    statement, _ = pgaudit.bounded(text)
    return {
        "kind": "custody",
        "custody": Custody(type="finding", subject="forged log line", detail=why),
        "flags": ("suspected_forgery",),
        "statement": statement,
    }


def _alarm(subject: str, text: str) -> dict[str, Any]:
    return {
        "kind": "custody",
        "custody": Custody(type="alarm", subject=subject, detail=events.cut(text.encode("utf-8", "replace"), 1000)),
    }


def _audit(record: LogRecord) -> dict[str, Any] | str:
    audit = pgaudit.read(record.message)
    if audit is None:
        return forged(record, "it begins like an audit record and does not go on like one")
    done = pgaudit.op(audit)
    statement, flags = pgaudit.statement(audit)
    group = f"{audit.statement_id}.{audit.substatement_id}"
    cut = "truncated" in record.flags or "truncated" in audit.flags
    return {
        "kind": "query",
        "correlation_id": f"{record.session_id}/{group}"[:512] if record.session_id else None,
        # the columns that show a forgery come after the message: cut before them, nothing is proved
        "verdict": "unknown" if cut else "allowed",
        "op": done,
        "command": short(audit.command),
        "resources": pgaudit.resources(audit, done),
        "rows": pgaudit.rows(audit, done),
        "flags": (*audit.flags, *flags),
        "statement": statement,
        "parameters": pgaudit.parameters(audit),
    }


def _authenticated(record: LogRecord) -> dict[str, Any]:
    match = _AUTHENTICATED.match(record.message)
    method = match.group(3) if match else None
    parts: dict[str, Any] = {
        "kind": "session",
        "op": "session",
        "session": Session(phase="start", auth_method=short(method)),
    }
    identity = (match.group(1) or match.group(2)) if match else None
    if identity and identity != record.user and record.user:
        parts["actor"] = Actor(db_user=short(record.user), name=short(identity))
    return parts


def _authorized(record: LogRecord) -> dict[str, Any]:
    if not record.application:
        record.application = _member(record.message, "application_name")
    return {"kind": "session", "op": "session", "verdict": "allowed", "session": Session(phase="start")}


def _member(message: str, name: str) -> str:
    """A `name=value` of a connection line: up to the end, or to what PostgreSQL writes after it."""
    _, found, rest = message.partition(f" {name}=")
    return re.split(r" (?:SSL|GSS) (?:enabled )?\(", rest, maxsplit=1)[0] if found else ""


def _disconnection(record: LogRecord) -> dict[str, Any]:
    match = _SESSION_TIME.match(record.message)
    duration = None
    if match is not None:
        hours, minutes, seconds, fraction = match.groups()
        duration = (int(hours) * 3600 + int(minutes) * 60 + int(seconds)) * 1_000_000 + int(fraction.ljust(6, "0"))
    return {"kind": "session", "op": "session", "duration_us": duration, "session": Session(phase="end")}


def _logged_statement(record: LogRecord) -> dict[str, Any] | str:
    match = _STATEMENT.match(record.message)
    if match is None or match.end() == 0:
        return "the log record tells of no access"
    whole, fraction, simple, extended, _ = match.groups()
    text = record.message[match.end() :]
    if extended in ("parse", "bind") or not (simple or extended):
        return "not an execution: its execute or audit line tells it"
    statement, flags = pgaudit.bounded(text)
    word, op = sql_words.command(text)
    tagged = sql_words.command(record.command_tag) if extended else (None, None)
    if tagged[1] is not None:  # a client names its prepared statements, and a name may look like the text after it
        word, op = record.command_tag, tagged[1]
    duration = int(whole) * 1000 + int(fraction.ljust(3, "0")[:3]) if whole is not None else None
    return {
        "kind": "query",
        # without a duration the line was written before the statement ran, perhaps to be refused
        "verdict": "unknown" if duration is None else "allowed",
        "op": op,
        "command": short(word),
        "duration_us": duration,
        "flags": ("statement_log", *flags),
        "statement": statement,
        "parameters": bind_values(record.detail),
    }


_BIND = re.compile(r"\$(\d{1,5}) = (?:(NULL)|'((?:[^']|'')*+)'(\.\.\.)?)")


def bind_values(detail: str) -> tuple[Parameter, ...]:
    """Bind values of `parameters: $1 = '4711', $2 = NULL`. A value that the server cut is `truncated`."""
    if detail[:11].lower() != "parameters:":
        return ()
    found = []
    for match in _BIND.finditer(detail):
        position, null, value, cut = match.groups()
        if null:
            found.append(Parameter(position=int(position), state="null"))
        elif value == "":
            found.append(Parameter(position=int(position), value=""))
        else:
            given = pgaudit.parameter(int(position), value.replace("''", "'"))
            found.append(msgspec.structs.replace(given, state="truncated") if cut else given)
    return tuple(found)


_READERS = (
    ("connection authenticated:", _authenticated),
    ("connection authorized:", _authorized),
    ("replication connection authorized:", _authorized),
    ("disconnection:", _disconnection),
    ("duration:", _logged_statement),
    ("statement:", _logged_statement),
    ("execute ", _logged_statement),
    ("fastpath function call:", _logged_statement),
)


# Failures

_DENIED = re.compile(
    r"permission denied|must be (?:owner of|superuser|able to )|password authentication failed|no pg_hba\.conf entry"
)


def _failure(record: LogRecord) -> dict[str, Any]:
    code = record.sqlstate
    verdict = _verdict(record)
    message = events.cut(record.message.encode("utf-8", "replace"), events.TEXT_LIMIT_BYTES) or None
    parts: dict[str, Any] = {"verdict": verdict, "error": ErrorCode(code=short(code), message=message)}
    if record.severity == "PANIC":
        return {**_alarm("server", f"PANIC {code}"), **parts}
    if not record.query and (record.severity == "FATAL" or record.command_tag in STARTING):
        return {**parts, **_fatal(record, verdict)}
    parts["kind"] = "query"
    if record.query:
        statement, flags = pgaudit.bounded(record.query)
        word, op = sql_words.command(record.query)
        parts |= {"statement": statement, "flags": flags, "command": word, "op": op}
    return parts


def _verdict(record: LogRecord) -> Verdict:
    code = record.sqlstate
    if code:
        return "blocked" if code == "42501" or code.startswith("28") else "error"
    return "blocked" if _DENIED.match(record.message) else "error"


def _fatal(record: LogRecord, verdict: Verdict) -> dict[str, Any]:
    code = record.sqlstate
    early = record.command_tag in STARTING or code.startswith("28") or code in REFUSED_AT_START
    failed = early or verdict == "blocked" or (not code and not record.message.startswith("terminating"))
    reason = short(code) or "fatal error"
    phase: Any = "failed" if failed else "end"
    return {"kind": "session", "op": "session", "session": Session(phase=phase, close_reason=reason)}
