-- A new part of the journal is made beside it and then attached: to make it as a part waits for whoever reads the journal,
-- and all who append wait meanwhile. To attach one waits for neither.
create or replace function ledger_open_slot(wanted integer) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
declare name text := 'ledger_journal_' || wanted;
begin
    if wanted not between ledger_slot() - 2 and ledger_slot() + 2 then
        raise exception 'slot % is not near the present time', wanted;
    end if;
    perform pg_advisory_xact_lock(7301, wanted);
    if to_regclass(name) is null then
        execute format('create table %I (like ledger_journal including all)', name);
        execute format('create trigger append_only before update or delete or truncate on %I
                        for each statement execute function ledger_refuse()', name);
        execute format('alter table %I alter column leaf set storage external', name);
        -- Statistics would keep samples of the values elsewhere.
        execute format('alter table %I set (autovacuum_enabled = off, toast.autovacuum_enabled = off)', name);
        execute format('alter table ledger_journal attach partition %I for values in (%s)', name, wanted);
    end if;
end $$;

-- As long as a drop waits for a reader, all who append wait for the drop. It is tried again each minute.
alter function ledger_drop_sealed_slots(integer) set lock_timeout = '1s';
