-- Test of control: privileged access, version 1.
--
-- Question: was every privileged act done by a known person, and approved by somebody else before it was done?
-- Reads four tables, which are Parquet files attached to the report:
--   population  every access of the period (statement lines and captured row changes)
--   roles       role attributes, each with the span of time in which they were in force
--   owners      who owns each table, members of an owning role included, with the same span
--   decisions   requests and approvals on the tickets that the population cites
-- Gives one row for each privileged act. An act is one statement (where the source numbers parts of a
-- statement, each part), or the row changes of one transaction for which no statement was reported.
-- Run it again with DuckDB, beside the files: create view population as from 'population.parquet' (the
-- other three alike), then this file.
--
-- A record is privileged when one of these holds:
--   ddl, privilege, export   its class says so
--   procedural               it hides its effect (DO, CALL, function), or it takes on another role
--   truncate                 it empties a table
--   attribute                its login held SUPERUSER, CREATEROLE, REPLICATION or BYPASSRLS at that time
--   owner                    its login owned one of the tables that it touched at that time
--   direct write             a human or an agent wrote
with record as (
    select *,
           case when kind = 'query' then coalesce(correlation_id, event_id)
                else 'transaction ' || coalesce(transaction_id, event_id) end as act,
           list_filter([
               case when class = 'ddl' then 'ddl' end,
               case when class = 'privilege' then 'privilege' end,
               case when class = 'export' or op = 'export' then 'export' end,
               case when op = 'procedural' or command in ('SET ROLE', 'SET SESSION AUTHORIZATION') then 'procedural' end,
               case when op = 'truncate' then 'truncate' end,
               case when class = 'write' and (who_type in ('human', 'agent') or agent_id is not null)
                    then 'direct write' end
           ], lambda reason: reason is not null) as own_reasons
    from population
),
attribute as (
    select distinct r.index, unnest(a.attributes) as reason, a.assumed
    from record r join roles a
      on a.datasource = r.datasource and (a.role = r.db_user or list_contains(r.roles, a.role))
     and r.occurred_at >= a.from_at and r.occurred_at < a.to_at
    where len(a.attributes) > 0
),
owner as (
    select distinct r.index, 'owner' as reason, o.assumed
    from record r join owners o
      on o.datasource = r.datasource and (o.role = r.db_user or list_contains(r.roles, o.role))
     and r.occurred_at >= o.from_at and r.occurred_at < o.to_at and list_contains(r.relations, o.relation)
),
standing as (
    select index, list(distinct reason order by reason) as reasons, bool_or(assumed) as assumed
    from (from attribute union all from owner) group by index
),
privileged as (
    select r.*, list_concat(r.own_reasons, coalesce(s.reasons, [])) as reasons, coalesce(s.assumed, false) as assumed
    from record r left join standing s using (index)
    where len(r.own_reasons) > 0 or s.index is not null
),
stated as (
    select distinct datasource, transaction_id from record
    where kind = 'query' and class = 'write' and transaction_id is not null
),
captured as (
    select datasource, transaction_id, count(*) as changes
    from record where kind = 'change' and transaction_id is not null group by all
),
act as (
    select p.datasource, p.environment, p.act, min(p.index) as first_index, count(*) as records,
           list(p.index order by p.index)[:1000] as indexes,
           min(p.occurred_at) as occurred_at,
           arg_min(p.who_id, p.index) as who_id, arg_min(p.who_name, p.index) as who_name,
           arg_min(p.who_type, p.index) as who_type, arg_min(p.who_email, p.index) as who_email,
           arg_min(p.on_behalf_of, p.index) as on_behalf_of, arg_min(p.agent_name, p.index) as agent_name,
           arg_min(p.db_user, p.index) as db_user, arg_min(p.attribution, p.index) as attribution,
           bool_or(p.claimed) as claimed, bool_or(list_contains(p.flags, 'suspected_forgery')) as suspected_forgery,
           arg_min(p.client_app, p.index) as client_app, arg_min(p.client_ip, p.index) as client_ip,
           arg_min(p.kind, p.index) as kind, arg_min(p.op, p.index) as op, arg_min(p.class, p.index) as class,
           arg_min(p.command, p.index) as command, arg_min(p.session, p.index) as session,
           arg_min(p.transaction_id, p.index) as transaction_id, arg_min(p.ticket, p.index) as ticket,
           arg_min(p.purpose, p.index) as purpose, arg_min(p.statement, p.index) as statement,
           list_sort(list_distinct(flatten(list(p.relations)))) as relations,
           list_sort(list_distinct(flatten(list(p.reasons)))) as reasons,
           max(coalesce(p.rows_affected, p.rows_returned)) as rows_reported,
           case when bool_or(p.verdict = 'blocked') then 'blocked' when bool_or(p.verdict = 'error') then 'error'
                -- What waited for a decision and was let through has another record of the same act.
                else coalesce(arg_min(p.verdict, p.index) filter (p.verdict <> 'pending'), arg_min(p.verdict, p.index))
           end as verdict,
           arg_min(p.error_code, p.index) as error_code, arg_min(p.outcome, p.index) as outcome,
           bool_or(p.opaque) as opaque, bool_or(p.assumed) as assumed_state
    from privileged p
    where p.kind = 'query' or not exists (
        from stated s where s.datasource = p.datasource and s.transaction_id = p.transaction_id)
    group by p.datasource, p.environment, p.act
),
approval as (
    select environment, ticket,
           coalesce(arg_max(state, index) filter (state <> 'requested'), 'requested') as state,
           arg_max(requested_by, index) filter (requested_by is not null) as requested_by,
           arg_max(approvers, index) filter (state = 'approved') as approvers,
           arg_max(decided_at, index) filter (state = 'approved') as decided_at,
           arg_max(expires_at, index) filter (state = 'approved') as expires_at,
           arg_max(received_at, index) filter (state = 'approved') as received_at,
           arg_max(index, index) filter (state = 'approved') as approval_index
    from decisions group by environment, ticket
),
judged as (
    select a.*, c.changes as rows_captured,
           d.state as approval_state, d.requested_by, d.approvers, d.decided_at, d.expires_at,
           d.received_at as approval_received_at, d.approval_index,
           coalesce(a.verdict not in ('blocked', 'error', 'pending'), true) as took_effect,
           list_filter(
               list_distinct(list_transform([a.who_id, a.who_email, a.on_behalf_of, d.requested_by], lambda p: lower(p))),
               lambda p: p is not null and list_contains(list_transform(d.approvers, lambda q: lower(q)), p)
           ) as self_approvers
    from act a
    left join captured c on a.class = 'write' and c.datasource = a.datasource and c.transaction_id = a.transaction_id
    left join approval d on d.ticket = a.ticket and d.environment = a.environment
)
select *,
       list_filter([
           case when took_effect and (attribution in ('none', 'db_login') or claimed or suspected_forgery)
                then 'person not known' end,
           case when took_effect and ticket is null then 'no ticket'
                when took_effect and approval_state is null then 'no approval'
                when took_effect and approval_state = 'expired' then 'approval lapsed'
                when took_effect and approval_state = 'requested' then 'approval pending'
                when took_effect and approval_state <> 'approved' then 'approval ' || approval_state end,
           case when took_effect and approval_state = 'approved' and len(self_approvers) > 0 then 'self-approved' end,
           case when took_effect and approval_state = 'approved' and decided_at > occurred_at then 'approved late' end,
           case when took_effect and approval_state = 'approved' and expires_at <= occurred_at then 'approval expired' end
       ], lambda deviation: deviation is not null) as deviations
from judged
order by occurred_at, first_index
