"""What helps to write a search: an example for each field, what people write for its values, and what a text may go on with."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

EXAMPLES = {
    "kind": "kind:change", "class": "class:write", "actor": "actor:dana", "type": "type:agent", "role": "role:support_ro",
    "for": "for:dana", "agent": "agent:report-bot", "run": "run:run-2026-11-21", "attribution": "attribution:none",
    "db_user": "db_user:postgres", "session": "session:6540.12", "transaction": "transaction:742",
    "outcome": "outcome:rolled_back", "source": "source:orders-log", "environment": "environment:production",
    "datasource": "datasource:orders-prod", "database": "database:shop", "relation": "relation:customers",
    "column": "column:email", "key": "key:4711", "op": "op:delete", "command": "command:COPY", "verdict": "verdict:blocked",
    "masked": "masked:email", "approval": "approval:approved", "policy": "policy:pii", "ticket": "ticket:OPS-42",
    "purpose": "purpose:refund", "app": "app:psql", "ip": "ip:10.1.4.*", "error": "error:42501",
    "flag": "flag:suspected_forgery", "tag": "tag:email", "rows": "rows:>100", "duration": "duration:>1s", "index": "index:>=9000",
    "fingerprint": "fingerprint:50fde20626009aba", "received": "received:>=2026-11-01", "since": "since:24h",
    "until": "until:2026-11-30", "text": 'text:"drop table"', "before.COLUMN": "before.email:dana@shop.example",
    "after.COLUMN": "after.amount:40.00",
}  # fmt: skip
"""One search for each field, by its label."""

HINTS = {
    "attribution": ("gateway", "context_message", "asserted_by_proxy", "asserted_by_client", "mapped_login", "db_login", "none"),
    "approval": ("requested", "approved", "rejected", "expired", "revoked"),
    "since": ("1h", "24h", "7d", "30d"), "until": ("1h", "24h", "7d", "30d"), "received": (">=24h", ">=7d"),
    "rows": (">100", ">1000", ">10000"), "duration": (">100ms", ">1s", ">1m"),
}  # fmt: skip
"""Values that are offered for fields whose vocabulary is not closed."""

SYNONYMS = {
    "denied": "blocked", "refused": "blocked", "rejected": "blocked", "failed": "error", "ok": "allowed", "success": "allowed",
    "select": "read", "copy": "export", "grant": "privilege", "revoke": "privilege", "create": "ddl", "drop": "ddl", "alter": "ddl",
    "person": "human", "user": "human", "people": "human", "bot": "agent", "ai": "agent", "robot": "agent", "application": "service",
    "rollback": "rolled_back", "commit": "committed", "statement": "query",
}  # fmt: skip
"""What people write for a value of ours."""

_WRITTEN = re.compile(r'[^\s()"]*$')
_NAMED = re.compile(r"(-?)([A-Za-z_]+):(.*)", re.DOTALL)


def nearest(value: str, values: Iterable[str]) -> str:
    """The value that was probably meant, or ""."""
    known, wanted = list(values), value.lower()
    meant = SYNONYMS.get(wanted)
    return meant if meant in known and meant else next(iter(difflib.get_close_matches(wanted, known, 1, 0.5)), "")


@dataclass(frozen=True)
class Unfinished:
    """The end of a text that is being written: `begin` is where it begins; `field` "" while no field is named."""

    begin: int
    field: str
    written: str


def unfinished(text: str) -> Unfinished:
    """What of `text` a completion would replace: a word, or the value after a field's colon."""
    match = _WRITTEN.search(text)
    word = match[0] if match else ""
    begin = len(text) - len(word)
    named = _NAMED.fullmatch(word)
    if named is None:
        minus = len(word) - len(word.lstrip("-"))
        return Unfinished(begin + minus, "", word[minus:])
    return Unfinished(len(text) - len(named[3]), named[2].lower(), named[3])
