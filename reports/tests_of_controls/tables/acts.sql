-- Derived table: acts. docs/tests-of-controls.md says how such a file is read.
-- /// table
-- id = "acts"
-- version = 3
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
of_act as (
    select datasource, environment, act, min(index) as first_index, count(*) as records,
           list(index order by index) as indexes, min(occurred_at) as occurred_at, any_value(request_id) as request_id,
           bool_or(claimed) as claimed, bool_or(list_contains(flags, 'suspected_forgery')) as suspected_forgery,
           bool_or(opaque) as opaque, max(coalesce(rows_affected, rows_returned)) as rows_reported,
           case when bool_or(verdict = 'blocked') then 'blocked' when bool_or(verdict = 'error') then 'error'
                -- What waited for a decision and was let through has another record of the same act.
                else coalesce(arg_min(verdict, index) filter (verdict <> 'pending'), arg_min(verdict, index))
           end as verdict
    from record r
    where kind = 'query' or not exists (
        from stated s where s.datasource = r.datasource and s.transaction_id = r.transaction_id)
    group by datasource, environment, act
),
-- An act says what its first record says that says anything of it; of most acts there is one record.
first_said as (
    select first_index, who_id, who_name, who_type, who_email, on_behalf_of, agent_id, agent_name, agent_run, db_user, attribution,
           client_app, client_ip, kind, op, class, command, session, transaction_id, ticket, purpose, statement,
           error_code, outcome
    from of_act join population on index = first_index where records = 1
    union all
    select first_index, first_value(who_id ignore nulls) over said as who_id,
           first_value(who_name ignore nulls) over said as who_name,
           first_value(who_type ignore nulls) over said as who_type,
           first_value(who_email ignore nulls) over said as who_email,
           first_value(on_behalf_of ignore nulls) over said as on_behalf_of,
           first_value(agent_id ignore nulls) over said as agent_id,
           first_value(agent_name ignore nulls) over said as agent_name,
           first_value(agent_run ignore nulls) over said as agent_run,
           first_value(db_user ignore nulls) over said as db_user,
           first_value(attribution ignore nulls) over said as attribution,
           first_value(client_app ignore nulls) over said as client_app,
           first_value(client_ip ignore nulls) over said as client_ip,
           first_value(kind ignore nulls) over said as kind, first_value(op ignore nulls) over said as op,
           first_value(class ignore nulls) over said as class, first_value(command ignore nulls) over said as command,
           first_value(session ignore nulls) over said as session,
           first_value(transaction_id ignore nulls) over said as transaction_id,
           first_value(ticket ignore nulls) over said as ticket,
           first_value(purpose ignore nulls) over said as purpose,
           first_value(statement ignore nulls) over said as statement,
           first_value(error_code ignore nulls) over said as error_code,
           first_value(outcome ignore nulls) over said as outcome
    from (select first_index, unnest(indexes) as index from of_act where records > 1) join population using (index)
    window said as (partition by first_index order by index rows between unbounded preceding and unbounded following)
    qualify index = first_index
),
together as (
    select first_index, list_sort(list_distinct(list(m.class))) as classes,
           list_sort(list_distinct(flatten(list(m.relations)))) as relations,
           list_sort(list_distinct(flatten(list(m.columns)))) as columns,
           list_sort(list_distinct(flatten(list(m.masked_columns)))) as masked_columns,
           list_sort(list_distinct(flatten(list(m.roles)))) as roles, list_sort(list_distinct(flatten(list(m.flags)))) as flags
    from (select first_index, unnest(indexes) as index from of_act where records > 1) join population m using (index)
    group by first_index
),
act as (
    select o.datasource, o.environment, o.act, o.first_index, o.records, o.indexes, o.occurred_at,
           f.who_id, f.who_name, f.who_type, f.who_email, f.on_behalf_of, f.agent_id, f.agent_name, f.agent_run, f.db_user,
           f.attribution, o.claimed, o.suspected_forgery, f.client_app, f.client_ip, f.kind, f.op, f.class,
           if(o.records > 1, t.classes, list_filter([r.class], lambda c: c is not null)) as classes,
           f.command, f.session, f.transaction_id, f.ticket, coalesce(o.request_id, f.ticket) as cited, f.purpose, f.statement,
           if(o.records > 1, t.relations, list_sort(list_distinct(coalesce(r.relations, [])))) as relations,
           if(o.records > 1, t.columns, list_sort(list_distinct(coalesce(r.columns, [])))) as columns,
           if(o.records > 1, t.masked_columns, list_sort(list_distinct(coalesce(r.masked_columns, [])))) as masked_columns,
           if(o.records > 1, t.roles, list_sort(list_distinct(coalesce(r.roles, [])))) as roles,
           if(o.records > 1, t.flags, list_sort(list_distinct(coalesce(r.flags, [])))) as flags,
           o.rows_reported, o.verdict, f.error_code, f.outcome, o.opaque
    from of_act o join first_said f using (first_index) join population r on r.index = o.first_index
    left join together t using (first_index)
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
