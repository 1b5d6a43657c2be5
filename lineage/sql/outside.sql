-- What stands outside the operator's hands: cosignatures of witnesses, RFC 3161 timestamps. Only ever added to.
create table ledger_cosignature (
    size    bigint not null check (size > 0),
    witness text not null,
    line    text not null,
    at      timestamptz not null default clock_timestamp(),
    primary key (size, witness)
);

create table ledger_timestamp (
    size      bigint not null check (size > 0),
    authority text not null,
    response  bytea not null,
    stated_at timestamptz not null,
    at        timestamptz not null default clock_timestamp(),
    primary key (size, authority)
);

-- The certificates with which an authority was met, as the `tsa` line that an auditor's policy needs for its tokens.
create table ledger_authority (
    fingerprint bytea not null check (length(fingerprint) = 32),
    name        text not null,
    line        text not null,
    at          timestamptz not null default clock_timestamp(),
    primary key (name, fingerprint)
);

-- Checkpoints that were given away: `folder`, `mail ADDRESS`, `pull ADDRESS OF THE VIEWER`.
create table ledger_handed (
    size   bigint not null check (size > 0),
    holder text not null,
    at     timestamptz not null default clock_timestamp(),
    primary key (size, holder)
);

create index on ledger_cosignature (witness, size);
create index on ledger_timestamp (authority, size);
create index on ledger_handed (holder, size);

-- The web's way in: it has verified the line against the witness's key; here the checkpoint must exist.
create function ledger_cosign(of_size bigint, by_witness text, with_line text) returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    if not exists (select 1 from ledger_checkpoint where size = of_size) then
        return false;
    end if;
    insert into ledger_cosignature (size, witness, line) values (of_size, by_witness, with_line) on conflict do nothing;
    return true;
end $$;

create trigger append_only before update or delete or truncate on ledger_cosignature
    for each statement execute function ledger_refuse();
create trigger append_only before update or delete or truncate on ledger_timestamp
    for each statement execute function ledger_refuse();
create trigger append_only before update or delete or truncate on ledger_authority
    for each statement execute function ledger_refuse();
create trigger append_only before update or delete or truncate on ledger_handed
    for each statement execute function ledger_refuse();
