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
OWN = "touchstone-gateway"
"""How the programs of the gateway's own connections begin (catalog, plan, check), of which it tells no session."""
ACTS = """
(kind = 'change' and list_contains(?, source) and op is distinct from 'snapshot') or (kind = 'query' and list_contains(?, source)
and class in ('write', 'ddl', 'privilege') and verdict = 'allowed' and emitted is null
and not list_has_any(flags, ['claim', 'canary']))
"""
OPENED = """
opened as (
    select distinct a.db_user as login, a.client_ip as ip from activity a
    join gateway_sessions g using (environment, datasource, db_session_id)
    where {place} and a.kind = 'session' and session_phase = 'start' and list_contains(?, source))
"""
"""From where, and under which accounts, gateways opened sessions."""
UNTOLD = f"""
with act as (
    select a.*, coalesce(a.db_session_id, t.line_session) as own_session,
        coalesce(a.transaction_id, 'session ' || a.db_session_id, 'record ' || a.index) as about
    from activity a left join transactions t using (environment, datasource, transaction_id)
    where {{place}} and occurred_at >= ? and (occurred_at > ? or received_at > ?) and ({ACTS})),
{OPENED},
gathered as (
    select about, max(occurred_at) as told_at, max(received_at) as arrived_at, count(*) filter (kind = 'change') as changes,
        sum(rows_affected) filter (kind = 'query') as written, list_distinct(flatten(list(relations))) as relations,
        list_distinct(list(command) filter (kind = 'query')) as commands, any_value(db_user) as login,
        any_value(client_ip) as ip, any_value(client_app) as app, any_value(own_session) as own_session
    from act
    where not exists (select 1 from gateway_transactions g
        where (g.environment, g.datasource, g.xid) = (act.environment, act.datasource, act.transaction_id))
    and not exists (select 1 from gateway_sessions g
        where (g.environment, g.datasource, g.db_session_id) = (act.environment, act.datasource, act.own_session))
    and not (kind = 'query' and transaction_id is null and coalesce(client_app, '') like '{OWN} %'
        and exists (select 1 from opened o where o.login = act.db_user and o.ip is not distinct from act.client_ip))
    group by about)
select * from gathered where {{fresh}} and not list_contains(?, coalesce(login, ''))
and about not in (select coalesce(json_extract_string(custody, '$.first'), '') from raw_events
    where {{place}} and custody_subject = '{RULE}' and occurred_at > ?)
order by told_at
"""  # noqa: S608 - our own conditions
SESSIONS = f"""
with begun as (
    select db_session_id, any_value(db_user) as login, any_value(client_ip) as ip, any_value(client_app) as app,
        any_value(environment) as environment, any_value(datasource) as datasource,
        max(occurred_at) as told_at, max(received_at) as arrived_at
    from activity where {{place}} and kind = 'session' and session_phase = 'start' and list_contains(?, source)
    and db_session_id is not null and occurred_at >= ? and (occurred_at > ? or received_at > ?) group by db_session_id),
{OPENED}
select coalesce(login, 'an unknown login') as login, ip, app, min(db_session_id) as first, count(*) as sessions
from begun where {{fresh}} and not list_contains(?, coalesce(login, '')) and not list_contains(?, db_session_id)
and not exists (select 1 from gateway_sessions g
    where (g.environment, g.datasource, g.db_session_id) = (begun.environment, begun.datasource, begun.db_session_id))
and not (coalesce(app, '') like '{OWN} %' and (not exists (select 1 from opened)
    or exists (select 1 from opened o where o.login = begun.login and o.ip is not distinct from begun.ip)))
and db_session_id not in (select coalesce(json_extract_string(custody, '$.first'), '') from raw_events
    where {{place}} and custody_subject = '{RULE}' and occurred_at > ?)
group by all order by login
"""  # noqa: S608


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
    """What went around, each transaction once, and the sessions that nothing else was found of."""
    place, values = side.place()
    fresh, window = side.fresh("told_at", "arrived_at")
    others, before = sorted(wanted.others), side.told_before - REACH
    rows = question.rows(
        UNTOLD.format(place=place, fresh=fresh),
        [*values, wanted.since, side.told_before, side.settled_before, side.captures, side.logs, *values, side.logs, *window, others,
         *values, before],
    )  # fmt: skip
    yield from most(side, RULE, [_act(row, side) for row in rows])
    known = [row["own_session"] for row in rows if row["own_session"]]
    sessions = question.rows(
        SESSIONS.format(place=place, fresh=fresh),
        [*values, side.logs, wanted.since, side.told_before, side.settled_before, *values, side.logs, *window, others, known,
         *values, before],
    )  # fmt: skip
    yield from most(side, RULE, [_session(row, side) for row in sessions])


def _act(row: dict[str, Any], side: Side) -> Finding:
    rows = row["changes"] or row["written"] or 0
    what = f"changed {rows} rows of" if rows else f"{', '.join(row['commands'] or ['changed'])} on"
    tables = ", ".join(row["relations"] or ()) or "no table named"
    name = f"Transaction {row['about']}" if row["about"].isdigit() else row["about"].capitalize()
    detail = (
        f"{name} of {side.datasource}: {row['login'] or 'an unknown login'}{_from(row)} {what} {tables}, around the gateway: no "
        "statement and no session of it accounts for that."
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
