-- Test of control: approvals. docs/tests-of-controls.md says how such a file is read.
-- /// test
-- id = "approvals"
-- version = 2
-- title = "Approvals and their use"
-- question = "Was everything that was done under a ticket approved, by somebody who neither asked for it nor did it, before it was done and while it held?"
-- item = "ticket"
-- items = "tickets"
-- excluded = "were asked for or decided, and nothing was done under them"
-- pass = "Each ticket under which something took effect passes every attribute that applies to it."
-- tables = ["acts", "decisions"]
-- members = [
--   "ticket is not null or attribution = 'gateway'",
-- ]
-- needs = ["statements", "decisions"]
-- [[attributes]]
-- title = "It was approved"
-- deviations = ["never asked for", "not decided", "used though rejected", "used though revoked", "used though lapsed"]
-- [[attributes]]
-- title = "The approver did not ask for it"
-- deviations = ["approved by who asked"]
-- [[attributes]]
-- title = "The approver did not do it, and it was not done for them"
-- deviations = ["approved by who acted"]
-- [[attributes]]
-- title = "It was approved before its first use"
-- deviations = ["used before it was approved"]
-- [[attributes]]
-- title = "It was not used after it had ended"
-- deviations = ["used after it ended"]
-- [[breakdowns]]
-- column = "state"
-- title = "Where tickets stand"
-- [breakdowns.words]
-- "none" = "cited, and never asked for"
-- "requested" = "asked for, not decided"
-- "approved" = "approved"
-- "rejected" = "rejected"
-- "revoked" = "revoked"
-- "expired" = "lapsed"
-- ///
--
-- A ticket is also the request under which a gateway let a statement run. Tickets are those that an act of the period
-- cites, and those that were asked for or decided in it. A ticket of one environment is another in the next: an approval
-- holds only where it was given.
with decided as (
    select environment, ticket, min(index) as first_index, list(index order by index) as indexes,
           min(occurred_at) as asked_at,
           coalesce(arg_max(state, index) filter (state <> 'requested'), 'requested') as state,
           arg_max(requested_by, index) filter (requested_by is not null) as requested_by,
           arg_max(approvers, index) filter (state = 'approved') as approvers,
           arg_max(decided_at, index) filter (state = 'approved') as decided_at,
           arg_max(expires_at, index) filter (state = 'approved') as expires_at
    from decisions where ticket is not null group by environment, ticket
),
used as (
    select environment, cited as ticket, count(*) as acts, min(first_index) as first_act,
           list(first_index order by first_index) as act_indexes,
           min(occurred_at) as first_used_at, max(occurred_at) as last_used_at,
           list_sort(list_distinct(list_filter(flatten(list([lower(who_id), lower(who_email), lower(on_behalf_of)])),
                                               lambda p: p is not null))) as users,
           any_value(datasource) as datasource
    from acts where took_effect and cited is not null group by environment, cited
),
held as (
    select coalesce(d.environment, u.environment) as environment, coalesce(d.ticket, u.ticket) as ticket,
           coalesce(d.first_index, u.first_act) as first_index,
           list_concat(coalesce(d.indexes, []), coalesce(u.act_indexes, [])) as indexes,
           coalesce(d.state, 'none') as state, d.requested_by, d.approvers, d.decided_at, d.expires_at,
           coalesce(u.first_used_at, d.asked_at) as occurred_at, u.first_used_at, u.last_used_at, u.acts, u.users, u.datasource,
           coalesce(u.acts, 0) > 0 as tested,
           list_transform(coalesce(d.approvers, []), lambda p: lower(p)) as deciders
    from decided d full join used u on d.ticket = u.ticket and d.environment = u.environment
),
checked as (
    select *,
           coalesce(tested and state = 'approved', false) as has_approval,
           case when tested then
               case state when 'approved' then 'pass' when 'none' then 'never asked for' when 'requested' then 'not decided'
                    when 'rejected' then 'used though rejected' when 'revoked' then 'used though revoked'
                    when 'expired' then 'used though lapsed' end end as a,
           case when has_approval then
               case when list_contains(deciders, lower(requested_by)) then 'approved by who asked' else 'pass' end end as b,
           case when has_approval then
               case when list_has_any(deciders, users) then 'approved by who acted' else 'pass' end end as c,
           case when has_approval then
               case when decided_at > first_used_at then 'used before it was approved' else 'pass' end end as d,
           case when has_approval then
               case when expires_at <= last_used_at then 'used after it ended' else 'pass' end end as e
    from held
)
select environment || ' ' || ticket as item, first_index, list_sort(indexes) as indexes, occurred_at, environment, datasource,
       tested, state, ticket, requested_by, approvers, decided_at, expires_at, first_used_at, last_used_at, acts, users,
       'Ticket ' || ticket as subject,
       concat_ws('; ',
           case when state = 'none' then 'never asked for' else 'asked for by ' || coalesce(requested_by, 'somebody not named') end,
           case when state not in ('none', 'requested') then state end || coalesce(' by ' || nullif(array_to_string(approvers, ', '), ''), '')
               || coalesce(' at ' || strftime(decided_at at time zone 'UTC', '%Y-%m-%d %H:%M:%S') || ' UTC', ''),
           case when acts > 0 then acts || if(acts = 1, ' act by ', ' acts by ') || array_to_string(users[:4], ', ') || ', first at '
               || strftime(first_used_at at time zone 'UTC', '%Y-%m-%d %H:%M:%S') || ' UTC' else 'not used' end) as detail,
       a, b, c, d, e,
       list_filter([a, b, c, d, e], lambda outcome: outcome <> 'pass') as deviations
from checked
order by occurred_at, first_index
