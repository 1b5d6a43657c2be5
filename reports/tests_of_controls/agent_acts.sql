-- Test of control: acts of AI agents. docs/tests-of-controls.md says how such a file is read.
-- /// test
-- id = "agent-acts"
-- version = 1
-- title = "Acts of AI agents"
-- question = "Did every AI agent act for a person who is known, and was what it changed or took out approved by somebody else before?"
-- item = "act of an AI agent"
-- items = "acts of AI agents"
-- excluded = "were refused, failed, or only waited for a decision"
-- pass = "Each act that took effect passes every attribute that applies to it. Approval is asked of changes of data, schema or rights, of exports, and of statements that hide what they do."
-- tables = ["acts"]
-- members = [
--   "agent_id is not null or who_type = 'agent'",
-- ]
-- needs = ["statements", "decisions"]
-- [[attributes]]
-- title = "A person stands behind it"
-- deviations = ["no person behind it"]
-- [[attributes]]
-- title = "The agent itself is known"
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
-- title = "What agents did"
-- [breakdowns.words]
-- "read" = "read"
-- "write" = "changed data"
-- "ddl" = "changed schema"
-- "privilege" = "changed rights"
-- "export" = "took data out"
-- "procedural" = "ran other statements"
-- ///
with act as (
    select *,
           list_has_any(classes, ['write', 'ddl', 'privilege', 'export']) or op = 'procedural'
               or command in ('SET ROLE', 'SET SESSION AUTHORIZATION') as wants_approval
    from acts
    where agent_id is not null or who_type = 'agent'
),
checked as (
    select *,
           case when took_effect then case when on_behalf_of is null then 'no person behind it' else 'pass' end end as a,
           known as b,
           case when wants_approval then approved end as c,
           case when wants_approval then by_other end as d,
           case when wants_approval then before end as e,
           case when wants_approval then valid end as f
    from act
)
select * exclude (wants_approval), classes as reasons, took_effect as tested,
       list_filter([a, b, c, d, e, f], lambda outcome: outcome <> 'pass') as deviations
from checked
order by occurred_at, first_index
