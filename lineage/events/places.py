"""Where each field lies (leaf or group), what the store sets, and which class an op has."""

from __future__ import annotations

from lineage.events.model import Event
from lineage.events.terms import Class, Group

LEAF_FIELDS = ("kind", "class", "event_id", "received_at", "source_id", "sequence", "occurred_at")
"""Wire names that stand in the leaf itself, beside format version and group digests."""

GROUP_FIELDS: dict[Group, tuple[str, ...]] = {
    "actor": ("actor", "on_behalf_of", "delegation", "agent", "client", "decision"),
    "action": (
        "occurred_at_quality", "source_event_id", "correlation_id", "environment", "source", "purpose", "ticket",
        "datasource", "db_system", "database", "session_id", "db_session_id", "transaction", "verdict", "policy",
        "approval", "masked", "op", "command", "resources", "rows", "bytes_returned", "duration_us", "error_code",
        "flags", "session", "state", "custody",
    ),
    "statement": ("statement", "parameters", "error_message", "origin"),
    "change": ("key", "old_key", "before", "after", "changed_columns", "effects"),
}  # fmt: skip
"""Wire names by disclosure group; `error` is split: its code belongs to the action, its message to the statement."""

STORE_FIELDS = ("event_id", "received_at", "source_id", "environment", "source")
"""Set by the store from token and clock; a native item that carries one is quarantined."""

CLASS_OF_OP: dict[str, Class] = {
    "read": "read", "insert": "write", "update": "write", "delete": "write", "truncate": "write", "import": "write",
    "ddl": "ddl", "privilege": "privilege", "session": "session", "export": "export", "procedural": "procedural",
    "snapshot": "read", "other": "procedural",
}  # fmt: skip


def default_class(event: Event) -> Class:
    """The class of an event whose source named none: from its op for accesses, else its kind."""
    if event.kind in ("session", "decision", "state", "custody"):
        return event.kind
    return CLASS_OF_OP[event.op or "other"]
