-- The ledger: only ever appended to. The head row is locked last and until commit, so that indexes are
-- contiguous, in commit order and never reused (docs/life-of-an-event.md).

create table ledger_head (
    id   smallint primary key check (id = 1),
    size bigint not null check (size >= 0)
);
insert into ledger_head values (1, 0);

create sequence ledger_batch_id;

create table ledger_batch (
    first_index  bigint primary key,
    batch        bigint not null unique,
    n            integer not null check (n > 0),
    source_id    integer not null,
    slot         integer not null,
    committed_at timestamptz not null default clock_timestamp()
);

create table ledger_journal (
    slot           integer not null,
    batch          bigint not null,
    ordinal        integer not null,
    leaf           bytea not null,
    actor_salt     bytea, actor     bytea,
    action_salt    bytea, action    bytea,
    statement_salt bytea, statement bytea,
    change_salt    bytea, change    bytea,
    primary key (slot, batch, ordinal)
) partition by list (slot);

create table ledger_key (
    source_id integer not null,
    key       bytea not null check (length(key) = 16),
    content   bytea not null check (length(content) = 32),
    batch     bigint not null,
    ordinal   integer not null,
    primary key (source_id, key)
);

create table ledger_conflict (
    source_id integer not null,
    key       bytea not null,
    content   bytea not null,
    batch     bigint not null,
    ordinal   integer not null,
    primary key (source_id, key, content)
);

create table ledger_quarantine (
    id          bigint generated always as identity primary key,
    source_id   integer not null,
    received_at timestamptz not null default clock_timestamp(),
    position    text not null,
    sequence    bigint,
    body        bytea not null,
    body_hash   bytea not null,
    code        text not null,
    reason      text not null,
    unique (source_id, body_hash, position)
);

create table ledger_skipped (
    source_id integer not null,
    sequence  bigint not null,
    reason    text not null,
    primary key (source_id, sequence)
);

create table ledger_checkpoint (
    size bigint primary key check (size > 0),
    root bytea not null check (length(root) = 32),
    note text not null,
    at   timestamptz not null default clock_timestamp()
);

create table ledger_tile (
    level smallint not null check (level > 0),
    tile  bigint not null,
    hash  bytea not null check (length(hash) = 32),
    primary key (level, tile)
);

create table ledger_segment (
    id          bigint generated always as identity primary key,
    first_index bigint not null unique,
    next_index  bigint not null unique check (next_index > first_index),
    folder      text not null unique,
    files       jsonb not null,
    first_at    timestamptz not null,
    last_at     timestamptz not null,
    created_at  timestamptz not null default clock_timestamp()
);


create table ledger_alarm (
    id         bigint generated always as identity primary key,
    code       text not null,
    subject    text not null default '',
    message    text not null,
    at         timestamptz not null default clock_timestamp(),
    record     bigint,
    cleared_at timestamptz,
    cleared_by text,
    reason     text
);
create unique index ledger_alarm_stands on ledger_alarm (code, subject) where cleared_at is null;

-- Refusals. A superuser can still remove them: fsck, the signer and outside checkpoints are what notices that.

create function ledger_refuse() returns trigger language plpgsql as $$
begin
    raise exception 'the ledger is append-only: % on % refused', tg_op, tg_table_name
        using errcode = 'insufficient_privilege', hint = 'Erasure and sealing go through their own functions.';
end $$;

create function ledger_head_grows() returns trigger language plpgsql as $$
begin
    if new.size <= old.size or new.id <> old.id then
        raise exception 'the ledger head only grows' using errcode = 'insufficient_privilege';
    end if;
    return new;
end $$;

do $$
declare t text;
begin
    foreach t in array array['ledger_batch', 'ledger_journal', 'ledger_key', 'ledger_conflict',
                             'ledger_quarantine', 'ledger_skipped', 'ledger_checkpoint', 'ledger_tile', 'ledger_segment'] loop
        execute format('create trigger append_only before update or delete or truncate on %I
                        for each statement execute function ledger_refuse()', t);
    end loop;
end $$;

create trigger grows before update on ledger_head for each row execute function ledger_head_grows();
create trigger append_only before delete or truncate on ledger_head for each statement execute function ledger_refuse();

-- What only these functions may do. They check manifest and checkpoint themselves.

create function ledger_sealed_to() returns bigint language sql stable as
$$ select coalesce(max(next_index), 0) from ledger_segment $$;

-- A slot is a partition of the journal for five minutes; once all in it is sealed it goes whole, and with it every value.
-- The part of the journal for the present five minutes.
create function ledger_slot() returns integer language sql volatile as
$$ select floor(extract(epoch from clock_timestamp()) / 300)::integer $$;

create function ledger_open_slot(wanted integer) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare name text := 'ledger_journal_' || wanted;
begin
    if wanted not between ledger_slot() - 2 and ledger_slot() + 2 then
        raise exception 'slot % is not near the present time', wanted;
    end if;
    perform pg_advisory_xact_lock(7301, wanted);
    if to_regclass(name) is null then
        execute format('create table %I partition of ledger_journal for values in (%s)', name, wanted);
        execute format('create trigger append_only before update or delete or truncate on %I
                        for each statement execute function ledger_refuse()', name);
        execute format('alter table %I alter column leaf set storage external', name);
        -- Statistics would keep samples of the values elsewhere.
        execute format('alter table %I set (autovacuum_enabled = off, toast.autovacuum_enabled = off)', name);
    end if;
end $$;

create function ledger_publish(first bigint, next bigint, folder_name text, file_list jsonb,
                               earliest timestamptz, latest timestamptz) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    lock table ledger_segment in exclusive mode;
    if first <> ledger_sealed_to() then
        raise exception 'segment starts at %, the sealed part ends at %', first, ledger_sealed_to();
    end if;
    if next > (select coalesce(max(size), 0) from ledger_checkpoint) then
        raise exception 'no checkpoint covers the segment up to %', next;
    end if;
    insert into ledger_segment (first_index, next_index, folder, files, first_at, last_at)
    values (first, next, folder_name, file_list, earliest, latest);
end $$;

-- Also the present slot: the next writer opens it anew. What is sealed is never looked for in the journal; a reader who
-- began before the seal still is, for as long as a question may take: that is what the age is for.
create function ledger_drop_sealed_slots(older_than_seconds integer) returns integer
language plpgsql security definer set search_path = public, pg_temp set lock_timeout = '5s' as $$
declare
    part record;
    dropped integer := 0;
begin
    for part in
        select c.relname, substring(c.relname from '\d+$')::integer as slot
        from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'ledger_journal'::regclass
    loop
        continue when not ledger_slot_is_sealed(part.slot, older_than_seconds);
        lock table ledger_journal in access exclusive mode;
        -- Again, now that no writer can be at work in it.
        continue when not ledger_slot_is_sealed(part.slot, older_than_seconds);
        execute format('drop table %I', part.relname);
        dropped := dropped + 1;
    end loop;
    return dropped;
exception when lock_not_available then
    return 0;
end $$;

-- A batch has at most 10,000 records: the second condition on each side lets the index find the batches.
create function ledger_slot_is_sealed(wanted integer, older_than_seconds integer) returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
declare sealed bigint := ledger_sealed_to();
begin
    return not exists (
        select 1 from ledger_batch b
        where b.slot = wanted and b.first_index + b.n > sealed and b.first_index > sealed - 100000)
    and not exists (
        select 1 from ledger_segment s join ledger_batch b
            on b.first_index < s.next_index and b.first_index + b.n > s.first_index and b.first_index > s.first_index - 100000
        where s.created_at > clock_timestamp() - make_interval(secs => older_than_seconds) and b.slot = wanted);
end $$;
