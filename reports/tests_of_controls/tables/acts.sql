-- Derived table: acts. docs/tests-of-controls.md says how such a file is read.
-- /// table
-- id = "acts"
-- version = 2
-- title = "Acts, each with what was approved for it"
-- tables = ["population", "decisions"]
-- ///
--
-- An act is one statement (where the source numbers parts of a statement, each part), or the row changes of one
-- transaction for which no statement was reported. What was checked of each act that took effect, 'pass' or the words
-- of the deviation; null where it does not apply. `cited` is what a decision is looked up by: the request under which a
-- gateway let it run, else the ticket.
--   known      the person, service or agent is known: more than a login, and no claim that is unproved or not believed
--   approved   an approval of its ticket or request is in the signed log
--   by_other   nobody who asked, acted, or was acted for approved it
--   before     the approval was given before the act
--   valid      the approval had not ended
with record as (
    select *,
           case when kind = 'query' then coalesce(correlation_id, event_id)
                else 'transaction ' || coalesce(transaction_id, event_id) end as act,
           case when attribution = 'gateway' then json_extract_string(approval, '$.request_id') end as request_id
    from population
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
    select r.datasource, r.environment, r.act, min(r.index) as first_index, count(*) as records,
           list(r.index order by r.index)as indexes,
           min(r.occurred_at) as occurred_at,
           arg_min(r.who_id, r.index) as who_id, arg_min(r.who_name, r.index) as who_name,
           arg_min(r.who_type, r.index) as who_type, arg_min(r.who_email, r.index) as who_email,
           arg_min(r.on_behalf_of, r.index) as on_behalf_of, arg_min(r.agent_id, r.index) as agent_id,
           arg_min(r.agent_name, r.index) as agent_name, arg_min(r.agent_run, r.index) as agent_run,
           arg_min(r.db_user, r.index) as db_user, arg_min(r.attribution, r.index) as attribution,
           bool_or(r.claimed) as claimed, bool_or(list_contains(r.flags, 'suspected_forgery')) as suspected_forgery,
           arg_min(r.client_app, r.index) as client_app, arg_min(r.client_ip, r.index) as client_ip,
           arg_min(r.kind, r.index) as kind, arg_min(r.op, r.index) as op, arg_min(r.class, r.index) as class,
           list_sort(list_distinct(list(r.class))) as classes,
           arg_min(r.command, r.index) as command, arg_min(r.session, r.index) as session,
           arg_min(r.transaction_id, r.index) as transaction_id, arg_min(r.ticket, r.index) as ticket,
           coalesce(any_value(r.request_id), arg_min(r.ticket, r.index)) as cited,
           arg_min(r.purpose, r.index) as purpose, arg_min(r.statement, r.index) as statement,
           list_sort(list_distinct(flatten(list(r.relations)))) as relations,
           list_sort(list_distinct(flatten(list(r.columns)))) as columns,
           list_sort(list_distinct(flatten(list(r.masked_columns)))) as masked_columns,
           list_sort(list_distinct(flatten(list(r.roles)))) as roles,
           list_sort(list_distinct(flatten(list(r.flags)))) as flags,
           max(coalesce(r.rows_affected, r.rows_returned)) as rows_reported,
           case when bool_or(r.verdict = 'blocked') then 'blocked' when bool_or(r.verdict = 'error') then 'error'
                -- What waited for a decision and was let through has another record of the same act.
                else coalesce(arg_min(r.verdict, r.index) filter (r.verdict <> 'pending'), arg_min(r.verdict, r.index))
           end as verdict,
           arg_min(r.error_code, r.index) as error_code, arg_min(r.outcome, r.index) as outcome,
           bool_or(r.opaque) as opaque
    from record r
    where r.kind = 'query' or not exists (
        from stated s where s.datasource = r.datasource and s.transaction_id = r.transaction_id)
    group by r.datasource, r.environment, r.act
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
    from decisions where ticket is not null group by environment, ticket
),
held as (
    select a.*, c.changes as rows_captured,
           d.state as approval_state, d.requested_by, d.approvers, d.decided_at, d.expires_at,
           d.received_at as approval_received_at, d.approval_index,
           coalesce(a.verdict not in ('blocked', 'error', 'pending'), true) as took_effect,
           coalesce(took_effect and d.state = 'approved', false) as has_approval,
           list_filter(
               list_distinct(list_transform([a.who_id, a.who_email, a.on_behalf_of, d.requested_by], lambda p: lower(p))),
               lambda p: p is not null and list_contains(list_transform(d.approvers, lambda q: lower(q)), p)
           ) as self_approvers
    from act a
    left join captured c on a.class = 'write' and c.datasource = a.datasource and c.transaction_id = a.transaction_id
    left join approval d on d.ticket = a.cited and d.environment = a.environment
)
select act as item, * exclude (act),
       case when not took_effect then null
            when coalesce(attribution, 'none') in ('none', 'db_login') or claimed or suspected_forgery then 'person not known'
            else 'pass' end as known,
       case when not took_effect then null
            when cited is null then 'no ticket'
            when approval_state is null then 'no approval'
            when approval_state = 'expired' then 'approval lapsed'
            when approval_state = 'requested' then 'approval pending'
            when approval_state <> 'approved' then 'approval ' || approval_state
            else 'pass' end as approved,
       case when not has_approval then null when len(self_approvers) > 0 then 'self-approved' else 'pass' end as by_other,
       case when not has_approval then null when decided_at > occurred_at then 'approved late' else 'pass' end as before,
       case when not has_approval then null when expires_at <= occurred_at then 'approval expired' else 'pass' end as valid
from held
order by occurred_at, first_index
