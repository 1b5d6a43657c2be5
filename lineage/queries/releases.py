"""Statements that a gateway held until somebody decided: what was asked for, and what ran under that decision."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pyarrow as pa

from lineage.access import Viewer
from lineage.engine import Question
from lineage.queries.ask import Window, scoped

TIME, TEXT, NUMBER = pa.timestamp("us", tz="UTC"), pa.string(), pa.int64()
RELEASED = pa.schema(
    [(n, TEXT) for n in ("environment", "datasource", "request_id", "who_id", "asked_by", "statement")]
    + [("index", NUMBER), ("occurred_at", TIME), ("asked_index", NUMBER), ("asked_at", TIME), ("same_text", pa.bool_())]
)
RAN = """
with ran as (
    select index, occurred_at, environment, datasource, approval_request as request_id, who_id, statement, redacted, statement_state
    from activity where {condition} and kind = 'query' and attribution = 'gateway' and approval_request is not null
    and coalesce(verdict, '') not in ('pending', 'blocked')
),
asked as (
    select environment, approval_request as request_id, min(index) as asked_index, arg_min(occurred_at, index) as asked_at,
           arg_min(who_id, index) as asked_by, arg_min(statement, index) as text, arg_min(statement_state, index) as state
    from activity where kind = 'query' and attribution = 'gateway' and verdict = 'pending' and occurred_at < ?
    and approval_request in (select request_id from ran) group by all
)
select r.environment, r.datasource, r.request_id, r.who_id, a.asked_by, r.redacted as statement, r.index, r.occurred_at,
       a.asked_index, a.asked_at,
       case when r.statement_state = 'whole' and a.state = 'whole' then r.statement = a.text end as same_text
from ran r left join asked a using (environment, request_id) order by r.index"""


def released(
    viewer: Viewer,
    since: dt.datetime,
    until: dt.datetime,
    datasources: list[str] | None = None,
    environment: str | None = None,
    as_of: int | None = None,
) -> dict[str, pa.Table]:
    """Arrow table `released`: what gateways let run under a decision in the period, beside what was asked for before it.

    `same_text` is compared here, on the whole texts; the table holds them masked. It is null where one of them is not whole.
    """
    condition, values = scoped(viewer, Window(since, until, environment))
    if datasources:
        condition, values = f"{condition} and list_contains(?, datasource)", [*values, datasources]
    with Question(as_of=as_of) as question:
        rows: list[dict[str, Any]] = question.rows(RAN.format(condition=condition), [*values, until])
    return {"released": pa.Table.from_pylist(rows, schema=RELEASED)}
