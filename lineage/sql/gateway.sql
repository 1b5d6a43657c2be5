-- Held statements, guardrails and kill orders (docs/gateway.md). Who decides is checked here too, not only where people
-- sign in: these tables change through the functions below alone.

alter table lineage_heldstatement
    add constraint held_state check (state in ('requested', 'approved', 'rejected', 'expired', 'used', 'withdrawn')),
    add constraint held_decided check (state not in ('approved', 'used') or (decided_by is not null and expires_at is not null)),
    add constraint held_other_person check (state = 'requested' or decided_by is null or not lower(decided_by) = any(involved)),
    add constraint held_other_reviewer check (reviewed_by is null or (lower(reviewed_by) <> lower(decided_by)
                                                                      and not lower(reviewed_by) = any(involved))),
    alter column statement set statistics 0, alter column redacted set statistics 0, alter column plan set statistics 0,
    alter column parameters set statistics 0;
create index held_open on lineage_heldstatement (gateway_id) where state in ('requested', 'approved');
create index held_by_time on lineage_heldstatement (asked_at);

create trigger append_only before update or delete or truncate on lineage_guardrailversion
    for each statement execute function ledger_refuse();

create function gateway_check_right(who text, allowed text[], act text) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    if not exists (select 1 from lineage_user where lower(email) = lower(who) and is_active and role = any(allowed)) then
        raise exception '% may not %', who, act using errcode = 'insufficient_privilege';
    end if;
end $$;

-- The names under which a person may stand in a request: the sign-in, and the ids that the imported identities give it.
create function gateway_names(who text) returns text[]
language sql stable security definer set search_path = public, pg_temp as $$
    select array_agg(distinct lower(name)) from (
        select who union all
        select person_id from lineage_identity where lower(email) = lower(who)) as known(name)
$$;

-- A request for approval. False: it was known. Raises when its id stands for another statement or gateway.
create function gateway_hold(given jsonb) returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
declare known lineage_heldstatement;
begin
    insert into lineage_heldstatement
        select (jsonb_populate_record(null::lineage_heldstatement,
            given - array['decided_by', 'decided_at', 'reason', 'expires_at', 'row_cap', 'used_at', 'ended_at', 'reviewed_by',
                          'reviewed_at', 'review_note']
            || '{"state": "requested", "break_glass": false}')).*
        on conflict do nothing;
    if found then
        return true;
    end if;
    select * into known from lineage_heldstatement where request_id = given->>'request_id';
    if known.digest <> given->>'digest' or known.gateway_id <> (given->>'gateway_id')::bigint then
        raise exception 'request % stands for another statement', known.request_id using errcode = 'object_not_in_prerequisite_state';
    end if;
    return false;
end $$;

-- Approves, rejects, or breaks glass (approves without a cap, or against a rejection; a review is due). `seen` is the
-- digest of the statement that the person was shown.
create function gateway_decide(wanted text, who text, verdict text, why text, seen text, until timestamptz, cap bigint)
returns void language plpgsql security definer set search_path = public, pg_temp as $$
declare
    asked lineage_heldstatement;
    allowed text[] := case when verdict = 'break_glass' then array['admin'] else array['security', 'admin'] end;
begin
    perform gateway_check_right(who, allowed, 'decide about held statements');
    if verdict not in ('approved', 'rejected', 'break_glass') or trim(why) = '' or cap < 1
       or (verdict <> 'rejected' and (until is null or until > clock_timestamp() + interval '24 hours')) then
        raise exception 'not a decision' using errcode = 'invalid_parameter_value';
    end if;
    select * into asked from lineage_heldstatement where request_id = wanted for update;
    if not found then
        raise exception 'there is no request %', wanted using errcode = 'no_data_found';
    end if;
    if gateway_names(who) && asked.involved then
        raise exception 'request % needs another person than those it is for', wanted using errcode = 'insufficient_privilege';
    end if;
    if asked.digest <> seen or asked.ask_until < clock_timestamp()
       or not (asked.state = 'requested' or (verdict = 'break_glass' and asked.state = 'rejected')) then
        raise exception 'request % does not wait for this', wanted using errcode = 'object_not_in_prerequisite_state';
    end if;
    update lineage_heldstatement set
        state = case verdict when 'rejected' then 'rejected' else 'approved' end,
        decided_by = who, decided_at = clock_timestamp(), reason = why,
        expires_at = case verdict when 'rejected' then null else until end,
        row_cap = case verdict when 'approved' then cap end,
        ended_at = case verdict when 'rejected' then clock_timestamp() end,
        break_glass = verdict = 'break_glass'
        where request_id = wanted;
end $$;

-- What the gateway says became of it. False: it was told before. An approval is used once.
create function gateway_finish(wanted text, by_gateway bigint, seen text, outcome text, at timestamptz) returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
declare asked lineage_heldstatement;
begin
    select * into asked from lineage_heldstatement where request_id = wanted and gateway_id = by_gateway for update;
    if not found then
        raise exception 'there is no request %', wanted using errcode = 'no_data_found';
    end if;
    if asked.state = outcome and (outcome <> 'used' or asked.used_at = at) then
        return false;
    end if;
    if asked.digest <> seen or outcome not in ('used', 'expired', 'withdrawn')
       or not (asked.state = 'approved' or (outcome = 'used' and asked.state = 'expired' and at <= asked.expires_at)
               or (outcome <> 'used' and asked.state = 'requested')) then
        raise exception 'request % is %, not to be %', wanted, asked.state, outcome
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    update lineage_heldstatement set state = outcome, used_at = case outcome when 'used' then at end,
        ended_at = clock_timestamp() where request_id = wanted;
    return true;
end $$;

-- Requests that nobody decided and approvals that nobody used in time.
create function gateway_expire() returns setof text
language sql security definer set search_path = public, pg_temp as $$
    update lineage_heldstatement set state = 'expired', ended_at = clock_timestamp()
        where (state = 'requested' and ask_until < clock_timestamp()) or (state = 'approved' and expires_at < clock_timestamp())
        returning request_id
$$;

create function gateway_review(wanted text, who text, note text) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare asked lineage_heldstatement;
begin
    perform gateway_check_right(who, array['security', 'admin'], 'review');
    select * into asked from lineage_heldstatement where request_id = wanted for update;
    if not found then
        raise exception 'there is no request %', wanted using errcode = 'no_data_found';
    end if;
    if lower(who) = lower(asked.decided_by) or gateway_names(who) && asked.involved then
        raise exception 'request % is reviewed by another person', wanted using errcode = 'insufficient_privilege';
    end if;
    if not asked.break_glass or asked.reviewed_at is not null or trim(note) = '' then
        raise exception 'request % waits for no review', wanted using errcode = 'object_not_in_prerequisite_state';
    end if;
    update lineage_heldstatement set reviewed_by = who, reviewed_at = clock_timestamp(), review_note = note
        where request_id = wanted;
end $$;

-- Texts go an hour after the end, names and reasons with the row after 30 days, when no review is due.
create function gateway_forget() returns void
language sql security definer set search_path = public, pg_temp as $$
    update lineage_heldstatement set statement = null, redacted = null, parameters = null, plan = null
        where statement is not null and ended_at < clock_timestamp() - interval '1 hour';
    delete from lineage_heldstatement
        where ended_at < clock_timestamp() - interval '30 days' and (not break_glass or reviewed_at is not null);
$$;

create function gateway_set_rules(given text, who text, why text) returns integer
language plpgsql security definer set search_path = public, pg_temp as $$
declare made integer;
begin
    perform gateway_check_right(who, array['security', 'admin'], 'set the guardrails');
    lock table lineage_guardrailversion in exclusive mode;
    insert into lineage_guardrailversion (number, text, digest, by, reason, at)
        select coalesce(max(number), 0) + 1, given, encode(sha256(convert_to(given, 'UTF8')), 'hex'), who, why, clock_timestamp()
        from lineage_guardrailversion
        returning number into made;
    return made;
end $$;

create function gateway_kill(at_gateway bigint, session text, who text, why text) returns bigint
language plpgsql security definer set search_path = public, pg_temp as $$
declare made bigint;
begin
    perform gateway_check_right(who, array['security', 'admin', 'operator'], 'end sessions');
    insert into lineage_gatewaykill (gateway_id, session_id, by, reason, at) values (at_gateway, session, who, why, clock_timestamp())
        returning id into made;
    return made;
end $$;

-- What is held against each other apart from the other checks of a database keeps its own window.
alter table coverage_checked add column about text not null default '';
alter table coverage_checked drop constraint coverage_checked_pkey, add primary key (environment, datasource, about);
