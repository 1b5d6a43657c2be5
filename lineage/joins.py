"""Joined facts: who was behind a transaction, as DuckDB views over `raw_events` (docs/life-of-an-event.md, Joining).

A join is exact or it is none. `transactions` gathers what the lines, claims and changes of one transaction say;
`activity` is every event with its person, session, outcome and the index of the record that this comes from.
Nothing is matched by time or text, and nothing is written back into an event.
"""

from __future__ import annotations

TRANSACTIONS = """
create temp table vids as
    select datasource, db_session_id, vid, max(xid) as xid from raw_events
    where kind = 'query' and vid is not null and xid is not null and db_session_id is not null group by all;

create temp view lines as
    select e.*, coalesce(e.xid, v.xid) as transaction_id
    from raw_events e left join vids v using (datasource, db_session_id, vid);

create temp table transactions as
with line as (
    select l.datasource, l.transaction_id,
           min(l.index) as line_index, any_value(l.db_session_id) as line_session, any_value(l.db_user) as line_user,
           any_value(l.client_app) as line_app, any_value(l.client_ip) as line_ip,
           bool_or(l.emitted is not null) as emitted,
           bool_or(l.emitted is not null and c.db_user is not null) as proved,
           min(case when l.command = 'ROLLBACK' and not starts_with(upper(l.statement), 'ROLLBACK TO') then l.index end)
               as rollback_index
    from lines l left join context_roles c on c.datasource = l.datasource and c.db_user = l.db_user
    where l.kind = 'query' and l.transaction_id is not null and l.db_session_id is not null
    group by all),
claim as (
    select datasource, xid as transaction_id, max(index) as claim_index,
           arg_max(actor_id, index) as claim_id, arg_max(actor_name, index) as claim_name,
           arg_max(actor_email, index) as claim_email, arg_max(actor_type, index) as claim_type,
           arg_max(on_behalf_of, index) as claim_for, arg_max(agent_id, index) as claim_agent_id,
           arg_max(agent_name, index) as claim_agent, arg_max(agent_run, index) as claim_run,
           arg_max(purpose, index) as claim_purpose, arg_max(ticket, index) as claim_ticket
    from raw_events where list_contains(flags, 'claim') and xid is not null group by all),
change as (
    select datasource, xid as transaction_id, count(*) as changes
    from raw_events where kind = 'change' and xid is not null group by all)
select datasource, transaction_id, line.* exclude (datasource, transaction_id),
       claim.* exclude (datasource, transaction_id), changes,
       case when claim_index is null then null when proved then 'proved'
            when emitted then 'refused' else 'waiting' end as claim_state,
       case when changes > 0 or claim_index is not null then 'committed'
            when rollback_index is not null then 'rolled_back' end as joined_outcome
from line full join claim using (datasource, transaction_id) full join change using (datasource, transaction_id);
"""

ACTIVITY = """
create temp view activity as
with named as (
    select l.*, t.* exclude (datasource, transaction_id),
           coalesce(l.db_user, t.line_user) as login,
           l.actor_id is not null and not list_contains(l.flags, 'unauthorised_assertion')
               and not list_contains(l.flags, 'claim') as asserted,
           coalesce(t.claim_state = 'proved', false) as believed
    from lines l
    left join transactions t on t.datasource = l.datasource and t.transaction_id = l.transaction_id)
select n.index, n.event_id, n.kind, n.class, n.op, n.command, n.occurred_at, n.received_at, n.occurred_at_quality,
       n.environment, n.source, n.source_format, n.sequence, n.source_event_id, n.datasource, n.database, n.db_system,
       case when asserted then n.actor_id when believed and claim_id is not null then claim_id
            when i.person_id is not null then i.person_id else login end as who_id,
       case when asserted then coalesce(n.actor_name, n.actor_email, n.actor_id)
            when believed and claim_id is not null then coalesce(claim_name, claim_email, claim_id)
            else coalesce(i.name, login, 'unknown') end as who_name,
       case when asserted then n.actor_email when believed and claim_id is not null then claim_email
            else i.email end as who_email,
       coalesce(case when asserted then n.actor_type when believed and claim_id is not null then claim_type
            else i.type end, 'unknown') as who_type,
       case when list_contains(n.flags, 'unauthorised_assertion') then null
            else coalesce(n.on_behalf_of, case when believed then claim_for end) end as on_behalf_of,
       case when list_contains(n.flags, 'unauthorised_assertion') then null
            else coalesce(n.agent_id, case when believed then claim_agent_id end) end as agent_id,
       coalesce(n.agent_name, case when believed then claim_agent end) as agent_name,
       coalesce(n.agent_run, case when believed then claim_run end) as agent_run,
       login as db_user, n.roles,
       case when asserted and n.source_format = 'gateway' then 'gateway'
            when asserted then 'asserted_by_proxy'
            when believed and claim_id is not null then 'context_message'
            when i.person_id is not null then 'mapped_login'
            when login is not null then 'db_login' else 'none' end as attribution,
       case when asserted then n.index when believed and claim_id is not null then claim_index
            when n.db_user is not null then n.index else line_index end as attribution_index,
       coalesce(claim_state = 'waiting', false) as claimed,
       coalesce(n.purpose, case when believed then claim_purpose end) as purpose,
       coalesce(n.ticket, case when believed then claim_ticket end) as ticket,
       coalesce(n.client_app, line_app) as client_app, coalesce(n.client_ip, line_ip) as client_ip,
       n.datasource || '~' || coalesce(n.session_id, n.db_session_id, line_session) as session,
       n.transaction_id, n.vid, n.position,
       coalesce(nullif(n.outcome, 'unknown'), joined_outcome, n.outcome, 'unknown') as outcome,
       coalesce(n.verdict, case when n.kind in ('query', 'change') then 'unknown' end) as verdict,
       n.relations, n.relations_provenance, n.columns, n.keys, n.rows_returned, n.rows_affected, n.bytes_returned,
       n.duration_us, n.error_code, n.error_message,
       list_concat(n.flags, list_concat(
           case when x.index is not null and not list_contains(n.flags, 'duplicate_conflict')
                then ['duplicate_conflict'] else []::varchar[] end,
           case when claim_state = 'refused' then ['suspected_forgery'] else []::varchar[] end)) as flags,
       n.statement, n.statement_state, n.redacted, n.opaque, n.fingerprint, n.parameters, n.emitted,
       n.key, n.key_columns, n.diff, n.before_values, n.after_values, n.approval, n.approval_request, n.approval_state,
       n.policy, n.policies, n.masked, n.masked_columns, n.session_phase, n.auth_method, n.close_reason, n.decision,
       n.decision_type, n.decision_subject, n.decided_by, n.state, n.custody, n.custody_type, n.custody_subject,
       n.correlation_id, n.db_session_id, []::varchar[] as tags
from named n
left join identities i on i.datasource = n.datasource and i.db_user = login
    and n.occurred_at >= i.from_at and n.occurred_at < i.to_at
left join conflicted x on x.index = n.index;

create temp view touches as
    select a.* exclude (key, key_columns, columns), t.relation, t.key, t.key_columns, t.pairs, t.touch_columns as columns,
           t.access, t.touch_op, t.provenance
    from raw_touches t join activity a using (index);
"""
