-- Test of control: privileged access. docs/tests-of-controls.md says how such a file is read.
-- /// test
-- id = "privileged-access"
-- version = 2
-- title = "Privileged acts"
-- question = "Was every privileged act done by a known person, and approved by somebody else before it was done?"
-- item = "privileged act"
-- items = "privileged acts"
-- excluded = "were refused, failed, or only waited for a decision"
-- pass = "Each act that took effect passes every attribute that applies to it."
-- tables = ["acts", "population", "roles", "owners"]
-- members = [
--   "class in ('ddl', 'privilege', 'export') or op in ('export', 'procedural', 'truncate') or command in ('SET ROLE', 'SET SESSION AUTHORIZATION') or class = 'write' and (who_type in ('human', 'agent') or agent_id is not null) or list_has_any(list_append(roles, db_user), (select list(role) from roles where len(attributes) > 0)) or list_has_any(list_append(roles, db_user), (select list(role) from owners))",
-- ]
-- needs = ["statements", "decisions"]
-- [[attributes]]
-- title = "The person who acted is known"
-- deviations = ["person not known"]
-- [[attributes]]
-- title = "An approval for its ticket is in the signed log"
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
-- title = "Why an act counts as privileged"
-- [breakdowns.words]
-- "ddl" = "schema change"
-- "privilege" = "privilege change"
-- "export" = "export"
-- "procedural" = "hides its effect, or takes on a role"
-- "truncate" = "empties a table"
-- "direct write" = "direct write by a human or agent"
-- "owner" = "login owns the table"
-- "superuser" = "login has SUPERUSER"
-- "createrole" = "login has CREATEROLE"
-- "replication" = "login has REPLICATION"
-- "bypassrls" = "login has BYPASSRLS"
-- ///
--
-- An act (docs/tests-of-controls.md, table acts) is privileged when one of these holds of one of its records:
--   ddl, privilege, export   its class says so
--   procedural               it hides its effect (DO, CALL, function), or it takes on another role
--   truncate                 it empties a table
--   attribute                its login held SUPERUSER, CREATEROLE, REPLICATION or BYPASSRLS at that time
--   owner                    its login owned one of the tables that it touched at that time
--   direct write             a human or an agent wrote
with record as (
    select *,
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
    select distinct r.index, unnest(t.attributes) as reason, t.assumed
    from record r join roles t
      on t.datasource = r.datasource and (t.role = r.db_user or list_contains(r.roles, t.role))
     and r.occurred_at >= t.from_at and r.occurred_at < t.to_at
    where len(t.attributes) > 0
),
owner as (
    select distinct r.index, 'owner' as reason, o.assumed
    from record r join owners o
      on o.datasource = r.datasource and (o.role = r.db_user or list_contains(r.roles, o.role))
     and r.occurred_at >= o.from_at and r.occurred_at < o.to_at and list_contains(r.relations, o.relation)
),
reason as (
    select index, reason, assumed from attribute
    union all select index, reason, assumed from owner
    union all select index, unnest(own_reasons), false from record where len(own_reasons) > 0
),
member as (select first_index, unnest(indexes) as index from acts),
because as (
    select first_index, reason, bool_or(assumed) as assumed from member join reason using (index) group by first_index, reason
),
privileged as (
    select first_index, list(reason order by reason) as reasons, bool_or(assumed) as assumed_state from because group by first_index
)
select a.*, p.reasons, p.assumed_state, a.took_effect as tested,
       a.known as a, a.approved as b, a.by_other as c, a.before as d, a.valid as e,
       list_filter([a.known, a.approved, a.by_other, a.before, a.valid], lambda outcome: outcome <> 'pass') as deviations
from acts a join privileged p using (first_index)
order by a.occurred_at, a.first_index
