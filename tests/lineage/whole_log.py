"""Every join made anew over all records, as it was done before there were facts: what `lineage.joins` is held against."""

from __future__ import annotations

from lineage.proxied import LINE, LOG_FORMATS, PROXIES, TOP_LEVEL, WITHIN_SECONDS
from lineage.resolving import TAGS_OF


def _agreed(column: str, records: str = "true") -> str:
    """The value that all these records share, or null: one statement's reason is not another's."""
    return (
        f"case when count(distinct coalesce({column}, '')) filter ({records}) = 1 "
        f"then any_value({column}) filter ({records}) end"
    )


def _gateway(place: str, outcome: str = "", *writing: str) -> str:
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
    from reports where source_format = 'gateway' and kind in ('session', 'query') and {place} is not null
    group by all"""


SAYS = "actor_id actor_name actor_email actor_type on_behalf_of agent_id agent_name agent_run purpose ticket".split()
SAID = ", ".join(f"{name} := c.{name}" for name in ("index", *SAYS))
OUTCOME = ", max(outcome) filter (outcome in ('committed', 'rolled_back')) as gateway_outcome"
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
create table gateway_transactions as {_gateway("xid", OUTCOME, "op not in ('read', 'other', 'session')")};

create table gateway_sessions as {_gateway("db_session_id")};
"""

CLAIMS = f"""
create table emissions as
    select l.environment, l.datasource, l.transaction_id, l.said, c.db_user is not null as listed,
           l.source, regexp_replace(l.correlation_id, '[.][0-9]+$', '') as call,
           coalesce(regexp_matches(l.correlation_id, '[.]([02-9]|[0-9][0-9]+)$'), false) as inside
    from lines l left join context_roles c using (environment, datasource, db_user)
    where l.kind = 'query' and l.emitted is not null and l.transaction_id is not null and l.db_session_id is not null;

create table nested as
    select source, regexp_replace(correlation_id, '[.][0-9]+$', '') as call from raw_events
    where kind = 'query' and call in (select call from emissions)
    group by all having count(distinct correlation_id) > 1;

create table claims as
with judged as (
    select c.environment, c.datasource, c.xid as transaction_id, c.index, any_value(struct_pack({SAID})) as said_by,
           coalesce(bool_or(e.said = c.said and e.listed and n.call is null and not e.inside), false) as proved,
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
"""

SESSIONS = f"""
alter table gateway_sessions add column by_proxy boolean default false;
create table proxied as
    select environment, datasource, session_id, db_session_id as named, max(db_user) as db_user,
           min(epoch(occurred_at)) filter (occurred_at_quality = 'source') as began,
           arg_min(struct_pack(id := actor_id, name := actor_name, email := actor_email, type := actor_type,
               behalf := on_behalf_of, agent_id := agent_id, agent_name := agent_name, at := index), index) as person,
           arg_min(purpose, index) as purpose, arg_min(ticket, index) as ticket, arg_min(agent_run, index) as run
    from reports
    where kind = 'session' and source_format in {PROXIES} and session_phase = 'start' and not unauthorised
      and actor_id is not null and session_id is not null and db_session_id is not null
    group by environment, datasource, session_id, db_session_id having count(distinct actor_id) = 1;

create table proxy_sessions as
with reached as (
    select environment, datasource, db_session_id, max(db_user) as db_user,
           unnest(list_distinct([db_session_id, 'pid:' || try_cast('0x' || split_part(db_session_id, '.', 2) as bigint),
               'client:' || max(client_ip) || ':' || max(client_port)])) as named,
           try_cast('0x' || split_part(db_session_id, '.', 1) as bigint) as began
    from reports
    where source_format in {LOG_FORMATS} and db_session_id is not null and not unauthorised
      and (split_part(db_session_id, '.', 2) in (select printf('%x', try_cast(named[5:] as bigint)) from proxied where named[:4] = 'pid:')
        or client_port in (select try_cast(regexp_extract(named, '[0-9]+$') as bigint) from proxied where named[:7] = 'client:')
        or db_session_id in (select named from proxied))
    group by environment, datasource, db_session_id)
select p.*, r.db_session_id
from proxied p join reached r on r.environment = p.environment and r.datasource = p.datasource and r.named = p.named
where coalesce(p.db_user = r.db_user, p.named = r.db_session_id)
  and (p.named = r.db_session_id or abs(p.began - r.began) <= {WITHIN_SECONDS})
qualify count(*) over (partition by p.environment, p.datasource, p.session_id) = 1
    and count(*) over (partition by p.environment, p.datasource, r.db_session_id) = 1;

insert into gateway_sessions by name
    select environment, datasource, db_session_id, person as gateway, session_id as gateway_session, purpose as gateway_purpose,
           ticket as gateway_ticket, run as gateway_run, true as by_proxy
    from proxy_sessions p
    where not exists (select 1 from gateway_sessions g where g.environment = p.environment and g.datasource = p.datasource
        and g.db_session_id = p.db_session_id);

create table told_twice as
with told as (
    select p.environment, p.datasource, p.db_session_id, e.statement, count(*) as times
    from proxy_sessions p join reports e
        on e.environment = p.environment and e.datasource = p.datasource and e.session_id = p.session_id
    where e.kind = 'query' and e.source_format in {PROXIES} and coalesce(e.op, '') <> 'other' and e.statement is not null
      and not e.unauthorised
    group by all),
line as (
    select n.index, t.times, dense_rank() over (
        partition by n.environment, n.datasource, n.db_session_id, n.statement
        order by regexp_replace(coalesce(n.correlation_id, n.event_id), '[.][0-9]+$', '')) as place
    from told t join reports n on n.environment = t.environment and n.datasource = t.datasource
        and n.db_session_id = t.db_session_id and n.statement = t.statement
    where {LINE} and {TOP_LEVEL})
select index from line where place <= times;
"""


EVERYTHING = "".join((REPORTED, GATEWAYS, SESSIONS, CLAIMS, TRANSACTIONS, ACTIVITY))
