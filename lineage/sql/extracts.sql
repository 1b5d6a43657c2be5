-- Extracts: derived files that questions are answered from (docs/extracts.md). Throw-away: an erasure takes all of them, and the
-- keeper makes them anew. Their folders wait for their last readers as those of segments do; their names end in x.

create table ledger_extract (
    folder      text primary key check (folder like '%x'),
    first_index bigint not null unique check (first_index >= 0),
    next_index  bigint not null check (next_index > first_index),
    -- Of which code and which roles of sources it was made.
    basis       text not null,
    files       jsonb not null,
    created_at  timestamptz not null default clock_timestamp()
);

create function ledger_check_extracting() returns void
language plpgsql set search_path = public, pg_temp as $$
begin
    -- Who has lost the lock may have lost the files too: another one's sweep takes what no manifest names.
    if not exists (select 1 from pg_locks where locktype = 'advisory' and granted and pid = pg_backend_pid()
                   and classid::bigint = 7302 and objid::bigint = hashtext('extract')::bigint & 4294967295) then
        raise exception 'the lock of extracts is not held';
    end if;
end $$;

-- The next extract, if it follows the last one and nothing was erased since the log was read that it was made of.
create function ledger_publish_extract(first bigint, following bigint, name text, made_of text, file_list jsonb, erased timestamptz)
returns void language plpgsql security definer set search_path = public, pg_temp as $$
begin
    perform ledger_check_extracting();
    lock table ledger_extract in exclusive mode;
    if first <> (select coalesce(max(next_index), 0) from ledger_extract)
        or (select max(published_at) from ledger_erasure) is distinct from erased then
        raise exception 'extracts are not what was read' using errcode = 'serialization_failure';
    end if;
    if following > ledger_sealed_to() then
        raise exception 'only what is sealed is extracted';
    end if;
    insert into ledger_extract (folder, first_index, next_index, basis, files) values (name, first, following, made_of, file_list);
end $$;

-- The manifest turns to one extract in the place of its neighbours, if each of them still is the one that was read.
create function ledger_merge_extracts(old text[], new text, file_list jsonb) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare found record;
begin
    perform ledger_check_extracting();
    lock table ledger_extract in exclusive mode;
    select count(*) as n, min(first_index) as first, max(next_index) as next, sum(next_index - first_index) as size,
           count(distinct basis) as bases, min(basis) as basis
        into found from ledger_extract where folder = any(old);
    if found.n <> cardinality(old) or found.n < 2 then
        raise exception 'an extract is not what was read' using errcode = 'serialization_failure';
    end if;
    if found.size <> found.next - found.first or found.bases <> 1 then
        raise exception 'only neighbours of one kind are merged';
    end if;
    delete from ledger_extract where folder = any(old);
    insert into ledger_extract (folder, first_index, next_index, basis, files) values (new, found.first, found.next, found.basis, file_list);
    insert into ledger_replaced (folder) select unnest(old);
end $$;

-- Extracts from this record on are no longer used.
create function ledger_leave_extracts(from_index bigint) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    perform ledger_check_extracting();
    lock table ledger_extract in exclusive mode;
    with gone as (delete from ledger_extract where first_index >= from_index returning folder)
    insert into ledger_replaced (folder) select folder from gone;
end $$;

-- As before; and every extract goes, since any may hold what is taken.
create or replace function ledger_replace(wanted bigint, replaced jsonb, newest_hold bigint) returns void
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
    if jsonb_array_length(replaced) > 0 then
        lock table ledger_extract in exclusive mode;
        with gone as (delete from ledger_extract returning folder)
        insert into ledger_replaced (folder, erasure_id) select folder, wanted from gone;
    end if;
    update ledger_erasure set state = 'pending', query = null, texts = '{}', published_at = clock_timestamp()
        where id = wanted and state = 'approved';
    if not found then
        raise exception 'erasure % is not approved', wanted using errcode = 'serialization_failure';
    end if;
end $$;
