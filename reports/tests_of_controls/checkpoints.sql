-- Test of control: checkpoints of the log. docs/tests-of-controls.md says how such a file is read.
-- /// test
-- id = "checkpoints"
-- version = 1
-- title = "Checkpoints of the signed log"
-- question = "Is every checkpoint signed by the log's key, does it extend the one before, and does somebody outside hold it?"
-- item = "checkpoint"
-- items = "checkpoints"
-- excluded = "are not looked at"
-- pass = "Each checkpoint passes every attribute; of an hour in which several were signed the last stands for them."
-- tables = ["checkpoints"]
-- members = []
-- [[attributes]]
-- title = "The log's key signed it"
-- deviations = ["signature wrong"]
-- [[attributes]]
-- title = "It extends the one before"
-- deviations = ["does not extend the one before"]
-- [[attributes]]
-- title = "Somebody outside holds it, or a later one"
-- deviations = ["nobody outside holds it"]
-- ///
--
-- Signatures and consistency paths were checked when the table was made: `note` and `proof` let anybody check them again
-- (docs/verify.md). Whoever holds a later checkpoint that extends this one holds this one too.
with checked as (
    select *,
           case when signature_holds then 'pass' else 'signature wrong' end as a,
           case when extends is not null then if(extends, 'pass', 'does not extend the one before') end as b,
           case when len(held_by) > 0 then 'pass' else 'nobody outside holds it' end as c
    from checkpoints
)
select size::varchar as item, null::bigint as first_index, []::bigint[] as indexes, signed_at as occurred_at, true as tested,
       size, in_hour, root, previous_size, held_by, held_at,
       'Checkpoint of ' || size || ' records' as subject,
       concat_ws('; ', 'root ' || root,
           case when previous_size is null then 'the first of all' else 'after the one of ' || previous_size || ' records' end,
           case when in_hour > 1 then 'the last of ' || in_hour || ' in its hour' end,
           case when len(held_by) > 0 then 'held by ' || array_to_string(held_by[:3], ', ') || ' since '
               || strftime(held_at at time zone 'UTC', '%Y-%m-%d %H:%M:%S') || ' UTC' end) as detail,
       a, b, c,
       list_filter([a, b, c], lambda outcome: outcome <> 'pass') as deviations
from checked
order by signed_at, size
