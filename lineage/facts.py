"""What records say that other records are joined with: each distinct content once, with the least index that says it.

SQL over `EVENTS` rows, kept beside them at the seal (docs/joining.md). Facts of any parts of the log may be put together, in
any order and more than once: what `lineage.joins` makes of them is the same as from the records themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from lineage import proxied

VERSION = "2"
"""Raise it with every change of what follows; facts of another version are made again from the events when they are needed."""

_PERSON = (
    "actor_id, actor_name, actor_email, actor_type, on_behalf_of, agent_id, agent_name, agent_run, purpose, ticket"
)
COLUMNS = (
    f"index, environment, datasource, kind, source, source_format, op, command, xid, vid, db_session_id, session_id, session_phase, "
    f"occurred_at, occurred_at_quality, correlation_id, flags, statement, emitted, said, db_user, client_app, client_ip, client_port, "
    f"outcome, {_PERSON}"
)
"""Of records, all that facts are made of."""
_ACT = "kind = 'query' and db_session_id is not null and not unauthorised and (xid is not null or vid is not null)"
CALL = "regexp_replace(correlation_id, '[.][0-9]+$', '')"
_INNER = "regexp_matches(correlation_id, '[.][0-9]+$') and not regexp_matches(correlation_id, '[.]1$')"
_UNDONE = "command = 'ROLLBACK' and regexp_full_match(upper(statement), '\\s*(ROLLBACK|ABORT)(\\s+(WORK|TRANSACTION))?\\s*;?\\s*')"
_GATEWAY = "source_format = 'gateway' and kind in ('session', 'query')"
_ONCE = (
    # A line of a transaction, by its id or by session and virtual id.
    ("line", f"vid, client_app, client_ip, coalesce({_UNDONE}, false) as undone, db_user, db_session_id, xid", _ACT),
    # A line that emitted a context message, and whether a function did.
    ("emission", f"vid, said, source, {CALL} as call, coalesce({_INNER}, false) as nested, db_user, db_session_id, xid",
     f"{_ACT} and emitted is not null"),
    # A statement of whose parts one came from inside.
    ("nested", f"source, {CALL} as call", f"kind = 'query' and {_INNER}"),
    ("change", "xid", "kind = 'change' and xid is not null and not unauthorised"),
    # What a gateway says of a transaction, and what of a session: apart, a long session has few facts, and rarely a new one.
    ("gateway", f"xid, session_id, {_PERSON}, outcome, coalesce(op not in ('read', 'other', 'session'), false) as writes",
     f"{_GATEWAY} and xid is not null"),
    ("gateway-session", f"db_session_id, session_id, {_PERSON}", f"{_GATEWAY} and db_session_id is not null"),
    ("proxy",
     f"db_session_id, session_id, db_user, case when occurred_at_quality = 'source' then epoch(occurred_at) end as began, {_PERSON}",
     proxied.NAMES),
    ("session", "db_session_id, db_user, client_ip, client_port",
     f"source_format in {proxied.LOG_FORMATS} and db_session_id is not null and not unauthorised"),
)  # fmt: skip
_EACH = f"index, environment, datasource, xid, said, {_PERSON}"
_CLAIM = "is_claim and xid is not null and not unauthorised"
# Of claims the last one counts, so each is a fact.

TEXTS = (
    "fact environment datasource xid db_session_id vid session_id db_user client_app client_ip said source call actor_id actor_name "
    "actor_email actor_type on_behalf_of agent_id agent_name agent_run purpose ticket outcome"
).split()
SCHEMA = pa.schema(
    [(name, pa.string()) for name in TEXTS]
    + [("client_port", pa.int64()), ("began", pa.float64())]
    + [(name, pa.bool_()) for name in ("undone", "nested", "writes")]
    + [("index", pa.int64())]
)
REPORTS = """select * replace (nullif(xid, '0') as xid), list_contains(flags, 'unauthorised_assertion') as unauthorised,
           list_contains(flags, 'claim') as is_claim from {events}"""


def made_of(events: str, few: bool = False) -> str:
    """SQL that makes the facts of a relation with the columns of `EVENTS`: columns as in `SCHEMA`, in an order of their own.

    Of `few` records what is asked of them is taken once and kept: planned in three quarters of the time. Of many that costs more.
    """
    every = [f"select 'claim' as fact, {_EACH} from reports where {_CLAIM}"]  # noqa: S608 - our own columns, as below
    for fact, columns, condition in _ONCE:
        place = "" if fact == "nested" else "environment, datasource, "
        every.append(
            f"select '{fact}' as fact, min(index) as index, {place}{columns} from reports where {condition} group by all"  # noqa: S608
        )
    kept = "materialized" if few else "not materialized"
    reports = f"with reports as {kept} ({REPORTS.format(events=events)})"
    return f"{reports} select {', '.join(SCHEMA.names)} from ({' union all by name '.join(every)}) order by all"  # noqa: S608


def together(parts: Sequence[str]) -> str:
    """SQL of facts that several parts give, each content once, as `made_of` would make them of all their records."""
    said = ", ".join(SCHEMA.names[:-1])
    every = " union all by name ".join(f"select * from ({part})" for part in parts)  # noqa: S608 - our own SQL
    return f"select {said}, min(index) as index from ({every}) group by {said}, case when fact = 'claim' then index end order by all"  # noqa: S608


def counted(events: str) -> str:
    """SQL that counts how often each kind of fact is told of each datasource in a relation with the columns of `EVENTS`."""
    each = [("claim", _CLAIM), *((fact, condition) for fact, _, condition in _ONCE)]
    counts = " union all ".join(
        f"select '{fact}' as fact, {'null' if fact == 'nested' else 'datasource'} as datasource, "  # noqa: S608 - our own columns
        f"count(*) as times from reports where {condition} group by all"
        for fact, condition in each
    )
    return f"with reports as not materialized ({REPORTS.format(events=events)}) {counts}"


def agree(made: str, stored: str) -> str:
    """SQL that tells whether two relations of facts hold the same."""
    names = ", ".join(SCHEMA.names)
    return f"""
with made as materialized (select {names} from ({made})), stored as materialized (select {names} from ({stored}))
select not exists (from made except all from stored) and not exists (from stored except all from made) as agree
"""  # noqa: S608 - our own columns
