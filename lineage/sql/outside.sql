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

create trigger append_only before update or delete or truncate on ledger_cosignature
    for each statement execute function ledger_refuse();
create trigger append_only before update or delete or truncate on ledger_timestamp
    for each statement execute function ledger_refuse();
create trigger append_only before update or delete or truncate on ledger_authority
    for each statement execute function ledger_refuse();
