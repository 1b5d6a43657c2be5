-- Test of control: statements that were held until somebody decided. docs/tests-of-controls.md says how such a file is read.
-- /// test
-- id = "released-statements"
-- version = 1
-- title = "Approved text and executed text"
-- question = "Was what a gateway let run after a decision the text that was decided about, and run once?"
-- item = "released statement"
-- items = "released statements"
-- excluded = "are not looked at"
-- pass = "Each statement that ran under a decision passes every attribute that applies to it."
-- tables = ["released"]
-- members = []
-- [[attributes]]
-- title = "What was asked for is in the log"
-- deviations = ["what was asked for is not in the log"]
-- [[attributes]]
-- title = "The executed text is the approved text"
-- deviations = ["another text ran"]
-- [[attributes]]
-- title = "The decision was used once"
-- deviations = ["the decision was used again"]
-- ///
--
-- Gateways alone hold statements back: where none is connected there is nothing here. When a gateway was silent stands in
-- the report on log coverage. The whole texts were compared when the table was made, since it holds them masked; where one
-- of the two is not whole in the log nothing is said of them.
with checked as (
    select *,
           case when asked_index is null then 'what was asked for is not in the log' else 'pass' end as a,
           case when same_text is not null then if(same_text, 'pass', 'another text ran') end as b,
           case when row_number() over (partition by environment, request_id order by index) > 1
                then 'the decision was used again' else 'pass' end as c
    from released
)
select request_id || ' ' || index as item, index as first_index,
       list_filter([asked_index, index], lambda record: record is not null) as indexes, occurred_at, true as tested,
       environment, datasource, request_id, who_id as person, asked_by, asked_at,
       'Request ' || request_id as subject,
       concat_ws('; ', 'run by ' || coalesce(who_id, 'somebody not named'), 'asked for by ' || asked_by || ' at '
           || strftime(asked_at at time zone 'UTC', '%Y-%m-%d %H:%M:%S') || ' UTC', statement) as detail,
       a, b, c,
       list_filter([a, b, c], lambda outcome: outcome <> 'pass') as deviations
from checked
order by occurred_at, index
