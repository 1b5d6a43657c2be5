"""The pages: functions that ask `lineage.queries` and render a template of the same name (docs/access.md)."""

from lineage.views.access import seat_page, seats_page, sources_page, token_revoke, tokens_page
from lineage.views.account import account, openid_callback, openid_start, sign_in, sign_out
from lineage.views.chaining import record_chain, row_chain, session_chain, ticket_chain
from lineage.views.connecting import connect
from lineage.views.custody import (
    checkpoint,
    checkpoints,
    gaps,
    quarantine_retry,
    quarantined,
    quarantined_bytes,
    quarantined_item,
    recheck,
    recheck_ask,
    recheck_cancel,
    recheck_live,
)
from lineage.views.desk import (
    approvals_live,
    held_decide,
    held_review,
    held_statement,
    live,
    live_kill,
    live_rows,
    live_session,
)
from lineage.views.faults import bad_request, csrf_failed, forbidden, not_found, server_error
from lineage.views.findings import finding, finding_receivers, finding_rules, finding_triage, findings
from lineage.views.forgetting import erasure, erasure_ask, erasure_decide, forgetting, hold_add, hold_release
from lineage.views.frame import page_context
from lineage.views.guardrails import guardrail_version, guardrails, guardrails_set, guardrails_try
from lineage.views.keeping import quarter, saved_add, saved_change, saved_remove, saved_restore, saved_searches
from lineage.views.logins import logins
from lineage.views.packing import pack
from lineage.views.people import identities, identity, session, sessions
from lineage.views.places import databases, row, table, tables
from lineage.views.preferences import preferences
from lineage.views.proof import integrity, seal
from lineage.views.records import event
from lineage.views.review import approvals
from lineage.views.searching import complete, export, search
from lineage.views.subjects import run, touched, undo_file, undo_page
from lineage.views.tagging import tags
from lineage.views.watch import firsts, overview, overview_live

__all__ = [
    "account", "approvals", "approvals_live", "bad_request", "checkpoint", "checkpoints", "complete", "connect",
    "csrf_failed", "databases", "erasure", "erasure_ask", "erasure_decide", "event", "export", "finding",
    "finding_receivers", "finding_rules", "finding_triage", "findings", "firsts", "forbidden", "forgetting", "gaps",
    "guardrail_version", "guardrails", "guardrails_set", "guardrails_try", "held_decide", "held_review",
    "held_statement", "hold_add", "hold_release", "identities", "identity", "integrity", "live", "live_kill",
    "live_rows", "live_session", "logins", "not_found", "openid_callback", "openid_start", "overview",
    "overview_live", "pack", "page_context",
    "preferences", "quarantine_retry", "quarantined", "quarantined_bytes", "quarantined_item", "quarter", "recheck",
    "recheck_ask", "recheck_cancel", "recheck_live", "record_chain", "row", "row_chain", "run", "saved_add",
    "saved_change", "saved_remove", "saved_restore", "saved_searches", "seal", "search", "seat_page", "seats_page",
    "server_error", "session", "session_chain", "sessions", "sign_in", "sign_out", "sources_page", "table",
    "tables", "tags", "ticket_chain", "token_revoke", "tokens_page", "touched", "undo_file", "undo_page",
]  # fmt: skip
