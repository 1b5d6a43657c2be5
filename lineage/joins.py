"""Joined facts: who was behind a transaction, as DuckDB tables and views over `raw_events` (docs/life-of-an-event.md, Joining).

A join is exact or it is none. `transactions` gathers what the lines, claims and changes of one transaction say;
`activity` is every event with its person, session, outcome and the index of the record that this comes from.
Nothing is matched by time or text, and nothing is written back into an event.

A gateway names the person of a transaction by its id, and of everything in a database session: it has one upstream
session for each client's, so that a session is one person's. What the server's log says of such a session is the second
record of an act that the gateway told of; it is marked `seen_by_gateway` and not counted again. What proxies say of the
database sessions behind theirs is in `lineage.proxied`.
"""

from __future__ import annotations

from lineage import proxied


def _agreed(column: str, records: str = "true") -> str:
    """The value that all these records share, or null: one statement's reason is not another's."""
    return (
        f"case when count(distinct coalesce({column}, '')) filter ({records}) = 1 "
        f"then any_value({column}) filter ({records}) end"
    )


def _gateway(place: str, *writing: str) -> str:
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
           min(session_id) as gateway_session, {reasons},
           max(outcome) filter (outcome in ('committed', 'rolled_back')) as gateway_outcome
    from reports where source_format = 'gateway' and kind in ('session', 'query') and {place} is not null
    group by all"""  # noqa: S608 - our own columns


PERSON = (
    "gateway struct(id varchar, name varchar, email varchar, type varchar, behalf varchar, agent_id varchar, "
    'agent_name varchar, "at" bigint), gateway_session varchar, gateway_purpose varchar, gateway_ticket varchar, '
    "gateway_run varchar, gateway_outcome varchar"
)
"""What `_gateway` gives, where no gateway told of anything."""
SAYS = "actor_id actor_name actor_email actor_type on_behalf_of agent_id agent_name agent_run purpose ticket".split()
SAID = ", ".join(f"{name} := c.{name}" for name in ("index", *SAYS))
BEST = ", ".join(("index bigint", *(f"{name} varchar" for name in SAYS)))

LINE, TOP_LEVEL = proxied.LINE, proxied.TOP_LEVEL

REPORTED = """
create view reports as
    select * replace (nullif(xid, '0') as xid),
           list_contains(flags, 'unauthorised_assertion') as unauthorised,
           list_contains(flags, 'claim') as is_claim
    from raw_events;

create table vids as
    select environment, datasource, db_session_id, vid, max(xid) as xid from reports
    where kind = 'query' and vid is not null and xid is not null and db_session_id is not null and not unauthorised
    group by all;

create view lines as
    select e.*, case when not unauthorised then coalesce(e.xid, v.xid) end as transaction_id
    from reports e left join vids v using (environment, datasource, db_session_id, vid);
"""

GATEWAYS = f"""
create table gateway_transactions as {_gateway("xid", "op not in ('read', 'other', 'session')")};

create table gateway_sessions as {_gateway("db_session_id")};
"""

NO_GATEWAYS = f"""
create table gateway_transactions (environment varchar, datasource varchar, xid varchar, {PERSON});
create table gateway_sessions (environment varchar, datasource varchar, db_session_id varchar, {PERSON});
"""

CLAIMS = f"""
create table emissions as
    select l.environment, l.datasource, l.transaction_id, l.said, c.db_user is not null as listed,
           l.source, regexp_replace(l.correlation_id, '[.][0-9]+$', '') as call
    from lines l left join context_roles c using (environment, datasource, db_user)
    where l.kind = 'query' and l.emitted is not null and l.transaction_id is not null and l.db_session_id is not null;

create table nested as
    select source, regexp_replace(correlation_id, '[.][0-9]+$', '') as call from raw_events
    where kind = 'query' and call in (select call from emissions)
    group by all having count(distinct correlation_id) > 1;

create table claims as
with judged as (
    select c.environment, c.datasource, c.xid as transaction_id, c.index, any_value(struct_pack({SAID})) as said_by,
           coalesce(bool_or(e.said = c.said and e.listed and n.call is null), false) as proved,
           coalesce(bool_or(e.said = c.said or not e.listed), false) as told,
           coalesce(any_value(c.actor_id in (g.gateway.id, coalesce(g.gateway.email, g.gateway.id))), false) as vouched,
           any_value(g.gateway.id) is not null as watched
    from reports c
    left join gateway_transactions g on g.environment = c.environment and g.datasource = c.datasource and g.xid = c.xid
    left join emissions e on e.environment = c.environment and e.datasource = c.datasource and e.transaction_id = c.xid
    left join nested n on n.source = e.source and n.call = e.call
    where c.is_claim and c.xid is not null and not c.unauthorised group by all)
select environment, datasource, transaction_id,
       case when bool_or(watched and told and not proved and not vouched) then 'refused' when bool_or(proved) then 'proved'
            when bool_or(vouched) then 'vouched' when bool_or(told) then 'refused' else 'waiting' end as claim_state,
       arg_max(said_by, (proved, index)) as best
from judged group by all;
"""  # noqa: S608 - our own columns

NO_CLAIMS = f"""
create table claims (environment varchar, datasource varchar, transaction_id varchar, claim_state varchar, best struct({BEST}));
"""

TRANSACTIONS = """
create table transactions as
with line as (
    select environment, datasource, transaction_id,
           min(index) as line_index, arg_min(db_session_id, index) as line_session, arg_min(db_user, index) as line_user,
           arg_min(client_app, index) as line_app, arg_min(client_ip, index) as line_ip,
           bool_or(command = 'ROLLBACK'
               and regexp_full_match(upper(statement), '\\s*(ROLLBACK|ABORT)(\\s+(WORK|TRANSACTION))?\\s*;?\\s*')) as undone
    from lines where kind = 'query' and transaction_id is not null and db_session_id is not null group by all),
claim as (
    select environment, datasource, transaction_id, claim_state, best.index as claim_index, best.actor_id as claim_id,
           best.actor_name as claim_name, best.actor_email as claim_email, best.actor_type as claim_type,
           best.on_behalf_of as claim_for, best.agent_id as claim_agent_id, best.agent_name as claim_agent,
           best.agent_run as claim_run, best.purpose as claim_purpose, best.ticket as claim_ticket
    from claims),
change as (
    select environment, datasource, xid as transaction_id, count(*) as changes
    from reports where kind = 'change' and xid is not null and not unauthorised group by all)
select environment, datasource, transaction_id, line.* exclude (environment, datasource, transaction_id, undone),
       claim.* exclude (environment, datasource, transaction_id), changes,
       case when changes > 0 or claim_index is not null then 'committed' when undone then 'rolled_back' end as joined_outcome
from line full join claim using (environment, datasource, transaction_id)
    full join change using (environment, datasource, transaction_id);
"""

TAGS = """
set variable tags = (select map_from_entries(list((place, tags))) from tagged);
"""
TAGS_OF = (
    "list_distinct(flatten(list_transform(n.relations, "
    "lambda r: coalesce(getvariable('tags')[n.datasource || ' ' || r], []::varchar[]))))"
)
"""A variable and no join: whoever does not ask for tags pays nothing for them."""

ACTIVITY = f"""
create view activity as
with named as (
    select l.*, t.* exclude (environment, datasource, transaction_id),
           coalesce(case when not unauthorised then l.db_user end, t.line_user) as login,
           not unauthorised and not is_claim as told_by_right,
           l.actor_id is not null and told_by_right as asserted,
           coalesce(t.claim_state = 'proved', false) as believed,
           case when l.source_format is distinct from 'gateway' and not asserted
                then case when gt.xid is not null then gt.gateway else gs.gateway end end as g,
           coalesce(gs.by_proxy, false) and gt.xid is null as by_proxy,
           struct_extract(g, 'id') is not null and not (by_proxy and believed and t.claim_id is not null) as vouched,
           case when not asserted then coalesce(gt.gateway_session, gs.gateway_session) end as gateway_session,
           gs.db_session_id is not null and not gs.by_proxy as watched, gt.gateway_outcome,
           coalesce(gt.gateway_purpose, gs.gateway_purpose) as gateway_purpose,
           coalesce(gt.gateway_ticket, gs.gateway_ticket) as gateway_ticket,
           coalesce(gt.gateway_run, gs.gateway_run) as gateway_run
    from lines l left join transactions t
        on t.environment = l.environment and t.datasource = l.datasource and t.transaction_id = l.transaction_id
    left join gateway_transactions gt
        on gt.environment = l.environment and gt.datasource = l.datasource and gt.xid = l.transaction_id
    left join gateway_sessions gs on gs.environment = l.environment and gs.datasource = l.datasource
        and gs.db_session_id = coalesce(l.db_session_id, t.line_session) and not l.unauthorised)
select n.index, n.event_id, n.kind, n.class, n.op, n.command, n.occurred_at, n.received_at, n.occurred_at_quality,
       n.environment, n.source, n.source_format, n.sequence, n.source_event_id, n.datasource, n.database, n.db_system,
       case when asserted then n.actor_id when vouched then g.id when believed and claim_id is not null then claim_id
            when i.person_id is not null then i.person_id else login end as who_id,
       case when asserted then coalesce(n.actor_name, n.actor_email, n.actor_id)
            when vouched then coalesce(g.name, g.email, g.id)
            when believed and claim_id is not null then coalesce(claim_name, claim_email, claim_id)
            else coalesce(i.name, login, 'unknown') end as who_name,
       case when asserted then n.actor_email when vouched then g.email when believed and claim_id is not null then claim_email
            else i.email end as who_email,
       coalesce(case when asserted then n.actor_type when vouched then g.type
            when believed and claim_id is not null then claim_type else i.type end, 'unknown') as who_type,
       coalesce(case when told_by_right then n.on_behalf_of end, case when vouched then g.behalf end,
            case when believed and not vouched then claim_for
                 when believed and g.type = 'service' then coalesce(claim_for, claim_id) end) as on_behalf_of,
       coalesce(case when told_by_right then n.agent_id end,
            case when vouched then g.agent_id when believed then claim_agent_id end) as agent_id,
       coalesce(case when told_by_right then n.agent_name end,
            case when vouched then g.agent_name when believed then claim_agent end) as agent_name,
       coalesce(case when told_by_right then n.agent_run end,
            case when vouched then gateway_run when believed then claim_run end) as agent_run,
       login as db_user, n.roles,
       case when asserted and n.source_format = 'gateway' then 'gateway'
            when asserted then 'asserted_by_proxy'
            when vouched then case when by_proxy then 'asserted_by_proxy' else 'gateway' end
            when believed and claim_id is not null then 'context_message'
            when i.person_id is not null then 'mapped_login'
            when login is not null then 'db_login' else 'none' end as attribution,
       case when asserted then n.index when vouched then g.at when believed and claim_id is not null then claim_index
            when n.db_user is not null then n.index else line_index end as attribution_index,
       coalesce(claim_state = 'waiting' and not vouched, false) as claimed,
       coalesce(n.purpose, case when vouched then gateway_purpose end, case when believed then claim_purpose end) as purpose,
       coalesce(n.ticket, case when vouched then gateway_ticket end, case when believed then claim_ticket end) as ticket,
       coalesce(n.client_app, line_app) as client_app, coalesce(n.client_ip, line_ip) as client_ip,
       n.datasource || '~' || coalesce(n.session_id, gateway_session, n.db_session_id, line_session) as session,
       n.transaction_id, n.vid, n.position,
       coalesce(nullif(n.outcome, 'unknown'), joined_outcome, gateway_outcome, n.outcome, 'unknown') as outcome,
       coalesce(n.verdict, case when n.kind in ('query', 'change') then 'unknown' end) as verdict,
       n.relations, n.relations_provenance, n.columns, n.keys, n.rows_returned, n.rows_affected, n.bytes_returned,
       n.duration_us, n.error_code, n.error_message,
       list_concat(list_concat(n.flags,
           case when (watched and {LINE} and {TOP_LEVEL}) or w.index is not null
                then ['seen_by_gateway'] else []::varchar[] end), list_concat(
           case when x.index is not null and not list_contains(n.flags, 'duplicate_conflict')
                then ['duplicate_conflict'] else []::varchar[] end,
           case when claim_state = 'refused' then ['suspected_forgery'] else []::varchar[] end)) as flags,
       n.statement, n.statement_state, n.redacted, n.opaque, n.fingerprint, n.parameters, n.emitted, n.weakens,
       n.key, n.key_columns, n.diff, n.before_values, n.after_values, n.approval, n.approval_request, n.approval_state,
       n.policy, n.policies, n.masked, n.masked_columns, n.session_phase, n.auth_method, n.close_reason, n.decision,
       n.decision_type, n.decision_subject, n.decided_by, n.state, n.custody, n.custody_type, n.custody_subject,
       n.correlation_id, n.db_session_id, {TAGS_OF} as tags
from named n
left join identities i on i.datasource = n.datasource and i.db_user = login
    and n.occurred_at >= i.from_at and n.occurred_at < i.to_at
left join conflicted x on x.index = n.index
left join told_twice w on w.index = n.index;

create view touches as
    select a.* exclude (key, key_columns, columns), t.relation, t.key, t.key_columns, t.pairs, t.touch_columns as columns,
           t.access, t.touch_op, t.provenance
    from raw_touches t join activity a using (index);
"""  # noqa: S608 - our own conditions


PRESENT = f"""
select coalesce(bool_or(source_format = 'gateway'), false) as gateways,
       coalesce(bool_or(list_contains(flags, 'claim')), false) as claims, {proxied.PRESENT} as proxies from raw_events
"""  # noqa: S608 - our own conditions
"""What there is to join with; planning a join with nothing takes as long as one with something."""


def statements(gateways: bool, claims: bool, proxies: bool) -> str:
    """Makes the tables and views in the present schema, over `raw_events` and `raw_touches`, by what is `PRESENT`."""
    told = (
        GATEWAYS if gateways else NO_GATEWAYS,
        proxied.SESSIONS if proxies else proxied.NO_SESSIONS,
        CLAIMS if claims else NO_CLAIMS,
    )
    return "".join((REPORTED, *told, TRANSACTIONS, ACTIVITY))
