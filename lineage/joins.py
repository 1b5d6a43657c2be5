"""Joined facts: who was behind a transaction, as DuckDB tables and views over `facts` and `raw_events` (docs/joining.md).

A join is exact or it is none. `transactions` gathers what the lines, claims and changes of one transaction say;
What records are with all this is in `lineage.resolving`.
Nothing is matched by time or text, and nothing is written back into an event.

A gateway names the person of a transaction by its id, and of everything in a database session: it has one upstream
session for each client's, so that a session is one person's. What the server's log says of such a session is the second
record of an act that the gateway told of; it is marked `seen_by_gateway` and not counted again. What proxies say of the
database sessions behind theirs is in `lineage.proxied`.
"""

from __future__ import annotations

from collections.abc import Sequence

from lineage import facts, proxied, resolving


def _agreed(column: str, records: str = "true") -> str:
    """The value that all these records share, or null: one statement's reason is not another's."""
    return (
        f"case when count(distinct coalesce({column}, '')) filter ({records}) = 1 "
        f"then any_value({column}) filter ({records}) end"
    )


def _gateway(fact: str, place: str, outcome: str = "", *writing: str) -> str:
    """What gateways say of each transaction or session. Where two records name two people, nobody is named."""
    reasons = ", ".join(
        f"coalesce({', '.join(_agreed(column, records) for records in (*writing, 'true'))}) as gateway_{name}"
        for name, column in (("purpose", "purpose"), ("ticket", "ticket"), ("run", "agent_run"))
    )
    return f"""
    select environment, datasource, {place},
           case when count(distinct actor_id) = 1 then arg_min(struct_pack(id := actor_id, name := actor_name,
               email := actor_email, type := actor_type, behalf := on_behalf_of, agent_id := agent_id,
               agent_name := agent_name, at := index), index) filter (actor_id is not null) end as gateway,
           min(session_id) as gateway_session, {reasons}{outcome}
    from facts where fact = '{fact}' and {place} is not null
    group by environment, datasource, {place}"""  # noqa: S608 - our own columns


PERSON = (
    "gateway struct(id varchar, name varchar, email varchar, type varchar, behalf varchar, agent_id varchar, "
    'agent_name varchar, "at" bigint), gateway_session varchar, gateway_purpose varchar, gateway_ticket varchar, '
    "gateway_run varchar"
)
"""What `_gateway` gives, where no gateway told of anything."""
SAYS = "actor_id actor_name actor_email actor_type on_behalf_of agent_id agent_name agent_run purpose ticket".split()
SAID = ", ".join(f"{name} := c.{name}" for name in ("index", *SAYS))
BEST = ", ".join(("index bigint", *(f"{name} varchar" for name in SAYS)))

OUTCOME = ", max(outcome) filter (outcome in ('committed', 'rolled_back')) as gateway_outcome"

TRANSACTED = """(
    select f.*, coalesce(f.xid, v.xid) as transaction_id from facts f
    left join vids v using (environment, datasource, db_session_id, vid))"""
"""Facts of lines with their transaction, which those without its id have through session and virtual id."""

REPORTED = f"create view reports as {facts.REPORTS.format(events='raw_events')};"
VIDS = """
create table vids as
    select environment, datasource, db_session_id, vid, max(xid) as xid from facts
    where fact = 'line' and vid is not null and xid is not null
    group by environment, datasource, db_session_id, vid;
"""

GATEWAYS = f"""
create table gateway_transactions as {_gateway("gateway", "xid", OUTCOME, "writes")};

create table upstream as {_gateway("gateway-session", "db_session_id")};
"""

NO_GATEWAYS = f"""
create table gateway_transactions (environment varchar, datasource varchar, xid varchar, {PERSON}, gateway_outcome varchar);
create table upstream (environment varchar, datasource varchar, db_session_id varchar, {PERSON});
"""

CLAIMS = f"""
create table emissions as
    select t.environment, t.datasource, t.transaction_id, t.said, c.db_user is not null as listed,
           t.nested or n.call is not null as nested
    from {TRANSACTED} t
    left join context_roles c on c.environment = t.environment and c.datasource = t.datasource and c.db_user = t.db_user
    left join (select distinct source, call from facts where fact = 'nested') n on n.source = t.source and n.call = t.call
    where t.fact = 'emission' and t.transaction_id is not null;

create table claims as
with judged as (
    select c.environment, c.datasource, c.xid as transaction_id, c.index, any_value(struct_pack({SAID})) as said_by,
           coalesce(bool_or(e.said = c.said and e.listed and not e.nested), false) as proved,
           coalesce(bool_or(e.said = c.said or not e.listed), false) as told,
           coalesce(any_value(c.actor_id in (g.gateway.id, coalesce(g.gateway.email, g.gateway.id))), false) as vouched,
           any_value(g.gateway.id) is not null as watched
    from facts c
    left join gateway_transactions g on g.environment = c.environment and g.datasource = c.datasource and g.xid = c.xid
    left join emissions e on e.environment = c.environment and e.datasource = c.datasource and e.transaction_id = c.xid
    where c.fact = 'claim' group by all)
select environment, datasource, transaction_id,
       case when bool_or(watched and told and not proved and not vouched) then 'refused' when bool_or(proved) then 'proved'
            when bool_or(vouched) then 'vouched' when bool_or(told) then 'refused' else 'waiting' end as claim_state,
       arg_max(said_by, (proved, index)) as best
from judged group by all;
"""  # noqa: S608 - our own columns

NO_CLAIMS = f"""
create table claims (environment varchar, datasource varchar, transaction_id varchar, claim_state varchar, best struct({BEST}));
"""

TRANSACTIONS = f"""
create table transactions as
with line as (
    select environment, datasource, transaction_id,
           min(index) as line_index, arg_min(db_session_id, index) as line_session, arg_min(db_user, index) as line_user,
           arg_min(client_app, index) as line_app, arg_min(client_ip, index) as line_ip, bool_or(undone) as undone
    from {TRANSACTED}
    where fact = 'line' and transaction_id is not null group by environment, datasource, transaction_id),
claim as (
    select environment, datasource, transaction_id, claim_state, best.index as claim_index, best.actor_id as claim_id,
           best.actor_name as claim_name, best.actor_email as claim_email, best.actor_type as claim_type,
           best.on_behalf_of as claim_for, best.agent_id as claim_agent_id, best.agent_name as claim_agent,
           best.agent_run as claim_run, best.purpose as claim_purpose, best.ticket as claim_ticket
    from claims),
change as (select distinct environment, datasource, xid as transaction_id, true as changed from facts where fact = 'change')
select environment, datasource, transaction_id, line.* exclude (environment, datasource, transaction_id, undone),
       claim.* exclude (environment, datasource, transaction_id),
       case when changed or claim_index is not null then 'committed' when undone then 'rolled_back' end as joined_outcome
from line full join claim using (environment, datasource, transaction_id)
    full join change using (environment, datasource, transaction_id);
"""  # noqa: S608 - our own columns

PRESENT = """
select coalesce(bool_or(fact in ('gateway', 'gateway-session')), false) as gateways, coalesce(bool_or(fact = 'claim'), false) as claims,
       coalesce(bool_or(fact = 'proxy'), false) as proxies from facts
"""
"""What there is to join with; planning a join with nothing takes as long as one with something."""


def tables(gateways: bool, claims: bool) -> str:
    """Makes what the log alone says of transactions and of gateways' sessions, in the present schema, over `facts`."""
    return "".join((VIDS, GATEWAYS if gateways else NO_GATEWAYS, CLAIMS if claims else NO_CLAIMS, TRANSACTIONS))


def views(proxies: bool, parts: Sequence[str] = ()) -> str:
    """What questions ask, over these tables, `facts`, `raw_events` and `raw_touches`."""
    sessions = proxied.SESSIONS if proxies else proxied.NO_SESSIONS
    return "".join((REPORTED, sessions, resolving.resolved(proxies, parts), resolving.ACTIVITY))


def statements(gateways: bool, claims: bool, proxies: bool) -> str:
    """All of it, by what is `PRESENT`."""
    return tables(gateways, claims) + views(proxies)
