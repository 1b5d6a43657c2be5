"""What counts as an access, and as one that took place: conditions on a record, as SQL over its columns."""

from __future__ import annotations

SECOND = frozenset({"statement_log", "seen_by_gateway"})
"""Flags of a server's log line about an act that another record tells of: one act is counted once."""

TWICE = f"list_has_any(flags, [{', '.join(repr(flag) for flag in sorted(SECOND))}])"

ACCESSES = (
    f"kind in ('query', 'change') and not list_has_any(flags, ['claim', 'canary']) and not {TWICE} "
    "and coalesce(op, '') not in ('snapshot', 'other') and emitted is null"
)
"""What counts as an access to data: not BEGIN or SET, not the statement that emits a context message, not a canary."""

LISTED = "environment <> 'touchstone' and not list_has_any(flags, ['claim', 'canary'])"
"""What a search finds that asks neither for the store's own records nor for what serves to prove others."""

REAL = f"not list_has_any(flags, ['claim', 'canary']) and not {TWICE}"
"""An act told of once, or anything else that is no claim and no canary."""

STATEMENT = (
    "kind = 'query' and coalesce(op, '') <> 'other' and emitted is null and not list_contains(flags, 'canary') "
    f"and not {TWICE}"
)
"""What counts as a statement; several records may tell of one, by one correlation id."""

WRITING = f"kind = 'query' and class = 'write' and not {TWICE}"

REFUSED = f"verdict = 'blocked' and not {TWICE}"

UNDONE = frozenset({"blocked", "error", "pending"})
NOT_DONE = f"verdict in ({', '.join(repr(verdict) for verdict in sorted(UNDONE))})"
"""What waits for a decision has not run: once it is let through, another record says so."""
DONE = f"not {NOT_DONE}"
