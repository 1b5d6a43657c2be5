"""The columns of what is derived: one row of `EVENTS` for each record, one of `TOUCHES` for each relation × key."""

from __future__ import annotations

import pyarrow as pa

TIME = pa.timestamp("us", tz="UTC")
TEXTS = pa.list_(pa.string())

EVENTS = pa.schema(
    [("index", pa.int64()), ("occurred_at", TIME), ("received_at", TIME), ("sequence", pa.int64())]
    + [
        (name, pa.string())
        for name in (
            "event_id kind class op command occurred_at_quality environment source source_format source_event_id "
            "correlation_id datasource database db_system actor_id actor_name actor_email actor_type db_user on_behalf_of "
            "on_behalf_of_name agent_id agent_name agent_version agent_run client_app client_ip client_host purpose ticket "
            "session_id db_session_id xid vid position outcome verdict relations_provenance error_code error_message "
            "statement statement_state redacted fingerprint key diff approval approval_request approval_state masked "
            "policy session_phase auth_method close_reason decision decision_type decision_subject decided_by state "
            "custody custody_type custody_subject delegation parameters emitted said"
        ).split()
    ]
    + [
        (name, pa.int64())
        for name in ("client_port", "rows_returned", "rows_affected", "bytes_returned", "duration_us")
    ]
    + [("opaque", pa.bool_())]
    + [
        (name, TEXTS)
        for name in (
            "roles flags relations columns keys key_columns policies masked_columns before_values after_values weakens"
        ).split()
    ]
)
TOUCHES = pa.schema(
    [("index", pa.int64()), ("occurred_at", TIME)]
    + [(n, pa.string()) for n in ("datasource", "relation", "key", "access", "touch_op", "provenance")]
    + [(n, TEXTS) for n in ("key_columns", "pairs", "touch_columns")]
)
