-- Test of control: changes of schema and rights. docs/tests-of-controls.md says how such a file is read.
-- /// test
-- id = "schema-and-rights-changes"
-- version = 1
-- title = "Changes of schema and rights"
-- question = "Was every change of schema and of rights asked for, approved by somebody else, and only then made?"
-- item = "change of schema or rights"
-- items = "changes of schema or rights"
-- excluded = "were refused, failed, or only waited for a decision"
-- pass = "Each change that took effect passes every attribute that applies to it."
-- tables = ["acts"]
-- members = [
--   "class in ('ddl', 'privilege')",
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
-- title = "What was changed"
-- [breakdowns.words]
-- "ddl" = "schema"
-- "privilege" = "rights"
-- ///
select *, list_filter(['ddl', 'privilege'], lambda class: list_contains(classes, class)) as reasons, took_effect as tested,
       known as a, approved as b, by_other as c, before as d, valid as e,
       list_filter([known, approved, by_other, before, valid], lambda outcome: outcome <> 'pass') as deviations
from acts
where list_has_any(classes, ['ddl', 'privilege'])
order by occurred_at, first_index
