-- Merging: neighbouring segments become one (docs/merging.md). What was merged is replaced as by an erasure, without one.

alter table ledger_replaced alter column erasure_id drop not null;

-- The manifest turns to one segment in the place of its neighbours, if each of them still is the one that was read.
create function ledger_merge(old text[], new text, file_list jsonb) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare found record;
begin
    -- Who has lost the lock may have lost the files too: another one's sweep takes what no manifest names.
    if not exists (select 1 from pg_locks where locktype = 'advisory' and granted and pid = pg_backend_pid()
                   and classid::bigint = 7302 and objid::bigint = hashtext('merge')::bigint & 4294967295) then
        raise exception 'the lock of merges is not held';
    end if;
    lock table ledger_segment in exclusive mode;
    select count(*) as n, min(first_index) as first, max(next_index) as next, sum(next_index - first_index) as size,
           min(first_at) as first_at, max(last_at) as last_at, max(created_at) as created_at
        into found from ledger_segment where folder = any(old);
    if found.n <> cardinality(old) or found.n < 2 then
        raise exception 'a segment is not what was read' using errcode = 'serialization_failure';
    end if;
    if found.size <> found.next - found.first then
        raise exception 'only neighbours are merged';
    end if;
    alter table ledger_segment disable trigger append_only;
    delete from ledger_segment where folder = any(old);
    -- Since when its newest records are sealed: readers of the journal are waited for by that time.
    insert into ledger_segment (first_index, next_index, folder, files, first_at, last_at, created_at)
    values (found.first, found.next, new, file_list, found.first_at, found.last_at, found.created_at);
    alter table ledger_segment enable trigger append_only;
    insert into ledger_replaced (folder) select unnest(old);
end $$;

-- An erasure is complete when no replaced folder that may hold its values is there: its own, and those merged before it.
create or replace function ledger_finish_erasure(wanted bigint) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    if exists (select 1 from ledger_replaced r join ledger_erasure e on e.id = wanted
               where r.removed_at is null and (r.erasure_id = wanted or r.replaced_at <= e.published_at)) then
        raise exception 'old files of erasure % are still there', wanted using errcode = 'object_in_use';
    end if;
    update ledger_erasure set state = 'erased', erased_at = clock_timestamp()
        where id = wanted and state = 'pending' and replaced_to is not null;
    if not found then
        raise exception 'erasure % is not pending', wanted using errcode = 'no_data_found';
    end if;
end $$;
