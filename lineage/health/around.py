"""Acts around a gateway: changes, writes and sessions of a database that a gateway is required for, and that none told of.

Exact, by transaction id and database session; judged once, when every source of the database and every gateway of it has
told of something later (docs/coverage.md).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import msgspec

from lineage.engine import Question
from lineage.health.crosschecks import REACH, Finding, Side, most
from lineage.models import GatewayDatabase

RULE = "around-the-gateway"
SHOWN = 10
"""How many transactions of a session are named."""
ACTS = """
(kind = 'change' and list_contains(?, source) and op is distinct from 'snapshot') or (kind = 'query' and list_contains(?, source)
and class in ('write', 'ddl', 'privilege') and verdict = 'allowed' and emitted is null
and not list_has_any(flags, ['claim', 'canary']))
"""
UNTOLD = f"""
with act as (
    select a.*, coalesce(a.db_session_id, t.line_session) as own_session,
        coalesce(own_session, a.transaction_id, 'record ' || a.index) as about
    from activity a left join transactions t using (environment, datasource, transaction_id)
    where {{place}} and occurred_at >= ? and (occurred_at > ? or received_at > ?) and ({ACTS})),
gathered as (
    select about, max(occurred_at) as told_at, max(received_at) as arrived_at, count(*) filter (kind = 'change') as changes,
        sum(rows_affected) filter (kind = 'query') as written, list_distinct(flatten(list(relations))) as relations,
        list_distinct(list(command) filter (kind = 'query')) as commands, any_value(db_user) as login,
        any_value(client_ip) as ip, any_value(client_app) as app, any_value(own_session) as own_session,
        coalesce(list_sort(list(distinct transaction_id) filter (transaction_id is not null)), []) as transactions
    from act
    where not exists (select 1 from gateway_transactions g
        where (g.environment, g.datasource, g.xid) = (act.environment, act.datasource, act.transaction_id))
    and not exists (select 1 from gateway_sessions g
        where (g.environment, g.datasource, g.db_session_id) = (act.environment, act.datasource, act.own_session))
    group by about)
select * from gathered where {{fresh}} and not list_contains(?, coalesce(login, ''))
order by told_at
"""  # noqa: S608 - our own conditions
FOUND = f"""
select json_extract_string(custody, '$.first') as first, json_extract_string(custody, '$.detail') as detail from raw_events
where {{place}} and custody_subject = '{RULE}' and occurred_at > ?
"""  # noqa: S608
"""What was found before: the same is not told again; what a session does later is, under the same `first`."""
SESSIONS = """
with begun as (
    select db_session_id, any_value(db_user) as login, any_value(client_ip) as ip, any_value(client_app) as app,
        any_value(environment) as environment, any_value(datasource) as datasource,
        max(occurred_at) as told_at, max(received_at) as arrived_at
    from activity where {place} and kind = 'session' and session_phase = 'start' and list_contains(?, source)
    and db_session_id is not null and occurred_at >= ? and (occurred_at > ? or received_at > ?) group by db_session_id)
select coalesce(login, 'an unknown login') as login, ip, app, min(db_session_id) as first, count(*) as sessions
from begun where {fresh} and not list_contains(?, coalesce(login, '')) and not list_contains(?, db_session_id)
and not exists (select 1 from gateway_sessions g
    where (g.environment, g.datasource, g.db_session_id) = (begun.environment, begun.datasource, begun.db_session_id))
group by all order by login
"""


class Required(msgspec.Struct):
    """Since when a gateway is the only way into a database, who rightly goes around it, and the sources of its gateways."""

    since: dt.datetime
    others: set[str]
    sources: set[int]


def required() -> dict[tuple[str, str], Required]:
    """By environment and datasource, as the gateways whose token is good declare it."""
    found: dict[tuple[str, str], Required] = {}
    declared = GatewayDatabase.objects.filter(required_since__isnull=False, gateway__source__revoked_at__isnull=True)
    for one in declared.select_related("gateway"):
        since = one.required_since
        if since is None:
            continue
        place = found.setdefault((one.environment, one.datasource), Required(since, set(), set()))
        place.since = min(place.since, since)
        place.others |= set(one.other_accounts)
        place.sources.add(one.gateway.source_id)
    return found


def check(question: Question, side: Side, wanted: Required) -> Iterator[Finding]:
    """What went around, by session or, where no line tells that, by transaction; and sessions that nothing else was found of."""
    place, values = side.place()
    fresh, window = side.fresh("told_at", "arrived_at")
    others = sorted(wanted.others)
    before = question.rows(FOUND.format(place=place), [*values, side.told_before - REACH])
    known = {(row["first"], row["detail"]) for row in before}
    since = [wanted.since, side.told_before, side.settled_before]
    rows = question.rows(
        UNTOLD.format(place=place, fresh=fresh), [*values, *since, side.captures, side.logs, *window, others]
    )
    acts = [_act(row, side) for row in rows]
    yield from most(side, RULE, [found for found in acts if (found.first, found.detail) not in known])
    named = sorted({row["own_session"] for row in rows if row["own_session"]} | {row["first"] for row in before})
    sessions = question.rows(
        SESSIONS.format(place=place, fresh=fresh), [*values, side.logs, *since, *window, others, named]
    )
    yield from most(side, RULE, [_session(row, side) for row in sessions])


def _act(row: dict[str, Any], side: Side) -> Finding:
    rows = row["changes"] or row["written"] or 0
    what = f"changed {rows} rows of" if rows else f"{', '.join(row['commands'] or ['changed'])} on"
    tables = ", ".join(row["relations"] or ()) or "no table named"
    numbers = row["transactions"]
    named = f"{'Transaction' if len(numbers) == 1 else 'Transactions'} {', '.join(numbers[:SHOWN])}" if numbers else ""
    more = f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
    session = f"session {row['own_session']}" if row["own_session"] else ""
    name = f"{named}{more}{' in ' if named and session else ''}{session}" or row["about"]
    detail = (
        f"{name[0].upper()}{name[1:]} of {side.datasource}: {row['login'] or 'an unknown login'}{_from(row)} {what} {tables}, around "
        "the gateway: no statement and no session of it accounts for that."
    )
    return Finding(RULE, row["about"][:500], detail, rows or None)


def _session(row: dict[str, Any], side: Side) -> Finding:
    many = "1 session" if row["sessions"] == 1 else f"{row['sessions']} sessions"
    detail = (
        f"{row['login']}{_from(row)} reached {side.datasource} around the gateway: {many} that it did not open. What "
        "was read there, the server's log alone tells."
    )
    return Finding(RULE, row["first"], detail, row["sessions"])


def _from(row: dict[str, Any]) -> str:
    place = " ".join(text for text in (row["ip"], f"({row['app']})" if row["app"] else "") if text)
    return f" from {place}" if place else ""
