-- Test of control: rights on classified data. docs/tests-of-controls.md says how such a file is read.
-- /// test
-- id = "sensitive-data-rights"
-- version = 1
-- title = "Rights on classified data"
-- question = "Is every login that could reach a classified table somebody's, and is none of these tables open to everybody?"
-- item = "right on a classified table"
-- items = "rights on classified tables"
-- excluded = "are not looked at"
-- pass = "Each login's rights on each classified table pass every attribute."
-- tables = ["acts", "identities", "rights"]
-- members = [
--   "(datasource, db_user) in (select (datasource, login) from rights)",
-- ]
-- needs = ["states"]
-- [[attributes]]
-- title = "The login is somebody's"
-- deviations = ["login of nobody"]
-- [[attributes]]
-- title = "The right is not everybody's"
-- deviations = ["open to everybody"]
-- [[breakdowns]]
-- column = "used"
-- title = "Use in the period"
-- [breakdowns.words]
-- "used" = "the login touched the table"
-- "not used" = "the login did not touch the table"
-- ///
--
-- One row while a login's rights on a table stay the same. A right that nobody used is no deviation: it may be taken away.
with used as (
    select distinct r.datasource, r.relation, r.login, r.from_at
    from rights r join acts a
      on a.datasource = r.datasource and a.db_user = r.login and a.took_effect
     and a.occurred_at >= r.from_at and a.occurred_at < r.to_at
     and (list_contains(a.relations, r.relation) or list_contains(a.relations, split_part(r.relation, '.', 2)))
),
held as (
    select distinct r.datasource, r.relation, r.login, r.from_at, first(i.name order by i.from_at desc) as whose
    from rights r join identities i
      on i.datasource = r.datasource and i.db_user = r.login and i.from_at < r.to_at and i.to_at > r.from_at
    group by all
),
checked as (
    select r.*, h.whose, if(u.login is null, 'not used', 'used') as used,
           case when h.login is null then 'login of nobody' else 'pass' end as a,
           case when list_contains(r.through, 'everybody') then 'open to everybody' else 'pass' end as b
    from rights r
    left join used u using (datasource, relation, login, from_at) left join held h using (datasource, relation, login, from_at)
)
select datasource || ' ' || relation || ' ' || login || ' ' || index as item, index as first_index, [index] as indexes,
       from_at as occurred_at, true as tested, datasource, relation, login, rights, through, used, whose, to_at, assumed as assumed_state,
       'Login ' || login || ' on ' || datasource || ' ' || relation as subject,
       concat_ws('; ', coalesce('of ' || whose, 'of nobody that is known'), array_to_string(rights, ', '),
           'through ' || array_to_string(through, ', '), used) as detail,
       a, b,
       list_filter([a, b], lambda outcome: outcome <> 'pass') as deviations
from checked
order by from_at, datasource, relation, login
