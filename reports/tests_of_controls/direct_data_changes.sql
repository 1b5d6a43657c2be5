-- Test of control: direct changes of data. docs/tests-of-controls.md says how such a file is read.
-- /// test
-- id = "direct-data-changes"
-- version = 1
-- title = "Direct changes of data"
-- question = "Was every change of data that a service did not make asked for, approved by somebody else, and only then made?"
-- item = "direct change of data"
-- items = "direct changes of data"
-- excluded = "were refused, failed, or only waited for a decision"
-- pass = "Each change that took effect passes every attribute that applies to it."
-- tables = ["acts"]
-- members = [
--   "class = 'write'",
--   "agent_id is not null or who_type is null or who_type in ('human', 'agent') or claimed or coalesce(attribution, 'none') in ('none', 'db_login') or list_contains(flags, 'suspected_forgery')",
-- ]
-- needs = ["statements or changes", "decisions"]
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
-- title = "Who changed data"
-- [breakdowns.words]
-- "human" = "a human"
-- "agent" = "an AI agent"
-- "unknown" = "somebody not known"
-- ///
--
-- A change is direct when a human or an agent made it, or when it is not known who did: only what a service does with
-- its own login is the application's.
with change as (
    select *,
           case when agent_id is not null or who_type = 'agent' then 'agent'
                when who_type = 'human' then 'human'
                when who_type is null or known = 'person not known' then 'unknown' end as reason
    from acts
    where list_contains(classes, 'write')
)
select * exclude (reason), [reason] as reasons, took_effect as tested,
       known as a, approved as b, by_other as c, before as d, valid as e,
       list_filter([known, approved, by_other, before, valid], lambda outcome: outcome <> 'pass') as deviations
from change
where reason is not null
order by occurred_at, first_index
