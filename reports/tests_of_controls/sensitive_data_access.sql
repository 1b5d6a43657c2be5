-- Test of control: access to classified data. docs/tests-of-controls.md says how such a file is read.
-- /// test
-- id = "sensitive-data-access"
-- version = 1
-- title = "Access to classified data"
-- question = "Was all access to classified columns by known people, services and agents, with a reason, and taken out only with an approval?"
-- item = "access to classified data"
-- items = "accesses to classified data"
-- excluded = "were refused, failed, or only waited for a decision"
-- pass = "Each access that took effect passes every attribute that applies to it. A reason is asked of people and agents, an approval of exports. The first classes that were given to a column are taken to have held before too."
-- tables = ["acts", "tags"]
-- members = [
--   "(datasource in (select datasource from tags)) and list_has_any(relations, (select list(relation) || list(split_part(relation, '.', 2)) from tags))",
-- ]
-- needs = ["statements or changes", "decisions"]
-- [[attributes]]
-- title = "The person who acted is known"
-- deviations = ["person not known"]
-- [[attributes]]
-- title = "A reason is given: a ticket or a purpose"
-- deviations = ["no reason given"]
-- [[attributes]]
-- title = "An approval for an export's ticket is in the signed log"
-- deviations = ["no ticket", "no approval", "approval rejected", "approval lapsed", "approval revoked", "approval pending"]
-- [[attributes]]
-- title = "Somebody else approved it"
-- deviations = ["self-approved"]
-- [[attributes]]
-- title = "It was approved before it was done"
-- deviations = ["approved late"]
-- [[attributes]]
-- title = "The approval was still valid"
-- deviations = ["approval expired"]
-- [[breakdowns]]
-- column = "reasons"
-- title = "Classes of data touched"
-- [[breakdowns]]
-- column = "shown"
-- title = "How values came out"
-- [breakdowns.words]
-- "masked" = "masked"
-- "partly masked" = "some columns masked, others in clear"
-- "clear" = "in clear"
-- "written" = "nothing came out: it was written"
-- ///
--
-- An act touches a classified column when it touches the column's table at a time when the column was classified, and
-- names the column, or a star, or no column that is known: what is not known counts as touched.
with touch as (
    select a.first_index, t.relation || '.' || t."column" as place, unnest(t.classes) as class,
           list_contains(a.masked_columns, t."column") or list_contains(a.masked_columns, place) as is_masked, t.assumed
    from acts a join tags t
      on t.datasource = a.datasource and a.occurred_at >= t.from_at and a.occurred_at < t.to_at
     and (list_contains(a.relations, t.relation) or list_contains(a.relations, split_part(t.relation, '.', 2)))
     and (len(a.columns) = 0 or list_contains(a.columns, '*') or list_contains(a.columns, t."column"))
    where list_has_any(a.classes, ['read', 'write', 'export', 'procedural'])
),
touched as (
    select first_index, list(distinct class order by class) as reasons, list(distinct place order by place) as places,
           bool_or(assumed) as assumed_state, bool_and(is_masked) as all_masked, bool_or(is_masked) as some_masked
    from touch group by first_index
),
checked as (
    select a.*, t.reasons, t.places, t.assumed_state,
           list_contains(a.classes, 'export') or a.op = 'export' as is_export,
           case when t.all_masked then 'masked' when t.some_masked then 'partly masked'
                when list_has_any(a.classes, ['read', 'export', 'procedural']) then 'clear' else 'written' end as shown,
           a.known as a,
           case when a.took_effect and (a.who_type in ('human', 'agent') or a.agent_id is not null)
                then if(a.ticket is null and a.purpose is null, 'no reason given', 'pass') end as b,
           case when is_export then a.approved end as c, case when is_export then a.by_other end as d,
           case when is_export then a.before end as e, case when is_export then a.valid end as f
    from acts a join touched t using (first_index)
)
select * exclude (is_export), took_effect as tested,
       list_filter([a, b, c, d, e, f], lambda outcome: outcome <> 'pass') as deviations
from checked
order by occurred_at, first_index
