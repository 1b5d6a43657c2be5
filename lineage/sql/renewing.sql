-- Renewing: what is derived of a segment is exchanged, what was reported stays (docs/merging.md).
create function ledger_renew(old text[], new text, file_list jsonb) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    if not exists (select 1 from pg_locks where locktype = 'advisory' and granted and pid = pg_backend_pid()
                   and classid::bigint = 7302 and objid::bigint = hashtext('merge')::bigint & 4294967295) then
        raise exception 'the lock of merges is not held';
    end if;
    lock table ledger_segment in exclusive mode;
    alter table ledger_segment disable trigger append_only;
    update ledger_segment set folder = new, files = file_list
        where array[folder] = old and files->'leaves' = file_list->'leaves'
            and files->'disclosures' = file_list->'disclosures' and files->'keys' is not distinct from file_list->'keys';
    if not found then
        raise exception 'a segment is not what was read' using errcode = 'serialization_failure';
    end if;
    alter table ledger_segment enable trigger append_only;
    insert into ledger_replaced (folder) select unnest(old);
end $$;
