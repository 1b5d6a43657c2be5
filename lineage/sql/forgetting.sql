-- Erasure, hold and retention (docs/erasure.md). What destroys needs two people: checked here too, not only where
-- people sign in. These tables change through the functions below alone.

create table ledger_erasure (
    id             bigint generated always as identity primary key,
    kind           text not null check (kind in ('erasure', 'retention')),
    groups         text[] not null check (cardinality(groups) > 0 and groups <@ array['actor', 'action', 'statement', 'change']),
    query          text,
    texts          text[] not null default '{}',
    since          timestamptz,
    until          timestamptz,
    quarantine     bigint[] not null default '{}',
    as_of          bigint not null check (as_of >= 0),
    records        bigint not null check (records >= 0),
    selection_hash bytea not null check (length(selection_hash) = 32),
    reason         text not null,
    ground         text not null check (ground <> ''),
    requested_by   text not null,
    requested_at   timestamptz not null default clock_timestamp(),
    decided_by     text,
    decided_at     timestamptz,
    state          text not null default 'requested'
                   check (state in ('requested', 'rejected', 'approved', 'refused', 'pending', 'erased')),
    published_at   timestamptz,
    replaced_to    pg_lsn,
    erased_at      timestamptz,
    holders        text[] not null default '{}',
    check (state in ('requested', 'rejected') or (decided_by is not null and lower(decided_by) <> lower(requested_by)))
);
alter table ledger_erasure alter column query set statistics 0, alter column texts set statistics 0;
alter table ledger_quarantine alter column body set statistics 0, alter column reason set statistics 0;

-- Which record of the log covers which groups of which records.
create table ledger_erased (
    event_index bigint not null,
    erasure_id  bigint not null references ledger_erasure,
    first_index bigint not null,
    last_index  bigint not null check (last_index >= first_index),
    groups      text[] not null
);
create index ledger_erased_by_last on ledger_erased (last_index);

create table ledger_replaced (
    folder      text primary key,
    erasure_id  bigint not null references ledger_erasure,
    replaced_at timestamptz not null default clock_timestamp(),
    removed_at  timestamptz
);

create table ledger_hold (
    id          bigint generated always as identity primary key,
    query       text,
    first_index bigint,
    last_index  bigint check (last_index >= first_index),
    held        int8multirange not null,
    records     bigint not null,
    reason      text not null check (reason <> ''),
    placed_by   text not null,
    placed_at   timestamptz not null default clock_timestamp(),
    release_by  text,
    release_at  timestamptz,
    released_by text,
    released_at timestamptz,
    check (released_by is null or (release_by is not null and lower(released_by) <> lower(release_by)))
);
alter table ledger_hold alter column query set statistics 0;

create table ledger_retention (
    id          bigint generated always as identity primary key,
    query       text,
    groups      text[] not null check (cardinality(groups) > 0 and groups <@ array['actor', 'action', 'statement', 'change']),
    days        integer not null check (days between 1 and 36500),
    reason      text not null,
    ground      text not null check (ground <> ''),
    set_by      text not null,
    set_at      timestamptz not null default clock_timestamp(),
    approved_by text,
    approved_at timestamptz,
    stopped_by  text,
    stopped_at  timestamptz,
    check (approved_by is null or lower(approved_by) <> lower(set_by))
);
alter table ledger_retention alter column query set statistics 0;

create table ledger_refusal (
    id     bigint generated always as identity primary key,
    kind   text not null check (kind in ('erasure', 'hold', 'retention')),
    number bigint,
    who    text not null,
    code   text not null,
    at     timestamptz not null default clock_timestamp()
);
create trigger append_only before update or delete or truncate on ledger_refusal
    for each statement execute function ledger_refuse();

create function ledger_check_right(who text) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    if not exists (select 1 from lineage_user
                   where lower(email) = lower(who) and is_active and role in ('compliance', 'admin')) then
        raise exception '% may neither ask for this nor approve it', who using errcode = 'insufficient_privilege';
    end if;
end $$;

create function ledger_request_erasure(wanted text[], asked text, sought text[], from_at timestamptz, to_at timestamptz,
    items bigint[], size bigint, counted bigint, hashed bytea, why text, grounded text, who text) returns bigint
language plpgsql security definer set search_path = public, pg_temp as $$
declare made bigint;
begin
    perform ledger_check_right(who);
    insert into ledger_erasure (kind, groups, query, texts, since, until, quarantine, as_of, records, selection_hash,
                                reason, ground, requested_by)
    values ('erasure', wanted, asked, sought, from_at, to_at, items, size, counted, hashed, why, grounded, who)
    returning id into made;
    return made;
end $$;

create function ledger_decide_erasure(wanted bigint, who text, approve boolean) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare asked ledger_erasure;
begin
    perform ledger_check_right(who);
    select * into asked from ledger_erasure where id = wanted and state = 'requested' for update;
    if not found then
        raise exception 'erasure % does not wait for a decision', wanted using errcode = 'no_data_found';
    end if;
    if approve and lower(who) = lower(asked.requested_by) then
        raise exception 'erasure % needs another person than the one who asked', wanted using errcode = 'insufficient_privilege';
    end if;
    if approve then
        update ledger_erasure set state = 'approved', decided_by = who, decided_at = clock_timestamp() where id = wanted;
    else
        update ledger_erasure set state = 'rejected', decided_by = who, decided_at = clock_timestamp(),
            query = null, texts = '{}' where id = wanted;
    end if;
end $$;

create function ledger_request_retention(policy bigint, to_at timestamptz, size bigint, counted bigint, hashed bytea)
returns bigint language plpgsql security definer set search_path = public, pg_temp as $$
declare
    valid ledger_retention;
    made bigint;
begin
    select * into valid from ledger_retention where id = policy and approved_by is not null and stopped_at is null;
    if not found then
        raise exception 'retention policy % is not valid', policy using errcode = 'insufficient_privilege';
    end if;
    if to_at > clock_timestamp() - make_interval(days => valid.days) then
        raise exception 'retention policy % keeps % days', policy, valid.days using errcode = 'insufficient_privilege';
    end if;
    insert into ledger_erasure (kind, groups, query, until, as_of, records, selection_hash, reason, ground, requested_by,
                                decided_by, decided_at, state)
    values ('retention', valid.groups, valid.query, to_at, size, counted, hashed,
            format('policy %s: %s days', policy, valid.days), valid.ground, valid.set_by, valid.approved_by, clock_timestamp(), 'approved')
    returning id into made;
    return made;
end $$;

-- Held records were found when an approved erasure should have been executed.
create function ledger_refuse_erasure(wanted bigint) returns void
language sql security definer set search_path = public, pg_temp as $$
    update ledger_erasure set state = 'refused', query = null, texts = '{}' where id = wanted and state = 'approved'
$$;

-- What becomes of the dedupe table: a mark instead of the hash, so that nobody can try values against it.
create function ledger_forget_contents(source integer, forgotten bytea[]) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    if not exists (select 1 from ledger_erasure where state = 'approved') then
        raise exception 'no erasure is approved' using errcode = 'insufficient_privilege';
    end if;
    alter table ledger_key disable trigger append_only;
    alter table ledger_conflict disable trigger append_only;
    update ledger_key set content = decode(repeat('00', 32), 'hex') where source_id = source and key = any(forgotten);
    update ledger_conflict set content = decode(lpad(to_hex(batch), 48, '0') || lpad(to_hex(ordinal), 16, '0'), 'hex')
        where source_id = source and key = any(forgotten);
    alter table ledger_key enable trigger append_only;
    alter table ledger_conflict enable trigger append_only;
end $$;

create function ledger_forget_quarantine(wanted bigint, items bigint[]) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    if not exists (select 1 from ledger_erasure where id = wanted and state = 'approved') then
        raise exception 'erasure % is not approved', wanted using errcode = 'insufficient_privilege';
    end if;
    alter table ledger_quarantine disable trigger append_only;
    update ledger_quarantine set body = '', body_hash = sha256(gen_random_uuid()::text::bytea),
        reason = format('erased by erasure %s', wanted) where id = any(items);
    alter table ledger_quarantine enable trigger append_only;
end $$;

-- The manifest turns to the rewritten folders, if each still names the one that was read and its leaves are the same bytes.
create function ledger_replace(wanted bigint, replaced jsonb, newest_hold bigint) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    each jsonb;
    changed integer;
begin
    lock table ledger_segment in exclusive mode;
    lock table ledger_hold in share mode;
    if (select coalesce(max(id), 0) from ledger_hold) <> newest_hold then
        raise exception 'a hold was placed meanwhile' using errcode = 'serialization_failure';
    end if;
    alter table ledger_segment disable trigger append_only;
    for each in select * from jsonb_array_elements(replaced) loop
        update ledger_segment set folder = each->>'new', files = each->'files'
            where folder = each->>'old' and files->'leaves'->'sha256' = each->'files'->'leaves'->'sha256';
        get diagnostics changed = row_count;
        if changed <> 1 then
            raise exception 'segment folder % is not what was read', each->>'old' using errcode = 'serialization_failure';
        end if;
        insert into ledger_replaced (folder, erasure_id) values (each->>'old', wanted);
    end loop;
    alter table ledger_segment enable trigger append_only;
    update ledger_erasure set state = 'pending', query = null, texts = '{}', published_at = clock_timestamp()
        where id = wanted and state = 'approved';
    if not found then
        raise exception 'erasure % is not approved', wanted using errcode = 'serialization_failure';
    end if;
end $$;

create function ledger_note_removed(gone text[]) returns void
language sql security definer set search_path = public, pg_temp as $$
    update ledger_replaced set removed_at = clock_timestamp() where folder = any(gone) and removed_at is null
$$;

create function ledger_note_holders(wanted bigint, named text[]) returns void
language sql security definer set search_path = public, pg_temp as $$
    update ledger_erasure set holders = named where id = wanted and state = 'pending'
$$;

create function ledger_note_rewritten(wanted bigint) returns void
language sql security definer set search_path = public, pg_temp as $$
    update ledger_erasure set replaced_to = pg_current_wal_insert_lsn() where id = wanted and state = 'pending'
$$;

create function ledger_finish_erasure(wanted bigint) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    if exists (select 1 from ledger_replaced where erasure_id = wanted and removed_at is null) then
        raise exception 'old files of erasure % are still there', wanted using errcode = 'object_in_use';
    end if;
    update ledger_erasure set state = 'erased', erased_at = clock_timestamp()
        where id = wanted and state = 'pending' and replaced_to is not null;
    if not found then
        raise exception 'erasure % is not pending', wanted using errcode = 'no_data_found';
    end if;
end $$;

create function ledger_place_hold(asked text, low bigint, high bigint, spans int8multirange, counted bigint, why text, who text)
returns bigint language plpgsql security definer set search_path = public, pg_temp as $$
declare made bigint;
begin
    perform ledger_check_right(who);
    insert into ledger_hold (query, first_index, last_index, held, records, reason, placed_by)
    values (asked, low, high, spans, counted, why, who) returning id into made;
    return made;
end $$;

-- The first call asks for the release, the second, by another person, gives it. True: it is released.
create function ledger_release_hold(wanted bigint, who text) returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
declare placed ledger_hold;
begin
    perform ledger_check_right(who);
    select * into placed from ledger_hold where id = wanted and released_at is null for update;
    if not found then
        raise exception 'hold % does not stand', wanted using errcode = 'no_data_found';
    end if;
    if placed.release_by is null then
        update ledger_hold set release_by = who, release_at = clock_timestamp() where id = wanted;
        return false;
    end if;
    if lower(placed.release_by) = lower(who) then
        raise exception 'hold % is released by another person than the one who asked', wanted
            using errcode = 'insufficient_privilege';
    end if;
    update ledger_hold set released_by = who, released_at = clock_timestamp(), query = null where id = wanted;
    return true;
end $$;

create function ledger_set_retention(asked text, wanted text[], keep integer, why text, grounded text, who text) returns bigint
language plpgsql security definer set search_path = public, pg_temp as $$
declare made bigint;
begin
    perform ledger_check_right(who);
    insert into ledger_retention (query, groups, days, reason, ground, set_by)
    values (asked, wanted, keep, why, grounded, who) returning id into made;
    return made;
end $$;

create function ledger_decide_retention(wanted bigint, who text, approve boolean) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare policy ledger_retention;
begin
    perform ledger_check_right(who);
    select * into policy from ledger_retention where id = wanted and stopped_at is null for update;
    if not found or (approve and policy.approved_at is not null) then
        raise exception 'retention policy % does not wait for this', wanted using errcode = 'no_data_found';
    end if;
    if approve and lower(policy.set_by) = lower(who) then
        raise exception 'retention policy % needs another person than the one who set it', wanted
            using errcode = 'insufficient_privilege';
    end if;
    if approve then
        update ledger_retention set approved_by = who, approved_at = clock_timestamp() where id = wanted;
    else
        update ledger_retention set stopped_by = who, stopped_at = clock_timestamp(), query = null where id = wanted;
    end if;
end $$;
