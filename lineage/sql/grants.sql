-- Rights of the two working roles. Idempotent; run by `manage.py setup` after every migration, as owner.

do $$
declare r text;
begin
    foreach r in array array['touchstone_web', 'touchstone_store'] loop
        if not exists (select 1 from pg_roles where rolname = r) then
            execute format('create role %I nologin', r);
        end if;
        if not pg_has_role(current_user, r, 'member') then
            execute format('grant %I to current_user', r);
        end if;
    end loop;
end $$;

grant usage on schema public to touchstone_web, touchstone_store;
grant select, insert, update, delete on all tables in schema public to touchstone_web, touchstone_store;
grant usage, select on all sequences in schema public to touchstone_web, touchstone_store;
grant execute on all functions in schema public to touchstone_web, touchstone_store;

do $$
declare t text;
begin
    for t in select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
             where n.nspname = 'public' and c.relkind in ('r', 'p') and c.relname like 'ledger\_%' loop
        execute format('revoke update, delete, truncate on %I from touchstone_web, touchstone_store', t);
    end loop;
end $$;

grant update on ledger_head to touchstone_web, touchstone_store;
grant update (record) on ledger_alarm to touchstone_web, touchstone_store;
grant update (cleared_at, cleared_by, reason) on ledger_alarm to touchstone_store;
revoke insert on ledger_checkpoint, ledger_tile, ledger_segment from touchstone_web;
revoke insert on ledger_segment from touchstone_store;
revoke insert on ledger_keys_left, ledger_extract from touchstone_web, touchstone_store;
revoke execute on function ledger_publish(bigint, bigint, text, jsonb, timestamptz, timestamptz),
    ledger_drop_sealed_slots(integer) from public, touchstone_web;
grant execute on function ledger_publish(bigint, bigint, text, jsonb, timestamptz, timestamptz),
    ledger_drop_sealed_slots(integer) to touchstone_store;
revoke insert, update, delete on django_migrations from touchstone_web, touchstone_store;
revoke insert on ledger_cosignature, ledger_timestamp, ledger_authority from touchstone_web;

revoke insert on ledger_erasure, ledger_erased, ledger_replaced, ledger_hold, ledger_retention from touchstone_web, touchstone_store;
grant insert on ledger_erased to touchstone_store;
do $$
declare f text;
begin
    foreach f in array array['ledger_drop_sealed_slots(integer)', 'ledger_slot_is_sealed(integer, integer)',
        'ledger_leave_keys(integer, integer)', 'ledger_request_retention(bigint, timestamptz, bigint, bigint, bytea)', 'ledger_refuse_erasure(bigint)',
        'ledger_forget_contents(integer, bytea[])', 'ledger_forget_quarantine(bigint, bigint[])',
        'ledger_replace(bigint, jsonb, bigint)', 'ledger_note_removed(text[])', 'ledger_note_holders(bigint, text[])',
        'ledger_note_rewritten(bigint)', 'ledger_finish_erasure(bigint)', 'ledger_merge(text[], text, jsonb)', 'ledger_renew(text[], text, jsonb)',
        'ledger_publish_extract(bigint, bigint, text, text, jsonb, timestamptz)', 'ledger_merge_extracts(text[], text, jsonb)',
        'ledger_leave_extracts(bigint)'] loop
        execute format('revoke execute on function %s from public, touchstone_web', f);
        execute format('grant execute on function %s to touchstone_store', f);
    end loop;
end $$;
-- No samples of what may hold a value.
alter table reports_report alter column q set statistics 0;
alter table lineage_savedsearch alter column q set statistics 0, alter column name set statistics 0;
alter table lineage_ticket alter column title set statistics 0, alter column requester set statistics 0,
    alter column assignee set statistics 0, alter column approver set statistics 0, alter column status set statistics 0,
    alter column url set statistics 0;

-- Held statements, guardrails and kill orders change through their functions alone (sql/gateway.sql).
revoke insert, update, delete, truncate on lineage_heldstatement, lineage_guardrailversion, lineage_gatewaykill
    from touchstone_web, touchstone_store;
grant update (ended_at) on lineage_gatewaykill to touchstone_web, touchstone_store;
