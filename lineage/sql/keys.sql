-- Dedupe keys leave PostgreSQL once a sealed file holds them (docs/dedupe.md).

create index ledger_key_batch on ledger_key (batch);
-- Deleted rows make room for new ones soon, and no sample of a content hash stays elsewhere.
alter table ledger_key set (autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 0);
alter table ledger_key alter column content set statistics 0;
alter table ledger_conflict alter column content set statistics 0;

-- The first record of a key that has a second content: its own row may leave.
alter table ledger_conflict add column of_batch bigint, add column of_ordinal integer;
alter table ledger_conflict disable trigger append_only;
update ledger_conflict c set of_batch = k.batch, of_ordinal = k.ordinal
    from ledger_key k where k.source_id = c.source_id and k.key = c.key;
alter table ledger_conflict enable trigger append_only;

-- Of which records the keys have left; the version changes with it, and with the files in which they lie.
create table ledger_keys_left (
    id      smallint primary key check (id = 1),
    spans   int8multirange not null,
    version bigint not null
);
insert into ledger_keys_left values (1, '{}', 0);
create trigger append_only before delete or truncate on ledger_keys_left
    for each statement execute function ledger_refuse();

create function ledger_keys_state() returns text language sql stable as
$$ select version || ' ' || spans::text from ledger_keys_left $$;

-- Only what a published file of keys holds may be said to have left, and it never comes back.
create function ledger_keys_left_grows() returns trigger language plpgsql as $$
declare added int8multirange := new.spans - old.spans;
begin
    if new.id <> old.id or new.version <= old.version or not new.spans @> old.spans or not (
        select coalesce(range_agg(int8range(first_index, next_index)), '{}') from ledger_segment
        where files ? 'keys' and next_index > lower(added) and first_index < upper(added)) @> added
    then
        raise exception 'keys leave only when a sealed file holds them' using errcode = 'insufficient_privilege';
    end if;
    return new;
end $$;
create trigger grows before update on ledger_keys_left for each row execute function ledger_keys_left_grows();

-- A key may be deleted if its record is one of those whose keys have left, and by nobody otherwise.
create function ledger_key_may_leave() returns trigger
language plpgsql security definer set search_path = public, pg_temp as $$
declare gone int8multirange := (select spans from ledger_keys_left);
begin
    if exists (select 1 from deleted d left join ledger_batch b on b.batch = d.batch
               where b.batch is null or not gone @> (b.first_index + d.ordinal)) then
        raise exception 'the ledger is append-only: % on % refused', tg_op, tg_table_name
            using errcode = 'insufficient_privilege', hint = 'Keys leave through ledger_leave_keys.';
    end if;
    return null;
end $$;
drop trigger append_only on ledger_key;
create trigger append_only before update or truncate on ledger_key for each statement execute function ledger_refuse();
create trigger leaves after delete on ledger_key referencing old table as deleted
    for each statement execute function ledger_key_may_leave();

-- Who looks keys up by the manifest learns that it has changed; a file that replaces one with keys has them too.
-- The row is locked so that keys do not leave by a manifest that is being changed.
create function ledger_keys_moved() returns trigger
language plpgsql security definer set search_path = public, pg_temp as $$
declare gone int8multirange;
begin
    select spans into gone from ledger_keys_left where id = 1 for update;
    if tg_op <> 'DELETE' and gone && int8range(new.first_index, new.next_index) and not new.files ? 'keys' then
        raise exception 'keys of the records from % to % lie only in sealed files', new.first_index, new.next_index;
    end if;
    if (tg_op <> 'INSERT' and gone && int8range(old.first_index, old.next_index))
        or (tg_op <> 'DELETE' and gone && int8range(new.first_index, new.next_index)) then
        update ledger_keys_left set version = version + 1 where id = 1;
    end if;
    return null;
end $$;
create trigger keys_moved after insert or update or delete on ledger_segment
    for each row execute function ledger_keys_moved();

-- Lets the oldest keys go, at most so many: those of a published file of keys, accepted so long ago. Returns of how many records.
-- Batches are committed in the order of their indexes, and none has more than 100,000 records.
create function ledger_leave_keys(older_than_seconds integer, most integer) returns bigint
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    gone  int8multirange;
    start bigint;
    stop  bigint;
begin
    select spans into gone from ledger_keys_left where id = 1 for update;
    start := coalesce((select upper(span) from unnest(gone) as span where span @> 0::bigint), 0);
    select s.first_index, s.next_index into start, stop from ledger_segment s
        where s.next_index > start and s.files ? 'keys' and not gone @> int8range(s.first_index, s.next_index)
        order by s.first_index limit 1;
    if not found then
        return 0;
    end if;
    start := coalesce((select upper(span) from unnest(gone) as span where span @> start), start);
    stop := least(stop, start + most);
    stop := least(stop, (
        select min(b.first_index) from ledger_batch b
        where b.first_index > start - 100000 and b.first_index < stop and b.first_index + b.n > start
            and b.committed_at > clock_timestamp() - make_interval(secs => older_than_seconds)));
    if stop <= start then
        return 0;
    end if;
    update ledger_keys_left set spans = gone + int8multirange(int8range(start, stop)), version = version + 1 where id = 1;
    delete from ledger_key k using ledger_batch b
        where b.batch = k.batch and b.first_index > start - 100000 and b.first_index < stop
            and b.first_index + b.n > start and b.first_index + k.ordinal >= start and b.first_index + k.ordinal < stop;
    return stop - start;
end $$;
