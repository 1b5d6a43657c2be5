-- Test of control: non-human identities. docs/tests-of-controls.md says how such a file is read.
-- /// test
-- id = "non-human-identities"
-- version = 1
-- title = "Non-human identities"
-- question = "Is every service and every AI agent that acted in the identity register, with a person who answers for it?"
-- item = "non-human identity"
-- items = "non-human identities"
-- excluded = "only tried: nothing that they did took effect"
-- pass = "Each service and agent of which an act took effect passes every attribute."
-- tables = ["acts", "identities"]
-- needs = ["statements or changes"]
-- [[attributes]]
-- title = "It is in the identity register, at the time of each of its acts"
-- deviations = ["not registered"]
-- [[attributes]]
-- title = "A person answers for it"
-- deviations = ["nobody answers for it"]
-- [[breakdowns]]
-- column = "type"
-- title = "What they are"
-- [breakdowns.words]
-- "agent" = "AI agents"
-- "service" = "services"
-- "system" = "systems"
-- ///
--
-- The register is what is said of logins (docs/access.md): an agent that a gateway or a proxy names is registered by its
-- id under any login, a service by the login that it used or by its id.
with actor as (
    select *, coalesce(agent_id, who_id) as id,
           case when agent_id is not null or who_type = 'agent' then 'agent' else who_type end as type
    from acts where agent_id is not null or who_type in ('agent', 'service', 'system')
),
registered as (
    select a.first_index, first(i.owner order by i.owner nulls last) as owner
    from actor a join identities i
      on i.type <> 'human' and a.occurred_at >= i.from_at and a.occurred_at < i.to_at
     and (lower(i.person) = lower(a.id) or (a.agent_id is null and i.datasource = a.datasource and i.db_user = a.db_user))
    group by a.first_index
),
identity as (
    select a.id, any_value(a.type) as type, min(a.first_index) as first_index, min(a.occurred_at) as occurred_at,
           arg_min(coalesce(a.agent_name, a.who_name), a.first_index) as name,
           count(*) filter (a.took_effect) as acts, count(*) filter (a.took_effect and r.first_index is null) as unregistered,
           coalesce(list_sort(list_distinct(list(r.owner) filter (r.owner is not null))), []) as owners,
           list_sort(list_distinct(list(a.db_user))) as logins, list_sort(list_distinct(list(a.datasource))) as datasources,
           coalesce(list_sort(list_distinct(list(a.on_behalf_of) filter (a.on_behalf_of is not null))), []) as people
    from actor a left join registered r using (first_index) group by a.id
),
checked as (
    select *, acts > 0 as tested,
           case when tested then if(unregistered > 0, 'not registered', 'pass') end as a,
           case when tested then if(len(owners) = 0, 'nobody answers for it', 'pass') end as b
    from identity
)
select type || ' ' || id as item, first_index, [first_index] as indexes, occurred_at, tested, id, type, name, acts, unregistered,
       owners, logins, datasources, people,
       if(type = 'agent', 'AI agent ', if(type = 'service', 'Service ', 'System ')) || coalesce(name, id) as subject,
       concat_ws('; ', acts || if(acts = 1, ' act', ' acts'),
           case when unregistered > 0 then unregistered || ' of them while it was not registered' end,
           case when len(owners) > 0 then 'answered for by ' || array_to_string(owners[:3], ', ') end,
           case when len(people) > 0 then 'worked for ' || array_to_string(people[:3], ', ') end,
           'logins ' || array_to_string(logins[:3], ', ')) as detail,
       a, b,
       list_filter([a, b], lambda outcome: outcome <> 'pass') as deviations
from checked
order by occurred_at, first_index
