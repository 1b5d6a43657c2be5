"""The records of a period, taken once: what is asked of them many times is asked of a table of them (docs/decisions/045)."""

from __future__ import annotations

from typing import Any, NamedTuple

from lineage.engine import Question

TAKEN_MOST = 200_000
"""More records are asked for in the log, each time."""
COLUMNS = """index, event_id, kind, class, op, occurred_at, occurred_at_quality, environment, source, source_format, datasource,
    who_id, who_type, attribution, claimed, ticket, client_app, client_ip, session, transaction_id, outcome, verdict, relations,
    rows_affected, flags, emitted, opaque, statement_state, approval_request, custody_type, custody_subject, correlation_id,
    if(len(keys) > 0, [''], keys) as keys, if(len(before_values) > 0, [''], before_values) as before_values,
    if(custody_type = 'canary', custody, null) as custody,
    if(list_has_any(flags, ['canary', 'seen_by_gateway']), statement, null) as statement"""
"""Without what is large and asked of few: of keys and images only whether there are some."""


class Period(NamedTuple):
    """What is asked, with its condition and that one's values."""

    relation: str
    condition: str
    values: list[Any]


def of(question: Question, condition: str, values: list[Any]) -> Period:
    """The records that meet the condition: as a table of `COLUMNS` where they are few."""
    # Of which there are too many, they are taken in vain, which is little beside what is then asked of them.
    some = f"select {COLUMNS} from activity where {condition} limit {TAKEN_MOST + 1}"  # noqa: S608 - our own words
    count = question.rows(f"create temp table taken as {some}", values)[0]["Count"]
    if count <= TAKEN_MOST:
        return Period("taken", "true", [])
    question.rows("drop table taken")
    return Period("activity", condition, values)
