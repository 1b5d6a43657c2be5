"""What a session's settings mean for judging: search path and roles, encodings, and the reasons a client gives.

The search path is never computed: after anything that may have changed it the database is asked (`ASK`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

import msgspec

from enforcement.gateway.effects import Scope
from lineage.statements import Part

ASK = (
    "select pg_catalog.json_build_object('path', pg_catalog.current_schemas(true), 'role', current_user,"
    " 'login', session_user, 'strings', pg_catalog.current_setting('standard_conforming_strings'),"
    " 'encoding', pg_catalog.current_setting('client_encoding'), 'temp',"
    " array(select c.relname from pg_catalog.pg_class c"
    " where c.relnamespace operator(pg_catalog.=) pg_catalog.pg_my_temp_schema()))::pg_catalog.text"
)
OURS = "touchstone."
REASONS = ("purpose", "ticket", "run_id", "tool_call_id")
_SAFE_ENCODINGS = frozenset({"UTF8", "UNICODE", "SQLASCII"})
"""SQL_ASCII passes the database's own UTF8 through: what is not UTF8 is refused as it is read."""
_TEMP_SCHEMA = re.compile(r"pg_temp_\d+")
_COMMENT = re.compile(r"/\*(.*?)\*/", re.DOTALL)
_PAIR = re.compile(r"(\w+)\s*=\s*'((?:[^'\\]|\\.)*)'")
_LONGEST = 500


class Told(msgspec.Struct, frozen=True):
    """The database's answer to `ASK`."""

    path: tuple[str, ...]
    role: str
    login: str
    strings: str
    encoding: str
    temp: tuple[str, ...]


class Reasons(msgspec.Struct, frozen=True):
    """Why a client works: what it says itself."""

    purpose: str | None = None
    ticket: str | None = None
    run_id: str | None = None
    tool_call_id: str | None = None


def scope(told: Told) -> Scope:
    path = tuple("pg_temp" if _TEMP_SCHEMA.fullmatch(name) else name for name in told.path)
    return Scope(search_path=path, role=told.role, session_user=told.login, temp=frozenset(told.temp))


def is_safe_encoding(name: str) -> bool:
    """Whether statement texts in this client encoding can be read as UTF-8 without guessing."""
    return re.sub(r"[^A-Z0-9]", "", name.upper()) in _SAFE_ENCODINGS


def refused_startup(parameters: Mapping[str, str]) -> str | None:
    """Why a client with these startup parameters is not let in, as a sentence; None when it is."""
    encoding = parameters.get("client_encoding", "UTF8")
    if not is_safe_encoding(encoding):
        return f"The gateway reads statements in UTF-8 only, not in {encoding[:40]}. Set PGCLIENTENCODING=UTF8."
    if parameters.get("replication", "off").lower() not in ("off", "false", "no", "0"):
        return "The gateway does not pass replication on. Connect the replica to the database itself."
    return None


def refused_setting(part: Part) -> tuple[str, str] | None:
    """(sentence, hint) when a statement sets what would keep the gateway from reading the next ones."""
    for name, value, _ in part.sets:
        if name == "client_encoding" and value is not None and not is_safe_encoding(value):
            return (
                f"The gateway reads statements in UTF-8 only, not in {value[:40]}.",
                "Leave client_encoding at UTF8 and convert on your side.",
            )
        if name == "standard_conforming_strings" and (value or "on").lower() not in ("on", "true", "yes", "1"):
            return (
                "standard_conforming_strings cannot be switched off: texts would mean something else than they were judged by.",
                "Write E'…' where a backslash is meant as an escape.",
            )
    return None


def ours(part: Part) -> dict[str, str | None] | None:
    """The `touchstone.*` settings that a SET or RESET makes; None when it makes none. An unknown one is kept as it is."""
    found = {name.removeprefix(OURS): value for name, value, _ in part.sets if name.startswith(OURS)}
    return found or None


def comment_reasons(text: str) -> dict[str, str]:
    """What a sqlcommenter comment says (key='value' pairs, values URL-encoded; the last of several comments wins)."""
    if "/*" not in text:
        return {}
    pairs = (pair for comment in _COMMENT.findall(text) for pair in _PAIR.findall(comment))
    return {name: unquote(value).replace("\\'", "'")[:_LONGEST] for name, value in pairs if name in REASONS}


def reasons(said: Reasons, text: str) -> Reasons:
    """What holds for one statement: its comment before what the session said."""
    found = comment_reasons(text)
    return msgspec.structs.replace(said, **found) if found else said
