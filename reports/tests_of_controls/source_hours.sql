-- Test of control: hours of each source. docs/tests-of-controls.md says how such a file is read.
-- /// test
-- id = "source-hours"
-- version = 1
-- title = "Hours of each source"
-- question = "Was every connected source heard in every hour, whole, with its capture as strong as it was and its clock right?"
-- item = "hour of a source"
-- items = "hours of sources"
-- excluded = "are not over"
-- pass = "Each hour in which a source was connected passes every attribute."
-- tables = ["hours"]
-- members = []
-- [[attributes]]
-- title = "The source was heard"
-- deviations = ["silent", "silence cannot be told from quiet"]
-- [[attributes]]
-- title = "Nothing is known to be missing"
-- deviations = ["gap"]
-- [[attributes]]
-- title = "It captured no less than before"
-- deviations = ["capture weakened"]
-- [[attributes]]
-- title = "Everything it sent could be read"
-- deviations = ["put aside unread"]
-- [[attributes]]
-- title = "Its clock was right"
-- deviations = ["clock wrong"]
-- [[breakdowns]]
-- column = "heard"
-- title = "What was heard"
-- [breakdowns.words]
-- "records" = "records came"
-- "heartbeats" = "no record, and heartbeats that say so"
-- "nothing" = "nothing"
-- ///
--
-- An hour without a record and without a heartbeat is silent; of a source that never sends heartbeats it is not known
-- whether it was quiet. Minutes of silence within an hour that the store noticed are silence too.
with hour as (
    select *, case when records > 0 then 'records' when heartbeats > 0 then 'heartbeats' else 'nothing' end as heard
    from hours
),
checked as (
    select *,
           case when list_contains(states, 'silent') then 'silent'
                when heard <> 'nothing' then 'pass'
                when beats then 'silent' else 'silence cannot be told from quiet' end as a,
           case when list_contains(states, 'gap') then 'gap' else 'pass' end as b,
           case when list_contains(states, 'weakened') then 'capture weakened' else 'pass' end as c,
           case when put_aside > 0 then 'put aside unread' else 'pass' end as d,
           case when clock_skew > 0 then 'clock wrong' else 'pass' end as e
    from hour
)
select source || ' ' || strftime(from_at at time zone 'UTC', '%Y-%m-%dT%H:%M') as item,
       null::bigint as first_index, []::bigint[] as indexes, from_at as occurred_at, true as tested,
       environment, datasource, format, to_at, heard, first_index as first_record, records, heartbeats, put_aside, clock_skew, state,
       'Source ' || source as subject,
       concat_ws('; ',
           records || if(records = 1, ' record', ' records') || ', ' || heartbeats || if(heartbeats = 1, ' heartbeat', ' heartbeats'),
           case when put_aside > 0 then put_aside || ' put aside unread' end,
           case when clock_skew > 0 then clock_skew || ' with a wrong clock' end, detail) as detail,
       a, b, c, d, e,
       list_filter([a, b, c, d, e], lambda outcome: outcome <> 'pass') as deviations
from checked
order by from_at, source
